/* test_kernel_models.c: the kernel tables of every shipped GPU, together and fitted anew. */
#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <math.h>
#include <string.h>

#include "models/kernel_models.h"
#include "models/model_file.h"

static const char data[] = "tests/cli/data/kernels";

static kvt_kernel_csv *load_rows(const char *name)
{
	GError *error = NULL;
	g_autofree char *path = g_build_filename(data, name, NULL);
	kvt_kernel_csv *csv = kvt_kernel_csv_load(path, &error);
	g_assert_no_error(error);
	return csv;
}

/* Every GPU that ships has all three tables, and they are its own; one card that was measured knows
 * no all-reduce, and has those of its kind. */
static void test_shipped(void)
{
	g_auto(GStrv) names = kvt_model_names(KVT_MODEL_GPU, NULL);
	for (char **name = names; *name != NULL; name++) {
		GError *error = NULL;
		g_autoptr(kvt_gpu) gpu = kvt_gpu_load(*name, &error);
		g_assert_no_error(error);
		g_autoptr(kvt_kernel_models) models = kvt_kernel_models_load(gpu, &error);
		g_assert_no_error(error);
		/* a GPU of theory has peak rates alone */
		if (g_str_has_prefix(*name, "peak-")) {
			g_assert_true(!models->attention && !models->gemm && !models->collective);
			continue;
		}
		g_assert_nonnull(models->attention);
		g_assert_nonnull(models->gemm);
		g_assert_nonnull(models->collective);
		const char *short_name = kvt_gemm_model_gpu(models->gemm);
		g_assert_true(g_str_has_prefix(*name, short_name));
		g_assert_cmpstr(kvt_attention_model_name(models->attention), ==, short_name);
		const char *kind = kvt_collective_model_gpu(models->collective);
		if (g_str_has_suffix(short_name, "-card"))
			g_assert_true(g_str_has_prefix(short_name, kind));
		else
			g_assert_cmpstr(kind, ==, short_name);
		/* The tables were fitted for the GPU that the file describes. */
		const kvt_attention_gpu *shape = kvt_attention_model_gpu(models->attention);
		g_assert_cmpint(shape->sms, ==, gpu->sms);
		g_assert_cmpfloat_with_epsilon(
			shape->bandwidth, gpu->memory_bandwidth, 0.01 * gpu->memory_bandwidth);
	}
}

static void test_predict(void)
{
	static const struct {
		const char *gpu, *rows;
		kvt_kernel_kind kind;
	} cases[] = {
		{ "l40s", "l40s-decode-attention.csv", KVT_KERNEL_DECODE },
		{ "l40s", "l40s-prefill-attention.csv", KVT_KERNEL_PREFILL },
		{ "a100-80g", "a100-gemm.csv", KVT_KERNEL_GEMM },
		{ "a100-80g", "a100-nccl.csv", KVT_KERNEL_COLLECTIVE },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autoptr(kvt_gpu) gpu = kvt_gpu_load(cases[i].gpu, NULL);
		g_autoptr(kvt_kernel_models) models = kvt_kernel_models_load(gpu, NULL);
		kvt_kernel_models none = { 0 };
		kvt_kernel_csv *csv = load_rows(cases[i].rows);
		kvt_kernel_check check;
		kvt_kernel_check_rows(&kvt_gpu_fitter, models, csv->rows, csv->count, 1e-4, &check);
		g_assert_cmpuint(check.rows, >, 10);
		g_assert_cmpuint(check.unknown, ==, 0);
		g_assert_cmpuint(check.rows + check.small, ==, csv->count);
		g_assert_cmpfloat(check.mape, <, 0.04);
		for (size_t row = 0; row < csv->count; row++) {
			double seconds = -1;
			g_assert_cmpint(csv->rows[row].kind, ==, cases[i].kind);
			g_assert_cmpfloat(kvt_gpu_fitter.size(&csv->rows[row]), >, 0);
			g_assert_cmpint(
				kvt_kernel_models_predict_row(&none, &csv->rows[row], &seconds), ==,
				-ENOENT);
			g_assert_cmpfloat(seconds, ==, -1);
		}
		kvt_kernel_csv_free(csv);
	}
}

/* What is fitted, saved and loaded predicts as before, and only what there were rows for. */
static void test_fit(void)
{
	GError *error = NULL;
	g_autoptr(kvt_gpu) gpu = kvt_gpu_load("a100-80g", NULL);
	kvt_kernel_csv *csv = load_rows("a100-gemm.csv");
	g_autoptr(kvt_kernel_models) fitted =
		kvt_kernel_models_fit(gpu, csv->rows, csv->count, &error);
	g_assert_no_error(error);
	g_assert_null(fitted->attention);
	g_assert_null(fitted->collective);
	g_autofree char *folder = g_dir_make_tmp("kvt-kernel-models-XXXXXX", NULL);
	g_autoptr(GPtrArray) written = g_ptr_array_new_with_free_func(g_free);
	g_assert_true(kvt_kernel_models_save(fitted, gpu, folder, written, &error));
	g_assert_cmpuint(written->len, ==, 1);
	const char *path = g_ptr_array_index(written, 0);
	g_assert_true(g_str_has_suffix(path, "/a100-gemm.table"));

	g_clear_pointer(&gpu->attention_table, g_free);
	g_clear_pointer(&gpu->collective_table, g_free);
	g_free(gpu->gemm_table);
	gpu->gemm_table = g_strdup(path);
	g_autoptr(kvt_kernel_models) loaded = kvt_kernel_models_load(gpu, &error);
	g_assert_no_error(error);
	for (size_t row = 0; row < csv->count; row++) {
		double first = 0, second = 0;
		g_assert_cmpint(
			kvt_kernel_models_predict_row(fitted, &csv->rows[row], &first), ==, 0);
		g_assert_cmpint(
			kvt_kernel_models_predict_row(loaded, &csv->rows[row], &second), ==, 0);
		g_assert_cmpfloat(first, ==, second);
	}
	g_assert_null(kvt_kernel_models_fit(gpu, csv->rows, 0, &error));
	g_assert_nonnull(error);
	g_clear_error(&error);
	kvt_kernel_csv_free(csv);
	g_unlink(path);
	g_rmdir(folder);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/kernel-models/shipped", test_shipped);
	g_test_add_func("/kernel-models/predict", test_predict);
	g_test_add_func("/kernel-models/fit", test_fit);
	return g_test_run();
}
