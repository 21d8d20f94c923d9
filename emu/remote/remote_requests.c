/*
 * remote_requests.c: what a client says to its node: records gathered into messages, requests by
 * their ids, and how long the node may be silent. What the records mean is remote_read.c's,
 * remote_write.c's and remote_link.c's.
 */
#include "emu/remote/remote_tier_internal.h"

enum { SLOT_BITS = 16 };

unsigned kvt_remote_any_queue(remote_link *link)
{
	/* the first one is for what must be in order, where there are others */
	if (link->queues == 1)
		return 0;
	link->turn = link->turn % (link->queues - 1) + 1;
	return link->turn;
}

/* --- Messages --- */

static bool can_send(const remote_link *link)
{
	return link->state == REMOTE_LISTING || link->state == REMOTE_UP;
}

static void send(remote_link *link, unsigned queue)
{
	remote_message *message = &link->messages[queue];
	kvt_transfer transfer = { .op = KVT_TRANSFER_MESSAGE,
		.queue = (int)queue,
		.memory = message->bytes,
		.length = message->length };
	link->tier->fabric->ops->submit(link->connection, &transfer);
	message->length = 0;
}

static void flush_later(void *arg)
{
	remote_link *link = arg;
	link->flush = 0;
	kvt_remote_flush(link);
}

void kvt_remote_flush_soon(remote_link *link)
{
	if (link->flush == 0)
		link->flush = kvt_loop_at(link->tier->loop, 0, flush_later, link);
}

void kvt_remote_tell(remote_link *link, unsigned queue, const kvt_remote_record *record)
{
	remote_message *message = &link->messages[queue];
	if (!can_send(link))
		return;
	if (!message->bytes)
		message->bytes = g_malloc(KVT_REMOTE_MESSAGE);
	if (message->length + kvt_remote_size(record) > KVT_REMOTE_MESSAGE)
		send(link, queue);
	message->length += kvt_remote_encode(record, message->bytes + message->length);
	kvt_remote_flush_soon(link);
}

static void tell_releases(remote_link *link)
{
	GArray *leases = link->releases;
	for (guint at = 0; at < leases->len;) {
		guint n = MIN(leases->len - at, KVT_REMOTE_LEASES);
		const kvt_remote_record record = { .type = KVT_REMOTE_RELEASE,
			.n = n,
			.leases = &g_array_index(leases, uint64_t, at) };
		kvt_remote_tell(link, kvt_remote_any_queue(link), &record);
		at += n;
	}
	g_array_set_size(leases, 0);
}

void kvt_remote_flush(remote_link *link)
{
	if (!can_send(link))
		return;
	tell_releases(link);
	for (unsigned i = 0; i < link->queues; i++)
		if (link->messages[i].length > 0)
			send(link, i);
	if (link->flush != 0)
		kvt_loop_cancel(link->tier->loop, link->flush);
	link->flush = 0;
	link->tier->fabric->ops->commit(link->connection);
}

/* --- Requests --- */

static void watch(void *arg)
{
	remote_link *link = arg;
	kvt_loop *loop = link->tier->loop;
	link->timer = 0;
	if (!link->oldest)
		return;
	kvt_time end = MAX(link->oldest->sent, link->heard) + link->tier->settings.timeout;
	if (kvt_loop_now(loop) >= end)
		kvt_remote_link_lose(link, KVT_REMOTE_LOSS_SILENT);
	else
		link->timer = kvt_loop_at(loop, end, watch, link);
}

static unsigned take_slot(remote_link *link)
{
	if (link->free_slots->len > 0) {
		unsigned slot =
			g_array_index(link->free_slots, unsigned, link->free_slots->len - 1);
		g_array_set_size(link->free_slots, link->free_slots->len - 1);
		return slot;
	}
	g_assert(link->slots->len < 1u << SLOT_BITS);
	g_ptr_array_add(link->slots, NULL);
	return link->slots->len - 1;
}

void kvt_remote_ask(
	remote_link *link, unsigned queue, remote_request *request, kvt_remote_record *record)
{
	static const kvt_remote_type answers[] = { [KVT_REMOTE_FETCH] = KVT_REMOTE_FETCHED,
		[KVT_REMOTE_RESERVE] = KVT_REMOTE_RESERVED,
		[KVT_REMOTE_COMMIT] = KVT_REMOTE_COMMITTED,
		[KVT_REMOTE_DISCARD] = KVT_REMOTE_DISCARDED,
		[KVT_REMOTE_LIST] = KVT_REMOTE_LISTED };
	unsigned slot = take_slot(link);
	g_assert(request->id == 0);
	link->slots->pdata[slot] = request;
	request->link = link;
	request->answer = answers[record->type];
	request->id = ++link->sequence << SLOT_BITS | slot;
	request->sent = kvt_loop_now(link->tier->loop);
	request->later = NULL;
	request->earlier = link->newest;
	*(link->newest ? &link->newest->later : &link->oldest) = request;
	link->newest = request;
	record->id = request->id;
	kvt_remote_tell(link, queue, record);
	if (link->timer == 0)
		watch(link);
}

static void take_out(remote_link *link, remote_request *request)
{
	unsigned slot = request->id & ((1u << SLOT_BITS) - 1);
	link->slots->pdata[slot] = NULL;
	g_array_append_val(link->free_slots, slot);
	*(request->earlier ? &request->earlier->later : &link->oldest) = request->later;
	*(request->later ? &request->later->earlier : &link->newest) = request->earlier;
	request->id = 0;
	if (!link->oldest && link->timer != 0) {
		kvt_loop_cancel(link->tier->loop, link->timer);
		link->timer = 0;
	}
}

void kvt_remote_fail_requests(remote_link *link)
{
	while (link->oldest) {
		remote_request *request = link->oldest;
		take_out(link, request);
		request->answered(request, NULL, -EIO);
	}
}

static remote_request *find(const remote_link *link, const kvt_remote_record *record)
{
	uint64_t slot = record->id & ((1u << SLOT_BITS) - 1);
	remote_request *request =
		slot < link->slots->len ? g_ptr_array_index(link->slots, slot) : NULL;
	return request && request->id == record->id && request->answer == record->type ? request
										       : NULL;
}

void kvt_remote_on_message(remote_link *link, const void *bytes, size_t length)
{
	remote_tier *tier = link->tier;
	kvt_remote_reader *reader = &tier->reader;
	kvt_remote_record record;
	int status;
	link->heard = kvt_loop_now(tier->loop);
	kvt_remote_reader_init(reader, bytes, length);
	while (can_send(link) && (status = kvt_remote_next(reader, &record)) != 0) {
		remote_request *request = status == 1 ? find(link, &record) : NULL;
		if (!request) {
			kvt_remote_link_lose(link, KVT_REMOTE_LOSS_PROTOCOL);
			return;
		}
		take_out(link, request);
		request->answered(request, &record, record.status);
	}
	/* what follows from the answers goes at once */
	kvt_remote_flush(link);
}
