/* test_store_recovery.c: page stores whose files were cut short, changed, swapped or removed while
 * nobody had them open. What is served afterwards is right and the newest, or it is not served. */
#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "emu/store/store.h"
#include "emu/store/store_format.h"
#include "sim/base/rng.h"
#include "tests/unit/store_fixture.h"

enum { KIB = 1 << 10, MIB = 1 << 20, RUNS = 6 };

/* A store that was left with runs of several sizes, of which two were overwritten and one was
 * discarded; and what may be served of it. */
typedef struct fixture {
	char *origin, *path;
	kvt_store_run runs[RUNS];
	uint64_t versions[RUNS]; /* 0: discarded */
	uint64_t ends[RUNS + 3]; /* of the records in the segment */
	unsigned records;
	uint64_t key;
	unsigned verified;
} fixture;

static void put(fixture *f, kvt_store *store, unsigned i, uint64_t version)
{
	kvt_store_piece piece;
	unsigned n;
	g_assert_cmpint(store_put(store, &f->runs[i], version), ==, 0);
	g_assert_cmpint(kvt_store_find(store, &f->runs[i], &piece, 1, &n), ==, 0);
	f->ends[f->records++] = piece.offset + kvt_store_payload_bytes(&f->runs[i]);
	kvt_store_release(store, &piece, 1);
	f->versions[i] = version;
}

static void set_up(fixture *f, gconstpointer sealed)
{
	f->origin = store_folder_new();
	f->path = store_folder_new();
	f->key = 42;
	kvt_store_shape shape = { .capacity = 4 * MIB,
		.segment_bytes = 256 * KIB,
		.sync = KVT_STORE_SYNC_DATA,
		.key = f->key };
	g_assert_true(kvt_store_create(f->origin, &shape, NULL, NULL));
	kvt_store *store = store_reopen(f->origin, NULL);
	for (unsigned i = 0; i < RUNS; i++) {
		f->runs[i] = store_run(0, i, i, i, 1 + i % 3, 500 + 1000 * i);
		put(f, store, i, 1);
	}
	put(f, store, 2, 2);
	put(f, store, 4, 2);
	g_assert_cmpint(kvt_store_discard(store, &f->runs[1], 1, NULL), ==, 0);
	f->versions[1] = 0;
	if (GPOINTER_TO_UINT(sealed))
		store_close(store);
	else
		kvt_store_drop(store);
	store_copy(f->origin, f->path);
}

static void tear_down(fixture *f, gconstpointer sealed)
{
	store_folder_free(f->origin);
	store_folder_free(f->path);
}

static void count_line(void *arg, const char *line)
{
	g_assert_null(strpbrk(line, "\n\r"));
	(*(unsigned *)arg)++;
}

/* Opens it and verifies whatever it serves: whole, and of the newest version. Returns the runs that
 * are served. */
static unsigned verify(fixture *f, unsigned *notices)
{
	unsigned served = 0, ignored = 0;
	kvt_store_settings settings = { .notice = count_line, .arg = notices ? notices : &ignored };
	kvt_store *store = store_reopen(f->path, &settings);
	for (unsigned i = 0; i < RUNS; i++) {
		const kvt_extent *pages = &f->runs[i].pages;
		g_autofree uint8_t *content = g_malloc(kvt_extent_bytes(pages));
		int status = kvt_store_get(store, &f->runs[i], content);
		g_assert_true(
			status == 0 || status == -ENOENT || status == -EBADMSG || status == -EIO);
		for (uint64_t p = 0; p < pages->n_pages && status == 0; p++)
			g_assert_cmpint(store_version(&f->runs[i], pages->first_page + p,
						content + p * pages->page_bytes),
				==, (int64_t)f->versions[i]);
		g_assert_true(status != 0 || f->versions[i] > 0);
		served += status == 0;
	}
	if (f->verified++ % 16 > 0) {
		kvt_store_drop(store);
		return served;
	}
	/* it goes on working */
	kvt_store_run more = store_run(5, 5, 5, 0, 2, 3000);
	g_assert_cmpint(store_put(store, &more, 9), ==, 0);
	store_close(store);
	store = store_reopen(f->path, NULL);
	store_expect(store, &more, 9);
	store_close(store);
	return served;
}

