/*
 * test_pinned_tier.c: the conformance suite over the tier of real memory, with and without helper
 * threads; bytes come back as they went, and a page that changed in memory is an error and a miss.
 */
#include "emu/tier/pinned_tier.h"

#include <errno.h>
#include <string.h>

#include "emu/loop/memory_touch.h"
#include "emu/store/page_checksum.h"
#include "emu/tier/memory_arena.h"
#include "emu/loop/real_loop.h"
#include "sim/base/rng.h"
#include "sim/tier/ring_tier.h"
#include "tests/unit/tier_conformance.h"
#include "tests/unit/tier_test_io.h"

enum { PAGE = 10000, PAGES = 700 };

static kvt_tier *open_tier(kvt_loop *loop, uint64_t capacity, const char *more)
{
	/* the largest of the suite is asked for and not used */
	capacity = MIN(capacity, (uint64_t)8 << 30);
	g_autoptr(GError) error = NULL;
	g_autofree char *text = g_strdup_printf(
		"[memory]\ncapacity = %" G_GUINT64_FORMAT "B\n%s\n", capacity, more);
	g_autoptr(kvt_config) config = kvt_config_parse("memory", text, &error);
	g_assert_no_error(error);
	const kvt_tier_env env = { .loop = loop };
	kvt_tier *tier = kvt_tier_open_kind(
		&kvt_tier_memory, &env, kvt_config_section(config, "memory"), &error);
	g_assert_no_error(error);
	return tier;
}

static void make_helped(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	t->loop = kvt_real_loop_new(NULL);
	t->tier = open_tier(t->loop, capacity, "helpers = 2");
}

static void make_alone(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	t->loop = kvt_real_loop_new(NULL);
	t->tier = open_tier(t->loop, capacity, "helpers = 0\nhuge = no\nscattered = yes");
}

/* Three of them on a ring, every page in two. */
static void make_ring(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	static const char *const names[] = { "one", "two", "three" };
	const kvt_ring_settings settings = {
		.capacity = MIN(capacity, (uint64_t)8 << 30), .replicas = 2, .stripe_pages = 5
	};
	kvt_tier *parts[G_N_ELEMENTS(names)];
	t->loop = kvt_real_loop_new(NULL);
	const kvt_tier_env env = { .loop = t->loop };
	for (unsigned i = 0; i < G_N_ELEMENTS(names); i++)
		parts[i] = open_tier(t->loop, capacity, i == 0 ? "helpers = 1" : "helpers = 0");
	t->tier = kvt_ring_tier_new(&env, parts, names, G_N_ELEMENTS(names), &settings);
}

static void free_kind(tier_under_test *t)
{
	kvt_tier_close(t->tier);
	kvt_loop_free(t->loop);
}

static const tier_kind kinds[] = {
	{ "memory-helped", make_helped, free_kind },
	{ "memory-alone", make_alone, free_kind },
	{ "memory-ring", make_ring, free_kind },
};

static int move(tier_under_test *t, kvt_io_op op, const kvt_extent *run, void *memory)
{
	test_io io;
	void *const where[] = { memory };
	test_io_init(&io, op, *run);
	io.io.memory = where;
	test_io_submit(t->tier, &io);
	kvt_loop_run(t->loop);
	g_assert_cmpuint(io.done, ==, 1);
	return io.io.status;
}

