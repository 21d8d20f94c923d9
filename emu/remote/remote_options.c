/*
 * remote_options.c: the remote tier as a configuration names it: its options, the tenants' secrets,
 * and the RDMA device that the node is reached over.
 */
#include <stddef.h>
#include <string.h>

#include "emu/remote/remote_tier_internal.h"
#include "emu/fabric/verbs_fabric.h"
#include "sim/base/error.h"

#define SETTING(field) offsetof(remote_options, field)

const kvt_option kvt_remote_options[] = {
	{ "node", KVT_OPTION_STRING, 0, SETTING(node), NULL, 0, 0, NULL,
		"address and port of the storage node, like 10.0.0.1:7471 or [fd00::1]:7471" },
	{ "keys", KVT_OPTION_STRING, 0, SETTING(keys), NULL, 0, 0, NULL,
		"file with sections [tenant N] and their keys: who the engine's tenants are at the "
		"node, in order" },
	{ "model", KVT_OPTION_STRING, 0, SETTING(model), "any", 0, 0, NULL,
		"whose pages: names of model, precision and layout keep pages apart" },
	{ "capacity", KVT_OPTION_BYTES, 0, SETTING(capacity), "0B", 0, 0, NULL,
		"bytes of pages that it holds; 0B: what the node gives the first tenant" },
	{ "required", KVT_OPTION_BOOL, 0, SETTING(required), "yes", 0, 0, NULL,
		"whether the node must be there at the start; no: it is sought when pages are "
		"asked "
		"for" },
	{ "leases", KVT_OPTION_BOOL, 0, SETTING(leases), "yes", 0, 0, NULL,
		"whether it is remembered where pages lie, as long as they are promised to" },
	{ "device", KVT_OPTION_STRING, 0, SETTING(device), "", 0, 0, NULL,
		"RDMA device, like mlx5_0; \"\": the one that the way to the node goes over" },
	{ "address", KVT_OPTION_STRING, 0, SETTING(address), "", 0, 0, NULL,
		"of the interface whose device it is; \"\": any" },
	{ "queues", KVT_OPTION_INTEGER, 0, SETTING(queues), "4", 1, KVT_FABRIC_QUEUES, NULL,
		"queue pairs of a tenant's connection" },
	{ "depth", KVT_OPTION_INTEGER, 0, SETTING(depth), "64", 1, 4096, NULL,
		"transfers under way in a queue pair" },
	{ "part", KVT_OPTION_BYTES, 0, SETTING(part), "1MiB", 4096, 1 << 30, NULL,
		"bytes that are asked for, moved and verified at a time, in whole pages" },
	{ "parts", KVT_OPTION_INTEGER, 0, SETTING(parts), "64", 1, 4096, NULL,
		"of these under way in a priority class" },
	{ "staging", KVT_OPTION_BYTES, 0, SETTING(staging), "64MiB", 4096, 1e12, NULL,
		"memory for pages that do not move straight from or to where they are wanted" },
	{ "helpers", KVT_OPTION_INTEGER, 0, SETTING(helpers), "0", 0, 64, NULL,
		"threads for checksums and copies; 0: the engine's own does it" },
	{ "max_ios", KVT_OPTION_INTEGER, 0, SETTING(max_ios), "1024", 1, 1e6, NULL,
		"I/Os that are taken before others are told to come again" },
	{ "timeout", KVT_OPTION_TIME, 0, SETTING(timeout), "10s", 1e-3, 3600, NULL,
		"for which the node may be silent while it is asked" },
	{ "acknowledge", KVT_OPTION_TIME, 0, SETTING(acknowledge), "1s", 1e-3, 60, NULL,
		"that an acknowledgement may take, about" },
	{ "retries", KVT_OPTION_INTEGER, 0, SETTING(retries), "6", 1, 6, NULL,
		"of a packet, before the node counts as gone" },
	{ "connect", KVT_OPTION_TIME, 0, SETTING(connect), "5s", 1e-3, 3600, NULL,
		"that connecting may take" },
	{ 0 },
};

/* --- Secrets --- */

static const kvt_option tenant_options[] = {
	{ "key", KVT_OPTION_STRING, 0, 0, NULL, 0, 0, NULL,
		"secret that the node knows too, 32 hexadecimal digits" },
	{ 0 },
};