static void truncate_to(const fixture *f, uint64_t size)
{
	store_copy(f->origin, f->path);
	g_autofree char *file = store_segment_path(f->path, 0);
	g_assert_cmpint(truncate(file, (off_t)size), ==, 0);
}

/* Runs whose newest record ends at or before `size`. */
static unsigned whole_before(const fixture *f, uint64_t size)
{
	unsigned whole = 0;
	for (unsigned i = 0; i < RUNS; i++) {
		unsigned record = i == 2 ? RUNS : i == 4 ? RUNS + 1 : i;
		whole += f->versions[i] > 0 && f->ends[record] <= size;
	}
	return whole;
}

static void test_truncated(fixture *f, gconstpointer sealed)
{
	g_autofree char *file = store_segment_path(f->origin, 0);
	uint64_t size = store_file_size(file);
	g_assert_cmpuint(verify(f, NULL), ==, RUNS - 1);
	for (unsigned i = 0; i < f->records; i++) {
		static const int64_t odd[] = { 0, -1, 1, -511, 700, -4096, 4096, -4095 };
		for (unsigned k = 0; k < G_N_ELEMENTS(odd); k++) {
			uint64_t at = (uint64_t)((int64_t)f->ends[i] + odd[k]);
			if (at > size)
				continue;
			truncate_to(f, at);
			g_assert_cmpuint(verify(f, NULL), ==, whole_before(f, at));
		}
	}
	for (uint64_t at = 0; at < 3 * 4096; at += 1365) {
		truncate_to(f, at);
		g_assert_cmpuint(verify(f, NULL), ==, 0);
	}
	for (uint64_t cut = 1; cut < 4 * 4096; cut += 1000) {
		truncate_to(f, size - cut);
		g_assert_cmpuint(verify(f, NULL), ==, whole_before(f, size - cut));
	}
}

/* A bit anywhere in a segment: at most the run that it is in is lost, and that is noticed. */
static void test_flips(fixture *f, gconstpointer sealed)
{
	g_autofree char *origin = store_segment_path(f->origin, 0);
	uint64_t size = MIN(store_file_size(origin), f->ends[f->records - 1] + 8192);
	kvt_rng rng = kvt_rng_init(1, 2);
	unsigned lost = 0;
	for (unsigned i = 0; i < 300; i++) {
		store_copy(f->origin, f->path);
		g_autofree char *file = store_segment_path(f->path, 0);
		store_flip(file, kvt_rng_below(&rng, size), i % 8);
		unsigned served = verify(f, NULL);
		g_assert_cmpuint(served, >=, RUNS - 2);
		lost += served == RUNS - 2;
	}
	g_assert_cmpuint(lost, >, 20);
}

/* Each part of each block of the index and of headers, since they decide what is looked at. */
static void test_flips_of_blocks(fixture *f, gconstpointer sealed)
{
	g_autofree char *origin = store_segment_path(f->origin, 0);
	uint64_t size = store_file_size(origin);
	uint64_t blocks[] = { 0, 4096, f->ends[0], f->ends[2], size - 4096, size - 8192 };
	for (unsigned b = 0; b < G_N_ELEMENTS(blocks); b++) {
		for (unsigned byte = 0; byte < 160; byte += 3) {
			store_copy(f->origin, f->path);
			g_autofree char *file = store_segment_path(f->path, 0);
			store_flip(file, blocks[b] + byte, byte % 8);
			g_assert_cmpuint(verify(f, NULL), >=, RUNS - 2);
		}
	}
}

/* The journal has each block twice; the store's file its superblock. */
static void test_flips_beside(fixture *f, gconstpointer sealed)
{
	static const char *const names[] = { "journal", "kvtier.store" };
	for (unsigned k = 0; k < G_N_ELEMENTS(names); k++) {
		for (unsigned i = 0; i < 60; i++) {
			store_copy(f->origin, f->path);
			g_autofree char *file = g_build_filename(f->path, names[k], NULL);
			store_flip(file, i * 137 % store_file_size(file), i % 8);
			g_assert_cmpuint(verify(f, NULL), ==, RUNS - 1);
		}
	}
}

