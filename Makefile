# SPDX-License-Identifier: Apache-2.0
# One page: every object is one line of a pattern rule, every variant a variable. `make help` lists what there is.

VERSION := $(shell cat VERSION)
GIT_SHA ?= $(shell git -c safe.directory='*' rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
PREFIX  ?= /usr
UNITDIR ?= $(PREFIX)/lib/systemd/system
SAN     ?=
CC      ?= cc
MUSL_CC ?= musl-gcc
WERROR  ?=
O       := build/obj$(if $(FUZZER),-fuzz,$(if $(SAN),-san)$(if $(filter clang%,$(CC)),-clang)$(if $(COVERAGE),-cov))
BIN     := $(if $(SAN)$(filter clang%,$(CC))$(COVERAGE),$(O)/bin,build)

PKGS       := libcurl libssl libcrypto libcjson libsystemd libsodium libmicrohttpd
DEVCP_PKGS := libmicrohttpd sqlite3 libcurl libssl libcrypto libcjson libsystemd libsodium

# Small before fast: it waits for disks, networks and an engine, and what it computes is done by libraries.
CFLAGS    ?= -Os -g
HARDEN    := -fstack-protector-strong -fstack-clash-protection -fno-common -fPIE \
             $(if $(findstring aarch64,$(shell $(CC) -dumpmachine)),-mbranch-protection=standard,-fcf-protection) \
             $(if $(SAN)$(findstring -O0,$(CFLAGS)),,-D_FORTIFY_SOURCE=2)
WARN      := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla -Wundef -Wpointer-arith \
             -Wimplicit-fallthrough -Wwrite-strings -Wno-missing-field-initializers $(if $(WERROR),-Werror)
ALLCPPFLAGS = $(CPPFLAGS) -D_GNU_SOURCE -I. -DVERSION='"$(VERSION)"' -DGIT_SHA='"$(GIT_SHA)"'
# No C++ and no unwinding at run time: the tables would be a tenth of the daemon. Debug information has its own.
ALLCFLAGS  = $(CFLAGS) -std=gnu17 $(HARDEN) $(WARN) -ffunction-sections -fdata-sections \
             $(if $(SAN),,-fno-asynchronous-unwind-tables -fno-unwind-tables) \
             $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer) $(if $(COVERAGE),--coverage)
# The daemon is linked as one piece of code, which is a thirtieth of it; every other program takes the same objects as they are.
LTO       := $(if $(SAN)$(COVERAGE)$(filter clang%,$(CC)),,-flto=auto -ffat-lto-objects)
ALLLDFLAGS = $(LDFLAGS) -pie -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--gc-sections -Wl,--as-needed \
             $(if $(SAN),-fsanitize=$(SAN)) $(if $(COVERAGE),--coverage)
# The launcher runs in other people's images: one small static program, the same in every variant. Not a static-pie: musl-gcc's specs make
# one that asks for a loader.
LAUNCHFLAGS = -std=gnu17 -Os -static $(HARDEN) -fno-pie $(WARN) -ffunction-sections -fdata-sections \
             -fno-asynchronous-unwind-tables -fno-unwind-tables -s -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--gc-sections

