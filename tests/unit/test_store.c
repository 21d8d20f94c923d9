/* test_store.c: what a page store promises while nothing goes wrong: pages come back as they were,
 * over closing and opening, the newest version wins, nobody sees another's, room is kept. */
#include <errno.h>
#include <string.h>

#include "emu/store/store.h"
#include "sim/base/rng.h"
#include "tests/unit/store_fixture.h"

enum { KIB = 1 << 10, MIB = 1 << 20 };

typedef struct fixture {
	char *path;
	kvt_store *store;
} fixture;

static void set_up(fixture *f, gconstpointer sync)
{
	f->path = store_folder_new();
	f->store = store_make(f->path, 2 * MIB, (kvt_store_sync)GPOINTER_TO_UINT(sync), NULL);
}

static void tear_down(fixture *f, gconstpointer sync)
{
	store_close(f->store);
	store_folder_free(f->path);
}

static void reopen(fixture *f)
{
	store_close(f->store);
	f->store = store_reopen(f->path, NULL);
}

static kvt_store_info info_of(kvt_store *store)
{
	kvt_store_info info;
	kvt_store_info_get(store, &info);
	return info;
}

static void test_round_trip(gconstpointer direct)
{
	static const uint64_t sizes[] = { 64, 1000, 4096, 16384, 20000 };
	char *path = store_folder_new();
	kvt_store_settings settings = { .direct = GPOINTER_TO_UINT(direct) };
	kvt_store *store = store_make(path, 2 * MIB, KVT_STORE_SYNC_DATA, &settings);
	for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
		kvt_store_run run = store_run(1, 2, i, 10, 2, sizes[i]);
		g_assert_cmpint(store_put(store, &run, 5), ==, 0);
		store_expect(store, &run, 5);
	}
	store_close(store);
	store = store_reopen(path, &settings);
	kvt_store_info info = info_of(store);
	g_assert_cmpuint(info.scanned_segments, ==, 0);
	g_assert_cmpuint(info.recovered_records, ==, G_N_ELEMENTS(sizes));
	for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
		kvt_store_run run = store_run(1, 2, i, 10, 2, sizes[i]);
		store_expect(store, &run, 5);
	}
	store_close(store);
	store_folder_free(path);
}

/* A run is found in the pieces that it was written in, as reads of whole pieces. */
static void test_pieces(fixture *f, gconstpointer sync)
{
	for (unsigned i = 0; i < 3; i++) {
		kvt_store_run part = store_run(0, 1, 2, i * 4, 4, 4096);
		g_assert_cmpint(store_put(f->store, &part, 1), ==, 0);
	}
	kvt_store_run run = store_run(0, 1, 2, 2, 8, 4096);
	kvt_store_piece pieces[3];
	unsigned n;
	g_assert_cmpint(kvt_store_find(f->store, &run, pieces, 2, &n), ==, -E2BIG);
	g_assert_cmpint(kvt_store_find(f->store, &run, pieces, 3, &n), ==, 0);
	g_assert_cmpuint(n, ==, 3);
	static const uint64_t first[] = { 2, 4, 8 }, pages[] = { 2, 4, 2 };
	for (unsigned i = 0; i < n; i++) {
		g_assert_cmpuint(pieces[i].first_page, ==, first[i]);
		g_assert_cmpuint(pieces[i].n_pages, ==, pages[i]);
		g_assert_cmpuint(pieces[i].offset % KVT_STORE_BLOCK, ==, 0);
	}
	g_assert_cmpuint(info_of(f->store).readers, ==, 3);
	kvt_store_release(f->store, pieces, n);
	g_assert_cmpuint(info_of(f->store).readers, ==, 0);
	run.pages.n_pages = 11;
	g_assert_cmpint(kvt_store_find(f->store, &run, pieces, 3, &n), ==, -ENOENT);
	g_assert_cmpuint(kvt_store_prefix(f->store, &run), ==, 10);
	g_assert_cmpuint(kvt_store_count(f->store, &run), ==, 10);
	run.pages.page_bytes = 2048;
	g_assert_cmpuint(kvt_store_count(f->store, &run), ==, 0);
	g_assert_cmpint(store_put(f->store, &run, 1), ==, -EINVAL);
}

