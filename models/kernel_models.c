/* kernel_models.c: loads, fits and asks the three kinds of kernel tables of a GPU. */
#include "models/kernel_models.h"

#include <errno.h>
#include <string.h>

#include "sim/base/error.h"

/* What a table file is called after: the GPU's name in its tables, as in "a100" of a100-80g. */
static char *table_gpu(const kvt_gpu *gpu, const char *table, const char *suffix)
{
	g_autofree char *base = table != NULL ? g_path_get_basename(table) : NULL;
	if (base != NULL && g_str_has_suffix(base, suffix))
		return g_strndup(base, strlen(base) - strlen(suffix));
	return g_strdup(gpu->name);
}

kvt_kernel_models *kvt_kernel_models_load(const kvt_gpu *gpu, GError **error)
{
	g_autoptr(kvt_kernel_models) models = g_new0(kvt_kernel_models, 1);
	if (gpu->attention_table != NULL) {
		models->attention = kvt_attention_model_load(gpu->attention_table, error);
		if (models->attention == NULL)
			return NULL;
	}
	if (gpu->gemm_table != NULL) {
		models->gemm = kvt_gemm_model_load(gpu->gemm_table, error);
		if (models->gemm == NULL)
			return NULL;
	}
	if (gpu->collective_table != NULL) {
		models->collective = kvt_collective_model_load(gpu->collective_table, error);
		if (models->collective == NULL)
			return NULL;
	}
	return g_steal_pointer(&models);
}

kvt_kernel_models *kvt_kernel_models_fit(
	const kvt_gpu *gpu, const kvt_kernel_row *rows, size_t count, GError **error)
{
	g_autoptr(kvt_kernel_models) models = g_new0(kvt_kernel_models, 1);
	size_t of_kind[KVT_KERNEL_KINDS] = { 0 };
	for (size_t i = 0; i < count; i++)
		of_kind[rows[i].kind]++;
	if (of_kind[KVT_KERNEL_PREFILL] + of_kind[KVT_KERNEL_DECODE] > 0) {
		const kvt_attention_gpu shape = { .sms = gpu->sms,
			.l2 = (double)gpu->l2,
			.bandwidth = gpu->memory_bandwidth,
			.flops = gpu->flops_bf16 };
		g_autofree char *name = table_gpu(gpu, gpu->attention_table, "-attention.table");
		models->attention = kvt_attention_model_fit(name, &shape, rows, count, error);
		if (models->attention == NULL)
			return NULL;
	}
	if (of_kind[KVT_KERNEL_GEMM] > 0) {
		g_autofree char *name = table_gpu(gpu, gpu->gemm_table, "-gemm.table");
		models->gemm = kvt_gemm_model_fit(name, gpu->sms, rows, count, error);
		if (models->gemm == NULL)
			return NULL;
	}
	if (of_kind[KVT_KERNEL_COLLECTIVE] > 0) {
		g_autofree char *name = table_gpu(gpu, gpu->collective_table, "-collective.table");
		models->collective = kvt_collective_model_fit(name, rows, count, error);
		if (models->collective == NULL)
			return NULL;
	}
	if (count == 0) {
		kvt_error_usage(error, "no rows to fit to");
		return NULL;
	}
	return g_steal_pointer(&models);
}

static char *table_path(const char *folder, const char *gpu, const char *suffix)
{
	g_autofree char *file = g_strconcat(gpu, suffix, NULL);
	return g_build_filename(folder, file, NULL);
}

gboolean kvt_kernel_models_save(const kvt_kernel_models *models, const kvt_gpu *gpu,
	const char *folder, GPtrArray *written, GError **error)
{
	if (models->attention != NULL) {
		g_autofree char *name = table_gpu(gpu, gpu->attention_table, "-attention.table");
		char *path = table_path(folder, name, "-attention.table");
		g_ptr_array_add(written, path);
		if (!kvt_attention_model_save(models->attention, path, error))
			return FALSE;
	}
	if (models->gemm != NULL) {
		g_autofree char *name = table_gpu(gpu, gpu->gemm_table, "-gemm.table");
		char *path = table_path(folder, name, "-gemm.table");
		g_ptr_array_add(written, path);
		if (!kvt_gemm_model_save(models->gemm, path, error))
			return FALSE;
	}
	if (models->collective != NULL) {
		g_autofree char *name = table_gpu(gpu, gpu->collective_table, "-collective.table");
		char *path = table_path(folder, name, "-collective.table");
		g_ptr_array_add(written, path);
		if (!kvt_collective_model_save(models->collective, path, error))
			return FALSE;
	}
	return TRUE;
}

void kvt_kernel_models_free(kvt_kernel_models *models)
{
	if (models == NULL)
		return;
	if (models->attention != NULL)
		kvt_attention_model_free(models->attention);
	if (models->gemm != NULL)
		kvt_gemm_model_free(models->gemm);
	if (models->collective != NULL)
		kvt_collective_model_free(models->collective);
	g_free(models);
}

static int predict_collective(
	const kvt_collective_model *model, const kvt_kernel_row *row, double *seconds)
{
	kvt_collective_time time;
	int status = model != NULL ? kvt_collective_predict_row(model, row, &time) : -ENOENT;
	if (status == 0)
		*seconds = time.seconds;
	return status;
}

static int predict_gemm(const kvt_gemm_model *model, const kvt_kernel_row *row, double *seconds)
{
	kvt_gemm_time time;
	int status = model != NULL ? kvt_gemm_predict_row(model, row, &time) : -ENOENT;
	if (status == 0)
		*seconds = time.seconds;
	return status;
}

static int predict_attention(
	const kvt_attention_model *model, const kvt_kernel_row *row, double *seconds)
{
	kvt_attention_time time;
	int status = model != NULL ? kvt_attention_predict_row(model, row, &time) : -ENOENT;
	if (status == 0)
		*seconds = time.seconds;
	return status;
}

int kvt_kernel_models_predict_row(
	const kvt_kernel_models *models, const kvt_kernel_row *row, double *seconds)
{
	switch (row->kind) {
	case KVT_KERNEL_PREFILL:
	case KVT_KERNEL_DECODE:
		return predict_attention(models->attention, row, seconds);
	case KVT_KERNEL_GEMM:
		return predict_gemm(models->gemm, row, seconds);
	default:
		return predict_collective(models->collective, row, seconds);
	}
}

static void *fit(const kvt_kernel_row *rows, size_t count, const void *arg, GError **error)
{
	return kvt_kernel_models_fit(arg, rows, count, error);
}

static int predict(const void *model, const kvt_kernel_row *row, double *seconds)
{
	return kvt_kernel_models_predict_row(model, row, seconds);
}

static void free_models(void *model)
{
	kvt_kernel_models_free(model);
}

static double size_of(const kvt_kernel_row *row)
{
	switch (row->kind) {
	case KVT_KERNEL_PREFILL:
	case KVT_KERNEL_DECODE:
		return kvt_attention_row_size(row);
	case KVT_KERNEL_GEMM:
		return kvt_gemm_flops(row->gemm.m, row->gemm.n, row->gemm.k);
	default:
		return (double)row->collective.elements;
	}
}

const kvt_kernel_fitter kvt_gpu_fitter = {
	.fit = fit,
	.predict = predict,
	.free = free_models,
	.size = size_of,
};
