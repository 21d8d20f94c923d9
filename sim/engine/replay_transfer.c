/* replay_transfer.c: queues in front of the storage tier. */
#include "sim/engine/replay_transfer.h"

#include <errno.h>
#include <stdlib.h>

enum { ATTEMPTS_MAX = 8, PAUSES_MAX = 10000 };

/* Until a tier that refuses an I/O while none is under way is asked again. */
static const kvt_time PAUSE = KVT_MICROSECOND;

typedef struct waiting_list {
	kvt_transfer *first, *last;
} waiting_list;

struct kvt_transfers {
	kvt_transfers_spec spec;
	waiting_list refused[KVT_TRANSFER_KINDS]; /* released, but not taken by the tier */
	unsigned prefetching, under_way;          /* taken */
	unsigned pauses;                          /* since the tier took anything */
	kvt_event timer;                          /* offers what waits */
	uint64_t retries;
	bool failed;
	kvt_track tracks[KVT_TRANSFER_KINDS];
};

static const char *const kind_names[] = { "demand", "prefetch", "write" };

kvt_transfers *kvt_transfers_new(const kvt_transfers_spec *spec)
{
	kvt_transfers *transfers = g_new0(kvt_transfers, 1);
	transfers->spec = *spec;
	kvt_track process = kvt_timeline_track(spec->timeline, "storage", 0);
	for (unsigned kind = 0; kind < KVT_TRANSFER_KINDS; kind++)
		transfers->tracks[kind] =
			kvt_timeline_track(spec->timeline, kind_names[kind], process);
	return transfers;
}

void kvt_transfers_free(kvt_transfers *transfers)
{
	g_free(transfers);
}

uint64_t kvt_transfers_retries(const kvt_transfers *transfers)
{
	return transfers->retries;
}

static void append(waiting_list *waiting, kvt_transfer *transfer)
{
	transfer->next = NULL;
	if (waiting->last)
		waiting->last->next = transfer;
	else
		waiting->first = transfer;
	waiting->last = transfer;
}

/* False when it has to wait. */
static bool offer(kvt_transfers *transfers, kvt_transfer *transfer)
{
	const kvt_transfers_spec *spec = &transfers->spec;
	if (transfer->kind == KVT_TRANSFER_PREFETCH &&
		transfers->prefetching >= spec->prefetch_depth)
		return false;
	int status = kvt_tier_submit(spec->tier, &transfer->io);
	if (status == -EAGAIN)
		return false;
	if (status != 0) {
		transfers->failed = true;
		spec->failed(spec->arg, transfer, status);
		return true;
	}
	kvt_tier_commit(spec->tier);
	transfers->under_way++;
	transfers->pauses = 0;
	transfers->prefetching += transfer->kind == KVT_TRANSFER_PREFETCH;
	if (transfer->attempts == 0)
		transfer->accepted = kvt_loop_now(spec->loop);
	return true;
}

static void offer_later(void *arg);

static kvt_transfer *first_waiting(const kvt_transfers *transfers)
{
	for (unsigned kind = 0; kind < KVT_TRANSFER_KINDS; kind++)
		if (transfers->refused[kind].first)
			return transfers->refused[kind].first;
	return NULL;
}

/* A completion lets what waits be offered again; where none is to come, time does, but not for
 * ever. */
static void set_timer(kvt_transfers *transfers)
{
	kvt_transfer *waiting = first_waiting(transfers);
	if (!waiting || transfers->under_way > 0 || transfers->timer != 0 || transfers->failed)
		return;
	if (++transfers->pauses > PAUSES_MAX) {
		transfers->failed = true;
		transfers->spec.failed(transfers->spec.arg, waiting, -EAGAIN);
		return;
	}
	transfers->timer = kvt_loop_after(transfers->spec.loop, PAUSE, offer_later, transfers);
}

