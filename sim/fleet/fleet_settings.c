/* fleet_settings.c: reads fleet files by option tables and loads the models they name. */
#include "sim/fleet/fleet_settings.h"

#include <stddef.h>
#include <string.h>

#include "sim/base/datadir.h"
#include "sim/base/error.h"
#include "sim/cache/policy.h"

#define FIELD(name) offsetof(kvt_fleet_settings, name)
#define TIER_FIELD(name) offsetof(kvt_tier_settings, name)

static const char *const routing_names[] = { "round-robin", "least-loaded", "cache-affinity",
	NULL };
static const char *const loop_names[] = { "open", "closed", NULL };
static const char *const preemption_names[] = { "recompute", "swap", NULL };
static const char *const reload_names[] = { "load", "recompute", "auto", NULL };
const char *const kvt_fleet_tier_kind_names[] = { "dram", "nvme", "remote-dram", "remote-nvme",
	"cxl", NULL };
static const char *const scope_names[] = { "node", "pool", NULL };
static const char *const placement_names[] = { "hash", "writer", NULL };
const char *const kvt_fleet_shared_sections[] = { "model", "gpu", "host", "fabric", NULL };

static const kvt_option fleet_options[] = {
	{ "title", KVT_OPTION_STRING, 0, FIELD(title), "", 0, 0, NULL, "what the run shows" },
	{ "seed", KVT_OPTION_INTEGER, 0, FIELD(seed), "1", 0, 9.2e18, NULL,
		"of all random streams" },
	{ "replicas", KVT_OPTION_INTEGER, 0, FIELD(replicas), "1", 1, 4096, NULL,
		"tensor-parallel groups of [gpu] count GPUs, each with the whole model" },
	{ "replicas_a_node", KVT_OPTION_INTEGER, 0, FIELD(replicas_a_node), "1", 1, 64, NULL,
		"of them in one host, whose DRAM, drives and NICs they share" },
	{ "routing", KVT_OPTION_CHOICE, 0, FIELD(routing), "cache-affinity", 0, 0, routing_names,
		"which replica a request goes to" },
	{ "affinity_slack", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(affinity_slack), "2", 0, 1e9,
		NULL,
		"cache-affinity: prompt tokens that may wait more than elsewhere for each token "
		"that is there" },
	{ "migration", KVT_OPTION_BOOL, 0, FIELD(migration), "no", 0, 0, NULL,
		"whether a session that goes to another replica brings its KV from the one where "
		"it was, over NICs where that is another node" },
	{ "give_up", KVT_OPTION_TIME, 0, FIELD(give_up), "24h", 0, 9e6, NULL,
		"the run is an error when nothing has ended for so long while requests wait" },
	{ 0 },
};

static const kvt_option traffic_options[] = {
	{ "trace", KVT_OPTION_STRING, 0, FIELD(trace), "", 0, 0, NULL,
		"request trace: a compact file, or any source that a reader knows; only tenants "
		"that have traces of their own can do without" },
	{ "loop", KVT_OPTION_CHOICE, 0, FIELD(loop), "open", 0, 0, loop_names,
		"open: requests come when the trace says; closed: `think` after what they wait "
		"for has ended" },
	{ "rate_scale", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(rate_scale), "1", 1e-6, 1e6, NULL,
		"how many times faster requests come than in the trace" },
	{ "think_scale", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(think_scale), "1", 0, 1e6, NULL,
		"closed: how many times longer users think than in the trace" },
	{ "users", KVT_OPTION_INTEGER, 0, FIELD(users), "0", 0, 1e9, NULL,
		"closed: sessions at a time, each user taking the next one of the trace when its "
		"own has ended; 0: each session begins when the trace says" },
	{ "requests", KVT_OPTION_INTEGER, 0, FIELD(requests), "0", 0, 4e9, NULL,
		"of the trace, the first so many; 0: all" },
	{ "warm_up", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, FIELD(warm_up), "0%", 0, 0.99, NULL,
		"share of the requests, the first ones, that latencies and hit rates leave out" },
	{ 0 },
};

