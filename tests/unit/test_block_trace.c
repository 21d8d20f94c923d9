/*
 * test_block_trace.c: block traces from every form they are read in, dense ids against a hash table
 * of another make, next accesses, Zipf's shares, and what is refused.
 */
#include <glib.h>
#include <glib/gstdio.h>
#include <math.h>
#include <string.h>

#include "sim/base/rng.h"
#include "traces/block_trace.h"
#include "traces/block_zipf.h"
#include "traces/dense_ids.h"

static char *folder;

/* A file of that content; its path, valid until the next call. */
static const char *file_of(const void *content, gssize bytes)
{
	static char *path;
	g_autoptr(GError) error = NULL;
	g_free(path);
	path = g_build_filename(folder, "trace", NULL);
	g_file_set_contents(path, content, bytes, &error);
	g_assert_no_error(error);
	return path;
}

static kvt_block_trace *open_good(const char *path, kvt_block_source source)
{
	g_autoptr(GError) error = NULL;
	kvt_block_trace *trace = kvt_block_trace_open(path, source, &error);
	g_assert_no_error(error);
	return trace;
}

static void test_dense_ids(void)
{
	enum { KEYS = 200000, BATCHES = 7 };
	g_autoptr(GHashTable) seen =
		g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
	kvt_rng rng = kvt_rng_init(41, 1);
	kvt_dense_ids ids;
	kvt_dense_ids_init(&ids);
	g_autofree uint64_t *keys = g_new(uint64_t, KEYS);
	g_autofree uint32_t *to = g_new(uint32_t, KEYS);
	for (unsigned batch = 0; batch < BATCHES; batch++) {
		for (unsigned i = 0; i < KEYS; i++)
			keys[i] = batch % 2 ? kvt_rng_below(&rng, 50000) * UINT64_C(0x100000001)
					    : kvt_rng_next(&rng) >> 46;
		keys[3] = 0;
		keys[4] = UINT64_MAX;
		size_t n = batch == 0 ? 5 : KEYS - batch;
		g_assert_true(kvt_dense_ids_number(&ids, keys, n, to));
		for (size_t i = 0; i < n; i++) {
			gpointer number;
			if (!g_hash_table_lookup_extended(seen, &keys[i], NULL, &number)) {
				number = GUINT_TO_POINTER(g_hash_table_size(seen));
				gint64 *key = g_new(gint64, 1);
				memcpy(key, &keys[i], sizeof(*key));
				g_hash_table_insert(seen, key, number);
			}
			g_assert_cmpuint(to[i], ==, GPOINTER_TO_UINT(number));
		}
		g_assert_cmpuint(ids.count, ==, g_hash_table_size(seen));
	}
	g_assert_cmpuint(ids.count, >, 100000);
	kvt_dense_ids_clear(&ids);
}

/* Keys that are alike in all but a few bits, in order and again. */
static void test_similar_keys(void)
{
	enum { KEYS = 100000 };
	g_autofree uint64_t *keys = g_new(uint64_t, KEYS);
	g_autofree uint32_t *to = g_new(uint32_t, KEYS);
	for (unsigned shift = 0; shift < 48; shift += 12) {
		kvt_dense_ids ids;
		kvt_dense_ids_init(&ids);
		for (unsigned round = 0; round < 2; round++) {
			for (uint64_t i = 0; i < KEYS; i++)
				keys[i] = i << shift;
			g_assert_true(kvt_dense_ids_number(&ids, keys, KEYS, to));
			for (unsigned i = 0; i < KEYS; i++)
				g_assert_cmpuint(to[i], ==, i);
		}
		g_assert_cmpuint(ids.count, ==, KEYS);
		kvt_dense_ids_clear(&ids);
	}
}

static void assert_trace(const kvt_block_trace *trace, const char *blocks, const char *bytes)
{
	GString *is = g_string_new(NULL), *sizes = g_string_new(NULL);
	for (uint64_t i = 0; i < trace->n_accesses; i++) {
		g_string_append_printf(is, "%u ", trace->blocks[i]);
		if (trace->bytes)
			g_string_append_printf(sizes, "%u ", trace->bytes[i]);
	}
	if (!trace->bytes)
		g_string_printf(sizes, "all %u", trace->block_bytes);
	g_assert_cmpstr(is->str, ==, blocks);
	g_assert_cmpstr(sizes->str, ==, bytes);
	g_string_free(is, TRUE);
	g_string_free(sizes, TRUE);
}

