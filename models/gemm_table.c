/*
 * gemm_table.c: the text form of a kvt_gemm_model, both ways.
 *
 *   kvtier-table gemm 1
 *   gpu NAME
 *   sms COUNT
 *   kernel SOURCE DTYPE ROWS           one block a kernel, its lines in this order
 *   multiples N K                      that divide every measured n and k
 *   base PEAK BANDWIDTH FLOOR OVERLAP FILL QUANTISED SPLIT_K
 *   tiles EFFICIENCY x 6
 *   m VALUE ...                        the axes, ascending
 *   n VALUE ...
 *   k VALUE ...
 *   residual LOW STEP                  log(measured / base) = LOW + STEP (character - '!')
 *   codes N COLUMN ...                 one line an n, one column a k: a character for every m,
 *                                      or - where nothing was measured
 */
#include <math.h>
#include <string.h>

#include "models/gemm_series.h"
#include "models/table_text.h"
#include "sim/base/error.h"

enum { VERSION = 1 };
static const char NOTHING[] = "-";

static void print_axis(GString *out, const char *name, const gemm_axis *axis)
{
	g_string_append(out, name);
	for (unsigned i = 0; i < axis->count; i++)
		g_string_append_printf(out, " %" G_GINT64_FORMAT, axis->values[i]);
	g_string_append_c(out, '\n');
}

static void print_series(GString *out, const gemm_series *s)
{
	const kvt_gemm_base *base = &s->base;
	g_string_append_printf(
		out, "\nkernel %s %s %" G_GINT64_FORMAT "\n", s->source, s->dtype, s->rows);
	g_string_append_printf(out, "multiples %" G_GINT64_FORMAT " %" G_GINT64_FORMAT "\n",
		s->n_multiple, s->k_multiple);
	g_string_append_printf(out, "base %.6g %.6g %.6g %.6g %.6g %.6g %d\n", base->peak,
		base->bandwidth, base->floor, base->overlap, base->fill, base->quantised,
		base->split_k);
	g_string_append(out, "tiles");
	for (int i = 0; i < KVT_GEMM_TILES; i++)
		g_string_append_printf(out, " %.6g", base->tile_efficiency[i]);
	g_string_append_c(out, '\n');
	print_axis(out, "m", &s->m);
	print_axis(out, "n", &s->n);
	print_axis(out, "k", &s->k);
	g_string_append_printf(out, "residual %.6g %.6g\n", s->residual_low, s->residual_step);
	for (unsigned i = 0; i < s->n.count; i++) {
		g_string_append_printf(out, "codes %" G_GINT64_FORMAT, s->n.values[i]);
		for (unsigned j = 0; j < s->k.count; j++) {
			const char *column = gemm_series_column(s, i, j);
			g_string_append_c(out, ' ');
			if (*column == '\0')
				g_string_append(out, NOTHING);
			else
				g_string_append_len(out, column, s->m.count);
		}
		g_string_append_c(out, '\n');
	}
}

char *kvt_gemm_model_text(const kvt_gemm_model *model)
{
	GString *out = g_string_new("# Times of matrix products, fitted to measured kernel times.\n"
				    "# Source of the measurements and licence: ATTRIBUTION.md.\n"
				    "# Layout: models/gemm_table.c.\n");
	g_string_append_printf(out, "kvtier-table gemm %d\ngpu %s\nsms %" G_GINT64_FORMAT "\n",
		VERSION, model->gpu, model->sms);
	for (unsigned i = 0; i < model->series->len; i++)
		print_series(out, model->series->pdata[i]);
	return g_string_free(out, FALSE);
}

gboolean kvt_gemm_model_save(const kvt_gemm_model *model, const char *path, GError **error)
{
	g_autofree char *text = kvt_gemm_model_text(model);
	g_autoptr(GError) why = NULL;
	if (!g_file_set_contents(path, text, -1, &why))
		return kvt_error_failed(error, "%s", why->message);
	return TRUE;
}