static void test_newest_wins(fixture *f, gconstpointer sync)
{
	kvt_store_run all = store_run(0, 1, 2, 0, 8, 512), middle = store_run(0, 1, 2, 2, 3, 512);
	g_assert_cmpint(store_put(f->store, &all, 1), ==, 0);
	g_assert_cmpint(store_put(f->store, &middle, 2), ==, 0);
	for (unsigned round = 0; round < 3; round++) {
		kvt_store_run head = store_run(0, 1, 2, 0, 2, 512);
		kvt_store_run tail = store_run(0, 1, 2, 5, 3, 512);
		store_expect(f->store, &head, 1);
		store_expect(f->store, &middle, 2);
		store_expect(f->store, &tail, 1);
		reopen(f);
	}
	/* the one reserved later wins, whichever is published first */
	uint8_t pages[3 * 512];
	kvt_store_ticket early, late;
	g_assert_cmpint(kvt_store_reserve(f->store, &middle, &early), ==, 0);
	g_assert_cmpint(kvt_store_reserve(f->store, &middle, &late), ==, 0);
	g_assert_cmpuint(late.generation, >, early.generation);
	kvt_store_abandon(f->store, &late);
	kvt_store_abandon(f->store, &early);
	store_expect(f->store, &middle, 2);
	g_assert_cmpint(kvt_store_get(f->store, &middle, pages), ==, 0);
}

/* Writes a reserved record as a user of the store does. */
static void write_ticket(const kvt_store *store, const kvt_store_run *run,
	const kvt_store_ticket *ticket, uint64_t version)
{
	g_autofree uint8_t *bytes =
		g_malloc0(ticket->header_bytes + MAX(ticket->payload_bytes, 4096));
	store_fill(run, version, bytes + ticket->header_bytes);
	kvt_store_checksums(bytes + ticket->header_bytes, run->pages.page_bytes, run->pages.n_pages,
		ticket->checksums);
	kvt_store_ticket_header(store, ticket, bytes);
	g_assert_cmpint(kvt_store_write_all(&kvt_store_system_io, ticket->fd, bytes,
				ticket->header_bytes + ticket->payload_bytes, ticket->offset),
		==, 0);
}

static void test_order_of_reserves(fixture *f, gconstpointer sync)
{
	kvt_store_run run = store_run(0, 1, 2, 0, 3, 512), wide = store_run(0, 1, 2, 0, 5, 512);
	kvt_store_ticket early, late;
	g_assert_cmpint(kvt_store_reserve(f->store, &wide, &early), ==, 0);
	g_assert_cmpint(kvt_store_reserve(f->store, &run, &late), ==, 0);
	write_ticket(f->store, &run, &late, 2);
	write_ticket(f->store, &wide, &early, 1);
	g_assert_false(kvt_store_holds(f->store, &run));
	g_assert_cmpint(kvt_store_publish(f->store, &late), ==, 0);
	store_expect(f->store, &run, 2);
	g_assert_cmpint(kvt_store_publish(f->store, &early), ==, 0);
	kvt_store_run rest = store_run(0, 1, 2, 3, 2, 512);
	store_expect(f->store, &run, 2);
	store_expect(f->store, &rest, 1);
	g_assert_cmpint(kvt_store_reserve(f->store, &run, &early), ==, 0);
	g_assert_cmpint(kvt_store_reserve(f->store, &run, &late), ==, 0);
	write_ticket(f->store, &run, &late, 4);
	write_ticket(f->store, &run, &early, 3);
	g_assert_cmpint(kvt_store_publish(f->store, &late), ==, 0);
	g_assert_cmpint(kvt_store_publish(f->store, &early), ==, -ESTALE);
	for (unsigned round = 0; round < 2; round++) {
		store_expect(f->store, &run, 4);
		store_expect(f->store, &rest, 1);
		reopen(f);
	}
}

