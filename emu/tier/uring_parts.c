/*
 * uring_parts.c: I/Os of the tier of real drives in parts: how many are on their way at once, the
 * buffers of those that cannot move straight from or to their memory, and the end of an I/O.
 */
#include <errno.h>
#include <stdlib.h>

#include "emu/tier/uring_tier_internal.h"

uring_io *kvt_uring_take_io(uring_tier *tier, kvt_io *io, uint64_t bytes)
{
	uring_io *state = tier->free_ios;
	if (state) {
		tier->free_ios = state->next;
	} else {
		state = g_new0(uring_io, 1);
		state->tier = tier;
		state->pieces = g_array_new(FALSE, FALSE, sizeof(kvt_store_piece));
		state->records = g_array_new(FALSE, FALSE, sizeof(uring_record));
		state->homes = g_array_new(FALSE, FALSE, sizeof(uint8_t *));
		g_ptr_array_add(tier->ios, state);
	}
	g_array_set_size(state->pieces, 0);
	g_array_set_size(state->records, 0);
	g_array_set_size(state->homes, 0);
	state->io = io;
	state->bytes = bytes;
	state->in_use = true;
	state->begun = state->waiting = state->complete = state->syncing = false;
	state->stale = false;
	state->at = state->parts = 0;
	state->offset = 0;
	state->status = 0;
	return state;
}

void kvt_uring_give_io(uring_io *io)
{
	io->in_use = false;
	io->next = io->tier->free_ios;
	io->tier->free_ios = io;
}

uint8_t *kvt_uring_home(const kvt_io *io, unsigned i)
{
	return io->memory ? io->memory[i] : NULL;
}

uring_part *kvt_uring_take_part(uring_io *io, uint64_t buffer_bytes)
{
	uring_tier *tier = io->tier;
	uring_part *part = tier->free_parts;
	if (part) {
		tier->free_parts = part->next_free;
	} else {
		part = g_new0(uring_part, 1);
		g_ptr_array_add(tier->all_parts, part);
	}
	if (part->buffer_bytes < buffer_bytes) {
		free(part->buffer);
		part->buffer_bytes = uring_blocks_up(buffer_bytes);
		part->buffer = aligned_alloc(KVT_STORE_BLOCK, part->buffer_bytes);
		g_assert(part->buffer);
	}
	part->io = io;
	part->copy_to = NULL;
	part->bad = false;
	part->raw = (kvt_raw_io){ .priority = io->io->priority, .arg = part };
	io->parts++;
	tier->classes[io->io->priority].parts++;
	return part;
}

void kvt_uring_move_part(uring_part *part, void (*done)(kvt_raw_io *raw))
{
	part->raw.done = done;
	kvt_io_engine_submit(part->io->tier->engine, &part->raw);
}

static void end_parts(uring_io *io)
{
	if (io->io->op == KVT_IO_READ)
		kvt_uring_end_read(io);
	else
		kvt_uring_end_write(io);
}

void kvt_uring_end_part(uring_part *part, int status)
{
	uring_io *io = part->io;
	uring_tier *tier = io->tier;
	part->next_free = tier->free_parts;
	tier->free_parts = part;
	tier->classes[io->io->priority].parts--;
	if (io->status == 0)
		io->status = status;
	io->parts--;
	/* one that failed is taken out of the queue by the pump */
	kvt_uring_pump(tier);
	if (io->parts == 0 && !io->waiting)
		end_parts(io);
}

void kvt_uring_enqueue(uring_io *io)
{
	uring_class *class = &io->tier->classes[io->io->priority];
	io->next = NULL;
	io->waiting = true;
	if (class->first)
		class->last->next = io;
	else
		class->first = io;
	class->last = io;
	kvt_uring_pump(io->tier);
}

void kvt_uring_pump(uring_tier *tier)
{
	for (unsigned i = 0; i < KVT_PRIORITY_CLASSES; i++) {
		uring_class *class = &tier->classes[i];
		while (class->first && class->parts < tier->max_parts) {
			uring_io *io = class->first;
			bool more = io->status == 0 &&
				    (io->io->op == KVT_IO_READ ? kvt_uring_next_read(io)
							       : kvt_uring_next_write(io));
			if (more)
				continue;
			class->first = io->next;
			io->waiting = false;
		}
	}
}

void kvt_uring_finish(uring_io *io)
{
	uring_tier *tier = io->tier;
	kvt_io *kvt = io->io;
	int status =
		io->begun ? kvt_page_store_end(tier->pages, &io->ticket, io->status) : io->status;
	for (unsigned i = 0; i < kvt->n_extents && io->stale; i++)
		kvt_uring_forget_lost(tier, kvt->tenant, &kvt->extents[i]);
	kvt->status = status;
	kvt->bytes = status == 0 ? io->bytes : 0;
	kvt->completed = kvt_loop_now(tier->loop);
	tier->in_flight--;
	kvt_uring_give_io(io);
	kvt_tier_stats_count(&tier->stats, kvt);
	kvt->done(kvt);
}

void kvt_uring_forget_lost(uring_tier *tier, uint32_t tenant, const kvt_extent *extent)
{
	kvt_store_run run = { tier->model, tenant, *extent };
	if (kvt_store_holds(tier->store, &run))
		return;
	run.pages.n_pages = 1;
	for (uint64_t i = 0; i < extent->n_pages; i++, run.pages.first_page++)
		if (!kvt_store_holds(tier->store, &run) &&
			kvt_page_store_discard(tier->pages, tenant, &run.pages) > 0)
			tier->counts.lost_pages++;
}
