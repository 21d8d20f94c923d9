/*
 * output.h: results as a text table, JSON or CSV from one description. A kvt_table has typed
 * columns and rows of cells; kvt_json_* make and print jansson values the one way kvtier prints
 * JSON: keys in the order they were set, doubles with the fewest digits that read back the same,
 * NaN and infinity as null. It opens no files and knows no terminal.
 */
#ifndef KVT_OUTPUT_H
#define KVT_OUTPUT_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "sim/base/units.h"

typedef enum kvt_format { KVT_FORMAT_TABLE, KVT_FORMAT_JSON, KVT_FORMAT_CSV } kvt_format;

/* "table", "json", "csv", NULL: a word's index is its kvt_format. */
extern const char *const kvt_format_names[];

typedef enum kvt_cell_type {
	KVT_CELL_TEXT,    /* to the left in a text table; the others to the right */
	KVT_CELL_NUMBER,  /* double, in base units of the column's unit */
	KVT_CELL_INTEGER, /* int64_t */
	KVT_CELL_BOOL,    /* "yes" and "no" in a text table, true and false elsewhere */
} kvt_cell_type;

/*
 * A column: JSON and CSV give it by `key`, always in base units; a text table by `header`. A number
 * in a text table is written by kvt_unit_format unless `format`, a printf format for one double,
 * says otherwise; it is multiplied by `scale` first (0 stands for 1).
 */
typedef struct kvt_column {
	const char *key;    /* NULL ends a list of columns */
	const char *header; /* NULL: not in the text table */
	kvt_cell_type type;
	kvt_unit unit;
	const char *format; /* such as "%+.1f%%" with a scale of 100 */
	double scale;
} kvt_column;

typedef struct kvt_table kvt_table;

/* A table without rows. The columns are kept by reference and must outlive it. */
kvt_table *kvt_table_new(const kvt_column *columns);
void kvt_table_free(kvt_table *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_table, kvt_table_free)

/* Begins a row; the calls below fill its cells from left to right and must match the columns'
 * types. A cell that is not filled, and kvt_table_add_none, is null: empty in a CSV, "-" in a
 * table. */
void kvt_table_add_row(kvt_table *table);
void kvt_table_add_text(kvt_table *table, const char *text); /* copied; NULL is null */
void kvt_table_add_number(kvt_table *table, double number);  /* NaN and infinity are null */
void kvt_table_add_integer(kvt_table *table, int64_t integer);
void kvt_table_add_bool(kvt_table *table, bool value);
void kvt_table_add_none(kvt_table *table);

/* Rows so far. */
size_t kvt_table_rows(const kvt_table *table);

/* Writes the whole table: aligned text, an array of objects, or CSV (RFC 4180 quoting, a header
 * line, lines end in LF). False with an error when the stream fails. */
gboolean kvt_table_write(const kvt_table *table, kvt_format format, FILE *stream, GError **error);

/* The rows as an array of objects. A new reference. */
json_t *kvt_table_to_json(const kvt_table *table);

/* A table with the columns `name` and `value`, a row for each scalar in `value`, its name the
 * dotted path to it ("bytes.hbm", "provenance.0"): how an object is shown as a table or CSV. */
kvt_table *kvt_table_from_json(const json_t *value);

/* An object whose first key is "schema": "kvtier.NAME/VERSION". A new reference. */
json_t *kvt_json_result(const char *name, unsigned version);

/* A real, null when it is not finite. A new reference. */
json_t *kvt_json_real(double number);

/* A string, with U+FFFD where text is not UTF-8; null for NULL. A new reference. */
json_t *kvt_json_text(const char *text);

/* Writes a value, indented by two spaces, and a newline. False when the stream fails. */
gboolean kvt_json_write(const json_t *value, FILE *stream, GError **error);

/* The text that kvt_json_write writes. A new string. */
char *kvt_json_dump(const json_t *value);

/* The shortest decimal that reads back as the same double, such as "0.1" and "1e+22"; "null" when
 * it is not finite. Returns a new string. */
char *kvt_number_text(double number);

#endif
