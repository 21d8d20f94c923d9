/*
 * tier_conformance_random.c: random reads, writes and discards, many in flight, against the
 * contract spelled out over a plain table of what is there; and the same seed twice.
 */
#include "tests/unit/tier_conformance_random.h"

#include <errno.h>
#include <string.h>

#include "sim/base/rng.h"
#include "tests/unit/tier_test_io.h"

/* Everything is done in units of 32 pages, which composed tiers split evenly. */
enum {
	UNIT_PAGES = 32,
	UNITS = 12, /* of one layer */
	LAYERS = 2,
	CONTEXTS = 2,
	TENANTS = 2,
	SLOTS = UNITS * LAYERS * CONTEXTS * TENANTS,
	CAPACITY_UNITS = 40,
	OPERATIONS = 3000,
	REAL_OPERATIONS = 600, /* of a tier that moves the bytes */
	SEEDS = 5,
	REAL_SEEDS = 2,
	RUNS_MAX = 3,
};
static const uint64_t UNIT_BYTES = (uint64_t)UNIT_PAGES * CONFORMANCE_PAGE_BYTES;

typedef struct player player;

typedef struct random_io {
	test_io test;
	player *player;
	kvt_extent runs[RUNS_MAX];
	unsigned units;
	int expected;
	struct random_io *next; /* in flight */
} random_io;

struct player {
	tier_under_test *t;
	kvt_rng rng;
	bool there[SLOTS];
	unsigned used, reserved; /* units */
	unsigned left;           /* operations still to come */
	unsigned outcomes[3];    /* I/Os that succeeded, found nothing, found no room */
	random_io *in_flight;
	GString *log;
};

static unsigned slot_of(uint32_t tenant, const kvt_extent *run)
{
	return ((tenant * CONTEXTS + run->context) * LAYERS + run->layer) * UNITS +
	       (unsigned)(run->first_page / UNIT_PAGES);
}

static kvt_extent random_run(kvt_rng *rng)
{
	unsigned first = (unsigned)kvt_rng_below(rng, UNITS);
	unsigned n = 1 + (unsigned)kvt_rng_below(rng, MIN(4, UNITS - first));
	return (kvt_extent){
		.context = (uint32_t)kvt_rng_below(rng, CONTEXTS),
		.layer = (uint32_t)kvt_rng_below(rng, LAYERS),
		.first_page = first * UNIT_PAGES,
		.n_pages = n * UNIT_PAGES,
		.page_bytes = CONFORMANCE_PAGE_BYTES,
	};
}

static bool all_there(const player *p, uint32_t tenant, const kvt_extent *run)
{
	unsigned slot = slot_of(tenant, run);
	for (unsigned i = 0; i < run->n_pages / UNIT_PAGES; i++)
		if (!p->there[slot + i])
			return false;
	return true;
}

static void check_used(const player *p)
{
	kvt_tier_stats stats;
	p->t->tier->ops->stats(p->t->tier, &stats);
	g_assert_cmpuint(stats.used, ==, p->used * UNIT_BYTES);
	g_assert_cmpuint(stats.peak_used, <=, stats.capacity);
}

static void on_random_done(test_io *test)
{
	random_io *io = test->hook_arg;
	player *p = io->player;
	g_assert_cmpuint(test->done, ==, 1);
	if (test->io.status != io->expected && p->t->tier->ops->notice)
		g_test_message("%s of %u runs: the tier says: %s",
			test->io.op == KVT_IO_READ ? "read" : "write", test->io.n_extents,
			p->t->tier->ops->notice(p->t->tier));
	g_assert_cmpint(test->io.status, ==, io->expected);
	g_assert_cmpuint(test->io.bytes, ==, io->expected == 0 ? io->units * UNIT_BYTES : 0);
	p->outcomes[io->expected == 0 ? 0 : io->expected == -ENOENT ? 1 : 2]++;
	if (test->io.op == KVT_IO_WRITE && io->expected == 0) {
		p->reserved -= io->units;
		for (unsigned i = 0; i < test->io.n_extents; i++)
			for (unsigned j = 0; j < io->runs[i].n_pages / UNIT_PAGES; j++) {
				bool *there = &p->there[slot_of(test->io.tenant, &io->runs[i]) + j];
				p->used += !*there;
				*there = true;
			}
	}
	g_string_append_printf(p->log, "%" G_GINT64_FORMAT " %d %" G_GUINT64_FORMAT "\n",
		kvt_loop_now(p->t->loop), test->io.status, test->io.bytes);
	random_io **link = &p->in_flight;
	while (*link != io)
		link = &(*link)->next;
	*link = io->next;
	g_free(io);
	check_used(p);
}

static int predict(player *p, const random_io *io)
{
	const kvt_io *kvt = &io->test.io;
	if (kvt->op == KVT_IO_WRITE) {
		if (p->used + p->reserved + io->units > CAPACITY_UNITS)
			return -ENOSPC;
		p->reserved += io->units;
		return 0;
	}
	for (unsigned i = 0; i < kvt->n_extents; i++)
		if (!all_there(p, kvt->tenant, &io->runs[i]))
			return -ENOENT;
	return 0;
}

