/* test_gemm_model.c: the GEMM cost model: what it predicts, what it fits, what it refuses. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "models/gemm_base.h"
#include "models/gemm_model.h"
#include "models/minimize.h"
#include "sim/base/rng.h"

static const char *const GPUS[] = { "a100", "h100", "h200", "b200", "l40s" };

static kvt_gemm_model *load(const char *gpu)
{
	g_autofree char *path = g_strdup_printf("models/gpu/kernels/%s-gemm.table", gpu);
	g_autoptr(GError) error = NULL;
	kvt_gemm_model *model = kvt_gemm_model_load(path, &error);
	g_assert_no_error(error);
	return model;
}

static double seconds(
	const kvt_gemm_model *model, const char *dtype, int64_t m, int64_t n, int64_t k)
{
	kvt_gemm_query query = { NULL, dtype, m, n, k };
	kvt_gemm_time time;
	g_assert_cmpint(kvt_gemm_predict(model, &query, &time), ==, 0);
	g_assert_true(isfinite(time.seconds) && time.seconds > 0);
	return time.seconds;
}

static double tflops(
	const kvt_gemm_model *model, const char *dtype, int64_t m, int64_t n, int64_t k)
{
	return kvt_gemm_flops(m, n, k) / seconds(model, dtype, m, n, k) / 1e12;
}

/* Rates measured on the card itself, from the rows that the table was fitted to. */
static void test_l40s_anchors(void)
{
	g_autoptr(kvt_gemm_model) model = load("l40s");
	double best_bf16 = 0, best_fp8 = 0;
	for (int64_t m = 1024; m <= 4096; m += 256) {
		best_bf16 = fmax(best_bf16, tflops(model, "bfloat16", m, 65536, 5120));
		best_fp8 = fmax(best_fp8, tflops(model, "fp8", m, 16384, 16384));
	}
	g_assert_cmpfloat(best_bf16, >, 276 * 0.93);
	g_assert_cmpfloat(best_bf16, <, 276 * 1.07);
	g_assert_cmpfloat(best_fp8, >, 418 * 0.93);
	g_assert_cmpfloat(best_fp8, <, 418 * 1.07);
	/* one token: the weights pass over GDDR6 at 864 GB/s less what a read loses */
	double rate = 2.0 * 8192 * 8192 / seconds(model, "bfloat16", 1, 8192, 8192);
	g_assert_cmpfloat(rate, >, 600e9);
	g_assert_cmpfloat(rate, <, 864e9);
}

/* The shapes of the models that the simulator runs, sharded over 4 GPUs. */
static const int64_t SHAPES[][2] = { { 1152, 3584 }, { 3584, 896 }, { 9472, 3584 }, { 3584, 4736 },
	{ 2560, 8192 }, { 8192, 2048 }, { 14336, 8192 }, { 8192, 7168 }, { 1792, 5120 },
	{ 5120, 1280 }, { 8192, 5120 }, { 5120, 4096 }, { 32064, 8192 }, { 2304, 7168 } };

static void test_sane_everywhere(void)
{
	for (size_t g = 0; g < G_N_ELEMENTS(GPUS); g++) {
		g_autoptr(kvt_gemm_model) model = load(GPUS[g]);
		const char *dtypes[] = { "bfloat16", "fp8", "fp8_block" };
		for (size_t d = 0; d < G_N_ELEMENTS(dtypes); d++) {
			if (!kvt_gemm_model_has(model, dtypes[d]))
				continue;
			for (size_t s = 0; s < G_N_ELEMENTS(SHAPES); s++) {
				int64_t n = SHAPES[s][0], k = SHAPES[s][1];
				double longest = 0;
				for (int64_t m = 1; m <= 65536; m = m * 5 / 4 + 1) {
					double now = seconds(model, dtypes[d], m, n, k);
					/* measured kernels do get faster with more rows where
					 * another one takes over, but never by half */
					if (longest > 50e-6)
						g_assert_cmpfloat(now, >, longest * 0.5);
					longest = fmax(longest, now);
				}
				/* block-scaled kernels are bound by their launch for longer */
				if (d == 0)
					g_assert_cmpfloat(seconds(model, dtypes[d], 65536, n, k), >,
						3 * seconds(model, dtypes[d], 16384, n, k));
			}
		}
	}
}

