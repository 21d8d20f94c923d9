/* test_cuda_gpu.c: the contract of a GPU on a card with CUDA; without one, that says so in a line.
 */
#include <glib.h>
#include <string.h>

#include "emu/gpu/cuda_gpu.h"
#include "tests/unit/gpu_conformance.h"

static kvt_real_gpu *open_card(uint64_t cap)
{
	const kvt_cuda_gpu_settings settings = { .cap = cap };
	return kvt_cuda_gpu_new(&settings, NULL);
}

/* What it says of itself, or why there is none. */
static void test_open(void)
{
	g_autoptr(GError) error = NULL;
	kvt_real_gpu *gpu = kvt_cuda_gpu_new(NULL, &error);
	if (!gpu) {
		g_assert_nonnull(error);
		g_assert_null(strchr(error->message, '\n'));
		g_autofree char *why = g_strdup_printf("NO GPU WAS TESTED: %s", error->message);
		g_test_skip(why);
		return;
	}
	kvt_gpu_description d;
	gpu->ops->describe(gpu, &d);
	g_test_message("%s at %s, %u processors, %.1f GB; %s", d.name, d.bus, d.processors,
		(double)d.memory * 1e-9, d.versions);
	g_assert_cmpuint(d.processors, >, 0);
	gpu->ops->free(gpu);
	/* more than any card has */
	const kvt_cuda_gpu_settings settings = { .cap = UINT64_C(1) << 50 };
	g_assert_null(kvt_cuda_gpu_new(&settings, &error));
	g_assert_nonnull(strstr(error->message, "expected as much as the cap"));
}

int main(int argc, char **argv)
{
	static const gpu_conformance suite = { .name = "cuda-gpu",
		.open = open_card,
		.missing = "NO GPU WAS TESTED: no CUDA, or no card",
		.wait_slack = 20 * KVT_MICROSECOND };
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/cuda-gpu/open", test_open);
	gpu_conformance_add(&suite);
	return g_test_run();
}