/* Random runs written over each other and discarded, against a plain copy of all. */
static void test_bytes(gconstpointer kind)
{
	tier_under_test t = { 0 };
	((const tier_kind *)kind)->make(&t, (uint64_t)PAGE * PAGES * 2, 1);
	g_autofree uint8_t *shadow = g_malloc0(PAGE * PAGES), *memory = g_malloc0(PAGE * PAGES);
	bool there[PAGES] = { false };
	kvt_rng rng = kvt_rng_init(1, 1);
	for (unsigned i = 0; i < 400; i++) {
		uint64_t first = kvt_rng_below(&rng, PAGES);
		uint64_t n = 1 + kvt_rng_below(&rng, MIN(PAGES - first, 120));
		const kvt_extent run = { 3, 4, first, n, PAGE };
		uint64_t what = kvt_rng_below(&rng, 8);
		bool all = true;
		for (uint64_t k = first; k < first + n; k++)
			all &= there[k];
		if (what < 3) {
			for (uint64_t k = 0; k < n * PAGE; k++)
				memory[k] = (uint8_t)(kvt_rng_next(&rng) >> 40);
			memcpy(shadow + first * PAGE, memory, n * PAGE);
			g_assert_cmpint(move(&t, KVT_IO_WRITE, &run, memory), ==, 0);
			memset(there + first, true, n);
		} else if (what == 3) {
			t.tier->ops->discard(t.tier, 0, &run);
			memset(there + first, false, n);
		} else {
			g_assert_cmpint(move(&t, KVT_IO_READ, &run, memory), ==, all ? 0 : -ENOENT);
			if (all)
				g_assert_true(memcmp(memory, shadow + first * PAGE, n * PAGE) == 0);
		}
	}
	free_kind(&t);
}

static void test_corrupt(gconstpointer kind)
{
	tier_under_test t = { 0 };
	if (((const tier_kind *)kind)->make == make_ring) {
		g_test_skip("a page is two: test_ring_tier.c");
		return;
	}
	((const tier_kind *)kind)->make(&t, (uint64_t)PAGE * PAGES, 1);
	g_autofree uint8_t *memory = g_malloc0(PAGE * 100);
	const kvt_extent run = { 3, 4, 50, 100, PAGE }, page = { 3, 4, 77, 1, PAGE },
			 rest = { 3, 4, 78, 72, PAGE };
	g_assert_cmpint(move(&t, KVT_IO_WRITE, &run, memory), ==, 0);
	*(uint8_t *)kvt_pinned_tier_page(t.tier, 0, &page) ^= 4;
	g_assert_cmpint(move(&t, KVT_IO_READ, &run, memory), ==, -EBADMSG);
	g_assert_false(t.tier->ops->holds(t.tier, 0, &page));
	g_assert_null(kvt_pinned_tier_page(t.tier, 0, &page));
	g_assert_cmpint(move(&t, KVT_IO_READ, &run, memory), ==, -ENOENT);
	g_assert_cmpint(move(&t, KVT_IO_READ, &rest, memory), ==, 0);
	free_kind(&t);
}

/* Closed with I/Os on their way. */
static void test_close_early(gconstpointer kind)
{
	tier_under_test t = { 0 };
	((const tier_kind *)kind)->make(&t, (uint64_t)PAGE * PAGES, 1);
	g_autofree uint8_t *memory = g_malloc0(PAGE * 100);
	kvt_extent run = { 3, 4, 0, 100, PAGE };
	g_assert_cmpint(move(&t, KVT_IO_WRITE, &run, memory), ==, 0);
	test_io ios[4];
	void *const where[] = { memory };
	for (unsigned i = 0; i < G_N_ELEMENTS(ios); i++) {
		run.layer += i / 2;
		test_io_init(&ios[i], i < 2 ? KVT_IO_READ : KVT_IO_WRITE, run);
		ios[i].io.memory = where;
		test_io_submit(t.tier, &ios[i]);
	}
	free_kind(&t);
	for (unsigned i = 0; i < G_N_ELEMENTS(ios); i++)
		g_assert_cmpuint(ios[i].done, ==, 0);
}

/* A read in place of every other page, last one first, and what is to be moved. */
typedef struct in_place {
	test_io io;
	kvt_extent pages[PAGES / 2];
	void *memory[PAGES / 2];
	GArray *runs, *checks;
} in_place;

