/* tier_test_io.c: I/Os that count how often they were done. */
#include "tests/unit/tier_test_io.h"

static void on_done(kvt_io *io)
{
	test_io *test = io->arg;
	test->done++;
	g_assert_cmpint(io->completed, >=, io->submitted);
	if (io->status != 0)
		g_assert_cmpuint(io->bytes, ==, 0);
	if (test->hook)
		test->hook(test);
}

void test_io_init_many(test_io *io, kvt_io_op op, const kvt_extent *extents, unsigned n)
{
	*io = (test_io){ .io = { .op = op,
				 .extents = extents,
				 .n_extents = n,
				 .done = on_done,
				 .arg = io,
				 .status = 1 } };
}

void test_io_init(test_io *io, kvt_io_op op, kvt_extent extent)
{
	test_io_init_many(io, op, NULL, 1);
	io->extent = extent;
	io->io.extents = &io->extent;
}

void test_io_submit(kvt_tier *tier, test_io *io)
{
	unsigned before = io->done;
	g_assert_cmpint(kvt_tier_submit(tier, &io->io), ==, 0);
	kvt_tier_commit(tier);
	g_assert_cmpuint(io->done, ==, before);
}

int test_io_run(kvt_loop *loop, kvt_tier *tier, kvt_io_op op, kvt_extent extent)
{
	test_io io;
	test_io_init(&io, op, extent);
	test_io_submit(tier, &io);
	kvt_loop_run(loop);
	g_assert_cmpuint(io.done, ==, 1);
	g_assert_cmpint(io.io.status, <=, 0);
	g_assert_cmpuint(io.io.bytes, ==, io.io.status == 0 ? kvt_extent_bytes(&extent) : 0);
	return io.io.status;
}
