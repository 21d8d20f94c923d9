/* link_shares.c: a tenant's flows, and what is a flow's part of the tenant's share. */
#include "sim/fleet/link_shares.h"

#include <math.h>

typedef struct tenant_flow {
	kvt_flow flow;
	kvt_link path[KVT_PATH_MAX];
	double cost[KVT_PATH_MAX];
	unsigned n;
} tenant_flow;

struct kvt_link_shares {
	kvt_network *network;
	const kvt_tenant_settings *const *tenants;
	unsigned n_tenants, n_links;
	int sharing;
	double *rate;    /* [n_links], bytes/s */
	GArray **flows;  /* [n_tenants], tenant_flow */
	uint32_t *count; /* [n_tenants x n_links], flows there */
	uint64_t *bytes; /* the same, of those that have ended */
};

kvt_link_shares *kvt_link_shares_new(kvt_network *network,
	const kvt_tenant_settings *const *tenants, unsigned n_tenants, int sharing)
{
	kvt_link_shares *s = g_new0(kvt_link_shares, 1);
	s->network = network;
	s->tenants = tenants;
	s->n_tenants = n_tenants;
	s->n_links = kvt_network_n_links(network);
	s->sharing = sharing;
	s->rate = g_new(double, s->n_links);
	for (unsigned i = 0; i < s->n_links; i++)
		s->rate[i] = kvt_network_link_stats(network, i).bytes_per_second;
	s->flows = g_new(GArray *, n_tenants);
	for (unsigned i = 0; i < n_tenants; i++)
		s->flows[i] = g_array_new(FALSE, FALSE, sizeof(tenant_flow));
	s->count = g_new0(uint32_t, (size_t)n_tenants * s->n_links);
	s->bytes = g_new0(uint64_t, (size_t)n_tenants * s->n_links);
	return s;
}

void kvt_link_shares_free(kvt_link_shares *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->n_tenants; i++)
		g_array_unref(s->flows[i]);
	g_free(s->flows);
	g_free(s->rate);
	g_free(s->count);
	g_free(s->bytes);
	g_free(s);
}

unsigned kvt_link_shares_class(const kvt_link_shares *s, uint32_t tenant)
{
	return s->sharing == KVT_SHARING_FCFS ? 0 : (unsigned)s->tenants[tenant]->priority;
}

/* Of the link where the flow has least of it. */
static void set_share(kvt_link_shares *s, uint32_t tenant, const tenant_flow *f)
{
	const kvt_tenant_settings *t = s->tenants[tenant];
	double reserve = s->sharing == KVT_SHARING_RESERVED ? t->reserved[KVT_RESERVED_LINKS] : 0;
	double rate = INFINITY;
	uint32_t most = 1;
	for (unsigned i = 0; i < f->n; i++) {
		uint32_t count = s->count[tenant * s->n_links + f->path[i]];
		rate = MIN(rate, reserve * s->rate[f->path[i]] / (f->cost[i] * count));
		most = MAX(most, count);
	}
	kvt_network_set_share(
		s->network, f->flow, t->weight / most, f->n > 0 && reserve > 0 ? rate : 0);
}

static void change(kvt_link_shares *s, uint32_t tenant, const tenant_flow *of, int by)
{
	for (unsigned i = 0; i < of->n; i++)
		s->count[tenant * s->n_links + of->path[i]] += (uint32_t)by;
	if (s->sharing == KVT_SHARING_FCFS)
		return;
	const GArray *flows = s->flows[tenant];
	for (guint i = 0; i < flows->len; i++)
		set_share(s, tenant, &g_array_index(flows, tenant_flow, i));
}

void kvt_link_shares_add(
	kvt_link_shares *s, uint32_t tenant, kvt_flow flow, const kvt_flow_spec *spec)
{
	tenant_flow f = { .flow = flow, .n = spec->path_length };
	for (unsigned i = 0; i < f.n; i++) {
		f.path[i] = spec->path[i];
		f.cost[i] = spec->cost[i] > 0 ? spec->cost[i] : 1;
	}
	g_array_append_val(s->flows[tenant], f);
	change(s, tenant, &f, 1);
}

void kvt_link_shares_remove(kvt_link_shares *s, uint32_t tenant, kvt_flow flow, uint64_t bytes)
{
	GArray *flows = s->flows[tenant];
	guint at = 0;
	while (g_array_index(flows, tenant_flow, at).flow != flow)
		g_assert(++at < flows->len);
	const tenant_flow f = g_array_index(flows, tenant_flow, at);
	g_array_remove_index(flows, at);
	for (unsigned i = 0; i < f.n; i++)
		s->bytes[tenant * s->n_links + f.path[i]] += bytes;
	change(s, tenant, &f, -1);
}

uint64_t kvt_link_shares_bytes(const kvt_link_shares *s, uint32_t tenant, kvt_link link)
{
	return s->bytes[tenant * s->n_links + link];
}