static void begin_in_place(
	tier_under_test *t, in_place *read, uint8_t *home, kvt_pinned_verify verify)
{
	for (unsigned i = 0; i < PAGES / 2; i++) {
		read->pages[i] = (kvt_extent){ 3, 4, PAGES - 2 - 2 * i, 1, PAGE };
		read->memory[i] = home + i * PAGE;
	}
	test_io_init_many(&read->io, KVT_IO_READ, read->pages, PAGES / 2);
	read->io.io.memory = read->memory;
	read->runs = g_array_new(FALSE, FALSE, sizeof(kvt_pinned_run));
	read->checks = verify == KVT_PINNED_MOVED
			       ? g_array_new(FALSE, FALSE, sizeof(kvt_pinned_check))
			       : NULL;
	g_assert_cmpint(kvt_pinned_tier_read_in_place(
				t->tier, &read->io.io, verify, read->runs, read->checks),
		==, 0);
}

static void end_lists(in_place *read)
{
	g_array_unref(read->runs);
	if (read->checks)
		g_array_unref(read->checks);
}

/* All pages of the read are there to be compared, in its order. */
static void verify_moved(in_place *read)
{
	unsigned n = 0;
	for (guint i = 0; i < read->checks->len; i++) {
		const kvt_pinned_check *check = &g_array_index(read->checks, kvt_pinned_check, i);
		g_assert_cmpuint(check->page_bytes, ==, PAGE);
		for (uint64_t k = 0; k < check->n; k++, n++) {
			const uint8_t *page = (const uint8_t *)check->to + k * PAGE;
			g_assert_true(page == read->memory[n]);
			if (kvt_page_checksum(page, PAGE) != check->sums[k])
				kvt_pinned_tier_wrong(&read->io.io, &check->sums[k]);
		}
	}
	g_assert_cmpuint(n, ==, read->runs->len > 0 ? PAGES / 2 : 0);
}

/* Moves what is to be moved once the loop has done all that it can, and says so. */
static int end_in_place(tier_under_test *t, in_place *read, int status)
{
	g_assert_cmpuint(read->io.done, ==, 0);
	for (guint i = 0; i < read->runs->len; i++) {
		const kvt_pinned_run *run = &g_array_index(read->runs, kvt_pinned_run, i);
		memcpy(run->to, run->from, run->bytes);
	}
	if (read->checks)
		verify_moved(read);
	if (read->runs->len > 0)
		kvt_pinned_tier_moved(&read->io.io, status);
	end_lists(read);
	kvt_loop_run(t->loop);
	g_assert_cmpuint(read->io.done, ==, 1);
	g_assert_cmpuint(read->io.io.bytes, ==, read->io.io.status ? 0 : PAGES / 2 * PAGE);
	return read->io.io.status;
}

static void fill(uint8_t *memory, uint8_t salt)
{
	for (uint64_t i = 0; i < PAGES * PAGE; i++)
		memory[i] = (uint8_t)(i / PAGE * 7 + i * 3 + salt);
}

static void check_in_place(const uint8_t *home, const uint8_t *memory)
{
	for (unsigned i = 0; i < PAGES / 2; i++)
		g_assert_cmpint(
			memcmp(home + i * PAGE, memory + (PAGES - 2 - 2 * i) * PAGE, PAGE), ==, 0);
}