static gboolean read_axis(kvt_table_text *table, const char *name, gemm_axis *axis, GError **error)
{
	if (!kvt_table_text_next_is(table, name, error))
		return FALSE;
	unsigned count = table->fields->len - 1;
	if (count < 1 || count > GEMM_AXIS_MAX)
		return kvt_table_text_error(table, error, "%s: %u values, expected 1 to %d", name,
			count, GEMM_AXIS_MAX);
	axis->values = g_new(int64_t, count);
	axis->count = count;
	for (unsigned i = 0; i < count; i++) {
		if (!kvt_table_text_integer(
			    table, i + 1, name, 1, (int64_t)1 << 40, &axis->values[i], error))
			return FALSE;
		if (i > 0 && axis->values[i] <= axis->values[i - 1])
			return kvt_table_text_error(table, error,
				"%s: values must ascend, expected one over %" G_GINT64_FORMAT, name,
				axis->values[i - 1]);
	}
	return TRUE;
}

static gboolean read_base(kvt_table_text *table, kvt_gemm_base *base, GError **error)
{
	int64_t split = 0;
	if (!kvt_table_text_next_is(table, "base", error) ||
		!kvt_table_text_expect(table, 7, error) ||
		!kvt_table_text_number(table, 1, "peak", 1e3, 1e21, &base->peak, error) ||
		!kvt_table_text_number(table, 2, "bandwidth", 1e3, 1e18, &base->bandwidth, error) ||
		!kvt_table_text_number(table, 3, "floor", 0, 10, &base->floor, error) ||
		!kvt_table_text_number(table, 4, "overlap", 1, 100, &base->overlap, error) ||
		!kvt_table_text_number(table, 5, "fill", 0, 1e7, &base->fill, error) ||
		!kvt_table_text_number(table, 6, "quantised", 0, 1, &base->quantised, error) ||
		!kvt_table_text_integer(table, 7, "split_k", 0, 1, &split, error))
		return FALSE;
	base->split_k = split != 0;
	if (!kvt_table_text_next_is(table, "tiles", error) ||
		!kvt_table_text_expect(table, KVT_GEMM_TILES, error))
		return FALSE;
	for (unsigned i = 0; i < KVT_GEMM_TILES; i++)
		if (!kvt_table_text_number(
			    table, i + 1, "tiles", 1e-6, 1e3, &base->tile_efficiency[i], error))
			return FALSE;
	return TRUE;
}

static gboolean read_column(
	kvt_table_text *table, gemm_series *series, unsigned n, unsigned k, GError **error)
{
	const char *field = kvt_table_text_field(table, k + 2);
	if (strcmp(field, NOTHING) == 0 && series->m.count > 1)
		return TRUE;
	size_t length = strlen(field);
	if (length != series->m.count)
		return kvt_table_text_error(table, error,
			"codes: column %u has %zu characters, expected %u", k + 1, length,
			series->m.count);
	for (size_t i = 0; i < length; i++)
		if (field[i] < GEMM_CODE_FIRST || field[i] > GEMM_CODE_LAST)
			return kvt_table_text_error(table, error,
				"codes: column %u holds byte %d, expected printable ASCII", k + 1,
				(unsigned char)field[i]);
	memcpy(gemm_series_column(series, n, k), field, length);
	return TRUE;
}

static gboolean read_codes(kvt_table_text *table, gemm_series *series, GError **error)
{
	size_t cells = (size_t)series->n.count * series->k.count * series->m.count;
	if (cells > (size_t)64 << 20)
		return kvt_table_text_error(
			table, error, "a grid of %zu cells, expected at most 64 Mi", cells);
	series->codes = g_malloc0(cells);
	bool any = false;
	for (unsigned i = 0; i < series->n.count; i++) {
		int64_t n = 0;
		if (!kvt_table_text_next_is(table, "codes", error) ||
			!kvt_table_text_expect(table, series->k.count + 1, error) ||
			!kvt_table_text_integer(table, 1, "n", 1, INT64_MAX, &n, error))
			return FALSE;
		if (n != series->n.values[i])
			return kvt_table_text_error(table, error,
				"codes of n = %" G_GINT64_FORMAT ", expected %" G_GINT64_FORMAT, n,
				series->n.values[i]);
		for (unsigned j = 0; j < series->k.count; j++) {
			if (!read_column(table, series, i, j, error))
				return FALSE;
			any |= *gemm_series_column(series, i, j) != '\0';
		}
	}
	if (!any)
		return kvt_table_text_error(
			table, error, "no column of codes, expected at least one");
	return TRUE;
}

