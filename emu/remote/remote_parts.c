/*
 * remote_parts.c: I/Os of the remote tier in parts: how many are on their way at once, the memory
 * that they move from and to, what may go wrong with them, and the end of an I/O.
 */
#include <errno.h>
#include <stdlib.h>

#include "emu/remote/remote_tier_internal.h"

/* Bytes that are not worth a helper's being woken. */
enum { SMALL_BYTES = 32 << 10 };

#define LEAST_BUFFER (UINT64_C(64) << 10)
#define FIRST_RETRY KVT_MILLISECOND
#define LAST_RETRY (64 * KVT_MILLISECOND)

remote_io *kvt_remote_take_io(remote_tier *tier, kvt_io *io, uint64_t bytes)
{
	remote_io *state = tier->free_ios;
	GArray *skipped = NULL;
	if (state) {
		tier->free_ios = state->next;
		skipped = state->skipped;
	} else {
		state = g_new0(remote_io, 1);
		skipped = g_array_new(FALSE, FALSE, sizeof(kvt_extent));
		g_ptr_array_add(tier->ios, state);
	}
	g_array_set_size(skipped, 0);
	*state = (remote_io){
		.tier = tier, .io = io, .bytes = bytes, .in_use = true, .skipped = skipped
	};
	return state;
}

void kvt_remote_give_io(remote_io *io)
{
	io->in_use = false;
	io->next = io->tier->free_ios;
	io->tier->free_ios = io;
}

uint64_t kvt_remote_part_pages(const remote_link *link, uint64_t page_bytes)
{
	uint64_t most = MIN(link->welcome.request_bytes / page_bytes, KVT_REMOTE_PAGES);
	return MIN(most, MAX(link->tier->settings.part_bytes / page_bytes, 1));
}

/* --- Memory --- */

static const kvt_fabric_region *find_region(
	const remote_tier *tier, const uint8_t *memory, uint64_t bytes)
{
	for (guint i = 0; memory && i < tier->regions->len; i++) {
		const kvt_fabric_region *region = g_ptr_array_index(tier->regions, i);
		if (memory >= region->memory && bytes <= region->bytes &&
			(uint64_t)(memory - region->memory) <= region->bytes - bytes)
			return region;
	}
	return NULL;
}

static void free_buffer(remote_tier *tier, remote_part *part)
{
	if (part->buffer_bytes == 0)
		return;
	tier->fabric->ops->region_close(&part->buffer_region);
	free(part->buffer);
	part->buffer = NULL;
	part->buffer_bytes = 0;
}

static int make_buffer(remote_tier *tier, remote_part *part, uint64_t bytes)
{
	uint64_t room = LEAST_BUFFER;
	while (room < bytes)
		room *= 2;
	free_buffer(tier, part);
	part->buffer = aligned_alloc(4096, room);
	if (!part->buffer)
		return -ENOMEM;
	int status = tier->fabric->ops->region_open(
		tier->domain, part->buffer, room, KVT_FABRIC_REMOTE_WRITE, &part->buffer_region);
	if (status != 0) {
		free(part->buffer);
		part->buffer = NULL;
		return status;
	}
	part->buffer_bytes = room;
	return 0;
}

/* The part moves by way of a buffer of its own. */
static bool stage(remote_part *part, uint64_t bytes)
{
	remote_tier *tier = part->io->tier;
	int status = part->buffer_bytes >= bytes ? 0 : make_buffer(tier, part, bytes);
	if (status != 0) {
		/* what others do not use just now may be what is missing */
		for (remote_part *other = tier->free_parts; other; other = other->next)
			free_buffer(tier, other);
		status = make_buffer(tier, part, bytes);
	}
	if (status != 0)
		return false;
	part->memory = part->buffer;
	part->region = &part->buffer_region;
	tier->staged += part->buffer_bytes;
	return true;
}

static void give_memory(remote_part *part)
{
	if (part->region == &part->buffer_region)
		part->io->tier->staged -= part->buffer_bytes;
	part->region = NULL;
}

