/* tier_conformance.c: the contract line by line; random operations are tier_conformance_random.c's.
 */
#include "tests/unit/tier_conformance.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/tier_conformance_random.h"
#include "tests/unit/tier_test_io.h"

enum { PAGE = CONFORMANCE_PAGE_BYTES };

static kvt_extent run_of(uint32_t context, uint32_t layer, uint64_t first, uint64_t pages)
{
	return (kvt_extent){ context, layer, first, pages, PAGE };
}

static kvt_extent pages(uint64_t first, uint64_t n)
{
	return run_of(1, 0, first, n);
}

static int write_run(tier_under_test *t, kvt_extent extent)
{
	return test_io_run(t->loop, t->tier, KVT_IO_WRITE, extent);
}

static int read_run(tier_under_test *t, kvt_extent extent)
{
	return test_io_run(t->loop, t->tier, KVT_IO_READ, extent);
}

static bool holds(tier_under_test *t, kvt_extent extent)
{
	return t->tier->ops->holds(t->tier, 0, &extent);
}

static uint64_t discard(tier_under_test *t, kvt_extent extent)
{
	return t->tier->ops->discard(t->tier, 0, &extent);
}

static kvt_tier_stats stats_of(tier_under_test *t)
{
	kvt_tier_stats stats;
	t->tier->ops->stats(t->tier, &stats);
	return stats;
}

static void test_round_trip(tier_under_test *t)
{
	test_io write, read;
	test_io_init(&write, KVT_IO_WRITE, pages(0, 64));
	test_io_submit(t->tier, &write);
	g_assert_false(holds(t, pages(0, 1)));
	kvt_loop_run(t->loop);
	g_assert_cmpuint(write.done, ==, 1);
	g_assert_cmpint(write.io.status, ==, 0);
	g_assert_cmpuint(write.io.bytes, ==, 64 * PAGE);
	g_assert_true(holds(t, pages(0, 64)));
	g_assert_true(holds(t, pages(17, 3)));

	test_io_init(&read, KVT_IO_READ, pages(5, 20));
	test_io_submit(t->tier, &read);
	kvt_loop_run(t->loop);
	g_assert_cmpuint(read.done, ==, 1);
	g_assert_cmpint(read.io.status, ==, 0);
	g_assert_cmpuint(read.io.bytes, ==, 20 * PAGE);
	g_assert_cmpint(read.io.submitted, >=, write.io.completed);

	kvt_tier_stats stats = stats_of(t);
	g_assert_cmpuint(stats.writes, ==, 1);
	g_assert_cmpuint(stats.written_bytes, ==, 64 * PAGE);
	g_assert_cmpuint(stats.reads, ==, 1);
	g_assert_cmpuint(stats.read_bytes, ==, 20 * PAGE);
	g_assert_cmpuint(stats.read_errors + stats.write_errors, ==, 0);
	g_assert_cmpuint(stats.used, ==, 64 * PAGE);
	g_assert_cmpuint(stats.peak_used, ==, 64 * PAGE);
	g_assert_cmpuint(stats.device_ios, >=, 2);
	g_assert_cmpuint(stats.read_latency.count, ==, 1);
	g_assert_cmpuint(
		stats.read_latency.maximum, ==, (uint64_t)(read.io.completed - read.io.submitted));
	g_assert_cmpuint(stats.write_latency.maximum, ==,
		(uint64_t)(write.io.completed - write.io.submitted));
}

