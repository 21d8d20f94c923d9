/* kernel_check.c: errors of predicted kernel times, over rows a fit has or has not seen. */
#include "models/kernel_check.h"

#include <math.h>

#include "models/attention_model.h"
#include "sim/base/error.h"

static int compare_errors(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* The value at quantile q of ascending errors, between ranks. */
static double quantile(const double *errors, size_t count, double q)
{
	double rank = q * (double)(count - 1);
	size_t low = (size_t)rank;
	double next = errors[MIN(low + 1, count - 1)];
	return errors[low] + (next - errors[low]) * (rank - (double)low);
}

void kvt_kernel_check_rows(const kvt_kernel_fitter *fitter, const void *model,
	const kvt_kernel_row *rows, size_t count, double least_seconds, kvt_kernel_check *out)
{
	g_autofree double *errors = g_new(double, MAX(count, 1));
	*out = (kvt_kernel_check){ 0 };
	for (size_t i = 0; i < count; i++) {
		double seconds = 0;
		if (rows[i].seconds < least_seconds) {
			out->small++;
			continue;
		}
		if (fitter->predict(model, &rows[i], &seconds) != 0) {
			out->unknown++;
			continue;
		}
		double off = seconds / rows[i].seconds - 1, error = fabs(off);
		if (out->rows == 0 || error > out->worst) {
			out->worst = error;
			out->worst_row = rows[i];
			out->worst_predicted = seconds;
		}
		errors[out->rows++] = error;
		out->mape += error;
		out->bias += off;
	}
	if (out->rows == 0)
		return;
	qsort(errors, out->rows, sizeof(*errors), compare_errors);
	out->mape /= (double)out->rows;
	out->bias /= (double)out->rows;
	out->p50 = quantile(errors, out->rows, 0.5);
	out->p90 = quantile(errors, out->rows, 0.9);
}

/* Fits `train`, judges on `test`, frees nothing of the caller's. */
static gboolean judge(const kvt_kernel_fitter *fitter, const void *arg, const GArray *train,
	const GArray *test, double least_seconds, kvt_kernel_check *out, GError **error)
{
	if (train->len == 0 || test->len == 0)
		return kvt_error_usage(error,
			"%u rows to fit and %u to judge on, expected some of both", train->len,
			test->len);
	const kvt_kernel_row *rows = (const kvt_kernel_row *)(const void *)train->data;
	void *model = fitter->fit(rows, train->len, arg, error);
	if (model == NULL)
		return FALSE;
	rows = (const kvt_kernel_row *)(const void *)test->data;
	kvt_kernel_check_rows(fitter, model, rows, test->len, least_seconds, out);
	out->fitted = train->len;
	fitter->free(model);
	return TRUE;
}

gboolean kvt_kernel_check_leave_out(const kvt_kernel_fitter *fitter, const void *arg,
	const kvt_kernel_row *rows, size_t count, double share, uint64_t seed, double least_seconds,
	kvt_kernel_check *out, GError **error)
{
	g_autoptr(GArray) train = g_array_new(FALSE, FALSE, sizeof(kvt_kernel_row));
	g_autoptr(GArray) test = g_array_new(FALSE, FALSE, sizeof(kvt_kernel_row));
	for (size_t i = 0; i < count; i++)
		g_array_append_val(
			kvt_kernel_row_left_out(&rows[i], share, seed) ? test : train, rows[i]);
	return judge(fitter, arg, train, test, least_seconds, out, error);
}

gboolean kvt_kernel_check_train_below(const kvt_kernel_fitter *fitter, const void *arg,
	const kvt_kernel_row *rows, size_t count, double share, double least_seconds,
	kvt_kernel_check *out, GError **error)
{
	g_autoptr(GArray) train = g_array_new(FALSE, FALSE, sizeof(kvt_kernel_row));
	g_autoptr(GArray) test = g_array_new(FALSE, FALSE, sizeof(kvt_kernel_row));
	double largest[KVT_KERNEL_KINDS] = { 0 };
	for (size_t i = 0; i < count; i++)
		largest[rows[i].kind] = fmax(largest[rows[i].kind], fitter->size(&rows[i]));
	for (size_t i = 0; i < count; i++) {
		double size = fitter->size(&rows[i]) / largest[rows[i].kind];
		if (size <= share)
			g_array_append_val(train, rows[i]);
		else if (size > 0.5)
			g_array_append_val(test, rows[i]);
	}
	return judge(fitter, arg, train, test, least_seconds, out, error);
}

static void *fit_attention(
	const kvt_kernel_row *rows, size_t count, const void *arg, GError **error)
{
	return kvt_attention_model_fit("fresh", arg, rows, count, error);
}

static int predict_attention(const void *model, const kvt_kernel_row *row, double *seconds)
{
	kvt_attention_time time;
	int result = kvt_attention_predict_row(model, row, &time);
	if (result == 0)
		*seconds = time.seconds;
	return result;
}

static void free_attention(void *model)
{
	kvt_attention_model_free(model);
}

const kvt_kernel_fitter kvt_attention_fitter = {
	.fit = fit_attention,
	.predict = predict_attention,
	.free = free_attention,
	.size = kvt_attention_row_size,
};