static void test_longer_k_is_slower(void)
{
	for (size_t g = 0; g < G_N_ELEMENTS(GPUS); g++) {
		g_autoptr(kvt_gemm_model) model = load(GPUS[g]);
		for (int64_t m = 1; m <= 16384; m *= 4)
			for (int64_t n = 512; n <= 16384; n *= 2)
				for (int64_t k = 512; k <= 8192; k *= 2) {
					double shorter = seconds(model, "bfloat16", m, n, k);
					/* below, what is measured is the launch and its noise */
					if (shorter > 20e-6)
						g_assert_cmpfloat(
							seconds(model, "bfloat16", m, n, 2 * k), >,
							shorter);
				}
	}
}

static void test_queries(void)
{
	g_autoptr(kvt_gemm_model) model = load("h100");
	kvt_gemm_time time;
	kvt_gemm_query bad = { NULL, "bfloat16", 0, 16, 16 };
	g_assert_cmpint(kvt_gemm_predict(model, &bad, &time), ==, -EINVAL);
	kvt_gemm_query unknown = { NULL, "int3", 1, 16, 16 };
	g_assert_cmpint(kvt_gemm_predict(model, &unknown, &time), ==, -ENOENT);
	kvt_gemm_query other = { "no_such_kernel", "bfloat16", 1, 16, 16 };
	g_assert_cmpint(kvt_gemm_predict(model, &other, &time), ==, -ENOENT);
	kvt_gemm_query inside = { NULL, "bf16", 4096, 4096, 4096 };
	g_assert_cmpint(kvt_gemm_predict(model, &inside, &time), ==, 0);
	g_assert_false(time.extrapolated);
	g_assert_cmpfloat(time.seconds, ==, seconds(model, "bfloat16", 4096, 4096, 4096));
	kvt_gemm_query beyond = { NULL, "bf16", 4096, 1 << 20, 4096 };
	g_assert_cmpint(kvt_gemm_predict(model, &beyond, &time), ==, 0);
	g_assert_true(time.extrapolated);
	/* vLLM serves block-scaled FP8 by shape: few rows, many rows, odd sizes */
	kvt_gemm_query few = { NULL, "fp8_block", 8, 4096, 4096 };
	g_assert_cmpint(kvt_gemm_predict(model, &few, &time), ==, 0);
	g_assert_cmpstr(time.source, ==, "FlashInferFp8BlockScaledMMKernel");
	kvt_gemm_query many = { NULL, "fp8_block", 4096, 4096, 4096 };
	g_assert_cmpint(kvt_gemm_predict(model, &many, &time), ==, 0);
	g_assert_cmpstr(time.source, ==, "DeepGemmFp8BlockScaledMMKernel");
	kvt_gemm_query odd = { NULL, "fp8_block", 4096, 4096, 32 };
	g_assert_cmpint(kvt_gemm_predict(model, &odd, &time), ==, 0);
	g_assert_cmpstr(time.source, ==, "CutlassFp8BlockScaledMMKernel");
}

/* Rows of an imaginary GPU that is exactly a kvt_gemm_base, with 3% noise. */
static GArray *synthetic_rows(const kvt_gemm_base *base, int64_t sms, double noise)
{
	static const int64_t M[] = { 1, 8, 16, 64, 128, 256, 257, 1024, 2048, 4096, 8192 };
	static const int64_t N[] = { 256, 1024, 4096, 8192, 16384 };
	GArray *rows = g_array_new(FALSE, FALSE, sizeof(kvt_kernel_row));
	kvt_rng rng = kvt_rng_init(7, 1);
	for (size_t i = 0; i < G_N_ELEMENTS(M); i++)
		for (size_t j = 0; j < G_N_ELEMENTS(N); j++)
			for (size_t l = 0; l < G_N_ELEMENTS(N); l++) {
				kvt_kernel_row row = { .kind = KVT_KERNEL_GEMM,
					.source = "tiled",
					.op = "gemm",
					.dtype = "bfloat16",
					.gemm = { M[i], N[j], N[l] } };
				row.seconds =
					kvt_gemm_base_seconds(base, sms, 2, M[i], N[j], N[l]) *
					exp(noise * kvt_rng_normal(&rng));
				g_array_append_val(rows, row);
			}
	return rows;
}

static const kvt_gemm_base KNOWN = { .peak = 2e14,
	.bandwidth = 1e12,
	.floor = 5e-6,
	.overlap = 1.5,
	.fill = 128,
	.quantised = 0.8,
	.tile_efficiency = { 0.5, 0.7, 0.7, 0.85, 1, 1 } };