static void test_missing(tier_under_test *t)
{
	g_assert_cmpint(read_run(t, pages(0, 1)), ==, -ENOENT);
	g_assert_cmpint(write_run(t, pages(10, 10)), ==, 0);
	g_assert_cmpint(read_run(t, pages(9, 2)), ==, -ENOENT);
	g_assert_cmpint(read_run(t, pages(19, 2)), ==, -ENOENT);
	g_assert_cmpint(read_run(t, pages(0, 100)), ==, -ENOENT);
	g_assert_cmpint(read_run(t, run_of(2, 0, 10, 1)), ==, -ENOENT);
	g_assert_cmpint(read_run(t, run_of(1, 1, 10, 1)), ==, -ENOENT);
	/* one run of several that is not there is enough */
	const kvt_extent runs[] = { pages(10, 5), pages(15, 5), run_of(1, 3, 0, 1) };
	test_io read;
	test_io_init_many(&read, KVT_IO_READ, runs, G_N_ELEMENTS(runs));
	test_io_submit(t->tier, &read);
	kvt_loop_run(t->loop);
	g_assert_cmpuint(read.done, ==, 1);
	g_assert_cmpint(read.io.status, ==, -ENOENT);
	g_assert_cmpint(read_run(t, pages(10, 10)), ==, 0);
	kvt_tier_stats stats = stats_of(t);
	g_assert_cmpuint(stats.read_bytes, ==, 10 * PAGE);
	g_assert_cmpuint(stats.reads, ==, 8);
	g_assert_cmpuint(stats.read_errors, ==, 7);
}

/* Capacity 64 pages. */
static void test_full(tier_under_test *t)
{
	g_assert_cmpint(write_run(t, pages(0, 128)), ==, -ENOSPC);
	g_assert_cmpint(write_run(t, pages(0, 64)), ==, 0);
	const kvt_extent runs[] = { pages(64, 1), run_of(7, 0, 0, 1) };
	test_io write;
	test_io_init_many(&write, KVT_IO_WRITE, runs, G_N_ELEMENTS(runs));
	test_io_submit(t->tier, &write);
	kvt_loop_run(t->loop);
	g_assert_cmpint(write.io.status, ==, -ENOSPC);
	g_assert_false(holds(t, runs[0]));
	g_assert_false(holds(t, runs[1]));
	kvt_tier_stats stats = stats_of(t);
	g_assert_cmpuint(stats.capacity, ==, 64 * PAGE);
	g_assert_cmpuint(stats.used, ==, 64 * PAGE);
	g_assert_cmpuint(stats.peak_used, ==, 64 * PAGE);
	g_assert_cmpuint(stats.written_bytes, ==, 64 * PAGE);
	g_assert_cmpuint(stats.write_errors, ==, 2);
	/* what is discarded makes room */
	g_assert_cmpuint(discard(t, pages(0, 32)), ==, 32 * PAGE);
	g_assert_cmpint(write_run(t, run_of(7, 0, 0, 32)), ==, 0);
	g_assert_cmpint(read_run(t, pages(32, 32)), ==, 0);
	g_assert_cmpint(read_run(t, run_of(7, 0, 0, 32)), ==, 0);
}

/* Capacity 64 pages: writes in flight count, and what fails gives its room back. */
static void test_full_in_flight(tier_under_test *t)
{
	test_io writes[3];
	test_io_init(&writes[0], KVT_IO_WRITE, pages(0, 32));
	test_io_init(&writes[1], KVT_IO_WRITE, pages(32, 64));
	test_io_init(&writes[2], KVT_IO_WRITE, pages(128, 32));
	for (unsigned i = 0; i < G_N_ELEMENTS(writes); i++)
		test_io_submit(t->tier, &writes[i]);
	kvt_loop_run(t->loop);
	g_assert_cmpint(writes[0].io.status, ==, 0);
	g_assert_cmpint(writes[1].io.status, ==, -ENOSPC);
	g_assert_cmpint(writes[2].io.status, ==, 0);
	g_assert_cmpuint(stats_of(t).used, ==, 64 * PAGE);
	g_assert_cmpuint(stats_of(t).peak_used, ==, 64 * PAGE);
}

/* Capacity 64 pages: a page that is written again needs room for both versions meanwhile. */
static void test_rewrite(tier_under_test *t)
{
	g_assert_cmpint(write_run(t, pages(0, 32)), ==, 0);
	g_assert_cmpint(write_run(t, pages(0, 32)), ==, 0);
	g_assert_cmpuint(stats_of(t).used, ==, 32 * PAGE);
	g_assert_cmpuint(stats_of(t).peak_used, ==, 64 * PAGE);
	g_assert_cmpint(write_run(t, pages(32, 32)), ==, 0);
	g_assert_cmpint(write_run(t, pages(0, 32)), ==, -ENOSPC);
	g_assert_cmpint(read_run(t, pages(0, 64)), ==, 0);
}

