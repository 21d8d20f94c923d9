/*
 * remote_write.c: writes of the remote tier: room is asked for, the pages are written there
 * one-sided, and what the checksums say of them makes them the node's. All runs of an I/O have
 * their room before the first is committed, but for I/Os of very many runs, which go in waves.
 */
#include <errno.h>
#include <string.h>

#include "emu/remote/remote_tier_internal.h"
#include "emu/store/store.h"

/* Parts of a write that have room at once: each is something that the node must remember. */
enum { WAVE = 256 };

static void reserve(remote_part *part);

/* --- Moving --- */

/* Nothing of the part is under way before COMMIT. */
static void end_move(remote_part *part)
{
	remote_io *io = part->io;
	kvt_remote_leave(part);
	kvt_remote_pump(io->tier);
	kvt_remote_settle(io);
}

static void moved(remote_part *part)
{
	if (part->status != 0)
		kvt_remote_fail(part->io, -EIO, KVT_REMOTE_FAILURE_LOST);
	end_move(part);
}

/* Room and checksums are there. */
static void move(remote_part *part)
{
	uint64_t offset = 0;
	if (part->io->status != 0) {
		end_move(part);
		return;
	}
	for (guint i = 0; i < part->places->len; i++) {
		const kvt_remote_piece *place = &g_array_index(part->places, kvt_remote_piece, i);
		uint64_t bytes = place->n_pages * part->run.page_bytes;
		kvt_remote_add_transfer(
			part, KVT_TRANSFER_WRITE, offset, bytes, place->address, place->key);
		offset += bytes;
	}
	kvt_remote_move(part, moved);
}

static void step(remote_part *part)
{
	if (--part->pending == 0)
		move(part);
}

/* On a helper thread or the loop. */
static void prepare(kvt_helper_task *task)
{
	remote_part *part = task->arg;
	const kvt_extent *run = &part->run;
	uint64_t bytes = kvt_extent_bytes(run);
	if (!part->home)
		memset(part->memory, 0, bytes);
	else if (part->home != part->memory)
		memcpy(part->memory, part->home, bytes);
	kvt_store_checksums(part->memory, run->page_bytes, run->n_pages, part->checksums);
}

static void prepared(kvt_helper_task *task)
{
	step(task->arg);
}

/* --- Room --- */

/* False when the answer is none to what was asked for. */
static bool take_places(remote_part *part, const kvt_remote_record *record)
{
	uint64_t pages = 0;
	part->ticket = record->ticket;
	for (uint32_t i = 0; i < record->n; i++) {
		pages += record->pieces[i].n_pages;
		if (record->pieces[i].address == 0)
			return false;
	}
	g_array_append_vals(part->places, record->pieces, record->n);
	return pages == part->run.n_pages && part->ticket != 0;
}

static void reserved(remote_request *request, const kvt_remote_record *record, int status)
{
	remote_part *part = request->arg;
	remote_io *io = part->io;
	if (status == -EDQUOT && kvt_remote_defer(part, reserve))
		return;
	if (status != 0) {
		kvt_remote_fail_answer(io, status);
	} else if (!take_places(part, record)) {
		part->ticket = 0;
		kvt_remote_link_lose(io->link, KVT_REMOTE_LOSS_PROTOCOL);
		kvt_remote_fail(io, -EIO, KVT_REMOTE_FAILURE_LOST);
	}
	step(part);
}

static void reserve(remote_part *part)
{
	remote_io *io = part->io;
	if (io->status != 0) {
		step(part);
		return;
	}
	part->request.answered = reserved;
	part->request.arg = part;
	kvt_remote_record record = {
		.type = KVT_REMOTE_RESERVE, .priority = (uint8_t)io->io->priority, .run = part->run
	};
	kvt_remote_ask(io->link, REMOTE_IN_ORDER, &part->request, &record);
}

remote_next kvt_remote_next_write(remote_io *io)
{
	const kvt_io *kvt = io->io;
	remote_next next;
	if (io->at == kvt->n_extents || io->wave_parts == WAVE)
		return REMOTE_NO_MORE;
	const kvt_extent *extent = &kvt->extents[io->at];
	uint64_t most = kvt_remote_part_pages(io->link, extent->page_bytes);
	if (most == 0) {
		kvt_remote_fail(io, -EIO, KVT_REMOTE_FAILURE_NODE);
		return REMOTE_NO_MORE;
	}
	uint64_t n = MIN(extent->n_pages - io->offset, most);
	remote_part *part = kvt_remote_take_part(io, io->at, io->offset, n, &next);
	if (!part)
		return next;
	io->offset += n;
	if (io->offset == extent->n_pages) {
		io->at++;
		io->offset = 0;
	}
	part->next = io->wave;
	io->wave = part;
	io->wave_parts++;
	part->pending = 2;
	part->asked = kvt_loop_now(io->tier->loop);
	reserve(part);
	kvt_remote_help(part, prepare, prepared);
	return REMOTE_BEGUN;
}

/* --- The end of a wave --- */

static void committed(remote_request *request, const kvt_remote_record *record, int status)
{
	remote_part *part = request->arg;
	remote_io *io = part->io;
	/* what the node says of the pages is no word about what was there */
	if (status == -EBADMSG || status == -ENOENT || status == -ENOSPC)
		kvt_remote_fail(io, -EIO,
			status == -EBADMSG ? KVT_REMOTE_FAILURE_CHECKSUM : KVT_REMOTE_FAILURE_NODE);
	else if (status != 0)
		kvt_remote_fail_answer(io, status);
	io->parts--;
	kvt_remote_settle(io);
}

static void commit(remote_io *io)
{
	remote_part *part, *next;
	io->committing = true;
	/* one more, so that the I/O does not end meanwhile */
	io->parts++;
	for (part = io->wave; part; part = next) {
		next = part->next;
		part->request.answered = committed;
		part->request.arg = part;
		kvt_remote_record record = { .type = KVT_REMOTE_COMMIT,
			.ticket = part->ticket,
			.n_checksums = (uint32_t)part->run.n_pages,
			.checksums = part->checksums };
		io->parts++;
		kvt_remote_ask(io->link, REMOTE_IN_ORDER, &part->request, &record);
	}
	io->parts--;
	kvt_remote_flush(io->link);
}

static void drop_wave(remote_io *io, bool abort)
{
	remote_part *part = io->wave, *next;
	io->wave = NULL;
	io->wave_parts = 0;
	for (; part; part = next) {
		next = part->next;
		if (abort && part->ticket != 0) {
			const kvt_remote_record record = { .type = KVT_REMOTE_ABORT,
				.ticket = part->ticket };
			kvt_remote_tell(io->link, REMOTE_IN_ORDER, &record);
		}
		kvt_remote_give_part(part);
	}
}

bool kvt_remote_go_on(remote_io *io)
{
	if (io->status != 0) {
		io->undo |= io->committing;
		if (io->undo && io->status == -ENOSPC)
			io->status = -EIO;
		drop_wave(io, !io->committing);
		return true;
	}
	if (io->wave && !io->committing) {
		commit(io);
		return false;
	}
	drop_wave(io, false);
	io->committing = false;
	if (io->at == io->io->n_extents)
		return true;
	/* should a later wave fail, pages of this one must go */
	io->undo = true;
	kvt_remote_enqueue(io);
	return false;
}
