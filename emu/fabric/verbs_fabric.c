/*
 * verbs_fabric.c: the device and what all its connections share: completion queues, the connection
 * manager's events, and the two sources by which the loop hears of both.
 */
#include "emu/fabric/verbs_fabric_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "sim/base/error.h"

enum {
	CQ_ENTRIES = 4096,
	REAPED_AT_ONCE = 32,
	REAPED_AT_MOST = 256, /* before callbacks run */
	EVENTS_AT_MOST = 64,
	LOOKS = 16, /* between two at the clock */
	OLD_KEYS = 1 << 16,
	SOFT_ROCE = 0xffffff, /* the vendor that Linux's rxe gives */
};

/* A system call is not made between any two batches. */
static const kvt_time EVENTS_PERIOD = KVT_MILLISECOND;

/* How long a key of memory is not used again. */
static const kvt_time KEY_PERIOD = 600 * KVT_SECOND;

kvt_event verbs_call(verbs_fabric *fabric, kvt_callback callback, void *arg)
{
	fabric->scheduled++;
	return kvt_loop_at(fabric->loop, 0, callback, arg);
}

void verbs_fabric_use(verbs_fabric *fabric, int change)
{
	fabric->users += (unsigned)change;
	fabric->event_source.idle = fabric->completion_source.idle = fabric->users == 0;
}

/* --- Completion queues --- */

verbs_cq *verbs_cq_take(verbs_fabric *fabric, unsigned entries)
{
	verbs_cq *cq = fabric->cqs;
	while (cq && cq->entries - cq->promised < entries)
		cq = cq->next;
	if (!cq) {
		unsigned most = (unsigned)MAX(fabric->limits.max_cqe, 1);
		unsigned size = MAX(MIN(CQ_ENTRIES, most), entries);
		struct ibv_cq *made =
			ibv_create_cq(fabric->device, (int)size, NULL, fabric->channel, 0);
		if (!made)
			return NULL;
		cq = g_new0(verbs_cq, 1);
		cq->cq = made;
		made->cq_context = cq;
		cq->entries = size;
		cq->next = fabric->cqs;
		fabric->cqs = cq;
		fabric->stats.queues++;
	}
	cq->promised += entries;
	fabric->stats.entries += entries;
	return cq;
}

static void free_cq(verbs_fabric *fabric, verbs_cq *cq)
{
	verbs_cq **link = &fabric->cqs;
	while (*link != cq)
		link = &(*link)->next;
	*link = cq->next;
	int error = ibv_destroy_cq(cq->cq);
	g_assert(error == 0);
	g_free(cq);
	fabric->stats.queues--;
}

void verbs_cq_give_back(verbs_fabric *fabric, verbs_cq *cq, unsigned entries)
{
	cq->promised -= entries;
	fabric->stats.entries -= entries;
	/* one is kept for the connection that comes next */
	if (cq->promised == 0 && fabric->stats.queues > 1)
		free_cq(fabric, cq);
}

static unsigned reap(verbs_fabric *fabric, verbs_cq *cq, unsigned most)
{
	struct ibv_wc completions[REAPED_AT_ONCE];
	unsigned reaped = 0;
	int n = REAPED_AT_ONCE;
	/* fewer than were asked for: those were all */
	while (reaped < most && n == REAPED_AT_ONCE) {
		n = ibv_poll_cq(cq->cq, REAPED_AT_ONCE, completions);
		for (int i = 0; i < n; i++)
			verbs_queue_complete(&completions[i]);
		reaped += n > 0 ? (unsigned)n : 0;
	}
	fabric->stats.completions += reaped;
	return reaped;
}

void verbs_fabric_reap(verbs_fabric *fabric)
{
	for (verbs_cq *cq = fabric->cqs; cq; cq = cq->next)
		reap(fabric, cq, G_MAXUINT);
}

/* --- The source of completions --- */

void verbs_fabric_set_dirty(kvt_connection *connection)
{
	if (connection->dirty || connection->state >= VERBS_CLOSING)
		return;
	connection->dirty = true;
	connection->next_dirty = connection->fabric->dirty;
	connection->fabric->dirty = connection;
}