/* What is moved is what was there at submission, and only that is an answer. */
static void test_in_place(gconstpointer kind)
{
	tier_under_test t = { 0 };
	if (((const tier_kind *)kind)->make == make_ring) {
		g_test_skip("of the tier itself");
		return;
	}
	((const tier_kind *)kind)->make(&t, (uint64_t)PAGE * PAGES * 2, 1);
	g_autofree uint8_t *memory = g_malloc(PAGE * PAGES), *later = g_malloc(PAGE * PAGES);
	g_autofree uint8_t *home = g_malloc0(PAGE * PAGES / 2);
	const kvt_extent all = { 3, 4, 0, PAGES, PAGE }, one = { 3, 4, 100, 1, PAGE };
	in_place read;
	fill(memory, 0);
	fill(later, 99);
	begin_in_place(&t, &read, home, KVT_PINNED_MOVED);
	g_assert_cmpuint(read.runs->len, ==, 0);
	kvt_loop_run(t.loop);
	g_assert_cmpint(read.io.io.status, ==, -ENOENT);
	g_assert_cmpuint(read.checks->len, ==, 0);
	end_lists(&read);

	g_assert_cmpint(move(&t, KVT_IO_WRITE, &all, memory), ==, 0);
	for (kvt_pinned_verify verify = 0; verify <= KVT_PINNED_MOVED; verify++) {
		begin_in_place(&t, &read, home, verify);
		g_assert_cmpint(end_in_place(&t, &read, 0), ==, 0);
		check_in_place(home, memory);
		begin_in_place(&t, &read, home, verify);
		g_assert_cmpint(end_in_place(&t, &read, -EIO), ==, -EIO);
	}
	/* neighbours in both places are one run */
	read.runs = g_array_new(FALSE, FALSE, sizeof(kvt_pinned_run));
	const kvt_extent halves[] = { { 3, 4, 0, 2, PAGE }, { 3, 4, 2, 3, PAGE } };
	void *const places[] = { home, home + 2 * PAGE };
	test_io_init_many(&read.io, KVT_IO_READ, halves, 2);
	read.io.io.memory = places;
	g_assert_cmpint(kvt_pinned_tier_read_in_place(
				t.tier, &read.io.io, KVT_PINNED_IN_PLACE, read.runs, NULL),
		==, 0);
	bool scattered = ((const tier_kind *)kind)->make == make_alone;
	g_assert_cmpuint(read.runs->len, ==, scattered ? 5 : 1);
	kvt_pinned_tier_moved(&read.io.io, 0);
	kvt_loop_run(t.loop);
	g_assert_cmpint(read.io.io.status, ==, 0);
	g_array_unref(read.runs);

	/* written anew meanwhile, twice, and into all memory that is free */
	begin_in_place(&t, &read, home, KVT_PINNED_MOVED);
	g_assert_cmpint(move(&t, KVT_IO_WRITE, &all, later), ==, 0);
	g_assert_cmpint(move(&t, KVT_IO_WRITE, &all, later), ==, 0);
	g_assert_cmpint(end_in_place(&t, &read, 0), ==, 0);
	check_in_place(home, memory);
	/* discarded meanwhile */
	begin_in_place(&t, &read, home, KVT_PINNED_IN_PLACE);
	t.tier->ops->discard(t.tier, 0, &one);
	g_assert_cmpint(move(&t, KVT_IO_WRITE, &one, memory), ==, 0);
	g_assert_cmpint(end_in_place(&t, &read, 0), ==, -ENOENT);
	check_in_place(home, later);
	/* wrong: which shows where it is looked for */
	for (kvt_pinned_verify who = KVT_PINNED_IN_PLACE; who <= KVT_PINNED_MOVED; who++) {
		kvt_tier_stats stats;
		*(uint8_t *)kvt_pinned_tier_page(t.tier, 0, &one) ^= 4;
		begin_in_place(&t, &read, home, KVT_PINNED_TRUST);
		g_assert_cmpint(end_in_place(&t, &read, 0), ==, 0);
		begin_in_place(&t, &read, home, who);
		kvt_loop_run(t.loop);
		g_assert_cmpint(end_in_place(&t, &read, 0), ==, -EBADMSG);
		g_assert_null(kvt_pinned_tier_page(t.tier, 0, &one));
		t.tier->ops->stats(t.tier, &stats);
		g_assert_cmpuint(stats.used, ==, PAGE * (PAGES - 1));
		g_assert_cmpint(move(&t, KVT_IO_WRITE, &one, memory), ==, 0);
	}
	/* wrong on its way alone: nothing is served, and the page is still there */
	begin_in_place(&t, &read, home, KVT_PINNED_MOVED);
	kvt_pinned_tier_wrong(&read.io.io, g_array_index(read.checks, kvt_pinned_check, 5).sums);
	g_assert_cmpint(end_in_place(&t, &read, 0), ==, -EBADMSG);
	g_assert_true(t.tier->ops->holds(t.tier, 0, &all));
	/* and closed with one under way */
	begin_in_place(&t, &read, home, KVT_PINNED_MOVED);
	end_lists(&read);
	free_kind(&t);
	g_assert_cmpuint(read.io.done, ==, 0);
}