typedef struct watch {
	tier_under_test *t;
	const test_io *write;
	unsigned looks, before; /* all; while the write was in flight */
} watch;

static void look(void *arg)
{
	watch *w = arg;
	bool there = w->write->done > 0;
	w->looks++;
	w->before += !there;
	for (unsigned i = 0; i < w->write->io.n_extents; i++)
		g_assert_true(holds(w->t, w->write->io.extents[i]) == there);
	if (!there)
		kvt_loop_after(w->t->loop, KVT_MICROSECOND, look, w);
}

static void check_all_there(test_io *write)
{
	tier_under_test *t = write->hook_arg;
	for (unsigned i = 0; i < write->io.n_extents; i++)
		g_assert_true(holds(t, write->io.extents[i]));
}

static void test_all_or_none(tier_under_test *t)
{
	const kvt_extent runs[] = { pages(0, 1), pages(16, 1), run_of(1, 1, 0, 400),
		run_of(2, 0, 3, 1), pages(40, 17) };
	test_io write;
	test_io_init_many(&write, KVT_IO_WRITE, runs, G_N_ELEMENTS(runs));
	write.hook = check_all_there;
	write.hook_arg = t;
	watch w = { .t = t, .write = &write };
	test_io_submit(t->tier, &write);
	kvt_loop_after(t->loop, 0, look, &w);
	kvt_loop_run(t->loop);
	g_assert_cmpint(write.io.status, ==, 0);
	g_assert_cmpuint(w.looks, >=, 1);
}

typedef struct crowd {
	tier_under_test *t;
	test_io refused;
	bool retried;
} crowd;

static void retry_refused(test_io *io)
{
	crowd *c = io->hook_arg;
	if (c->retried)
		return;
	c->retried = true;
	g_assert_cmpint(kvt_tier_submit(c->t->tier, &c->refused.io), ==, 0);
	kvt_tier_commit(c->t->tier);
}

static void test_too_many(tier_under_test *t)
{
	enum { MOST = 1 << 17 };
	g_assert_cmpint(write_run(t, pages(0, 1)), ==, 0);
	GPtrArray *accepted = g_ptr_array_new_with_free_func(g_free);
	crowd c = { .t = t };
	test_io_init(&c.refused, KVT_IO_READ, pages(0, 1));
	int error = 0;
	while (error == 0 && accepted->len < MOST) {
		test_io *io = g_new(test_io, 1);
		test_io_init(io, KVT_IO_READ, pages(0, 1));
		io->hook = retry_refused;
		io->hook_arg = &c;
		test_io before = *io;
		error = kvt_tier_submit(t->tier, &io->io);
		if (error == 0) {
			g_ptr_array_add(accepted, io);
			continue;
		}
		g_assert_cmpmem(io, sizeof(*io), &before, sizeof(before));
		g_free(io);
	}
	kvt_tier_commit(t->tier);
	g_assert_cmpint(error, ==, -EAGAIN);
	g_assert_cmpuint(accepted->len, >, 0);
	kvt_loop_run(t->loop);
	for (guint i = 0; i < accepted->len; i++) {
		const test_io *io = g_ptr_array_index(accepted, i);
		g_assert_cmpuint(io->done, ==, 1);
		g_assert_cmpint(io->io.status, ==, 0);
	}
	/* the first done could submit what had been refused */
	g_assert_true(c.retried);
	g_assert_cmpuint(c.refused.done, ==, 1);
	g_assert_cmpint(c.refused.io.status, ==, 0);
	g_assert_cmpuint(stats_of(t).reads, ==, accepted->len + 1);
	g_ptr_array_unref(accepted);
}

