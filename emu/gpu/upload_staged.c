/*
 * upload_staged.c: reads by way of staging: a piece of an I/O is read into a part of it by the
 * inner tier, copied by the GPU, and its part given to the next one. Pieces that were read at about
 * the same time are copied in one call.
 */
#include <errno.h>

#include "emu/gpu/upload_internal.h"

enum {
	BLOCK = 4096,
	MAX_IOS = 1024, /* under way, before others are told to come again */
};

/* Pages lie at multiples of what drives can read into as it is. */
static uint64_t blocks(uint64_t bytes)
{
	return (bytes + BLOCK - 1) / BLOCK * BLOCK;
}

static void end_later(void *arg)
{
	kvt_upload_staged_end(arg);
}

int kvt_upload_staged_begin(upload_io *io)
{
	upload_tier *tier = io->tier;
	bool there = true;
	if (tier->in_flight >= MAX_IOS)
		return -EAGAIN;
	for (unsigned i = 0; i < io->io->n_extents; i++) {
		const kvt_extent *extent = &io->io->extents[i];
		if (extent->page_bytes > kvt_arena_bytes(tier->staging))
			return -EINVAL;
		there = there && tier->inner->ops->holds(tier->inner, io->io->tenant, extent);
	}
	io->extent = 0;
	io->page = 0;
	io->older = tier->newest;
	io->newer = NULL;
	if (io->older)
		io->older->newer = io;
	tier->newest = io;
	tier->in_flight++;
	io->io->submitted = kvt_loop_now(tier->loop);
	io->status = there ? 0 : -ENOENT;
	if (there) {
		kvt_upload_enqueue(io);
		kvt_upload_pump_soon(tier);
	} else {
		kvt_loop_at(tier->loop, 0, end_later, io);
	}
	return 0;
}

void kvt_upload_staged_end(upload_io *state)
{
	upload_tier *tier = state->tier;
	kvt_io *io = state->io;
	if (state->newer)
		state->newer->older = state->older;
	else
		tier->newest = state->older;
	if (state->older)
		state->older->newer = state->newer;
	io->status = state->status == 0 && state->stale ? -ENOENT : state->status;
	io->bytes = io->status == 0 ? state->bytes : 0;
	io->completed = kvt_loop_now(tier->loop);
	tier->in_flight--;
	kvt_upload_give_io(state);
	kvt_tier_stats_count(&tier->stats, io);
	io->done(io);
}

/* --- Pieces --- */

static upload_piece *take_piece(upload_io *io)
{
	upload_tier *tier = io->tier;
	upload_piece *piece = tier->free_pieces;
	if (piece) {
		tier->free_pieces = piece->next;
	} else {
		piece = g_new0(upload_piece, 1);
		piece->extents = g_array_new(FALSE, FALSE, sizeof(kvt_extent));
		piece->staged = g_array_new(FALSE, FALSE, sizeof(void *));
		piece->homes = g_array_new(FALSE, FALSE, sizeof(void *));
		g_ptr_array_add(tier->pieces, piece);
	}
	g_array_set_size(piece->extents, 0);
	g_array_set_size(piece->staged, 0);
	g_array_set_size(piece->homes, 0);
	piece->io = io;
	return piece;
}

void kvt_upload_piece_free(gpointer pointer)
{
	upload_piece *piece = pointer;
	g_array_unref(piece->extents);
	g_array_unref(piece->staged);
	g_array_unref(piece->homes);
	g_free(piece);
}

static void give_piece(upload_piece *piece)
{
	upload_tier *tier = piece->io->tier;
	kvt_arena_give(tier->staging, piece->offset, piece->bytes);
	tier->staged -= piece->bytes;
	tier->staged_low -= piece->io->io->priority > 0 ? piece->bytes : 0;
	piece->next = tier->free_pieces;
	tier->free_pieces = piece;
}

void kvt_upload_piece_end(upload_piece *piece, int status)
{
	upload_io *io = piece->io;
	give_piece(piece);
	kvt_upload_end_part(io, status);
}

static void send_ready(upload_tier *tier, unsigned stream)
{
	upload_piece *ready = NULL, *next;
	for (upload_piece *piece = tier->ready[stream]; piece; piece = next) {
		next = piece->next;
		piece->next = ready;
		ready = piece;
	}
	tier->ready[stream] = NULL;
	while (ready) {
		upload_batch *batch = kvt_upload_batch_take(tier, stream);
		for (; ready && kvt_upload_batch_room(batch) > 0; ready = ready->next) {
			const kvt_extent *extents = (const kvt_extent *)ready->extents->data;
			for (guint i = 0; i < ready->extents->len; i++)
				kvt_upload_batch_add(batch, g_array_index(ready->homes, void *, i),
					g_array_index(ready->staged, void *, i),
					kvt_extent_bytes(&extents[i]));
			g_ptr_array_add(batch->shares, ready);
		}
		kvt_upload_batch_send(batch);
	}
}

