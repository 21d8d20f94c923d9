/* sweep_summary.c: tables of a sweep's points and figures. */
#include "sim/cmd/sweep_summary.h"

#include <math.h>
#include <stdlib.h>

#include "sim/base/error.h"

/* The unit that a text table writes a column's numbers in. */
static kvt_unit unit_of(const kvt_sweep_column *column)
{
	static const struct {
		const char *units;
		kvt_unit unit;
	} known[] = { { "s", KVT_UNIT_TIME }, { "B", KVT_UNIT_BYTES }, { "B/s", KVT_UNIT_RATE },
		{ "FLOP/s", KVT_UNIT_FLOPS }, { "W", KVT_UNIT_POWER }, { "USD", KVT_UNIT_MONEY } };
	for (unsigned i = 0; i < G_N_ELEMENTS(known); i++)
		if (g_str_equal(column->units, known[i].units))
			return known[i].unit;
	return KVT_UNIT_NONE;
}

static bool is_shown(const kvt_sweep_column *column, const char *const *shown)
{
	return column->parameter || g_strv_contains(shown, column->name);
}

/* --- Points --- */

/* What a column has, and how it is written. */
typedef struct row_column {
	const kvt_sweep_column *column;
	double *numbers;
	char **texts;
} row_column;

static gboolean read_columns(const kvt_sweep_results *results, row_column *columns, GError **error)
{
	for (guint i = 0; i < results->columns->len; i++) {
		const kvt_sweep_column *column = g_ptr_array_index(results->columns, i);
		columns[i].column = column;
		if (column->text)
			columns[i].texts = kvt_sweep_results_texts(results, column, error);
		else
			columns[i].numbers = kvt_sweep_results_numbers(results, column, error);
		if (!columns[i].texts && !columns[i].numbers)
			return FALSE;
	}
	return TRUE;
}

/* Descriptions of the columns, and of the error's; NULL-terminated by an empty one. */
static kvt_column *describe(const kvt_sweep_results *results, const char *const *shown)
{
	const guint n = results->columns->len;
	kvt_column *columns = g_new0(kvt_column, n + 2);
	for (guint i = 0; i < n; i++) {
		const kvt_sweep_column *column = g_ptr_array_index(results->columns, i);
		kvt_unit unit = unit_of(column);
		columns[i] = (kvt_column){ .key = column->name,
			.header = is_shown(column, shown) ? column->name : NULL,
			.type = column->text ? KVT_CELL_TEXT : KVT_CELL_NUMBER,
			.unit = unit,
			.format = unit != KVT_UNIT_NONE ? NULL
				  : column->parameter   ? "%.12g"
							: "%.6g" };
	}
	columns[n] = (kvt_column){ .key = "error",
		.header = results->failed > 0 ? "error" : NULL,
		.type = KVT_CELL_TEXT };
	return columns;
}

static kvt_table *make_rows(const kvt_sweep_results *results, const kvt_column *described,
	const row_column *columns, char **errors)
{
	kvt_table *table = kvt_table_new(described);
	for (uint64_t point = 0; point < results->n_points; point++) {
		kvt_table_add_row(table);
		for (guint i = 0; i < results->columns->len; i++) {
			if (columns[i].texts)
				kvt_table_add_text(table, columns[i].texts[point]);
			else
				kvt_table_add_number(table, columns[i].numbers[point]);
		}
		kvt_table_add_text(table, *errors[point] != '\0' ? errors[point] : NULL);
	}
	return table;
}

gboolean sweep_print_rows(const kvt_command_options *options, const kvt_sweep_results *results,
	const char *const *shown, GError **error)
{
	const guint n = results->columns->len;
	g_autofree row_column *columns = g_new0(row_column, n + 1);
	g_autofree kvt_column *described = describe(results, shown);
	g_auto(GStrv) errors = kvt_sweep_results_texts(results, NULL, error);
	gboolean good = errors && read_columns(results, columns, error);
	if (good) {
		g_autoptr(kvt_table) table = make_rows(results, described, columns, errors);
		good = kvt_command_print_table(options, table, error);
	}
	for (guint i = 0; i < n; i++) {
		g_free(columns[i].numbers);
		g_strfreev(columns[i].texts);
	}
	return good;
}

/* --- Figures over all points --- */

typedef struct extent {
	double low, median, high;
	uint64_t low_at, high_at, points;
} extent;

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;
	return (left > right) - (left < right);
}

/* NaN is left out; the numbers are sorted. */
static extent measure(double *numbers, uint64_t n)
{
	extent e = { .low = NAN, .median = NAN, .high = NAN };
	for (uint64_t i = 0; i < n; i++) {
		double number = numbers[i];
		if (isnan(number))
			continue;
		if (e.points == 0 || number < e.low) {
			e.low = number;
			e.low_at = i;
		}
		if (e.points == 0 || number > e.high) {
			e.high = number;
			e.high_at = i;
		}
		numbers[e.points++] = number;
	}
	qsort(numbers, e.points, sizeof *numbers, compare);
	if (e.points > 0)
		e.median = 0.5 * (numbers[(e.points - 1) / 2] + numbers[e.points / 2]);
	return e;
}

static json_t *figure_json(const kvt_sweep_column *column, const extent *e)
{
	json_t *object = json_object();
	json_object_set_new(object, "name", kvt_json_text(column->name));
	json_object_set_new(object, "units", kvt_json_text(column->units));
	json_object_set_new(object, "points", json_integer((json_int_t)e->points));
	json_object_set_new(object, "least", kvt_json_real(e->low));
	json_object_set_new(object, "median", kvt_json_real(e->median));
	json_object_set_new(object, "largest", kvt_json_real(e->high));
	json_object_set_new(object, "least_at", json_integer((json_int_t)e->low_at));
	json_object_set_new(object, "largest_at", json_integer((json_int_t)e->high_at));
	return object;
}