/* What waits goes first, by kind, then in the order it came. */
static void offer_waiting(kvt_transfers *transfers)
{
	for (unsigned kind = 0; kind < KVT_TRANSFER_KINDS && !transfers->failed; kind++) {
		waiting_list *waiting = &transfers->refused[kind];
		while (waiting->first && !transfers->failed) {
			if (!offer(transfers, waiting->first))
				break;
			waiting->first = waiting->first->next;
			if (!waiting->first)
				waiting->last = NULL;
		}
	}
	set_timer(transfers);
}

static void offer_later(void *arg)
{
	kvt_transfers *transfers = arg;
	transfers->timer = 0;
	offer_waiting(transfers);
}

/* Where the runs that are moved lie. */
static void find_memory(kvt_transfer *transfer)
{
	kvt_replay_device *device = transfer->owner->spec.device;
	const kvt_extent *extents = transfer->io.extents;
	const unsigned n = transfer->io.n_extents;
	char *copy = transfer->copy;
	if (!device || !device->ops->memory)
		return;
	if (transfer->memory_size < n) {
		transfer->memory_size = n;
		transfer->memory = g_renew(void *, transfer->memory, n);
	}
	for (unsigned i = 0; i < n; i++) {
		transfer->memory[i] = copy ? copy : device->ops->memory(device, &extents[i]);
		copy = copy ? copy + kvt_extent_bytes(&extents[i]) : NULL;
	}
	transfer->io.memory = transfer->memory;
}

static void submit(kvt_transfer *transfer)
{
	kvt_transfers *transfers = transfer->owner;
	if (transfers->failed)
		return;
	transfer->io.extents = transfer->searching ? &transfer->suspect : transfer->list.extents;
	transfer->io.n_extents = transfer->searching ? 1 : transfer->list.n;
	find_memory(transfer);
	waiting_list *waiting = &transfers->refused[transfer->kind];
	if (waiting->first || !offer(transfers, transfer)) {
		append(waiting, transfer);
		set_timer(transfers);
	}
}

/* A prefetch or demand fetch of data that is not there, or a write to a tier that is full, will not
 * get better. */
static bool worth_another_try(const kvt_transfer *transfer)
{
	int status = transfer->io.status;
	/* where lost pages are made again a wrong checksum is no chance event */
	if (status == -EBADMSG && transfer->owner->spec.lost)
		return false;
	return status != -ENOENT && status != -ENOSPC && transfer->attempts < ATTEMPTS_MAX;
}

/* The transfer is over, well or, where it may be, not. */
static void complete(kvt_transfer *transfer)
{
	kvt_transfers *transfers = transfer->owner;
	const kvt_transfers_spec *spec = &transfers->spec;
	transfer->completed = kvt_loop_now(spec->loop);
	transfer->active = transfer->searching = false;
	kvt_timeline_span_bytes(spec->timeline, transfers->tracks[transfer->kind],
		kind_names[transfer->kind], transfer->accepted, transfer->completed,
		transfer->io.bytes);
	offer_waiting(transfers);
	transfer->done(transfer->arg, transfer);
}

static void made_again(void *arg)
{
	kvt_transfer *transfer = arg;
	if (!transfer->owner->failed)
		complete(transfer);
}

/* Reads the next run by itself; when there is none, the lost pages are known. */
static void search(kvt_transfer *transfer)
{
	const kvt_transfers_spec *spec = &transfer->owner->spec;
	GArray *suspects = transfer->suspects;
	if (suspects->len > 0) {
		transfer->suspect = g_array_index(suspects, kvt_extent, suspects->len - 1);
		g_array_set_size(suspects, suspects->len - 1);
		submit(transfer);
		return;
	}
	transfer->io.bytes = transfer->came;
	if (transfer->lost.n == 0) {
		complete(transfer);
		return;
	}
	kvt_time takes = spec->lost(spec->arg, transfer, &transfer->lost);
	kvt_loop_after(spec->loop, takes, made_again, transfer);
}

