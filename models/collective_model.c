/*
 * collective_model.c: measured times of collectives by size, their table, and what lies between.
 *
 *   kvtier-table collective 1
 *   gpu NAME
 *   bytes SIZE ...                     ascending
 *   times SOURCE OP GPUS TIME ...      one line a kind, one time in us a size, or - where none is
 */
#include "models/collective_model.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/table_text.h"
#include "sim/base/error.h"

enum { VERSION = 1, MAX_SIZES = 256, MAX_GPUS = 65536 };

const char *const kvt_collective_flavour_names[KVT_COLLECTIVE_FLAVOURS + 1] = { "NCCL",
	"vLLM_custom_eager", "vLLM_custom_graph", NULL };

typedef struct point {
	int64_t bytes;
	double seconds;
} point;

/* One source, op and number of GPUs. */
typedef struct curve {
	char *source, *op;
	int64_t gpus;
	GArray *points; /* by bytes */
} curve;

struct kvt_collective_model {
	char *gpu;
	GPtrArray *curves; /* ordered by source, op, gpus */
};

static void curve_free(curve *c)
{
	g_free(c->source);
	g_free(c->op);
	g_array_unref(c->points);
	g_free(c);
}

static curve *curve_new(const char *source, const char *op, int64_t gpus)
{
	curve *c = g_new0(curve, 1);
	c->source = g_strdup(source);
	c->op = g_strdup(op);
	c->gpus = gpus;
	c->points = g_array_new(FALSE, FALSE, sizeof(point));
	return c;
}

static kvt_collective_model *model_new(const char *gpu)
{
	kvt_collective_model *model = g_new0(kvt_collective_model, 1);
	model->gpu = g_strdup(gpu);
	model->curves = g_ptr_array_new_with_free_func((GDestroyNotify)curve_free);
	return model;
}

void kvt_collective_model_free(kvt_collective_model *model)
{
	if (model == NULL)
		return;
	g_free(model->gpu);
	g_ptr_array_unref(model->curves);
	g_free(model);
}

const char *kvt_collective_model_gpu(const kvt_collective_model *model)
{
	return model->gpu;
}

static const curve *curve_at(const kvt_collective_model *model, unsigned i)
{
	return model->curves->pdata[i];
}

static const point *point_at(const curve *c, unsigned i)
{
	return &g_array_index(c->points, point, i);
}

/* ---- prediction ---- */

/* Bytes/s between the last two sizes. Noise could make it absurd, so it stays within a factor of
 * two of the last size's own rate. */
static double last_rate(const curve *c)
{
	unsigned count = c->points->len;
	const point *last = point_at(c, count - 1);
	double rate = (double)last->bytes / last->seconds;
	if (count < 2)
		return rate;
	const point *before = point_at(c, count - 2);
	double between = (double)(last->bytes - before->bytes) / (last->seconds - before->seconds);
	return between > 0 ? CLAMP(between, rate / 2, rate * 2) : rate;
}

static double curve_seconds(const curve *c, double bytes, bool *extrapolated)
{
	const point *first = point_at(c, 0), *last = point_at(c, c->points->len - 1);
	*extrapolated = bytes < (double)first->bytes || bytes > (double)last->bytes;
	if (bytes <= (double)first->bytes)
		return first->seconds;
	if (bytes >= (double)last->bytes)
		return last->seconds + (bytes - (double)last->bytes) / last_rate(c);
	unsigned i = 1;
	while ((double)point_at(c, i)->bytes < bytes)
		i++;
	const point *low = point_at(c, i - 1), *high = point_at(c, i);
	double share =
		log(bytes / (double)low->bytes) / log((double)high->bytes / (double)low->bytes);
	return low->seconds * pow(high->seconds / low->seconds, share);
}

/* The two curves to interpolate between: nearest counts of GPUs at or below and above, or the two
 * nearest on one side. */
static void find_curves(const kvt_collective_model *model, const char *source, const char *op,
	int64_t gpus, const curve **low, const curve **high)
{
	*low = *high = NULL;
	const curve *before = NULL;
	for (unsigned i = 0; i < model->curves->len; i++) {
		const curve *c = curve_at(model, i);
		if (strcmp(c->source, source) != 0 || strcmp(c->op, op) != 0)
			continue;
		if (*low == NULL || c->gpus <= gpus) {
			before = *low;
			*low = c;
		} else if (*high == NULL) {
			*high = c;
		}
	}
	if (*low != NULL && *high == NULL && before != NULL && (*low)->gpus < gpus) {
		*high = *low;
		*low = before;
	}
}