/* Without the journal it is not known what is void: nothing is served, and that is said. */
static void test_journal_lost(fixture *f, gconstpointer sealed)
{
	g_autofree char *journal = g_build_filename(f->path, "journal", NULL);
	unsigned notices = 0;
	g_assert_cmpint(g_unlink(journal), ==, 0);
	g_assert_cmpuint(verify(f, &notices), ==, 0);
	g_assert_cmpuint(notices, ==, 1);
	store_copy(f->origin, f->path);
	store_flip(journal, 100, 1);
	store_flip(journal, 4096 + 200, 1);
	g_assert_cmpuint(verify(f, &notices), ==, 0);
	g_assert_cmpuint(notices, ==, 2);
}

static void test_super_lost(fixture *f, gconstpointer sealed)
{
	g_autofree char *file = g_build_filename(f->path, "kvtier.store", NULL);
	g_autoptr(GError) error = NULL;
	/* one copy is said to be damaged, and mended: the other may go next */
	for (unsigned copy = 0; copy < 2; copy++) {
		unsigned notices = 0;
		store_flip(file, copy * 4096 + 30, 1);
		g_assert_cmpuint(verify(f, &notices), ==, RUNS - 1);
		g_assert_cmpuint(notices, ==, 1);
	}
	store_flip(file, 30, 1);
	store_flip(file, 4096 + 40, 1);
	g_assert_null(kvt_store_open(f->path, NULL, &error));
	g_assert_nonnull(strstr(error->message, "is damaged"));
	g_clear_error(&error);
	g_assert_cmpint(truncate(file, 0), ==, 0);
	g_assert_null(kvt_store_open(f->path, NULL, &error));
	g_clear_error(&error);
	g_assert_cmpint(g_unlink(file), ==, 0);
	g_assert_null(kvt_store_open(f->path, NULL, &error));
	g_assert_nonnull(strstr(error->message, "is not a page store"));
}

/* A segment that is gone takes its pages with it, and older versions of them stay void. */
static void test_segment_missing(fixture *f, gconstpointer sealed)
{
	kvt_store *store = store_reopen(f->path, NULL);
	kvt_store_run old = store_run(1, 1, 1, 0, 2, 4096), kept = store_run(1, 2, 1, 0, 2, 4096);
	g_assert_cmpint(store_put(store, &old, 1), ==, 0);
	g_assert_cmpint(store_put(store, &kept, 1), ==, 0);
	g_assert_cmpint(kvt_store_seal(store), ==, 0);
	g_assert_cmpint(store_put(store, &old, 2), ==, 0);
	store_close(store);
	g_autofree char *last = store_segment_path(f->path, 1);
	g_assert_cmpint(g_unlink(last), ==, 0);
	unsigned notices = 0;
	kvt_store_settings settings = { .notice = count_line, .arg = &notices };
	store = store_reopen(f->path, &settings);
	g_assert_cmpuint(notices, ==, 1);
	kvt_store_info info;
	kvt_store_info_get(store, &info);
	g_assert_cmpuint(info.lost_segments, ==, 1);
	g_assert_cmpuint(kvt_store_count(store, &old), ==, 0);
	store_expect(store, &kept, 1);
	store_close(store);
}

/* Files of an earlier time, or of another store, are not taken for ours. */
static void test_foreign_segments(fixture *f, gconstpointer sealed)
{
	g_autofree char *first = store_segment_path(f->path, 0);
	g_autofree char *stranger = g_build_filename(f->path, "00000000000000ff.segment", NULL);
	g_autofree char *data = NULL;
	gsize size;
	g_assert_true(g_file_get_contents(first, &data, &size, NULL));
	g_assert_true(g_file_set_contents(stranger, data, (gssize)size, NULL));
	g_assert_cmpuint(verify(f, NULL), ==, RUNS - 1);
	g_assert_false(g_file_test(stranger, G_FILE_TEST_EXISTS));
	/* the same records, under another number */
	store_copy(f->origin, f->path);
	kvt_store *store = store_reopen(f->path, NULL);
	kvt_store_run run = store_run(3, 3, 3, 0, 2, 4096), fill = store_run(3, 4, 3, 0, 2, 4096);
	g_assert_cmpint(store_put(store, &fill, 1), ==, 0);
	kvt_store_seal(store);
	g_assert_cmpint(store_put(store, &run, 1), ==, 0);
	store_close(store);
	g_autofree char *second = store_segment_path(f->path, 1);
	g_assert_true(g_file_set_contents(second, data, (gssize)size, NULL));
	store = store_reopen(f->path, NULL);
	kvt_store_info info;
	kvt_store_info_get(store, &info);
	g_assert_cmpuint(kvt_store_count(store, &run), ==, 0);
	g_assert_cmpuint(info.damaged, <=, 1);
	store_close(store);
	store_copy(f->origin, f->path);
	g_assert_cmpuint(verify(f, NULL), ==, RUNS - 1);
}

