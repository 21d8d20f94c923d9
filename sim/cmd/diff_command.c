/* diff_command.c: `kvtier diff A.json B.json`: what changed between two results, and whether it
 * exceeds their spread. */
#include <math.h>
#include <stdlib.h>

#include "sim/cmd/command.h"
#include "sim/cmd/command_options.h"
#include "sim/cmd/result_diff.h"

static const char *const kind_names[] = { "changed", "added", "removed" };

static const kvt_column columns[] = {
	{ .key = "path", .header = "figure", .type = KVT_CELL_TEXT },
	{ .key = "a", .header = "A", .type = KVT_CELL_TEXT },
	{ .key = "b", .header = "B", .type = KVT_CELL_TEXT },
	{ .key = "change", .header = "change", .type = KVT_CELL_NUMBER, .format = "%+.4g" },
	{ .key = "relative",
		.header = "of A",
		.type = KVT_CELL_NUMBER,
		.format = "%+.2f%%",
		.scale = 100 },
	{ .key = "spread", .header = "spread", .type = KVT_CELL_TEXT },
	{ .key = "verdict", .header = "", .type = KVT_CELL_TEXT },
	{ 0 },
};

/* A value on one line of a table. A new string; NULL: there is none. */
static char *value_text(const json_t *value)
{
	enum { LONGEST = 40 };
	if (!value)
		return NULL;
	if (json_is_real(value))
		return g_strdup_printf("%.6g", json_real_value(value));
	if (json_is_array(value) || json_is_object(value))
		return g_strdup_printf("(%zu %s)",
			json_is_array(value) ? json_array_size(value) : json_object_size(value),
			json_is_array(value) ? "rows" : "members");
	g_autofree char *text = json_is_string(value) ? g_strdup(json_string_value(value)) : NULL;
	if (!text) {
		char *dump = json_dumps(value, JSON_ENCODE_ANY);
		text = g_strdup(dump);
		free(dump);
	}
	g_strdelimit(text, "\n\r\t", ' ');
	if (g_utf8_strlen(text, -1) <= LONGEST)
		return g_steal_pointer(&text);
	g_autofree char *cut = g_utf8_substring(text, 0, LONGEST - 1);
	return g_strconcat(cut, "\u2026", NULL);
}

static double change_of(const result_difference *d)
{
	return json_is_number(d->a) && json_is_number(d->b)
		       ? json_number_value(d->b) - json_number_value(d->a)
		       : NAN;
}

static double relative_of(const result_difference *d)
{
	return change_of(d) / fabs(json_is_number(d->a) ? json_number_value(d->a) : NAN);
}

static char *spread_text(const result_difference *d)
{
	GString *text = g_string_new(NULL);
	for (unsigned side = 0; side < 2; side++)
		if (isfinite(d->low[side]))
			g_string_append_printf(text, "%s%.4g..%.4g", text->len > 0 ? ", " : "",
				d->low[side], d->high[side]);
	return g_string_free(text, FALSE);
}

static kvt_table *table_of(const result_diff *diff)
{
	kvt_table *table = kvt_table_new(columns);
	for (guint i = 0; i < diff->differences->len; i++) {
		const result_difference *d =
			&g_array_index(diff->differences, result_difference, i);
		g_autofree char *a = value_text(d->a), *b = value_text(d->b);
		g_autofree char *spread = spread_text(d);
		kvt_table_add_row(table);
		kvt_table_add_text(table, d->path);
		kvt_table_add_text(table, a);
		kvt_table_add_text(table, b);
		kvt_table_add_number(table, change_of(d));
		kvt_table_add_number(table, relative_of(d));
		kvt_table_add_text(table, *spread != '\0' ? spread : NULL);
		kvt_table_add_text(table, d->kind != DIFFERENCE_CHANGED ? kind_names[d->kind]
					  : d->beyond                   ? "beyond"
									: "within");
	}
	return table;
}

static json_t *spread_json(const result_difference *d, unsigned side)
{
	return isfinite(d->low[side]) ? json_pack("[f, f]", d->low[side], d->high[side])
				      : json_null();
}