static int predict(const kvt_collective_model *model, const char *source, const char *op,
	int64_t gpus, double bytes, kvt_collective_time *out)
{
	if (gpus < 1 || !(bytes >= 0) || isinf(bytes))
		return -EINVAL;
	const curve *low, *high;
	find_curves(model, source, op, gpus, &low, &high);
	if (low == NULL)
		return -ENOENT;
	*out = (kvt_collective_time){ 0 };
	if (gpus == 1)
		return 0;
	out->seconds = curve_seconds(low, bytes, &out->extrapolated);
	if (low->gpus != gpus) {
		if (high != NULL) {
			bool unused;
			double other = curve_seconds(high, bytes, &unused);
			double share = log((double)gpus / (double)low->gpus) /
				       log((double)high->gpus / (double)low->gpus);
			out->seconds *= pow(other / out->seconds, share);
		}
		out->extrapolated = true;
	}
	out->bandwidth = bytes / out->seconds;
	return 0;
}

int kvt_collective_predict(const kvt_collective_model *model, const kvt_collective_query *query,
	kvt_collective_time *out)
{
	g_assert(query->flavour < KVT_COLLECTIVE_FLAVOURS);
	return predict(model, kvt_collective_flavour_names[query->flavour], query->op, query->gpus,
		query->bytes, out);
}

double kvt_collective_asymptotic_bandwidth(const kvt_collective_model *model, const char *op,
	kvt_collective_flavour flavour, int64_t gpus)
{
	const curve *low, *high;
	find_curves(model, kvt_collective_flavour_names[flavour], op, gpus, &low, &high);
	return low != NULL && low->gpus == gpus ? last_rate(low) : 0;
}

bool kvt_collective_model_has(
	const kvt_collective_model *model, const char *op, kvt_collective_flavour flavour)
{
	const curve *low, *high;
	find_curves(model, kvt_collective_flavour_names[flavour], op, 1, &low, &high);
	return low != NULL;
}

/* 0 for a dtype it does not know. */
static int64_t dtype_bytes(const char *dtype)
{
	static const struct {
		const char *name;
		int64_t bytes;
	} DTYPES[] = { { "half", 2 }, { "float16", 2 }, { "bfloat16", 2 }, { "float", 4 },
		{ "float32", 4 }, { "int8", 1 }, { "uint8", 1 }, { "fp8", 1 } };
	for (size_t i = 0; i < G_N_ELEMENTS(DTYPES); i++)
		if (strcmp(dtype, DTYPES[i].name) == 0)
			return DTYPES[i].bytes;
	return 0;
}

int kvt_collective_predict_row(
	const kvt_collective_model *model, const kvt_kernel_row *row, kvt_collective_time *out)
{
	g_assert(row->kind == KVT_KERNEL_COLLECTIVE);
	int64_t size = dtype_bytes(row->dtype);
	if (size == 0)
		return -ENOENT;
	return predict(model, row->source, row->op, row->collective.gpus,
		(double)row->collective.elements * (double)size, out);
}

/* ---- fitting ---- */

static int by_kind(const void *a, const void *b)
{
	const curve *x = *(curve *const *)a, *y = *(curve *const *)b;
	int order = strcmp(x->source, y->source);
	if (order == 0)
		order = strcmp(x->op, y->op);
	return order != 0 ? order : (x->gpus > y->gpus) - (x->gpus < y->gpus);
}

static int by_bytes(const void *a, const void *b)
{
	const point *x = a, *y = b;
	if (x->bytes != y->bytes)
		return x->bytes < y->bytes ? -1 : 1;
	return (x->seconds > y->seconds) - (x->seconds < y->seconds);
}

/* Rounds as the table prints, so that a model and its saved copy agree. */
static double printed(double seconds)
{
	char text[32];
	g_ascii_formatd(text, sizeof text, "%.5g", seconds * 1e6);
	return g_ascii_strtod(text, NULL) * 1e-6;
}

