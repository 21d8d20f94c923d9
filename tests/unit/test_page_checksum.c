/* test_page_checksum.c: pages' checksums are XXH3's at any length and place, however computed. */
#include "emu/store/page_checksum.h"

#include <glib.h>
#include <xxhash.h>

#include "sim/base/rng.h"

enum { BYTES = 1 << 20 };

static void check(const uint8_t *at, uint64_t bytes)
{
	uint64_t right = XXH3_64bits(at, bytes);
	g_assert_cmphex(kvt_page_checksum(at, bytes), ==, right);
	g_assert_cmphex(kvt_page_checksum_plain(at, bytes), ==, right);
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx2"))
		g_assert_cmphex(kvt_page_checksum_avx2(at, bytes), ==, right);
#endif
}

static void test_lengths(void)
{
	kvt_rng rng = kvt_rng_init(3, 1);
	uint64_t *words = g_aligned_alloc(1, BYTES, 4096);
	for (unsigned i = 0; i < BYTES / 8; i++)
		words[i] = kvt_rng_next(&rng);
	const uint8_t *page = (const uint8_t *)words;
	for (uint64_t bytes = 0; bytes < 3000; bytes++)
		check(page + bytes % 67, bytes);
	for (unsigned i = 0; i < 200; i++) {
		uint64_t at = kvt_rng_below(&rng, BYTES);
		check(page + at, kvt_rng_below(&rng, BYTES - at));
	}
	check(page, 16384);
	check(page, BYTES);
	/* of other bytes it is another */
	uint64_t before = kvt_page_checksum(page, 16384);
	words[1000] ^= 1;
	g_assert_cmphex(kvt_page_checksum(page, 16384), !=, before);
	g_aligned_free(words);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/page-checksum/lengths", test_lengths);
	return g_test_run();
}