/* Writes in flight are not there, and a discard leaves them be. */
static void test_discard(fixture *f, gconstpointer sync)
{
	kvt_store_run all = store_run(0, 1, 2, 0, 8, 512), part = store_run(0, 1, 2, 2, 3, 512);
	kvt_store_run next = store_run(0, 1, 2, 8, 2, 512);
	kvt_store_run every = { .model = 7, .pages = { 1, 2, 0, UINT64_MAX, 1 } };
	uint64_t pages;
	kvt_store_ticket ticket;
	g_assert_cmpint(kvt_store_reserve(f->store, &next, &ticket), ==, 0);
	g_assert_cmpint(store_put(f->store, &all, 1), ==, 0);
	g_assert_cmpint(kvt_store_discard(f->store, &part, 1, &pages), ==, 0);
	g_assert_cmpuint(pages, ==, 3);
	g_assert_cmpint(kvt_store_discard(f->store, &part, 1, &pages), ==, 0);
	g_assert_cmpuint(pages, ==, 0);
	g_assert_cmpuint(kvt_store_count(f->store, &all), ==, 5);
	g_assert_cmpint(kvt_store_discard(f->store, &every, 1, &pages), ==, 0);
	g_assert_cmpuint(pages, ==, 5);
	write_ticket(f->store, &next, &ticket, 3);
	g_assert_cmpint(kvt_store_publish(f->store, &ticket), ==, 0);
	reopen(f);
	g_assert_cmpuint(kvt_store_count(f->store, &all), ==, 0);
	store_expect(f->store, &next, 3);
	g_assert_cmpint(store_put(f->store, &part, 2), ==, 0);
	reopen(f);
	store_expect(f->store, &part, 2);
	g_assert_cmpuint(kvt_store_count(f->store, &all), ==, 3);
}

/* A version that was replaced stays away when the segment with its replacement goes. */
static void test_stale_stays_away(fixture *f, gconstpointer sync)
{
	kvt_store_run run = store_run(0, 1, 2, 0, 8, 512), kept = store_run(0, 1, 3, 0, 8, 512);
	kvt_store_segment segments[8];
	g_assert_cmpint(store_put(f->store, &run, 1), ==, 0);
	g_assert_cmpint(store_put(f->store, &kept, 1), ==, 0);
	g_assert_cmpint(kvt_store_seal(f->store), ==, 0);
	g_assert_cmpint(store_put(f->store, &run, 2), ==, 0);
	g_assert_cmpint(kvt_store_seal(f->store), ==, 0);
	g_assert_cmpuint(kvt_store_segments(f->store, segments, 8), ==, 2);
	g_assert_cmpuint(segments[0].live_pages, ==, 8);
	g_assert_true(kvt_store_evict(f->store, segments[1].number));
	for (unsigned round = 0; round < 3; round++) {
		g_assert_cmpuint(kvt_store_count(f->store, &run), ==, 0);
		store_expect(f->store, &kept, 1);
		reopen(f);
	}
	g_assert_false(kvt_store_evict(f->store, segments[1].number));
}

static void test_tenants(fixture *f, gconstpointer sync)
{
	for (unsigned tenant = 0; tenant < 3; tenant++) {
		kvt_store_run run = store_run(tenant, 1, 2, 0, 4, 512);
		g_assert_cmpint(store_put(f->store, &run, 10 + tenant), ==, 0);
	}
	kvt_store_run model = store_run(0, 1, 2, 0, 4, 512);
	model.model = 8;
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned tenant = 0; tenant < 3; tenant++) {
			kvt_store_run run = store_run(tenant, 1, 2, 0, 4, 512);
			store_expect(f->store, &run, 10 + tenant);
		}
		g_assert_false(kvt_store_holds(f->store, &model));
		reopen(f);
	}
	kvt_store_run run = store_run(1, 1, 2, 0, 4, 512);
	g_assert_cmpint(kvt_store_discard(f->store, &run, 1, NULL), ==, 0);
	g_assert_false(kvt_store_holds(f->store, &run));
	run.tenant = 2;
	g_assert_true(kvt_store_holds(f->store, &run));
}

/* Files of the store, all of them. */
static uint64_t bytes_on_disk(const char *path)
{
	uint64_t bytes = 0;
	GDir *dir = g_dir_open(path, 0, NULL);
	for (const char *name; (name = g_dir_read_name(dir)) != NULL;) {
		g_autofree char *file = g_build_filename(path, name, NULL);
		bytes += store_file_size(file);
	}
	g_dir_close(dir);
	return bytes;
}

static void test_capacity(fixture *f, gconstpointer sync)
{
	unsigned written = 0;
	int status;
	for (;; written++) {
		kvt_store_run run = store_run(0, written, 0, 0, 3, 4096);
		status = store_put(f->store, &run, 1);
		g_assert_cmpuint(bytes_on_disk(f->path), <=, 2 * MIB);
		if (status < 0)
			break;
	}
	g_assert_cmpint(status, ==, -ENOSPC);
	kvt_store_info before = info_of(f->store);
	/* a segment is kept for gc, the rest is used */
	g_assert_cmpuint(before.used, >, 2 * MIB - 3 * 64 * KIB);
	kvt_store_run more = store_run(0, 9999, 0, 0, 3, 4096);
	g_assert_cmpint(store_put(f->store, &more, 1), ==, -ENOSPC);
	kvt_store_info after = info_of(f->store);
	g_assert_cmpmem(&before, sizeof(before), &after, sizeof(after));
	for (unsigned i = 0; i < written; i++) {
		kvt_store_run run = store_run(0, i, 0, 0, 3, 4096);
		store_expect(f->store, &run, 1);
	}
	more.pages.n_pages = 100;
	g_assert_cmpint(store_put(f->store, &more, 1), ==, -E2BIG);
	more.pages.n_pages = 0;
	g_assert_cmpint(store_put(f->store, &more, 1), ==, -EINVAL);
}