static void fill_dirty(verbs_fabric *fabric)
{
	kvt_connection *connection = fabric->dirty, *next;
	fabric->dirty = NULL;
	for (; connection; connection = next) {
		next = connection->next_dirty;
		connection->dirty = false;
		verbs_connection_fill(connection);
	}
}

static void take_tellings(verbs_fabric *fabric)
{
	struct ibv_cq *cq;
	void *context;
	while (ibv_get_cq_event(fabric->channel, &cq, &context) == 0) {
		((verbs_cq *)context)->armed = false;
		ibv_ack_cq_events(cq, 1);
	}
}

static unsigned poll_completions(void *arg)
{
	verbs_fabric *fabric = arg;
	uint64_t before = fabric->scheduled;
	if (fabric->completion_source.readable)
		take_tellings(fabric);
	fabric->completion_source.readable = false;
	fill_dirty(fabric);
	for (verbs_cq *cq = fabric->cqs; cq; cq = cq->next)
		reap(fabric, cq, REAPED_AT_MOST);
	/* what has ended made room */
	fill_dirty(fabric);
	return (unsigned)(fabric->scheduled - before);
}

static bool arm_completions(void *arg)
{
	verbs_fabric *fabric = arg;
	unsigned reaped = 0;
	for (verbs_cq *cq = fabric->cqs; cq; cq = cq->next) {
		if (!cq->armed && ibv_req_notify_cq(cq->cq, 0) == 0)
			cq->armed = true;
		/* what came before it was armed is not told */
		reaped += reap(fabric, cq, REAPED_AT_MOST);
	}
	return reaped > 0;
}

/* --- The source of events --- */

/* librdmacm keeps some events until they are acknowledged, and an id until its events are. */
static bool next_event(verbs_fabric *fabric, verbs_event *event)
{
	struct rdma_cm_event *raw;
	if (rdma_get_cm_event(fabric->events, &raw) != 0)
		return false;
	const struct rdma_conn_param *param = &raw->param.conn;
	*event = (verbs_event){ .type = raw->event, .status = raw->status, .id = raw->id };
	if (raw->event == RDMA_CM_EVENT_CONNECT_REQUEST) {
		event->reads_here = param->responder_resources;
		event->reads_there = param->initiator_depth;
		event->retries = param->retry_count;
	}
	if (raw->event == RDMA_CM_EVENT_CONNECT_REQUEST ||
		raw->event == RDMA_CM_EVENT_ESTABLISHED || raw->event == RDMA_CM_EVENT_REJECTED) {
		event->private_bytes = param->private_data ? param->private_data_len : 0;
		if (event->private_bytes > 0)
			memcpy(event->private_data, param->private_data, event->private_bytes);
	}
	rdma_ack_cm_event(raw);
	return true;
}

void verbs_fabric_set_up(kvt_connection *connection, bool up)
{
	verbs_fabric *fabric = connection->fabric;
	struct itimerspec period = { 0 };
	if (up)
		g_ptr_array_add(fabric->up, connection);
	else
		g_ptr_array_remove_fast(fabric->up, connection);
	if (fabric->up->len > 1)
		return;
	/* the loop's own timers would keep it running */
	if (fabric->up->len > 0) {
		kvt_time ns = fabric->settings.keepalive / KVT_NANOSECOND;
		period.it_interval.tv_sec = ns / 1000000000;
		period.it_interval.tv_nsec = ns % 1000000000;
		period.it_value = period.it_interval;
	}
	timerfd_settime(fabric->timer, 0, &period, NULL);
}

static void probe(verbs_fabric *fabric)
{
	uint64_t ticks;
	if (read(fabric->timer, &ticks, sizeof(ticks)) < 0)
		return;
	for (guint i = 0; i < fabric->up->len; i++) {
		kvt_connection *connection = g_ptr_array_index(fabric->up, i);
		for (unsigned j = 0; connection->state == VERBS_UP && j < connection->n_queues; j++)
			verbs_queue_probe(&connection->queues[j]);
	}
}