static void flush(void *arg)
{
	upload_tier *tier = arg;
	tier->flush = 0;
	for (unsigned i = 0; i < UPLOAD_STREAMS; i++)
		send_ready(tier, i);
}

static void piece_read(kvt_io *read)
{
	upload_piece *piece = read->arg;
	upload_io *io = piece->io;
	upload_tier *tier = io->tier;
	/* there may be room in the inner tier now */
	kvt_upload_pump_soon(tier);
	if (read->status != 0 || io->status != 0 || io->stale) {
		kvt_upload_piece_end(piece, read->status);
		return;
	}
	unsigned stream = kvt_upload_stream_of(io);
	piece->next = tier->ready[stream];
	tier->ready[stream] = piece;
	if (tier->flush == 0)
		tier->flush = kvt_loop_at(tier->loop, 0, flush, tier);
}

static void refused(void *arg)
{
	upload_piece *piece = arg;
	piece_read(&piece->read);
}

/* Pages of one size that follow the I/O's cursor, at most so many. */
static uint64_t pages_left(const upload_io *io, uint64_t most)
{
	const kvt_extent *extents = io->io->extents;
	uint64_t pages = 0, skip = io->page;
	for (unsigned i = io->extent; i < io->io->n_extents && pages < most &&
				      extents[i].page_bytes == extents[io->extent].page_bytes;
		i++) {
		pages += extents[i].n_pages - skip;
		skip = 0;
	}
	return MIN(pages, most);
}

/* Moves the cursor over n pages, which get their places in staging. */
static void fill_piece(upload_piece *piece, uint64_t n)
{
	upload_io *io = piece->io;
	uint8_t *staged = kvt_arena_base(io->tier->staging) + piece->offset;
	while (n > 0) {
		kvt_extent run = io->io->extents[io->extent];
		uint8_t *home = (uint8_t *)io->io->memory[io->extent] + io->page * run.page_bytes;
		run.first_page += io->page;
		run.n_pages = MIN(run.n_pages - io->page, n);
		n -= run.n_pages;
		io->page += run.n_pages;
		if (io->page == io->io->extents[io->extent].n_pages) {
			io->extent++;
			io->page = 0;
		}
		g_array_append_val(piece->extents, run);
		g_array_append_val(piece->staged, staged);
		g_array_append_val(piece->homes, home);
		staged += blocks(kvt_extent_bytes(&run));
	}
}

static void book(upload_tier *tier, const upload_piece *piece)
{
	tier->staged += piece->bytes;
	tier->staged_low += piece->io->io->priority > 0 ? piece->bytes : 0;
	tier->counts.peak_staged = MAX(tier->counts.peak_staged, tier->staged);
}

/* Begins the next piece of an I/O; false: there is no room for it, here or in the inner tier. */
static bool begin_piece(upload_io *io)
{
	upload_tier *tier = io->tier;
	const unsigned extent = io->extent;
	const uint64_t page = io->page;
	uint64_t unit = blocks(io->io->extents[extent].page_bytes), offset;
	uint64_t n = kvt_arena_take(
		tier->staging, unit, pages_left(io, MAX(tier->piece_bytes / unit, 1)), &offset);
	if (n == 0)
		return false;
	upload_piece *piece = take_piece(io);
	piece->offset = offset;
	piece->bytes = n * unit;
	book(tier, piece);
	fill_piece(piece, n);
	piece->read = (kvt_io){ .op = KVT_IO_READ,
		.tenant = io->io->tenant,
		.priority = io->io->priority,
		.extents = (const kvt_extent *)piece->extents->data,
		.n_extents = piece->extents->len,
		.memory = (void *const *)piece->staged->data,
		.done = piece_read,
		.arg = piece };
	int error = kvt_tier_submit(tier->inner, &piece->read);
	if (error == -EAGAIN) {
		give_piece(piece);
		io->extent = extent;
		io->page = page;
		return false;
	}
	io->pending++;
	piece->read.status = error;
	if (error != 0)
		kvt_loop_at(tier->loop, 0, refused, piece);
	return true;
}

void kvt_upload_staged_pump(upload_tier *tier)
{
	for (;;) {
		/* lower classes leave some of it to the first */
		bool low = tier->staged_low < kvt_arena_bytes(tier->staging) / 4 * 3;
		if (tier->turn == KVT_PRIORITY_CLASSES || !tier->classes[tier->turn].first)
			tier->turn = kvt_upload_next_class(tier, low ? ~0u : 1);
		if (tier->turn == KVT_PRIORITY_CLASSES)
			break;
		upload_io *io = tier->classes[tier->turn].first;
		/* it keeps its turn, so that small pages do not take the room of large ones */
		if (!begin_piece(io))
			break;
		if (io->extent == io->io->n_extents)
			kvt_upload_dequeue(tier, tier->turn);
		tier->turn = KVT_PRIORITY_CLASSES;
	}
	kvt_tier_commit(tier->inner);
}