SOURCES  := $(wildcard base/*.c secrets/*.c engine/*.c provision/*.c agent/*.c agent/ctl/*.c tests/*.c tests/devcp/*.c tests/tools/*.c tests/fuzz/*.c tests/sim/*.c)
LAUNCH   := $(wildcard secrets/launch/*.c)
objects   = $(patsubst %.c,$(O)/%.o,$(1))
BASE     := $(call objects,$(filter base/%,$(SOURCES)))
LIB      := $(call objects,$(filter-out agent/main.c agent/ctl/% tests/%,$(SOURCES)))
AGENTD   := $(call objects,agent/main.c) $(LIB)
CTL      := $(call objects,$(filter agent/ctl/%,$(SOURCES))) $(LIB)
DEVCP    := $(call objects,$(filter tests/devcp/%,$(SOURCES))) $(BASE)
TESTS    := $(patsubst tests/%.c,$(BIN)/tests/%,$(wildcard tests/test-*.c))
TARGETS  := $(patsubst tests/%.c,$(BIN)/tests/%,$(wildcard tests/fuzz/*.c))      # of the fuzzer; without one, over their seeds
UNIT     := $(filter-out %/test-engine,$(TESTS)) $(TARGETS)      # that one runs under tests/integration/engine.t
RULES    := tests/layers.sh tests/incidents.t tests/manual.t tests/docs.t
TOOLS    := $(patsubst tests/%.c,$(BIN)/tests/%,$(wildcard tests/tools/*.c))
# The world of tests/sim has a door of its own to the network.
SIM      := $(call objects,$(filter tests/sim/%,$(SOURCES))) $(filter-out $(call objects,base/http.c base/http-call.c),$(LIB))
LIVE     := $(sort $(wildcard tests/integration/*.t))
FAULTS   := $(sort $(wildcard tests/fault/*.t))

say       = $(if $(V),,@echo "  $(1)	$@";)         # V=1: the whole command
link      = $(CC) $(ALLCFLAGS) $(if $(LTO),-fno-lto) $(ALLLDFLAGS)
libs      = $(or $(PKG_LIBS),$(shell pkg-config --libs $(1)) -lm)
fuzzer    = CC=clang SAN=fuzzer-no-link,address,undefined FUZZER=yes CFLAGS='-O2 -g'
# One more make of our own, as wide as the machine unless told otherwise, whose files end up with the caller.
again     = +@tests/lab/own.sh $(MAKE) --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc)) $(1)
binaries  = MOLECULE_AGENTD=$(abspath $(BIN))/molecule-agentd MOLECULE_AGENTCTL=$(abspath $(BIN))/molecule-agentctl \
            MOLECULE_DEVCP=$(abspath $(BIN))/molecule-devcp MOLECULE_LAUNCH=$(abspath $(BIN))/molecule-launch

PROGRAMS := $(BIN)/molecule-agentd $(if $(filter agent/ctl/%,$(SOURCES)),$(BIN)/molecule-agentctl) $(BIN)/molecule-devcp \
            $(BIN)/molecule-launch

all: $(PROGRAMS) ## the daemon, the operator's tool, the reference control plane, the launcher

$(BIN)/molecule-agentd: $(AGENTD)
# What is guessed across files is no finding: each file was judged when it was compiled.
$(BIN)/molecule-agentd: link = $(CC) $(filter-out -Werror,$(ALLCFLAGS)) $(LTO) $(ALLLDFLAGS)
$(BIN)/molecule-agentctl: $(CTL)
$(BIN)/molecule-agentd: LDLIBS = $(call libs,$(PKGS))
$(BIN)/molecule-agentctl: LDLIBS = $(call libs,$(PKGS) libzstd)
$(BIN)/molecule-devcp: $(DEVCP)
$(BIN)/molecule-devcp: LDLIBS = $(call libs,$(DEVCP_PKGS))
$(BIN)/molecule-launch: $(LAUNCH) Makefile
$(BIN)/molecule-launch: link = $(MUSL_CC) -D_GNU_SOURCE -I. $(LAUNCHFLAGS)
$(TESTS) $(TOOLS): $(BIN)/tests/%: $(O)/tests/%.o $(LIB)
$(TESTS) $(TOOLS): LDLIBS = $(call libs,$(PKGS))
$(TARGETS): $(BIN)/tests/%: $(O)/tests/%.o $(LIB) $(if $(FUZZER),,$(O)/tests/fuzz-replay.o)
$(TARGETS): LDLIBS = $(if $(FUZZER),-fsanitize=fuzzer) $(call libs,$(PKGS))
$(BIN)/tests/fuzz/imds: without = %/http-wait.o         # it answers in its place
$(BIN)/tests/sim/sim: $(SIM)
$(BIN)/tests/sim/sim: LDLIBS = $(call libs,$(PKGS))
$(BIN)/tests/tools/crowd: LDFLAGS += -Wl,--wrap=http_send
$(PROGRAMS) $(TESTS) $(TOOLS) $(TARGETS) $(BIN)/tests/sim/sim:
	@mkdir -p $(@D)
	$(call say,link)$(link) -o $@ $(filter-out Makefile $(without),$^) $(LDLIBS)

$(O)/%.o: %.c Makefile VERSION
	@mkdir -p $(@D)
	$(call say,cc)$(CC) $(ALLCPPFLAGS) $(ALLCFLAGS) $(LTO) -MMD -MP -c -o $@ $<

tests: all $(TESTS) $(TOOLS) $(TARGETS) $(BIN)/tests/sim/sim

deps: ## install the packages that building and testing need (as root or by sudo; else says the one line)
	@tests/lab/deps.sh build test

check: ## unit tests, layer rules, and integration with a real engine, registry and control plane; brings its own packages
	@tests/lab/deps.sh build test
	$(call again,check-now)

check-now: tests
	@$(binaries) perl tests/lab/check.pl $(UNIT) $(RULES) $(LIVE)

check-unit: tests ## unit tests, layer rules and the pages only: no root, no engine, no network
	@$(binaries) perl tests/lab/check.pl $(UNIT) $(RULES)

check-sim: ## the real core in a simulated world: SEEDS=1000 histories of faults; SEED=n tells what happens in one
	@tests/lab/deps.sh build test
	$(call again,check-sim-now)

check-sim-now: $(BIN)/tests/sim/sim
	@$< $(if $(SEED),--loud $(SEED),1 $(or $(SEEDS),1000))
	@$(if $(SEED),:,tests/sim/replay.sh $<)

check-mutants: tests ## takes guards away, one by one, and sees that just the named test fails
	@tests/lab/deps.sh build test
	$(call again,check-mutants-now)

check-mutants-now: tests
	@tests/fault/mutants.sh

check-faults: ## kills, power cuts, errors, full disks, failing allocations, seeded bugs: hours; QUICK=1: a sample, in minutes
	@tests/lab/deps.sh build test
	$(call again,check-faults-now)

check-faults-now: tests
	@$(binaries) $(if $(QUICK),MOLECULE_QUICK=1) perl tests/lab/check.pl $(FAULTS) tests/fault/mutants.sh

# The two that are left out are about memory that valgrind has in its own hands: what is locked, what freed blocks hold.
check-valgrind: tests ## the unit tests under valgrind
	@tests/lab/deps.sh build test
	@env -u MOLECULE_LONG $(binaries) MOLECULE_UNDER="valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite,indirect" \
		perl tests/lab/check.pl $(filter-out %/test-arena %/test-heap,$(UNIT))

analyze: ## gcc -fanalyzer over what is shipped; every finding that is not judged in tests/lab/analyzer.txt is an error
	@tests/lab/analyze.sh "$(subst ",\",$(ALLCPPFLAGS)) -std=gnu17" $(filter-out tests/%,$(SOURCES)) $(LAUNCH)

check-all: ## everything there is, in its long version: a day; goes on behind what fails, and names it at the end
	@failed=; for part in check check-instance check-contract check-package lint analyze check-valgrind coverage \
		"check-sim SEEDS=100000" "fuzz RUNS=10000000" bench-fleet check-faults "soak HOURS=8"; do \
		MOLECULE_LONG=1 $(MAKE) --no-print-directory $$part || failed="$$failed$${failed:+, }$$part"; \
	done; echo "check-all: $${failed:+failed: }$${failed:-all passed}"; [ -z "$$failed" ]

deb: ## the Debian package of what is committed, in build/deb; brings its own packages
	@tests/lab/deps.sh build package
	@packaging/deb/build.sh

rpm: ## the package for Amazon Linux 2023, built here and not run there, in build/rpm; brings its own packages
	@tests/lab/deps.sh build package
	@packaging/rpm/build.sh

release: ## packages for amd64 and arm64, SHA256SUMS, SPDX, a signature with KEY=FILE, in build/release; brings its own packages
	@tests/lab/deps.sh build package
	@packaging/release.sh $(KEY)

check-instance: ## the package, baked and booted as whole instances with systemd and an engine inside; brings its own packages
	@tests/lab/deps.sh build test package instance
	@tests/lab/own.sh $(MAKE) --no-print-directory check-instance-now

check-instance-now: all
	@DEB_BUILD_OPTIONS=nocheck packaging/deb/build.sh build/deb >/dev/null
	@$(binaries) perl tests/lab/check.pl tests/instance/instance.t

check-package: ## the package builds, twice to the same bytes, and lintian is content
	@tests/lab/deps.sh build package
	@packaging/deb/test.sh
	@packaging/rpm/test.sh
	@packaging/release-test.sh

check-contract: ## the agent against the OpenAPI file, by a validating proxy (needs node and the npm registry)
	@tests/lab/deps.sh build test contract
	$(call again,check-contract-now)

check-contract-now: tests
	@$(binaries) tests/contract/run.sh

fuzz: ## SECONDS (20) or RUNS of libFuzzer on each parser, or on NAME; brings its own packages
	@tests/lab/deps.sh build fuzz
	$(call again,$(fuzzer) fuzz-now)

fuzz-now: $(if $(NAME),$(BIN)/tests/fuzz/$(NAME),$(TARGETS))
	@python3 tests/fuzz/fuzz.py $(if $(RUNS),--runs $(RUNS),--seconds $(or $(SECONDS),20)) $^

demo: ## one workspace the whole way, in under a minute; brings its own packages
	@tests/lab/deps.sh build test
	$(call again,demo-now)

demo-now: all
	@$(binaries) python3 tests/demo/demo.py

bench: ## the agent beside a bare client, a shell loop, the bare libraries (docs/performance.md); brings its own packages
	@tests/lab/deps.sh build test
	$(call again,bench-now)

bench-now: tests
	@$(binaries) python3 tests/bench/bench.py

coverage: ## which lines and branches the tests run, file by file, and whether that is enough (half an hour); brings its own packages
	@tests/lab/deps.sh build test coverage
	$(call again,coverage-now $(uncovered))

coverage-unit: ## the same after the unit tests alone: only the branches of the six modules are judged
	@tests/lab/deps.sh build coverage
	$(call again,coverage-unit-now $(uncovered))

# Without optimization, so that a branch that is counted is one that was written.
uncovered = COVERAGE=1 CFLAGS='-O0 -g'

coverage-now: coverage-clean tests
	@MOLECULE_LONG=1 perl tests/lab/check.pl $(UNIT)
	@$(binaries) MOLECULE_TEST_ENGINE_BINARY=$(abspath $(BIN))/tests/test-engine perl tests/lab/check.pl $(LIVE) || \
		echo "# a test that fails here and not under check has covered less"
	@tests/lab/coverage.py $(O)

coverage-unit-now: coverage-clean tests
	@MOLECULE_LONG=1 perl tests/lab/check.pl $(UNIT)
	@tests/lab/coverage.py --branches-only $(O)

coverage-clean:
	@find $(O) -name '*.gcda' -delete 2>/dev/null || true

bench-fleet: ## 5,000 agents (AGENTS=N) on one control plane that is killed three times: 12 minutes; brings its own packages (root)
	@tests/lab/deps.sh build test
	$(call again,bench-fleet-now)

bench-fleet-now: tests
	@$(binaries) python3 tests/fleet/bench.py

soak: ## one host under random work and faults for HOURS=1, which judges itself; brings its own packages (root)
	@tests/lab/deps.sh build test
	$(call again,soak-now)

soak-now: all
	@$(binaries) python3 tests/fleet/soak.py

lint: ## cppcheck, clang-tidy, shellcheck, mandoc; every finding is an error
	@tests/lab/deps.sh build lint
	@tests/lab/lint.sh "$(subst ",\",$(ALLCPPFLAGS)) -std=gnu17" $(SOURCES) $(LAUNCH)

size: all ## the stripped sizes: of the daemon at most 400000 bytes, of the launcher 40000
	@for limit in agentd:400000 launch:40000; do program=molecule-$${limit%:*}; strip -o $(BIN)/stripped $(BIN)/$$program; \
	size=$$(wc -c <$(BIN)/stripped) && echo $$program $$size && [ $$size -le $${limit#*:} ] || exit 1; done

format: ## clang-format over the lines of .c files that differ from the last commit
	git clang-format --force --extensions c HEAD

install: all install-only ## into $(DESTDIR)$(PREFIX)

install-only:
	install -D -m 0755 build/molecule-agentd $(DESTDIR)$(PREFIX)/sbin/molecule-agentd
	install -D -m 0755 build/molecule-agentctl $(DESTDIR)$(PREFIX)/bin/molecule-agentctl
	install -D -m 0755 build/molecule-launch $(DESTDIR)$(PREFIX)/lib/molecule-agent/molecule-launch
	for page in $(wildcard docs/*.[158]); do install -D -m 0644 $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}; done
	for unit in $(wildcard units/*.service units/*.timer units/*.slice); do install -D -m 0644 $$unit $(DESTDIR)$(UNITDIR)/$${unit##*/}; done
	for file in molecule-agent.rules.yml dashboard.json; do \
		install -D -m 0644 packaging/monitoring/$$file $(DESTDIR)$(PREFIX)/share/molecule-agent/monitoring/$$file; done
	install -D -m 0644 packaging/bash-completion/molecule-agentctl $(DESTDIR)$(PREFIX)/share/bash-completion/completions/molecule-agentctl
	install -D -m 0755 packaging/registry-auth-ecr $(DESTDIR)$(PREFIX)/lib/molecule-agent/registry-auth-ecr
	install -D -m 0644 units/molecule-agent.catalog $(DESTDIR)$(PREFIX)/lib/systemd/catalog/molecule-agent.catalog
	install -D -m 0644 units/molecule-agent.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/molecule-agent.conf
	install -D -m 0644 units/molecule-agent.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/molecule-agent.conf
	install -D -m 0644 units/molecule-agent.preset $(DESTDIR)$(PREFIX)/lib/systemd/system-preset/80-molecule-agent.preset

clean: ## remove everything that was built
	rm -rf build

help: ## this list; variants: SAN=address,undefined CC=clang WERROR=1 PREFIX=/usr DESTDIR=
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

.DELETE_ON_ERROR:
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' Makefile)
-include $(shell find $(O) -name '*.d' 2>/dev/null)