static unsigned poll_events(void *arg)
{
	verbs_fabric *fabric = arg;
	/* a loop that sleeps is told; one that does not comes by often */
	if (!fabric->event_source.readable && ++fabric->looks % LOOKS != 0)
		return 0;
	kvt_time now = kvt_loop_now(fabric->loop);
	if (!fabric->event_source.readable && now - fabric->events_seen < EVENTS_PERIOD)
		return 0;
	fabric->event_source.readable = false;
	fabric->events_seen = now;
	probe(fabric);
	verbs_event event;
	uint64_t before = fabric->scheduled;
	for (unsigned i = 0; i < EVENTS_AT_MOST && next_event(fabric, &event); i++) {
		verbs_owner *owner = event.id->context;
		owner->on_event(owner, &event);
	}
	return (unsigned)(fabric->scheduled - before);
}

/* --- Ids whose end the peer has yet to confirm --- */

typedef struct farewell {
	verbs_owner owner;
	verbs_fabric *fabric;
	struct rdma_cm_id *id;
} farewell;

static void farewell_event(verbs_owner *owner, const verbs_event *event)
{
	farewell *f = (farewell *)owner;
	rdma_destroy_id(f->id);
	g_ptr_array_remove_fast(f->fabric->farewells, f);
	g_free(f);
}

void verbs_fabric_part(verbs_fabric *fabric, struct rdma_cm_id *id)
{
	farewell *f = g_new0(farewell, 1);
	f->owner.on_event = farewell_event;
	f->fabric = fabric;
	f->id = id;
	id->context = f;
	g_ptr_array_add(fabric->farewells, f);
}

/* --- Addresses and devices --- */

bool verbs_address(const char *address, uint16_t port, bool listens,
	struct sockaddr_storage *result, GError **error)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICSERV | (listens ? AI_PASSIVE : 0) };
	struct addrinfo *found;
	g_autofree char *service = g_strdup_printf("%u", port);
	int failed = getaddrinfo(address, service, &hints, &found);
	if (failed != 0) {
		g_autofree char *quoted = kvt_error_quote(address);
		return kvt_error_failed(error, "%s is no address: %s", quoted,
			failed == EAI_SYSTEM ? g_strerror(errno) : gai_strerror(failed));
	}
	memset(result, 0, sizeof(*result));
	memcpy(result, found->ai_addr, found->ai_addrlen);
	freeaddrinfo(found);
	return true;
}

/* The local address that packets to `peer` leave from. */
static bool way_to(const char *peer, struct sockaddr_storage *from, GError **error)
{
	struct sockaddr_storage to;
	socklen_t size = sizeof(*from);
	if (!verbs_address(peer, 9, false, &to, error))
		return false;
	int fd = socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool found = fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0 &&
		     getsockname(fd, (struct sockaddr *)from, &size) == 0;
	int reason = errno;
	if (fd >= 0)
		close(fd);
	if (!found)
		return kvt_error_failed(error, "no way to %s: %s", peer, g_strerror(reason));
	if (from->ss_family == AF_INET)
		((struct sockaddr_in *)from)->sin_port = 0;
	else
		((struct sockaddr_in6 *)from)->sin6_port = 0;
	return true;
}

static bool device_of_address(
	verbs_fabric *fabric, const kvt_verbs_settings *wanted, GError **error)
{
	struct sockaddr_storage local;
	const char *text = wanted->address ? wanted->address : wanted->peer;
	if (wanted->address ? !verbs_address(text, 0, true, &local, error)
			    : !way_to(text, &local, error))
		return false;
	struct rdma_cm_id *id;
	if (rdma_create_id(fabric->events, &id, NULL, RDMA_PS_TCP) != 0)
		return kvt_error_failed(error, "RDMA: no id: %s", g_strerror(errno));
	bool bound = rdma_bind_addr(id, (struct sockaddr *)&local) == 0;
	int reason = errno;
	fabric->device = bound ? id->verbs : NULL;
	rdma_destroy_id(id);
	if (fabric->device)
		return true;
	return kvt_error_failed(error, "no RDMA device %s %s: %s",
		wanted->address ? "has the address" : "leads to", text,
		bound ? "it is no address of one" : g_strerror(reason));
}