/* --- Parts --- */

static remote_part *part_new(remote_tier *tier)
{
	remote_part *part = g_new0(remote_part, 1);
	part->transfers = g_array_new(FALSE, FALSE, sizeof(kvt_transfer));
	part->grants = g_ptr_array_new();
	part->places = g_array_new(FALSE, FALSE, sizeof(kvt_remote_piece));
	g_ptr_array_add(tier->all_parts, part);
	return part;
}

/* A part that has a buffer for one that needs it, and one that has none else. */
static remote_part *find_free(remote_tier *tier, bool staged)
{
	for (remote_part **link = &tier->free_parts; *link; link = &(*link)->next) {
		remote_part *part = *link;
		if (staged != (part->buffer_bytes > 0) && (part->next || staged))
			continue;
		*link = part->next;
		return part;
	}
	remote_part *part = tier->free_parts;
	if (part)
		tier->free_parts = part->next;
	return part ? part : part_new(tier);
}

static void init_part(remote_part *part, remote_io *io, const kvt_extent *run)
{
	part->io = io;
	part->run = *run;
	part->pending = 0;
	part->status = 0;
	part->bad = false;
	part->ticket = 0;
	part->asked = 0;
	part->next = NULL;
	g_array_set_size(part->transfers, 0);
	g_array_set_size(part->places, 0);
	if (part->checksums_room < run->n_pages) {
		part->checksums_room = run->n_pages;
		part->checksums = g_renew(uint64_t, part->checksums, run->n_pages);
	}
}

remote_part *kvt_remote_take_part(
	remote_io *io, unsigned at, uint64_t first, uint64_t n, remote_next *next)
{
	remote_tier *tier = io->tier;
	const kvt_io *kvt = io->io;
	kvt_extent run = kvt->extents[at];
	uint64_t bytes = n * run.page_bytes;
	uint8_t *home = kvt->memory ? kvt->memory[at] : NULL;
	home = home ? home + first * run.page_bytes : NULL;
	const kvt_fabric_region *region = find_region(tier, home, bytes);
	*next = REMOTE_LATER;
	if (!region && tier->staged > 0 && tier->staged + bytes > tier->settings.staging_bytes)
		return NULL;
	run.first_page += first;
	run.n_pages = n;
	remote_part *part = find_free(tier, !region);
	init_part(part, io, &run);
	part->home = home;
	part->memory = home;
	part->region = region;
	if (!region && !stage(part, bytes)) {
		part->region = NULL;
		part->next = tier->free_parts;
		tier->free_parts = part;
		kvt_remote_fail(io, -EIO, KVT_REMOTE_FAILURE_MEMORY);
		*next = REMOTE_NO_MORE;
		return NULL;
	}
	if (region)
		tier->counts.direct_bytes += bytes;
	else if (home)
		tier->counts.copied_bytes += bytes;
	io->parts++;
	part->counted = true;
	tier->classes[kvt->priority].parts++;
	*next = REMOTE_BEGUN;
	return part;
}

void kvt_remote_leave(remote_part *part)
{
	remote_io *io = part->io;
	g_assert(part->counted);
	give_memory(part);
	part->counted = false;
	io->tier->classes[io->io->priority].parts--;
	io->parts--;
}

void kvt_remote_give_part(remote_part *part)
{
	remote_tier *tier = part->io->tier;
	part->next = tier->free_parts;
	tier->free_parts = part;
}

void kvt_remote_free_part(remote_tier *tier, remote_part *part)
{
	for (guint i = 0; i < part->grants->len; i++) {
		remote_grant *grant = g_ptr_array_index(part->grants, i);
		if (--grant->pins == 0)
			g_free(grant);
	}
	free_buffer(tier, part);
	g_array_unref(part->transfers);
	g_array_unref(part->places);
	g_ptr_array_unref(part->grants);
	g_free(part->checksums);
	g_free(part);
}

