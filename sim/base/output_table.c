/* output_table.c: a table of typed cells and its three forms: aligned text, JSON and CSV. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "sim/base/error.h"
#include "sim/base/output.h"

const char *const kvt_format_names[] = { "table", "json", "csv", NULL };

typedef struct kvt_cell {
	bool set;
	union {
		char *text;
		double number;
		int64_t integer;
		bool boolean;
	};
} kvt_cell;

struct kvt_table {
	const kvt_column *columns;
	unsigned width;  /* number of columns */
	unsigned filled; /* cells of the last row */
	GPtrArray *rows; /* kvt_cell[width] each */
};

kvt_table *kvt_table_new(const kvt_column *columns)
{
	kvt_table *table = g_new0(kvt_table, 1);
	table->columns = columns;
	while (columns[table->width].key != NULL)
		table->width++;
	table->filled = table->width;
	table->rows = g_ptr_array_new();
	return table;
}

void kvt_table_free(kvt_table *table)
{
	if (table == NULL)
		return;
	for (guint i = 0; i < table->rows->len; i++) {
		kvt_cell *row = g_ptr_array_index(table->rows, i);
		for (unsigned j = 0; j < table->width; j++)
			if (table->columns[j].type == KVT_CELL_TEXT && row[j].set)
				g_free(row[j].text);
		g_free(row);
	}
	g_ptr_array_free(table->rows, TRUE);
	g_free(table);
}

size_t kvt_table_rows(const kvt_table *table)
{
	return table->rows->len;
}

void kvt_table_add_row(kvt_table *table)
{
	g_ptr_array_add(table->rows, g_new0(kvt_cell, table->width));
	table->filled = 0;
}

static kvt_cell *next_cell(kvt_table *table)
{
	g_assert(table->rows->len > 0 && table->filled < table->width);
	kvt_cell *row = g_ptr_array_index(table->rows, table->rows->len - 1);
	return &row[table->filled++];
}

static kvt_cell *next_typed(kvt_table *table, kvt_cell_type type)
{
	kvt_cell *cell = next_cell(table);
	g_assert(table->columns[table->filled - 1].type == type);
	cell->set = true;
	return cell;
}

void kvt_table_add_text(kvt_table *table, const char *text)
{
	kvt_cell *cell = next_typed(table, KVT_CELL_TEXT);
	cell->set = text != NULL;
	if (text != NULL)
		cell->text = g_utf8_make_valid(text, -1);
}

void kvt_table_add_number(kvt_table *table, double number)
{
	kvt_cell *cell = next_typed(table, KVT_CELL_NUMBER);
	cell->set = isfinite(number);
	cell->number = number;
}

void kvt_table_add_integer(kvt_table *table, int64_t integer)
{
	next_typed(table, KVT_CELL_INTEGER)->integer = integer;
}

void kvt_table_add_bool(kvt_table *table, bool value)
{
	next_typed(table, KVT_CELL_BOOL)->boolean = value;
}

void kvt_table_add_none(kvt_table *table)
{
	next_cell(table);
}

/* How a text table shows a cell, on one line. */
static char *shown_text(const kvt_column *column, const kvt_cell *cell)
{
	if (!cell->set)
		return g_strdup("-");
	switch (column->type) {
	case KVT_CELL_TEXT: {
		char *text = g_strdup(cell->text);
		return g_strdelimit(text, "\n\r\t", ' ');
	}
	case KVT_CELL_NUMBER: {
		double number = cell->number * (column->scale != 0.0 ? column->scale : 1.0);
		if (column->format != NULL)
			return g_strdup_printf(column->format, number);
		return kvt_unit_format(number, column->unit);
	}
	case KVT_CELL_INTEGER:
		return g_strdup_printf("%" PRId64, cell->integer);
	case KVT_CELL_BOOL:
		return g_strdup(cell->boolean ? "yes" : "no");
	}
	g_assert_not_reached();
}

/* Cells that a terminal gives to the text. */
static unsigned shown_width(const char *text)
{
	unsigned width = 0;
	for (; *text != '\0'; text = g_utf8_next_char(text)) {
		gunichar c = g_utf8_get_char(text);
		if (!g_unichar_iszerowidth(c))
			width += g_unichar_iswide(c) ? 2 : 1;
	}
	return width;
}

/* Adds a line of the text table; the last column is not padded on its right. */
static void append_line(
	GString *out, const kvt_table *table, char *const *texts, const unsigned *widths)
{
	GString *line = g_string_new(NULL);
	for (unsigned i = 0; i < table->width; i++) {
		if (table->columns[i].header == NULL)
			continue;
		if (line->len > 0)
			g_string_append(line, "  ");
		unsigned pad = widths[i] - shown_width(texts[i]);
		bool left = table->columns[i].type == KVT_CELL_TEXT;
		if (left)
			g_string_append(line, texts[i]);
		g_string_append_printf(line, "%*s", (int)pad, "");
		if (!left)
			g_string_append(line, texts[i]);
	}
	while (line->len > 0 && line->str[line->len - 1] == ' ')
		g_string_truncate(line, line->len - 1);
	g_string_append_len(out, line->str, (gssize)line->len);
	g_string_append_c(out, '\n');
	g_string_free(line, TRUE);
}