static bool read_tenant(
	kvt_config *config, const char *name, kvt_remote_tenant *tenant, GError **error)
{
	kvt_section *section = kvt_config_section(config, name);
	guint64 number;
	char *key = NULL;
	if (!g_ascii_string_to_unsigned(
		    name + strlen("tenant "), 10, 0, G_MAXUINT32, &number, NULL))
		return kvt_section_error(
			section, NULL, error, "no tenant's number, expected [tenant 0], say");
	tenant->number = (uint32_t)number;
	/* a node's own file has more than keys */
	if (!kvt_section_read(section, tenant_options, &key, FALSE, error))
		return false;
	bool good = kvt_remote_key_parse(key, tenant->key);
	g_free(key);
	return good || kvt_section_error(section, "key", error,
			       "is no key, expected %d hexadecimal digits", 2 * KVT_REMOTE_KEY);
}

GArray *kvt_remote_keys_load(const char *path, GError **error)
{
	g_autoptr(kvt_config) config = kvt_config_load(path, error);
	if (!config)
		return NULL;
	g_autofree const char **names = kvt_config_section_names(config, "tenant");
	g_autoptr(GArray) tenants = g_array_new(FALSE, TRUE, sizeof(kvt_remote_tenant));
	for (const char **name = names; *name; name++) {
		kvt_remote_tenant tenant;
		if (!g_str_has_prefix(*name, "tenant ")) {
			kvt_error_usage(error, "keys: %s: [%s], expected [tenant N]", path, *name);
			return NULL;
		}
		if (!read_tenant(config, *name, &tenant, error))
			return NULL;
		g_array_append_val(tenants, tenant);
	}
	if (tenants->len == 0) {
		kvt_error_usage(error, "keys: %s: no tenants, expected a section [tenant N]", path);
		return NULL;
	}
	return g_steal_pointer(&tenants);
}

/* --- Opening --- */

bool kvt_remote_node_parse(const char *text, char **address, uint16_t *port, GError **error)
{
	const char *colon = strrchr(text, ':');
	guint64 number = 0;
	if (colon && g_ascii_string_to_unsigned(colon + 1, 10, 1, G_MAXUINT16, &number, NULL)) {
		bool brackets = *text == '[' && colon[-1] == ']';
		g_autofree char *host = brackets ? g_strndup(text + 1, (gsize)(colon - text) - 2)
						 : g_strndup(text, (gsize)(colon - text));
		if (g_hostname_is_ip_address(host) && brackets == (strchr(host, ':') != NULL)) {
			*address = g_steal_pointer(&host);
			*port = (uint16_t)number;
			return true;
		}
	}
	return kvt_error_usage(error,
		"node: %s is none, expected an address and a port, like 10.0.0.1:7471", text);
}

static kvt_remote_settings settings_of(const remote_options *o)
{
	return (kvt_remote_settings){ .model = o->model,
		.capacity = o->capacity,
		.no_leases = !o->leases,
		.may_be_down = !o->required,
		.part_bytes = o->part,
		.staging_bytes = o->staging,
		.parts = (unsigned)o->parts,
		.helpers = (unsigned)o->helpers,
		.max_ios = (unsigned)o->max_ios,
		.timeout = o->timeout,
		.connection = { .queues = (unsigned)o->queues,
			.depth = (unsigned)o->depth,
			.retries = (unsigned)o->retries,
			.timeout = o->acknowledge,
			.connect_timeout = o->connect } };
}

kvt_tier *kvt_remote_open(const kvt_tier_env *env, const void *options, GError **error)
{
	const remote_options *o = options;
	kvt_remote_settings settings = settings_of(o);
	g_autofree char *address = NULL;
	if (!kvt_remote_node_parse(o->node, &address, &settings.port, error))
		return NULL;
	g_autoptr(GArray) tenants = kvt_remote_keys_load(o->keys, error);
	if (!tenants)
		return NULL;
	const kvt_verbs_settings verbs = { .device = *o->device ? o->device : NULL,
		.address = *o->address ? o->address : NULL,
		.peer = address };
	kvt_fabric *fabric = kvt_verbs_fabric_new(env->loop, &verbs, error);
	if (!fabric)
		return NULL;
	settings.address = address;
	settings.tenants = (const kvt_remote_tenant *)tenants->data;
	settings.n_tenants = tenants->len;
	kvt_tier *tier = kvt_remote_tier_new(env, fabric, &settings, error);
	if (tier)
		((remote_tier *)tier)->free_fabric = true;
	else
		fabric->ops->free(fabric);
	return tier;
}
