/*
 * node_session.c: connections of clients: who is let in, what messages ask for, and what they are
 * told. Whatever bytes come, the worst is that the connection ends.
 */
#include <errno.h>
#include <string.h>

#include "emu/remote/node_internal.h"

/* --- Requests --- */

static node_request *request_new(node_session *session, int queue, const kvt_remote_record *record)
{
	node_request *request = g_new0(node_request, 1);
	request->session = session;
	request->type = record->type;
	request->id = record->id;
	request->priority = record->priority;
	request->queue = queue;
	request->run = (kvt_store_run){ session->model->model, session->tenant->settings.number,
		record->run };
	request->bytes = kvt_extent_bytes(&record->run);
	request->address = record->address;
	request->key = record->key;
	request->arrived = kvt_loop_now(session->node->loop);
	request->pending = 1;
	session->requests++;
	session->tenant->requests++;
	return request;
}

static void session_free(node_session *session)
{
	kvt_node *node = session->node;
	*(session->previous ? &session->previous->next : &node->sessions) = session->next;
	if (session->next)
		session->next->previous = session->previous;
	kvt_node_share(session->tenant, session->model)->sessions--;
	kvt_node_share_check(session->tenant, session->model);
	session->model->sessions--;
	kvt_node_model_check(node, session->model);
	if (session->listing)
		g_array_unref(session->listing);
	g_free(session);
	kvt_node_check_drain(node);
}

static void check_session(node_session *session)
{
	if (!session->connection && session->requests == 0)
		session_free(session);
}

void kvt_node_settle(node_request *request)
{
	if (--request->pending > 0)
		return;
	node_session *session = request->session;
	kvt_node *node = session->node;
	for (guint i = 0; request->parts && i < request->parts->len; i++)
		kvt_slab_drop(node->pool, g_array_index(request->parts, node_part, i).piece.slab);
	if (request->parts)
		g_array_unref(request->parts);
	if (request->blocks)
		g_ptr_array_unref(request->blocks);
	g_free(request->extents);
	g_free(request->said);
	g_free(request->memory);
	g_free(request);
	session->requests--;
	session->tenant->requests--;
	kvt_node_room(node);
	kvt_node_check_drain(node);
	check_session(session);
}

static void answered(kvt_transfer *transfer)
{
	kvt_node_settle(transfer->arg);
}

void kvt_node_answer(node_request *request, kvt_remote_record *record)
{
	static const kvt_remote_type answers[KVT_NODE_TYPES] = { [KVT_REMOTE_FETCH] =
									 KVT_REMOTE_FETCHED,
		[KVT_REMOTE_RESERVE] = KVT_REMOTE_RESERVED,
		[KVT_REMOTE_COMMIT] = KVT_REMOTE_COMMITTED,
		[KVT_REMOTE_DISCARD] = KVT_REMOTE_DISCARDED,
		[KVT_REMOTE_LIST] = KVT_REMOTE_LISTED };
	node_session *session = request->session;
	kvt_node_count(session->tenant, request, record->status);
	if (!session->connection) {
		kvt_node_settle(request);
		return;
	}
	record->type = answers[request->type];
	record->id = request->id;
	/* somebody waits for it: the fabric does not copy it at once */
	request->said = g_malloc(kvt_remote_size(record));
	request->answer = (kvt_transfer){ .op = KVT_TRANSFER_MESSAGE,
		.priority = request->priority,
		.queue = request->queue,
		.memory = request->said,
		.length = kvt_remote_encode(record, request->said),
		.done = answered,
		.arg = request };
	session->node->fabric->ops->submit(session->connection, &request->answer);
}

void kvt_node_refuse(node_request *request, int status)
{
	kvt_remote_record record = { .status = status };
	kvt_node_answer(request, &record);
}

/* --- Messages --- */

static void release(node_session *session, const kvt_remote_record *record)
{
	for (uint32_t i = 0; i < record->n; i++) {
		node_lease *lease = g_hash_table_lookup(session->node->leases, &record->leases[i]);
		/* one that has run out is no mistake */
		if (lease && lease->session == session)
			kvt_node_lease_end(lease);
	}
}

static void abort_ticket(node_session *session, uint64_t id)
{
	node_ticket *ticket = g_hash_table_lookup(session->node->tickets, &id);
	if (ticket && ticket->session == session && !ticket->committing)
		kvt_node_ticket_end(ticket);
}

/* A request that is answered. */
static void ask(node_session *session, int queue, const kvt_remote_record *record)
{
	const kvt_node *node = session->node;
	const node_tenant *tenant = session->tenant;
	node_request *request = request_new(session, queue, record);
	if (record->type == KVT_REMOTE_COMMIT)
		kvt_node_commit(request, record);
	else if (node->draining)
		kvt_node_refuse(request, -ESHUTDOWN);
	else if (tenant->requests > tenant->settings.requests)
		kvt_node_refuse(request, -EDQUOT);
	else if (record->type == KVT_REMOTE_DISCARD)
		kvt_node_discard(request);
	else if (record->type == KVT_REMOTE_LIST)
		kvt_node_list(request, record->cursor);
	else
		kvt_node_admit(request);
	/* who asks and does not listen */
	if (session->requests > 2 * tenant->settings.requests + 64)
		kvt_node_end_session(session);
}