static void test_text(void)
{
	static const struct {
		const char *text, *blocks, *bytes;
	} cases[] = {
		{ "7\n5\n7\n", "0 1 0 ", "all 0" },
		{ "7\r\n# a word\r\n\r\n five \r\n007\r\nfive", "0 1 0 1 ", "all 0" },
		{ "a,10\nb,20\na,10\n", "0 1 0 ", "10 20 10 " },
		{ "a 10\nb\t10\na , 10\n", "0 1 0 ", "all 10" },
		{ "a,10\nb,0\na,10\n", "0 0 ", "all 10" },
		{ "time,size,obj_id\n1,4,x\n2,8,y\n3,4,x\n", "0 1 0 ", "4 8 4 " },
		{ "Block\n18446744073709551615\n18446744073709551616\n", "0 1 ", "all 0" },
		{ "\xef\xbb\xbfid\n1\n1\n", "0 0 ", "all 0" },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		const char *path = file_of(cases[i].text, -1);
		g_autoptr(kvt_block_trace) trace = open_good(path, KVT_BLOCK_SOURCE_AUTO);
		assert_trace(trace, cases[i].blocks, cases[i].bytes);
	}
	g_autoptr(kvt_block_trace) trace =
		open_good(file_of("a,10\nb,0\na,10\n", -1), KVT_BLOCK_SOURCE_TEXT);
	g_assert_cmpuint(trace->n_empty, ==, 1);
}

/* Written and read again it is the same; the bytes are those that libCacheSim documents. */
static void test_oracle(void)
{
	/* time, id, bytes, next access; the last two have none */
	static const char bytes[] = "\1\0\0\0"
				    "\xff\0\0\0\0\0\0\x80"
				    "\0\1\0\0"
				    "\2\0\0\0\0\0\0\0"
				    "\1\0\0\0"
				    "\xff\0\0\0\0\0\0\x80"
				    "\0\1\0\0"
				    "\xff\xff\xff\xff\xff\xff\xff\xff"
				    "\2\0\0\0"
				    "\1\0\0\0\0\0\0\0"
				    "\7\0\0\0"
				    "\xff\xff\xff\xff\xff\xff\xff\x7f";
	g_autoptr(GError) error = NULL;
	g_autofree char *copy = g_build_filename(folder, "copy", NULL);
	for (int round = 0; round < 2; round++) {
		const char *path = round == 0 ? file_of(bytes, sizeof(bytes) - 1) : copy;
		g_autoptr(kvt_block_trace) trace = open_good(
			path, round == 0 ? KVT_BLOCK_SOURCE_AUTO : KVT_BLOCK_SOURCE_ORACLE);
		assert_trace(trace, "0 0 1 ", "256 256 7 ");
		g_assert_true(kvt_block_trace_write(trace, copy, &error));
		g_assert_no_error(error);
	}
	g_autofree char *written = NULL;
	gsize length;
	g_assert_true(g_file_get_contents(copy, &written, &length, NULL));
	g_assert_cmpuint(length, ==, 72);
	g_assert_cmpint(written[4], ==, 1);           /* ids from 1 */
	g_assert_cmpint(written[16], ==, 2);          /* the next access, from 1 */
	g_assert_cmpint((int8_t)written[71], ==, -1); /* none */
	g_remove(copy);
}

static void test_requests(void)
{
	const char *lines = "{\"timestamp\": 0, \"input_length\": 1030, \"output_length\": 5, "
			    "\"hash_ids\": [4, 9, 11]}\n"
			    "{\"timestamp\": 10, \"input_length\": 600, \"output_length\": 5, "
			    "\"hash_ids\": [4, 8]}\n";
	g_autoptr(kvt_block_trace) trace = open_good(file_of(lines, -1), KVT_BLOCK_SOURCE_AUTO);
	assert_trace(trace, "0 1 2 0 3 ", "all 0");
}

static void test_next_uses(void)
{
	kvt_zipf zipf = { .alpha = 0.7, .n_blocks = 90, .n_accesses = 2000, .seed = 3 };
	g_autoptr(kvt_block_trace) trace = kvt_block_zipf(&zipf);
	g_autofree uint32_t *next = g_new(uint32_t, trace->n_accesses);
	kvt_block_trace_next_uses(trace, next);
	for (uint32_t i = 0; i < trace->n_accesses; i++) {
		uint32_t j = i + 1;
		while (j < trace->n_accesses && trace->blocks[j] != trace->blocks[i])
			j++;
		g_assert_cmpuint(next[i], ==, j < trace->n_accesses ? j : UINT32_MAX);
	}
}