/* What was discarded is room again: at once where a segment is dead, after gc otherwise. */
static void test_gc(fixture *f, gconstpointer sync)
{
	unsigned written = 0;
	for (;; written++) {
		kvt_store_run run = store_run(0, written, 0, 0, 3, 4096);
		if (store_put(f->store, &run, 1) < 0)
			break;
	}
	for (unsigned i = 0; i < written; i += 1 + (i % 3 == 1)) {
		kvt_store_run run = store_run(0, i, 0, 0, 3, 4096);
		g_assert_cmpint(kvt_store_discard(f->store, &run, 1, NULL), ==, 0);
	}
	uint64_t live = info_of(f->store).pages, freed;
	kvt_store_run more = store_run(0, 9999, 0, 0, 3, 4096);
	g_assert_cmpint(store_put(f->store, &more, 1), ==, -ENOSPC);
	g_assert_cmpint(kvt_store_gc(f->store, 3 * 64 * KIB, &freed), ==, 0);
	g_assert_cmpuint(freed, >=, 2 * 64 * KIB);
	g_assert_cmpuint(bytes_on_disk(f->path), <=, 2 * MIB);
	g_assert_cmpuint(info_of(f->store).pages, ==, live);
	g_assert_cmpint(store_put(f->store, &more, 1), ==, 0);
	g_assert_cmpint(kvt_store_gc(f->store, 0, &freed), ==, 0);
	for (unsigned round = 0; round < 2; round++) {
		g_assert_cmpuint(info_of(f->store).pages, ==, live + 3);
		for (unsigned i = 2; i < written; i += 3) {
			kvt_store_run run = store_run(0, i, 0, 0, 3, 4096);
			store_expect(f->store, &run, 1);
		}
		reopen(f);
	}
	g_assert_cmpint(kvt_store_gc(f->store, 2 * MIB, &freed), ==, -ENOSPC);
}

/* A segment that is evicted is read to the end by those who had begun. */
static void test_readers_drain(fixture *f, gconstpointer sync)
{
	kvt_store_run run = store_run(0, 1, 2, 0, 4, 4096);
	g_assert_cmpint(store_put(f->store, &run, 1), ==, 0);
	kvt_store_piece piece;
	unsigned n;
	g_assert_cmpint(kvt_store_find(f->store, &run, &piece, 1, &n), ==, 0);
	g_assert_true(kvt_store_current(f->store, &piece, 1));
	kvt_store_segment segment;
	g_assert_cmpuint(kvt_store_segments(f->store, &segment, 1), ==, 1);
	uint64_t used = info_of(f->store).used;
	g_assert_true(kvt_store_evict(f->store, segment.number));
	g_assert_false(kvt_store_holds(f->store, &run));
	g_assert_false(kvt_store_current(f->store, &piece, 1));
	g_assert_cmpuint(info_of(f->store).draining, ==, 1);
	g_assert_cmpuint(info_of(f->store).used, ==, used);
	/* written again meanwhile: elsewhere */
	g_assert_cmpint(store_put(f->store, &run, 2), ==, 0);
	g_autofree uint8_t *page = g_malloc(4096);
	for (unsigned i = 0; i < 4; i++) {
		g_assert_cmpint(kvt_store_read_all(&kvt_store_system_io, piece.fd, page, 4096,
					piece.offset + i * 4096),
			==, 0);
		g_assert_cmpint(store_version(&run, i, page), ==, 1);
		g_assert_cmpuint(kvt_store_checksum(page, 4096), ==, piece.checksums[i]);
	}
	kvt_store_release(f->store, &piece, 1);
	g_assert_cmpuint(info_of(f->store).draining, ==, 0);
	store_expect(f->store, &run, 2);
	g_assert_cmpuint(kvt_store_segments(f->store, &segment, 1), ==, 1);
}

