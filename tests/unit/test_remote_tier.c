/*
 * test_remote_tier.c: the conformance suite over the remote tier and a storage node on a fabric
 * within the process, with the node's memory alone and with a store behind it; and what is remote
 * about it: bytes come back as they went, nothing wrong is ever served, and whatever befalls the
 * node or the wire, every I/O ends.
 */
#include "emu/remote/remote_tier.h"

#include <string.h>

#include "tests/unit/remote_fixture.h"
#include "tests/unit/tier_conformance.h"
#include "tests/unit/tier_test_io.h"

/* --- The suite --- */

static void make(tier_under_test *t, uint64_t capacity, bool store, bool leases, unsigned helpers)
{
	remote_rig *r = g_new0(remote_rig, 1);
	node_setup setup = remote_setup(store);
	remote_rig_init(r, &setup);
	r->settings.capacity = capacity;
	r->settings.no_leases = !leases;
	r->settings.helpers = helpers;
	remote_rig_open(r);
	*t = (tier_under_test){ .loop = r->host->loop, .tier = r->tier, .more = r };
}

static void make_memory(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	make(t, capacity, false, true, 0);
}

static void make_asking(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	make(t, capacity, false, false, 1);
}

static void make_store(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	make(t, capacity, true, true, 1);
}

static void free_kind(tier_under_test *t)
{
	const char *notice = t->tier->ops->notice(t->tier);
	if (notice)
		g_test_message("%s", notice);
	remote_rig_close(t->more);
	g_free(t->more);
}

static const tier_kind kinds[] = {
	{ "remote-memory", make_memory, free_kind },
	{ "remote-asking", make_asking, free_kind },
	{ "remote-store", make_store, free_kind },
};

/* --- Bytes --- */

enum { RUNS = 24, ROUNDS = 60, TOGETHER = 6 };

/* What was written: runs of pages of many sizes, by three tenants, each of a version. */
typedef struct shelf {
	remote_rig rig;
	kvt_extent runs[RUNS];
	unsigned versions[RUNS];
	kvt_rng rng;
	uint8_t *registered; /* SHELF_MEMORY bytes */
} shelf;

static const uint64_t SHELF_MEMORY = 24 << 20;

static uint32_t tenant_of(unsigned i)
{
	return i % REMOTE_TENANTS;
}

/* Written from memory that the fabric knows, from other memory, at odd addresses. */
static void write_run(shelf *s, unsigned i)
{
	const kvt_extent *run = &s->runs[i];
	uint64_t bytes = kvt_extent_bytes(run);
	g_autofree uint8_t *other = g_malloc(bytes + 1);
	uint8_t *from = i % 3 == 0 ? s->registered : other + i % 2;
	s->versions[i]++;
	remote_fill(tenant_of(i), run, s->versions[i], from);
	g_assert_cmpint(remote_rig_move(&s->rig, KVT_IO_WRITE, tenant_of(i), run, from), ==, 0);
}

static void open_shelf(shelf *s, bool store, bool leases, unsigned helpers)
{
	const uint64_t sizes[] = { 4096, 5000, 16384, 65536, 104, 1 << 20, 4 << 20, 300000 };
	node_setup setup = remote_setup(store);
	remote_rig_init(&s->rig, &setup);
	s->rig.settings.no_leases = !leases;
	s->rig.settings.helpers = helpers;
	s->rig.settings.connection.queues = 4;
	remote_rig_open(&s->rig);
	s->registered = g_malloc(SHELF_MEMORY);
	g_assert_cmpint(
		s->rig.tier->ops->register_memory(s->rig.tier, s->registered, SHELF_MEMORY), ==, 0);
	s->rng = kvt_rng_init(9, 9);
	for (unsigned i = 0; i < RUNS; i++) {
		uint64_t size = sizes[i % G_N_ELEMENTS(sizes)];
		uint64_t pages = 1 + kvt_rng_below(&s->rng, MIN(12000000 / size, 2000));
		s->runs[i] = (kvt_extent){ i % 5, i, kvt_rng_below(&s->rng, 1000), pages, size };
		s->versions[i] = 0;
		write_run(s, i);
	}
}

/* Some parts of some runs of one tenant, in one I/O, to registered memory or not. */
static void read_some(shelf *s)
{
	kvt_extent parts[TOGETHER];
	void *memory[TOGETHER], *blocks[TOGETHER];
	unsigned which[TOGETHER], n = 1 + (unsigned)kvt_rng_below(&s->rng, TOGETHER);
	uint32_t tenant = (uint32_t)kvt_rng_below(&s->rng, REMOTE_TENANTS);
	uint64_t used = 0;
	for (unsigned k = 0; k < n; k++) {
		which[k] =
			(unsigned)kvt_rng_below(&s->rng, RUNS / REMOTE_TENANTS) * REMOTE_TENANTS +
			tenant;
		const kvt_extent *run = &s->runs[which[k]];
		uint64_t first = kvt_rng_below(&s->rng, run->n_pages);
		parts[k] = *run;
		parts[k].first_page += first;
		parts[k].n_pages = 1 + kvt_rng_below(&s->rng, run->n_pages - first);
		uint64_t bytes = kvt_extent_bytes(&parts[k]);
		bool direct = kvt_rng_below(&s->rng, 2) && used + bytes <= SHELF_MEMORY;
		blocks[k] = direct ? NULL : g_malloc(bytes + 7);
		memory[k] = direct ? s->registered + used
				   : (uint8_t *)blocks[k] + kvt_rng_below(&s->rng, 2) * 7;
		used += direct ? bytes : 0;
	}
	test_io io;
	test_io_init_many(&io, KVT_IO_READ, parts, n);
	io.io.memory = memory;
	io.io.tenant = tenant;
	io.io.priority = (unsigned)kvt_rng_below(&s->rng, KVT_PRIORITY_CLASSES);
	g_assert_cmpint(remote_rig_run(&s->rig, &io), ==, 0);
	for (unsigned k = 0; k < n; k++) {
		g_assert_true(remote_is(tenant, &parts[k], s->versions[which[k]], memory[k]));
		g_free(blocks[k]);
	}
}

