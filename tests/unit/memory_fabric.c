/* memory_fabric.c: the hosts of the fabric within a process: memory and its keys, who listens, asks
 * and lets in, and what befalls a host. */
#include "tests/unit/memory_fabric.h"

#include <errno.h>
#include <string.h>

#include "sim/base/error.h"
#include "tests/unit/memory_fabric_internal.h"

typedef struct memory_listener {
	memory_host *host;
	char *address; /* "": all */
	uint16_t port;
	void (*asked)(void *arg, kvt_fabric_request *request, const void *hello, size_t bytes);
	void *arg;
} memory_listener;

struct kvt_fabric_request {
	memory_listener *listener; /* NULL once it has ended */
	memory_host *host;
	kvt_connection *from;
	uint8_t hello[KVT_FABRIC_HELLO];
	size_t hello_bytes;
	char peer[80];
};

/* --- The wire --- */

static void free_connection(gpointer connection)
{
	g_assert(((kvt_connection *)connection)->freed);
	g_free(connection);
}

memory_wire *memory_wire_new(kvt_loop *loop)
{
	memory_wire *wire = g_new0(memory_wire, 1);
	wire->loop = loop;
	wire->hosts = g_ptr_array_new();
	wire->regions = g_hash_table_new_full(NULL, NULL, NULL, g_free);
	wire->connections = g_ptr_array_new_with_free_func(free_connection);
	wire->requests = g_ptr_array_new_with_free_func(g_free);
	wire->deliveries = g_hash_table_new_full(NULL, NULL, g_free, NULL);
	wire->last_port = 20000;
	return wire;
}

void memory_wire_free(memory_wire *wire)
{
	g_assert(wire->hosts->len == 0 && g_hash_table_size(wire->regions) == 0);
	g_ptr_array_unref(wire->hosts);
	g_hash_table_unref(wire->regions);
	g_ptr_array_unref(wire->connections);
	g_ptr_array_unref(wire->requests);
	g_hash_table_unref(wire->deliveries);
	g_free(wire);
}

const memory_wire_counts *memory_wire_get_counts(const memory_wire *wire)
{
	return &wire->counts;
}

void memory_wire_delay(memory_wire *wire, kvt_time delay)
{
	wire->delay = delay;
}

void memory_wire_flip(memory_wire *wire, unsigned every)
{
	wire->flip_every = every;
	wire->until_flip = every;
}

static memory_host *find_host(memory_wire *wire, const char *address)
{
	for (guint i = 0; i < wire->hosts->len; i++) {
		memory_host *host = g_ptr_array_index(wire->hosts, i);
		if (g_str_equal(host->address, address) ||
			(host->second && g_str_equal(host->second, address)))
			return host;
	}
	return NULL;
}

bool memory_hosts_cut(const memory_host *a, const memory_host *b)
{
	return a->cut || b->cut;
}

bool memory_host_hold(memory_host *host, kvt_callback callback, void *arg)
{
	const held_call call = { callback, arg };
	if (host->killed)
		return true;
	if (host->stopped)
		g_array_append_val(host->held, call);
	return host->stopped;
}

/* --- Memory --- */

static kvt_fabric_domain *domain_new(kvt_fabric *fabric, GError **error)
{
	kvt_fabric_domain *domain = g_new0(kvt_fabric_domain, 1);
	domain->host = (memory_host *)fabric;
	domain->host->domains++;
	return domain;
}

static void domain_free(kvt_fabric_domain *domain)
{
	g_assert(domain->regions == 0 && domain->connections == 0);
	domain->host->domains--;
	g_free(domain);
}

