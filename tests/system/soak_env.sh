# Sourced by test_soak and test_drain after lib.sh: what both need, an environment that knows no clouds of this machine, and an end that leaves no server behind.
need curl curl
need python3 python3
[ -e /dev/fuse ] || skip "no /dev/fuse"
stop_all() {
	local rc=$? s
	set +e
	trap - EXIT
	if [ $rc -ne 0 ] && [ $rc -ne 77 ]; then echo "--- journal (last 60 lines)"; tail -n 60 "$SCRATCH/journal"; fi >&2
	for s in "$SCRATCH"/servers/*/; do [ -d "$s" ] && "$HERE/../servers/$(basename "$s")" down "$s"; done
	(exit $rc)
	cleanup
}
trap stop_all EXIT
unset AWS_PROFILE AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AZURE_STORAGE_CONNECTION_STRING AZURE_STORAGE_KEY AZURE_STORAGE_SAS_TOKEN \
	GOOGLE_APPLICATION_CREDENTIALS STORAGE_EMULATOR_HOST
export SKYFLOK_TEST_CACHE=${SKYFLOK_TEST_CACHE:-$(getent passwd "$(id -u)" | cut -d: -f6)/.cache/skyflok-tests}
export HOME=$SCRATCH/nobody # no ~/.aws and no ~/.gitconfig of the machine's
export PYTHONDONTWRITEBYTECODE=1
mkdir -p "$HOME" "$SCRATCH/servers"


# harness SCRIPT ARGS...: runs it; afterwards nothing of it may be left.
harness() {
	local rc=0
	python3 "$HERE/$1" "$SCRATCH" "$SKYFLOK" "$PASS" "${@:2}" &
	wait $! || rc=$?
	[ $rc -ne 77 ] || exit 77
	[ $rc -eq 0 ] || fail "${*:2}"
	! pgrep -f "$SCRATCH" >/dev/null || fail "a process was left behind: $(pgrep -af "$SCRATCH")"
	! grep -q "$SCRATCH/mnt" /proc/mounts || fail "a mount was left behind"
}