void kvt_remote_end_part(remote_part *part)
{
	remote_io *io = part->io;
	kvt_remote_leave(part);
	kvt_remote_give_part(part);
	/* one that failed is taken out of the queue by the pump */
	kvt_remote_pump(io->tier);
	kvt_remote_settle(io);
}

void kvt_remote_add_transfer(remote_part *part, kvt_transfer_op op, uint64_t offset, uint64_t bytes,
	uint64_t address, uint32_t key)
{
	const kvt_transfer transfer = { .op = op,
		.priority = part->io->io->priority,
		.queue = KVT_ANY_QUEUE,
		.memory = part->memory + offset,
		.region = part->region,
		.length = bytes,
		.remote_address = address,
		.remote_key = key,
		.arg = part };
	g_array_append_val(part->transfers, transfer);
}

static void transfer_done(kvt_transfer *transfer)
{
	remote_part *part = transfer->arg;
	remote_link *link = part->io->link;
	if (transfer->status == -EACCES && !link->lost) {
		link->lost = true;
		link->loss = KVT_REMOTE_LOSS_DENIED;
	}
	if (part->status == 0)
		part->status = transfer->status;
	if (--part->pending == 0)
		part->moved(part);
}

void kvt_remote_move(remote_part *part, void (*moved)(remote_part *part))
{
	remote_link *link = part->io->link;
	GArray *transfers = part->transfers;
	part->moved = moved;
	part->pending = transfers->len;
	if (!link->connection) {
		part->pending = 0;
		part->status = -ECONNRESET;
		moved(part);
		return;
	}
	part->io->tier->stats.device_ios += transfers->len;
	for (guint i = 0; i < transfers->len; i++) {
		kvt_transfer *transfer = &g_array_index(transfers, kvt_transfer, i);
		transfer->done = transfer_done;
		link->tier->fabric->ops->submit(link->connection, transfer);
	}
}

void kvt_remote_help(
	remote_part *part, void (*work)(kvt_helper_task *task), void (*done)(kvt_helper_task *task))
{
	remote_tier *tier = part->io->tier;
	part->task = (kvt_helper_task){ .work = work, .done = done, .arg = part };
	if (kvt_extent_bytes(&part->run) > SMALL_BYTES) {
		kvt_helper_pool_run(tier->helpers, &part->task);
		return;
	}
	work(&part->task);
	done(&part->task);
}

/* --- Failures --- */

const char *const kvt_remote_failure_names[KVT_REMOTE_FAILURES] = { "down", "lost", "draining",
	"quota", "node", "gone", "checksum", "memory" };

void kvt_remote_fail(remote_io *io, int status, kvt_remote_failure failure)
{
	if (io->status != 0)
		return;
	io->status = status;
	if (status != -ENOSPC)
		io->tier->counts.failures[failure]++;
}

void kvt_remote_fail_answer(remote_io *io, int status)
{
	switch (status) {
	case -ESHUTDOWN:
		kvt_remote_fail(io, -EIO, KVT_REMOTE_FAILURE_DRAINING);
		break;
	case -EDQUOT:
		kvt_remote_fail(io, -EIO, KVT_REMOTE_FAILURE_QUOTA);
		break;
	case -ENOENT:
	case -EBADMSG:
		kvt_remote_fail(io, status,
			status == -ENOENT ? KVT_REMOTE_FAILURE_GONE : KVT_REMOTE_FAILURE_CHECKSUM);
		break;
	case -ENOSPC:
		kvt_remote_fail(io, status, KVT_REMOTE_FAILURE_NODE);
		break;
	default:
		kvt_remote_fail(io, -EIO, KVT_REMOTE_FAILURE_NODE);
	}
}

static void ask_again(void *arg)
{
	remote_link *link = arg;
	unsigned n = g_queue_get_length(&link->deferred);
	link->retry = 0;
	for (; n > 0; n--) {
		remote_part *part = g_queue_pop_head(&link->deferred);
		part->again(part);
	}
}