static int region_open(kvt_fabric_domain *domain, void *memory, uint64_t bytes,
	kvt_fabric_access access, kvt_fabric_region *region)
{
	memory_host *host = domain->host;
	memory_wire *wire = host->wire;
	g_assert(bytes > 0);
	if (host->regions_left == 0)
		return -ENOMEM;
	if (host->regions_left != UINT_MAX)
		host->regions_left--;
	memory_region *r = g_new0(memory_region, 1);
	/* keys are used once; addresses are no pointers, and say nothing of neighbours */
	wire->last_key += 0x101;
	*r = (memory_region){ .domain = domain,
		.memory = memory,
		.bytes = bytes,
		.address = ((uint64_t)wire->last_key << 36) + ((uintptr_t)memory & 0xfff),
		.key = wire->last_key,
		.access = access };
	g_hash_table_insert(wire->regions, GUINT_TO_POINTER(r->key), r);
	domain->regions++;
	*region = (kvt_fabric_region){ .domain = domain,
		.memory = memory,
		.bytes = bytes,
		.address = r->address,
		.key = r->key,
		.handle = r };
	return 0;
}

static void region_close(kvt_fabric_region *region)
{
	memory_region *r = region->handle;
	g_assert(r->under_way == 0);
	r->domain->regions--;
	g_hash_table_remove(r->domain->host->wire->regions, GUINT_TO_POINTER(r->key));
	*region = (kvt_fabric_region){ 0 };
}

memory_region *memory_region_find(memory_wire *wire, uint32_t key, uint64_t address, uint64_t bytes)
{
	memory_region *r = g_hash_table_lookup(wire->regions, GUINT_TO_POINTER(key));
	if (!r || address < r->address || bytes > r->bytes ||
		address - r->address > r->bytes - bytes)
		return NULL;
	return r;
}

/* --- Listening --- */

static memory_listener *find_listener(const memory_host *host, const char *address, uint16_t port)
{
	for (guint i = 0; i < host->listeners->len; i++) {
		memory_listener *l = g_ptr_array_index(host->listeners, i);
		if (l->port == port && (*l->address == '\0' || *address == '\0' ||
					       g_str_equal(l->address, address)))
			return l;
	}
	return NULL;
}

static kvt_fabric_listener *listen_at(kvt_fabric *fabric, const char *address, uint16_t port,
	void (*asked)(void *arg, kvt_fabric_request *request, const void *hello, size_t bytes),
	void *arg, GError **error)
{
	memory_host *host = (memory_host *)fabric;
	address = address ? address : "";
	if (*address && find_host(host->wire, address) != host) {
		kvt_error_failed(error, "%s: no address of this host", address);
		return NULL;
	}
	port = port ? port : ++host->wire->last_port;
	if (find_listener(host, address, port)) {
		kvt_error_failed(error, "%s:%u: the address is in use", address, port);
		return NULL;
	}
	memory_listener *l = g_new0(memory_listener, 1);
	*l = (memory_listener){ host, g_strdup(address), port, asked, arg };
	g_ptr_array_add(host->listeners, l);
	return (kvt_fabric_listener *)l;
}

static uint16_t listener_port(const kvt_fabric_listener *listener)
{
	return ((const memory_listener *)listener)->port;
}

static void tell_refused(void *arg)
{
	memory_connection_end(arg, -ECONNREFUSED);
}

/* The request has ended; who asked hears of it, unless nothing passes or nobody is there. */
static void turn_away(kvt_fabric_request *request, const void *reason, size_t bytes)
{
	kvt_connection *from = request->from;
	memory_wire *wire = request->host->wire;
	request->listener = NULL;
	from->request = NULL;
	if (from->state != CONNECTION_OPENING || memory_hosts_cut(request->host, from->host))
		return;
	g_assert(bytes <= sizeof(from->said));
	from->heard = bytes > 0;
	from->said_bytes = bytes;
	if (bytes > 0)
		memcpy(from->said, reason, bytes);
	kvt_loop_after(wire->loop, wire->delay, tell_refused, from);
}

static void listener_free(kvt_fabric_listener *listener)
{
	memory_listener *l = (memory_listener *)listener;
	const GPtrArray *requests = l->host->wire->requests;
	for (guint i = 0; i < requests->len; i++) {
		kvt_fabric_request *request = g_ptr_array_index(requests, i);
		if (request->listener == l)
			turn_away(request, NULL, 0);
	}
	g_ptr_array_remove(l->host->listeners, l);
	g_free(l->address);
	g_free(l);
}