static bool has_active_port(struct ibv_context *context)
{
	struct ibv_device_attr attr;
	struct ibv_port_attr port;
	if (ibv_query_device(context, &attr) != 0)
		return false;
	for (unsigned i = 1; i <= attr.phys_port_cnt; i++)
		if (ibv_query_port(context, (uint8_t)i, &port) == 0 &&
			port.state == IBV_PORT_ACTIVE)
			return true;
	return false;
}

static bool choose_device(verbs_fabric *fabric, const kvt_verbs_settings *wanted, GError **error)
{
	if (!wanted->device && (wanted->address || wanted->peer))
		return device_of_address(fabric, wanted, error);
	g_autoptr(GString) names = g_string_new(NULL);
	for (unsigned i = 0; fabric->contexts[i]; i++) {
		const char *name = ibv_get_device_name(fabric->contexts[i]->device);
		g_string_append_printf(names, "%s%s", i > 0 ? ", " : "", name);
		bool right = wanted->device ? strcmp(name, wanted->device) == 0
					    : has_active_port(fabric->contexts[i]);
		if (right && !fabric->device)
			fabric->device = fabric->contexts[i];
	}
	if (fabric->device)
		return true;
	if (!wanted->device)
		return kvt_error_failed(error, "no RDMA device has an active port: %s", names->str);
	g_autofree char *quoted = kvt_error_quote(wanted->device);
	return kvt_error_failed(error, "no RDMA device %s, expected one of %s", quoted, names->str);
}

/* librdmacm writes to stderr where there is none. */
static bool any_device(GError **error)
{
	int n = 0;
	struct ibv_device **list = ibv_get_device_list(&n);
	int reason = list ? ENODEV : errno;
	if (list)
		ibv_free_device_list(list);
	if (list && n > 0)
		return true;
	return kvt_error_failed(error, "this machine has no RDMA device: %s", g_strerror(reason));
}

static bool set_nonblocking(int fd)
{
	return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0;
}

static bool open_device(verbs_fabric *fabric, const kvt_verbs_settings *wanted, GError **error)
{
	if (!any_device(error))
		return false;
	fabric->events = rdma_create_event_channel();
	if (!fabric->events || !set_nonblocking(fabric->events->fd))
		return kvt_error_failed(error, "RDMA's connection manager: %s", g_strerror(errno));
	fabric->contexts = rdma_get_devices(NULL);
	if (!fabric->contexts)
		return kvt_error_failed(error, "no RDMA device opens: %s", g_strerror(errno));
	if (!choose_device(fabric, wanted, error))
		return false;
	int failed = ibv_query_device(fabric->device, &fabric->limits);
	if (failed == 0) {
		fabric->channel = ibv_create_comp_channel(fabric->device);
		failed = fabric->channel && set_nonblocking(fabric->channel->fd) ? 0 : errno;
	}
	if (failed != 0)
		return kvt_error_failed(error, "RDMA device %s: %s",
			ibv_get_device_name(fabric->device->device), g_strerror(failed));
	return true;
}

/* One descriptor for the connection manager's events and the keepalive. */
static bool open_descriptors(verbs_fabric *fabric, GError **error)
{
	struct epoll_event event = { .events = EPOLLIN };
	fabric->epoll = epoll_create1(EPOLL_CLOEXEC);
	fabric->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (fabric->epoll >= 0 && fabric->timer >= 0 &&
		epoll_ctl(fabric->epoll, EPOLL_CTL_ADD, fabric->timer, &event) == 0 &&
		epoll_ctl(fabric->epoll, EPOLL_CTL_ADD, fabric->events->fd, &event) == 0)
		return true;
	return kvt_error_failed(error, "RDMA: no descriptor: %s", g_strerror(errno));
}

/* --- The fabric --- */

