/*
 * verbs_fabric_connection.c: a connection from its making to its end: what is submitted, and that
 * all of it is done before the end is told.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "emu/fabric/verbs_fabric_internal.h"

/* --- Making and freeing --- */

static kvt_connection_settings complete(const kvt_connection_settings *given, unsigned queues)
{
	kvt_connection_settings s = *given;
	s.queues = queues;
	s.depth = s.depth ? MIN(s.depth, 4096) : 64;
	s.messages = s.messages ? MIN(s.messages, 4096) : 32;
	/* told to the peer in units of 64 */
	s.message_bytes = s.message_bytes ? MIN(s.message_bytes, 65535 * 64) : 16 << 10;
	s.message_bytes = (s.message_bytes + 63) / 64 * 64;
	s.retries = s.retries ? MIN(s.retries, 6) : 6;
	s.timeout = s.timeout ? s.timeout : KVT_SECOND;
	s.connect_timeout = s.connect_timeout ? s.connect_timeout : 5 * KVT_SECOND;
	return s;
}

/* What the peer's messages come to, and ours leave from. */
static bool register_memory(kvt_connection *connection)
{
	size_t bytes = connection->n_queues * verbs_queue_memory(&connection->settings);
	void *memory =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return false;
	connection->memory = memory;
	connection->memory_bytes = bytes;
	connection->mr = ibv_reg_mr(connection->domain->pd, memory, bytes, IBV_ACCESS_LOCAL_WRITE);
	return connection->mr != NULL;
}

void verbs_connection_release(kvt_connection *connection)
{
	if (connection->mr)
		ibv_dereg_mr(connection->mr);
	if (connection->memory)
		munmap(connection->memory, connection->memory_bytes);
	connection->mr = NULL;
	connection->memory = NULL;
}

kvt_connection *verbs_connection_new(kvt_fabric_domain *domain,
	const kvt_connection_settings *settings, unsigned queues,
	const kvt_connection_handlers *handlers, void *arg)
{
	static const kvt_connection_settings none;
	kvt_connection *connection = g_new0(kvt_connection, 1);
	connection->fabric = domain->fabric;
	connection->domain = domain;
	connection->settings = complete(settings ? settings : &none, queues);
	connection->handlers = *handlers;
	connection->arg = arg;
	connection->n_queues = queues;
	if (!register_memory(connection)) {
		int reason = errno;
		verbs_connection_release(connection);
		g_free(connection);
		errno = reason;
		return NULL;
	}
	connection->queues = g_new0(verbs_queue, queues);
	for (unsigned i = 0; i < queues; i++)
		verbs_queue_init(&connection->queues[i], connection, i);
	connection->calls = g_array_new(FALSE, FALSE, sizeof(verbs_later));
	verbs_fabric_use(connection->fabric, 1);
	return connection;
}

/* --- Callbacks --- */

static void run_first(void *arg)
{
	kvt_connection *connection = arg;
	GArray *calls = connection->calls;
	verbs_later later = g_array_index(calls, verbs_later, connection->first_call++);
	if (connection->first_call == calls->len) {
		g_array_set_size(calls, 0);
		connection->first_call = 0;
	}
	/* may free the connection */
	later.callback(later.arg);
}

void verbs_connection_call(kvt_connection *connection, kvt_callback callback, void *arg)
{
	/* all are for now: they run in order */
	verbs_later later = { .callback = callback, .arg = arg };
	later.event = verbs_call(connection->fabric, run_first, connection);
	g_array_append_val(connection->calls, later);
}

static void cancel_calls(kvt_connection *connection)
{
	for (guint i = connection->first_call; i < connection->calls->len; i++)
		kvt_loop_cancel(connection->fabric->loop,
			g_array_index(connection->calls, verbs_later, i).event);
	g_array_set_size(connection->calls, 0);
}

/* --- Transfers --- */

static void run_done(void *arg)
{
	kvt_transfer *transfer = arg;
	kvt_connection *connection = transfer->state[0];
	if (connection)
		connection->outstanding--;
	transfer->done(transfer);
}

