/* calibrate_gpu_products.c: matrix products of the shapes that the language models in models/llm
 * have, whole and shared by four GPUs, by tokens. */
#include <errno.h>

#include "emu/calibrate/gpu_bench.h"
#include "models/llm.h"
#include "models/llm_cost.h"
#include "models/model_file.h"

static const int64_t TOKENS[] = { 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096 };
static const int64_t QUICK_TOKENS[] = { 1, 16, 128, 1024, 4096 };
static const unsigned RANKS[] = { 1, 4 };

typedef struct shape {
	int64_t n, k;
	bool fp8;
} shape;

static void add_shape(GArray *shapes, const kvt_llm_gemm *gemm)
{
	shape s = { (int64_t)gemm->n, (int64_t)gemm->k, gemm->dtype == KVT_DTYPE_FP8 };
	bool known = false;
	for (unsigned i = 0; i < shapes->len; i++) {
		const shape *other = &g_array_index(shapes, shape, i);
		known |= other->n == s.n && other->k == s.k && other->fp8 == s.fp8;
	}
	if (!known)
		g_array_append_val(shapes, s);
}

static gboolean add_model(GArray *shapes, const char *name, GError **error)
{
	g_autoptr(kvt_llm) llm = kvt_llm_load(name, error);
	if (!llm)
		return FALSE;
	for (unsigned r = 0; r < G_N_ELEMENTS(RANKS); r++) {
		if (!kvt_llm_check_ranks(llm, RANKS[r], NULL))
			continue;
		kvt_llm_gemm gemms[KVT_LLM_GEMMS_MAX];
		/* layers differ in their MLPs alone: dense or experts */
		for (unsigned layer = 0; layer < MIN(llm->n_layers, 2); layer++) {
			unsigned n = kvt_llm_layer_gemms(llm, layer, 1, RANKS[r], true, gemms);
			for (unsigned i = 0; i < n; i++)
				add_shape(shapes, &gemms[i]);
		}
		kvt_llm_gemm head = kvt_llm_head_gemm(llm, 1, RANKS[r]);
		add_shape(shapes, &head);
	}
	return TRUE;
}

static GArray *all_shapes(GError **error)
{
	GArray *shapes = g_array_new(FALSE, TRUE, sizeof(shape));
	g_auto(GStrv) names = kvt_model_names(KVT_MODEL_LLM, error);
	bool good = names != NULL;
	for (char **name = names; good && *name; name++)
		good = add_model(shapes, *name, error);
	if (good)
		return shapes;
	g_array_unref(shapes);
	return NULL;
}

gboolean kvt_calibrate_gpu_products(kvt_gpu_bench *b, kvt_gpu_calibration *gpu, GError **error)
{
	const kvt_gpu_products *products = b->given->products;
	const bool quick = b->settings->quick;
	const int64_t *tokens = quick ? QUICK_TOKENS : TOKENS;
	unsigned n = quick ? G_N_ELEMENTS(QUICK_TOKENS) : G_N_ELEMENTS(TOKENS), left_out = 0;
	if (!products) {
		kvt_gpu_calibration_missing(gpu, "matrix products, which stay the datasheet's: %s",
			b->given->why_no_products ? b->given->why_no_products
						  : "nobody times them");
		return TRUE;
	}
	g_autoptr(GArray) shapes = all_shapes(error);
	for (unsigned at = 0; shapes && at < shapes->len * n; at++) {
		const shape *s = &g_array_index(shapes, shape, at / n);
		kvt_gpu_product_point p = {
			.fp8 = s->fp8, .m = tokens[at % n], .n = s->n, .k = s->k
		};
		kvt_gpu_bench_progress(b, "matrix products", at, shapes->len * n);
		int status = products->time(products->arg, p.fp8, p.m, p.n, p.k, &p.seconds);
		left_out += status == -ENOTSUP;
		if (status == 0)
			g_array_append_val(gpu->products, p);
		else if (status != -ENOTSUP)
			return kvt_gpu_bench_check(status, "matrix products", error);
	}
	if (left_out > 0)
		kvt_gpu_calibration_missing(gpu,
			"%u shapes of matrix products, which cuBLAS has no kernel for", left_out);
	return shapes != NULL;
}