static void check_refused(tier_under_test *t, test_io *io)
{
	for (kvt_io_op op = KVT_IO_READ; op <= KVT_IO_WRITE; op++) {
		io->io.op = op;
		test_io before = *io;
		g_assert_cmpint(kvt_tier_submit(t->tier, &io->io), ==, -EINVAL);
		g_assert_cmpmem(io, sizeof(*io), &before, sizeof(before));
	}
	kvt_loop_run(t->loop);
	g_assert_cmpuint(io->done, ==, 0);
}

static void test_invalid(tier_under_test *t)
{
	const kvt_extent bad[] = {
		{ 1, 0, 0, 0, PAGE },
		{ 1, 0, 0, 1, 0 },
		{ 1, 0, UINT64_MAX, 1, PAGE },
		{ 1, 0, UINT64_MAX - 4, 5, PAGE },
		{ 1, 0, 0, UINT64_MAX / PAGE + 1, PAGE },
		{ 1, 0, 0, UINT64_MAX, UINT64_MAX },
	};
	test_io io;
	for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
		test_io_init(&io, KVT_IO_READ, bad[i]);
		check_refused(t, &io);
		g_assert_false(holds(t, bad[i]));
		g_assert_cmpuint(discard(t, bad[i]), ==, 0);
		if (t->tier->ops->preload)
			g_assert_false(t->tier->ops->preload(t->tier, 0, &bad[i]));
	}
	/* each valid, together too many bytes to count */
	const kvt_extent many[] = { { 1, 0, 0, UINT64_MAX / PAGE, PAGE },
		{ 1, 1, 0, UINT64_MAX / PAGE, PAGE } };
	test_io_init_many(&io, KVT_IO_READ, many, 2);
	check_refused(t, &io);
	test_io_init_many(&io, KVT_IO_READ, many, 0);
	check_refused(t, &io);
	test_io_init_many(&io, KVT_IO_READ, NULL, 1);
	check_refused(t, &io);
	test_io_init(&io, KVT_IO_READ, pages(0, 1));
	io.io.done = NULL;
	check_refused(t, &io);
	test_io_init(&io, KVT_IO_READ, pages(0, 1));
	io.io.priority = KVT_PRIORITY_CLASSES;
	check_refused(t, &io);
	kvt_tier_stats stats = stats_of(t);
	g_assert_cmpuint(stats.reads + stats.writes + stats.used + stats.device_ios, ==, 0);
}

static void test_page_size(tier_under_test *t)
{
	kvt_extent other = pages(64, 1);
	other.page_bytes = 2 * PAGE;
	g_assert_cmpint(write_run(t, pages(0, 4)), ==, 0);
	test_io io;
	test_io_init(&io, KVT_IO_WRITE, other);
	g_assert_cmpint(kvt_tier_submit(t->tier, &io.io), ==, -EINVAL);
	other.first_page = 0;
	g_assert_cmpint(read_run(t, other), ==, -ENOENT);
	g_assert_false(holds(t, other));
	/* sizes of one I/O that contradict each other, of a layer that is not there yet */
	kvt_extent runs[] = { run_of(1, 9, 0, 1), run_of(1, 9, 8, 1) };
	runs[1].page_bytes = 2 * PAGE;
	test_io_init_many(&io, KVT_IO_WRITE, runs, 2);
	g_assert_cmpint(kvt_tier_submit(t->tier, &io.io), ==, -EINVAL);
	g_assert_cmpuint(io.done, ==, 0);
	/* a layer that is empty may begin anew */
	g_assert_cmpuint(discard(t, pages(0, 4)), ==, 4 * PAGE);
	g_assert_cmpint(write_run(t, other), ==, 0);
	g_assert_cmpint(read_run(t, other), ==, 0);
	g_assert_cmpuint(stats_of(t).used, ==, 2 * PAGE);
}

