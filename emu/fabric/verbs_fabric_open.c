/*
 * verbs_fabric_open.c: how connections come up. Each queue pair has its own id of the connection
 * manager; the first one's request carries the hello, and a random number by which the others, that
 * follow when it has been accepted, are known to be of the same connection.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "emu/fabric/verbs_fabric_internal.h"
#include "sim/base/error.h"

enum {
	RESOLVE_MS = 50,
	REJECTED_BY_CONSUMER = 28, /* of a REJECTED event: the peer's process said so */
};

/* --- Private data --- */

static void write_header(const verbs_header *header, uint8_t *bytes)
{
	bytes[0] = VERBS_MAGIC;
	bytes[1] = VERBS_VERSION;
	bytes[2] = (uint8_t)(header->queue | (header->queues - 1) << 4);
	bytes[3] = (uint8_t)header->bytes;
	for (unsigned i = 0; i < 2; i++) {
		bytes[4 + i] = (uint8_t)(header->messages >> 8 * i);
		bytes[6 + i] = (uint8_t)(header->message_bytes / 64 >> 8 * i);
	}
	for (unsigned i = 0; i < 8; i++)
		bytes[8 + i] = (uint8_t)(header->group >> 8 * i);
}

/* False when it is none of ours, or says what cannot be. */
bool verbs_header_read(const verbs_event *event, unsigned most, verbs_header *header)
{
	const uint8_t *bytes = event->private_data;
	if (event->private_bytes < VERBS_HEADER || bytes[0] != VERBS_MAGIC ||
		bytes[1] != VERBS_VERSION)
		return false;
	*header = (verbs_header){ .queue = bytes[2] & 15,
		.queues = (bytes[2] >> 4) + 1u,
		.bytes = bytes[3],
		.messages = bytes[4] | (unsigned)bytes[5] << 8,
		.message_bytes = (bytes[6] | (uint32_t)bytes[7] << 8) * 64 };
	for (unsigned i = 0; i < 8; i++)
		header->group |= (uint64_t)bytes[8 + i] << 8 * i;
	return header->queue < header->queues && header->messages > 0 && header->bytes <= most &&
	       VERBS_HEADER + header->bytes <= event->private_bytes;
}

static verbs_header header_of(const verbs_queue *queue)
{
	const kvt_connection *connection = queue->connection;
	return (verbs_header){ .queue = queue->index,
		.queues = connection->n_queues,
		.bytes = queue->index == 0 ? (unsigned)connection->said_bytes : 0,
		.messages = connection->settings.messages,
		.message_bytes = connection->settings.message_bytes,
		.group = connection->group };
}

static void keep_reason(kvt_connection *connection, const verbs_event *event)
{
	const uint8_t *bytes = event->private_data;
	if (event->status != REJECTED_BY_CONSUMER || event->private_bytes < VERBS_REFUSAL ||
		bytes[0] != VERBS_MAGIC || bytes[1] != VERBS_VERSION ||
		bytes[3] > KVT_FABRIC_WELCOME || VERBS_REFUSAL + bytes[3] > event->private_bytes)
		return;
	connection->said_bytes = bytes[3];
	connection->has_reason = bytes[3] > 0;
	memcpy(connection->said, bytes + VERBS_REFUSAL, bytes[3]);
}

/* --- Queues that open, at both sides --- */

/* The device counts 4.096 us times a power of two; not below what was asked for. */
static uint8_t timeout_code(kvt_time timeout)
{
	uint8_t code = 1;
	while (code < 31 && 4096 * KVT_NANOSECOND << code < timeout)
		code++;
	return code;
}

int verbs_queue_make(verbs_queue *queue)
{
	uint8_t timeout = timeout_code(queue->connection->settings.timeout);
	/* a device that cannot keeps its own */
	rdma_set_option(
		queue->id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout, sizeof(timeout));
	return verbs_queue_open(queue);
}

struct rdma_conn_param verbs_queue_parameters(const verbs_queue *queue, uint8_t *private_data)
{
	const kvt_connection *connection = queue->connection;
	const struct ibv_device_attr *limits = &connection->fabric->limits;
	verbs_header header = header_of(queue);
	write_header(&header, private_data);
	memcpy(private_data + VERBS_HEADER, connection->said, header.bytes);
	return (struct rdma_conn_param){ .private_data = private_data,
		.private_data_len = (uint8_t)(VERBS_HEADER + header.bytes),
		.responder_resources = (uint8_t)CLAMP(limits->max_qp_rd_atom, 0, 255),
		.initiator_depth = (uint8_t)CLAMP(limits->max_qp_init_rd_atom, 0, 255),
		.flow_control = 1,
		.retry_count = (uint8_t)connection->settings.retries,
		.rnr_retry_count = 6 };
}

