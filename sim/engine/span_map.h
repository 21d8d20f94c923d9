/*
 * span_map.h: a small number for every token, the same over spans of them: 0 where nobody set
 * another one. Knows nothing of what the numbers mean.
 */
#ifndef KVT_SPAN_MAP_H
#define KVT_SPAN_MAP_H

#include <glib.h>
#include <stdint.h>

/* All zero before its first use; kvt_span_map_clear frees it. */
typedef struct kvt_span_map {
	GArray *spans;
	uint64_t tokens; /* with another number than 0 */
} kvt_span_map;

void kvt_span_map_clear(kvt_span_map *map);

/* Sets tokens [first, end). */
void kvt_span_map_set(kvt_span_map *map, uint64_t first, uint64_t end, unsigned value);

/* The token's number; *end: where the first token behind it with another one may be, UINT64_MAX at
 * the most. */
unsigned kvt_span_map_at(const kvt_span_map *map, uint64_t token, uint64_t *end);

#endif
