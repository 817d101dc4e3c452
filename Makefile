# Muster: one Makefile for everything.  `make` builds, `make check` is the
# fast proof, `make test` is what CI runs.  VARIANT=asan|tsan|clang|crash builds
# the same tree under a sanitizer or compiler, or to be killed at named points,
# into build/<variant>.

VARIANT ?=
B := build$(if $(VARIANT),/$(VARIANT))
PREFIX ?= /usr/local

NEED := $(if $(filter clean install-files,$(MAKECMDGOALS)),,$(shell tools/setup build >&2 || echo failed))
ifeq ($(NEED),failed)
$(error tools/setup could not install what the build needs)
endif

PKGS_MUSTERD := libuv openssl zlib sqlite3 libcurl
PKGS_AGENT := libuv openssl zlib
PKGS_CLI := libuv openssl zlib libcurl
PKGS_ALL := libuv openssl zlib sqlite3 libcurl

ifeq ($(VARIANT),asan)
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
FORTIFY :=
else ifeq ($(VARIANT),tsan)
SANITIZE := -fsanitize=thread -fno-omit-frame-pointer
FORTIFY :=
else ifeq ($(VARIANT),fuzz)
CC := clang
SANITIZE := -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all -fno-omit-frame-pointer
FORTIFY :=
else ifeq ($(VARIANT),crash)
# What system tests kill at named points (io/crash.h); never to be shipped.
CRASH := -DMUSTER_TEST_CRASH
FORTIFY := -D_FORTIFY_SOURCE=3
else ifeq ($(VARIANT),clang)
CC := clang
FORTIFY := -D_FORTIFY_SOURCE=2
else
FORTIFY := -D_FORTIFY_SOURCE=3
endif

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion \
    -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition \
    -Wpointer-arith -Wcast-qual -Wwrite-strings -Wformat=2 -Wundef -Wvla \
    -Walloca -Wnull-dereference -Wswitch-enum -Wdouble-promotion \
    -Wredundant-decls
WARN_GCC := -Wcast-align=strict -Wimplicit-fallthrough=5 -Wlogical-op \
    -Wduplicated-cond -Wduplicated-branches -Wjump-misses-init
HARDEN := $(FORTIFY) -fstack-protector-strong -fstack-clash-protection \
    -fcf-protection -fno-common -fPIE
# clang 14 has this only behind a switch that says it will go away.
ifeq ($(findstring clang,$(CC)),)
HARDEN += -ftrivial-auto-var-init=zero
endif
# The sanitizers see paths the optimizer joined; there -Wnull-dereference
# reports what cannot happen.
ifneq ($(SANITIZE),)
WARN += -Wno-null-dereference
endif
ifeq ($(findstring clang,$(CC)),)
WARN += $(WARN_GCC)
else
# It blames us for casts inside OpenSSL's macros, which gcc looks through.
WARN += -Wno-cast-qual
endif
WERROR ?= -Werror
CFLAGS ?= -O2 -g
ALL_CFLAGS = -std=gnu17 -D_GNU_SOURCE -Isrc $(CFLAGS) $(WARN) $(WERROR) \
    $(CRASH) $(HARDEN) $(SANITIZE) $(shell pkg-config --cflags $(PKGS_ALL))
LINK = $(CC) $(CFLAGS) $(SANITIZE) -pie -Wl,-z,relro,-z,now

VERSION := $(shell cat VERSION)
PURE := base wire model dialect
FLOORS := $(PURE) io store bus server agent cli

