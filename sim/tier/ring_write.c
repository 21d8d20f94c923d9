/* ring_write.c: stripes to as many parts as there are replicas, and what is left where it failed.
 */
#include <errno.h>
#include <string.h>

#include "sim/tier/ring_internal.h"

/* Bytes that each part has room for. */
static void find_room(const kvt_ring *ring, uint64_t *room)
{
	for (unsigned i = 0; i < ring->n; i++) {
		const kvt_ring_part *part = &ring->parts[i];
		kvt_tier_stats stats;
		part->tier->ops->stats(part->tier, &stats);
		room[i] = stats.capacity;
		if (stats.capacity < UINT64_MAX)
			room[i] -= MIN(room[i], stats.used + part->writing);
	}
}

int kvt_ring_write_assign(kvt_ring_io *split)
{
	kvt_ring *ring = split->ring;
	uint64_t room[KVT_RING_PARTS_MAX];
	find_room(ring, room);
	for (guint i = 0; i < split->pieces->len; i++) {
		const kvt_ring_piece *piece = &g_array_index(split->pieces, kvt_ring_piece, i);
		const uint8_t *order = kvt_ring_order(ring, split->io->tenant, &piece->extent);
		uint64_t bytes = kvt_extent_bytes(&piece->extent);
		unsigned copies = 0, living = 0;
		for (unsigned j = 0; j < ring->n && copies < ring->settings.replicas; j++) {
			unsigned part = order[j];
			if (!kvt_ring_part_lives(ring, &ring->parts[part]))
				continue;
			living++;
			if (room[part] < bytes)
				continue;
			room[part] -= room[part] < UINT64_MAX ? bytes : 0;
			kvt_ring_add(split, i, part);
			copies++;
		}
		if (copies == 0)
			return living > 0 ? -ENOSPC : -EIO;
	}
	return 0;
}

void kvt_ring_write_done(kvt_ring_share *share)
{
	for (guint i = 0; share->io.status == 0 && i < share->pieces->len; i++) {
		guint index = g_array_index(share->pieces, guint, i);
		g_array_index(share->owner->pieces, kvt_ring_piece, index).stored = true;
	}
}

/* Books what a share has stored; what it has not is not there in any version. */
static void book(kvt_ring_share *share, uint64_t *parts_of)
{
	kvt_ring_io *split = share->owner;
	kvt_ring_part *part = &split->ring->parts[share->part];
	uint32_t tenant = split->io->tenant;
	for (guint i = 0; i < share->pieces->len; i++) {
		guint index = g_array_index(share->pieces, guint, i);
		const kvt_ring_piece *piece = &g_array_index(split->pieces, kvt_ring_piece, index);
		if (share->io.status != 0) {
			kvt_ring_take_back(split->ring, share->part, tenant, &piece->extent);
			continue;
		}
		kvt_page_map_remove(part->held, tenant, &piece->extent);
		kvt_page_map_add(part->held, tenant, &piece->extent);
		parts_of[index] |= UINT64_C(1) << share->part;
	}
}

/* Parts that were not written to lose what has been replaced. */
static void drop_replaced(kvt_ring_io *split, const uint64_t *parts_of)
{
	kvt_ring *ring = split->ring;
	uint32_t tenant = split->io->tenant;
	for (guint i = 0; i < split->pieces->len; i++) {
		const kvt_extent *run = &g_array_index(split->pieces, kvt_ring_piece, i).extent;
		unsigned copies = 0;
		for (unsigned part = 0; part < ring->n; part++) {
			if (parts_of[i] >> part & 1)
				copies++;
			else if (kvt_page_map_count(ring->parts[part].held, tenant, run) > 0)
				kvt_ring_take_back(ring, part, tenant, run);
		}
		ring->counts.thin_writes += copies < ring->settings.replicas;
	}
}

/* Nothing of it stays. */
static void undo(kvt_ring_io *split)
{
	kvt_ring *ring = split->ring;
	uint32_t tenant = split->io->tenant;
	for (guint i = 0; i < split->pieces->len; i++) {
		const kvt_extent *run = &g_array_index(split->pieces, kvt_ring_piece, i).extent;
		kvt_page_store_discard(ring->pages, tenant, run);
		for (unsigned part = 0; part < ring->n; part++)
			kvt_ring_take_back(ring, part, tenant, run);
	}
}

int kvt_ring_write_end(kvt_ring_io *split)
{
	kvt_ring *ring = split->ring;
	int status = 0, failed = 0;
	for (kvt_ring_share *share = split->shares; share; share = share->next) {
		if (share->io.status != 0 && (failed == 0 || failed == -ENOSPC))
			failed = share->io.status;
	}
	for (guint i = 0; i < split->pieces->len; i++)
		if (!g_array_index(split->pieces, kvt_ring_piece, i).stored)
			status = failed;
	status = kvt_page_store_end(ring->pages, &split->ticket, status);
	if (status != 0) {
		undo(split);
		return status;
	}
	g_autofree uint64_t *parts_of = g_new0(uint64_t, split->pieces->len);
	for (kvt_ring_share *share = split->shares; share; share = share->next)
		book(share, parts_of);
	drop_replaced(split, parts_of);
	return 0;
}