/* Each block's share is within five standard deviations of what it should be. */
static void test_zipf(void)
{
	enum { BLOCKS = 50, ACCESSES = 200000 };
	for (double alpha = 0; alpha < 2; alpha += 0.5) {
		kvt_zipf zipf = {
			.alpha = alpha, .n_blocks = BLOCKS, .n_accesses = ACCESSES, .seed = 5
		};
		g_autoptr(kvt_block_trace) trace = kvt_block_zipf(&zipf);
		g_autoptr(kvt_block_trace) again = kvt_block_zipf(&zipf);
		g_assert_cmpmem(trace->blocks, ACCESSES * sizeof(uint32_t), again->blocks,
			ACCESSES * sizeof(uint32_t));
		g_assert_cmpuint(trace->n_blocks, ==, BLOCKS);
		unsigned count[BLOCKS] = { 0 };
		for (unsigned i = 0; i < ACCESSES; i++)
			count[trace->blocks[i]]++;
		double sum = 0;
		for (unsigned k = 1; k <= BLOCKS; k++)
			sum += pow(k, -alpha);
		/* ids are by first access: the k-th largest count is the k-th block's */
		for (unsigned k = 1; k <= 5 && alpha >= 1; k++) {
			unsigned largest = 0;
			for (unsigned b = 0; b < BLOCKS; b++)
				largest = count[b] > count[largest] ? b : largest;
			double share = pow(k, -alpha) / sum;
			g_assert_cmpfloat_with_epsilon(count[largest], ACCESSES * share,
				5 * sqrt(ACCESSES * share * (1 - share)));
			count[largest] = 0;
		}
		for (unsigned b = 0; b < BLOCKS && alpha == 0; b++)
			g_assert_cmpfloat_with_epsilon(
				count[b], ACCESSES / BLOCKS, 5 * sqrt(ACCESSES / BLOCKS));
	}
}

static void test_refused(void)
{
	static const struct {
		const char *content, *says;
		gssize bytes;
		kvt_block_source source;
	} cases[] = {
		{ "", "is empty", 0, KVT_BLOCK_SOURCE_AUTO },
		{ "# nothing\n\n", "has no accesses", -1, KVT_BLOCK_SOURCE_AUTO },
		{ "id,size\n", "has no accesses", -1, KVT_BLOCK_SOURCE_AUTO },
		{ "1,2,3\n", "trace:1: 3 columns and none is named \"id\"", -1,
			KVT_BLOCK_SOURCE_AUTO },
		{ "id,size\n1\n", "trace:2: column 2 is missing, expected an id and bytes", -1,
			KVT_BLOCK_SOURCE_AUTO },
		{ "1,5\n1,-5\n", "trace:2: bytes: \"-5\", expected", -1, KVT_BLOCK_SOURCE_AUTO },
		{ "1,4294967296\n", "trace:1: bytes: ", -1, KVT_BLOCK_SOURCE_AUTO },
		{ "12345678901234567890123456", "26 bytes, expected records of 24", -1,
			KVT_BLOCK_SOURCE_ORACLE },
		{ "\x28\xb5\x2f\xfd\1\2\3", "is compressed", 7, KVT_BLOCK_SOURCE_AUTO },
		{ "\1\0\0\0\1", "is not known", 5, KVT_BLOCK_SOURCE_AUTO },
		{ "{\"a\": 1}\n", "trace", -1, KVT_BLOCK_SOURCE_AUTO },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autoptr(GError) error = NULL;
		const char *path = file_of(cases[i].content, cases[i].bytes);
		g_assert_null(kvt_block_trace_open(path, cases[i].source, &error));
		g_assert_nonnull(error);
		g_assert_nonnull(strstr(error->message, cases[i].says));
		g_assert_null(strchr(error->message, '\n'));
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_autoptr(GError) error = NULL;
	folder = g_dir_make_tmp("kvtier-XXXXXX", &error);
	g_assert_no_error(error);
	g_test_add_func("/block-trace/dense-ids", test_dense_ids);
	g_test_add_func("/block-trace/similar-keys", test_similar_keys);
	g_test_add_func("/block-trace/text", test_text);
	g_test_add_func("/block-trace/oracle", test_oracle);
	g_test_add_func("/block-trace/requests", test_requests);
	g_test_add_func("/block-trace/next-uses", test_next_uses);
	g_test_add_func("/block-trace/zipf", test_zipf);
	g_test_add_func("/block-trace/refused", test_refused);
	int status = g_test_run();
	g_autofree char *path = g_build_filename(folder, "trace", NULL);
	g_remove(path);
	g_rmdir(folder);
	g_free(folder);
	return status;
}