static void submit_random(player *p)
{
	random_io *io = g_new0(random_io, 1);
	kvt_io_op op = kvt_rng_below(&p->rng, 2) ? KVT_IO_READ : KVT_IO_WRITE;
	unsigned n = 1 + (unsigned)kvt_rng_below(&p->rng, RUNS_MAX);
	io->player = p;
	for (unsigned i = 0; i < n; i++) {
		io->runs[i] = random_run(&p->rng);
		io->units += (unsigned)(io->runs[i].n_pages / UNIT_PAGES);
	}
	test_io_init_many(&io->test, op, io->runs, n);
	io->test.hook = on_random_done;
	io->test.hook_arg = io;
	io->test.io.tenant = (uint32_t)kvt_rng_below(&p->rng, TENANTS);
	io->test.io.priority = (unsigned)kvt_rng_below(&p->rng, KVT_PRIORITY_CLASSES);
	io->next = p->in_flight;
	p->in_flight = io;
	io->expected = predict(p, io);
	test_io_submit(p->t->tier, &io->test);
}

static bool touches(const random_io *io, uint32_t tenant, const kvt_extent *run)
{
	for (unsigned i = 0; io->test.io.tenant == tenant && i < io->test.io.n_extents; i++) {
		const kvt_extent *r = &io->runs[i];
		if (r->context == run->context && r->layer == run->layer &&
			r->first_page < run->first_page + run->n_pages &&
			run->first_page < r->first_page + r->n_pages)
			return true;
	}
	return false;
}

static void discard_random(player *p)
{
	uint32_t tenant = (uint32_t)kvt_rng_below(&p->rng, TENANTS);
	kvt_extent run = random_run(&p->rng);
	unsigned freed = 0;
	for (unsigned i = 0; i < run.n_pages / UNIT_PAGES; i++) {
		bool *there = &p->there[slot_of(tenant, &run) + i];
		freed += *there;
		*there = false;
	}
	p->used -= freed;
	for (random_io *io = p->in_flight; io; io = io->next)
		if (io->test.io.op == KVT_IO_READ && io->expected == 0 && touches(io, tenant, &run))
			io->expected = -ENOENT;
	g_assert_cmpuint(
		p->t->tier->ops->discard(p->t->tier, tenant, &run), ==, freed * UNIT_BYTES);
}

static void look_random(player *p)
{
	uint32_t tenant = (uint32_t)kvt_rng_below(&p->rng, TENANTS);
	kvt_extent run = random_run(&p->rng);
	g_assert_true(
		p->t->tier->ops->holds(p->t->tier, tenant, &run) == all_there(p, tenant, &run));
}

static void operate(void *arg)
{
	player *p = arg;
	uint64_t what = kvt_rng_below(&p->rng, 10);
	if (what < 6)
		submit_random(p);
	else if (what < 8)
		discard_random(p);
	else
		look_random(p);
	check_used(p);
	if (--p->left > 0) {
		/* mostly while others are in flight, at times after all of them */
		double pause =
			kvt_rng_exponential(&p->rng, kvt_rng_below(&p->rng, 8) ? 2e-5 : 2e-3);
		kvt_loop_after(p->t->loop, kvt_time_from_seconds(pause), operate, p);
	}
}

static bool is_real(const tier_under_test *t)
{
	return t->tier->ops->flags & KVT_TIER_REAL;
}

/* Plays the operations of a seed; returns the log of completions, a new string. */
static char *play(const tier_kind *kind, uint64_t operations_seed, uint64_t tier_seed)
{
	tier_under_test t = { 0 };
	kind->make(&t, CAPACITY_UNITS * UNIT_BYTES, tier_seed);
	unsigned operations = is_real(&t) ? REAL_OPERATIONS : OPERATIONS;
	player p = { .t = &t,
		.rng = kvt_rng_init(operations_seed, 1),
		.left = operations,
		.log = g_string_new(NULL) };
	kvt_loop_after(t.loop, 0, operate, &p);
	kvt_loop_run(t.loop);
	g_assert_null(p.in_flight);
	g_assert_cmpuint(p.reserved, ==, 0);
	for (unsigned i = 0; i < G_N_ELEMENTS(p.outcomes); i++)
		g_assert_cmpuint(p.outcomes[i], >, operations / 100);
	kvt_tier_stats stats;
	t.tier->ops->stats(t.tier, &stats);
	g_assert_cmpuint(
		stats.reads + stats.writes, ==, p.outcomes[0] + p.outcomes[1] + p.outcomes[2]);
	g_assert_cmpuint(stats.read_errors, ==, p.outcomes[1]);
	g_assert_cmpuint(stats.write_errors, ==, p.outcomes[2]);
	kind->free(&t);
	return g_string_free(p.log, FALSE);
}

static void test_random(gconstpointer data)
{
	const tier_kind *kind = data;
	tier_under_test t = { 0 };
	kind->make(&t, CAPACITY_UNITS * UNIT_BYTES, 1);
	uint64_t seeds = is_real(&t) ? REAL_SEEDS : SEEDS;
	kind->free(&t);
	for (uint64_t seed = 1; seed <= seeds; seed++)
		g_free(play(kind, seed, seed));
}

static void test_same_seed(gconstpointer data)
{
	const tier_kind *kind = data;
	tier_under_test t = { 0 };
	kind->make(&t, CAPACITY_UNITS * UNIT_BYTES, 1);
	bool real = is_real(&t);
	kind->free(&t);
	if (real) {
		g_test_skip("a real tier takes the time it takes");
		return;
	}
	g_autofree char *first = play(kind, 7, 42);
	g_autofree char *again = play(kind, 7, 42);
	g_assert_true(strcmp(first, again) == 0);
}

void tier_conformance_add_random(const tier_kind *kind)
{
	g_autofree char *random = g_strdup_printf("/tier/%s/random", kind->name);
	g_autofree char *seed = g_strdup_printf("/tier/%s/same-seed", kind->name);
	g_test_add_data_func(random, kind, test_random);
	g_test_add_data_func(seed, kind, test_same_seed);
}