/* One point a size: the median of its times, the middle two's geometric mean. */
static void merge_sizes(GArray *points)
{
	g_array_sort(points, by_bytes);
	unsigned kept = 0;
	for (unsigned i = 0, end; i < points->len; i = end) {
		const point *p = &g_array_index(points, point, i);
		for (end = i; end < points->len; end++)
			if (g_array_index(points, point, end).bytes != p->bytes)
				break;
		unsigned count = end - i;
		point merged = { p->bytes,
			printed(sqrt(p[(count - 1) / 2].seconds * p[count / 2].seconds)) };
		g_array_index(points, point, kept++) = merged;
	}
	g_array_set_size(points, kept);
}

static curve *find_or_add(kvt_collective_model *model, const kvt_kernel_row *row)
{
	for (unsigned i = 0; i < model->curves->len; i++) {
		curve *c = model->curves->pdata[i];
		if (c->gpus == row->collective.gpus && strcmp(c->source, row->source) == 0 &&
			strcmp(c->op, row->op) == 0)
			return c;
	}
	curve *c = curve_new(row->source, row->op, row->collective.gpus);
	g_ptr_array_add(model->curves, c);
	return c;
}

kvt_collective_model *kvt_collective_model_fit(
	const char *gpu, const kvt_kernel_row *rows, size_t count, GError **error)
{
	g_autoptr(kvt_collective_model) model = model_new(gpu);
	for (size_t i = 0; i < count; i++) {
		const kvt_kernel_row *row = &rows[i];
		if (row->kind != KVT_KERNEL_COLLECTIVE)
			continue;
		int64_t size = dtype_bytes(row->dtype);
		if (size == 0) {
			kvt_error_usage(error,
				"line %u: dtype '%s' of a collective, expected half, bfloat16, "
				"float32, int8 or fp8",
				row->line, row->dtype);
			return NULL;
		}
		point p = { row->collective.elements * size, row->seconds };
		g_array_append_val(find_or_add(model, row)->points, p);
	}
	if (model->curves->len == 0) {
		kvt_error_usage(error, "%s: no collective row to fit, expected at least one", gpu);
		return NULL;
	}
	g_ptr_array_sort(model->curves, by_kind);
	for (unsigned i = 0; i < model->curves->len; i++)
		merge_sizes(curve_at(model, i)->points);
	return g_steal_pointer(&model);
}

/* ---- the table ---- */

/* All sizes of all curves, ascending. */
static GArray *all_sizes(const kvt_collective_model *model)
{
	GArray *sizes = g_array_new(FALSE, FALSE, sizeof(point));
	for (unsigned i = 0; i < model->curves->len; i++)
		g_array_append_vals(
			sizes, point_at(curve_at(model, i), 0), curve_at(model, i)->points->len);
	g_array_sort(sizes, by_bytes);
	unsigned kept = 0;
	for (unsigned i = 0; i < sizes->len; i++) {
		point p = g_array_index(sizes, point, i);
		if (kept == 0 || g_array_index(sizes, point, kept - 1).bytes != p.bytes)
			g_array_index(sizes, point, kept++) = p;
	}
	g_array_set_size(sizes, kept);
	return sizes;
}

char *kvt_collective_model_text(const kvt_collective_model *model)
{
	GString *out = g_string_new("# Times of collectives in us: medians of measured times.\n"
				    "# Source of the measurements and licence: ATTRIBUTION.md.\n"
				    "# Layout: models/collective_model.c.\n");
	g_string_append_printf(
		out, "kvtier-table collective %d\ngpu %s\nbytes", VERSION, model->gpu);
	g_autoptr(GArray) sizes = all_sizes(model);
	for (unsigned i = 0; i < sizes->len; i++)
		g_string_append_printf(
			out, " %" G_GINT64_FORMAT, g_array_index(sizes, point, i).bytes);
	g_string_append_c(out, '\n');
	for (unsigned i = 0; i < model->curves->len; i++) {
		const curve *c = curve_at(model, i);
		g_string_append_printf(
			out, "times %s %s %" G_GINT64_FORMAT, c->source, c->op, c->gpus);
		for (unsigned s = 0, p = 0; s < sizes->len; s++) {
			if (p == c->points->len ||
				point_at(c, p)->bytes != g_array_index(sizes, point, s).bytes)
				g_string_append(out, " -");
			else
				g_string_append_printf(
					out, " %.5g", point_at(c, p++)->seconds * 1e6);
		}
		g_string_append_c(out, '\n');
	}
	return g_string_free(out, FALSE);
}