static void test_discard(tier_under_test *t)
{
	g_assert_cmpuint(discard(t, pages(0, 100)), ==, 0);
	g_assert_cmpint(write_run(t, pages(10, 80)), ==, 0);
	g_assert_cmpuint(discard(t, run_of(2, 0, 10, 80)), ==, 0);
	g_assert_cmpuint(discard(t, run_of(1, 1, 10, 80)), ==, 0);
	g_assert_cmpuint(discard(t, pages(0, 10)), ==, 0);
	g_assert_cmpuint(discard(t, pages(90, UINT64_MAX / PAGE - 90)), ==, 0);
	g_assert_cmpuint(discard(t, pages(0, 20)), ==, 10 * PAGE);
	g_assert_cmpuint(discard(t, pages(0, 20)), ==, 0);
	g_assert_cmpuint(discard(t, pages(50, 1)), ==, PAGE);
	g_assert_cmpint(read_run(t, pages(20, 30)), ==, 0);
	g_assert_cmpint(read_run(t, pages(51, 39)), ==, 0);
	g_assert_cmpint(read_run(t, pages(49, 2)), ==, -ENOENT);
	g_assert_cmpuint(stats_of(t).used, ==, 69 * PAGE);
	g_assert_cmpuint(discard(t, pages(0, 1000)), ==, 69 * PAGE);
	g_assert_cmpuint(stats_of(t).used, ==, 0);
}

static void test_discard_in_flight(tier_under_test *t)
{
	enum { N = 4 };
	const kvt_extent hit[N] = { pages(0, 1), pages(31, 1), pages(0, 64), pages(30, 10) };
	const kvt_extent missed[N] = { pages(32, 32), run_of(1, 1, 0, 32), run_of(2, 0, 0, 32),
		pages(1000, 10) };
	for (unsigned i = 0; i < 2 * N; i++) {
		g_assert_cmpint(write_run(t, pages(0, 64)), ==, 0);
		g_assert_cmpint(write_run(t, run_of(1, 1, 0, 64)), ==, 0);
		const kvt_extent runs[] = { run_of(1, 1, 40, 8), pages(0, 32) };
		test_io read;
		test_io_init_many(&read, KVT_IO_READ, runs, G_N_ELEMENTS(runs));
		test_io_submit(t->tier, &read);
		discard(t, i < N ? hit[i] : missed[i - N]);
		kvt_loop_run(t->loop);
		g_assert_cmpuint(read.done, ==, 1);
		g_assert_cmpint(read.io.status, ==, i < N ? -ENOENT : 0);
	}
	/* a write in flight is not there yet, and will be */
	test_io write;
	test_io_init(&write, KVT_IO_WRITE, run_of(9, 0, 0, 64));
	test_io_submit(t->tier, &write);
	g_assert_cmpuint(discard(t, run_of(9, 0, 0, 64)), ==, 0);
	kvt_loop_run(t->loop);
	g_assert_cmpint(write.io.status, ==, 0);
	g_assert_cmpint(read_run(t, run_of(9, 0, 0, 64)), ==, 0);
}

/* Capacity 128 pages. */
static void test_preload(tier_under_test *t)
{
	bool (*preload)(kvt_tier *, uint32_t, const kvt_extent *) = t->tier->ops->preload;
	if (!preload) {
		g_test_skip("this tier cannot be preloaded");
		return;
	}
	kvt_extent half = pages(0, 64), too_much = run_of(2, 0, 0, 128), rest = pages(32, 96);
	g_assert_true(preload(t->tier, 0, &half));
	g_assert_true(holds(t, half));
	g_assert_true(preload(t->tier, 0, &half));
	g_assert_cmpuint(stats_of(t).used, ==, 64 * PAGE);
	g_assert_false(preload(t->tier, 0, &too_much));
	g_assert_false(holds(t, run_of(2, 0, 0, 1)));
	g_assert_cmpuint(stats_of(t).used, ==, 64 * PAGE);
	/* what is there already takes no room */
	g_assert_true(preload(t->tier, 0, &rest));
	g_assert_cmpuint(stats_of(t).used, ==, 128 * PAGE);
	g_assert_cmpuint(stats_of(t).peak_used, ==, 128 * PAGE);
	g_assert_cmpint(write_run(t, run_of(2, 0, 0, 32)), ==, -ENOSPC);
	g_assert_cmpint(kvt_loop_now(t->loop), ==, 0);
	g_assert_cmpint(read_run(t, pages(0, 128)), ==, 0);
	g_assert_cmpuint(stats_of(t).written_bytes, ==, 0);
	kvt_extent other = pages(200, 1);
	other.page_bytes = 2 * PAGE;
	g_assert_cmpuint(discard(t, pages(0, 64)), ==, 64 * PAGE);
	g_assert_false(preload(t->tier, 0, &other));
}

