/*
 * test_slab_pool.c: what lies where in a pool of slabs: pages are found where they were put, of
 * their owner alone; what is held stays as it is; what was not used for longest goes first; and,
 * against a model of plain arrays, any order of calls keeps all of it so.
 */
#include "emu/remote/slab_pool.h"

#include <errno.h>
#include <string.h>

#include "sim/base/rng.h"

enum { SLAB = 64 << 10, PAGE = 4096, PER_SLAB = SLAB / PAGE };

typedef struct fixture {
	kvt_slab_pool *pool;
	unsigned opened, sealed, closed;
	int refuse;
} fixture;

static int on_opened(void *arg, kvt_slab *slab)
{
	fixture *f = arg;
	g_assert_false(slab->taken);
	g_assert_null(slab->state);
	if (f->refuse != 0)
		return f->refuse;
	f->opened++;
	/* as a user who clears the memory would: whatever is found later must have been put */
	memset(slab->memory, 0xee, SLAB);
	slab->state = f;
	return 0;
}

static void on_sealed(void *arg, kvt_slab *slab)
{
	fixture *f = arg;
	g_assert_true(slab->state == f);
	f->sealed++;
}

static void on_closed(void *arg, kvt_slab *slab)
{
	fixture *f = arg;
	g_assert_true(slab->state == f);
	g_assert_cmpuint(slab->live_pages, ==, 0);
	slab->state = NULL;
	f->closed++;
	g_assert_cmpuint(f->sealed, >=, f->closed);
}

static fixture *setup(unsigned slabs, bool evict)
{
	fixture *f = g_new0(fixture, 1);
	const kvt_slab_pool_settings settings = {
		.bytes = slabs * SLAB,
		.slab_bytes = SLAB,
		.node = -1,
		.evict = evict,
		.opened = on_opened,
		.sealed = on_sealed,
		.closed = on_closed,
		.arg = f,
	};
	g_autoptr(GError) error = NULL;
	f->pool = kvt_slab_pool_new(&settings, &error);
	g_assert_no_error(error);
	return f;
}

static void teardown(fixture *f)
{
	kvt_slab_pool_free(f->pool);
	g_assert_cmpuint(f->opened, ==, f->closed);
	g_assert_cmpuint(f->opened, ==, f->sealed);
	g_free(f);
}

static kvt_store_run run_of(uint32_t tenant, uint64_t first, uint64_t n)
{
	return (kvt_store_run){ .model = 7, .tenant = tenant, .pages = { 1, 2, first, n, PAGE } };
}

static kvt_slab_block *take(fixture *f, const kvt_store_run *run)
{
	int status;
	kvt_slab_block *block =
		kvt_slab_pool_take(f->pool, run, KVT_SLAB_STAGED, G_MAXUINT, &status);
	g_assert_cmpint(status, ==, 0);
	g_assert_nonnull(block);
	return block;
}

/* Puts whole runs there, whatever slabs they take, and lets go of them. */
static void put(fixture *f, kvt_store_run run)
{
	while (run.pages.n_pages > 0) {
		kvt_slab_block *block = take(f, &run);
		uint64_t n = block->run.pages.n_pages;
		kvt_slab *slab = block->slab;
		for (uint64_t i = 0; i < n; i++)
			block->checksums[i] = run.pages.first_page + i;
		kvt_slab_pool_publish(f->pool, block);
		kvt_slab_drop(f->pool, slab);
		run.pages.first_page += n;
		run.pages.n_pages -= n;
	}
}

static bool found(fixture *f, kvt_store_run run)
{
	kvt_slab_piece piece;
	return kvt_slab_pool_find(f->pool, &run, &piece) && piece.n_pages == run.pages.n_pages;
}

static int take_status(fixture *f, kvt_store_run run, unsigned most)
{
	int status;
	kvt_slab_block *block = kvt_slab_pool_take(f->pool, &run, KVT_SLAB_STAGED, most, &status);
	g_assert_true((block != NULL) == (status == 0));
	if (block)
		kvt_slab_drop(f->pool, block->slab);
	return status;
}