static void test_arena(void)
{
	enum { UNITS = 512 };
	g_autoptr(GError) error = NULL;
	kvt_arena *arena = kvt_arena_new(UNITS * 4096, KVT_HUGE_NO, false, -1, &error);
	g_assert_no_error(error);
	int owner[UNITS];
	uint64_t offsets[200], lengths[200];
	kvt_rng rng = kvt_rng_init(2, 2);
	memset(owner, -1, sizeof(owner));
	memset(lengths, 0, sizeof(lengths));
	unsigned free_units = UNITS;
	for (unsigned i = 0; i < 20000; i++) {
		unsigned k = (unsigned)kvt_rng_below(&rng, G_N_ELEMENTS(lengths));
		uint64_t wanted = 1 + kvt_rng_below(&rng, 9);
		if (lengths[k] > 0) {
			for (uint64_t u = 0; u < lengths[k]; u++) {
				g_assert_cmpint(owner[offsets[k] / 4096 + u], ==, (int)k);
				owner[offsets[k] / 4096 + u] = -1;
			}
			kvt_arena_give(arena, offsets[k], lengths[k] * 4096);
			free_units += (unsigned)lengths[k];
			lengths[k] = 0;
			continue;
		}
		lengths[k] = kvt_arena_take(arena, 4096, wanted, &offsets[k]);
		g_assert_cmpuint(lengths[k], <=, wanted);
		g_assert_true(lengths[k] > 0 || free_units == 0);
		for (uint64_t u = 0; u < lengths[k]; u++) {
			g_assert_cmpint(owner[offsets[k] / 4096 + u], ==, -1);
			owner[offsets[k] / 4096 + u] = (int)k;
		}
		free_units -= (unsigned)lengths[k];
	}
	for (unsigned k = 0; k < G_N_ELEMENTS(lengths); k++)
		if (lengths[k] > 0)
			kvt_arena_give(arena, offsets[k], lengths[k] * 4096);
	/* all of it is one range again */
	g_assert_cmpuint(kvt_arena_take(arena, 4096, UNITS, offsets), ==, UNITS);
	g_assert_cmpuint(kvt_arena_take(arena, 4096, 1, offsets), ==, 0);
	kvt_arena_free(arena);
	/* memory that is there already, or in part, stays what it is */
	enum { BYTES = 200 << 20 };
	arena = kvt_arena_new(BYTES, KVT_HUGE_NO, false, -1, &error);
	g_assert_no_error(error);
	memset(kvt_arena_base(arena) + 4000, 7, 2 << 20);
	kvt_memory_touch(kvt_arena_base(arena), BYTES);
	kvt_memory_touch(kvt_arena_base(arena), 4096);
	for (uint64_t i = 0; i < 3 << 20; i++)
		g_assert_cmpuint(
			kvt_arena_base(arena)[i], ==, i >= 4000 && i < 4000 + (2 << 20) ? 7 : 0);
	kvt_arena_free(arena);
	/* more than there can be, and a node that is none */
	g_assert_null(kvt_arena_new(UINT64_MAX / 4, KVT_HUGE_NO, false, -1, &error));
	g_assert_nonnull(error);
	g_clear_error(&error);
	g_assert_null(kvt_arena_new(4096, KVT_HUGE_NO, false, 1000, &error));
	g_assert_nonnull(error);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(gconstpointer kind);
	} tests[] = {
		{ "bytes", test_bytes },
		{ "corrupt", test_corrupt },
		{ "close-early", test_close_early },
		{ "in-place", test_in_place },
	};
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/pinned-tier/arena", test_arena);
	for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
		for (unsigned k = 0; k < G_N_ELEMENTS(tests); k++) {
			g_autofree char *path =
				g_strdup_printf("/pinned-tier/%s/%s", tests[k].name, kinds[i].name);
			g_test_add_data_func(path, &kinds[i], tests[k].run);
		}
		tier_conformance_add(&kinds[i]);
	}
	return g_test_run();
}
