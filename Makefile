# kvtier: build, tables, tests, benchmarks. `make help` lists the targets.
# Everything is built under $(BUILD). V=1 shows the commands, SANITIZE=1 builds with ASan and UBSan
# under build-asan, SANITIZE=thread with TSan under build-tsan, CC=clang BUILD=build-clang builds with
# clang, WERROR=0 lets warnings pass, CUDA=0 leaves out what runs on a GPU although there is an nvcc.

SANITIZE ?= 0
WERROR   ?= 1
ifeq ($(SANITIZE),1)
BUILD    ?= build-asan
SANFLAGS  = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
# lines are all that reports need of debug information
OPT      ?= -O1 -g1
KERNELS_OPT ?= -O2
else ifeq ($(SANITIZE),thread)
BUILD    ?= build-tsan
SANFLAGS  = -fsanitize=thread -fno-omit-frame-pointer
OPT      ?= -O1 -g
else
BUILD    ?= build
OPT      ?= -O2 -g
endif
CC       ?= cc
CFLAGS   ?=
LDFLAGS  ?=
PREFIX   ?= /usr/local
JOBS     ?= $(shell nproc 2>/dev/null || echo 1)
PROVE    ?= prove -j$(JOBS)

# Where there is an nvcc (CUDA 11.8 or newer) the kernels of kernels/*.cu are built, too: not under
# sanitizers, which know no GPU. What uses them sees KVT_CUDA.
CUDA_HOME ?= /usr/local/cuda
ifeq ($(origin NVCC),undefined)
NVCC      := $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard $(CUDA_HOME)/bin/nvcc))
endif
CUDA      ?= $(if $(SANFLAGS),0,$(if $(NVCC),1,0))
ifeq ($(CUDA),1)
CUDA_ROOT := $(patsubst %/bin/,%,$(dir $(realpath $(shell command -v $(lastword $(NVCC)) 2>/dev/null))))
CUDA_SRC  := $(wildcard kernels/*.cu)
CUDA_CFLAGS = -DKVT_CUDA=1 $(addprefix -isystem ,$(wildcard $(CUDA_ROOT)/include))
CUDA_LIBS = $(addprefix -L,$(wildcard $(CUDA_ROOT)/lib64)) -lcudart_static -ldl -lrt
# Machine code for A100, L40S and H100 or H200; newer ones compile the last one's PTX.
NVCC_ARCH ?= -gencode arch=compute_80,code=sm_80 -gencode arch=compute_89,code=sm_89 \
             -gencode arch=compute_90,code=[sm_90,compute_90]
NVCC_FLAGS ?=
ALL_NVCC_FLAGS = -std=c++17 -O3 -lineinfo $(NVCC_ARCH) -I. $(if $(filter 1,$(WERROR)),-Werror all-warnings) \
             -Xcompiler -Wall,-Wextra,-Wno-unused-parameter,-fno-exceptions,-fno-rtti,-fno-threadsafe-statics \
             $(NVCC_FLAGS)
endif

# Where there is an mpicc, what ranks of a sweep talk by is built as a module of its own: kvtier opens
# it when mpirun started it, and is not linked against MPI.
MPICC     ?= $(firstword $(shell command -v mpicc 2>/dev/null))
MPI       ?= $(if $(SANFLAGS),0,$(if $(MPICC),1,0))
MPI_SRC   := sim/sweep/mpi_module.c
MPI_MODULE = $(if $(filter 1,$(MPI)),$(BUILD)/kvtier-mpi.so)

PKGS      = glib-2.0 jansson libxxhash hdf5 liburing libibverbs librdmacm
WARN      = -Wall -Wextra $(if $(filter 1,$(WERROR)),-Werror) -Wshadow -Wstrict-prototypes \
            -Wmissing-prototypes -Wpointer-arith -Wno-unused-parameter
# Asked once, and only by a target that compiles: pkg-config may come with `make deps`.
PKG_CFLAGS = $(eval PKG_CFLAGS := $$(shell pkg-config --cflags $$(PKGS)))$(PKG_CFLAGS)
PKG_LIBS   = $(eval PKG_LIBS := $$(shell pkg-config --libs $$(PKGS)))$(PKG_LIBS)
ALL_CFLAGS = -std=gnu11 $(OPT) -ffp-contract=off $(WARN) -I. -D_GNU_SOURCE $(SANFLAGS) $(CUDA_CFLAGS) $(PKG_CFLAGS) $(CFLAGS)
LIBS       = $(SANFLAGS) $(LDFLAGS) $(PKG_LIBS) $(CUDA_LIBS) -lm -lpthread

# Sources are found, not listed: a new file is part of the next build.
LIB_SRC   := $(filter-out sim/cmd/% $(MPI_SRC),$(wildcard sim/*/*.c)) $(wildcard models/*.c traces/*.c kernels/*.c emu/*/*.c)
CMD_SRC   := $(wildcard sim/cmd/*.c)
TEST_SRC  := $(wildcard tests/unit/test_*.c)
TEST_HELPERS := $(filter-out $(TEST_SRC),$(wildcard tests/unit/*.c))
BENCH_SRC := $(wildcard tests/bench/bench_*.c)
BENCH_HELPERS := $(filter-out $(BENCH_SRC),$(wildcard tests/bench/*.c))
FUZZ_SRC  := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_HELPERS := $(filter-out $(FUZZ_SRC),$(wildcard tests/fuzz/*.c))
CLI_TESTS := $(wildcard tests/cli/*.t)
# What needs one processor alone, or a clock that counts instructions, has a guest of its own.
RXE_TIMED := tests/rxe/rxe_validate.t tests/rxe/rxe_nvmeof.t
RXE_TESTS := $(filter-out $(RXE_TIMED) $(RXE_LEFT_OUT),$(wildcard tests/rxe/*.t))
obj        = $(patsubst %.c,$(BUILD)/obj/%.o,$(patsubst %.cu,$(BUILD)/obj/%.o,$(1)))

LIB       := $(BUILD)/libkvtier.a
CMD_LIB   := $(BUILD)/libkvtier-cmd.a
TEST_LIB  := $(BUILD)/libkvtier-test.a
TESTS     := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(TEST_SRC))
BENCHES   := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(BENCH_SRC))
FUZZERS   := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(FUZZ_SRC))

Q         := $(if $(filter 1,$(V)),,@)
say        = $(if $(filter 1,$(V)),,@printf '  %-5s %s\n' $(1) $(2))
# A second make, for what must be evaluated after packages were installed; on all cores unless the
# caller chose with -j.
again      = $(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS))

.PHONY: all
all: $(BUILD)/kvtier $(MPI_MODULE) ## Build the command, build/kvtier (needs what `make deps` installs)

.PHONY: tables
tables: ## Install what is missing, build, print the reproduced tables, draw the pictures
	@CC='$(CC)' sh tests/deps.sh build plots
	@+$(again) all
	@mkdir -p $(BUILD)/tables
	$(Q)$(BUILD)/kvtier tables --data $(BUILD)/tables
	$(Q)KVTIER=$(BUILD)/kvtier sh plots/draw.sh $(BUILD)/tables $(BUILD)/plots

.PHONY: check
check: ## Install what is missing, build, run every test: units, command, fuzz corpora, style
	@CC='$(CC)' sh tests/deps.sh build plots check
	@+$(again) all test-programs fuzz-programs
	$(Q)KVTIER=$(BUILD)/kvtier BUILD=$(BUILD) $(PROVE) $(CLI_TESTS) $(TESTS)

.PHONY: unit cli
unit: test-programs ## Build and run the unit tests alone
	$(Q)$(PROVE) $(TESTS)
cli: all fuzz-programs ## Run the tests of the command, layout and style alone
	$(Q)KVTIER=$(BUILD)/kvtier BUILD=$(BUILD) $(PROVE) $(CLI_TESTS)

# All that may take a while is bounded; RXE=guest or RXE=native chooses where it runs.
RXE_PROGRAMS = $(addprefix $(BUILD)/tests/,test_io_engine test_verbs_fabric test_verbs_faults \
	test_node_verbs test_remote_verbs) $(addprefix $(BUILD)/bench/,bench_rdma bench_remote)
rxe_prove = KVTIER=$(BUILD)/kvtier BUILD=$(BUILD) CI=$(CI) prove --timer -f -o
.PHONY: check-rxe rxe-shell
check-rxe: ## Tests over soft-RoCE and NVMe, in a guest where this kernel has no rxe
	@CC='$(CC)' sh tests/deps.sh build check rxe
	@+$(again) all $(RXE_PROGRAMS)
	$(Q)RXE=guest sh tests/rxe/run.sh -r -t 420 -l $${RXE_CACHE:-build/rxe}/log-timed env $(rxe_prove) $(RXE_TIMED) \
		>$(BUILD)/rxe-timed.out 2>&1 & timed=$$!; \
	sh tests/rxe/run.sh -t 420 env $(rxe_prove) $(RXE_TESTS); status=$$?; \
	wait $$timed || status=$$?; cat $(BUILD)/rxe-timed.out; exit $$status
rxe-shell: ## A shell where those tests run; exit ends it
	@CC='$(CC)' sh tests/deps.sh build rxe
	@+$(again) all $(RXE_PROGRAMS)
	$(Q)sh tests/rxe/run.sh -i -t 86400 env KVTIER=$(BUILD)/kvtier BUILD=$(BUILD) TERM=$(TERM) bash

.PHONY: bench
bench: bench-programs ## Build and run the benchmarks; figures are ratios within one run
	$(Q)set -e; for b in $(BENCHES); do echo "== $${b##*/}"; $$b; done