static void test_find(void)
{
	fixture *f = setup(4, true);
	kvt_slab_piece piece;
	kvt_store_run run = run_of(1, 10, 5);
	put(f, run);
	g_assert_true(kvt_slab_pool_find(f->pool, &run, &piece));
	g_assert_cmpuint(piece.n_pages, ==, 5);
	const uint8_t *base = piece.memory;
	g_assert_true(((uintptr_t)base & 4095) == 0);
	run = run_of(1, 12, 100);
	g_assert_true(kvt_slab_pool_find(f->pool, &run, &piece));
	g_assert_cmpuint(piece.n_pages, ==, 3);
	g_assert_true(piece.memory == base + 2 * PAGE);
	g_assert_cmpuint(piece.checksums[0], ==, 12);
	run = run_of(1, 4, 100);
	g_assert_false(kvt_slab_pool_find(f->pool, &run, &piece));
	g_assert_cmpuint(piece.n_pages, ==, 6);
	run = run_of(1, 15, 3);
	g_assert_false(kvt_slab_pool_find(f->pool, &run, &piece));
	g_assert_cmpuint(piece.n_pages, ==, 3);
	/* another page size, tenant, model, layer, context */
	for (unsigned i = 0; i < 5; i++) {
		run = run_of(1, 10, 5);
		run.pages.page_bytes -= i == 0;
		run.tenant += i == 1;
		run.model += i == 2;
		run.pages.layer += i == 3;
		run.pages.context += i == 4;
		g_assert_false(kvt_slab_pool_find(f->pool, &run, &piece));
		g_assert_cmpuint(piece.n_pages, ==, 5);
	}
	run = run_of(1, 11, 2);
	g_assert_cmpuint(kvt_slab_pool_forget(f->pool, &run), ==, 2);
	g_assert_cmpuint(kvt_slab_pool_forget(f->pool, &run), ==, 0);
	g_assert_true(found(f, run_of(1, 10, 1)) && found(f, run_of(1, 13, 2)));
	g_assert_false(found(f, run_of(1, 11, 1)) || found(f, run_of(1, 12, 1)));
	run = run_of(1, 0, 100);
	g_assert_cmpuint(kvt_slab_pool_forget(f->pool, &run), ==, 3);
	/* a slab without pages is nobody's */
	g_assert_cmpuint(kvt_slab_pool_get_info(f->pool).taken, ==, 0);
	g_assert_cmpuint(f->closed, ==, 1);
	teardown(f);
}

/* A tenant's pages share no slab with another's, whatever room there is. */
static void test_tenants(void)
{
	fixture *f = setup(4, true);
	kvt_slab *of[3];
	for (uint32_t tenant = 0; tenant < 3; tenant++) {
		kvt_store_run run = run_of(tenant, 0, 1);
		kvt_slab_block *block = take(f, &run);
		of[tenant] = block->slab;
		g_assert_cmpuint(block->slab->tenant, ==, tenant);
		kvt_slab_pool_publish(f->pool, block);
		kvt_slab_drop(f->pool, block->slab);
	}
	g_assert_true(of[0] != of[1] && of[1] != of[2] && of[0] != of[2]);
	/* nor do pages that the tenant writes share one with those that this side puts there */
	int status;
	kvt_store_run run = run_of(0, 9, 1);
	kvt_slab_block *block =
		kvt_slab_pool_take(f->pool, &run, KVT_SLAB_WRITTEN, G_MAXUINT, &status);
	g_assert_true(block && block->slab != of[0] && block->slab->use == KVT_SLAB_WRITTEN);
	g_assert_cmpuint(kvt_slab_pool_taken(f->pool, 0), ==, 2);
	g_assert_cmpuint(kvt_slab_pool_held(f->pool, 0), ==, 1);
	kvt_slab_drop(f->pool, block->slab);
	g_assert_cmpuint(kvt_slab_pool_taken(f->pool, 0), ==, 1);
	teardown(f);
}