static const kvt_option scheduler_options[] = {
	{ "token_budget", KVT_OPTION_INTEGER, 0, FIELD(token_budget), "8192", 1, 131072, NULL,
		"tokens of one step, prompt tokens and generated ones together" },
	{ "chunk_tokens", KVT_OPTION_INTEGER, 0, FIELD(chunk_tokens), "8192", 1, 131072, NULL,
		"prompt tokens of one sequence in one step at most" },
	{ "max_sequences", KVT_OPTION_INTEGER, 0, FIELD(max_sequences), "256", 1, 8192, NULL,
		"sequences that have room in HBM at a time" },
	{ "ahead", KVT_OPTION_INTEGER, 0, FIELD(ahead), "4", 1, 8192, NULL,
		"sequences with a prompt to compute that have room at a time: what the later "
		"ones load comes while earlier ones compute" },
	{ "preemption", KVT_OPTION_CHOICE, 0, FIELD(preemption), "recompute", 0, 0,
		preemption_names,
		"what becomes of the sequence that came last when HBM is full: computed again "
		"later, or swapped out" },
	{ 0 },
};

static const kvt_option cache_options[] = {
	{ "prefix_caching", KVT_OPTION_BOOL, 0, FIELD(prefix_caching), "yes", 0, 0, NULL,
		"whether KV outlives its request" },
	{ "policy", KVT_OPTION_STRING, 0, FIELD(policy), "lru", 0, 0, NULL,
		"which block leaves HBM; see kvtier help policy" },
	{ "reload", KVT_OPTION_CHOICE, 0, FIELD(reload), "load", 0, 0, reload_names,
		"what becomes of a prefix that is found below HBM" },
	{ "layerwise", KVT_OPTION_BOOL, 0, FIELD(layerwise), "yes", 0, 0, NULL,
		"whether a prompt's first chunk computes layer by layer as its prefix arrives; no: "
		"after all of it" },
	{ "write_through", KVT_OPTION_BOOL, 0, FIELD(write_through), "yes", 0, 0, NULL,
		"whether blocks are copied to the first tier when their request ends; no: when "
		"they leave HBM, which then waits for it" },
	{ "shared", KVT_OPTION_BOOL, 0, FIELD(shared), "no", 0, 0, NULL,
		"whether tenants see each other's blocks" },
	{ "block_tokens", KVT_OPTION_INTEGER, 0, FIELD(block_tokens), "64", 1, 65536, NULL,
		"tokens a block, where the trace does not say" },
	{ 0 },
};

static const kvt_option slo_options[] = {
	{ "ttft", KVT_OPTION_TIME, 0, FIELD(slo_ttft), "1s", 0, 9e6, NULL,
		"time to first token of a request that counts as goodput" },
	{ "tpot", KVT_OPTION_TIME, 0, FIELD(slo_tpot), "100ms", 0, 9e6, NULL,
		"time per output token after the first, mean of a request, of one that does" },
	{ "share", KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, FIELD(slo_share), "95%", 0, 1, NULL,
		"of all requests that must" },
	{ 0 },
};

static const kvt_option cost_options[] = {
	{ "gpu_hour", KVT_OPTION_QUANTITY, KVT_UNIT_MONEY, FIELD(gpu_hour), "2.5USD", 0, 1e6, NULL,
		"of one GPU, its power not counted" },
	{ "node_hour", KVT_OPTION_QUANTITY, KVT_UNIT_MONEY, FIELD(node_hour), "1USD", 0, 1e6, NULL,
		"of one host without GPUs, DRAM tiers and drives" },
	{ "dram_hour", KVT_OPTION_QUANTITY, KVT_UNIT_MONEY, FIELD(dram_hour), "0.2USD", 0, 1e6,
		NULL, "of a TB of DRAM that a tier has" },
	{ "drive_hour", KVT_OPTION_QUANTITY, KVT_UNIT_MONEY, FIELD(drive_hour), "0.05USD", 0, 1e6,
		NULL, "of one drive" },
	{ "kwh", KVT_OPTION_QUANTITY, KVT_UNIT_MONEY, FIELD(kwh), "0.1USD", 0, 1e6, NULL,
		"of a kWh of electricity" },
	{ "pue", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(pue), "1.3", 1, 10, NULL,
		"power that the building takes for each watt of its machines" },
	{ 0 },
};