bool kvt_remote_defer(remote_part *part, void (*again)(remote_part *part))
{
	remote_link *link = part->io->link;
	remote_tier *tier = part->io->tier;
	kvt_time now = kvt_loop_now(tier->loop);
	if (part->io->status != 0 || now >= part->asked + tier->settings.timeout)
		return false;
	/* what is kept for later reads may be all that the tenant may have */
	kvt_remote_grants_release(link);
	part->again = again;
	g_queue_push_tail(&link->deferred, part);
	if (link->retry == 0) {
		link->retry_pause = CLAMP(2 * link->retry_pause, FIRST_RETRY, LAST_RETRY);
		link->retry = kvt_loop_at(tier->loop, now + link->retry_pause, ask_again, link);
	}
	return true;
}

void kvt_remote_fail_deferred(remote_link *link)
{
	remote_part *part;
	while ((part = g_queue_pop_head(&link->deferred)))
		part->again(part);
}

/* --- Classes and ends --- */

void kvt_remote_enqueue(remote_io *io)
{
	remote_class *class = &io->tier->classes[io->io->priority];
	io->next = NULL;
	io->queued = true;
	if (class->first)
		class->last->next = io;
	else
		class->first = io;
	class->last = io;
	kvt_remote_pump(io->tier);
}

void kvt_remote_pump(remote_tier *tier)
{
	for (unsigned i = 0; i < KVT_PRIORITY_CLASSES; i++) {
		remote_class *class = &tier->classes[i];
		while (class->first && class->parts < tier->settings.parts) {
			remote_io *io = class->first;
			remote_next next = io->status != 0             ? REMOTE_NO_MORE
					   : io->io->op == KVT_IO_READ ? kvt_remote_next_read(io)
								       : kvt_remote_next_write(io);
			if (next == REMOTE_LATER)
				break;
			if (next == REMOTE_BEGUN)
				continue;
			class->first = io->next;
			io->queued = false;
			kvt_remote_settle(io);
		}
	}
}

static void finish_later(void *arg)
{
	kvt_remote_finish(arg);
}

void kvt_remote_settle(remote_io *io)
{
	if (io->parts > 0 || io->queued)
		return;
	if (io->io->op == KVT_IO_WRITE && !kvt_remote_go_on(io))
		return;
	if (io->tier->submitting)
		kvt_loop_at(io->tier->loop, 0, finish_later, io);
	else
		kvt_remote_finish(io);
}

/* What a write leaves behind. */
static void end_write(remote_io *io, int status)
{
	remote_link *link = io->link;
	const kvt_io *kvt = io->io;
	for (unsigned i = 0; i < kvt->n_extents; i++) {
		kvt_remote_grants_drop(link, &kvt->extents[i]);
		if (io->undo && status != 0) {
			kvt_page_store_discard(io->tier->pages, kvt->tenant, &kvt->extents[i]);
			kvt_remote_link_discard(link, &kvt->extents[i]);
		}
	}
	/* they were discarded, and nothing has come in their place */
	for (guint i = 0; status != 0 && i < io->skipped->len; i++)
		kvt_remote_link_discard(link, &g_array_index(io->skipped, kvt_extent, i));
}

void kvt_remote_finish(remote_io *io)
{
	remote_tier *tier = io->tier;
	kvt_io *kvt = io->io;
	int status =
		io->begun ? kvt_page_store_end(tier->pages, &io->ticket, io->status) : io->status;
	kvt->status = status;
	kvt->bytes = status == 0 ? io->bytes : 0;
	kvt->completed = kvt_loop_now(tier->loop);
	tier->in_flight--;
	io->in_use = false;
	if (kvt->op == KVT_IO_WRITE && io->begun && io->link)
		end_write(io, status);
	kvt_remote_give_io(io);
	kvt_tier_stats_count(&tier->stats, kvt);
	kvt->done(kvt);
}