static void release(verbs_fabric *fabric)
{
	if (fabric->epoll >= 0)
		close(fabric->epoll);
	if (fabric->timer >= 0)
		close(fabric->timer);
	if (fabric->up)
		g_ptr_array_unref(fabric->up);
	while (fabric->cqs)
		free_cq(fabric, fabric->cqs);
	if (fabric->channel)
		ibv_destroy_comp_channel(fabric->channel);
	if (fabric->contexts)
		rdma_free_devices(fabric->contexts);
	if (fabric->events)
		rdma_destroy_event_channel(fabric->events);
	kvt_key_quarantine_free(fabric->keys);
	if (fabric->farewells)
		g_ptr_array_unref(fabric->farewells);
	g_free(fabric);
}

static void verbs_free(kvt_fabric *base)
{
	verbs_fabric *fabric = (verbs_fabric *)base;
	if (!fabric)
		return;
	g_assert(fabric->users == 0 && fabric->domains == 0);
	kvt_real_loop_remove_source(fabric->loop, &fabric->event_source);
	kvt_real_loop_remove_source(fabric->loop, &fabric->completion_source);
	for (guint i = 0; i < fabric->farewells->len; i++) {
		farewell *f = g_ptr_array_index(fabric->farewells, i);
		rdma_destroy_id(f->id);
		g_free(f);
	}
	release(fabric);
}

static const kvt_fabric_ops verbs_ops = {
	.name = "verbs",
	.domain_new = verbs_domain_new,
	.domain_free = verbs_domain_free,
	.region_open = verbs_region_open,
	.region_close = verbs_region_close,
	.listen = verbs_listen,
	.listener_port = verbs_listener_port,
	.listener_free = verbs_listener_free,
	.request_peer = verbs_request_peer,
	.accept = verbs_accept,
	.refuse = verbs_refuse,
	.connect = verbs_connect,
	.submit = verbs_submit,
	.commit = verbs_commit,
	.queues = verbs_queues,
	.disconnect = verbs_disconnect,
	.connection_free = verbs_connection_free,
	.free = verbs_free,
};

kvt_fabric *kvt_verbs_fabric_new(kvt_loop *loop, const kvt_verbs_settings *settings, GError **error)
{
	static const kvt_verbs_settings none;
	verbs_fabric *fabric = g_new0(verbs_fabric, 1);
	kvt_verbs_settings *s = &fabric->settings;
	fabric->base.ops = &verbs_ops;
	fabric->loop = loop;
	fabric->epoll = fabric->timer = -1;
	if (!open_device(fabric, settings ? settings : &none, error) ||
		!open_descriptors(fabric, error)) {
		release(fabric);
		return NULL;
	}
	*s = settings ? *settings : none;
	s->device = s->address = s->peer = NULL;
	s->max_transfer = MIN(s->max_transfer ? s->max_transfer : 1 << 20, 1u << 30);
	s->window = s->window ? s->window : 16 << 20;
	s->signal_every = s->signal_every ? s->signal_every : 8;
	if (s->linked == 0)
		s->linked = fabric->limits.vendor_id == SOFT_ROCE ? 1 : 64;
	s->keepalive = s->keepalive ? s->keepalive : 5 * KVT_SECOND;
	s->patience = s->patience ? s->patience : 16;
	fabric->keys = kvt_key_quarantine_new(KEY_PERIOD, OLD_KEYS);
	fabric->farewells = g_ptr_array_new();
	fabric->up = g_ptr_array_new();
	fabric->event_source = (kvt_real_source){
		.poll = poll_events, .wait_fd = fabric->epoll, .idle = true, .arg = fabric
	};
	fabric->completion_source = (kvt_real_source){ .poll = poll_completions,
		.wait_fd = fabric->channel->fd,
		.arm = arm_completions,
		.idle = true,
		.arg = fabric };
	kvt_real_loop_add_source(loop, &fabric->event_source);
	kvt_real_loop_add_source(loop, &fabric->completion_source);
	return &fabric->base;
}

const char *kvt_verbs_fabric_device(const kvt_fabric *base)
{
	return ibv_get_device_name(((const verbs_fabric *)base)->device->device);
}

kvt_verbs_stats kvt_verbs_fabric_stats(const kvt_fabric *base)
{
	return ((const verbs_fabric *)base)->stats;
}
