/* span_map.c: spans in order, none empty, none of number 0, no two alike side by side. */
#include "sim/engine/span_map.h"

typedef struct span {
	uint64_t first, end;
	unsigned value;
} span;

void kvt_span_map_clear(kvt_span_map *map)
{
	if (map->spans)
		g_array_unref(map->spans);
	*map = (kvt_span_map){ 0 };
}

/* The first span that ends behind the token: its index. */
static guint find(const kvt_span_map *map, uint64_t token)
{
	guint low = 0, high = map->spans ? map->spans->len : 0;
	while (low < high) {
		guint middle = low + (high - low) / 2;
		if (g_array_index(map->spans, span, middle).end > token)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* Appends a span to those before it. */
static void append(GArray *spans, uint64_t first, uint64_t end, unsigned value, uint64_t *tokens)
{
	if (first >= end || value == 0)
		return;
	*tokens += end - first;
	span *last = spans->len > 0 ? &g_array_index(spans, span, spans->len - 1) : NULL;
	if (last && last->end == first && last->value == value) {
		last->end = end;
		return;
	}
	span next = { first, end, value };
	g_array_append_val(spans, next);
}

void kvt_span_map_set(kvt_span_map *map, uint64_t first, uint64_t end, unsigned value)
{
	GArray *old = map->spans, *spans = g_array_new(FALSE, FALSE, sizeof(span));
	uint64_t tokens = 0;
	guint i = 0, n = old ? old->len : 0;
	for (; i < n && g_array_index(old, span, i).first < first; i++) {
		span s = g_array_index(old, span, i);
		append(spans, s.first, MIN(s.end, first), s.value, &tokens);
	}
	append(spans, first, end, value, &tokens);
	for (i = i > 0 ? i - 1 : 0; i < n; i++) {
		span s = g_array_index(old, span, i);
		append(spans, MAX(s.first, end), s.end, s.value, &tokens);
	}
	if (old)
		g_array_unref(old);
	map->spans = spans;
	map->tokens = tokens;
}

unsigned kvt_span_map_at(const kvt_span_map *map, uint64_t token, uint64_t *end)
{
	guint i = find(map, token);
	*end = UINT64_MAX;
	if (!map->spans || i == map->spans->len)
		return 0;
	span s = g_array_index(map->spans, span, i);
	*end = s.first > token ? s.first : s.end;
	return s.first > token ? 0 : s.value;
}
