/* tenant_report.c: shares of time and bytes, tenant by tenant. */
#include "sim/fleet/tenant_report.h"

#include "sim/base/output.h"
#include "sim/fleet/fair_share.h"

static double gpu_seconds(const kvt_fleet *fleet, uint32_t tenant)
{
	double sum = 0;
	for (unsigned i = 0; i < fleet->n_replicas; i++)
		sum += kvt_time_to_seconds(kvt_replica_tenant_time(fleet->replicas[i], tenant));
	return sum;
}

static double link_bytes(const kvt_fleet *fleet, uint32_t tenant, kvt_link link)
{
	return (double)kvt_link_shares_bytes(fleet->link_shares, tenant, link);
}

static double share(double part, double all)
{
	return all > 0 ? part / all : 0;
}

/* By link, where anything moved at all. */
static json_t *links(const kvt_fleet *fleet, uint32_t tenant, double *total)
{
	json_t *object = json_object();
	double own = 0, sum = 0;
	unsigned n;
	const kvt_fleet_link *list = kvt_fleet_links_list(fleet->links, &n);
	for (unsigned i = 0; i < n; i++) {
		double all = 0, bytes = link_bytes(fleet, tenant, list[i].link);
		for (uint32_t t = 0; t < fleet->trace->n_tenants; t++)
			all += link_bytes(fleet, t, list[i].link);
		if (all <= 0)
			continue;
		json_object_set_new(object, list[i].name, kvt_json_real(bytes / all));
		own += bytes;
		sum += all;
	}
	*total = share(own, sum);
	return object;
}

void kvt_tenant_report_add(
	json_t *object, const kvt_fleet *fleet, const kvt_fleet_figures *f, uint32_t tenant)
{
	const kvt_tenant_settings *t = fleet->tenants[tenant];
	json_t *refused = json_object();
	for (unsigned i = 1; i < KVT_REFUSALS; i++)
		json_object_set_new(refused, kvt_refusal_names[i],
			json_integer((json_int_t)f->tenants[tenant].refused_by[i]));
	double busy = kvt_time_to_seconds(f->replicas.busy), total;
	json_t *by_link = links(fleet, tenant, &total);
	json_object_set_new(object, "refused", refused);
	json_object_set_new(object, "class", json_integer(t->priority));
	json_object_set_new(object, "weight", kvt_json_real(t->weight));
	json_object_set_new(object, "reserve", kvt_json_real(t->reserved[KVT_RESERVED_COMPUTE]));
	json_object_set_new(
		object, "gpu_share", kvt_json_real(share(gpu_seconds(fleet, tenant), busy)));
	json_object_set_new(object, "link_share", kvt_json_real(total));
	json_object_set_new(object, "link_shares", by_link);
}

json_t *kvt_tenant_report_fairness(const kvt_fleet *fleet, const kvt_fleet_figures *f)
{
	g_autofree double *gpu = g_new(double, f->n_tenants);
	g_autofree double *good = g_new(double, f->n_tenants);
	for (unsigned i = 0; i < f->n_tenants; i++) {
		gpu[i] = gpu_seconds(fleet, i) / fleet->tenants[i]->weight;
		good[i] = f->tenants[i].goodput_share;
	}
	json_t *object = json_object();
	json_object_set_new(object, "gpu", kvt_json_real(kvt_jain_index(gpu, f->n_tenants)));
	json_object_set_new(object, "goodput", kvt_json_real(kvt_jain_index(good, f->n_tenants)));
	return object;
}