static const kvt_option telemetry_options[] = {
	{ "period", KVT_OPTION_TIME, 0, FIELD(telemetry_period), "0s", 0, 9e6, NULL,
		"virtual time between two samples of queues, tiers and links; 0s: none are taken" },
	{ 0 },
};

static const kvt_option adapt_options[] = {
	{ "on", KVT_OPTION_BOOL, 0, FIELD(adapt_on), "no", 0, 0, NULL,
		"whether loads, what is loaded ahead and what falls to drives follow what links "
		"are "
		"busy with" },
	{ "period", KVT_OPTION_TIME, 0, FIELD(adapt_period), "100ms", 1e-6, 9e6, NULL,
		"virtual time between two looks" },
	{ "ahead_max", KVT_OPTION_INTEGER, 0, FIELD(adapt_ahead_max), "16", 1, 8192, NULL,
		"[scheduler] ahead is changed between 1 and this" },
	{ "high", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(adapt_high), "4", 1, 1e6, NULL,
		"drives that are so many times slower than idle ones take nothing that falls, and "
		"fewer prompts load ahead" },
	{ "low", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, FIELD(adapt_low), "2", 1, 1e6, NULL,
		"until they are so many times slower or less" },
	{ 0 },
};

const kvt_option kvt_fleet_tier_options[] = {
	{ "kind", KVT_OPTION_CHOICE, 0, TIER_FIELD(kind), NULL, 0, 0, kvt_fleet_tier_kind_names,
		"dram, nvme: each node's own; remote-dram, remote-nvme: of the storage targets, "
		"one for all nodes; cxl: memory behind a CXL port of each node" },
	{ "scope", KVT_OPTION_CHOICE, 0, TIER_FIELD(scope), "node", 0, 0, scope_names,
		"pool: what all nodes have is one cache; of dram and nvme, what lies in another "
		"node comes over both nodes' NICs, cxl is behind a switch, as near to all" },
	{ "placement", KVT_OPTION_CHOICE, 0, TIER_FIELD(placement), "hash", 0, 0, placement_names,
		"dram, nvme of scope = pool: hash: blocks lie where their names say; writer: in "
		"the node "
		"that writes them, as long as its share has room" },
	{ "bandwidth", KVT_OPTION_QUANTITY, KVT_UNIT_RATE, TIER_FIELD(bandwidth), "0B/s", 0, 1e15,
		NULL, "cxl: of a node's ports, reads and writes together" },
	{ "latency", KVT_OPTION_TIME, 0, TIER_FIELD(latency), "300ns", 0, 1, NULL,
		"cxl: of a load from it, its switch included" },
	{ "capacity", KVT_OPTION_BYTES, 0, TIER_FIELD(capacity), "0B", 0, 0, NULL,
		"bytes of KV, of each node where nodes have it; 0B: of drives, what they hold" },
	{ "policy", KVT_OPTION_STRING, 0, TIER_FIELD(policy), "lru", 0, 0, NULL,
		"which block leaves it; see kvtier help policy" },
	{ "drive", KVT_OPTION_STRING, 0, TIER_FIELD(drive_name), "micron-9550", 0, 0, NULL,
		"nvme: drive model, a name under models/drive or a path" },
	{ "drives", KVT_OPTION_INTEGER, 0, TIER_FIELD(drives), "8", 1, 100000, NULL,
		"nvme: drives that blocks are striped over, a node's; of remote-nvme all "
		"together" },
	{ "compression", KVT_OPTION_QUANTITY, KVT_UNIT_NONE, TIER_FIELD(compression), "1", 1, 16,
		NULL, "nvme: ratio that a compressing drive reaches on KV" },
	{ "io", KVT_OPTION_BYTES, 0, TIER_FIELD(io_bytes), "0B", 0, 1e12, NULL,
		"bytes of one read, write or copy; 0B: those of a block in one layer on one rank" },
	{ 0 },
};

