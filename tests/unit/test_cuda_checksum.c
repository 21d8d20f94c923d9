/* test_cuda_checksum.c: checksums of pages by a CUDA device are those that libxxhash computes. */
#include <glib.h>
#include <xxhash.h>

#include "kernels/cuda_kernels.h"
#include "tests/unit/cuda_fixture.h"

#if KVT_CUDA

/* Pages of sizes[n], one after the other with a gap between, taken from the last to the first. */
static void check(const uint64_t *sizes, uint32_t n)
{
	g_autofree char *name =
		g_strdup_printf("%u pages, the first of %" G_GUINT64_FORMAT " bytes", n, sizes[0]);
	g_autofree uint64_t *at = g_new(uint64_t, n), *got = g_new(uint64_t, n);
	uint64_t total = 0;
	for (uint32_t i = 0; i < n; i++) {
		at[i] = total;
		total += sizes[i] + 16;
	}
	g_autofree uint8_t *host = g_malloc(total);
	for (uint64_t i = 0; i < total; i++)
		host[i] = (uint8_t)(((i + total) * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
	uint8_t *device = cuda_fixture_put(host, total);
	g_autofree kvt_cuda_page *pages = g_new(kvt_cuda_page, n);
	for (uint32_t i = 0; i < n; i++)
		pages[i] = (kvt_cuda_page){ device + at[n - 1 - i], sizes[n - 1 - i] };
	void *list = cuda_fixture_put(pages, n * sizeof(*pages));
	uint64_t *sums = cuda_fixture_put(NULL, n * sizeof(*sums));
	const int status = kvt_cuda_page_checksums(list, n, sums, NULL);
	if (status != 0)
		cuda_fixture_failed("%s: status %d", name, status);
	if (cuda_fixture_get(got, sums, n * sizeof(*got), name))
		for (uint32_t i = 0; i < n; i++) {
			const uint64_t bytes = sizes[n - 1 - i];
			const uint64_t sum = XXH3_64bits(host + at[n - 1 - i], bytes);
			if (got[i] == sum)
				continue;
			cuda_fixture_failed("%s: page %u, %" G_GUINT64_FORMAT
					    " bytes: %016" G_GINT64_MODIFIER
					    "x, expected %016" G_GINT64_MODIFIER "x",
				name, i, bytes, got[i], sum);
			break;
		}
	cuda_fixture_free(sums);
	cuda_fixture_free(list);
	cuda_fixture_free(device);
}
#else
static void check(const uint64_t *sizes, uint32_t n)
{
}
#endif

/* Around what the kernel does at once: 64 bytes, 1 KiB, 32 KiB. */
static void test_sums(void)
{
	static const uint64_t sizes[] = { 256, 272, 304, 320, 1008, 1024, 1040, 1072, 1088, 2032,
		2048, 2064, 3088, 4096, 16384, 16400, 32752, 32768, 32784, 33792, 33808, 65536,
		65552, 69632, 1048592, 2097152, 8388608, 8387600 };
	uint64_t same[13];
	if (!cuda_fixture_ready())
		return;
	for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
		check(&sizes[i], 1);
		for (unsigned k = 0; k < G_N_ELEMENTS(same); k++)
			same[k] = sizes[i];
		if (sizes[i] <= 65536)
			check(same, G_N_ELEMENTS(same));
	}
	check(sizes, G_N_ELEMENTS(sizes));
}

int main(int argc, char **argv)
{
	cuda_fixture_init(&argc, &argv);
	g_test_add_func("/cuda-checksum/sums", test_sums);
	return g_test_run();
}