/* How many reads the connection manager has agreed on. */
static unsigned reads_of(const verbs_queue *queue)
{
	struct ibv_qp_attr attr = { 0 };
	struct ibv_qp_init_attr init;
	if (ibv_query_qp(queue->qp, &attr, IBV_QP_MAX_QP_RD_ATOMIC, &init) != 0)
		return 1;
	return MAX(attr.max_rd_atomic, 1);
}

static void run_up(void *arg)
{
	kvt_connection *connection = arg;
	bool told = connection->connects;
	if (!connection->quiet)
		connection->handlers.up(connection->arg, connection, told ? connection->said : NULL,
			told ? connection->said_bytes : 0);
}

static void leave_forming(kvt_connection *connection)
{
	kvt_connection **link = &connection->fabric->forming;
	while (*link && *link != connection)
		link = &(*link)->next_forming;
	if (*link)
		*link = connection->next_forming;
}

void verbs_queue_is_up(verbs_queue *queue)
{
	kvt_connection *connection = queue->connection;
	if (queue->state != VERBS_QUEUE_OPENING || connection->state != VERBS_OPENING)
		return;
	queue->state = VERBS_QUEUE_UP;
	queue->max_reads = reads_of(queue);
	if (++connection->n_up < connection->n_queues)
		return;
	leave_forming(connection);
	kvt_loop_cancel(connection->fabric->loop, connection->timer);
	connection->state = VERBS_UP;
	verbs_fabric_set_up(connection, true);
	verbs_connection_call(connection, run_up, connection);
	for (unsigned i = 0; i < connection->n_queues; i++)
		verbs_queue_deliver_early(&connection->queues[i]);
	verbs_fabric_set_dirty(connection);
}

static void run_timeout(void *arg)
{
	verbs_connection_close(arg, -ETIMEDOUT);
}

void verbs_connection_start_timer(kvt_connection *connection)
{
	connection->timer = kvt_loop_after(connection->fabric->loop,
		connection->settings.connect_timeout, run_timeout, connection);
}

/* --- The side that connects --- */

static int end_status(int error)
{
	switch (error) {
	case ENETUNREACH:
	case EHOSTUNREACH:
	case EADDRNOTAVAIL:
	case ENODEV:
		return -ENETUNREACH;
	case ETIMEDOUT:
	case ECONNREFUSED:
		return -error;
	default:
		return -ECONNRESET;
	}
}

/* The kernel misses a neighbour's answer that comes while it asks, and looks again only at the end
 * of the time it was given: so that is short at first, and asked again until connect_timeout. */
static int resolve(verbs_queue *queue)
{
	struct sockaddr *peer = (struct sockaddr *)&queue->connection->peer;
	queue->resolve_ms = CLAMP(2 * queue->resolve_ms, RESOLVE_MS, 8 * RESOLVE_MS);
	return rdma_resolve_addr(queue->id, NULL, peer, queue->resolve_ms) == 0 ? 0 : -errno;
}

static int start_queue(verbs_queue *queue)
{
	kvt_connection *connection = queue->connection;
	if (rdma_create_id(connection->fabric->events, &queue->id, queue, RDMA_PS_TCP) != 0)
		return -errno;
	queue->owner.on_event = verbs_queue_event;
	queue->state = VERBS_QUEUE_OPENING;
	return resolve(queue);
}

static void on_no_address(verbs_queue *queue, int status)
{
	if (status == -ETIMEDOUT && queue->connection->state == VERBS_OPENING)
		status = resolve(queue);
	if (status != 0)
		verbs_connection_close(queue->connection, -ENETUNREACH);
}

static void on_address(verbs_queue *queue)
{
	kvt_connection *connection = queue->connection;
	int ms = (int)MIN(connection->settings.connect_timeout / KVT_MILLISECOND + 1, G_MAXINT);
	if (queue->id->verbs != connection->fabric->device)
		verbs_connection_close(connection, -ENETUNREACH);
	else if (rdma_resolve_route(queue->id, ms) != 0)
		verbs_connection_close(connection, end_status(errno));
}

static void on_route(verbs_queue *queue)
{
	uint8_t private_data[VERBS_PRIVATE];
	int error = verbs_queue_make(queue);
	if (error == 0) {
		struct rdma_conn_param param = verbs_queue_parameters(queue, private_data);
		error = rdma_connect(queue->id, &param) == 0 ? 0 : -errno;
	}
	if (error != 0)
		verbs_connection_close(queue->connection, end_status(-error));
}