static const kvt_fleet_section sections[] = {
	{ "fleet", "how many replicas, and which one a request goes to", fleet_options, 0 },
	{ "traffic", "what is asked, and when", traffic_options, 0 },
	{ "scheduler", "what a step of a replica is made of", scheduler_options, 0 },
	{ "cache", "which KV is kept, and how it comes back", cache_options, 0 },
	{ "step", "how long a step takes", kvt_step_options, FIELD(step) },
	{ "slo", "what was promised", slo_options, 0 },
	{ "qos", "how tenants share", kvt_qos_options, FIELD(qos) },
	{ "cost", "what it costs, in US dollars", cost_options, 0 },
	{ "telemetry", "what is seen of the run as it goes", telemetry_options, 0 },
	{ "adapt", "what follows what is seen", adapt_options, 0 },
	{ NULL, NULL, NULL, 0 },
};

const kvt_fleet_section *kvt_fleet_sections(void)
{
	return sections;
}

bool kvt_tier_settings_shared(const kvt_tier_settings *tier)
{
	return tier->kind == KVT_FLEET_REMOTE_DRAM || tier->kind == KVT_FLEET_REMOTE_NVME ||
	       (tier->kind == KVT_FLEET_CXL && tier->scope == KVT_SCOPE_POOL);
}

bool kvt_tier_settings_has_homes(const kvt_fleet_settings *s, const kvt_tier_settings *tier)
{
	return tier->scope == KVT_SCOPE_POOL && !kvt_tier_settings_shared(tier) &&
	       kvt_fleet_settings_nodes(s) > 1;
}

static gboolean needs_drives(int kind)
{
	return kind == KVT_FLEET_NVME || kind == KVT_FLEET_REMOTE_NVME;
}

static gboolean check_policy(const kvt_section *section, const char *name, GError **error)
{
	const kvt_policy_ops *policy = kvt_policy_find(name, NULL);
	if (!policy)
		return kvt_section_error(section, "policy", error,
			"there is no policy %s, see \"kvtier help policy\"", name);
	/* when a block is used next depends on what the fleet does until then */
	if (policy->needs_future)
		return kvt_section_error(section, "policy", error,
			"%s needs to know the future, expected a policy that does not", name);
	return TRUE;
}

static gboolean check_tier(
	const kvt_fleet_settings *s, kvt_section *section, kvt_tier_settings *tier, GError **error)
{
	const kvt_experiment *e = s->experiment;
	gboolean remote =
		tier->kind == KVT_FLEET_REMOTE_DRAM || tier->kind == KVT_FLEET_REMOTE_NVME;
	if (!check_policy(section, tier->policy, error))
		return FALSE;
	if (remote && (e->nics < 1 || e->targets < 1))
		return kvt_section_error(section, "kind", error,
			"the tier is remote, expected [fabric] nics >= 1 and targets >= 1");
	if (remote && tier->scope == KVT_SCOPE_POOL)
		return kvt_section_error(section, "scope", error,
			"a tier of the storage targets is one for all nodes, expected kind = dram, "
			"nvme or cxl");
	if (kvt_tier_settings_has_homes(s, tier) && e->nics < 1)
		return kvt_section_error(
			section, "scope", error, "nodes have no NIC, expected [fabric] nics >= 1");
	if (tier->kind == KVT_FLEET_CXL && tier->bandwidth <= 0)
		return kvt_section_error(section, "bandwidth", error,
			"is missing, expected bytes/s of a node's CXL ports");
	if (!needs_drives(tier->kind)) {
		if (tier->capacity == 0)
			return kvt_section_error(
				section, "capacity", error, "is missing, expected bytes of DRAM");
		return TRUE;
	}
	tier->drive = kvt_model_store_drive(e->models, tier->drive_name, error);
	if (!tier->drive)
		return FALSE;
	double most = tier->drive->compression ? tier->drive->compression_max : 1;
	if (tier->compression > most)
		return kvt_section_error(section, "compression", error,
			"is more than drive %s reaches, expected at most %g", tier->drive->name,
			most);
	double holds = (double)tier->drive->capacity * tier->compression * (double)tier->drives;
	if (tier->capacity == 0)
		tier->capacity = (uint64_t)holds;
	if ((double)tier->capacity > holds)
		return kvt_section_error(section, "capacity", error,
			"is more than %" G_GINT64_FORMAT " drives hold, expected at most %.0fB",
			tier->drives, holds);
	return TRUE;
}

/* What leaves a pool goes down beside whoever made it leave, who need not be near where it is asked
 * for next: it has to be found from everywhere. */
