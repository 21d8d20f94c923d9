/* node_settings.c: the option tables of a storage node, and what its configuration may not say. */
#include "emu/remote/node_settings.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "emu/remote/metrics_server.h"
#include "emu/tier/uring_tier.h"
#include "sim/base/error.h"

typedef struct node_options {
	char *listen, *device, *metrics;
	uint64_t pool, slab, smallest_page;
	int huge;
	bool pinned;
	int64_t numa_node, helpers, depth, messages, retries;
	kvt_time lease, ticket, patience, drain, timeout;
} node_options;

#define SETTING(field) offsetof(node_options, field)

const kvt_option kvt_node_options[] = {
	{ "listen", KVT_OPTION_STRING, 0, SETTING(listen), NULL, 0, 0, NULL,
		"address and port, like 10.0.0.1:7471 or [fd00::1]:7471; port 0: any" },
	{ "device", KVT_OPTION_STRING, 0, SETTING(device), "", 0, 0, NULL,
		"RDMA device, like mlx5_0; \"\": the one that has the address" },
	{ "metrics", KVT_OPTION_STRING, 0, SETTING(metrics), "", 0, 0, NULL,
		"where GET /metrics is answered, unix:/PATH or a port of the loopback, like "
		"127.0.0.1:9400; \"\": nowhere" },
	{ "pool", KVT_OPTION_BYTES, 0, SETTING(pool), "1GiB", 4096, 1e15, NULL,
		"memory that clients read pages from" },
	{ "slab", KVT_OPTION_BYTES, 0, SETTING(slab), "4MiB", 4096, 1 << 30, NULL,
		"of the pool, that is one tenant's and is given up at a time; no request is for "
		"more" },
	{ "huge", KVT_OPTION_CHOICE, 0, SETTING(huge), "transparent", 0, 0, kvt_huge_page_names,
		"huge pages: none, as the kernel finds them, or of those set aside" },
	{ "pinned", KVT_OPTION_BOOL, 0, SETTING(pinned), "no", 0, 0, NULL,
		"whether the pool is locked in memory from the start; registering pins what is "
		"in use" },
	{ "numa_node", KVT_OPTION_INTEGER, 0, SETTING(numa_node), "-1", -1, 1023, NULL,
		"that the pool is bound to; -1: none" },
	{ "lease", KVT_OPTION_TIME, 0, SETTING(lease), "5s", 1e-3, 3600, NULL,
		"how long a client may read what it was told of" },
	{ "ticket", KVT_OPTION_TIME, 0, SETTING(ticket), "30s", 1e-3, 3600, NULL,
		"how long a client may take to write what it was given room for" },
	{ "patience", KVT_OPTION_TIME, 0, SETTING(patience), "6s", 1e-3, 3600, NULL,
		"how long a request waits for room in the pool" },
	{ "drain", KVT_OPTION_TIME, 0, SETTING(drain), "10s", 1e-3, 3600, NULL,
		"how long clients may take to finish once the node is to end" },
	{ "smallest_page", KVT_OPTION_BYTES, 0, SETTING(smallest_page), "4KiB", 8, 1 << 30, NULL,
		"of pages that are taken; a smaller one takes 4 KiB of pool and store even so" },
	{ "helpers", KVT_OPTION_INTEGER, 0, SETTING(helpers), "1", 0, 64, NULL,
		"threads for checksums; 0: the thread that does all else" },
	{ "depth", KVT_OPTION_INTEGER, 0, SETTING(depth), "64", 1, 4096, NULL,
		"transfers under way in a queue pair" },
	{ "messages", KVT_OPTION_INTEGER, 0, SETTING(messages), "32", 2, 4096, NULL,
		"receive buffers of 16 KiB of a queue pair" },
	{ "retries", KVT_OPTION_INTEGER, 0, SETTING(retries), "6", 1, 6, NULL,
		"of a packet, before a client counts as gone" },
	{ "timeout", KVT_OPTION_TIME, 0, SETTING(timeout), "1s", 1e-3, 60, NULL,
		"that an acknowledgement may take, about" },
	{ 0 },
};

typedef struct tenant_options {
	char *key;
	uint64_t capacity, pool, held, burst;
	double bandwidth;
	int64_t connections, requests, models;
} tenant_options;

#undef SETTING
#define SETTING(field) offsetof(tenant_options, field)