static const kvt_column summary_columns[] = {
	{ .key = "figure", .header = "figure", .type = KVT_CELL_TEXT },
	{ .key = "least", .header = "least", .type = KVT_CELL_TEXT },
	{ .key = "median", .header = "median", .type = KVT_CELL_TEXT },
	{ .key = "largest", .header = "largest", .type = KVT_CELL_TEXT },
	{ .key = "least_at", .header = "least at", .type = KVT_CELL_TEXT },
	{ .key = "largest_at", .header = "largest at", .type = KVT_CELL_TEXT },
	{ 0 },
};

static void add_number(kvt_table *table, const kvt_sweep_column *column, double number)
{
	kvt_unit unit = unit_of(column);
	g_autofree char *text = unit == KVT_UNIT_NONE ? g_strdup_printf("%.4g", number)
						      : kvt_unit_format(number, unit);
	kvt_table_add_text(table, text);
}

static void add_figure(kvt_table *table, const kvt_sweep_column *column, const extent *e,
	const kvt_sweep_plan *plan)
{
	g_autofree char *low = kvt_sweep_plan_point(plan, e->low_at);
	g_autofree char *high = kvt_sweep_plan_point(plan, e->high_at);
	kvt_table_add_row(table);
	kvt_table_add_text(table, column->name);
	add_number(table, column, e->low);
	add_number(table, column, e->median);
	add_number(table, column, e->high);
	kvt_table_add_text(table, low);
	kvt_table_add_text(table, high);
}

static json_t *axes_json(const kvt_sweep_plan *plan)
{
	json_t *axes = json_array();
	for (guint i = 0; i < plan->axes->len; i++) {
		const kvt_sweep_axis *axis = g_ptr_array_index(plan->axes, i);
		json_t *object = json_object();
		json_object_set_new(object, "name", kvt_json_text(axis->name));
		json_object_set_new(object, "values", kvt_json_text(axis->spec));
		json_array_append_new(axes, object);
	}
	return axes;
}

/* Adds each figure to the table, or to the array. */
static gboolean add_figures(const kvt_sweep_results *results, const kvt_sweep_plan *plan,
	const char *const *shown, kvt_table *table, json_t *array, GError **error)
{
	for (guint i = 0; i < results->columns->len; i++) {
		const kvt_sweep_column *column = g_ptr_array_index(results->columns, i);
		if (column->parameter || (table && !is_shown(column, shown)))
			continue;
		g_autofree double *numbers = kvt_sweep_results_numbers(results, column, error);
		if (!numbers)
			return FALSE;
		extent e = measure(numbers, results->n_points);
		if (table && e.points > 0)
			add_figure(table, column, &e, plan);
		else if (array)
			json_array_append_new(array, figure_json(column, &e));
	}
	return TRUE;
}

static gboolean print_json(const kvt_command_options *options, const kvt_sweep_results *results,
	const kvt_sweep_plan *plan, const char *const *shown, GError **error)
{
	json_t *result = kvt_json_result("sweep-summary", 1);
	json_t *figures = json_array();
	json_object_set_new(result, "file", kvt_json_text(results->path));
	json_object_set_new(result, "points", json_integer((json_int_t)results->n_points));
	json_object_set_new(result, "done", json_integer((json_int_t)results->done));
	json_object_set_new(result, "failed", json_integer((json_int_t)results->failed));
	json_object_set_new(result, "axes", axes_json(plan));
	json_object_set_new(result, "figures", figures);
	gboolean good = add_figures(results, plan, shown, NULL, figures, error) &&
			kvt_command_print_json(options, result, error);
	json_decref(result);
	return good;
}

gboolean sweep_print_summary(const kvt_command_options *options, const kvt_sweep_results *results,
	const kvt_sweep_plan *plan, const char *const *shown, GError **error)
{
	if (options->format != KVT_FORMAT_TABLE)
		return print_json(options, results, plan, shown, error);
	g_autoptr(kvt_table) table = kvt_table_new(summary_columns);
	if (!add_figures(results, plan, shown, table, NULL, error))
		return FALSE;
	FILE *stream = kvt_command_open(options, error);
	if (!stream)
		return FALSE;
	fprintf(stream, "%" G_GUINT64_FORMAT " points in %s", results->done, results->path);
	if (results->failed > 0)
		fprintf(stream, ", %" G_GUINT64_FORMAT " failed", results->failed);
	fputs("\n\n", stream);
	return kvt_table_write(table, KVT_FORMAT_TABLE, stream, error) &&
	       kvt_command_close(options, stream, error);
}

gboolean sweep_check_failed(
	const kvt_sweep_results *results, const kvt_sweep_plan *plan, GError **error)
{
	uint64_t first = 0;
	if (results->failed == 0)
		return TRUE;
	while (results->status[first] != KVT_SWEEP_FAILED && first < results->n_points - 1)
		first++;
	g_auto(GStrv) errors = kvt_sweep_results_texts(results, NULL, error);
	if (!errors)
		return FALSE;
	g_autofree char *point = kvt_sweep_plan_point(plan, first);
	return kvt_error_failed(error,
		"%" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " points failed, the first (%s): %s",
		results->failed, results->n_points, point, errors[first]);
}