static json_t *json_of(const result_diff *diff, char *const *paths)
{
	json_t *result = kvt_json_result("diff", 1), *rows = json_array();
	json_object_set_new(result, "a", kvt_json_text(paths[0]));
	json_object_set_new(result, "b", kvt_json_text(paths[1]));
	json_object_set_new(result, "same", json_boolean(diff->differences->len == 0));
	json_object_set_new(result, "compared", json_integer(diff->compared));
	json_object_set_new(result, "beyond", json_integer(diff->beyond));
	for (guint i = 0; i < diff->differences->len; i++) {
		const result_difference *d =
			&g_array_index(diff->differences, result_difference, i);
		json_t *row = json_object();
		json_object_set_new(row, "path", kvt_json_text(d->path));
		json_object_set_new(row, "kind", json_string(kind_names[d->kind]));
		json_object_set_new(row, "a", d->a ? json_deep_copy(d->a) : json_null());
		json_object_set_new(row, "b", d->b ? json_deep_copy(d->b) : json_null());
		json_object_set_new(row, "change", kvt_json_real(change_of(d)));
		json_object_set_new(row, "relative", kvt_json_real(relative_of(d)));
		json_object_set_new(row, "spread_a", spread_json(d, 0));
		json_object_set_new(row, "spread_b", spread_json(d, 1));
		json_object_set_new(row, "beyond", json_boolean(d->beyond));
		json_array_append_new(rows, row);
	}
	json_object_set_new(result, "differences", rows);
	return result;
}

static gboolean print(const kvt_command_options *options, const result_diff *diff, GError **error)
{
	if (options->format == KVT_FORMAT_JSON) {
		json_t *json = json_of(diff, options->arguments);
		gboolean good = kvt_command_print_json(options, json, error);
		json_decref(json);
		return good;
	}
	g_autoptr(kvt_table) table = table_of(diff);
	if (options->format == KVT_FORMAT_CSV)
		return kvt_command_print_table(options, table, error);
	FILE *stream = kvt_command_open(options, error);
	if (!stream)
		return FALSE;
	gboolean good = diff->differences->len == 0 ||
			kvt_table_write(table, KVT_FORMAT_TABLE, stream, error);
	fprintf(stream, "%s%u of %u figures differ, %u beyond their spread\n",
		diff->differences->len > 0 ? "\n" : "", diff->differences->len, diff->compared,
		diff->beyond);
	return kvt_command_close(options, stream, error) && good;
}

static int compare(const kvt_command_options *options, double tolerance, GError **error)
{
	char *const *paths = options->arguments;
	json_t *a = result_load(paths[0], error);
	json_t *b = a ? result_load(paths[1], error) : NULL;
	int status = 0;
	if (b && result_check_alike(paths[0], a, paths[1], b, error)) {
		result_diff diff;
		result_diff_make(&diff, a, b, tolerance);
		if (print(options, &diff, error))
			status = diff.beyond > 0;
		result_diff_clear(&diff);
	}
	json_decref(a);
	json_decref(b);
	return status;
}

static int run(int argc, char **argv, GError **error)
{
	char *given = NULL;
	const GOptionEntry own[] = {
		{ "tolerance", 0, 0, G_OPTION_ARG_FILENAME, &given,
			"Let figures differ by this share, such as 2%", "SHARE" },
		{ 0 },
	};
	const kvt_command_syntax syntax = { &kvt_command_diff, KVT_TAKES_FORMAT | KVT_TAKES_OUTPUT,
		2, 2, own };
	g_auto(kvt_command_options) options = { 0 };
	gboolean parsed = kvt_command_parse(&syntax, argc, argv, &options, error);
	g_autofree char *text = given;
	double tolerance = 0;
	if (!parsed || (text && !kvt_command_quantity(
					"--tolerance", text, KVT_UNIT_SHARE, &tolerance, error)))
		return 0;
	return compare(&options, tolerance, error);
}

const kvt_command kvt_command_diff = {
	.name = "diff",
	.summary = "what changed between two results, and whether it exceeds their spread",
	.arguments = "A.json B.json",
	.help = "Compares two results of one command (--format json), figure by figure: by how "
		"much each\nchanged, what is new and what is gone. A change is beyond the spread "
		"when each value lies\noutside of the low and high that the other result states "
		"of it; of a figure without a\nstated spread, such as a simulated time, every "
		"change is, but for --tolerance. Exit status:\n0 nothing differs by more than "
		"that, 1 something does, 2 the files cannot be compared.",
	.run = run,
};