const kvt_option kvt_node_tenant_options[] = {
	{ "key", KVT_OPTION_STRING, 0, SETTING(key), NULL, 0, 0, NULL,
		"secret that its clients show, 32 hexadecimal digits" },
	{ "capacity", KVT_OPTION_BYTES, 0, SETTING(capacity), NULL, 1, 1e18, NULL,
		"bytes of pages that it may have stored" },
	{ "pool", KVT_OPTION_BYTES, 0, SETTING(pool), "0B", 0, 1e15, NULL,
		"of the pool, that it may have, in whole slabs; 0B: all" },
	{ "held", KVT_OPTION_BYTES, 0, SETTING(held), "0B", 0, 1e15, NULL,
		"of these, that its leases and writes may hold at once; 0B: half of the pool" },
	{ "bandwidth", KVT_OPTION_QUANTITY, KVT_UNIT_RATE, SETTING(bandwidth), "0B/s", 0, 0, NULL,
		"bytes a second that it may fetch and write; others wait; 0B/s: any" },
	{ "burst", KVT_OPTION_BYTES, 0, SETTING(burst), "16MiB", 1, 1e15, NULL,
		"bytes that it may move at once after a pause" },
	{ "connections", KVT_OPTION_INTEGER, 0, SETTING(connections), "64", 1, 1e5, NULL,
		"at once" },
	{ "requests", KVT_OPTION_INTEGER, 0, SETTING(requests), "1024", 1, 1e6, NULL,
		"and writes under way at once, of all connections" },
	{ "models", KVT_OPTION_INTEGER, 0, SETTING(models), "16", 1, 1e4, NULL,
		"that it may have pages or connections of" },
	{ 0 },
};

/* --- [node] --- */

/* "10.0.0.1:7471", "[fd00::1]:7471". */
static gboolean parse_listen(
	const kvt_section *section, const char *text, kvt_node_config *to, GError **error)
{
	const char *colon = strrchr(text, ':');
	uint8_t bytes[16];
	guint64 port;
	g_autofree char *host = g_strndup(text, colon ? (gsize)(colon - text) : 0);
	size_t n = strlen(host);
	bool bracketed = n > 2 && host[0] == '[' && host[n - 1] == ']';
	g_autofree char *address = bracketed ? g_strndup(host + 1, n - 2) : g_strdup(host);
	if (!colon || !g_ascii_string_to_unsigned(colon + 1, 10, 0, 65535, &port, NULL) ||
		inet_pton(bracketed ? AF_INET6 : AF_INET, address, bytes) != 1) {
		g_autofree char *quoted = kvt_error_quote(text);
		return kvt_section_error(section, "listen", error,
			"%s is no address and port, expected one like 10.0.0.1:7471 or "
			"[fd00::1]:7471",
			quoted);
	}
	to->address = g_steal_pointer(&address);
	to->settings.port = (uint16_t)port;
	return TRUE;
}

static gboolean check_node(const kvt_section *section, const node_options *o, GError **error)
{
	g_autoptr(GError) wrong = NULL;
	if (o->slab % KVT_STORE_BLOCK != 0)
		return kvt_section_error(section, "slab", error,
			"%" PRIu64 " bytes, expected a multiple of 4KiB", o->slab);
	if (o->pool < o->slab)
		return kvt_section_error(section, "pool", error,
			"%" PRIu64 " bytes, expected one slab of %" PRIu64 " at least", o->pool,
			o->slab);
	if (o->metrics[0] != '\0' && !kvt_metrics_where_check(o->metrics, &wrong))
		return kvt_section_error(section, "metrics", error, "%s", wrong->message);
	return TRUE;
}

static void take_node(const node_options *o, kvt_node_config *to)
{
	to->settings.pool_bytes = o->pool / o->slab * o->slab;
	to->settings.slab_bytes = o->slab;
	to->settings.huge = (kvt_huge_pages)o->huge;
	to->settings.pinned = o->pinned;
	to->settings.numa_node = (int)o->numa_node;
	to->settings.lease = o->lease;
	to->settings.ticket = o->ticket;
	to->settings.patience = o->patience;
	to->settings.drain = o->drain;
	to->settings.smallest_page = o->smallest_page;
	to->settings.helpers = (unsigned)o->helpers;
	to->settings.connection = (kvt_connection_settings){ .depth = (unsigned)o->depth,
		.messages = (unsigned)o->messages,
		.retries = (unsigned)o->retries,
		.timeout = o->timeout };
	to->device = g_strdup(o->device);
	to->metrics = g_strdup(o->metrics);
}

static gboolean read_node(kvt_section *section, kvt_node_config *to, GError **error)
{
	node_options options = { 0 };
	if (!kvt_section_read(section, kvt_node_options, &options, TRUE, error))
		return FALSE;
	gboolean good = check_node(section, &options, error) &&
			parse_listen(section, options.listen, to, error);
	if (good)
		take_node(&options, to);
	to->settings.address = to->address;
	kvt_option_clear(kvt_node_options, &options);
	return good;
}

