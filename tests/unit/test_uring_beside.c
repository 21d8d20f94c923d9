/*
 * test_uring_beside.c: tiers of several models over one page store: what they share and what not.
 */
#include <string.h>

#include "emu/loop/real_loop.h"
#include "emu/tier/uring_tier.h"
#include "tests/unit/store_fixture.h"
#include "tests/unit/tier_test_io.h"

static kvt_tier *open_in(kvt_loop *loop, const char *folder, const char *more)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *text = g_strdup_printf(
		"[store]\npath = %s\ncapacity = 64MiB\nsegment = 2MiB\n%s", folder, more);
	g_autoptr(kvt_config) config = kvt_config_parse("store", text, &error);
	g_assert_no_error(error);
	const kvt_tier_env env = { .loop = loop };
	kvt_tier *tier = kvt_tier_open_kind(
		&kvt_tier_store, &env, kvt_config_section(config, "store"), &error);
	g_assert_no_error(error);
	return tier;
}

/* Another model's pages in the same store: apart, found again, and dropped in mid-flight as well.
 */
static void test_beside(gconstpointer more)
{
	kvt_loop *loop = kvt_real_loop_new(NULL);
	char *folder = store_folder_new();
	kvt_tier *tier = open_in(loop, folder, more), *beside = kvt_uring_tier_beside(tier, 5);
	uint8_t *bytes[2] = { g_malloc(8192), g_malloc(8192) };
	void *memory[1];
	test_io io;
	const kvt_extent pages = { 1, 2, 3, 2, 4096 };
	g_assert_false(kvt_uring_tier_store(tier) == NULL);
	for (unsigned i = 0; i < 2; i++) {
		memset(bytes[i], 0x40 + (int)i, 8192);
		memory[0] = bytes[i];
		test_io_init(&io, KVT_IO_WRITE, pages);
		io.io.memory = memory;
		g_assert_false(
			(i == 0 ? tier : beside)->ops->holds(i == 0 ? tier : beside, 0, &pages));
		test_io_submit(i == 0 ? tier : beside, &io);
		kvt_tier_commit(tier);
		kvt_loop_run(loop);
		g_assert_cmpint(io.io.status, ==, 0);
	}
	uint64_t models[3] = { 0 };
	g_assert_cmpuint(kvt_store_models(kvt_uring_tier_store(tier), models, 3), ==, 2);
	g_assert_cmpuint(models[0], ==, 5);
	/* closed and made again: found by recovery */
	kvt_tier_close(beside);
	beside = kvt_uring_tier_beside(tier, 5);
	for (unsigned i = 0; i < 2; i++) {
		memory[0] = bytes[1];
		memset(bytes[1], 0, 8192);
		test_io_init(&io, KVT_IO_READ, pages);
		io.io.memory = memory;
		test_io_submit(i == 0 ? tier : beside, &io);
		kvt_loop_run(loop);
		g_assert_cmpint(io.io.status, ==, 0);
		g_assert_cmpint(bytes[1][8191], ==, 0x40 + (int)i);
	}
	g_assert_cmpuint(tier->ops->discard(tier, 0, &pages), ==, 8192);
	g_assert_true(beside->ops->holds(beside, 0, &pages));
	/* with a read in flight, in either order */
	test_io_init(&io, KVT_IO_READ, pages);
	test_io_submit(beside, &io);
	kvt_tier_close(beside);
	kvt_tier_close(tier);
	kvt_loop_free(loop);
	store_folder_free(folder);
	g_free(bytes[0]);
	g_free(bytes[1]);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_data_func("/uring-beside/uring", "", test_beside);
	g_test_add_data_func("/uring-beside/threads", "method = threads\n", test_beside);
	g_test_add_data_func("/uring-beside/helpers", "helpers = 2\nsync = data\n", test_beside);
	return g_test_run();
}
