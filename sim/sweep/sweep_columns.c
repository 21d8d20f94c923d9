/* sweep_columns.c: the union of lists of names. */
#include "sim/sweep/sweep_columns.h"

#include <math.h>

/* The columns of a list of names; those that are new come last. */
static unsigned *place(kvt_sweep_columns *columns, GHashTable *known, const char *text)
{
	g_auto(GStrv) names = g_strsplit(text, "\n", -1);
	unsigned *at = g_new(unsigned, g_strv_length(names) + 1);
	for (unsigned i = 0; names[i] && *names[i]; i++) {
		unsigned column = GPOINTER_TO_UINT(g_hash_table_lookup(known, names[i]));
		if (column == 0) {
			char *name = g_strdup(names[i]);
			g_ptr_array_add(columns->names, name);
			column = columns->names->len;
			g_hash_table_insert(known, name, GUINT_TO_POINTER(column));
		}
		at[i] = column - 1;
	}
	return at;
}

kvt_sweep_columns *kvt_sweep_columns_new(const kvt_sweep_journal *journal)
{
	kvt_sweep_columns *columns = g_new0(kvt_sweep_columns, 1);
	columns->names = g_ptr_array_new_with_free_func(g_free);
	columns->n_lists = kvt_sweep_journal_names_count(journal);
	columns->columns = g_new0(unsigned *, columns->n_lists + 1);
	columns->error_bytes = 1;
	/* by point, not in the order in which they happened to end */
	g_autoptr(GHashTable) known = g_hash_table_new(g_str_hash, g_str_equal);
	for (uint64_t point = 0; point < kvt_sweep_journal_points(journal); point++) {
		kvt_sweep_frame frame;
		unsigned names;
		if (!kvt_sweep_journal_has(journal, point))
			continue;
		kvt_sweep_journal_read(journal, point, &frame, &names);
		if (frame.kind == KVT_SWEEP_FRAME_FAILED)
			columns->error_bytes = MAX(columns->error_bytes, frame.text_bytes);
		else if (!columns->columns[names])
			columns->columns[names] =
				place(columns, known, kvt_sweep_journal_names(journal, names));
		if (point % 65536 == 65535)
			kvt_sweep_journal_forget(journal);
	}
	return columns;
}

void kvt_sweep_columns_free(kvt_sweep_columns *columns)
{
	if (!columns)
		return;
	for (unsigned i = 0; i < columns->n_lists; i++)
		g_free(columns->columns[i]);
	g_free(columns->columns);
	g_ptr_array_unref(columns->names);
	g_free(columns);
}

void kvt_sweep_columns_row(const kvt_sweep_columns *columns, const kvt_sweep_frame *frame,
	unsigned names, double *row, size_t stride)
{
	for (unsigned i = 0; i < columns->names->len; i++)
		row[i * stride] = NAN;
	for (uint64_t i = 0; i < frame->n_values; i++)
		row[columns->columns[names][i] * stride] = frame->values[i];
}