/* Pages that hold what looks like a record are not taken for one, wherever a scan meets them. */
static void test_pages_like_records(fixture *f, gconstpointer sealed)
{
	kvt_store *store = store_reopen(f->path, NULL);
	kvt_store_run forger = store_run(6, 6, 6, 0, 3, 4096),
		      victim = store_run(8, 8, 8, 0, 1, 4096);
	kvt_store_ticket ticket;
	g_assert_cmpint(kvt_store_reserve(store, &forger, &ticket), ==, 0);
	g_autofree uint8_t *pages = g_malloc0(3 * 4096);
	kvt_store_segment segment;
	kvt_store_segments(store, &segment, 1);
	kvt_store_header header = { .run = victim,
		.generation = 1000,
		.segment = segment.number,
		.offset = ticket.offset + ticket.header_bytes };
	uint64_t checksum = kvt_store_checksum(pages, 4096);
	/* it knows everything but the store's key */
	kvt_store_header_encode(f->key + 1, &header, &checksum, pages);
	g_assert_cmpint(kvt_store_write_all(&kvt_store_system_io, ticket.fd, pages, 3 * 4096,
				ticket.offset + ticket.header_bytes),
		==, 0);
	kvt_store_drop(store); /* the record's own header was never written */
	store = store_reopen(f->path, NULL);
	g_assert_cmpuint(kvt_store_count(store, &victim), ==, 0);
	store_close(store);
}

/* Reads that find something wrong forget it for good. */
static void test_check_and_forget(fixture *f, gconstpointer sealed)
{
	g_autofree char *file = store_segment_path(f->path, 0);
	kvt_store *store = store_reopen(f->path, NULL);
	kvt_store_piece piece;
	unsigned n, lines = 0;
	g_assert_cmpint(kvt_store_find(store, &f->runs[5], &piece, 1, &n), ==, 0);
	kvt_store_release(store, &piece, 1);
	kvt_store_report report;
	g_assert_true(kvt_store_check(store, &report, count_line, &lines, NULL));
	g_assert_cmpuint(report.bad_segments + report.bad_records + report.bad_pages, ==, 0);
	g_assert_cmpuint(report.records, ==, RUNS + 2);
	g_assert_cmpuint(lines, ==, 0);
	store_flip(file, piece.offset + piece.page_bytes + 17, 3);
	store_flip(file, f->ends[1] + 50, 3);
	g_assert_true(kvt_store_check(store, &report, count_line, &lines, NULL));
	g_assert_cmpuint(report.bad_pages, ==, 1);
	g_assert_cmpuint(report.bad_records, ==, 1);
	g_assert_cmpuint(lines, ==, 2);
	g_autofree uint8_t *pages = g_malloc(kvt_extent_bytes(&f->runs[5].pages));
	g_assert_cmpint(kvt_store_get(store, &f->runs[5], pages), ==, -EBADMSG);
	g_assert_cmpint(kvt_store_get(store, &f->runs[5], pages), ==, -ENOENT);
	g_assert_cmpuint(kvt_store_count(store, &f->runs[5]), ==, 2);
	kvt_store_info info;
	kvt_store_info_get(store, &info);
	g_assert_cmpuint(info.corrupt_pages, ==, 1);
	store_close(store);
	store = store_reopen(f->path, NULL);
	g_assert_cmpuint(kvt_store_count(store, &f->runs[5]), ==, 2);
	store_close(store);
}