/* A layer of ten million tokens, in pages of 16. */
static void test_huge(tier_under_test *t)
{
	if (!(t->tier->ops->flags & KVT_TIER_MODELLED)) {
		g_test_skip("40 GB a layer are for modelled tiers");
		return;
	}
	const uint64_t n = 10000000 / 16;
	g_assert_cmpint(write_run(t, pages(0, n)), ==, 0);
	g_assert_cmpint(read_run(t, pages(0, n)), ==, 0);
	g_assert_cmpint(read_run(t, pages(1, n)), ==, -ENOENT);
	g_assert_cmpuint(stats_of(t).read_bytes, ==, n * PAGE);
	g_assert_cmpuint(stats_of(t).used, ==, n * PAGE);
	g_assert_cmpuint(discard(t, pages(n / 2, n)), ==, (n - n / 2) * PAGE);
	/* and pages as far out as their numbers go */
	g_assert_cmpint(write_run(t, pages(UINT64_MAX - 64, 64)), ==, 0);
	g_assert_cmpint(read_run(t, pages(UINT64_MAX - 64, 64)), ==, 0);
	g_assert_cmpuint(discard(t, pages(UINT64_MAX - 1000, 1000)), ==, 64 * PAGE);
	g_assert_cmpuint(discard(t, pages(0, UINT64_MAX / PAGE)), ==, n / 2 * PAGE);
	g_assert_cmpuint(stats_of(t).used, ==, 0);
}

static void test_many_extents(tier_under_test *t)
{
	enum { N = 4000 };
	g_autofree kvt_extent *runs = g_new(kvt_extent, N);
	for (unsigned i = 0; i < N; i++)
		runs[i] = pages((uint64_t)(i * 7 % N) * 2, 1);
	test_io write, read;
	test_io_init_many(&write, KVT_IO_WRITE, runs, N);
	test_io_submit(t->tier, &write);
	kvt_loop_run(t->loop);
	g_assert_cmpint(write.io.status, ==, 0);
	g_assert_cmpuint(write.io.bytes, ==, (uint64_t)N * PAGE);
	test_io_init_many(&read, KVT_IO_READ, runs, N);
	test_io_submit(t->tier, &read);
	kvt_loop_run(t->loop);
	g_assert_cmpint(read.io.status, ==, 0);
	g_assert_cmpuint(read.io.bytes, ==, (uint64_t)N * PAGE);
	g_assert_cmpint(read_run(t, pages(0, 2)), ==, -ENOENT);
	g_assert_cmpuint(discard(t, pages(0, 2 * N)), ==, (uint64_t)N * PAGE);
}

static void test_priorities(tier_under_test *t)
{
	enum { N = 64 };
	g_assert_cmpint(write_run(t, pages(0, N)), ==, 0);
	test_io reads[N];
	for (unsigned i = 0; i < N; i++) {
		test_io_init(&reads[i], KVT_IO_READ, pages(i, 1));
		reads[i].io.priority = i % KVT_PRIORITY_CLASSES;
		test_io_submit(t->tier, &reads[i]);
	}
	kvt_loop_run(t->loop);
	for (unsigned i = 0; i < N; i++) {
		g_assert_cmpuint(reads[i].done, ==, 1);
		g_assert_cmpint(reads[i].io.status, ==, 0);
		g_assert_cmpuint(reads[i].io.priority, ==, i % KVT_PRIORITY_CLASSES);
	}
}

