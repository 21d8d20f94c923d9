/*
 * table_text.h: the text form that all fitted kernel tables share: lines of fields between spaces,
 * the first field a keyword. It reads and splits lines and reports where they are wrong; what the
 * keywords mean is each table's own business.
 *
 *   # comments and empty lines are skipped
 *   kvtier-table KIND VERSION          the first line that is neither
 *   keyword field field ...
 */
#ifndef KVT_TABLE_TEXT_H
#define KVT_TABLE_TEXT_H

#include <glib.h>
#include <stdint.h>

typedef struct kvt_table_text {
	char *path;        /* for messages */
	char *text;        /* the whole file, fields ended by NUL as they are split */
	char *next;        /* where the next line begins */
	unsigned line;     /* of the current fields, from 1 */
	GPtrArray *fields; /* of the current line; they point into `text` */
} kvt_table_text;

/* Reads the file and its first line, which must be of this kind and version. NULL with an error
 * otherwise, also for a file over 64 MiB or with NUL bytes. */
kvt_table_text *kvt_table_text_load(
	const char *path, const char *kind, int version, GError **error);

/* The same from memory; `name` stands for the file in messages. */
kvt_table_text *kvt_table_text_parse(const char *name, const char *contents, size_t length,
	const char *kind, int version, GError **error);

void kvt_table_text_free(kvt_table_text *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_table_text, kvt_table_text_free)

/* Goes to the next line and returns its keyword, or NULL at the end of the file. */
const char *kvt_table_text_next(kvt_table_text *table);

/* Goes to the next line; an error when it does not begin with `keyword`. */
gboolean kvt_table_text_next_is(kvt_table_text *table, const char *keyword, GError **error);

/* Field i of the current line (0 is the keyword), or NULL beyond the last. */
const char *kvt_table_text_field(const kvt_table_text *table, unsigned i);

/* An error at the current line; returns false. */
gboolean kvt_table_text_error(const kvt_table_text *table, GError **error, const char *format, ...)
	G_GNUC_PRINTF(3, 4);

/* Field i as a finite number in [low, high] or a whole one; `what` names it in messages. */
gboolean kvt_table_text_number(const kvt_table_text *table, unsigned i, const char *what,
	double low, double high, double *value, GError **error);
gboolean kvt_table_text_integer(const kvt_table_text *table, unsigned i, const char *what,
	int64_t low, int64_t high, int64_t *value, GError **error);

/* Errors unless the current line has exactly `count` fields after its keyword. */
gboolean kvt_table_text_expect(const kvt_table_text *table, unsigned count, GError **error);

#endif
