/*
 * result_rows.h: which members of the rows of a list name them, so that rows of two lists can be
 * matched: one text that no two rows share, else a text and another member, else a whole number,
 * else the row's place.
 */
#ifndef RESULT_ROWS_H
#define RESULT_ROWS_H

#include <jansson.h>

typedef struct result_row_key {
	const char *first, *second; /* of the lists; NULL: none */
} result_row_key;

/* What names the rows of both lists, which must outlive it. */
result_row_key result_row_key_of(const json_t *a, const json_t *b);

/* The name of a row, at that place of its list. A new string. */
char *result_row_name(const result_row_key *key, const json_t *row, size_t place);

#endif
