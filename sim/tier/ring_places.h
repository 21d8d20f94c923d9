/*
 * ring_places.h: consistent hashing: where on a ring of parts a stripe of pages belongs. Every part
 * has many points on the ring, from its name alone, so a part that comes or goes moves only its own
 * share of the stripes. It moves no pages and knows no tiers.
 */
#ifndef KVT_RING_PLACES_H
#define KVT_RING_PLACES_H

#include <stdint.h>

enum { KVT_RING_PARTS_MAX = 64 };

typedef struct kvt_ring_places kvt_ring_places;

/* `names`: of n parts, 1 to KVT_RING_PARTS_MAX, all different; copied. `points` of each, at least
 * 1: with 128 the fullest of 8 parts has about 1.2 times its share. */
kvt_ring_places *kvt_ring_places_new(const char *const *names, unsigned n, unsigned points);
void kvt_ring_places_free(kvt_ring_places *places);

/* All n parts in the order in which the stripe belongs to them: replicas go to the first ones that
 * can have them. Belongs to the places. */
const uint8_t *kvt_ring_places_of(
	const kvt_ring_places *places, uint32_t tenant, uint32_t context, uint64_t stripe);

#endif
