# Shared by the scripts of this folder, each of which is: NAME up DIR PORT | down DIR
# up installs what is missing below $CACHE (outside of the repository), starts the server on 127.0.0.1:PORT with its data below
# DIR, waits until it answers and prints nothing; 77: it cannot be had here. down ends it and keeps DIR.
CACHE=${SKYFLOK_TEST_CACHE:-$HOME/.cache/skyflok-tests}

# The reason, and the code of a skipped test.
skip() { echo "$(basename "$0"): skipped: $*" >&2; exit 77; }

usage() { echo "usage: $(basename "$0") up DIR PORT | down DIR" >&2; exit 2; }

# wait_http PORT SECONDS: until something answers there.
wait_http() {
	local i
	for i in $(seq $(($2 * 10))); do
		curl -s -o /dev/null --noproxy '*' --max-time 2 "http://127.0.0.1:$1/" && return 0
		sleep 0.1
	done
	echo "$(basename "$0"): nothing answers on port $1 after $2 s" >&2
	return 1
}

# start DIR COMMAND...: in the background, output to DIR/log, its id to DIR/pid.
start() {
	local dir=$1
	shift
	setsid "$@" >"$dir/log" 2>&1 </dev/null &
	echo $! >"$dir/pid"
}

# stop PIDFILE: ends that process, and waits for it. (A group of its own by setsid: the children of a wrapper go with it.)
stop() {
	local pid i
	pid=$(cat "$1" 2>/dev/null) || return 0
	rm -f "$1"
	[ -n "$pid" ] || return 0
	kill -- "-$pid" 2>/dev/null || kill "$pid" 2>/dev/null || return 0
	for i in $(seq 100); do
		kill -0 "$pid" 2>/dev/null || return 0
		sleep 0.1
	done
	kill -9 "$pid" 2>/dev/null
}

# once NAME COMMAND...: an installation, once, also when two tests ask at the same time. NAME is a folder of the cache.
once() {
	local name=$1
	shift
	mkdir -p "$CACHE"
	(
		flock 9
		[ -e "$CACHE/$name/.ready" ] && exit 0
		mkdir -p "$CACHE/$name"
		"$@" >"$CACHE/$name.log" 2>&1 && touch "$CACHE/$name/.ready"
	) 9>"$CACHE/$name.lock"
}