static void ask(void *arg)
{
	kvt_fabric_request *request = arg;
	if (memory_host_hold(request->host, ask, request))
		return;
	memory_listener *l = request->listener;
	if (l && request->from->state == CONNECTION_OPENING)
		l->asked(l->arg, request, request->hello, request->hello_bytes);
}

static const char *request_peer(const kvt_fabric_request *request)
{
	return request->peer;
}

static void refuse(kvt_fabric_request *request, const void *reason, size_t bytes)
{
	g_assert(request->listener);
	turn_away(request, reason, bytes);
}

static kvt_connection *accept_request(kvt_fabric_request *request, kvt_fabric_domain *domain,
	const kvt_connection_settings *settings, const void *welcome, size_t bytes,
	const kvt_connection_handlers *handlers, void *arg)
{
	memory_host *host = request->host;
	memory_wire *wire = host->wire;
	kvt_connection *from = request->from;
	g_assert(request->listener && domain->host == host && bytes <= KVT_FABRIC_WELCOME);
	if (from->state != CONNECTION_OPENING || memory_hosts_cut(host, from->host)) {
		request->listener = NULL;
		return NULL;
	}
	kvt_connection *c = memory_connection_new(host, domain, settings, handlers, arg);
	c->settings.queues = from->settings.queues;
	if (c->settings.message_bytes != from->settings.message_bytes) {
		memory_connection_free(c);
		turn_away(request, NULL, 0);
		return NULL;
	}
	request->listener = NULL;
	from->request = NULL;
	c->peer = from;
	from->peer = c;
	from->heard = true;
	from->said_bytes = bytes;
	if (bytes > 0)
		memcpy(from->said, welcome, bytes);
	kvt_time now = kvt_loop_now(wire->loop);
	memory_connection_rise(from, now + wire->delay);
	memory_connection_rise(c, now + wire->delay);
	return c;
}

/* --- Connecting --- */

static void too_late(void *arg)
{
	kvt_connection *c = arg;
	c->deadline = 0;
	memory_connection_part(c, -ETIMEDOUT, -ECONNRESET);
}

/* The question has come to where it goes. */
static void knock(void *arg)
{
	kvt_connection *c = arg;
	memory_wire *wire = c->host->wire;
	if (c->state != CONNECTION_OPENING)
		return;
	memory_host *host = find_host(wire, c->target);
	if (!host) {
		memory_connection_end(c, -ENETUNREACH);
		return;
	}
	if (memory_hosts_cut(c->host, host)) {
		/* it is asked again, until it is too late */
		kvt_loop_after(wire->loop, c->settings.connect_timeout / 8 + 1, knock, c);
		return;
	}
	memory_listener *l = host->killed ? NULL : find_listener(host, c->target, c->port);
	if (!l) {
		memory_connection_end(c, -ECONNREFUSED);
		return;
	}
	kvt_fabric_request *request = c->request;
	request->listener = l;
	request->host = host;
	kvt_loop_at(wire->loop, 0, ask, request);
}

static kvt_connection *connect_to(kvt_fabric *fabric, kvt_fabric_domain *domain,
	const char *address, uint16_t port, const kvt_connection_settings *settings,
	const void *hello, size_t bytes, const kvt_connection_handlers *handlers, void *arg,
	GError **error)
{
	memory_host *host = (memory_host *)fabric;
	memory_wire *wire = host->wire;
	g_assert(domain->host == host && bytes <= KVT_FABRIC_HELLO);
	if (!g_hostname_is_ip_address(address)) {
		kvt_error_failed(error, "%s: no address", address);
		return NULL;
	}
	kvt_connection *c = memory_connection_new(host, domain, settings, handlers, arg);
	g_strlcpy(c->target, address, sizeof(c->target));
	c->port = port;
	kvt_fabric_request *request = g_new0(kvt_fabric_request, 1);
	g_ptr_array_add(wire->requests, request);
	c->request = request;
	request->from = c;
	request->hello_bytes = bytes;
	if (bytes > 0)
		memcpy(request->hello, hello, bytes);
	g_snprintf(request->peer, sizeof(request->peer), "%s:%u", host->address,
		50000 + wire->connections->len % 10000);
	c->deadline = kvt_loop_after(wire->loop, c->settings.connect_timeout, too_late, c);
	kvt_loop_after(wire->loop, wire->delay, knock, c);
	return c;
}

