# Sourced after lib.sh: real servers on loopback, and six places on them for a drive of 4 + 2: 2 S3 (Ceph, moto), 2 Azure containers (Azurite),
# 2 Google buckets (fake-gcs-server). make_drive does so by itself when SKYFLOK_TEST_PLACES=clouds.
#   SKYFLOK_TEST_CLOUDS  folder of servers that another test has started (clouds_share): they are used, not started, nor stopped
SERVERS=$HERE/../servers
AZURITE_KEY='Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==' # published
CLOUDS=${SKYFLOK_TEST_CLOUDS:-$SCRATCH}
CRED=$SCRATCH/clouds.ini
RUNNING=()
declare -A PORT

# shellcheck disable=SC2317
stop_all() {
	local rc=$? s
	set +e
	trap - EXIT
	[ -s "$SCRATCH/dpid" ] && kill -KILL "$(cat "$SCRATCH/dpid")" 2>/dev/null
	for s in "${RUNNING[@]}"; do kill -CONT -- "-$(cat "$CLOUDS/$s/pid" 2>/dev/null)" 2>/dev/null; "$SERVERS/$s" down "$CLOUDS/$s"; done
	(exit $rc)
	cleanup
}
trap stop_all EXIT
unset AWS_PROFILE AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AZURE_STORAGE_CONNECTION_STRING AZURE_STORAGE_KEY AZURE_STORAGE_SAS_TOKEN \
	GOOGLE_APPLICATION_CREDENTIALS STORAGE_EMULATOR_HOST
export SKYFLOK_TEST_CACHE=${SKYFLOK_TEST_CACHE:-$(getent passwd "$(id -u)" | cut -d: -f6)/.cache/skyflok-tests}
export HOME=$SCRATCH/nobody # no ~/.aws of the machine's
mkdir -p "$HOME"

free_port() { # the first of three free ones in a row
	python3 - <<-'P'
	import random, socket
	while True:
	    p, ok = random.randrange(20000, 32000), []
	    try:
	        for i in range(3):
	            s = socket.socket(); s.bind(('127.0.0.1', p + i)); ok.append(s)
	        print(p); break
	    except OSError: pass
	P
}
up() { # up NAME: starts it on the port that it had, or on a new one
	local rc=0
	[ -n "${PORT[$1]:-}" ] || PORT[$1]=$(free_port)
	"$SERVERS/$1" up "$CLOUDS/$1" "${PORT[$1]}" || rc=$?
	[ $rc -ne 77 ] || skip "$1 cannot be had here"
	[ $rc -eq 0 ] || fail "$1 does not start"
	RUNNING+=("$1")
}
down() { "$SERVERS/$1" down "$CLOUDS/$1"; }
freeze() { kill -STOP -- "-$(cat "$CLOUDS/$1/pid")"; }
thaw() { kill -CONT -- "-$(cat "$CLOUDS/$1/pid")"; }
crash() { kill -KILL -- "-$(cat "$CLOUDS/$1/pid")"; down "$1"; }

# Starts the four servers, with a bucket for each place.
clouds_start() {
	local c
	need curl
	need python3
	up moto && up azurite && up fakegcs && up rgw
	"$SERVERS/bucket" s3 "http://127.0.0.1:${PORT[rgw]}" one
	"$SERVERS/bucket" s3 "http://127.0.0.1:${PORT[moto]}" two
	for c in three four; do "$SERVERS/bucket" azure "http://127.0.0.1:${PORT[azurite]}/devstoreaccount1" $c; done
	for c in five sixx; do "$SERVERS/bucket" gcs "http://127.0.0.1:${PORT[fakegcs]}" $c; done
}
# For tests that this one runs: they get a drive on the same servers, each below a prefix of its own.
clouds_share() {
	local s
	for s in "${!PORT[@]}"; do echo "$s ${PORT[$s]}"; done >"$CLOUDS/ports"
	export SKYFLOK_TEST_CLOUDS=$CLOUDS SKYFLOK_TEST_PLACES=clouds
}
# The servers, started here or by another; S3A, S3B, AZ, GC are their URLs, CLOUD_URLS the six places, $CRED the credentials for them.
clouds_up() {
	local s p prefix=${SKYFLOK_TEST_CLOUDS:+/$TEST}
	if [ -n "${SKYFLOK_TEST_CLOUDS:-}" ]; then
		while read -r s p; do PORT[$s]=$p; done <"$CLOUDS/ports"
	else
		clouds_start
	fi
	S3A=http://127.0.0.1:${PORT[rgw]} S3B=http://127.0.0.1:${PORT[moto]} AZ=http://127.0.0.1:${PORT[azurite]} GC=http://127.0.0.1:${PORT[fakegcs]}
	CLOUD_URLS=("s3://one/d$prefix?endpoint=$S3A&credentials=ceph&provider=ceph" "s3://two$prefix?endpoint=$S3B&credentials=moto&provider=moto"
		"azure://devstoreaccount1/three$prefix?endpoint=$AZ&credentials=az&provider=azure1"
		"azure://devstoreaccount1/four/p$prefix?endpoint=$AZ&credentials=az&provider=azure2"
		"gs://five$prefix?endpoint=$GC&credentials=none&provider=gcs1" "gs://sixx$prefix?endpoint=$GC&credentials=none&provider=gcs2")
	(umask 077; cat >"$CRED") <<-C
		[ceph]
		access_key_id = AK
		secret_access_key = SK
		[moto]
		access_key_id = AK
		secret_access_key = SK
		[az]
		account_key = $AZURITE_KEY
	C
}
