# Sourced after lib.sh: programs under tests/tools/shim.h.
SHIM=$BUILD/tests/skyflok_shim.so
[ -f "$SHIM" ] || fail "$SHIM is not built"
SHIM_ROOTS=$SKYFLOK_HOME
for ((i = 0; i < K + M; i++)); do SHIM_ROOTS+=:$SCRATCH/b$i; done
recorded() { env SKYFLOK_SHIM_ROOTS="$SHIM_ROOTS" SKYFLOK_SHIM_LOG="$SCRATCH/disk.log" LD_PRELOAD="$SHIM" "$@"; }
failing_sync() { # failing_sync N: the N-th sync of recorded programs that are started with CONTROL=... fails once with EIO
	python3 -c 'import struct, sys; open(sys.argv[1], "wb").write(struct.pack("=6Q", int(sys.argv[2]), 2, 5, 0, 0, 0))' "$SCRATCH/control" "$1"
}