/* --- [tenant N] --- */

static gboolean parse_key(
	const kvt_section *section, const char *text, uint8_t *key, GError **error)
{
	/* what it is instead is nobody's business */
	return kvt_remote_key_parse(text, key) ||
	       kvt_section_error(section, "key", error, "is no key, expected %d hexadecimal digits",
		       2 * KVT_REMOTE_KEY);
}

static gboolean take_tenant(const kvt_section *section, const tenant_options *o,
	const kvt_node_settings *node, kvt_node_tenant_settings *to, GError **error)
{
	to->capacity = o->capacity;
	to->pool = o->pool > 0 ? o->pool : node->pool_bytes;
	to->held = o->held > 0 ? o->held : MAX(to->pool / 2, node->slab_bytes);
	to->bandwidth = o->bandwidth;
	to->burst = o->burst;
	to->connections = (unsigned)o->connections;
	to->requests = (unsigned)o->requests;
	to->models = (unsigned)o->models;
	if (to->pool < node->slab_bytes || to->held < node->slab_bytes)
		return kvt_section_error(section, to->pool < node->slab_bytes ? "pool" : "held",
			error, "%" PRIu64 " bytes, expected one slab of %" PRIu64 " at least",
			MIN(to->pool, to->held), node->slab_bytes);
	return parse_key(section, o->key, to->key, error);
}

static gboolean read_tenant(
	kvt_section *section, const kvt_node_settings *node, GArray *tenants, GError **error)
{
	kvt_node_tenant_settings tenant = { 0 };
	tenant_options options = { 0 };
	const char *number = kvt_section_name(section) + strlen("tenant");
	guint64 value = 0;
	number += *number == ' ';
	if (!g_ascii_string_to_unsigned(number, 10, 0, G_MAXUINT32, &value, NULL))
		return kvt_section_error(
			section, NULL, error, "expected a tenant's number, like [tenant 1]");
	for (guint i = 0; i < tenants->len; i++)
		if (g_array_index(tenants, kvt_node_tenant_settings, i).number == value)
			return kvt_section_error(section, NULL, error,
				"tenant %" PRIu64 " is there twice, expected each once",
				(uint64_t)value);
	tenant.number = (uint32_t)value;
	if (!kvt_section_read(section, kvt_node_tenant_options, &options, TRUE, error))
		return FALSE;
	gboolean good = take_tenant(section, &options, node, &tenant, error);
	kvt_option_clear(kvt_node_tenant_options, &options);
	if (good)
		g_array_append_val(tenants, tenant);
	return good;
}

/* --- All of it --- */

/* Whether the store's section could be opened from. */
static gboolean check_store(kvt_section *section, GError **error)
{
	g_autofree void *settings = g_malloc0(kvt_tier_store.settings_size);
	if (!section)
		return TRUE;
	if (!kvt_section_read(section, kvt_tier_store.options, settings, TRUE, error))
		return FALSE;
	kvt_option_clear(kvt_tier_store.options, settings);
	return TRUE;
}

static gboolean read_all(kvt_config *config, kvt_node_config *to, GArray *tenants, GError **error)
{
	static const char *const known[] = { "node", "store", "tenant", NULL };
	kvt_section *node = kvt_config_section_required(config, "node", error);
	if (!node || !read_node(node, to, error))
		return FALSE;
	to->store = kvt_config_section(config, "store");
	if (!check_store(to->store, error))
		return FALSE;
	g_autofree const char **names = kvt_config_section_names(config, "tenant");
	for (unsigned i = 0; names[i]; i++)
		if (!read_tenant(
			    kvt_config_section(config, names[i]), &to->settings, tenants, error))
			return FALSE;
	if (tenants->len == 0)
		return kvt_error_at(error, kvt_config_path(config), 0,
			"there is no tenant, expected a section [tenant N] at least");
	return kvt_config_check_used(config, known, error);
}

gboolean kvt_node_config_read(kvt_config *config, kvt_node_config *to, GError **error)
{
	GArray *tenants = g_array_new(FALSE, FALSE, sizeof(kvt_node_tenant_settings));
	*to = (kvt_node_config){ 0 };
	gboolean good = read_all(config, to, tenants, error);
	to->settings.n_tenants = tenants->len;
	to->settings.tenants = (kvt_node_tenant_settings *)(void *)g_array_free(tenants, FALSE);
	if (!good)
		kvt_node_config_clear(to);
	return good;
}

void kvt_node_config_clear(kvt_node_config *config)
{
	g_free(config->address);
	g_free(config->device);
	g_free(config->metrics);
	g_free((void *)config->settings.tenants);
	*config = (kvt_node_config){ 0 };
}
