/*
 * dense_ids.h: numbers any 64-bit keys 0, 1, 2... in the order in which they first come, so that
 * what works on them may keep arrays. It looks up many keys at a time, since one alone waits for
 * memory. Nothing is ever forgotten.
 */
#ifndef KVT_DENSE_IDS_H
#define KVT_DENSE_IDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* There are fewer ids than this. */
#define KVT_DENSE_IDS_MAX UINT32_MAX

typedef struct kvt_dense_ids {
	struct kvt_dense_slot *slots; /* n_slots, a power of two; at most half of them taken */
	uint64_t n_slots;
	uint32_t count; /* ids given so far */
} kvt_dense_ids;

void kvt_dense_ids_init(kvt_dense_ids *ids);
void kvt_dense_ids_clear(kvt_dense_ids *ids); /* what it owns, not itself */

/* The id of keys[i] into to[i], for n keys in order. False when KVT_DENSE_IDS_MAX were given. */
bool kvt_dense_ids_number(kvt_dense_ids *ids, const uint64_t *keys, size_t n, uint32_t *to);

#endif