static unsigned queues(const kvt_connection *connection)
{
	return connection->settings.queues;
}

static void disconnect(kvt_connection *connection)
{
	g_assert(!connection->freed);
	memory_connection_part(connection, 0, 0);
}

/* --- Hosts --- */

static void free_fabric(kvt_fabric *fabric)
{
	memory_host *host = (memory_host *)fabric;
	g_assert(host->domains == 0 && host->listeners->len == 0 && host->connections->len == 0);
	g_ptr_array_remove(host->wire->hosts, host);
	g_ptr_array_unref(host->listeners);
	g_ptr_array_unref(host->connections);
	g_array_unref(host->held);
	g_free(host->address);
	g_free(host->second);
	g_free(host);
}

static const kvt_fabric_ops memory_ops = {
	.name = "memory",
	.domain_new = domain_new,
	.domain_free = domain_free,
	.region_open = region_open,
	.region_close = region_close,
	.listen = listen_at,
	.listener_port = listener_port,
	.listener_free = listener_free,
	.request_peer = request_peer,
	.accept = accept_request,
	.refuse = refuse,
	.connect = connect_to,
	.submit = memory_submit,
	.commit = memory_commit,
	.queues = queues,
	.disconnect = disconnect,
	.connection_free = memory_connection_free,
	.free = free_fabric,
};

kvt_fabric *memory_fabric_new(memory_wire *wire, const char *address, const char *second)
{
	g_assert(!find_host(wire, address) && (!second || !find_host(wire, second)));
	memory_host *host = g_new0(memory_host, 1);
	host->base.ops = &memory_ops;
	host->wire = wire;
	host->address = g_strdup(address);
	host->second = g_strdup(second);
	host->listeners = g_ptr_array_new();
	host->connections = g_ptr_array_new();
	host->regions_left = UINT_MAX;
	host->held = g_array_new(FALSE, FALSE, sizeof(held_call));
	g_ptr_array_add(wire->hosts, host);
	return &host->base;
}

/* --- Faults --- */

void memory_fabric_cut(kvt_fabric *fabric, bool cut)
{
	((memory_host *)fabric)->cut = cut;
}

void memory_fabric_stop(kvt_fabric *fabric, bool stop)
{
	memory_host *host = (memory_host *)fabric;
	host->stopped = stop;
	if (stop)
		return;
	for (guint i = 0; i < host->held->len; i++) {
		const held_call *call = &g_array_index(host->held, held_call, i);
		kvt_loop_at(host->wire->loop, 0, call->callback, call->arg);
	}
	g_array_set_size(host->held, 0);
	for (guint i = 0; i < host->connections->len; i++) {
		kvt_connection *c = g_ptr_array_index(host->connections, i);
		for (unsigned q = 0; c->state == CONNECTION_UP && q < c->settings.queues; q++)
			memory_leg_arm(&c->queues[q].back);
	}
}

static void lose_peer(void *arg)
{
	memory_connection_end(arg, 0);
}

void memory_fabric_kill(kvt_fabric *fabric)
{
	memory_host *host = (memory_host *)fabric;
	memory_wire *wire = host->wire;
	host->killed = true;
	for (guint i = 0; i < host->connections->len; i++) {
		kvt_connection *c = g_ptr_array_index(host->connections, i);
		if (c->peer && !memory_hosts_cut(host, c->peer->host))
			kvt_loop_after(wire->loop, wire->delay, lose_peer, c->peer);
	}
	/* who asked and was not answered */
	for (guint i = 0; i < wire->requests->len; i++) {
		kvt_fabric_request *request = g_ptr_array_index(wire->requests, i);
		if (request->listener && request->host == host)
			turn_away(request, NULL, 0);
	}
}

void memory_fabric_limit_regions(kvt_fabric *fabric, unsigned more)
{
	((memory_host *)fabric)->regions_left = more;
}
