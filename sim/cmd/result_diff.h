/*
 * result_diff.h: two results of kvtier, held against each other figure by figure. It knows the form
 * of results (JSON with a schema, or a list of rows), not what any one figure means.
 *
 * A figure has a spread where the result states one: `low` and `high` beside `simulated`, or
 * `low_s` and `high_s` beside `median_s`, and a percentile below and one above beside `p50` (the
 * widest such pair). Numbers beside such a figure follow from it (an error, a share), and count as
 * it does. Rows of lists are matched by what names them (an id, a policy and a size), not by place.
 */
#ifndef RESULT_DIFF_H
#define RESULT_DIFF_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

typedef enum difference_kind {
	DIFFERENCE_CHANGED,
	DIFFERENCE_ADDED,
	DIFFERENCE_REMOVED
} difference_kind;

typedef struct result_difference {
	char *path; /* "stages.loading_s", "rows[slap].miss_ratio" */
	difference_kind kind;
	const json_t *a, *b;    /* of the results; NULL: not there */
	double low[2], high[2]; /* spread in a and in b; NaN: none is stated */
	bool beyond;            /* more than the spread and the tolerance */
} result_difference;

typedef struct result_diff {
	GArray *differences; /* of result_difference, in the order of the results */
	unsigned compared, beyond;
} result_diff;

/* A result from a file. NULL with an error of one line, "file:line: reason". */
json_t *result_load(const char *path, GError **error);

/* Whether two results can be compared: of one schema, or both lists with columns in common. The
 * paths are for the error. */
gboolean result_check_alike(
	const char *path_a, const json_t *a, const char *path_b, const json_t *b, GError **error);

/* Compares; the results must outlive the diff. Changes of at most `tolerance` of the larger value
 * are within. */
void result_diff_make(result_diff *diff, const json_t *a, const json_t *b, double tolerance);
void result_diff_clear(result_diff *diff);

#endif