static gboolean check_below_pool(
	const kvt_fleet_settings *s, kvt_section *section, unsigned at, GError **error)
{
	gboolean everywhere = kvt_tier_settings_shared(&s->tiers[at]) ||
			      kvt_tier_settings_has_homes(s, &s->tiers[at]);
	for (unsigned i = 0; i < at && !everywhere && kvt_fleet_settings_nodes(s) > 1; i++)
		if (s->tiers[i].scope == KVT_SCOPE_POOL)
			return kvt_section_error(section, "scope", error,
				"is node below tier %s, which is a pool, expected pool",
				s->tiers[i].name);
	return TRUE;
}

static gboolean read_tiers(kvt_fleet_settings *s, GError **error)
{
	kvt_config *config = s->experiment->config;
	g_autofree const char **names = kvt_config_section_names(config, "tier");
	for (unsigned i = 0; names[i]; i++) {
		kvt_section *section = kvt_config_section(config, names[i]);
		if (s->n_tiers == KVT_FLEET_TIERS_MAX)
			return kvt_section_error(section, NULL, error,
				"a tier too many, expected at most %d", KVT_FLEET_TIERS_MAX);
		kvt_tier_settings *tier = &s->tiers[s->n_tiers];
		const char *space = strchr(names[i], ' ');
		if (!space)
			return kvt_section_error(section, NULL, error,
				"has no name, expected a section [tier NAME]");
		if (!kvt_section_read(section, kvt_fleet_tier_options, tier, TRUE, error))
			return FALSE;
		tier->name = space + 1;
		s->n_tiers++;
		if (!check_tier(s, section, tier, error) ||
			!check_below_pool(s, section, s->n_tiers - 1, error))
			return FALSE;
	}
	return TRUE;
}

static gboolean has_own_trace(const kvt_fleet_settings *s)
{
	for (unsigned i = 0; i < s->n_tenants; i++)
		if (s->tenants[i].active && s->tenants[i].trace[0] != '\0')
			return TRUE;
	return FALSE;
}

static gboolean is_level(const kvt_fleet_settings *s, const char *name)
{
	if (g_str_equal(name, "hbm"))
		return TRUE;
	for (unsigned i = 0; i < s->n_tiers; i++)
		if (g_str_equal(name, s->tiers[i].name))
			return TRUE;
	return FALSE;
}

static gboolean check_quotas(const kvt_fleet_settings *s, GError **error)
{
	for (unsigned i = 0; i < s->n_tenants; i++) {
		const kvt_tenant_settings *tenant = &s->tenants[i];
		g_autofree char *name = g_strconcat("tenant ", tenant->name, NULL);
		for (unsigned k = 0; k < tenant->n_quotas; k++)
			if (!is_level(s, tenant->quota[k].level))
				return kvt_section_error(
					kvt_config_section(s->experiment->config, name), "quotas",
					error, "there is no tier %s, expected hbm or a [tier NAME]",
					tenant->quota[k].level);
	}
	return TRUE;
}

static gboolean check(const kvt_fleet_settings *s, GError **error)
{
	kvt_config *config = s->experiment->config;
	kvt_section *traffic = kvt_config_section_or_empty(config, "traffic");
	if (*s->trace == '\0' && !has_own_trace(s))
		return kvt_section_error(traffic, "trace", error,
			kvt_section_text(traffic, "trace")
				? "is empty, expected the path of a request trace"
				: "the key is missing, expected text");
	if (!check_policy(kvt_config_section_or_empty(config, "cache"), s->policy, error))
		return FALSE;
	if (s->migration && kvt_fleet_settings_nodes(s) > 1 && s->experiment->nics < 1)
		return kvt_section_error(kvt_config_section(config, "fleet"), "migration", error,
			"nodes have no NIC, expected [fabric] nics >= 1");
	if (s->adapt_low > s->adapt_high)
		return kvt_section_error(kvt_config_section(config, "adapt"), "low", error,
			"is above high, expected at most %g", s->adapt_high);
	if (s->users > 0 && s->loop != KVT_LOOP_CLOSED)
		return kvt_section_error(kvt_config_section(config, "traffic"), "users", error,
			"users take turns in a closed loop only, expected loop = closed");
	if (s->max_sequences > s->token_budget)
		return kvt_section_error(kvt_config_section(config, "scheduler"), "max_sequences",
			error,
			"each sequence generates a token a step, expected at most token_budget, "
			"%" G_GINT64_FORMAT,
			s->token_budget);
	return TRUE;
}

