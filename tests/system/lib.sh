# Sourced by every system test: a scratch folder, drives over local folders, a real mount, and an exit that leaves nothing behind.
# A test is a bash script that exits 0 (passed), 77 (skipped, with the reason on stdout) or else (failed).
#   SKYFLOK_TEST_PLACES=clouds  drives over real servers instead of folders
#   BUILD   build folder (default: ../../build beside the tests)         SCRATCH  the test's own folder, removed at the end (kept with KEEP=1)
set -euo pipefail
PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH # Debian's python3 with its modules, not a version manager's
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BUILD=$(realpath "${BUILD:-$HERE/../../build}")
SKYFLOK=${SKYFLOK:-$BUILD/fs/cmd/skyflok}
TEST=$(basename "$0")
SCRATCH=$(mktemp -d "${SKYFLOK_TEST_DIR:-/var/tmp}/skyflok-$TEST-XXXXXX")
export SKYFLOK_HOME=$SCRATCH/home
MNT=$SCRATCH/mnt
PASS=$SCRATCH/pass
K=4 M=2
OPTS=${OPTS:-} # more -o options for mount_drive

# `| grep -q` ends before its input does, and pipefail then calls it a failure of the writer that meets the closed pipe. This reads all of it.
has() { grep -c "$@" >/dev/null; }
say() { echo "$TEST: $*"; }
fail() { echo "$TEST: FAILED: $*" >&2; exit 1; }
skip() { echo "$TEST: skipped: $*"; exit 77; }
need() { command -v "$1" >/dev/null || skip "$1 is not installed (package $2)"; }
need_root() { [ "$(id -u)" = 0 ] || skip "needs root: $1"; }

daemon_pid() { "$SKYFLOK" status "$MNT" --json 2>/dev/null | python3 -c 'import json,sys; print(json.load(sys.stdin).get("pid") or "")' 2>/dev/null || true; }

# shellcheck disable=SC2317
cleanup() {
	local rc=$?
	set +e
	trap - EXIT
	[ $rc -ne 0 ] && [ $rc -ne 77 ] && [ -f "$SCRATCH/log" ] && { echo "--- daemon log (last 60 lines)"; tail -n 60 "$SCRATCH/log"; } >&2
	[ -s "$SCRATCH/dpid" ] && kill -KILL "$(cat "$SCRATCH/dpid")" 2>/dev/null
	for p in $(jobs -p); do kill "$p" 2>/dev/null; done
	while read -r m; do umount -l "$m" 2>/dev/null || fusermount3 -uz "$m" 2>/dev/null; done < <(awk -v s="$SCRATCH" 'index($2, s) == 1 { print $2 }' /proc/mounts | sort -r)
	if [ "${KEEP:-0}" = 1 ]; then echo "$TEST: kept $SCRATCH" >&2; else chmod -R u+rwX "$SCRATCH" 2>/dev/null; rm -rf "$SCRATCH"; fi
	exit $rc
}
trap cleanup EXIT
trap 'exit 130' INT TERM

mkdir -p "$MNT" "$SKYFLOK_HOME"
(umask 077; echo "correct horse battery staple" >"$PASS")

# make_drive [create options...]: drive "t" over K+M places, each of another provider: folders $SCRATCH/b0..., or, with SKYFLOK_TEST_PLACES=clouds, six
# places on real servers (clouds.sh).
make_drive() {
	local urls=() i more=()
	if [ "${SKYFLOK_TEST_PLACES:-folders}" = clouds ]; then
		[ $((K + M)) = 6 ] || fail "there are six places on clouds, not $K + $M"
		. "$HERE/clouds.sh"
		clouds_up
		urls=("${CLOUD_URLS[@]}")
		more=(--credentials "$CRED" --keep-order)
	else
		for ((i = 0; i < K + M; i++)); do mkdir -p "$SCRATCH/b$i"; urls+=("file://$SCRATCH/b$i?provider=prov$i&location=L$i"); done
	fi
	"$SKYFLOK" create t --data $K --parity $M --passfile "$PASS" "${more[@]}" "$@" "${urls[@]}" >"$SCRATCH/create.out" || fail "create: $(cat "$SCRATCH/create.out")"
}
mount_drive() { # mount_drive [more -o options]
	local o="passfile=$PASS${OPTS:+,$OPTS}${1:+,$1}"
	"$SKYFLOK" mount t "$MNT" -o "$o" --log-file "$SCRATCH/log" || fail "mount failed"
	daemon_pid >"$SCRATCH/dpid"
	[ -s "$SCRATCH/dpid" ] || fail "status does not tell the daemon's pid"
}
gone() { # also a zombie that its parent has not waited for yet, but only when its last thread is gone: one may still sit in fdatasync, with every file open
	! grep -qsE "^State:[[:space:]]+[A-WYa-wy]" /proc/"$1"/task/*/status
}
wait_for() { # wait_for SECONDS DESCRIPTION COMMAND...
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@"; do
		[ $SECONDS -lt $end ] || fail "not within the time limit: $what"
		sleep 0.1
	done
}
umount_drive() {
	local pid
	pid=$(cat "$SCRATCH/dpid")
	"$SKYFLOK" umount "$MNT" || fail "umount failed"
	wait_for 60 "daemon $pid ended after umount" gone "$pid"
	: >"$SCRATCH/dpid"
}
kill_drive() { # kill -9, as a crash would; then the dead mount is cleared by the next mount
	local pid
	pid=$(cat "$SCRATCH/dpid")
	kill -KILL "$pid"
	wait_for 20 "daemon $pid gone" gone "$pid"
	: >"$SCRATCH/dpid"
}
sync_drive() { "$SKYFLOK" sync "$MNT" >"$SCRATCH/sync.out" || fail "sync: $(cat "$SCRATCH/sync.out")"; }
forget_cache() { # with the drive unmounted: everything that can be fetched again is gone, so reads come from the backends
	find "$SKYFLOK_HOME" -path '*cache*' -type f -delete
}
drop_caches() { sync; [ "$(id -u)" != 0 ] || echo 3 >/proc/sys/vm/drop_caches; }
# Names, types, modes, owners, sizes, link counts, whole-second mtimes, targets and content of a tree, one line each, sorted.
tree_sum() {
	(cd "$1" && find . -printf '%P|%y|%m|%U:%G|%n|%T@|%l|' -a \( -type f -printf '%s\n' -o -printf '\n' \) | LC_ALL=C sort && find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum)
}
same_tree() {
	tree_sum "$1" >"$SCRATCH/sum.a"
	tree_sum "$2" >"$SCRATCH/sum.b"
	cmp -s "$SCRATCH/sum.a" "$SCRATCH/sum.b" || { diff "$SCRATCH/sum.a" "$SCRATCH/sum.b" | head -20 >&2; fail "trees differ: $1 and $2"; }
}
same_content() { # content only
	diff <(cd "$1" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum) <(cd "$2" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum) >"$SCRATCH/diff" ||
		{ head -20 "$SCRATCH/diff" >&2; fail "content differs: $1 and $2"; }
}
expect_error() { # expect_error STATUS 'regex of the sentence' COMMAND...: it fails with that status and says that
	local want=$1 re=$2 out rc=0
	shift 2
	out=$("$@" 2>&1 </dev/null) || rc=$?
	[ "$rc" = "$want" ] || fail "'$*' ended with $rc instead of $want: $out"
	grep -Eqi -- "$re" <<<"$out" || fail "'$*' did not say /$re/ but: $out"
}