static void test_fit_recovers(void)
{
	enum { SMS = 100 };
	g_autoptr(GArray) rows = synthetic_rows(&KNOWN, SMS, 0.03);
	g_autoptr(GError) error = NULL;
	const kvt_kernel_row *data = (const kvt_kernel_row *)rows->data;
	g_autoptr(kvt_gemm_model) model =
		kvt_gemm_model_fit("imaginary", SMS, data, rows->len, &error);
	g_assert_no_error(error);
	/* between the measured shapes, below and beyond them */
	static const int64_t ASKED[][3] = { { 3000, 3000, 3000 }, { 4, 12288, 12288 },
		{ 512, 2048, 6000 }, { 16384, 16384, 16384 }, { 16384, 32768, 8192 } };
	for (size_t i = 0; i < G_N_ELEMENTS(ASKED); i++) {
		int64_t m = ASKED[i][0], n = ASKED[i][1], k = ASKED[i][2];
		double truth = kvt_gemm_base_seconds(&KNOWN, SMS, 2, m, n, k);
		g_assert_cmpfloat(fabs(seconds(model, "bfloat16", m, n, k) / truth - 1), <, 0.06);
	}
	/* and the smoothed grid is nearer to the truth than the noisy rows are */
	double of_rows = 0, of_model = 0;
	for (unsigned i = 0; i < rows->len; i++) {
		int64_t m = data[i].gemm.m, n = data[i].gemm.n, k = data[i].gemm.k;
		double truth = kvt_gemm_base_seconds(&KNOWN, SMS, 2, m, n, k);
		of_rows += fabs(log(data[i].seconds / truth));
		of_model += fabs(log(seconds(model, "bfloat16", m, n, k) / truth));
	}
	g_assert_cmpfloat(of_model, <, 0.9 * of_rows);
}

static void test_fit_is_deterministic_and_saves(void)
{
	g_autoptr(GArray) rows = synthetic_rows(&KNOWN, 100, 0.1);
	g_autoptr(GError) error = NULL;
	const kvt_kernel_row *data = (const kvt_kernel_row *)rows->data;
	g_autoptr(kvt_gemm_model) one = kvt_gemm_model_fit("x", 100, data, rows->len, &error);
	g_autoptr(kvt_gemm_model) two = kvt_gemm_model_fit("x", 100, data, rows->len, &error);
	g_autofree char *text = kvt_gemm_model_text(one), *again = kvt_gemm_model_text(two);
	g_assert_cmpstr(text, ==, again);
	g_autoptr(kvt_gemm_model) back = kvt_gemm_model_parse("table", text, strlen(text), &error);
	g_assert_no_error(error);
	g_assert_cmpstr(kvt_gemm_model_gpu(back), ==, "x");
	for (unsigned i = 0; i < rows->len; i++) {
		int64_t m = data[i].gemm.m, n = data[i].gemm.n, k = data[i].gemm.k;
		g_assert_cmpfloat(
			seconds(one, "bfloat16", m, n, k), ==, seconds(back, "bfloat16", m, n, k));
	}
	g_autofree char *third = kvt_gemm_model_text(back);
	g_assert_cmpstr(text, ==, third);
}

static void test_no_rows(void)
{
	g_autoptr(GError) error = NULL;
	g_assert_null(kvt_gemm_model_fit("x", 100, NULL, 0, &error));
	g_assert_cmpstr(error->message, ==, "x: no gemm row to fit, expected at least one");
}

#define HEAD "kvtier-table gemm 1\ngpu x\nsms 10\n"
#define KERNEL "kernel a bfloat16 4\nmultiples 1 1\n"
#define BASE "base 1e14 1e12 1e-6 1 10 0.5 0\ntiles 1 1 1 1 1 1\n"
#define AXES "m 1 2\nn 8 16\nk 8\nresidual 0 0.01\n"

