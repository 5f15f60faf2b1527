# The front of the build. Everything is built in ./build; meson does the work.
#   make              build                          make install [DESTDIR=]   into /usr/local (PREFIX=)
#   make check        all tests                      make check-asan, -tsan    again under the sanitizers
#   make check-clouds the tests over real servers of S3, Azure and Google on loopback
#   make check-fuzz   every parser of bytes from outside, SECONDS=60 each, two at a time
#   make check-soak   ten minutes of work on six places that come and go (DURATION=, SEED=)
#   make quickstart   a drive over six local folders, for looking at;  make quickstart-clean removes it
#   make bench        figures beside passthrough_ll and gocryptfs
#   make bench-clouds figures over S3 with 30 ms round trip beside rclone and s3fs; bench-tail: reads with one place ten times slower
#   make deps         installs what the build needs (Debian); deps-check, deps-bench, deps-fuzz what those need
BUILD ?= build
PREFIX ?= /usr/local
# mount(8) looks for mount.skyflok nowhere else.
SBINDIR ?= /usr/sbin
MESON_OPTIONS ?=
# System tests at a time: most wait more than they work.
TEST_JOBS ?= 2
export TEST_JOBS
SANITIZED_TESTS ?= cmd dispersal posix kill
# What has threads of its own (but for tests that change failpoints while threads run: those are set without a lock), and a mount.
TSAN_UNIT ?= check_workq check_backends check_layers check_file check_fanout check_hedge check_health check_http check_guard check_meta_crash check_volume_threads \
	check_volume_space check_segstore check_segstore_heal check_control check_fuse
TSAN_TESTS ?= cmd

.NOTPARALLEL: # ninja is parallel enough; packages come before the build

.PHONY: all deps deps-check deps-bench deps-fuzz check check-crash check-soak check-unit check-system check-clouds check-fuzz check-style check-asan check-tsan \
	install uninstall bench bench-clouds bench-tail quickstart quickstart-clean format clean

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@meson setup $(BUILD) --prefix $(PREFIX) --sbindir $(SBINDIR) $(MESON_OPTIONS) || \
		{ echo '"make deps" installs what is missing (Debian)' >&2; exit 1; }

deps:
	@tests/scripts/install-deps build
deps-check:
	@tests/scripts/install-deps build check
deps-bench:
	@tests/scripts/install-deps build bench
deps-fuzz:
	@tests/scripts/install-deps build fuzz

check: deps-check all check-style check-unit check-system
check-style:
	tests/scripts/check-style
	tests/scripts/check-format
	tests/scripts/check-help $(BUILD)
check-unit: all
	meson test -C $(BUILD) --print-errorlogs --no-rebuild
# Over real servers on loopback; "make check" runs these with the other system tests.
check-clouds: all
	BUILD=$(BUILD) tests/system/run clouds cloud_faults cloud_drive cloud_suite
# Every failpoint twice and with every error, 2,000 kills and as many power cuts, every call on a file failing: hours. In bounds in `make check`.
check-crash: deps-check all
	FULL=1 ROUNDS=$(or $(ROUNDS),2000) TEST_TIMEOUT=36000 BUILD=$(BUILD) tests/system/run failpoints kill powercut crash_states nth_fault disk_trouble
# Ten minutes over every kind of server; a minute of it over folders and one server is in `make check`.
check-soak: deps-check all
	FULL=1 DURATION=$(or $(DURATION),600) TEST_TIMEOUT=7200 BUILD=$(BUILD) tests/system/run soak
check-fuzz: deps-fuzz
	tests/fuzz/run $(or $(SECONDS),60) $(TARGETS)
check-system: all
	BUILD=$(BUILD) tests/system/run $(TESTS)

# Each sanitizer has a build folder of its own.
build-asan/build.ninja:
	meson setup build-asan -Db_sanitize=address,undefined -Db_lundef=false
build-tsan/build.ninja:
	meson setup build-tsan -Db_sanitize=thread -Db_lundef=false
check-asan: deps-check build-asan/build.ninja
	@ninja -C build-asan
	ASAN_OPTIONS=detect_stack_use_after_return=1:$(ASAN_OPTIONS) UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		meson test -C build-asan --print-errorlogs --no-rebuild -t 5
	UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 BUILD=build-asan ROUNDS=40 TEST_TIMEOUT=1200 tests/system/run $(SANITIZED_TESTS)
check-tsan: deps-check build-tsan/build.ninja
	@ninja -C build-tsan
	TSAN_OPTIONS=suppressions=$(CURDIR)/tests/scripts/tsan.supp:halt_on_error=1:second_deadlock_stack=1:die_after_fork=0 \
		meson test -C build-tsan --print-errorlogs --no-rebuild -t 10 $(TSAN_UNIT)
	TSAN_OPTIONS=suppressions=$(CURDIR)/tests/scripts/tsan.supp:second_deadlock_stack=1:die_after_fork=0:exitcode=66 \
		BUILD=build-tsan TEST_TIMEOUT=1800 tests/system/run $(TSAN_TESTS)

install: all
	meson install -C $(BUILD) --no-rebuild
uninstall:
	ninja -C $(BUILD) uninstall

bench: deps-bench all
	tests/bench/run --build $(BUILD) $(BENCH)

# Figures depend on what else the machine does; nothing is asserted, so these are no part of `make check`.
bench-clouds: deps-bench all
	tests/bench/run-clouds --build $(BUILD) $(BENCH)
bench-tail: deps-bench all
	tests/bench/run-tail --build $(BUILD) $(BENCH)

quickstart: deps all
	@BUILD=$(BUILD) tests/scripts/quickstart
quickstart-clean:
	@BUILD=$(BUILD) tests/scripts/quickstart clean

format:
	git ls-files '*.[ch]' | xargs clang-format -i
clean:
	rm -rf $(BUILD) build-asan build-tsan