static unsigned choose_newest(void *arg, const kvt_store_segment *segments, unsigned n)
{
	unsigned *calls = arg;
	(*calls)++;
	g_assert_cmpuint(n, >, 0);
	for (unsigned i = 1; i < n; i++)
		g_assert_cmpuint(segments[i].number, >, segments[i - 1].number);
	return n - 1;
}

static void test_eviction(gconstpointer chosen)
{
	char *path = store_folder_new();
	unsigned calls = 0;
	kvt_store_settings settings = { .evict = true, .arg = &calls };
	if (GPOINTER_TO_UINT(chosen))
		settings.choose = choose_newest;
	kvt_store *store = store_make(path, MIB, KVT_STORE_SYNC_NONE, &settings);
	for (unsigned i = 0; i < 200; i++) {
		kvt_store_run run = store_run(0, i, 0, 0, 3, 4096);
		g_assert_cmpint(store_put(store, &run, 1), ==, 0);
		g_assert_cmpuint(bytes_on_disk(path), <=, MIB);
		store_expect(store, &run, 1);
	}
	kvt_store_run first = store_run(0, 0, 0, 0, 3, 4096);
	g_assert_cmpuint(info_of(store).evicted_segments, >, 10);
	g_assert_true(kvt_store_holds(store, &first) == (GPOINTER_TO_UINT(chosen) != 0));
	g_assert_true((calls > 0) == (GPOINTER_TO_UINT(chosen) != 0));
	/* everything is held: nothing can go, nothing changes */
	GArray *held = g_array_new(FALSE, FALSE, sizeof(kvt_store_piece));
	for (unsigned i = 0; i < 200; i++) {
		kvt_store_run run = store_run(0, i, 0, 0, 3, 4096);
		kvt_store_piece piece;
		unsigned n;
		if (kvt_store_find(store, &run, &piece, 1, &n) == 0)
			g_array_append_val(held, piece);
	}
	uint64_t pages = info_of(store).pages;
	int status = 0;
	for (unsigned i = 300; status == 0; i++) {
		kvt_store_run run = store_run(0, i, 0, 0, 3, 4096);
		status = store_put(store, &run, 1);
		pages += status == 0 ? 3 : 0;
	}
	g_assert_cmpint(status, ==, -ENOSPC);
	g_assert_cmpuint(info_of(store).pages, ==, pages);
	kvt_store_release(store, (kvt_store_piece *)held->data, held->len);
	g_array_free(held, TRUE);
	store_close(store);
	store_folder_free(path);
}

/* Many short runs of the program do not leave ever more files, nor small ones the room unused. */
static void test_reopening(fixture *f, gconstpointer sync)
{
	for (unsigned i = 0; i < 40; i++) {
		kvt_store_run run = store_run(0, i, 0, 0, 1, 4096);
		g_assert_cmpint(store_put(f->store, &run, 1), ==, 0);
		reopen(f);
	}
	g_assert_cmpuint(info_of(f->store).segments, <=, 40 * 2 / 8);
	for (unsigned i = 0; i < 40; i++) {
		kvt_store_run run = store_run(0, i, 0, 0, 1, 4096);
		store_expect(f->store, &run, 1);
	}
}

/* The index is runs: a long context costs what its runs and checksums do, and what is overwritten
 * and discarded again and again costs no more. */
static void test_memory(void)
{
	char *path = store_folder_new();
	kvt_store_shape shape = { .capacity = 64 * MIB, .segment_bytes = 4 * MIB, .key = 1 };
	g_assert_true(kvt_store_create(path, &shape, NULL, NULL));
	kvt_store_settings settings = { .evict = true };
	kvt_store *store = store_reopen(path, &settings);
	g_autofree uint8_t *pages = g_malloc0(4096 * 512);
	uint64_t most = 0;
	for (unsigned i = 0; i < 300; i++) {
		kvt_store_run run = store_run(0, 1, i % 7, 512 * (i % 5), 512, 512);
		g_assert_cmpint(kvt_store_put(store, &run, pages), ==, 0);
		if (i % 11 == 0)
			g_assert_cmpint(kvt_store_discard(store, &run, 1, NULL), ==, 0);
		most = MAX(most, info_of(store).memory);
	}
	kvt_store_info info = info_of(store);
	/* 64 MiB of runs of 256 KiB and a header: 240 records of 512 checksums at most */
	g_assert_cmpuint(most, <=, 260 * (512 * 8 + 512));
	g_assert_cmpuint(info.runs, <=, 35);
	store_close(store);
	store_folder_free(path);
}