static const struct {
	const char *text, *message;
} HOSTILE[] = {
	{ "", "t: not a gemm table, expected 'kvtier-table gemm 1'" },
	{ "kvtier-table attention 1\n", "t:1: not a gemm table, expected 'kvtier-table gemm 1'" },
	{ "kvtier-table gemm 2\n", "t:1: version 2 of the gemm table, expected 1" },
	{ "# c\nkvtier-table gemm 1\ngpu x\nsms 0\n",
		"t:4: sms: '0', expected a whole number from 1 to 100000" },
	{ HEAD, "t:3: no kernel, expected at least one" },
	{ HEAD "colour red\n", "t:4: 'colour', expected 'kernel'" },
	{ HEAD KERNEL, "t:5: 'end of file', expected 'base'" },
	{ HEAD KERNEL "base nan 1 1 1 1 1 1\n",
		"t:6: peak: 'nan', expected a number from 1000 to 1e+21" },
	{ HEAD KERNEL BASE "m 2 1\n", "t:8: m: values must ascend, expected one over 2" },
	{ HEAD KERNEL BASE "m\n", "t:8: m: 0 values, expected 1 to 4096" },
	{ HEAD KERNEL BASE "m 1 -5\n",
		"t:8: m: '-5', expected a whole number from 1 to 1099511627776" },
	{ HEAD KERNEL BASE AXES "codes 8 aa\n", "t:12: 'end of file', expected 'codes'" },
	{ HEAD KERNEL BASE AXES "codes 8 aaa\n",
		"t:12: codes: column 1 has 3 characters, expected 2" },
	{ HEAD KERNEL BASE AXES "codes 9 aa\n", "t:12: codes of n = 9, expected 8" },
	{ HEAD KERNEL BASE AXES "codes 8 aa aa\n", "t:12: codes: 3 fields, expected 2" },
	{ HEAD KERNEL BASE AXES "codes 8 a\303\n",
		"t:12: codes: column 1 holds byte 195, expected printable ASCII" },
	{ HEAD KERNEL BASE AXES "codes 8 -\ncodes 16 -\n",
		"t:13: no column of codes, expected at least one" },
	{ HEAD KERNEL BASE AXES "codes 8 aa\ncodes 16 aa\n" KERNEL,
		"t:14: kernel a bfloat16 again, expected it once" },
};

static void test_hostile(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(HOSTILE); i++) {
		g_autoptr(GError) error = NULL;
		const char *text = HOSTILE[i].text;
		g_assert_null(kvt_gemm_model_parse("t", text, strlen(text), &error));
		g_assert_cmpstr(error->message, ==, HOSTILE[i].message);
	}
	g_autoptr(GError) error = NULL;
	g_assert_null(kvt_gemm_model_load("no/such/file", &error));
	g_assert_nonnull(error);
	static const char GOOD[] = HEAD KERNEL BASE AXES "codes 8 aa\ncodes 16 -\n";
	g_clear_error(&error);
	g_autoptr(kvt_gemm_model) model = kvt_gemm_model_parse("t", GOOD, strlen(GOOD), &error);
	g_assert_no_error(error);
	/* n = 16 was not measured: the nearest column answers, and says so */
	kvt_gemm_query query = { "a", "bfloat16", 2, 16, 8 };
	kvt_gemm_time time;
	g_assert_cmpint(kvt_gemm_predict(model, &query, &time), ==, 0);
	g_assert_true(time.extrapolated);
	g_assert_cmpfloat(time.seconds, >, 0);
}

/* Every cut of a good table is refused or is a whole table; none crashes. */
static void test_truncated(void)
{
	static const char GOOD[] = HEAD KERNEL BASE AXES "codes 8 aa\ncodes 16 bb\n";
	for (size_t length = 0; length + 1 < strlen(GOOD); length++) {
		g_autoptr(GError) error = NULL;
		g_autoptr(kvt_gemm_model) model = kvt_gemm_model_parse("t", GOOD, length, &error);
		g_assert_true((model == NULL) == (error != NULL));
		g_assert_null(model);
	}
}

static double bowl(const double *x, void *arg)
{
	double a = x[0] - 3, b = x[1] + 2, c = x[2] - 0.5 * x[0];
	return a * a + 10 * b * b + 3 * c * c + *(double *)arg;
}

static void test_minimize(void)
{
	double x[] = { 0, 0, 0 }, step[] = { 1, 1, 1 }, offset = 1;
	double least = kvt_minimize(3, x, step, 2000, bowl, &offset);
	g_assert_cmpfloat(fabs(least - 1), <, 1e-5);
	g_assert_cmpfloat(fabs(x[0] - 3), <, 1e-2);
	g_assert_cmpfloat(fabs(x[1] + 2), <, 1e-2);
	g_assert_cmpfloat(fabs(x[2] - 1.5), <, 1e-2);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/gemm/l40s_anchors", test_l40s_anchors);
	g_test_add_func("/gemm/sane_everywhere", test_sane_everywhere);
	g_test_add_func("/gemm/longer_k_is_slower", test_longer_k_is_slower);
	g_test_add_func("/gemm/queries", test_queries);
	g_test_add_func("/gemm/fit_recovers", test_fit_recovers);
	g_test_add_func("/gemm/deterministic_and_saves", test_fit_is_deterministic_and_saves);
	g_test_add_func("/gemm/no_rows", test_no_rows);
	g_test_add_func("/gemm/hostile", test_hostile);
	g_test_add_func("/gemm/truncated", test_truncated);
	g_test_add_func("/minimize/bowl", test_minimize);
	return g_test_run();
}
