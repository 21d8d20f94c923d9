/*
 * uring_read.c: reads of the tier of real drives: pages of each piece that the store names,
 * straight into memory where drive and memory are aligned, by way of a buffer elsewhere; verified,
 * each page, before it counts.
 */
#include <errno.h>
#include <string.h>

#include "emu/tier/uring_tier_internal.h"

/* Adds the pieces of one extent; 0 or what kvt_store_find says. */
static int find_pieces(uring_io *io, const kvt_extent *extent, uint8_t *home)
{
	const kvt_store_run run = { io->tier->model, io->io->tenant, *extent };
	unsigned before = io->pieces->len, room = 4, n = 0;
	int status;
	do {
		room *= 2;
		g_array_set_size(io->pieces, before + room);
		status = kvt_store_find(io->tier->store, &run,
			&g_array_index(io->pieces, kvt_store_piece, before), room, &n);
	} while (status == -E2BIG);
	g_array_set_size(io->pieces, before + n);
	for (unsigned i = before; i < before + n; i++) {
		const kvt_store_piece *piece = &g_array_index(io->pieces, kvt_store_piece, i);
		uint64_t skipped = piece->first_page - extent->first_page;
		uint8_t *at = home ? home + skipped * extent->page_bytes : NULL;
		g_array_append_val(io->homes, at);
	}
	return status;
}

static void release(uring_io *io)
{
	kvt_store_release(
		io->tier->store, (const kvt_store_piece *)io->pieces->data, io->pieces->len);
	g_array_set_size(io->pieces, 0);
}

void kvt_uring_begin_read(uring_io *io)
{
	const kvt_io *kvt = io->io;
	for (unsigned i = 0; i < kvt->n_extents && io->status == 0; i++) {
		io->status = find_pieces(io, &kvt->extents[i], kvt_uring_home(kvt, i));
		if (io->status != 0)
			kvt_uring_forget_lost(io->tier, kvt->tenant, &kvt->extents[i]);
	}
	if (io->status != 0)
		release(io);
}

/* On a helper thread or the loop: verifies before anything is copied out. */
static void verify(kvt_helper_task *task)
{
	uring_part *part = task->arg;
	const kvt_store_piece *piece =
		&g_array_index(part->io->pieces, kvt_store_piece, part->piece);
	const uint8_t *page = part->pages;
	for (uint64_t i = 0; i < part->n_pages && !part->bad; i++, page += piece->page_bytes)
		part->bad = kvt_store_checksum(page, piece->page_bytes) !=
			    piece->checksums[part->first + i];
	if (!part->bad && part->copy_to)
		memcpy(part->copy_to, part->pages, part->n_pages * piece->page_bytes);
}

/* Forgets every page of the part that is wrong. */
static void forget_bad(uring_part *part)
{
	uring_io *io = part->io;
	uring_tier *tier = io->tier;
	const kvt_store_piece *piece = &g_array_index(io->pieces, kvt_store_piece, part->piece);
	const uint8_t *data = part->pages;
	const kvt_io *kvt = io->io;
	for (uint64_t i = 0; i < part->n_pages; i++, data += piece->page_bytes) {
		uint64_t page = piece->first_page + part->first + i;
		if (kvt_store_checksum(data, piece->page_bytes) ==
			piece->checksums[part->first + i])
			continue;
		tier->counts.bad_pages++;
		kvt_store_corrupt(tier->store, piece, page);
		for (unsigned e = 0; e < kvt->n_extents; e++) {
			kvt_extent one = kvt->extents[e];
			if (page < one.first_page || page - one.first_page >= one.n_pages)
				continue;
			one.first_page = page;
			one.n_pages = 1;
			kvt_uring_forget_lost(tier, kvt->tenant, &one);
		}
	}
}

static void verified(kvt_helper_task *task)
{
	uring_part *part = task->arg;
	part->io->tier->counts.verified_pages += part->n_pages;
	if (part->bad)
		forget_bad(part);
	kvt_uring_end_part(part, part->bad ? -EBADMSG : 0);
}

static void arrived(kvt_raw_io *raw)
{
	uring_part *part = raw->arg;
	if (raw->status != 0) {
		kvt_uring_end_part(part, -EIO);
		return;
	}
	part->task = (kvt_helper_task){ .work = verify, .done = verified, .arg = part };
	/* in a callback of its own as it is, and the sooner it is done, the sooner others can begin
	 */
	kvt_helper_pool_run(part->io->tier->helpers, &part->task);
}

bool kvt_uring_next_read(uring_io *io)
{
	uring_tier *tier = io->tier;
	if (io->at == io->pieces->len)
		return false;
	const kvt_store_piece *piece = &g_array_index(io->pieces, kvt_store_piece, io->at);
	uint8_t *home = g_array_index(io->homes, uint8_t *, io->at);
	uint64_t n = MAX(tier->max_transfer / piece->page_bytes, 1);
	n = MIN(n, piece->n_pages - io->offset);
	uint64_t bytes = n * piece->page_bytes, skipped = io->offset * piece->page_bytes;
	uint64_t from = piece->offset + skipped, before = from % KVT_STORE_BLOCK;
	home = home ? home + skipped : NULL;
	bool direct = home && before == 0 && uring_aligned(bytes) && uring_aligned((uintptr_t)home);
	uint64_t whole = uring_blocks_up(before + bytes);
	uring_part *part = kvt_uring_take_part(io, direct ? 0 : whole);
	part->piece = io->at;
	part->first = io->offset;
	part->n_pages = n;
	part->pages = direct ? home : part->buffer + before;
	part->copy_to = direct ? NULL : home;
	part->raw.op = KVT_RAW_READ;
	part->raw.fd = piece->fd;
	part->raw.slot = (int)piece->slot;
	part->raw.offset = from - before;
	part->raw.length = whole;
	part->raw.memory = direct ? home : part->buffer;
	tier->counts.direct_bytes += direct ? bytes : 0;
	tier->counts.copied_bytes += !direct && home ? bytes : 0;
	io->offset += n;
	if (io->offset == piece->n_pages) {
		io->at++;
		io->offset = 0;
	}
	kvt_uring_move_part(part, arrived);
	return true;
}

void kvt_uring_end_read(uring_io *io)
{
	release(io);
	kvt_uring_finish(io);
}
