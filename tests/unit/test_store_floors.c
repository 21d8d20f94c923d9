/*
 * test_store_floors.c: a page store whose pages are overwritten and discarded one by one, which is
 * more than its journal can note: writes find no room before anything is lost, and gc makes it.
 */
#include <errno.h>
#include <string.h>

#include "emu/store/store.h"
#include "sim/base/rng.h"
#include "tests/unit/store_fixture.h"

enum { KIB = 1 << 10, MIB = 1 << 20, LAYERS = 40, PAGES = 60 };

static kvt_store_run page_run(unsigned layer, uint64_t page)
{
	return store_run(1, 1, layer, page, 1, 512);
}

/* What should be there: the version of each page, 0 for none. */
typedef struct book {
	uint64_t versions[LAYERS][PAGES];
} book;

static void verify(kvt_store *store, const book *b)
{
	for (unsigned layer = 0; layer < LAYERS; layer++)
		for (unsigned page = 0; page < PAGES; page++) {
			const kvt_store_run run = page_run(layer, page);
			if (b->versions[layer][page] > 0)
				store_expect(store, &run, b->versions[layer][page]);
			else
				g_assert_false(kvt_store_holds(store, &run));
		}
}

/* The same from files as a kill would leave them. */
static void verify_copy(const char *path, const book *b)
{
	char *copy = store_folder_new();
	store_copy(path, copy);
	kvt_store *store = store_reopen(copy, NULL);
	verify(store, b);
	store_close(store);
	store_folder_free(copy);
}

/* Writes a page; when there is no room for it, after a gc. */
static void put(kvt_store *store, const kvt_store_run *run, uint64_t version, unsigned *gathered)
{
	int status = store_put(store, run, version);
	if (status == -ENOSPC) {
		(*gathered)++;
		g_assert_cmpint(kvt_store_gc(store, kvt_store_run_cost(run), NULL), ==, 0);
		status = store_put(store, run, version);
	}
	g_assert_cmpint(status, ==, 0);
}

/* Room for pages is plenty: it is the journal that is short. */
static void test_many(gconstpointer sync)
{
	char *path = store_folder_new();
	kvt_store *store = store_make(path, 24 * MIB, (kvt_store_sync)GPOINTER_TO_UINT(sync), NULL);
	book *b = g_new0(book, 1);
	kvt_rng rng = kvt_rng_init(5, GPOINTER_TO_UINT(sync));
	unsigned gathered = 0;
	const unsigned rounds = GPOINTER_TO_UINT(sync) == KVT_STORE_SYNC_DATA ? 4000 : 12000;
	for (unsigned i = 1; i <= rounds; i++) {
		unsigned layer = (unsigned)(kvt_rng_next(&rng) % LAYERS);
		unsigned page = (unsigned)(kvt_rng_next(&rng) % PAGES);
		const kvt_store_run run = page_run(layer, page);
		bool discards = kvt_rng_next(&rng) % 3 == 0;
		if (discards)
			g_assert_cmpint(kvt_store_discard(store, &run, 1, NULL), ==, 0);
		else
			put(store, &run, i, &gathered);
		b->versions[layer][page] = discards ? 0 : i;
		if (i % (rounds / 4) == 0)
			verify_copy(path, b);
	}
	g_assert_cmpuint(gathered, >, 0);
	verify(store, b);
	kvt_store_info info;
	kvt_store_info_get(store, &info);
	g_assert_cmpuint(info.evicted_pages, ==, 0);
	store_close(store);
	store = store_reopen(path, NULL);
	verify(store, b);
	store_close(store);
	g_free(b);
	store_folder_free(path);
}

/* What is being written is not voided by floors of its neighbours that become one. */
static void test_in_flight(void)
{
	char *path = store_folder_new();
	kvt_store *store = store_make(path, 2 * MIB, KVT_STORE_SYNC_NONE, NULL);
	const kvt_store_run middle = page_run(0, 4);
	g_autofree uint8_t *header = NULL, *content = g_malloc(KVT_STORE_BLOCK);
	kvt_store_ticket ticket;
	g_assert_cmpint(store_put(store, &middle, 1), ==, 0);
	g_assert_cmpint(kvt_store_discard(store, &middle, 1, NULL), ==, 0);
	g_assert_cmpint(kvt_store_reserve(store, &middle, &ticket), ==, 0);
	/* newer floors on both sides, and enough of them elsewhere for a new journal */
	for (unsigned i = 0; i < 40; i++)
		for (uint64_t page = 3; page <= 5; page += 2) {
			const kvt_store_run run = page_run(0, page);
			g_assert_cmpint(store_put(store, &run, 2 + i), ==, 0);
			g_assert_cmpint(kvt_store_discard(store, &run, 1, NULL), ==, 0);
		}
	memset(content, 0, KVT_STORE_BLOCK);
	store_fill(&middle, 9, content);
	kvt_store_checksums(content, 512, 1, ticket.checksums);
	header = g_malloc(ticket.header_bytes);
	kvt_store_ticket_header(store, &ticket, header);
	const kvt_store_io *io = &kvt_store_system_io;
	g_assert_cmpint(
		kvt_store_write_all(io, ticket.fd, header, ticket.header_bytes, ticket.offset), ==,
		0);
	g_assert_cmpint(kvt_store_write_all(io, ticket.fd, content, ticket.payload_bytes,
				ticket.offset + ticket.header_bytes),
		==, 0);
	g_assert_cmpint(kvt_store_publish(store, &ticket), ==, 0);
	store_expect(store, &middle, 9);
	store_close(store);
	store = store_reopen(path, NULL);
	store_expect(store, &middle, 9);
	store_close(store);
	store_folder_free(path);
}

/* Segments are given up rather than that a write fails, where the store may evict. */
static void test_eviction(void)
{
	char *path = store_folder_new();
	const kvt_store_settings settings = { .evict = true };
	kvt_store *store = store_make(path, 24 * MIB, KVT_STORE_SYNC_NONE, &settings);
	kvt_rng rng = kvt_rng_init(6, 0);
	for (unsigned i = 1; i <= 6000; i++) {
		const kvt_store_run run = page_run(
			(unsigned)(kvt_rng_next(&rng) % LAYERS), kvt_rng_next(&rng) % PAGES);
		g_assert_cmpint(store_put(store, &run, i), ==, 0);
		store_expect(store, &run, i);
	}
	kvt_store_info info;
	kvt_store_info_get(store, &info);
	g_assert_cmpuint(info.evicted_segments, >, 0);
	store_close(store);
	store_folder_free(path);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_data_func(
		"/store-floors/many/none", GUINT_TO_POINTER(KVT_STORE_SYNC_NONE), test_many);
	g_test_add_data_func(
		"/store-floors/many/data", GUINT_TO_POINTER(KVT_STORE_SYNC_DATA), test_many);
	g_test_add_func("/store-floors/in-flight", test_in_flight);
	g_test_add_func("/store-floors/eviction", test_eviction);
	return g_test_run();
}
