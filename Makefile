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
obj       = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

LIB   := $(BUILD)/libkvtier.a
TESTS := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(TEST_SRC))
BENCHES := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(BENCH_SRC))

.PHONY: all test-programs bench-programs clean
all: $(if $(CMD_SRC),$(BUILD)/kvtier)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/obj/sim/base/datadir.o: ALL_CFLAGS += -DKVT_PREFIX='"$(PREFIX)"'

$(LIB): $(call obj,$(LIB_SRC))
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/kvtier: $(call obj,$(CMD_SRC)) $(LIB)
	$(CC) -o $@ $^ $(LIBS)

$(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.o $(call obj,$(TEST_HELPERS)) $(LIB)
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

clean:
	rm -rf build build-asan

.SECONDARY:
-include $(patsubst %.o,%.d,$(call obj,$(LIB_SRC) $(CMD_SRC) $(TEST_SRC) $(BENCH_SRC) $(TEST_HELPERS) $(BENCH_HELPERS)))