gboolean kvt_collective_model_save(
	const kvt_collective_model *model, const char *path, GError **error)
{
	g_autofree char *text = kvt_collective_model_text(model);
	g_autoptr(GError) why = NULL;
	if (!g_file_set_contents(path, text, -1, &why))
		return kvt_error_failed(error, "%s", why->message);
	return TRUE;
}

static gboolean read_sizes(kvt_table_text *table, GArray *sizes, GError **error)
{
	unsigned count = table->fields->len - 1;
	if (count < 1 || count > MAX_SIZES)
		return kvt_table_text_error(
			table, error, "bytes: %u values, expected 1 to %d", count, MAX_SIZES);
	for (unsigned i = 0; i < count; i++) {
		int64_t bytes = 0;
		if (!kvt_table_text_integer(
			    table, i + 1, "bytes", 1, (int64_t)1 << 50, &bytes, error))
			return FALSE;
		if (i > 0 && bytes <= g_array_index(sizes, int64_t, i - 1))
			return kvt_table_text_error(table, error, "bytes: values must ascend");
		g_array_append_val(sizes, bytes);
	}
	return TRUE;
}

static gboolean read_curve(
	kvt_table_text *table, kvt_collective_model *model, const GArray *sizes, GError **error)
{
	if (g_strcmp0(kvt_table_text_field(table, 0), "times") != 0)
		return kvt_table_text_error(
			table, error, "'%.40s', expected 'times'", kvt_table_text_field(table, 0));
	int64_t gpus = 0;
	if (!kvt_table_text_expect(table, sizes->len + 3, error) ||
		!kvt_table_text_integer(table, 3, "gpus", 2, MAX_GPUS, &gpus, error))
		return FALSE;
	curve *c = curve_new(kvt_table_text_field(table, 1), kvt_table_text_field(table, 2), gpus);
	/* the order is what makes neighbours in number of GPUs easy to find, and twins impossible
	 */
	if (model->curves->len > 0 &&
		by_kind(&model->curves->pdata[model->curves->len - 1], &c) >= 0) {
		curve_free(c);
		return kvt_table_text_error(table, error,
			"times: expected lines ordered by source, op and gpus, each once");
	}
	g_ptr_array_add(model->curves, c);
	for (unsigned i = 0; i < sizes->len; i++) {
		if (strcmp(kvt_table_text_field(table, i + 4), "-") == 0)
			continue;
		double microseconds = 0;
		if (!kvt_table_text_number(table, i + 4, "time", 1e-3, 1e12, &microseconds, error))
			return FALSE;
		point p = { g_array_index(sizes, int64_t, i), microseconds * 1e-6 };
		g_array_append_val(c->points, p);
	}
	if (c->points->len == 0)
		return kvt_table_text_error(table, error, "times: no time, expected at least one");
	return TRUE;
}

static kvt_collective_model *read_model(kvt_table_text *table, GError **error)
{
	if (!kvt_table_text_next_is(table, "gpu", error) || !kvt_table_text_expect(table, 1, error))
		return NULL;
	g_autoptr(kvt_collective_model) model = model_new(kvt_table_text_field(table, 1));
	g_autoptr(GArray) sizes = g_array_new(FALSE, FALSE, sizeof(int64_t));
	if (!kvt_table_text_next_is(table, "bytes", error) || !read_sizes(table, sizes, error))
		return NULL;
	while (kvt_table_text_next(table) != NULL)
		if (!read_curve(table, model, sizes, error))
			return NULL;
	if (model->curves->len == 0) {
		kvt_table_text_error(table, error, "no times, expected at least one line");
		return NULL;
	}
	return g_steal_pointer(&model);
}

kvt_collective_model *kvt_collective_model_parse(
	const char *name, const char *text, size_t length, GError **error)
{
	g_autoptr(kvt_table_text) table =
		kvt_table_text_parse(name, text, length, "collective", VERSION, error);
	return table != NULL ? read_model(table, error) : NULL;
}

kvt_collective_model *kvt_collective_model_load(const char *path, GError **error)
{
	g_autoptr(kvt_table_text) table = kvt_table_text_load(path, "collective", VERSION, error);
	return table != NULL ? read_model(table, error) : NULL;
}