/* Files of the first version keep loading. */
static void test_golden(void)
{
	char *path = store_folder_new();
	store_copy("tests/golden/store", path);
	kvt_store *store = store_reopen(path, NULL);
	kvt_store_run there = store_run(0, 1, 0, 0, 3, 1000),
		      twice = store_run(0, 2, 5, 7, 1, 1000);
	kvt_store_run gone = store_run(1, 1, 0, 0, 2, 1000);
	store_expect(store, &there, 1);
	store_expect(store, &twice, 2);
	g_assert_cmpuint(kvt_store_count(store, &gone), ==, 0);
	store_close(store);
	store_folder_free(path);
}

static void test_format(void)
{
	uint64_t checksums[700], back[700];
	uint8_t *blocks = g_malloc(3 * KVT_STORE_BLOCK);
	for (unsigned i = 0; i < 700; i++)
		checksums[i] = i * UINT64_C(0x123456789abcdef);
	kvt_store_header header = { .run = store_run(1, 2, 3, UINT64_MAX - 700, 700, 12345),
		.generation = 99,
		.segment = 7,
		.offset = 8192 };
	header.run.model = UINT64_MAX;
	g_assert_cmpuint(kvt_store_header_bytes(&header.run), ==, 2 * KVT_STORE_BLOCK);
	kvt_store_header_encode(5, &header, checksums, blocks);
	kvt_store_header found = { 0 };
	g_assert_false(kvt_store_header_peek(6, blocks, &found));
	g_assert_true(kvt_store_header_peek(5, blocks, &found));
	g_assert_cmpuint(found.run.model, ==, UINT64_MAX);
	g_assert_true(found.run.tenant == 1 && found.run.pages.context == 2 &&
		      found.run.pages.layer == 3 && found.run.pages.n_pages == 700 &&
		      found.run.pages.first_page == UINT64_MAX - 700 &&
		      found.run.pages.page_bytes == 12345 && found.generation == 99 &&
		      found.segment == 7 && found.offset == 8192);
	g_assert_true(kvt_store_header_decode(5, &found, blocks, back));
	g_assert_cmpmem(checksums, sizeof(checksums), back, sizeof(back));
	for (unsigned bit = 0; bit < 2 * KVT_STORE_BLOCK * 8; bit += 13) {
		blocks[bit / 8] ^= (uint8_t)(1u << bit % 8);
		g_assert_false(kvt_store_header_peek(5, blocks, &found) &&
			       kvt_store_header_decode(5, &found, blocks, back));
		blocks[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	kvt_store_shape shape = { 1 << 20, 1 << 16, KVT_STORE_SYNC_DATA, 77 }, read;
	kvt_store_super_encode(&shape, blocks);
	g_assert_cmpint(kvt_store_super_decode(blocks, &read), ==, 0);
	g_assert_true(read.capacity == 1 << 20 && read.segment_bytes == 1 << 16 &&
		      read.sync == KVT_STORE_SYNC_DATA && read.key == 77);
	blocks[8]++;
	g_assert_cmpint(kvt_store_super_decode(blocks, &read), ==, -EBADMSG);
	g_free(blocks);
}

#define ADD(name, sealed, test)                                                                    \
	g_test_add(name, fixture, GUINT_TO_POINTER(sealed), set_up, test, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/store_recovery/format", test_format);
	g_test_add_func("/store_recovery/golden", test_golden);
	ADD("/store_recovery/truncated/sealed", 1, test_truncated);
	ADD("/store_recovery/truncated/open", 0, test_truncated);
	ADD("/store_recovery/flips/sealed", 1, test_flips);
	ADD("/store_recovery/flips/open", 0, test_flips);
	ADD("/store_recovery/flips_of_blocks", 1, test_flips_of_blocks);
	ADD("/store_recovery/flips_beside", 1, test_flips_beside);
	ADD("/store_recovery/journal_lost", 1, test_journal_lost);
	ADD("/store_recovery/super_lost", 1, test_super_lost);
	ADD("/store_recovery/segment_missing", 1, test_segment_missing);
	ADD("/store_recovery/foreign_segments", 1, test_foreign_segments);
	ADD("/store_recovery/pages_like_records", 0, test_pages_like_records);
	ADD("/store_recovery/check_and_forget", 1, test_check_and_forget);
	return g_test_run();
}