void verbs_connection_finish(kvt_connection *connection, kvt_transfer *transfer)
{
	kvt_real_loop_release(connection->fabric->loop);
	transfer->begun = transfer->length;
	if (transfer->done) {
		verbs_connection_call(connection, run_done, transfer);
		return;
	}
	connection->outstanding--;
	transfer->next = connection->letters;
	connection->letters = transfer;
}

/* Of a message that nobody waits for: a transfer and its bytes, of which there may be most. */
static kvt_transfer *copy_of(kvt_connection *connection, const kvt_transfer *transfer)
{
	kvt_transfer *letter = connection->letters;
	if (letter)
		connection->letters = letter->next;
	else
		letter = g_malloc(sizeof(*letter) + connection->settings.message_bytes);
	*letter = *transfer;
	letter->memory = letter + 1;
	if (transfer->length > 0)
		memcpy(letter->memory, transfer->memory, transfer->length);
	return letter;
}

static void check(const kvt_connection *connection, const kvt_transfer *transfer)
{
	const kvt_fabric_region *region = transfer->region;
	g_assert(transfer->priority < KVT_PRIORITY_CLASSES);
	g_assert(transfer->queue >= KVT_ANY_QUEUE && transfer->queue < (int)connection->n_queues);
	if (transfer->op == KVT_TRANSFER_MESSAGE) {
		g_assert(transfer->length <= connection->settings.message_bytes);
		return;
	}
	g_assert(transfer->done && transfer->length > 0);
	g_assert(region && region->handle && region->domain == connection->domain);
	uint64_t offset = (uint64_t)((uint8_t *)transfer->memory - region->memory);
	g_assert(offset <= region->bytes && transfer->length <= region->bytes - offset);
}

void verbs_submit(kvt_connection *connection, kvt_transfer *transfer)
{
	check(connection, transfer);
	if (connection->state == VERBS_DOWN) {
		/* the connection may be freed before done runs */
		transfer->status = -ECONNRESET;
		transfer->state[0] = NULL;
		if (transfer->done)
			verbs_call(connection->fabric, run_done, transfer);
		return;
	}
	if (!transfer->done)
		transfer = copy_of(connection, transfer);
	transfer->sequence = ++connection->sequence;
	transfer->status = 0;
	transfer->begun = 0;
	transfer->pieces = 0;
	transfer->state[0] = connection;
	connection->outstanding++;
	kvt_real_loop_hold(connection->fabric->loop);
	if (connection->state == VERBS_ENDED) {
		transfer->status = -ECONNRESET;
		verbs_connection_finish(connection, transfer);
		return;
	}
	verbs_class *classes = transfer->queue == KVT_ANY_QUEUE
				       ? connection->classes
				       : connection->queues[transfer->queue].classes;
	verbs_class_append(&classes[transfer->priority], transfer);
	connection->waiting++;
	verbs_fabric_set_dirty(connection);
}

void verbs_connection_fill(kvt_connection *connection)
{
	bool added = connection->state == VERBS_UP;
	unsigned n = connection->n_queues;
	while (added && connection->waiting > 0) {
		added = false;
		for (unsigned i = 0; i < n; i++)
			added |= verbs_queue_add(&connection->queues[(connection->turn + i) % n]);
	}
	connection->turn++;
	for (unsigned i = 0; connection->state == VERBS_UP && i < n; i++)
		verbs_queue_post(&connection->queues[i]);
}

void verbs_commit(kvt_connection *connection)
{
	verbs_connection_fill(connection);
}

unsigned verbs_queues(const kvt_connection *connection)
{
	return connection->n_queues;
}

/* --- The end --- */

static void drop_class(kvt_connection *connection, verbs_class *class)
{
	kvt_transfer *transfer;
	while ((transfer = class->first)) {
		class->first = transfer->next;
		connection->waiting--;
		if (transfer->status == 0)
			transfer->status = -ECONNRESET;
		verbs_connection_finish(connection, transfer);
	}
}