static bool begin_search(kvt_transfer *transfer)
{
	int status = transfer->io.status;
	if (!transfer->owner->spec.lost || transfer->kind == KVT_TRANSFER_WRITE ||
		(status != -ENOENT && status != -EIO && status != -EBADMSG))
		return false;
	if (!transfer->suspects)
		transfer->suspects = g_array_new(FALSE, FALSE, sizeof(kvt_extent));
	for (unsigned i = transfer->list.n; i-- > 0;)
		g_array_append_val(transfer->suspects, transfer->list.extents[i]);
	kvt_extent_list_clear(&transfer->lost);
	transfer->came = 0;
	transfer->searching = true;
	search(transfer);
	return true;
}

/* One run was read by itself; where it failed its halves are, in order. */
static void searched(kvt_transfer *transfer)
{
	kvt_extent half = transfer->suspect;
	transfer->came += transfer->io.bytes;
	if (transfer->io.status != 0 && half.n_pages == 1)
		kvt_extent_list_add(&transfer->lost, &half);
	if (transfer->io.status != 0 && half.n_pages > 1) {
		uint64_t first = half.n_pages / 2;
		half.first_page += first;
		half.n_pages -= first;
		g_array_append_val(transfer->suspects, half);
		half.first_page -= first;
		half.n_pages = first;
		g_array_append_val(transfer->suspects, half);
	}
	search(transfer);
}

static void io_done(kvt_io *io)
{
	kvt_transfer *transfer = (kvt_transfer *)(void *)io;
	kvt_transfers *transfers = transfer->owner;
	transfers->under_way--;
	transfers->prefetching -= transfer->kind == KVT_TRANSFER_PREFETCH;
	if (transfers->failed)
		return;
	if (transfer->searching) {
		searched(transfer);
		offer_waiting(transfers);
		return;
	}
	if (io->status == 0) {
		complete(transfer);
		return;
	}
	transfer->attempts++;
	if (worth_another_try(transfer)) {
		transfers->retries++;
		submit(transfer);
		offer_waiting(transfers);
	} else if (transfer->may_fail) {
		complete(transfer);
	} else if (begin_search(transfer)) {
		offer_waiting(transfers);
	} else {
		transfers->failed = true;
		transfers->spec.failed(transfers->spec.arg, transfer, io->status);
	}
}

void kvt_transfer_init(kvt_transfer *transfer, kvt_transfers *owner, kvt_transfer_kind kind,
	void (*done)(void *arg, kvt_transfer *transfer), void *arg)
{
	*transfer = (kvt_transfer){ .owner = owner, .kind = kind, .done = done, .arg = arg };
	transfer->io.op = kind == KVT_TRANSFER_WRITE ? KVT_IO_WRITE : KVT_IO_READ;
	transfer->io.priority = kind;
	transfer->io.done = io_done;
}

void kvt_transfer_clear(kvt_transfer *transfer)
{
	kvt_extent_list_free(&transfer->list);
	kvt_extent_list_free(&transfer->lost);
	g_clear_pointer(&transfer->suspects, g_array_unref);
	g_clear_pointer(&transfer->copy, free);
	g_clear_pointer(&transfer->memory, g_free);
}

void kvt_transfer_start(kvt_transfer *transfer, bool held)
{
	g_assert(!transfer->active && transfer->list.n > 0);
	transfer->active = true;
	transfer->held = held;
	transfer->attempts = 0;
	transfer->wanted = kvt_loop_now(transfer->owner->spec.loop);
	transfer->released = transfer->accepted = transfer->completed = KVT_TIME_NEVER;
	if (!held)
		kvt_transfer_release(transfer);
}

void kvt_transfer_release(kvt_transfer *transfer)
{
	transfer->held = false;
	transfer->released = kvt_loop_now(transfer->owner->spec.loop);
	submit(transfer);
}