HOLDER := $(wildcard src/agent/holder*.c)
# Also in the agent.
HOLDER_TOO := src/agent/proctree.c src/agent/cmdgroup.c
src_of = $(filter-out %/main.c $(HOLDER),$(wildcard src/$(1)/*.c))
obj_of = $(patsubst %.c,$(B)/obj/%.o,$(call src_of,$(1)))

PURE_OBJ := $(foreach f,$(PURE),$(call obj_of,$(f)))
ARCHIVES := $(B)/libpure.a $(foreach f,io store bus server agent cli,$(B)/lib$(f).a)
PROGRAMS := $(if $(wildcard src/server/main.c),$(B)/musterd) \
    $(if $(wildcard src/agent/main.c),$(B)/muster-agent) \
    $(if $(wildcard src/agent/holder.c),$(B)/muster-holder) \
    $(if $(wildcard src/cli/main.c),$(B)/muster)

.PHONY: all check test bench demo soak install clean format lint
.SECONDARY:
all: $(PROGRAMS)

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(EXTRA) -MMD -MP -c $< -o $@

$(B)/obj/src/cli/%.o $(B)/obj/src/server/%.o $(B)/obj/src/agent/%.o: EXTRA = -DMUSTER_VERSION='"$(VERSION)"'

# The schema is text inside the program: schema.c includes it (.incbin).
$(B)/obj/src/store/schema.o: src/store/schema.sql

$(B)/libpure.a: $(PURE_OBJ)
define archive
$(B)/lib$(1).a: $(call obj_of,$(1))
endef
$(foreach f,io store bus server agent cli,$(eval $(call archive,$(f))))
$(ARCHIVES):
	@mkdir -p $(@D)
	@rm -f $@
	ar rcs $@ $^

libs = $(shell pkg-config --libs $(1)) -lpthread
lib = $(foreach l,$(1),$(B)/lib$(l).a)

$(B)/musterd: $(B)/obj/src/server/main.o $(call lib,server bus store io pure)
	$(LINK) -o $@ $^ $(call libs,$(PKGS_MUSTERD))
$(B)/muster-agent: $(B)/obj/src/agent/main.o $(call lib,agent io pure)
	$(LINK) -Wl,--gc-sections -Wl,--as-needed -o $@ $^ $(call libs,$(PKGS_AGENT))
$(B)/muster: $(B)/obj/src/cli/main.o $(call lib,cli io pure)
	$(LINK) -o $@ $^ $(call libs,$(PKGS_CLI))
# The holder is libc alone and static: an idle one costs a few pages.  It is
# never sanitized, because the sanitizers' runtimes are dynamic.
$(B)/muster-holder: $(HOLDER) $(HOLDER_TOO) $(if $(CRASH),src/io/crash.c) $(wildcard src/agent/holder*.h) $(HOLDER_TOO:.c=.h) src/io/crash.h
	@mkdir -p $(@D)
	$(if $(findstring clang,$(CC)),clang,gcc) -std=gnu17 -D_GNU_SOURCE -Isrc -Os -g $(WARN) $(WERROR) \
	    -fstack-protector-strong -static $(CRASH) $(filter %.c,$^) -o $@

# Tests ----------------------------------------------------------------------

UNIT := $(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/test_*.c)) \
    $(patsubst tests/sim/%.c,$(B)/tests/%,$(wildcard tests/sim/test_*.c))
FUZZ := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
SUPPORT := $(patsubst %.c,$(B)/obj/%.o,$(filter-out %/replay.c,$(wildcard tests/support/*.c)))
WRAP := -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc

$(B)/obj/tests/%.o: EXTRA = -Itests -DMUSTER_VERSION='"$(VERSION)"'
TEST_LIBS = $(call lib,server agent cli bus store io pure)
$(B)/tests/%: $(B)/obj/tests/unit/%.o $(SUPPORT) $(TEST_LIBS)
	@mkdir -p $(@D)
	$(LINK) $(WRAP) -o $@ $< $(SUPPORT) -Wl,--start-group $(TEST_LIBS) -Wl,--end-group $(call libs,$(PKGS_ALL) cmocka)
$(B)/tests/%: $(B)/obj/tests/sim/%.o $(SUPPORT) $(TEST_LIBS)
	@mkdir -p $(@D)
	$(LINK) $(WRAP) -o $@ $< $(SUPPORT) -Wl,--start-group $(TEST_LIBS) -Wl,--end-group $(call libs,$(PKGS_ALL) cmocka)
# A fuzz target replays its seeds in every variant; VARIANT=fuzz makes it a
# real libFuzzer binary.
ifeq ($(VARIANT),fuzz)
FUZZ_MAIN := -fsanitize=fuzzer
else
FUZZ_MAIN := $(B)/obj/tests/support/replay.o
endif
$(B)/fuzz/%: $(B)/obj/tests/fuzz/%.o $(filter %.o,$(FUZZ_MAIN)) $(TEST_LIBS)
	@mkdir -p $(@D)
	$(LINK) -o $@ $< $(FUZZ_MAIN) -Wl,--start-group $(TEST_LIBS) -Wl,--end-group $(call libs,$(PKGS_ALL))

# C programs that system tests and benches drive (relay, load generators).
HELPERS := $(patsubst tests/system/%.c,$(B)/helpers/%,$(wildcard tests/system/*.c)) \
    $(patsubst bench/%.c,$(B)/helpers/%,$(wildcard bench/*.c))
$(B)/helpers/%: $(B)/obj/tests/system/%.o $(call lib,io pure)
	@mkdir -p $(@D)
	$(LINK) -o $@ $^ $(call libs,$(PKGS_AGENT))
$(B)/helpers/queue_ops: $(B)/obj/bench/queue_ops.o $(call lib,store io pure)
	@mkdir -p $(@D)
	$(LINK) -o $@ $^ $(call libs,$(PKGS_MUSTERD))
$(B)/helpers/%: $(B)/obj/bench/%.o $(call lib,io pure)
	@mkdir -p $(@D)
	$(LINK) -o $@ $^ $(call libs,$(PKGS_AGENT))

.PHONY: unit seeds helpers fuzz-build
unit: $(UNIT)
seeds: $(FUZZ:%=$(B)/fuzz/%)
helpers: $(HELPERS)
fuzz-build: $(FUZZ:%=$(B)/fuzz/%)

check: all
	tools/run-check
lint:
	tools/lint
test:
	tools/run-test
bench: all
	bench/run
demo: all
	tools/demo
soak: all helpers
	tests/system/run -v soak

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

install: all
	$(MAKE) install-files DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)'
.PHONY: install-files
install-files:
	tools/install-files '$(B)' '$(DESTDIR)' '$(PREFIX)'

clean:
	rm -rf build

-include $(shell find $(B) -name '*.d' 2>/dev/null)
