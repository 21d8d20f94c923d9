/* test_cuda_checksum.c: checksums of pages by a CUDA device are those that libxxhash computes. */
#include <glib.h>
#include <xxhash.h>

#include "kernels/cuda_kernels.h"
#include "tests/unit/cuda_fixture.h"

#if KVT_CUDA
#include <errno.h>

static void check(uint64_t page_bytes, uint32_t n)
{
	g_autofree char *name =
		g_strdup_printf("%u pages of %" G_GUINT64_FORMAT " bytes", n, page_bytes);
	/* a gap between pages, and they are taken from the last to the first */
	const uint64_t stride = page_bytes + 16;
	g_autofree uint8_t *host = g_malloc(n * stride);
	for (uint64_t i = 0; i < n * stride; i++)
		host[i] = (uint8_t)(((i + page_bytes) * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
	uint8_t *device = cuda_fixture_put(host, n * stride);
	g_autofree const void **pages = g_new(const void *, n);
	for (uint32_t i = 0; i < n; i++)
		pages[i] = device + (n - 1 - i) * stride;
	void *list = cuda_fixture_put(pages, n * sizeof(*pages));
	uint64_t *sums = cuda_fixture_put(NULL, n * sizeof(*sums));
	g_autofree uint64_t *got = g_new(uint64_t, n);
	const int status = kvt_cuda_page_checksums(list, page_bytes, n, sums, NULL);
	if (status != 0)
		cuda_fixture_failed("%s: status %d", name, status);
	if (cuda_fixture_get(got, sums, n * sizeof(*got), name))
		for (uint32_t i = 0; i < n; i++) {
			const uint64_t sum = XXH3_64bits(host + (n - 1 - i) * stride, page_bytes);
			if (got[i] == sum)
				continue;
			cuda_fixture_failed("%s: page %u: %016" G_GINT64_MODIFIER
					    "x, expected %016" G_GINT64_MODIFIER "x",
				name, i, got[i], sum);
			break;
		}
	cuda_fixture_free(sums);
	cuda_fixture_free(list);
	cuda_fixture_free(device);
}

static void check_refusals(void)
{
	g_assert_cmpint(kvt_cuda_page_checksums(NULL, 240, 1, NULL, NULL), ==, -EINVAL);
	g_assert_cmpint(kvt_cuda_page_checksums(NULL, 4104, 1, NULL, NULL), ==, -EINVAL);
}
#else
static void check(uint64_t page_bytes, uint32_t n)
{
}

static void check_refusals(void)
{
}
#endif

static void test_sums(void)
{
	static const uint64_t sizes[] = { 256, 272, 1008, 1024, 1040, 1088, 2048, 2064, 4096, 16384,
		2097152 };
	if (!cuda_fixture_ready())
		return;
	check_refusals();
	for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
		check(sizes[i], 1);
		check(sizes[i], 13);
	}
}

int main(int argc, char **argv)
{
	cuda_fixture_init(&argc, &argv);
	g_test_add_func("/cuda-checksum/sums", test_sums);
	return g_test_run();
}