/* 0 or -EPROTO. */
static int handle(node_session *session, int queue, const kvt_remote_record *record)
{
	if (record->type >= KVT_REMOTE_FETCHED)
		return -EPROTO;
	session->tenant->counts.requests[record->type]++;
	if (record->type == KVT_REMOTE_RELEASE)
		release(session, record);
	else if (record->type == KVT_REMOTE_ABORT)
		abort_ticket(session, record->ticket);
	else
		ask(session, queue, record);
	return 0;
}

static void on_message(
	void *arg, kvt_connection *connection, int queue, const void *bytes, size_t length)
{
	node_session *session = arg;
	kvt_remote_reader *reader = &session->node->reader;
	kvt_remote_record record;
	int status = 1;
	kvt_remote_reader_init(reader, bytes, length);
	while (status == 1 && !session->ending) {
		status = kvt_remote_next(reader, &record);
		if (status == 1 && handle(session, queue, &record) != 0)
			status = -EPROTO;
	}
	if (status < 0) {
		session->tenant->counts.protocol_errors++;
		kvt_node_end_session(session);
	}
}

/* --- Connections --- */

void kvt_node_end_session(node_session *session)
{
	if (!session->connection || session->ending)
		return;
	session->ending = true;
	session->node->fabric->ops->disconnect(session->connection);
}

static void on_up(void *arg, kvt_connection *connection, const void *welcome, size_t bytes)
{
	node_session *session = arg;
	session->tenant->counts.connections++;
	/* it may have been asked for before */
	if (session->node->draining)
		kvt_node_check_drain(session->node);
}

static void on_down(
	void *arg, kvt_connection *connection, int status, const void *reason, size_t bytes)
{
	node_session *session = arg;
	node_ticket *next;
	session->tenant->counts.broken_connections += status != 0;
	session->tenant->connections--;
	session->connection = NULL;
	session->node->fabric->ops->connection_free(connection);
	while (session->leases)
		kvt_node_lease_end(session->leases);
	for (node_ticket *ticket = session->tickets; ticket; ticket = next) {
		next = ticket->next;
		if (!ticket->committing)
			kvt_node_ticket_end(ticket);
	}
	check_session(session);
}

static const kvt_connection_handlers handlers = { on_up, on_message, on_down };

static void refuse(kvt_node *node, kvt_fabric_request *request, kvt_remote_refusal why)
{
	uint8_t reason[KVT_FABRIC_WELCOME];
	node->refused[why]++;
	node->fabric->ops->refuse(request, reason, kvt_remote_refusal_encode(why, reason));
}

/* Takes the same time wherever they differ. */
static bool same_key(const uint8_t *a, const uint8_t *b)
{
	uint8_t difference = 0;
	for (unsigned i = 0; i < KVT_REMOTE_KEY; i++)
		difference |= a[i] ^ b[i];
	return difference == 0;
}

/* Whether it may come in: 0, or why not. */
static kvt_remote_refusal check_hello(kvt_node *node, const kvt_remote_hello *hello)
{
	const node_tenant *tenant;
	if (hello->version != KVT_REMOTE_VERSION)
		return KVT_REMOTE_OTHER_VERSION;
	tenant = kvt_node_tenant_find(node, hello->tenant);
	if (!tenant)
		return KVT_REMOTE_UNKNOWN_TENANT;
	if (!same_key(hello->key, tenant->settings.key))
		return KVT_REMOTE_WRONG_KEY;
	if (node->draining)
		return KVT_REMOTE_DRAINING;
	if (tenant->connections >= tenant->settings.connections)
		return KVT_REMOTE_TOO_MANY;
	return 0;
}

static node_session *session_new(kvt_node *node, const kvt_remote_hello *hello)
{
	node_tenant *tenant = kvt_node_tenant_find(node, hello->tenant);
	node_model *model = kvt_node_model(node, hello->model);
	node_share *share = model ? kvt_node_share(tenant, model) : NULL;
	if (!share) {
		if (model)
			kvt_node_model_check(node, model);
		return NULL;
	}
	node_session *session = g_new0(node_session, 1);
	session->node = node;
	session->tenant = tenant;
	session->model = model;
	share->sessions++;
	model->sessions++;
	session->next = node->sessions;
	if (session->next)
		session->next->previous = session;
	node->sessions = session;
	return session;
}

void kvt_node_asked(void *arg, kvt_fabric_request *request, const void *bytes, size_t length)
{
	kvt_node *node = arg;
	kvt_remote_hello hello;
	uint8_t welcome[KVT_FABRIC_WELCOME];
	if (kvt_remote_hello_decode(bytes, length, &hello) != 0) {
		node->strange_hellos++;
		node->fabric->ops->refuse(request, NULL, 0);
		return;
	}
	kvt_remote_refusal why = check_hello(node, &hello);
	node_session *session = why == 0 ? session_new(node, &hello) : NULL;
	if (!session) {
		refuse(node, request, why != 0 ? why : KVT_REMOTE_NO_ROOM);
		return;
	}
	node_tenant *tenant = session->tenant;
	const kvt_remote_welcome says = { .version = KVT_REMOTE_VERSION,
		.lease_ms = (uint32_t)(node->settings.lease / KVT_MILLISECOND),
		.capacity = tenant->settings.capacity,
		.used = tenant->used,
		.request_bytes = node->settings.slab_bytes };
	tenant->connections++;
	session->connection =
		node->fabric->ops->accept(request, tenant->domain, &node->settings.connection,
			welcome, kvt_remote_welcome_encode(&says, welcome), &handlers, session);
	if (!session->connection) {
		tenant->connections--;
		session_free(session);
	}
}