/* What is held stays, and so does what lies in it when it is no longer found. */
static void test_holds(void)
{
	fixture *f = setup(2, true);
	kvt_slab_piece piece;
	kvt_store_run first = run_of(1, 0, PER_SLAB), more = run_of(1, 100, PER_SLAB);
	kvt_slab_block *block = take(f, &first);
	memset(block->memory, 0x11, SLAB);
	kvt_slab_pool_publish(f->pool, block);
	g_assert_true(kvt_slab_pool_find(f->pool, &first, &piece));
	kvt_slab_hold(f->pool, piece.slab);
	kvt_slab_drop(f->pool, block->slab);
	for (unsigned i = 0; i < 5; i++) {
		more.pages.first_page += 100;
		put(f, more);
	}
	g_assert_true(found(f, first));
	g_assert_true(found(f, more));
	g_assert_cmpuint(kvt_slab_pool_get_info(f->pool).evicted, ==, 4);
	/* overwritten: the new ones are found, the old ones lie where they lay */
	put(f, first);
	kvt_slab_piece now;
	g_assert_true(kvt_slab_pool_find(f->pool, &first, &now));
	g_assert_true(now.slab != piece.slab);
	g_assert_cmpuint(kvt_slab_pool_forget(f->pool, &first), ==, PER_SLAB);
	for (unsigned i = 0; i < SLAB; i++)
		g_assert_cmpuint(piece.memory[i], ==, 0x11);
	kvt_slab *slab = piece.slab;
	g_assert_true(slab->taken);
	kvt_slab_drop(f->pool, slab);
	g_assert_false(slab->taken);
	/* all held: nothing can go */
	kvt_store_run a = run_of(1, 0, PER_SLAB), b = run_of(2, 0, PER_SLAB);
	kvt_slab_block *held[2] = { take(f, &a), take(f, &b) };
	g_assert_cmpint(take_status(f, run_of(3, 0, 1), G_MAXUINT), ==, -EAGAIN);
	g_assert_cmpuint(kvt_slab_pool_get_info(f->pool).held, ==, 2);
	kvt_slab_drop(f->pool, held[0]->slab);
	g_assert_cmpint(take_status(f, run_of(3, 0, 1), G_MAXUINT), ==, 0);
	teardown(f);
}

static void test_order(void)
{
	fixture *f = setup(3, true);
	for (uint64_t i = 0; i < 3; i++)
		put(f, run_of(1, i * 100, PER_SLAB));
	g_assert_true(found(f, run_of(1, 0, 1))); /* a use */
	put(f, run_of(1, 300, PER_SLAB));
	g_assert_true(found(f, run_of(1, 0, PER_SLAB)));
	g_assert_false(found(f, run_of(1, 100, 1)));
	/* a tenant that has all it may gives up its own, also where another's is older */
	put(f, run_of(2, 0, PER_SLAB)); /* evicts 200 */
	g_assert_true(found(f, run_of(1, 0, 1)));
	g_assert_cmpint(take_status(f, run_of(2, 100, 1), 1), ==, 0);
	g_assert_false(found(f, run_of(2, 0, 1)));
	g_assert_true(found(f, run_of(1, 0, 1)) && found(f, run_of(1, 300, 1)));
	teardown(f);
}

/* Without evict, pages stay until they are forgotten. */
static void test_keep(void)
{
	fixture *f = setup(2, false);
	put(f, run_of(1, 0, 2 * PER_SLAB));
	g_assert_cmpint(take_status(f, run_of(1, 100, 1), G_MAXUINT), ==, -EAGAIN);
	kvt_store_run half = run_of(1, 0, PER_SLAB);
	kvt_slab_pool_forget(f->pool, &half);
	g_assert_cmpint(take_status(f, run_of(1, 100, 1), G_MAXUINT), ==, 0);
	g_assert_true(found(f, run_of(1, PER_SLAB, PER_SLAB)));
	teardown(f);
}