/* Sections that others read: where settings are from. */
static gboolean check_used(kvt_config *config, GError **error)
{
	g_autoptr(GPtrArray) known = g_ptr_array_new();
	for (const kvt_fleet_section *s = sections; s->name; s++)
		g_ptr_array_add(known, (gpointer)s->name);
	for (unsigned i = 0; kvt_fleet_shared_sections[i]; i++)
		g_ptr_array_add(known, (gpointer)kvt_fleet_shared_sections[i]);
	g_ptr_array_add(known, (gpointer) "tier NAME");
	g_ptr_array_add(known, (gpointer) "tenant NAME");
	g_ptr_array_add(known, (gpointer) "sources");
	g_ptr_array_add(known, NULL);
	kvt_config_remove(config, "sweep"); /* what a sweep varies is none of a run's matter */
	kvt_section *sources = kvt_config_section(config, "sources");
	if (sources) {
		g_autofree const char **keys = kvt_section_keys(sources);
		for (unsigned k = 0; keys[k]; k++)
			kvt_section_text(sources, keys[k]);
	}
	return kvt_config_check_used(config, (const char *const *)known->pdata, error);
}

static gboolean read_sections(kvt_fleet_settings *s, GError **error)
{
	kvt_config *config = s->experiment->config;
	for (const kvt_fleet_section *part = sections; part->name; part++)
		if (!kvt_section_read(kvt_config_section_or_empty(config, part->name),
			    part->options, (char *)s + part->offset, TRUE, error))
			return FALSE;
	return read_tiers(s, error) &&
	       kvt_tenant_settings_read(config, &s->tenants, &s->n_tenants, error) &&
	       check_used(config, error) && check(s, error) && check_quotas(s, error);
}

kvt_fleet_settings *kvt_fleet_settings_new(
	kvt_config *config, kvt_model_store *models, GError **error)
{
	kvt_experiment *experiment =
		kvt_experiment_new_parts(config, kvt_fleet_shared_sections, models, error);
	if (!experiment)
		return NULL;
	kvt_fleet_settings *s = g_new0(kvt_fleet_settings, 1);
	s->experiment = experiment;
	if (!read_sections(s, error)) {
		kvt_fleet_settings_free(s);
		return NULL;
	}
	return s;
}

kvt_fleet_settings *kvt_fleet_settings_load(
	const char *path, const char *const *overrides, GError **error)
{
	kvt_config *config = kvt_config_load(path, error);
	if (!config)
		return NULL;
	for (unsigned i = 0; overrides && overrides[i]; i++) {
		if (!kvt_config_set(config, overrides[i], error)) {
			kvt_config_free(config);
			return NULL;
		}
	}
	return kvt_fleet_settings_new(config, NULL, error);
}

void kvt_fleet_settings_free(kvt_fleet_settings *s)
{
	if (!s)
		return;
	for (const kvt_fleet_section *part = sections; part->name; part++)
		kvt_option_clear(part->options, (char *)s + part->offset);
	for (unsigned i = 0; i < G_N_ELEMENTS(s->tiers); i++)
		kvt_option_clear(kvt_fleet_tier_options, &s->tiers[i]);
	kvt_tenant_settings_free(s->tenants, s->n_tenants);
	kvt_experiment_free(s->experiment);
	g_free(s);
}

const kvt_tenant_settings *kvt_fleet_settings_tenant(const kvt_fleet_settings *s, const char *name)
{
	for (unsigned i = 0; i < s->n_tenants; i++)
		if (g_str_equal(s->tenants[i].name, name))
			return &s->tenants[i];
	return NULL;
}

char *kvt_fleet_settings_trace_path(const kvt_fleet_settings *s)
{
	return kvt_experiment_find_file(s->experiment, s->trace, "traces/samples");
}

unsigned kvt_fleet_settings_nodes(const kvt_fleet_settings *s)
{
	return (unsigned)((s->replicas + s->replicas_a_node - 1) / s->replicas_a_node);
}