static gboolean read_series(kvt_table_text *table, gemm_series *s, GError **error)
{
	if (!kvt_table_text_integer(table, 3, "rows", 0, INT64_MAX, &s->rows, error))
		return FALSE;
	if (!kvt_table_text_next_is(table, "multiples", error) ||
		!kvt_table_text_expect(table, 2, error) ||
		!kvt_table_text_integer(table, 1, "n", 1, INT64_MAX, &s->n_multiple, error) ||
		!kvt_table_text_integer(table, 2, "k", 1, INT64_MAX, &s->k_multiple, error))
		return FALSE;
	if (!read_base(table, &s->base, error) || !read_axis(table, "m", &s->m, error) ||
		!read_axis(table, "n", &s->n, error) || !read_axis(table, "k", &s->k, error))
		return FALSE;
	if (!kvt_table_text_next_is(table, "residual", error) ||
		!kvt_table_text_expect(table, 2, error) ||
		!kvt_table_text_number(table, 1, "low", -50, 50, &s->residual_low, error) ||
		!kvt_table_text_number(table, 2, "step", 0, 1, &s->residual_step, error))
		return FALSE;
	return read_codes(table, s, error);
}

static gboolean read_model(kvt_table_text *table, kvt_gemm_model **out, GError **error)
{
	if (!kvt_table_text_next_is(table, "gpu", error) || !kvt_table_text_expect(table, 1, error))
		return FALSE;
	g_autofree char *gpu = g_strdup(kvt_table_text_field(table, 1));
	int64_t sms = 0;
	if (!kvt_table_text_next_is(table, "sms", error) ||
		!kvt_table_text_expect(table, 1, error) ||
		!kvt_table_text_integer(table, 1, "sms", 1, 100000, &sms, error))
		return FALSE;
	g_autoptr(kvt_gemm_model) model = gemm_model_new(gpu, sms);
	for (const char *keyword; (keyword = kvt_table_text_next(table)) != NULL;) {
		if (strcmp(keyword, "kernel") != 0)
			return kvt_table_text_error(
				table, error, "'%.40s', expected 'kernel'", keyword);
		if (!kvt_table_text_expect(table, 3, error))
			return FALSE;
		const char *source = kvt_table_text_field(table, 1);
		const char *dtype = kvt_table_text_field(table, 2);
		kvt_gemm_query same = { .source = source, .dtype = dtype, .m = 1, .n = 1, .k = 1 };
		kvt_gemm_time unused;
		if (kvt_gemm_predict(model, &same, &unused) == 0)
			return kvt_table_text_error(table, error,
				"kernel %s %s again, expected it once", source, dtype);
		gemm_series *series = gemm_series_new(source, dtype);
		if (!read_series(table, series, error)) {
			gemm_series_free(series);
			return FALSE;
		}
		g_ptr_array_add(model->series, series);
	}
	if (model->series->len == 0)
		return kvt_table_text_error(table, error, "no kernel, expected at least one");
	*out = g_steal_pointer(&model);
	return TRUE;
}

kvt_gemm_model *kvt_gemm_model_parse(
	const char *name, const char *text, size_t length, GError **error)
{
	g_autoptr(kvt_table_text) table =
		kvt_table_text_parse(name, text, length, "gemm", VERSION, error);
	kvt_gemm_model *model = NULL;
	return table != NULL && read_model(table, &model, error) ? model : NULL;
}

kvt_gemm_model *kvt_gemm_model_load(const char *path, GError **error)
{
	g_autoptr(kvt_table_text) table = kvt_table_text_load(path, "gemm", VERSION, error);
	kvt_gemm_model *model = NULL;
	return table != NULL && read_model(table, &model, error) ? model : NULL;
}