static void test_refused(void)
{
	fixture *f = setup(2, true);
	put(f, run_of(1, 0, 1));
	f->refuse = -ENOMEM;
	g_assert_cmpint(take_status(f, run_of(2, 0, 1), G_MAXUINT), ==, -ENOMEM);
	g_assert_true(found(f, run_of(1, 0, 1)));
	kvt_store_run large = run_of(1, 1, 1);
	large.pages.page_bytes = SLAB + 1;
	g_assert_cmpint(take_status(f, large, G_MAXUINT), ==, -E2BIG);
	f->refuse = 0;
	g_assert_cmpint(take_status(f, run_of(2, 0, 1), G_MAXUINT), ==, 0);
	teardown(f);
}

/* What is given back can be taken again, unless more was taken behind it. */
static void test_untake(void)
{
	fixture *f = setup(1, true);
	kvt_store_run run = run_of(1, 0, 3);
	kvt_slab_block *keep = take(f, &run), *block = take(f, &run), *behind;
	const uint8_t *at = block->memory;
	g_assert_true(at == keep->memory + 3 * PAGE);
	kvt_slab_pool_untake(f->pool, block);
	block = take(f, &run);
	g_assert_true(block->memory == at);
	behind = take(f, &run);
	kvt_slab_pool_untake(f->pool, block);
	kvt_slab_pool_untake(f->pool, behind);
	g_assert_true(take(f, &run)->memory == at + 3 * PAGE);
	g_assert_cmpuint(keep->slab->holds, ==, 2);
	teardown(f);
}

/* Only what is not found is filled: a page that came late replaces no newer one. */
static void test_fill(void)
{
	fixture *f = setup(4, true);
	kvt_slab_piece piece;
	kvt_store_run old = run_of(1, 0, 10);
	kvt_slab_block *block = take(f, &old);
	memset(block->checksums, 0xff, 10 * sizeof(uint64_t));
	put(f, run_of(1, 3, 2));
	put(f, run_of(1, 7, 1));
	kvt_slab_pool_fill(f->pool, block);
	kvt_slab_drop(f->pool, block->slab);
	for (uint64_t i = 0; i < 10; i++) {
		kvt_store_run one = run_of(1, i, 1);
		bool newer = i == 3 || i == 4 || i == 7;
		g_assert_true(kvt_slab_pool_find(f->pool, &one, &piece));
		g_assert_cmpuint(piece.checksums[0], ==, newer ? i : UINT64_MAX);
	}
	g_assert_cmpuint(kvt_slab_pool_get_info(f->pool).pages, ==, 10);
	teardown(f);
}

/* --- Any order of calls, against plain arrays --- */

enum { TENANTS = 3, PAGES = 64, HELD = 6, STEPS = 20000 };

typedef struct held_piece {
	kvt_slab_piece piece;
	uint64_t stamp[PAGES];
} held_piece;

typedef struct plain {
	uint64_t stamp[TENANTS][PAGES]; /* 0: not there, or evicted */
	held_piece held[HELD];
	unsigned n_held;
	uint64_t next;
} plain;

static uint64_t stamp_of(const uint8_t *page)
{
	uint64_t stamp;
	memcpy(&stamp, page, sizeof(stamp));
	return stamp;
}

static void random_put(fixture *f, plain *p, kvt_store_run run)
{
	int status;
	kvt_slab_block *block =
		kvt_slab_pool_take(f->pool, &run, (kvt_slab_use)(p->next % 2), 4, &status);
	if (!block) {
		g_assert_cmpint(status, ==, -EAGAIN);
		g_assert_cmpuint(p->n_held, >, 0);
		return;
	}
	for (uint64_t i = 0; i < block->run.pages.n_pages; i++) {
		uint64_t stamp = ++p->next;
		memcpy(block->memory + i * PAGE, &stamp, sizeof(stamp));
		block->checksums[i] = stamp;
		p->stamp[run.tenant][run.pages.first_page + i] = stamp;
	}
	kvt_slab_pool_publish(f->pool, block);
	kvt_slab_drop(f->pool, block->slab);
}

