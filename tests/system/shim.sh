# Sourced after lib.sh: programs under tests/tools/shim.h.
SHIM=$BUILD/tests/skyflok_shim.so
[ -f "$SHIM" ] || fail "$SHIM is not built"
SHIM_ROOTS=$SKYFLOK_HOME
for ((i = 0; i < K + M; i++)); do SHIM_ROOTS+=:$SCRATCH/b$i; done
control() { # control N CLASSES ERROR DIE: struct shim_control
	python3 -c 'import struct, sys; open(sys.argv[1], "ab"); open(sys.argv[1], "r+b").write(struct.pack("=7Q", *map(int, sys.argv[2:5]), 0, 0, 0, int(sys.argv[5])))' "$SCRATCH/control" "$@"
}
control 0 0 0 0
recorded() { env SKYFLOK_SHIM_ROOTS="$SHIM_ROOTS" SKYFLOK_SHIM_LOG="$SCRATCH/disk.log" SKYFLOK_SHIM_CONTROL="$SCRATCH/control" LD_PRELOAD="$SHIM" "$@"; }
failing_sync() { control "$1" 2 5 0; } # the N-th sync from now on fails, once, with EIO
kill_recorded() { # kill -9 between two changes, so that the log is what happened; one that changes nothing is killed from outside
	local pid end=$((SECONDS + 3))
	pid=$(cat "$SCRATCH/dpid")
	control 0 0 0 1
	timeout 2 touch "$MNT/poke" 2>/dev/null || true
	until gone "$pid" || [ $SECONDS -ge $end ]; do sleep 0.05; done
	kill_drive 2>/dev/null || true
	: >"$SCRATCH/dpid"
	control 0 0 0 0
}
