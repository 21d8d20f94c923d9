/*
 * uring_write.c: writes of the tier of real drives: room for all of an I/O, checksums, headers and
 * pages on the device, synced where the store is to survive a power cut, and then all of its pages
 * published in one go.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "emu/tier/uring_tier_internal.h"

/* Pages of one record at most: what it may leave unused at the end of a segment. */
#define RECORD_BYTES (UINT64_C(4) << 20)

static uring_record *record_at(const uring_io *io, unsigned i)
{
	return &g_array_index(io->records, uring_record, i);
}

/* --- Room --- */

static int reserve(uring_io *io, uring_record *record)
{
	uring_tier *tier = io->tier;
	const kvt_store_run run = { tier->model, io->io->tenant, record->pages };
	int status = kvt_store_reserve(tier->store, &run, &record->ticket);
	if (status != -ENOSPC)
		return status;
	tier->counts.gathered++;
	kvt_store_gc(tier->store, kvt_store_run_cost(&run), NULL);
	return kvt_store_reserve(tier->store, &run, &record->ticket);
}

static int reserve_extent(uring_io *io, const kvt_extent *extent, const uint8_t *home)
{
	uint64_t limit = kvt_store_run_limit(io->tier->store, extent->page_bytes);
	if (limit == 0)
		return -ENOSPC;
	limit = MIN(limit, MAX(RECORD_BYTES / extent->page_bytes, 1));
	for (uint64_t done = 0; done < extent->n_pages;) {
		uring_record record = { .pages = *extent, .header_at = io->header_bytes };
		record.pages.first_page += done;
		record.pages.n_pages = MIN(limit, extent->n_pages - done);
		record.home = home ? home + done * extent->page_bytes : NULL;
		int status = reserve(io, &record);
		if (status != 0)
			return status;
		io->header_bytes += record.ticket.header_bytes;
		done += record.pages.n_pages;
		g_array_append_val(io->records, record);
	}
	return 0;
}

void kvt_uring_abandon(uring_io *io)
{
	for (unsigned i = 0; i < io->records->len; i++)
		kvt_store_abandon(io->tier->store, &record_at(io, i)->ticket);
	g_array_set_size(io->records, 0);
}

/* --- Checksums --- */

static void check_sum(kvt_helper_task *task)
{
	uring_io *io = task->arg;
	for (unsigned i = 0; i < io->records->len; i++) {
		const uring_record *r = record_at(io, i);
		uint64_t n = r->pages.n_pages, page_bytes = r->pages.page_bytes;
		if (r->home)
			kvt_store_checksums(r->home, page_bytes, n, r->ticket.checksums);
		uint64_t zeros = r->home ? 0 : kvt_store_checksum(io->zeros, page_bytes);
		for (uint64_t p = 0; p < n && !r->home; p++)
			r->ticket.checksums[p] = zeros;
		kvt_store_ticket_header(io->tier->store, &r->ticket, io->headers + r->header_at);
	}
}

static void summed(kvt_helper_task *task)
{
	kvt_uring_enqueue(task->arg);
}

/* A page of zeros, for writes that name no memory. */
static void provide_zeros(uring_tier *tier, const kvt_io *io)
{
	uint64_t most = tier->max_transfer;
	for (unsigned i = 0; i < io->n_extents; i++)
		most = MAX(most, uring_blocks_up(io->extents[i].page_bytes));
	if (io->memory || most <= tier->zero_bytes)
		return;
	/* those in flight use the old ones */
	uint8_t *zeros = aligned_alloc(KVT_STORE_BLOCK, most);
	g_assert(zeros);
	memset(zeros, 0, most);
	g_ptr_array_add(tier->all_zeros, zeros);
	tier->zeros = zeros;
	tier->zero_bytes = most;
}

static void begin_sums(uring_io *io)
{
	uring_tier *tier = io->tier;
	free(io->headers);
	io->headers = aligned_alloc(KVT_STORE_BLOCK, io->header_bytes);
	g_assert(io->headers);
	provide_zeros(tier, io->io);
	io->zeros = tier->zeros;
	io->earlier = tier->newest;
	io->younger = NULL;
	*(tier->newest ? &tier->newest->younger : &tier->oldest) = io;
	tier->newest = io;
	io->task = (kvt_helper_task){ .work = check_sum, .done = summed, .arg = io };
	kvt_helper_pool_submit(tier->helpers, &io->task);
}

void kvt_uring_begin_write(uring_io *io)
{
	const kvt_io *kvt = io->io;
	io->header_bytes = 0;
	for (unsigned i = 0; i < kvt->n_extents && io->status == 0; i++)
		io->status = reserve_extent(io, &kvt->extents[i], kvt_uring_home(kvt, i));
	if (io->status != 0) {
		kvt_uring_abandon(io);
		io->status = io->status == -ENOSPC ? -ENOSPC : -EIO;
	} else {
		begin_sums(io);
	}
}

/* --- Parts --- */

static void moved(kvt_raw_io *raw)
{
	kvt_uring_end_part(raw->arg, raw->status == 0 ? 0 : -EIO);
}

/* The header of a record, at the beginning of its room. */
static void write_header(uring_io *io, uring_part *part, const uring_record *record)
{
	part->raw.offset = record->ticket.offset;
	part->raw.length = record->ticket.header_bytes;
	part->raw.memory = io->headers + record->header_at;
	io->offset += record->ticket.header_bytes;
}

