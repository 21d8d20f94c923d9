/* test_host_tier.c: the contract of every tier over pages in this process's memory, and the bytes
 * that come back. */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "emu/host_tier.h"
#include "emu/real_loop.h"
#include "tests/unit/tier_conformance.h"

static kvt_tier *open_tier(kvt_loop *loop, uint64_t capacity)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *text =
		g_strdup_printf("[t]\ncapacity = %" G_GUINT64_FORMAT "B\n", capacity);
	g_autoptr(kvt_config) config = kvt_config_parse("test", text, &error);
	kvt_tier_env env = { .loop = loop };
	kvt_tier *tier =
		kvt_tier_open_kind(&kvt_tier_host, &env, kvt_config_section(config, "t"), &error);
	g_assert_no_error(error);
	return tier;
}

static void make(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	t->loop = kvt_real_loop_new(NULL);
	t->tier = open_tier(t->loop, capacity);
}

static void discard(tier_under_test *t)
{
	kvt_tier_close(t->tier);
	kvt_loop_free(t->loop);
}

static void nothing(kvt_io *io)
{
}

/* Pages come back as they went, run by run; one whose bits changed does not, and is gone. */
static void test_bytes(void)
{
	enum { PAGE = 512, PAGES = 20 };
	uint8_t out[PAGES * PAGE], in[PAGES * PAGE];
	kvt_loop *loop = kvt_real_loop_new(NULL);
	kvt_tier *tier = open_tier(loop, 1 << 20);
	for (int i = 0; i < PAGES * PAGE; i++)
		out[i] = (uint8_t)(i * 7 + i / PAGE);
	kvt_extent all = { 1, 2, 100, PAGES, PAGE };
	kvt_extent parts[2] = { { 1, 2, 110, 10, PAGE }, { 1, 2, 100, 10, PAGE } };
	void *from = out, *to[2] = { in + 10 * PAGE, in };
	kvt_io write = { .op = KVT_IO_WRITE,
		.extents = &all,
		.n_extents = 1,
		.memory = &from,
		.done = nothing };
	kvt_io read = {
		.op = KVT_IO_READ, .extents = parts, .n_extents = 2, .memory = to, .done = nothing
	};
	g_assert_cmpint(kvt_tier_submit(tier, &write), ==, 0);
	kvt_loop_run(loop);
	g_assert_cmpint(write.status, ==, 0);
	g_assert_cmpint(kvt_tier_submit(tier, &read), ==, 0);
	kvt_loop_run(loop);
	g_assert_cmpint(read.status, ==, 0);
	g_assert_cmpmem(in, sizeof(in), out, sizeof(out));
	((uint8_t *)kvt_host_tier_page(tier, 0, 1, 2, 113))[77] ^= 1;
	g_assert_cmpint(kvt_tier_submit(tier, &read), ==, 0);
	kvt_loop_run(loop);
	g_assert_cmpint(read.status, ==, -EBADMSG);
	g_assert_cmpuint(read.bytes, ==, 0);
	g_assert_null(kvt_host_tier_page(tier, 0, 1, 2, 113));
	g_assert_nonnull(kvt_host_tier_page(tier, 0, 1, 2, 114));
	g_assert_cmpint(kvt_tier_submit(tier, &read), ==, 0);
	kvt_loop_run(loop);
	g_assert_cmpint(read.status, ==, -ENOENT);
	kvt_tier_close(tier);
	kvt_loop_free(loop);
}

int main(int argc, char **argv)
{
	static const tier_kind kind = { "host-dram", make, discard };
	g_test_init(&argc, &argv, NULL);
	tier_conformance_add(&kind);
	g_test_add_func("/host-tier/bytes", test_bytes);
	return g_test_run();
}