static char *table_text(const kvt_table *table)
{
	size_t lines = table->rows->len + 2, width = table->width;
	g_autofree unsigned *widths = g_new0(unsigned, width);
	char **texts = g_new0(char *, lines *width + 1);
	for (unsigned i = 0; i < width; i++) {
		const kvt_column *column = &table->columns[i];
		texts[i] = g_strdup(column->header != NULL ? column->header : "");
		widths[i] = shown_width(texts[i]);
		for (guint r = 0; r < table->rows->len; r++) {
			const kvt_cell *row = g_ptr_array_index(table->rows, r);
			char *text = shown_text(column, &row[i]);
			texts[(r + 2) * width + i] = text;
			widths[i] = MAX(widths[i], shown_width(text));
		}
		texts[width + i] = g_strnfill(widths[i], '-');
	}
	GString *out = g_string_new(NULL);
	for (size_t i = 0; i < lines; i++)
		append_line(out, table, texts + i * width, widths);
	for (size_t i = 0; i < lines * width; i++)
		g_free(texts[i]);
	g_free(texts);
	return g_string_free(out, FALSE);
}

static void append_quoted(GString *out, const char *text)
{
	if (strpbrk(text, ",\"\r\n") == NULL) {
		g_string_append(out, text);
		return;
	}
	g_string_append_c(out, '"');
	for (; *text != '\0'; text++) {
		if (*text == '"')
			g_string_append_c(out, '"');
		g_string_append_c(out, *text);
	}
	g_string_append_c(out, '"');
}

static void append_csv_cell(GString *out, const kvt_column *column, const kvt_cell *cell)
{
	if (!cell->set)
		return;
	switch (column->type) {
	case KVT_CELL_TEXT:
		append_quoted(out, cell->text);
		return;
	case KVT_CELL_NUMBER: {
		g_autofree char *number = kvt_number_text(cell->number);
		g_string_append(out, number);
		return;
	}
	case KVT_CELL_INTEGER:
		g_string_append_printf(out, "%" PRId64, cell->integer);
		return;
	case KVT_CELL_BOOL:
		g_string_append(out, cell->boolean ? "true" : "false");
		return;
	}
}

static char *csv_text(const kvt_table *table)
{
	GString *out = g_string_new(NULL);
	for (unsigned i = 0; i < table->width; i++) {
		g_string_append(out, i > 0 ? "," : "");
		append_quoted(out, table->columns[i].key);
	}
	g_string_append_c(out, '\n');
	for (guint r = 0; r < table->rows->len; r++) {
		const kvt_cell *row = g_ptr_array_index(table->rows, r);
		for (unsigned i = 0; i < table->width; i++) {
			g_string_append(out, i > 0 ? "," : "");
			append_csv_cell(out, &table->columns[i], &row[i]);
		}
		g_string_append_c(out, '\n');
	}
	return g_string_free(out, FALSE);
}

static json_t *cell_json(const kvt_column *column, const kvt_cell *cell)
{
	if (!cell->set)
		return json_null();
	switch (column->type) {
	case KVT_CELL_TEXT:
		return kvt_json_text(cell->text);
	case KVT_CELL_NUMBER:
		return kvt_json_real(cell->number);
	case KVT_CELL_INTEGER:
		return json_integer(cell->integer);
	case KVT_CELL_BOOL:
		return json_boolean(cell->boolean);
	}
	g_assert_not_reached();
}

json_t *kvt_table_to_json(const kvt_table *table)
{
	json_t *array = json_array();
	for (guint r = 0; r < table->rows->len; r++) {
		const kvt_cell *row = g_ptr_array_index(table->rows, r);
		json_t *object = json_object();
		for (unsigned i = 0; i < table->width; i++)
			json_object_set_new(object, table->columns[i].key,
				cell_json(&table->columns[i], &row[i]));
		json_array_append_new(array, object);
	}
	return array;
}

gboolean kvt_table_write(const kvt_table *table, kvt_format format, FILE *stream, GError **error)
{
	if (format == KVT_FORMAT_JSON) {
		json_t *array = kvt_table_to_json(table);
		gboolean good = kvt_json_write(array, stream, error);
		json_decref(array);
		return good;
	}
	g_autofree char *text = format == KVT_FORMAT_CSV ? csv_text(table) : table_text(table);
	if (fputs(text, stream) < 0)
		return kvt_error_failed(error, "cannot write a table: %s", g_strerror(errno));
	return TRUE;
}

static void add_scalars(kvt_table *table, const char *path, const json_t *value)
{
	json_t *iterated = (json_t *)value, *member;
	const char *dot = *path != '\0' ? "." : "";
	if (json_is_object(value)) {
		const char *key;
		json_object_foreach(iterated, key, member)
		{
			g_autofree char *name = g_strconcat(path, dot, key, NULL);
			add_scalars(table, name, member);
		}
		return;
	}
	if (json_is_array(value)) {
		size_t index;
		json_array_foreach(iterated, index, member)
		{
			g_autofree char *name = g_strdup_printf("%s%s%zu", path, dot, index);
			add_scalars(table, name, member);
		}
		return;
	}
	kvt_table_add_row(table);
	kvt_table_add_text(table, path);
	if (json_is_string(value)) {
		kvt_table_add_text(table, json_string_value(value));
	} else if (!json_is_null(value)) {
		g_autofree char *text = kvt_json_dump(value);
		kvt_table_add_text(table, g_strchomp(text));
	}
}

kvt_table *kvt_table_from_json(const json_t *value)
{
	static const kvt_column columns[] = {
		{ .key = "name", .header = "name", .type = KVT_CELL_TEXT },
		{ .key = "value", .header = "value", .type = KVT_CELL_TEXT },
		{ 0 },
	};
	kvt_table *table = kvt_table_new(columns);
	add_scalars(table, "", value);
	return table;
}
