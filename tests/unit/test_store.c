/* test_store.c: what a page store promises while nothing goes wrong: pages come back as they were,
 * over closing and opening, the newest version wins, room is kept. */
#include <errno.h>
#include <string.h>

#include "emu/store.h"
#include "tests/unit/store_fixture.h"

enum { MIB = 1 << 20 };

static void test_round_trip(void)
{
	static const uint64_t sizes[] = { 64, 1000, 4096, 16384, 20000 };
	char *path = store_folder_new();
	for (unsigned direct = 0; direct < 2; direct++) {
		kvt_store_settings settings = { .direct = direct };
		kvt_store *store = store_make(path, 2 * MIB, KVT_STORE_SYNC_DATA, &settings);
		for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
			kvt_store_run run = store_run(1, 2, i, 10, 2, sizes[i]);
			g_assert_cmpint(store_put(store, &run, 5), ==, 0);
			store_expect(store, &run, 5);
		}
		store_close(store);
		store = store_reopen(path, &settings);
		kvt_store_info info;
		kvt_store_info_get(store, &info);
		g_assert_cmpuint(info.scanned_segments, ==, 0);
		g_assert_cmpuint(info.recovered_records, ==, G_N_ELEMENTS(sizes));
		for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
			kvt_store_run run = store_run(1, 2, i, 10, 2, sizes[i]);
			store_expect(store, &run, 5);
			run.tenant = 2;
			g_assert_false(kvt_store_holds(store, &run));
		}
		store_close(store);
		store_folder_free(path);
		path = store_folder_new();
	}
	store_folder_free(path);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/store/round_trip", test_round_trip);
	return g_test_run();
}
