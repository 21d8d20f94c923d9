/*
 * verbs_fabric_listen.c: the side that listens: requests, their answers, and the further queues of
 * connections whose first one has been accepted.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "emu/fabric/verbs_fabric_internal.h"
#include "sim/base/error.h"

enum { BACKLOG = 128 };

struct kvt_fabric_listener {
	verbs_owner owner;
	verbs_fabric *fabric;
	struct rdma_cm_id *id;
	void (*asked)(void *arg, kvt_fabric_request *request, const void *hello, size_t bytes);
	void *arg;
	kvt_fabric_request *requests; /* not answered */
};

struct kvt_fabric_request {
	verbs_owner owner;
	kvt_fabric_listener *listener;
	struct rdma_cm_id *id;
	verbs_header header;
	uint8_t reads_here, reads_there;
	bool over; /* who asked has gone */
	uint8_t hello[KVT_FABRIC_HELLO];
	char peer[INET6_ADDRSTRLEN + 16];
	kvt_event event;
	kvt_fabric_request *next;
};

static void reject(struct rdma_cm_id *id, const void *reason, size_t bytes)
{
	uint8_t text[VERBS_REFUSAL + KVT_FABRIC_WELCOME] = { VERBS_MAGIC, VERBS_VERSION, 0,
		(uint8_t)bytes };
	g_assert(bytes <= KVT_FABRIC_WELCOME);
	if (bytes > 0)
		memcpy(text + VERBS_REFUSAL, reason, bytes);
	rdma_reject(id, text, (uint8_t)(VERBS_REFUSAL + bytes));
	rdma_destroy_id(id);
}

static void free_request(kvt_fabric_request *request)
{
	verbs_fabric *fabric = request->listener->fabric;
	kvt_fabric_request **link = &request->listener->requests;
	while (*link != request)
		link = &(*link)->next;
	*link = request->next;
	kvt_loop_cancel(fabric->loop, request->event);
	verbs_fabric_use(fabric, -1);
	g_free(request);
}

void verbs_refuse(kvt_fabric_request *request, const void *reason, size_t bytes)
{
	if (request->over)
		rdma_destroy_id(request->id);
	else
		reject(request->id, reason, bytes);
	free_request(request);
}

static void run_asked(void *arg)
{
	kvt_fabric_request *request = arg;
	kvt_fabric_listener *listener = request->listener;
	request->event = 0;
	listener->asked(listener->arg, request, request->hello, request->header.bytes);
}

/* Whoever asked did not wait for the answer. */
static void on_request_event(verbs_owner *owner, const verbs_event *event)
{
	((kvt_fabric_request *)owner)->over = true;
}

static void write_peer(kvt_fabric_request *request)
{
	char text[INET6_ADDRSTRLEN] = "?";
	const struct sockaddr *peer = rdma_get_peer_addr(request->id);
	unsigned port = ntohs(rdma_get_dst_port(request->id));
	bool six = peer->sa_family == AF_INET6;
	const void *bytes = six ? (const void *)&((const struct sockaddr_in6 *)peer)->sin6_addr
				: (const void *)&((const struct sockaddr_in *)peer)->sin_addr;
	inet_ntop(peer->sa_family, bytes, text, sizeof(text));
	g_snprintf(request->peer, sizeof(request->peer), six ? "[%s]:%u" : "%s:%u", text, port);
}

static void new_request(
	kvt_fabric_listener *listener, const verbs_event *event, const verbs_header *header)
{
	kvt_fabric_request *request = g_new0(kvt_fabric_request, 1);
	request->owner.on_event = on_request_event;
	request->listener = listener;
	request->id = event->id;
	request->id->context = request;
	request->header = *header;
	request->reads_here = event->reads_here;
	request->reads_there = event->reads_there;
	memcpy(request->hello, event->private_data + VERBS_HEADER, header->bytes);
	write_peer(request);
	request->next = listener->requests;
	listener->requests = request;
	verbs_fabric_use(listener->fabric, 1);
	request->event = verbs_call(listener->fabric, run_asked, request);
}

/* Makes the queue at the peer's request; 0 or a negative errno, and the id is the queue's then. */
static int answer(verbs_queue *queue, struct rdma_cm_id *id, const verbs_header *header,
	uint8_t reads_here, uint8_t reads_there)
{
	uint8_t private_data[VERBS_PRIVATE];
	queue->id = id;
	queue->owner.on_event = verbs_queue_event;
	queue->state = VERBS_QUEUE_OPENING;
	queue->credits = header->messages;
	id->context = queue;
	int error = verbs_queue_make(queue);
	if (error != 0)
		return error;
	struct rdma_conn_param param = verbs_queue_parameters(queue, private_data);
	param.responder_resources = MIN(param.responder_resources, reads_here);
	param.initiator_depth = MIN(param.initiator_depth, reads_there);
	return rdma_accept(id, &param) == 0 ? 0 : -errno;
}

