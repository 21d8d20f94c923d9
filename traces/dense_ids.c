/* dense_ids.c: a hash table of open addressing whose slots are fetched ahead, a batch at a time. */
#include "traces/dense_ids.h"

#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { BATCH = 64, FIRST_SLOTS = 1 << 12, LARGE_PAGE = 1 << 21 };

/* 16 bytes, so that none lies across two cache lines. */
struct kvt_dense_slot {
	uint64_t key;
	uint32_t number; /* the id + 1; 0: not taken */
	uint32_t unused;
};

static struct kvt_dense_slot *new_slots(uint64_t n)
{
	size_t bytes = n * sizeof(struct kvt_dense_slot);
	struct kvt_dense_slot *slots = aligned_alloc(MIN(bytes, LARGE_PAGE), bytes);
	if (slots == NULL)
		g_error("no memory for %zu bytes", bytes);
	/* every look-up would miss the TLB, too; that the kernel declines does no harm */
	if (bytes >= LARGE_PAGE)
		(void)madvise(slots, bytes, MADV_HUGEPAGE);
	memset(slots, 0, bytes);
	return slots;
}

void kvt_dense_ids_init(kvt_dense_ids *ids)
{
	*ids = (kvt_dense_ids){ .slots = new_slots(FIRST_SLOTS), .n_slots = FIRST_SLOTS };
}

void kvt_dense_ids_clear(kvt_dense_ids *ids)
{
	free(ids->slots);
	*ids = (kvt_dense_ids){ 0 };
}

/* The last steps of MurmurHash3's 64 bits: every bit of the key moves every bit of the result. */
static uint64_t scatter(uint64_t key)
{
	key = (key ^ key >> 33) * UINT64_C(0xff51afd7ed558ccd);
	key = (key ^ key >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	return key ^ key >> 33;
}

static void grow(kvt_dense_ids *ids)
{
	uint64_t mask = 2 * ids->n_slots - 1;
	struct kvt_dense_slot *slots = new_slots(mask + 1);
	for (uint64_t i = 0; i < ids->n_slots; i++) {
		if (ids->slots[i].number == 0)
			continue;
		uint64_t at = scatter(ids->slots[i].key) & mask;
		while (slots[at].number != 0)
			at = (at + 1) & mask;
		slots[at] = ids->slots[i];
	}
	free(ids->slots);
	ids->slots = slots;
	ids->n_slots = mask + 1;
}

static bool number_batch(kvt_dense_ids *ids, const uint64_t *keys, size_t n, uint32_t *to)
{
	uint64_t place[BATCH], mask = ids->n_slots - 1;
	for (size_t i = 0; i < n; i++) {
		place[i] = scatter(keys[i]) & mask;
		__builtin_prefetch(&ids->slots[place[i]]);
	}
	for (size_t i = 0; i < n; i++) {
		struct kvt_dense_slot *slot = &ids->slots[place[i]];
		while (slot->number != 0 && slot->key != keys[i])
			slot = &ids->slots[place[i] = (place[i] + 1) & mask];
		if (slot->number == 0) {
			if (ids->count == KVT_DENSE_IDS_MAX - 1)
				return false;
			*slot = (struct kvt_dense_slot){ .key = keys[i], .number = ++ids->count };
		}
		to[i] = slot->number - 1;
	}
	return true;
}

bool kvt_dense_ids_number(kvt_dense_ids *ids, const uint64_t *keys, size_t n, uint32_t *to)
{
	for (size_t done = 0; done < n; done += BATCH) {
		if (2 * ((uint64_t)ids->count + BATCH) > ids->n_slots)
			grow(ids);
		if (!number_batch(ids, keys + done, MIN(n - done, BATCH), to + done))
			return false;
	}
	return true;
}
