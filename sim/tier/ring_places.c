/* ring_places.c: points by XXH3 of names, stripes by XXH3 of whose and which they are. */
#include "sim/tier/ring_places.h"

#include <glib.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

typedef struct point {
	uint64_t at;
	uint8_t part;
} point;

struct kvt_ring_places {
	unsigned n, n_points;
	point *points;  /* rising */
	uint8_t *order; /* of each point: all parts, from there on around the ring */
};

static int compare_points(const void *a, const void *b)
{
	const point *x = a, *y = b;
	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return (int)x->part - (int)y->part;
}

static void walk(const kvt_ring_places *places, unsigned from, uint8_t *order)
{
	bool seen[KVT_RING_PARTS_MAX] = { false };
	for (unsigned i = 0, n = 0; n < places->n; i++) {
		uint8_t part = places->points[(from + i) % places->n_points].part;
		if (!seen[part])
			order[n++] = part;
		seen[part] = true;
	}
}

kvt_ring_places *kvt_ring_places_new(const char *const *names, unsigned n, unsigned points)
{
	g_assert(n >= 1 && n <= KVT_RING_PARTS_MAX && points >= 1);
	kvt_ring_places *places = g_new0(kvt_ring_places, 1);
	places->n = n;
	places->n_points = n * points;
	places->points = g_new(point, places->n_points);
	places->order = g_new(uint8_t, (size_t)places->n_points * n);
	for (unsigned part = 0; part < n; part++)
		for (unsigned i = 0; i < points; i++)
			places->points[part * points + i] = (point){
				XXH3_64bits_withSeed(names[part], strlen(names[part]), i),
				(uint8_t)part,
			};
	qsort(places->points, places->n_points, sizeof(point), compare_points);
	for (unsigned i = 0; i < places->n_points; i++)
		walk(places, i, places->order + (size_t)i * n);
	return places;
}

void kvt_ring_places_free(kvt_ring_places *places)
{
	if (!places)
		return;
	g_free(places->points);
	g_free(places->order);
	g_free(places);
}

const uint8_t *kvt_ring_places_of(
	const kvt_ring_places *places, uint32_t tenant, uint32_t context, uint64_t stripe)
{
	const uint64_t key[] = { (uint64_t)tenant << 32 | context, stripe };
	uint64_t at = XXH3_64bits(key, sizeof(key));
	unsigned low = 0, high = places->n_points;
	while (low < high) {
		unsigned middle = low + (high - low) / 2;
		if (places->points[middle].at < at)
			low = middle + 1;
		else
			high = middle;
	}
	return places->order + (size_t)(low % places->n_points) * places->n;
}