static void test_tenants(tier_under_test *t)
{
	test_io io;
	g_assert_cmpint(write_run(t, pages(0, 64)), ==, 0);
	test_io_init(&io, KVT_IO_READ, pages(0, 1));
	io.io.tenant = 1;
	test_io_submit(t->tier, &io);
	kvt_loop_run(t->loop);
	g_assert_cmpint(io.io.status, ==, -ENOENT);
	kvt_extent all = pages(0, 64);
	g_assert_false(t->tier->ops->holds(t->tier, 1, &all));
	g_assert_cmpuint(t->tier->ops->discard(t->tier, 1, &all), ==, 0);
	/* a read in flight is another tenant's business as little */
	test_io_init(&io, KVT_IO_WRITE, pages(0, 32));
	io.io.tenant = 1;
	test_io_submit(t->tier, &io);
	kvt_loop_run(t->loop);
	test_io_init(&io, KVT_IO_READ, pages(0, 64));
	test_io_submit(t->tier, &io);
	g_assert_cmpuint(t->tier->ops->discard(t->tier, 1, &all), ==, 32 * PAGE);
	kvt_loop_run(t->loop);
	g_assert_cmpint(io.io.status, ==, 0);
	g_assert_cmpuint(stats_of(t).used, ==, 64 * PAGE);
}

typedef struct chain {
	tier_under_test *t;
	unsigned left;
} chain;

static void next_link(test_io *io)
{
	chain *c = io->hook_arg;
	if (--c->left == 0)
		return;
	io->io.op = io->io.op == KVT_IO_READ ? KVT_IO_WRITE : KVT_IO_READ;
	test_io_submit(c->t->tier, io);
}

static void test_submit_from_done(tier_under_test *t)
{
	chain c = { .t = t, .left = 500 };
	test_io io;
	test_io_init(&io, KVT_IO_WRITE, pages(3, 20));
	io.hook = next_link;
	io.hook_arg = &c;
	test_io_submit(t->tier, &io);
	kvt_loop_run(t->loop);
	g_assert_cmpuint(io.done, ==, 500);
	g_assert_cmpuint(stats_of(t).reads, ==, 250);
	g_assert_cmpuint(stats_of(t).writes, ==, 250);
	g_assert_cmpuint(stats_of(t).read_errors + stats_of(t).write_errors, ==, 0);
}

/* Every test, and the pages that its tier holds. */
static const struct conformance_test {
	const char *name;
	void (*run)(tier_under_test *t);
	uint64_t capacity_pages;
} tests[] = {
	{ "round-trip", test_round_trip, 1 << 14 },
	{ "missing", test_missing, 1 << 14 },
	{ "full", test_full, 64 },
	{ "full-in-flight", test_full_in_flight, 64 },
	{ "rewrite", test_rewrite, 64 },
	{ "all-or-none", test_all_or_none, 1 << 14 },
	{ "too-many", test_too_many, 1 << 14 },
	{ "invalid", test_invalid, 1 << 14 },
	{ "page-size", test_page_size, 1 << 14 },
	{ "discard", test_discard, 1 << 14 },
	{ "discard-in-flight", test_discard_in_flight, 1 << 14 },
	{ "preload", test_preload, 128 },
	{ "huge", test_huge, 1 << 24 },
	{ "many-extents", test_many_extents, 1 << 14 },
	{ "priorities", test_priorities, 1 << 14 },
	{ "tenants", test_tenants, 1 << 14 },
	{ "submit-from-done", test_submit_from_done, 1 << 14 },
};

typedef struct conformance_case {
	const tier_kind *kind;
	const struct conformance_test *test;
} conformance_case;

static void run_case(gconstpointer data)
{
	const conformance_case *c = data;
	tier_under_test t = { 0 };
	c->kind->make(&t, c->test->capacity_pages * PAGE, 1);
	c->test->run(&t);
	c->kind->free(&t);
}

void tier_conformance_add(const tier_kind *kind)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++) {
		conformance_case *c = g_new(conformance_case, 1);
		*c = (conformance_case){ kind, &tests[i] };
		g_autofree char *path = g_strdup_printf("/tier/%s/%s", kind->name, tests[i].name);
		g_test_add_data_func_full(path, c, run_case, g_free);
	}
	tier_conformance_add_random(kind);
}
