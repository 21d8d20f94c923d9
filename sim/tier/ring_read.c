/* ring_read.c: stripes from the first part that has them, and from the next where that fails. */
#include <errno.h>

#include "sim/tier/ring_internal.h"

/* The part to read a piece from; -1: none, and *gone: whether one that is left out has it. */
static int pick(kvt_ring *ring, uint32_t tenant, const kvt_ring_piece *piece, bool *gone)
{
	const uint8_t *order = kvt_ring_order(ring, tenant, &piece->extent);
	for (unsigned i = 0; i < ring->n; i++) {
		unsigned part = order[i];
		if ((piece->asked >> part & 1) || !kvt_ring_has(ring, part, tenant, &piece->extent))
			continue;
		if (kvt_ring_part_lives(ring, &ring->parts[part]))
			return (int)part;
		*gone = true;
	}
	return -1;
}

/* Pages of a stripe may lie in different parts. */
static void split_piece(kvt_ring_io *split, guint index)
{
	kvt_ring_piece whole = g_array_index(split->pieces, kvt_ring_piece, index);
	g_array_index(split->pieces, kvt_ring_piece, index).split = true;
	for (uint64_t i = 0; i < whole.extent.n_pages; i++) {
		kvt_ring_piece page = whole;
		page.extent.first_page += i;
		page.extent.n_pages = 1;
		if (whole.memory)
			page.memory = (char *)whole.memory + i * whole.extent.page_bytes;
		g_array_append_val(split->pieces, page);
	}
}

/* The read ends without the piece; `status` of the last part that was asked, 0: none was. */
static void give_up(kvt_ring_io *split, bool gone, int status)
{
	kvt_ring_counts *counts = &split->ring->counts;
	split->status = status != 0 ? status : -ENOENT;
	if (split->ticket.stale)
		return;
	counts->no_part += split->status == -ENOENT && gone;
	counts->missing += split->status == -ENOENT && !gone;
	counts->corrupt += split->status == -EBADMSG;
	counts->failed += split->status != -ENOENT && split->status != -EBADMSG;
}

static bool assign(kvt_ring_io *split, guint index, int status)
{
	bool gone = false;
	const kvt_ring_piece *piece = &g_array_index(split->pieces, kvt_ring_piece, index);
	int part = pick(split->ring, split->io->tenant, piece, &gone);
	if (part >= 0) {
		split->ring->counts.fallbacks += piece->asked != 0;
		kvt_ring_add(split, index, (unsigned)part);
		return true;
	}
	if (piece->extent.n_pages == 1) {
		give_up(split, gone, status);
		return false;
	}
	guint from = split->pieces->len;
	split_piece(split, index);
	guint end = split->pieces->len;
	for (guint i = from; i < end; i++)
		if (!assign(split, i, status))
			return false;
	return true;
}

bool kvt_ring_read_assign(kvt_ring_io *split, guint from)
{
	guint end = split->pieces->len;
	for (guint i = from; i < end; i++)
		if (!assign(split, i, 0))
			return false;
	return true;
}

static bool anybody_has(kvt_ring *ring, uint32_t tenant, const kvt_extent *run)
{
	bool has = false;
	for (unsigned part = 0; part < ring->n && !has; part++)
		has = kvt_ring_has(ring, part, tenant, run);
	return has;
}

/* A part has not what it was thought to have. */
static void look_again(kvt_ring *ring, unsigned part, uint32_t tenant, const kvt_extent *run)
{
	kvt_tier *tier = ring->parts[part].tier;
	kvt_extent page = *run;
	page.n_pages = 1;
	for (uint64_t i = 0; i < run->n_pages; i++, page.first_page++)
		if (!tier->ops->holds(tier, tenant, &page)) {
			kvt_page_map_remove(ring->parts[part].held, tenant, &page);
			if (!anybody_has(ring, tenant, &page))
				kvt_page_store_discard(ring->pages, tenant, &page);
		}
}

void kvt_ring_read_done(kvt_ring_share *share)
{
	kvt_ring_io *split = share->owner;
	kvt_ring *ring = split->ring;
	int status = share->io.status;
	for (guint i = 0; status != 0 && i < share->pieces->len; i++) {
		guint index = g_array_index(share->pieces, guint, i);
		kvt_ring_piece *piece = &g_array_index(split->pieces, kvt_ring_piece, index);
		const kvt_extent run = piece->extent;
		piece->asked |= UINT64_C(1) << share->part;
		if (split->status == 0)
			assign(split, index, status);
		if (status == -ENOENT || status == -EBADMSG)
			look_again(ring, share->part, split->io->tenant, &run);
	}
	if (split->status == 0)
		kvt_ring_submit_open(split, false);
}