/* Done handlers of transfers may submit more, which are done too before the end is told. */
static void tell_end(void *arg)
{
	kvt_connection *connection = arg;
	if (connection->outstanding > 0) {
		verbs_connection_call(connection, tell_end, connection);
		return;
	}
	verbs_connection_release(connection);
	connection->state = VERBS_DOWN;
	connection->handlers.down(connection->arg, connection, connection->status,
		connection->has_reason ? connection->said : NULL,
		connection->has_reason ? connection->said_bytes : 0);
}

static void forget(kvt_connection *connection)
{
	verbs_fabric *fabric = connection->fabric;
	for (kvt_connection **link = &fabric->dirty; *link; link = &(*link)->next_dirty)
		if (*link == connection) {
			*link = connection->next_dirty;
			break;
		}
	for (kvt_connection **link = &fabric->forming; *link; link = &(*link)->next_forming)
		if (*link == connection) {
			*link = connection->next_forming;
			break;
		}
	verbs_fabric_set_up(connection, false);
	kvt_loop_cancel(fabric->loop, connection->timer);
}

/* The device has let go of a queue pair's memory when it is destroyed, and what it completed before
 * that is looked at. */
static void end_connection(void *arg)
{
	kvt_connection *connection = arg;
	verbs_fabric *fabric = connection->fabric;
	verbs_fabric_reap(fabric);
	for (unsigned i = 0; i < connection->n_queues; i++)
		verbs_queue_close(&connection->queues[i]);
	verbs_fabric_reap(fabric);
	for (unsigned i = 0; i < connection->n_queues; i++) {
		verbs_queue *queue = &connection->queues[i];
		verbs_queue_drop(queue, -ECONNRESET);
		for (unsigned class = 0; class < KVT_PRIORITY_CLASSES; class ++)
			drop_class(connection, &queue->classes[class]);
		if (queue->cq)
			verbs_cq_give_back(fabric, queue->cq, queue->n_sends + queue->n_receives);
	}
	for (unsigned class = 0; class < KVT_PRIORITY_CLASSES; class ++)
		drop_class(connection, &connection->classes[class]);
	forget(connection);
	connection->state = VERBS_ENDED;
	verbs_connection_call(connection, tell_end, connection);
}

static void begin_end(kvt_connection *connection, int status)
{
	connection->state = VERBS_CLOSING;
	connection->status = status;
	for (unsigned i = 0; i < connection->n_queues; i++) {
		verbs_queue *queue = &connection->queues[i];
		/* the peer hears of it, and answers it to an id that lives on for that */
		if (queue->state == VERBS_QUEUE_UP)
			rdma_disconnect(queue->id);
	}
}

void verbs_connection_close(kvt_connection *connection, int status)
{
	if (connection->state >= VERBS_CLOSING)
		return;
	begin_end(connection, status);
	verbs_connection_call(connection, end_connection, connection);
}

void verbs_disconnect(kvt_connection *connection)
{
	connection->quiet = true;
	verbs_connection_close(connection, 0);
}

/* Before anybody was told of its end: nobody is. */
static void end_now(kvt_connection *connection)
{
	connection->quiet = true;
	if (connection->state < VERBS_CLOSING)
		begin_end(connection, 0);
	if (connection->state < VERBS_ENDED)
		end_connection(connection);
	verbs_connection_release(connection);
}

void verbs_connection_free(kvt_connection *connection)
{
	if (!connection)
		return;
	if (connection->state != VERBS_DOWN)
		end_now(connection);
	cancel_calls(connection);
	g_array_unref(connection->calls);
	for (unsigned i = 0; i < connection->n_queues; i++)
		verbs_queue_free(&connection->queues[i]);
	for (kvt_transfer *letter = connection->letters, *next; letter; letter = next) {
		next = letter->next;
		g_free(letter);
	}
	verbs_fabric_use(connection->fabric, -1);
	g_free(connection->queues);
	g_free(connection);
}