/* What is found is what was put last; what is not found was evicted. */
static void random_find(fixture *f, plain *p, kvt_store_run run, bool hold)
{
	kvt_slab_piece piece;
	uint64_t *stamps = &p->stamp[run.tenant][run.pages.first_page];
	bool there = kvt_slab_pool_find(f->pool, &run, &piece);
	for (uint64_t i = 0; i < piece.n_pages; i++) {
		if (!there)
			stamps[i] = 0;
		g_assert_cmpuint(there ? stamp_of(piece.memory + i * PAGE) : 0, ==, stamps[i]);
		g_assert_cmpuint(there ? piece.checksums[i] : 0, ==, stamps[i]);
	}
	if (!there || !hold || p->n_held == HELD)
		return;
	kvt_slab_hold(f->pool, piece.slab);
	held_piece *held = &p->held[p->n_held++];
	held->piece = piece;
	memcpy(held->stamp, stamps, piece.n_pages * sizeof(uint64_t));
}

static void random_drop(fixture *f, plain *p, unsigned which)
{
	if (p->n_held == 0)
		return;
	held_piece *held = &p->held[which % p->n_held];
	for (uint64_t i = 0; i < held->piece.n_pages; i++)
		g_assert_cmpuint(stamp_of(held->piece.memory + i * PAGE), ==, held->stamp[i]);
	kvt_slab_drop(f->pool, held->piece.slab);
	*held = p->held[--p->n_held];
}

static void check_info(fixture *f)
{
	kvt_slab_pool_info info = kvt_slab_pool_get_info(f->pool);
	unsigned taken = 0, held = 0;
	for (uint32_t tenant = 0; tenant < TENANTS; tenant++) {
		taken += kvt_slab_pool_taken(f->pool, tenant);
		held += kvt_slab_pool_held(f->pool, tenant);
		g_assert_cmpuint(kvt_slab_pool_taken(f->pool, tenant), <=, 4);
	}
	g_assert_cmpuint(info.taken, ==, taken);
	g_assert_cmpuint(info.held, ==, held);
	g_assert_cmpuint(info.page_bytes, ==, info.pages * PAGE);
	g_assert_cmpuint(f->opened - f->closed, ==, taken);
}

static void count_run(void *arg, const kvt_store_run *run)
{
	*(uint64_t *)arg += run->pages.n_pages;
}

static void test_random(void)
{
	fixture *f = setup(8, true);
	g_autofree plain *p = g_new0(plain, 1);
	kvt_rng rng = kvt_rng_init(5, kvt_rng_stream_id("slab_pool", 0));
	uint64_t listed = 0;
	for (unsigned step = 0; step < STEPS; step++) {
		uint64_t first = kvt_rng_below(&rng, PAGES);
		kvt_store_run run = run_of((uint32_t)kvt_rng_below(&rng, TENANTS), first,
			1 + kvt_rng_below(&rng, PAGES - first));
		uint64_t what = kvt_rng_below(&rng, 10);
		if (what < 4) {
			random_put(f, p, run);
		} else if (what < 8) {
			random_find(f, p, run, what < 6);
		} else if (what < 9) {
			random_drop(f, p, (unsigned)first);
		} else {
			kvt_slab_pool_forget(f->pool, &run);
			memset(&p->stamp[run.tenant][first], 0, run.pages.n_pages * 8);
		}
		check_info(f);
	}
	while (p->n_held > 0)
		random_drop(f, p, 0);
	for (uint32_t tenant = 0; tenant < TENANTS; tenant++)
		kvt_slab_pool_each(f->pool, tenant, 7, count_run, &listed);
	g_assert_cmpuint(listed, ==, kvt_slab_pool_get_info(f->pool).pages);
	g_assert_cmpuint(kvt_slab_pool_get_info(f->pool).evicted, >, STEPS / 100);
	teardown(f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/slab_pool/find", test_find);
	g_test_add_func("/slab_pool/tenants", test_tenants);
	g_test_add_func("/slab_pool/holds", test_holds);
	g_test_add_func("/slab_pool/order", test_order);
	g_test_add_func("/slab_pool/keep", test_keep);
	g_test_add_func("/slab_pool/refused", test_refused);
	g_test_add_func("/slab_pool/untake", test_untake);
	g_test_add_func("/slab_pool/fill", test_fill);
	g_test_add_func("/slab_pool/random", test_random);
	return g_test_run();
}
