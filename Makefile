# kvtier: build, tables, tests, bench. `make help` lists the targets.
# Everything is built under $(BUILD); SANITIZE=1 builds with ASan and UBSan under build-asan.

CC      ?= cc
SANITIZE ?= 0
ifeq ($(SANITIZE),1)
BUILD   ?= build-asan
SANFLAGS = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
OPT     ?= -O1 -g
else
BUILD   ?= build
OPT     ?= -O2 -g
endif
PREFIX  ?= /usr/local
PKGS     = glib-2.0 jansson libxxhash hdf5
WARN     = -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
           -Wno-unused-parameter
CFLAGS  ?=
ALL_CFLAGS = -std=gnu11 $(OPT) $(WARN) -I. -D_GNU_SOURCE $(SANFLAGS) \
           $(shell pkg-config --cflags $(PKGS)) $(CFLAGS)
LIBS     = $(SANFLAGS) $(shell pkg-config --libs $(PKGS)) -lm -lpthread

LIB_SRC  := $(filter-out sim/cmd/%,$(wildcard sim/*/*.c)) $(wildcard models/*.c traces/*.c kernels/*.c)
CMD_SRC  := $(wildcard sim/cmd/*.c)
TEST_SRC := $(wildcard tests/unit/test_*.c)
BENCH_SRC := $(wildcard tests/bench/bench_*.c)
TEST_HELPERS := $(filter-out $(TEST_SRC),$(wildcard tests/unit/*.c))
BENCH_HELPERS := $(filter-out $(BENCH_SRC),$(wildcard tests/bench/*.c))
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_HELPERS := $(filter-out $(FUZZ_SRC),$(wildcard tests/fuzz/*.c))
obj       = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

LIB   := $(BUILD)/libkvtier.a
CMD_LIB := $(BUILD)/libkvtier-cmd.a
TESTS := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(TEST_SRC))
BENCHES := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(BENCH_SRC))
FUZZERS := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(FUZZ_SRC))

.PHONY: all test-programs bench-programs clean
all: $(if $(CMD_SRC),$(BUILD)/kvtier)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/obj/sim/base/datadir.o: ALL_CFLAGS += -DKVT_PREFIX='"$(PREFIX)"'

$(LIB): $(call obj,$(LIB_SRC))
	@rm -f $@
	ar rcs $@ $^

# The command but for its main, so that its parts can be tested.
$(CMD_LIB): $(call obj,$(filter-out sim/cmd/main.c,$(CMD_SRC)))
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/kvtier: $(BUILD)/obj/sim/cmd/main.o $(CMD_LIB) $(LIB)
	$(CC) -o $@ $^ $(LIBS)

$(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.o $(call obj,$(TEST_HELPERS)) $(CMD_LIB) $(LIB)
	@mkdir -p $(@D)
	$(CC) -o $@ $^ $(LIBS)

$(BUILD)/bench/%: $(BUILD)/obj/tests/bench/%.o $(call obj,$(BENCH_HELPERS)) $(LIB)
	@mkdir -p $(@D)
	$(CC) -o $@ $^ $(LIBS)

test-programs: $(TESTS)
bench-programs: $(BENCHES)

.PHONY: unit
unit: test-programs
	prove --exec '' $(TESTS)

.PHONY: cli
cli: all
	KVTIER=$(BUILD)/kvtier prove --exec sh tests/cli/*.t

# Every fuzz target over its corpus in tests/fuzz/corpus/NAME and over changed copies of it, with any
# compiler; best with SANITIZE=1.
MUTATIONS ?= 200
FUZZ_DRIVER ?= $(BUILD)/obj/tests/fuzz/replay_main.o
$(BUILD)/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o $(FUZZ_DRIVER) $(LIB)
	@mkdir -p $(@D)
	$(CC) -o $@ $^ $(LIBS) $(FUZZ_LIBS)

.PHONY: fuzz-programs fuzz-replay fuzz
fuzz-programs: $(FUZZERS)
fuzz-replay: fuzz-programs
	set -e; for f in $(FUZZERS); do $$f --mutations $(MUTATIONS) tests/fuzz/corpus/$${f##*/fuzz_}; done

# Looks for new inputs with clang's libFuzzer, FUZZ_SECONDS each; finds stay under build-fuzz.
FUZZ_SECONDS ?= 60
fuzz:
	$(MAKE) CC=clang BUILD=build-fuzz OPT='-O1 -g' FUZZ_DRIVER= FUZZ_LIBS=-fsanitize=fuzzer \
		SANFLAGS='-fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=undefined' fuzz-programs
	set -e; for f in $(notdir $(FUZZERS)); do mkdir -p build-fuzz/corpus/$${f#fuzz_}; \
		build-fuzz/fuzz/$$f -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=build-fuzz/$$f- \
		build-fuzz/corpus/$${f#fuzz_} tests/fuzz/corpus/$${f#fuzz_}; done

clean:
	rm -rf build build-asan build-clang build-fuzz

.SECONDARY:
-include $(patsubst %.o,%.d,$(call obj,$(LIB_SRC) $(CMD_SRC) $(TEST_SRC) $(BENCH_SRC) $(TEST_HELPERS) $(BENCH_HELPERS) \
	$(FUZZ_SRC) $(FUZZ_HELPERS)))