/* One more queue of a connection whose first one has been accepted. */
static void join(verbs_fabric *fabric, const verbs_event *event, const verbs_header *header)
{
	kvt_connection *connection = fabric->forming;
	while (connection && connection->group != header->group)
		connection = connection->next_forming;
	if (!connection || header->queues != connection->n_queues ||
		connection->queues[header->queue].state != VERBS_QUEUE_NONE) {
		reject(event->id, NULL, 0);
		return;
	}
	int error = answer(&connection->queues[header->queue], event->id, header, event->reads_here,
		event->reads_there);
	if (error != 0)
		verbs_connection_close(connection, -ECONNRESET);
}

static void on_listener_event(verbs_owner *owner, const verbs_event *event)
{
	kvt_fabric_listener *listener = (kvt_fabric_listener *)owner;
	verbs_header header;
	if (event->type != RDMA_CM_EVENT_CONNECT_REQUEST)
		return;
	/* 7 retries are without end to some devices, also for what this side sends */
	bool good = event->id->verbs == listener->fabric->device && event->retries <= 6 &&
		    verbs_header_read(event, KVT_FABRIC_HELLO, &header);
	if (!good)
		reject(event->id, NULL, 0);
	else if (header.queue > 0)
		join(listener->fabric, event, &header);
	else
		new_request(listener, event, &header);
}

kvt_connection *verbs_accept(kvt_fabric_request *request, kvt_fabric_domain *domain,
	const kvt_connection_settings *settings, const void *welcome, size_t bytes,
	const kvt_connection_handlers *handlers, void *arg)
{
	verbs_fabric *fabric = domain->fabric;
	const verbs_header *header = &request->header;
	g_assert(bytes <= KVT_FABRIC_WELCOME && fabric == request->listener->fabric);
	kvt_connection *connection = request->over ? NULL
						   : verbs_connection_new(domain, settings,
							     header->queues, handlers, arg);
	if (!connection || connection->settings.message_bytes != header->message_bytes) {
		if (connection)
			verbs_connection_abandon(connection);
		verbs_refuse(request, NULL, 0);
		return NULL;
	}
	connection->group = header->group;
	connection->said_bytes = bytes;
	if (bytes > 0)
		memcpy(connection->said, welcome, bytes);
	int error = answer(&connection->queues[0], request->id, header, request->reads_here,
		request->reads_there);
	free_request(request);
	if (error != 0) {
		verbs_connection_abandon(connection);
		return NULL;
	}
	connection->next_forming = fabric->forming;
	fabric->forming = connection;
	verbs_connection_start_timer(connection);
	return connection;
}

const char *verbs_request_peer(const kvt_fabric_request *request)
{
	return request->peer;
}

kvt_fabric_listener *verbs_listen(kvt_fabric *base, const char *address, uint16_t port,
	void (*asked)(void *arg, kvt_fabric_request *request, const void *hello, size_t bytes),
	void *arg, GError **error)
{
	verbs_fabric *fabric = (verbs_fabric *)base;
	struct sockaddr_storage local = { .ss_family = AF_INET6 }; /* all, also of IPv4 */
	bool all = !address || !*address;
	((struct sockaddr_in6 *)&local)->sin6_port = htons(port);
	if (!all && !verbs_address(address, port, true, &local, error))
		return NULL;
	kvt_fabric_listener *listener = g_new0(kvt_fabric_listener, 1);
	listener->owner.on_event = on_listener_event;
	listener->fabric = fabric;
	listener->asked = asked;
	listener->arg = arg;
	if (rdma_create_id(fabric->events, &listener->id, listener, RDMA_PS_TCP) != 0 ||
		rdma_bind_addr(listener->id, (struct sockaddr *)&local) != 0 ||
		rdma_listen(listener->id, BACKLOG) != 0) {
		kvt_error_failed(error, "RDMA device %s: cannot listen at %s:%u: %s",
			kvt_verbs_fabric_device(base), all ? "" : address, port, g_strerror(errno));
		if (listener->id)
			rdma_destroy_id(listener->id);
		g_free(listener);
		return NULL;
	}
	verbs_fabric_use(fabric, 1);
	return listener;
}

uint16_t verbs_listener_port(const kvt_fabric_listener *listener)
{
	return ntohs(rdma_get_src_port(listener->id));
}

void verbs_listener_free(kvt_fabric_listener *listener)
{
	if (!listener)
		return;
	while (listener->requests)
		verbs_refuse(listener->requests, NULL, 0);
	rdma_destroy_id(listener->id);
	verbs_fabric_use(listener->fabric, -1);
	g_free(listener);
}