typedef struct worker {
	kvt_store *store;
	unsigned tenant;
	uint64_t seed;
	unsigned bad;
} worker;

/* A tenant who writes, reads and discards runs of three contexts of its own. */
static gpointer work(gpointer data)
{
	worker *w = data;
	uint64_t versions[3][16] = { 0 };
	kvt_rng rng = kvt_rng_init(w->seed, w->tenant);
	g_autofree uint8_t *pages = g_malloc(16 * 1024);
	for (unsigned i = 1; i <= 400; i++) {
		unsigned context = (unsigned)kvt_rng_below(&rng, 3);
		uint64_t first = kvt_rng_below(&rng, 14), n = 1 + kvt_rng_below(&rng, 16 - first);
		kvt_store_run run = store_run(w->tenant, context, 0, first, n, 1024);
		uint64_t kind = kvt_rng_below(&rng, 8);
		if (kind < 4 && store_put(w->store, &run, i) == 0) {
			for (uint64_t p = first; p < first + n; p++)
				versions[context][p] = i;
		} else if (kind == 4) {
			w->bad += kvt_store_discard(w->store, &run, 1, NULL) != 0;
			for (uint64_t p = first; p < first + n; p++)
				versions[context][p] = 0;
		} else if (kind == 5) {
			kvt_store_gc(w->store, 64 * KIB, NULL);
		} else if (kind > 5 && kvt_store_get(w->store, &run, pages) == 0) {
			/* it may have been evicted, but what is there is the newest */
			for (uint64_t p = 0; p < n; p++)
				w->bad += store_version(&run, first + p, pages + p * 1024) !=
					  (int64_t)versions[context][first + p];
		}
	}
	return NULL;
}

static void test_threads(void)
{
	char *path = store_folder_new();
	kvt_store_settings settings = { .evict = true };
	kvt_store *store = store_make(path, MIB, KVT_STORE_SYNC_NONE, &settings);
	worker workers[4];
	GThread *threads[4];
	for (unsigned i = 0; i < 4; i++) {
		workers[i] = (worker){ .store = store, .tenant = i, .seed = 3 };
		threads[i] = g_thread_new("worker", work, &workers[i]);
	}
	for (unsigned i = 0; i < 4; i++) {
		g_thread_join(threads[i]);
		g_assert_cmpuint(workers[i].bad, ==, 0);
	}
	kvt_store_info info = info_of(store);
	g_assert_cmpuint(info.readers + info.writers + info.draining, ==, 0);
	g_assert_cmpuint(info.corrupt_pages, ==, 0);
	kvt_store_report report;
	g_assert_true(kvt_store_check(store, &report, NULL, NULL, NULL));
	g_assert_cmpuint(report.bad_records + report.bad_pages, ==, 0);
	store_close(store);
	store_folder_free(path);
}

#define ADD(name, sync, test)                                                                      \
	g_test_add(name, fixture, GUINT_TO_POINTER(sync), set_up, test, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_data_func("/store/round_trip/cached", GUINT_TO_POINTER(0), test_round_trip);
	g_test_add_data_func("/store/round_trip/direct", GUINT_TO_POINTER(1), test_round_trip);
	ADD("/store/pieces", KVT_STORE_SYNC_NONE, test_pieces);
	ADD("/store/newest_wins", KVT_STORE_SYNC_NONE, test_newest_wins);
	ADD("/store/order_of_reserves", KVT_STORE_SYNC_DATA, test_order_of_reserves);
	ADD("/store/discard", KVT_STORE_SYNC_DATA, test_discard);
	ADD("/store/stale_stays_away", KVT_STORE_SYNC_NONE, test_stale_stays_away);
	ADD("/store/tenants", KVT_STORE_SYNC_NONE, test_tenants);
	ADD("/store/capacity", KVT_STORE_SYNC_NONE, test_capacity);
	ADD("/store/gc", KVT_STORE_SYNC_DATA, test_gc);
	ADD("/store/readers_drain", KVT_STORE_SYNC_NONE, test_readers_drain);
	g_test_add_data_func("/store/eviction/oldest", GUINT_TO_POINTER(0), test_eviction);
	g_test_add_data_func("/store/eviction/chosen", GUINT_TO_POINTER(1), test_eviction);
	ADD("/store/reopening", KVT_STORE_SYNC_NONE, test_reopening);
	g_test_add_func("/store/memory", test_memory);
	g_test_add_func("/store/threads", test_threads);
	return g_test_run();
}