.PHONY: stress
stress: $(BUILD)/tests/test_sessions ## A thousand sessions on one store for a minute, every byte checked
	$(Q)$< -m slow -p /sessions/minute

.PHONY: deps
deps: ## Install what the build, pictures and tests need; say what was found
	@CC='$(CC)' sh tests/deps.sh -v

# A stamp holds the compiler and its flags: everything is rebuilt when they change.
.PHONY: force
$(BUILD)/flags: force
	@mkdir -p $(@D)
	@pkg-config --exists $(PKGS) 2>/dev/null || \
		{ echo "kvtier: packages are missing: run \`make deps\` first" >&2; exit 1; }
	@{ $(CC) --version | head -n 1; printf '%s\n' '$(CC) $(ALL_CFLAGS) $(LIBS)'; \
		$(if $(CUDA_SRC),$(NVCC) --version | tail -n 1; echo '$(NVCC) $(ALL_NVCC_FLAGS)';) } >$@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@
$(BUILD)/prefix: force
	@mkdir -p $(@D)
	@echo '$(PREFIX)' | cmp -s - $@ || echo '$(PREFIX)' >$@
# So does the list of sources: a library must not keep what was removed from the tree.
$(BUILD)/sources: force
	@mkdir -p $(@D)
	@echo '$(LIB_SRC) $(CUDA_SRC) $(CMD_SRC) $(TEST_HELPERS)' >$@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/obj/%.o: %.cu $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,NVCC,$<)
	$(Q)nice $(NVCC) $(ALL_NVCC_FLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<

$(BUILD)/obj/sim/base/datadir.o: $(BUILD)/prefix
$(BUILD)/obj/sim/base/datadir.o: private ALL_CFLAGS += -DKVT_PREFIX='"$(PREFIX)"'
# Under sanitizers, tests would wait longest for these loops.
$(BUILD)/obj/kernels/%.o: private ALL_CFLAGS += $(KERNELS_OPT)

# What takes longest begins first.
$(LIB): $(call obj,$(CUDA_SRC) $(LIB_SRC)) $(BUILD)/sources
	$(call say,AR,$@)
	@rm -f $@
	$(Q)ar rcs $@ $(filter %.o,$^)

# The command but for its main, so that its parts can be tested.
$(CMD_LIB): $(call obj,$(filter-out sim/cmd/main.c,$(CMD_SRC))) $(BUILD)/sources
	$(call say,AR,$@)
	@rm -f $@
	$(Q)ar rcs $@ $(filter %.o,$^)

# A library, so that a test has of them what it needs: a hundred programs are linked.
$(TEST_LIB): $(call obj,$(TEST_HELPERS)) $(BUILD)/sources
	$(call say,AR,$@)
	@rm -f $@
	$(Q)ar rcs $@ $(filter %.o,$^)

link = $(Q)mkdir -p $(@D) && $(CC) -o $@ $^ $(LIBS)

$(BUILD)/kvtier: $(BUILD)/obj/sim/cmd/main.o $(CMD_LIB) $(LIB)
	$(call say,LD,$@)
	$(link)

$(BUILD)/kvtier-mpi.so: $(MPI_SRC) sim/sweep/sweep_ranks.h $(BUILD)/flags
	$(call say,MPICC,$@)
	$(Q)$(MPICC) -std=gnu11 $(OPT) -I. $(PKG_CFLAGS) -Wall -shared -fPIC -o $@ $<

$(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.o $(TEST_LIB) $(CMD_LIB) $(LIB)
	$(call say,LD,$@)
	$(link)

$(BUILD)/bench/%: $(BUILD)/obj/tests/bench/%.o $(call obj,$(BENCH_HELPERS)) $(LIB)
	$(call say,LD,$@)
	$(link)

# For another compiler's opinion its code is not needed.
.PHONY: syntax
syntax: $(BUILD)/flags ## Look for warnings in every source, without code: make syntax CC=clang
	$(call say,CHECK,'all sources')
	$(Q)printf '%s\n' $(LIB_SRC) $(CMD_SRC) $(wildcard tests/*/*.c) | \
		xargs -P $(JOBS) -n 8 $(CC) $(ALL_CFLAGS) -DKVT_PREFIX='"$(PREFIX)"' -fsyntax-only

.PHONY: test-programs bench-programs
test-programs: $(TESTS)
bench-programs: $(BENCHES)

# Every fuzz target over its corpus in tests/fuzz/corpus/NAME and over changed copies of it, with any
# compiler; best with SANITIZE=1.
MUTATIONS ?= 200
FUZZ_DRIVER ?= $(BUILD)/obj/tests/fuzz/replay_main.o
$(BUILD)/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o $(FUZZ_DRIVER) $(TEST_LIB) $(CMD_LIB) $(LIB)
	$(call say,LD,$@)
	$(link) $(FUZZ_LIBS)

.PHONY: fuzz-programs fuzz-replay fuzz
fuzz-programs: $(FUZZERS)
fuzz-replay: fuzz-programs ## Run the fuzz targets over their corpora and MUTATIONS changed copies
	$(Q)BUILD=$(BUILD) MUTATIONS=$(MUTATIONS) $(PROVE) -v tests/cli/fuzz.t

# Finds stay under build-fuzz.
FUZZ_SECONDS ?= 60
fuzz: ## Look for new inputs with clang's libFuzzer, FUZZ_SECONDS for each target
	$(MAKE) CC=clang CUDA=0 BUILD=build-fuzz OPT='-O1 -g' FUZZ_DRIVER= FUZZ_LIBS=-fsanitize=fuzzer \
		SANFLAGS='-fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=undefined' fuzz-programs
	set -e; for f in $(notdir $(FUZZERS)); do mkdir -p build-fuzz/corpus/$${f#fuzz_}; \
		build-fuzz/fuzz/$$f -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=build-fuzz/$$f- \
		build-fuzz/corpus/$${f#fuzz_} tests/fuzz/corpus/$${f#fuzz_}; done

.PHONY: format
format: ## Format every C file with clang-format (version 14 is what the checks use)
	$(Q)clang-format -i $(wildcard $(foreach d,sim/* emu/* models traces kernels tests/*,$(d)/*.[ch] $(d)/*.cu $(d)/*.cuh))

# What the installed command reads: sources stay behind.
DATA_DIRS = models experiments plots traces/samples
DATA      = $(sort $(shell find $(wildcard $(DATA_DIRS)) -type f ! -name '*.[ch]' ! -name '.*'))
SHARE     = $(DESTDIR)$(PREFIX)/share/kvtier
.PHONY: install uninstall
install: all ## Install the command and its data under DESTDIR and PREFIX (/usr/local)
	$(Q)install -D -m 755 $(BUILD)/kvtier $(DESTDIR)$(PREFIX)/bin/kvtier
	$(if $(MPI_MODULE),$(Q)install -D -m 755 $(MPI_MODULE) $(DESTDIR)$(PREFIX)/lib/kvtier/kvtier-mpi.so)
	$(Q)rm -rf $(SHARE)
	$(Q)set -e; for f in $(DATA) $(wildcard LICENSE README.md); do install -D -m 644 $$f $(SHARE)/$$f; done
	@echo "installed $(DESTDIR)$(PREFIX)/bin/kvtier and its data in $(SHARE)"
uninstall: ## Remove what `make install` put there
	$(Q)rm -f $(DESTDIR)$(PREFIX)/bin/kvtier
	$(Q)rm -rf $(DESTDIR)$(PREFIX)/lib/kvtier
	$(Q)rm -rf $(SHARE)

.PHONY: clean
clean: ## Remove everything that was built
	$(Q)rm -rf build build-*

.PHONY: help
help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' Makefile

.DELETE_ON_ERROR:
.SECONDARY:
-include $(patsubst %.o,%.d,$(call obj,$(LIB_SRC) $(CUDA_SRC) $(CMD_SRC) $(TEST_SRC) $(BENCH_SRC) $(TEST_HELPERS) \
	$(BENCH_HELPERS) $(FUZZ_SRC) $(FUZZ_HELPERS)))
