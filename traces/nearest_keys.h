/*
 * nearest_keys.h: the nearest of many keys, by brute force: for fitting a model to a trace, not for
 * attention. It knows arrays only.
 */
#ifndef KVT_NEAREST_KEYS_H
#define KVT_NEAREST_KEYS_H

#include <stddef.h>
#include <stdint.h>

enum { KVT_NEAREST = 4 };

typedef struct kvt_nearest_set {
	const uint16_t *halves; /* [keys][dim], finite */
	uint32_t dim;
	uint32_t group; /* keys of the same group (number / group) are no neighbours */
} kvt_nearest_set;

/* The KVT_NEAREST candidates of least Euclidean distance to each of `points` and of another group,
 * the nearest first, ties by order: found[count][KVT_NEAREST]. Candidates and points are numbers of
 * keys; there are at least KVT_NEAREST candidates outside any group. */
void kvt_nearest_keys(const kvt_nearest_set *set, const uint32_t *candidates,
	uint32_t candidate_count, const uint32_t *points, uint64_t count, uint32_t *found);

#endif