/* Pages, and zeros up to the end of the last block. */
static void write_pages(uring_io *io, const uring_record *record)
{
	uring_tier *tier = io->tier;
	const kvt_store_ticket *ticket = &record->ticket;
	uint64_t done = io->offset - ticket->header_bytes;
	uint64_t length = MIN(tier->max_transfer, ticket->payload_bytes - done);
	uint64_t there = MIN(length, kvt_extent_bytes(&record->pages) - done);
	const uint8_t *from = record->home ? record->home + done : io->zeros;
	bool direct = uring_aligned((uintptr_t)from) && (there == length || !record->home);
	uring_part *part = kvt_uring_take_part(io, direct ? 0 : length);
	if (!direct) {
		memcpy(part->buffer, from, there);
		memset(part->buffer + there, 0, length - there);
	}
	tier->counts.direct_bytes += direct && record->home ? there : 0;
	tier->counts.copied_bytes += direct ? 0 : there;
	part->raw.op = KVT_RAW_WRITE;
	part->raw.fd = ticket->fd;
	part->raw.slot = (int)ticket->slot;
	part->raw.offset = ticket->offset + io->offset;
	part->raw.length = length;
	part->raw.memory = direct ? (void *)from : part->buffer;
	io->offset += length;
	kvt_uring_move_part(part, moved);
}

static void sync_file(uring_io *io, const kvt_store_ticket *ticket)
{
	uring_part *part = kvt_uring_take_part(io, 0);
	part->raw.op = KVT_RAW_SYNC;
	part->raw.fd = ticket->fd;
	part->raw.slot = (int)ticket->slot;
	kvt_uring_move_part(part, moved);
}

bool kvt_uring_next_write(uring_io *io)
{
	if (io->at == io->records->len)
		return false;
	const uring_record *record = record_at(io, io->at);
	const kvt_store_ticket *ticket = &record->ticket;
	if (io->syncing) {
		/* records of one segment follow each other: one sync for them */
		bool last = io->at + 1 == io->records->len ||
			    record_at(io, io->at + 1)->ticket.fd != ticket->fd;
		io->at++;
		if (last)
			sync_file(io, ticket);
		return true;
	}
	if (io->offset == 0) {
		uring_part *part = kvt_uring_take_part(io, 0);
		part->raw.op = KVT_RAW_WRITE;
		part->raw.fd = ticket->fd;
		part->raw.slot = (int)ticket->slot;
		write_header(io, part, record);
		kvt_uring_move_part(part, moved);
	} else {
		write_pages(io, record);
	}
	if (io->offset == ticket->header_bytes + ticket->payload_bytes) {
		io->at++;
		io->offset = 0;
	}
	return true;
}

/* --- The end --- */

static void leave_writes(uring_io *io)
{
	uring_tier *tier = io->tier;
	*(io->earlier ? &io->earlier->younger : &tier->oldest) = io->younger;
	*(io->younger ? &io->younger->earlier : &tier->newest) = io->earlier;
}

static bool overlap(const kvt_io *a, const kvt_io *b)
{
	for (unsigned i = 0; a->tenant == b->tenant && i < a->n_extents; i++)
		for (unsigned j = 0; j < b->n_extents; j++)
			if (kvt_extent_overlaps(&a->extents[i], &b->extents[j]))
				return true;
	return false;
}

/* Of writes of one page the first submitted is to be there first, as without concurrency. */
static bool must_wait(const uring_io *io)
{
	for (const uring_io *other = io->earlier; other; other = other->earlier)
		if (overlap(other->io, io->io))
			return true;
	return false;
}

/* Publishes all records, or makes none of their pages be there. */
static int publish(uring_io *io)
{
	uring_tier *tier = io->tier;
	int status = 0;
	for (unsigned i = 0; i < io->records->len; i++) {
		int one = status == 0 ? kvt_store_publish(tier->store, &record_at(io, i)->ticket)
				      : -ECANCELED;
		if (one == -ECANCELED)
			kvt_store_abandon(tier->store, &record_at(io, i)->ticket);
		/* newer versions are there already */
		io->stale |= one == -ESTALE;
		status = status == 0 && one != -ESTALE ? one : status;
	}
	for (unsigned i = 0; i < io->records->len && status != 0; i++) {
		const kvt_extent *pages = &record_at(io, i)->pages;
		const kvt_store_run run = { tier->model, io->io->tenant, *pages };
		kvt_store_discard(tier->store, &run, 1, NULL);
		kvt_uring_forget_lost(tier, io->io->tenant, pages);
	}
	g_array_set_size(io->records, 0);
	return status == 0 ? 0 : -EIO;
}

/* The write is over for the device and for those before it. */
static void settle(uring_io *io)
{
	leave_writes(io);
	if (io->status == 0)
		io->status = publish(io);
	else
		kvt_uring_abandon(io);
	kvt_uring_finish(io);
}

void kvt_uring_end_write(uring_io *io)
{
	uring_tier *tier = io->tier;
	if (io->status == 0 && tier->sync && !io->syncing) {
		io->syncing = true;
		io->at = 0;
		kvt_uring_enqueue(io);
		return;
	}
	io->complete = true;
	/* from the first on, since a done may do anything */
	for (;;) {
		uring_io *ready = tier->oldest;
		while (ready && (!ready->complete || must_wait(ready)))
			ready = ready->younger;
		if (!ready)
			break;
		settle(ready);
	}
}
