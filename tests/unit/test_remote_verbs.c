/*
 * test_remote_verbs.c: `tier = remote` over an RDMA device and a `kvtier node` that somebody has
 * started: tests/rxe/rxe_remote.t does, and makes the wire lose packets. Without KVT_NODE_IP the
 * tests skip.
 *
 *   KVT_NODE_IP, KVT_NODE_PORT  where the node listens
 *   KVT_NODE_KEYS               a file with the keys of its tenants
 *   KVT_REMOTE_OPTIONS          more lines for the tier
 *   KVT_REMOTE_READS            reads of small pages, if not ten thousand
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "emu/loop/real_loop.h"
#include "emu/remote/remote_tier.h"
#include "sim/base/rng.h"
#include "tests/unit/remote_pages.h"
#include "tests/unit/tier_test_io.h"

enum {
	SMALL_PAGES = 1024,
	SMALL_READS = 10000,
	SMALL_RUNS = 25, /* of an I/O */
	LARGE_PAGES = 6,
	LARGE_READS = 50,
	IOS = 4, /* in flight */
	MEMORY = IOS * (4 << 20),
};

static const kvt_extent SMALL = { 1, 1, 0, SMALL_PAGES, 4096 };
static const kvt_extent LARGE = { 2, 2, 0, LARGE_PAGES, 4 << 20 };

typedef struct fixture {
	kvt_loop *loop;
	kvt_tier *tier;
	uint8_t *memory; /* registered */
	kvt_rng rng;
	unsigned left; /* reads to come, of single pages */
	unsigned reads, wrong, failed, again;
} fixture;

static void set_up(fixture *f, gconstpointer data)
{
	g_autoptr(GError) error = NULL;
	if (!g_getenv("KVT_NODE_IP"))
		return;
	const char *more = g_getenv("KVT_REMOTE_OPTIONS");
	g_autofree char *text = g_strdup_printf(
		"[remote]\nnode = %s:%s\nkeys = %s\nconnect = 30s\n%s\n", g_getenv("KVT_NODE_IP"),
		g_getenv("KVT_NODE_PORT"), g_getenv("KVT_NODE_KEYS"), more ? more : "");
	g_autoptr(kvt_config) config = kvt_config_parse("remote", text, &error);
	g_assert_no_error(error);
	f->loop = kvt_real_loop_new(NULL);
	const kvt_tier_env env = { .loop = f->loop };
	f->tier = kvt_tier_open_kind(
		&kvt_tier_remote_node, &env, kvt_config_section(config, "remote"), &error);
	g_assert_no_error(error);
	f->memory = g_aligned_alloc(1, MEMORY, 4096);
	g_assert_cmpint(f->tier->ops->register_memory(f->tier, f->memory, MEMORY), ==, 0);
	f->rng = kvt_rng_init(77, (uint64_t)kvt_loop_now(f->loop));
}

static void tear_down(fixture *f, gconstpointer data)
{
	if (!f->tier)
		return;
	const char *notice = f->tier->ops->notice(f->tier);
	g_test_message("%s", notice ? notice : "nothing was lost");
	kvt_tier_close(f->tier);
	kvt_loop_free(f->loop);
	g_aligned_free(f->memory);
}

static bool absent(const fixture *f)
{
	if (!f->tier)
		g_test_skip("no KVT_NODE_IP: there is no node");
	return !f->tier;
}

static int move(fixture *f, kvt_io_op op, const kvt_extent *run, uint8_t *memory)
{
	void *const where[] = { memory };
	test_io io;
	test_io_init(&io, op, *run);
	io.io.memory = where;
	test_io_submit(f->tier, &io);
	kvt_loop_run(f->loop);
	g_assert_cmpuint(io.done, ==, 1);
	if (io.io.status != 0)
		g_test_message("%s", f->tier->ops->notice(f->tier));
	return io.io.status;
}

/* Page by page of what is there, in runs that fit the memory. */
static void put(fixture *f, kvt_extent all)
{
	kvt_extent run = all;
	uint64_t most = (4 << 20) / all.page_bytes;
	for (uint64_t done = 0; done < all.n_pages; done += run.n_pages) {
		run.first_page = all.first_page + done;
		run.n_pages = MIN(most, all.n_pages - done);
		remote_fill(0, &run, 1, f->memory);
		g_assert_cmpint(move(f, KVT_IO_WRITE, &run, f->memory), ==, 0);
	}
}

static void test_put(fixture *f, gconstpointer data)
{
	if (absent(f))
		return;
	put(f, SMALL);
	put(f, LARGE);
	g_assert_true(f->tier->ops->holds(f->tier, 0, &SMALL));
	g_assert_true(f->tier->ops->holds(f->tier, 0, &LARGE));
}

