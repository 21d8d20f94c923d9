/* tenant_settings.c: the option tables of tenants, and what they promise together. */
#include "sim/fleet/tenant_settings.h"

#include <stddef.h>
#include <string.h>

#define FIELD(name) offsetof(kvt_tenant_settings, name)
#define RESERVED(what) (FIELD(reserved) + (what) * sizeof(double))

static const char *const sharing_names[] = { "fcfs", "fair", "reserved", NULL };

static const char *const reserve_keys[KVT_RESERVATIONS] = { "reserve", "reserve_sequences",
	"reserve_memory", "reserve_links" };

const kvt_option kvt_tenant_options[] = {
	{ "active", KVT_OPTION_BOOL, 0, FIELD(active), "yes", 0, 0, NULL,
		"no: none of its requests come" },
	{ "trace", KVT_OPTION_STRING, 0, FIELD(trace), "", 0, 0, NULL,
		"request trace of its own; none: what [traffic] trace has of a tenant of this "
		"name" },
	{ "rate_scale", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(rate_scale), "1", 1e-6, 1e6, NULL,
		"how many times faster requests of its own trace come than recorded" },
	{ "requests", KVT_OPTION_INTEGER, 0, FIELD(requests), "0", 0, 4e9, NULL,
		"of its own trace, the first so many; 0: all" },
	{ "until", KVT_OPTION_TIME, 0, FIELD(until), "0s", 0, 8e6, NULL,
		"requests of its own trace that come before this; 0s: all" },
	{ "generate", KVT_OPTION_TIME, 0, FIELD(generate), "0s", 0, 8e6, NULL,
		"so long a trace is made, from [fleet] seed, of a model that is fitted to its own "
		"trace; 0s: as recorded" },
	{ "class", KVT_OPTION_INTEGER, 0, FIELD(priority), "0", 0, KVT_TENANT_CLASSES - 1, NULL,
		"a lower one is served first, above what is reserved" },
	{ "weight", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(weight), "1", 1e-6, 1e6, NULL,
		"its part of what a class shares" },
	{ "reserve", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, RESERVED(KVT_RESERVED_COMPUTE), "0%", 0,
		1, NULL,
		"share of a step's tokens that it has whenever it can use them; others have what "
		"it does not" },
	{ "reserve_sequences", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE,
		RESERVED(KVT_RESERVED_SEQUENCES), "0%", 0, 1, NULL,
		"the same of [scheduler] max_sequences; not given: as reserve" },
	{ "reserve_memory", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, RESERVED(KVT_RESERVED_MEMORY),
		"0%", 0, 1, NULL,
		"the same of the HBM of running requests: others give way; not given: as reserve" },
	{ "reserve_links", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, RESERVED(KVT_RESERVED_LINKS), "0%",
		-1, 1, NULL,
		"the same of every link: drives, NICs, PCIe, DRAM; not given: as reserve" },
	{ "quotas", KVT_OPTION_STRING, 0, FIELD(quotas), "", 0, 0, NULL,
		"of cached KV, a level and bytes or a share of it: \"hbm 20%, dram 100GB\"" },
	{ "shared", KVT_OPTION_BOOL, 0, FIELD(shared), "no", 0, 0, NULL,
		"whether it and others that say so see each other's blocks" },
	{ "deadline", KVT_OPTION_TIME, 0, FIELD(deadline), "0s", 0, 9e6, NULL,
		"requests are refused when their first token is predicted to come later than "
		"that; 0s: none" },
	{ "queue", KVT_OPTION_INTEGER, 0, FIELD(queue), "0", 0, 4e9, NULL,
		"its requests that wait at a replica at most, others are refused; 0: any number" },
	{ "rate", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(rate), "0", 0, 1e9, NULL,
		"requests a second that it may ask for, others are refused; 0: any number" },
	{ "burst", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(burst), "1", 1, 1e9, NULL,
		"requests at once that its rate allows after a pause" },
	{ 0 },
};

const kvt_option kvt_qos_options[] = {
	{ "sharing", KVT_OPTION_CHOICE, 0, offsetof(kvt_qos_settings, sharing), "reserved", 0, 0,
		sharing_names,
		"fcfs: tenants are served as if they were one; fair: by class and weight; "
		"reserved: what is reserved before that" },
	{ "aging", KVT_OPTION_TIME, 0, offsetof(kvt_qos_settings, aging), "30s", 1e-6, 9e6, NULL,
		"who waits so long is served as of one class above, and so on" },
	{ 0 },
};