static void check_shelf(shelf *s)
{
	for (unsigned i = 0; i < ROUNDS; i++)
		read_some(s);
}

static const struct {
	const char *name;
	bool store, leases;
	unsigned helpers;
} ways[] = {
	{ "/remote/bytes/memory", false, true, 0 },
	{ "/remote/bytes/asking", false, false, 2 },
	{ "/remote/bytes/store", true, true, 2 },
};

static void test_bytes(gconstpointer data)
{
	unsigned way = GPOINTER_TO_UINT(data);
	shelf s;
	open_shelf(&s, ways[way].store, ways[way].leases, ways[way].helpers);
	check_shelf(&s);
	for (unsigned i = 0; i < RUNS; i += 2) {
		if (i % 4 == 0) {
			kvt_extent half = s.runs[i];
			half.n_pages = half.n_pages / 2 + 1;
			s.rig.tier->ops->discard(s.rig.tier, tenant_of(i), &half);
		}
		write_run(&s, i);
	}
	check_shelf(&s);
	kvt_remote_counts counts = kvt_remote_tier_counts(s.rig.tier);
	g_assert_cmpuint(counts.verified_pages, >, 0);
	g_assert_cmpuint(counts.bad_pages + counts.lost_pages, ==, 0);
	g_assert_cmpuint(counts.direct_bytes, >, 0);
	g_assert_cmpuint(counts.copied_bytes, >, 0);
	g_assert_true(ways[way].leases == (counts.leased_reads > 0));
	g_assert_null(s.rig.tier->ops->notice(s.rig.tier));
	/* all of it is there for another client */
	kvt_tier_stats before, after;
	s.rig.tier->ops->stats(s.rig.tier, &before);
	kvt_tier_close(s.rig.tier);
	remote_rig_open(&s.rig);
	s.rig.tier->ops->register_memory(s.rig.tier, s.registered, SHELF_MEMORY);
	check_shelf(&s);
	for (unsigned i = 0; i < RUNS; i++)
		g_assert_true(s.rig.tier->ops->holds(s.rig.tier, tenant_of(i), &s.runs[i]));
	s.rig.tier->ops->stats(s.rig.tier, &after);
	g_assert_cmpuint(after.used, ==, before.used);
	remote_rig_close(&s.rig);
	g_free(s.registered);
}

/* --- Leases --- */

static void test_leases(void)
{
	remote_rig r;
	node_setup setup = remote_setup(false);
	setup.settings.lease = KVT_SECOND;
	remote_rig_init(&r, &setup);
	remote_rig_open(&r);
	const kvt_extent run = { 1, 2, 3, 64, 4096 };
	g_autofree uint8_t *memory = g_malloc(kvt_extent_bytes(&run));
	remote_fill(0, &run, 1, memory);
	g_assert_cmpint(remote_rig_move(&r, KVT_IO_WRITE, 0, &run, memory), ==, 0);
	test_io io[2];
	void *const where[] = { memory };
	/* asked for once; then the pages are read where they lie, any of them */
	for (unsigned i = 0; i < 2; i++) {
		test_io_init(&io[i], KVT_IO_READ, run);
		io[i].io.memory = where;
		io[i].extent.first_page += i * 10;
		io[i].extent.n_pages -= i * 10;
	}
	g_assert_cmpint(remote_rig_run(&r, &io[0]), ==, 0);
	g_assert_cmpint(remote_rig_run(&r, &io[1]), ==, 0);
	kvt_remote_counts counts = kvt_remote_tier_counts(r.tier);
	g_assert_cmpuint(counts.fetches, ==, 1);
	g_assert_cmpuint(counts.leased_reads, ==, 1);
	/* other pages in their place are asked for anew */
	remote_fill(0, &run, 2, memory);
	g_assert_cmpint(remote_rig_move(&r, KVT_IO_WRITE, 0, &run, memory), ==, 0);
	memset(memory, 0, kvt_extent_bytes(&run));
	g_assert_cmpint(remote_rig_run(&r, &io[0]), ==, 0);
	g_assert_true(remote_is(0, &run, 2, memory));
	counts = kvt_remote_tier_counts(r.tier);
	g_assert_cmpuint(counts.fetches, ==, 2);
	/* and so are these when the time is over */
	node_host_run(r.host, KVT_SECOND);
	memset(memory, 0, kvt_extent_bytes(&run));
	g_assert_cmpint(remote_rig_run(&r, &io[0]), ==, 0);
	g_assert_true(remote_is(0, &run, 2, memory));
	counts = kvt_remote_tier_counts(r.tier);
	g_assert_cmpuint(counts.fetches, ==, 3);
	g_assert_cmpuint(counts.leased_reads, ==, 1);
	remote_rig_close(&r);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
		tier_conformance_add(&kinds[i]);
	for (unsigned i = 0; i < G_N_ELEMENTS(ways); i++)
		g_test_add_data_func(ways[i].name, GUINT_TO_POINTER(i), test_bytes);
	g_test_add_func("/remote/leases", test_leases);
	return g_test_run();
}