/* Every size of pages from 4 KiB to 4 MiB, written and read, to memory that is known and not. */
static void test_sizes(fixture *f, gconstpointer data)
{
	if (absent(f))
		return;
	for (uint64_t bytes = 4096; bytes <= 4 << 20; bytes *= 2) {
		kvt_extent run = { 9, (uint32_t)(bytes >> 12), 3, bytes < 1 << 20 ? 3 : 1, bytes };
		g_autofree uint8_t *other = g_malloc(kvt_extent_bytes(&run));
		remote_fill(0, &run, 1, other);
		g_assert_cmpint(move(f, KVT_IO_WRITE, &run, other), ==, 0);
		memset(f->memory, 0, kvt_extent_bytes(&run));
		memset(other, 0, kvt_extent_bytes(&run));
		g_assert_cmpint(move(f, KVT_IO_READ, &run, f->memory), ==, 0);
		g_assert_true(remote_is(0, &run, 1, f->memory));
		g_assert_cmpint(move(f, KVT_IO_READ, &run, other), ==, 0);
		g_assert_true(remote_is(0, &run, 1, other));
		f->tier->ops->discard(f->tier, 0, &run);
	}
}

/* --- Many reads --- */

typedef struct reader {
	fixture *f;
	test_io io;
	kvt_extent all, runs[SMALL_RUNS];
	void *where[SMALL_RUNS];
	unsigned n;
} reader;

static void read_next(reader *r);

static void read_later(void *arg)
{
	read_next(arg);
}

static void on_read(test_io *io)
{
	reader *r = io->hook_arg;
	fixture *f = r->f;
	for (unsigned i = 0; io->io.status == 0 && i < r->n; i++)
		f->wrong += !remote_is(0, &r->runs[i], 1, r->where[i]);
	if (io->io.status == 0) {
		f->reads += r->n;
		read_next(r);
		return;
	}
	/* a connection that is lost ends its reads; they are made again when it is there */
	f->failed++;
	f->left += r->n;
	g_assert_cmpint(io->io.status, ==, -EIO);
	g_assert_cmpuint(f->failed, <, 1000);
	kvt_loop_after(f->loop, 50 * KVT_MILLISECOND, read_later, r);
}

static void read_next(reader *r)
{
	fixture *f = r->f;
	unsigned most = r->all.page_bytes == SMALL.page_bytes ? SMALL_RUNS : 1;
	r->n = MIN(most, f->left);
	f->left -= r->n;
	if (r->n == 0)
		return;
	for (unsigned i = 0; i < r->n; i++) {
		r->runs[i] = r->all;
		r->runs[i].first_page += kvt_rng_below(&f->rng, r->all.n_pages);
		r->runs[i].n_pages = 1;
		memset(r->where[i], 0xee, 64);
	}
	test_io_init_many(&r->io, KVT_IO_READ, r->runs, r->n);
	r->io.io.memory = r->where;
	r->io.hook = on_read;
	r->io.hook_arg = r;
	test_io_submit(f->tier, &r->io);
}

static void read_many(fixture *f, kvt_extent all, unsigned reads)
{
	reader readers[IOS] = { 0 };
	kvt_time begin = kvt_loop_now(f->loop);
	f->left = reads;
	for (unsigned i = 0; i < IOS; i++) {
		readers[i].f = f;
		readers[i].all = all;
		for (unsigned k = 0; k < SMALL_RUNS; k++)
			readers[i].where[k] = f->memory + i * (4 << 20) +
					      (all.n_pages == SMALL_PAGES ? k * 4096 : 0);
		read_next(&readers[i]);
	}
	kvt_loop_run(f->loop);
	g_test_message("%u reads of %" G_GUINT64_FORMAT " bytes in %.1f s, %u wrong, %u I/Os again",
		f->reads, all.page_bytes, kvt_time_to_seconds(kvt_loop_now(f->loop) - begin),
		f->wrong, f->failed);
	g_assert_cmpuint(f->reads, ==, reads);
	g_assert_cmpuint(f->wrong, ==, 0);
}

static void test_small(fixture *f, gconstpointer data)
{
	const char *reads = g_getenv("KVT_REMOTE_READS");
	if (!absent(f))
		read_many(f, SMALL, reads ? (unsigned)strtoul(reads, NULL, 10) : SMALL_READS);
}

static void test_large(fixture *f, gconstpointer data)
{
	if (!absent(f))
		read_many(f, LARGE, LARGE_READS);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(fixture *f, gconstpointer data);
	} tests[] = {
		{ "/remote-verbs/sizes", test_sizes },
		{ "/remote-verbs/put", test_put },
		{ "/remote-verbs/small", test_small },
		{ "/remote-verbs/large", test_large },
	};
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++)
		g_test_add(tests[i].name, fixture, NULL, set_up, tests[i].run, tear_down);
	return g_test_run();
}