/* The peer's side of the queue is ready; of the first one, it has said its welcome. */
static void on_answer(verbs_queue *queue, const verbs_event *event)
{
	kvt_connection *connection = queue->connection;
	verbs_header header;
	int error = 0;
	if (!verbs_header_read(event, KVT_FABRIC_WELCOME, &header)) {
		verbs_connection_close(connection, -ECONNRESET);
		return;
	}
	queue->credits = header.messages;
	if (queue->index == 0) {
		connection->said_bytes = header.bytes;
		memcpy(connection->said, event->private_data + VERBS_HEADER, header.bytes);
		for (unsigned i = 1; i < connection->n_queues && error == 0; i++)
			error = start_queue(&connection->queues[i]);
	}
	verbs_queue_is_up(queue);
	if (error != 0)
		verbs_connection_close(connection, end_status(-error));
}

void verbs_queue_event(verbs_owner *owner, const verbs_event *event)
{
	verbs_queue *queue = (verbs_queue *)owner;
	kvt_connection *connection = queue->connection;
	switch (event->type) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		on_address(queue);
		break;
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		on_route(queue);
		break;
	case RDMA_CM_EVENT_ESTABLISHED:
		if (connection->connects)
			on_answer(queue, event);
		else
			verbs_queue_is_up(queue);
		break;
	case RDMA_CM_EVENT_REJECTED:
		if (connection->state == VERBS_OPENING)
			keep_reason(connection, event);
		verbs_connection_close(connection, -ECONNREFUSED);
		break;
	case RDMA_CM_EVENT_ADDR_ERROR:
		on_no_address(queue, event->status);
		break;
	case RDMA_CM_EVENT_ROUTE_ERROR:
	case RDMA_CM_EVENT_DEVICE_REMOVAL:
		verbs_connection_close(connection, -ENETUNREACH);
		break;
	case RDMA_CM_EVENT_UNREACHABLE:
	case RDMA_CM_EVENT_CONNECT_ERROR:
		verbs_connection_close(connection, end_status(ABS(event->status)));
		break;
	case RDMA_CM_EVENT_DISCONNECTED:
		verbs_connection_close(connection, 0);
		break;
	default:
		break;
	}
}

static uint64_t random_group(void)
{
	uint64_t group;
	ssize_t n = getrandom(&group, sizeof(group), 0);
	g_assert(n == sizeof(group));
	return group;
}

/* Nothing has been asked of the device; no handler is called. */
void verbs_connection_abandon(kvt_connection *connection)
{
	verbs_queue *queue = &connection->queues[0];
	connection->state = VERBS_ENDED;
	verbs_queue_close(queue);
	verbs_fabric_reap(connection->fabric);
	if (queue->cq)
		verbs_cq_give_back(
			connection->fabric, queue->cq, queue->n_sends + queue->n_receives);
	verbs_connection_release(connection);
	connection->state = VERBS_DOWN;
	verbs_connection_free(connection);
}

kvt_connection *verbs_connect(kvt_fabric *base, kvt_fabric_domain *domain, const char *address,
	uint16_t port, const kvt_connection_settings *settings, const void *hello, size_t bytes,
	const kvt_connection_handlers *handlers, void *arg, GError **error)
{
	struct sockaddr_storage peer;
	unsigned queues = settings && settings->queues ? settings->queues : 1;
	g_assert(queues <= KVT_FABRIC_QUEUES && bytes <= KVT_FABRIC_HELLO);
	if (!verbs_address(address, port, false, &peer, error))
		return NULL;
	kvt_connection *connection = verbs_connection_new(domain, settings, queues, handlers, arg);
	if (!connection) {
		kvt_error_failed(error, "RDMA device %s: %s:%u: no memory for messages: %s",
			kvt_verbs_fabric_device(base), address, port, g_strerror(errno));
		return NULL;
	}
	connection->connects = true;
	connection->peer = peer;
	connection->group = random_group();
	connection->said_bytes = bytes;
	if (bytes > 0)
		memcpy(connection->said, hello, bytes);
	int failed = start_queue(&connection->queues[0]);
	if (failed != 0) {
		kvt_error_failed(error, "RDMA device %s: no way to %s:%u: %s",
			kvt_verbs_fabric_device(base), address, port, g_strerror(-failed));
		verbs_connection_abandon(connection);
		return NULL;
	}
	verbs_connection_start_timer(connection);
	return connection;
}