static gboolean quota_error(kvt_section *section, const char *part, GError **error)
{
	return kvt_section_error(section, "quotas", error,
		"\"%s\" is no quota, expected a level and bytes or a share, as in \"dram 20%%\"",
		part);
}

static gboolean read_quotas(kvt_section *section, kvt_tenant_settings *t, GError **error)
{
	if (t->quotas[0] == '\0')
		return TRUE;
	g_auto(GStrv) parts = g_strsplit(t->quotas, ",", -1);
	for (unsigned i = 0; parts[i]; i++) {
		char *part = g_strstrip(parts[i]), *space = strrchr(part, ' ');
		if (!space || t->n_quotas == KVT_QUOTAS_MAX)
			return quota_error(section, part, error);
		const char *amount = space + 1;
		gboolean share = g_str_has_suffix(amount, "%");
		double value;
		if (!kvt_unit_parse(
			    amount, share ? KVT_UNIT_SHARE : KVT_UNIT_BYTES, &value, NULL) ||
			!(value > 0) || value > (share ? 1 : 1e18))
			return quota_error(section, part, error);
		g_autofree char *level = g_strndup(part, (gsize)(space - part));
		kvt_quota *quota = &t->quota[t->n_quotas++];
		*(share ? &quota->share : &quota->bytes) = value;
		quota->level = g_strdup(g_strstrip(level));
	}
	return TRUE;
}

static gboolean read_tenant(kvt_section *section, kvt_tenant_settings *t, GError **error)
{
	if (!kvt_section_read(section, kvt_tenant_options, t, TRUE, error))
		return FALSE;
	for (unsigned i = 0; i < KVT_RESERVATIONS; i++)
		if (!kvt_section_text(section, reserve_keys[i]))
			t->reserved[i] = t->reserved[KVT_RESERVED_COMPUTE];
	if (t->generate > 0 && t->trace[0] == '\0')
		return kvt_section_error(section, "generate", error,
			"there is nothing to fit a model to, expected trace = FILE, too");
	return read_quotas(section, t, error);
}

/* Together they cannot promise more than there is. */
static gboolean check_reserved(
	kvt_config *config, const kvt_tenant_settings *tenants, unsigned n, GError **error)
{
	for (unsigned what = 0; what < KVT_RESERVATIONS; what++) {
		double sum = 0;
		for (unsigned i = 0; i < n; i++) {
			sum += tenants[i].reserved[what];
			if (sum <= 1 + 1e-9)
				continue;
			g_autofree char *name = g_strconcat("tenant ", tenants[i].name, NULL);
			return kvt_section_error(kvt_config_section(config, name),
				reserve_keys[what], error,
				"tenants reserve %.0f%% together, expected at most 100%%",
				100 * sum);
		}
	}
	return TRUE;
}

gboolean kvt_tenant_settings_read(
	kvt_config *config, kvt_tenant_settings **tenants, unsigned *n, GError **error)
{
	g_autofree const char **names = kvt_config_section_names(config, "tenant");
	unsigned count = 0;
	while (names[count])
		count++;
	*n = 0;
	*tenants = g_new0(kvt_tenant_settings, MAX(count, 1));
	for (unsigned i = 0; i < count; i++) {
		kvt_section *section = kvt_config_section(config, names[i]);
		const char *space = strchr(names[i], ' ');
		if (!space)
			return kvt_section_error(section, NULL, error,
				"has no name, expected a section [tenant NAME]");
		kvt_tenant_settings *t = &(*tenants)[(*n)++];
		t->name = space + 1;
		if (!read_tenant(section, t, error))
			return FALSE;
	}
	return check_reserved(config, *tenants, *n, error);
}

void kvt_tenant_settings_free(kvt_tenant_settings *tenants, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		kvt_option_clear(kvt_tenant_options, &tenants[i]);
		for (unsigned k = 0; k < tenants[i].n_quotas; k++)
			g_free(tenants[i].quota[k].level);
	}
	g_free(tenants);
}

uint64_t kvt_tenant_quota(const kvt_tenant_settings *tenant, const char *level, uint64_t capacity)
{
	for (unsigned i = 0; i < tenant->n_quotas; i++) {
		const kvt_quota *quota = &tenant->quota[i];
		if (strcmp(quota->level, level) != 0)
			continue;
		double bytes = quota->share > 0 ? quota->share * (double)capacity : quota->bytes;
		return MAX((uint64_t)bytes, 1);
	}
	return 0;
}
