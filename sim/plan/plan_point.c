/* plan_point.c: builds a point's fleet, raises what is to be raised, runs it, gathers figures. */
#include "sim/plan/plan_point.h"

#include <math.h>
#include <string.h>

const char *const kvt_plan_resource_names[KVT_PLAN_RESOURCES] = {
	[KVT_PLAN_GPU_COMPUTE] = "GPU compute",
	[KVT_PLAN_HBM_CAPACITY] = "HBM capacity",
	[KVT_PLAN_HBM_BANDWIDTH] = "HBM bandwidth",
	[KVT_PLAN_DRAM_CAPACITY] = "DRAM capacity",
	[KVT_PLAN_DRIVE_CAPACITY] = "drive capacity",
	[KVT_PLAN_DRIVE_READ] = "drive read",
	[KVT_PLAN_DRIVE_WRITE] = "drive write",
	[KVT_PLAN_NIC] = "NIC",
	[KVT_PLAN_PCIE] = "PCIe",
};

const char *const kvt_plan_resource_units[KVT_PLAN_RESOURCES] = {
	[KVT_PLAN_GPU_COMPUTE] = "FLOP/s a GPU",
	[KVT_PLAN_HBM_CAPACITY] = "B a GPU",
	[KVT_PLAN_HBM_BANDWIDTH] = "B/s a GPU",
	[KVT_PLAN_DRAM_CAPACITY] = "B a node",
	[KVT_PLAN_DRIVE_CAPACITY] = "B a node",
	[KVT_PLAN_DRIVE_READ] = "B/s a drive",
	[KVT_PLAN_DRIVE_WRITE] = "B/s a drive",
	[KVT_PLAN_NIC] = "B/s a node",
	[KVT_PLAN_PCIE] = "B/s a replica",
};

/* Raising a resource */

static void raise_drives(kvt_plan_point *p, const kvt_plan_job *job)
{
	for (unsigned i = 0; i < p->settings->n_tiers; i++) {
		kvt_tier_settings *tier = &p->settings->tiers[i];
		if (!tier->drive)
			continue;
		kvt_drive *drive = &p->drives[i];
		*drive = *tier->drive;
		tier->drive = drive;
		if (job->raise == KVT_PLAN_DRIVE_READ) {
			drive->read_bandwidth *= job->factor;
			drive->read_iops *= job->factor;
		} else {
			drive->write_bandwidth *= job->factor;
			drive->write_iops *= job->factor;
		}
	}
}

static void raise_tiers(kvt_plan_point *p, const kvt_plan_job *job)
{
	for (unsigned i = 0; i < p->settings->n_tiers; i++) {
		kvt_tier_settings *tier = &p->settings->tiers[i];
		bool drives = tier->drive != NULL;
		if (drives == (job->raise == KVT_PLAN_DRIVE_CAPACITY))
			tier->capacity = (uint64_t)((double)tier->capacity * job->factor);
	}
}

/* What has to be so before the fleet is put together. */
static void raise_settings(kvt_plan_point *p, const kvt_plan_job *job)
{
	switch (job->raise) {
	case KVT_PLAN_GPU_COMPUTE:
		p->settings->step.compute_speed *= job->factor;
		break;
	case KVT_PLAN_HBM_BANDWIDTH:
		p->settings->step.memory_speed *= job->factor;
		break;
	case KVT_PLAN_HBM_CAPACITY:
		p->gpu = *p->settings->experiment->gpu;
		p->gpu.memory = (uint64_t)((double)p->gpu.memory * job->factor);
		p->settings->experiment->gpu = &p->gpu;
		break;
	case KVT_PLAN_DRAM_CAPACITY:
	case KVT_PLAN_DRIVE_CAPACITY:
		raise_tiers(p, job);
		break;
	case KVT_PLAN_DRIVE_READ:
	case KVT_PLAN_DRIVE_WRITE:
		raise_drives(p, job);
		break;
	default:
		break;
	}
}

/* Links that are a NIC's or PCIe's, as fleet_links.h names them. */
static bool link_is(const kvt_fleet_link *link, int resource)
{
	return (resource == KVT_PLAN_NIC && strstr(link->name, " nic ")) ||
	       (resource == KVT_PLAN_PCIE && strstr(link->name, " pcie "));
}

static void raise_links(kvt_plan_point *p, const kvt_plan_job *job)
{
	unsigned n;
	const kvt_fleet_link *links = kvt_fleet_links_list(p->fleet->links, &n);
	for (unsigned i = 0; i < n; i++)
		if (link_is(&links[i], job->raise))
			kvt_network_set_rate(
				p->fleet->network, links[i].link, links[i].rate * job->factor);
}

gboolean kvt_plan_point_open(
	const kvt_plan_settings *s, const kvt_plan_job *job, kvt_plan_point *p, GError **error)
{
	const kvt_plan_shape *shape = &g_array_index(s->shapes, kvt_plan_shape, job->shape);
	*p = (kvt_plan_point){ 0 };
	p->settings =
		kvt_plan_settings_fleet(s, shape, job->replicas, job->change, &p->prices, error);
	if (!p->settings)
		return FALSE;
	if (job->requests > 0)
		p->settings->requests = job->requests;
	raise_settings(p, job);
	p->fleet = kvt_fleet_new(p->settings, s->trace, error);
	if (!p->fleet)
		return FALSE;
	raise_links(p, job);
	return TRUE;
}

void kvt_plan_point_close(kvt_plan_point *p)
{
	kvt_fleet_free(p->fleet);
	kvt_fleet_settings_free(p->settings);
	*p = (kvt_plan_point){ 0 };
}

/* Figures */

static void count_machines(const kvt_fleet *fleet, kvt_plan_figures *f)
{
	const kvt_fleet_settings *s = fleet->settings;
	const kvt_experiment *e = s->experiment;
	f->gpus = (double)e->ranks * fleet->n_replicas;
	f->nodes = fleet->n_nodes;
	f->nics = (double)e->nics * fleet->n_nodes;
	f->amount[KVT_PLAN_GPU_COMPUTE] = kvt_gpu_flops(e->gpu, KVT_DTYPE_BF16);
	f->amount[KVT_PLAN_HBM_CAPACITY] = (double)e->gpu->memory;
	f->amount[KVT_PLAN_HBM_BANDWIDTH] = e->gpu->memory_bandwidth;
	for (unsigned i = 0; i < s->n_tiers; i++) {
		const kvt_tier_settings *tier = &s->tiers[i];
		bool remote =
			tier->kind == KVT_FLEET_REMOTE_DRAM || tier->kind == KVT_FLEET_REMOTE_NVME;
		double places = remote ? 1 : fleet->n_nodes, capacity = (double)tier->capacity;
		f->drives += tier->drive ? places * (double)tier->drives : 0;
		f->dram_gb += tier->drive ? 0 : places * capacity * 1e-9;
		f->amount[tier->drive ? KVT_PLAN_DRIVE_CAPACITY : KVT_PLAN_DRAM_CAPACITY] +=
			capacity;
		if (tier->drive) {
			f->amount[KVT_PLAN_DRIVE_READ] = tier->drive->read_bandwidth;
			f->amount[KVT_PLAN_DRIVE_WRITE] = tier->drive->write_bandwidth;
		}
	}
}

static void add_links(const kvt_fleet *fleet, kvt_plan_figures *f)
{
	unsigned n;
	const kvt_fleet_link *links = kvt_fleet_links_list(fleet->links, &n);
	for (unsigned i = 0; i < n; i++) {
		for (int r = KVT_PLAN_NIC; r <= KVT_PLAN_PCIE; r++) {
			if (!link_is(&links[i], r))
				continue;
			kvt_link_stats stats =
				kvt_network_link_stats(fleet->network, links[i].link);
			f->amount[r] = stats.bytes_per_second;
			f->used[r] += stats.bytes;
		}
	}
	f->used[KVT_PLAN_GPU_COMPUTE] = f->used[KVT_PLAN_HBM_BANDWIDTH] = 1;
	f->used[KVT_PLAN_HBM_CAPACITY] = 1;
}

/* Bytes into and out of drives and DRAM, and the wear of the drives most written to. */
static void add_moves(const kvt_plan_settings *plan, const kvt_plan_point *p, kvt_plan_figures *f)
{
	const kvt_fleet *fleet = p->fleet;
	const kvt_fleet_settings *s = fleet->settings;
	f->life_years = NAN;
	for (unsigned level = 1; level <= s->n_tiers; level++) {
		const kvt_tier_settings *tier = &s->tiers[level - 1];
		double in = 0, out = 0;
		for (unsigned other = 0; other <= s->n_tiers; other++) {
			in += (double)kvt_fleet_transfers_moved(fleet->transfers, other, level);
			out += (double)kvt_fleet_transfers_moved(fleet->transfers, level, other);
		}
		if (!tier->drive) {
			f->used[KVT_PLAN_DRAM_CAPACITY] += in + out;
			continue;
		}
		f->used[KVT_PLAN_DRIVE_CAPACITY] += in + out;
		f->used[KVT_PLAN_DRIVE_READ] += out;
		f->used[KVT_PLAN_DRIVE_WRITE] += in;
		double places = tier->kind == KVT_FLEET_REMOTE_NVME ? 1 : fleet->n_nodes;
		const kvt_drive_use use = { .bytes = in,
			.seconds = f->duration,
			.drives = (double)tier->drives * places,
			.capacity = (double)tier->drive->capacity,
			.compression = tier->compression,
			.amplification = plan->write_amplification,
			.share = p->prices.value[KVT_PRICE_UTILISATION],
			.endurance = tier->drive->endurance,
			.warranty = p->prices.value[KVT_PRICE_WARRANTY] };
		kvt_drive_wear wear = kvt_drive_wear_of(&use);
		if (wear.dwpd >= f->dwpd) {
			f->dwpd = wear.dwpd;
			f->life_years = wear.years;
		}
	}
}

static void add_energy(const kvt_fleet *fleet, const kvt_fleet_figures *from, kvt_plan_figures *f)
{
	const kvt_experiment *e = fleet->settings->experiment;
	double busy = kvt_time_to_seconds(from->replicas.busy) * (double)e->ranks;
	f->joules = from->joules;
	f->gpu_idle_joules = f->gpus * e->gpu->power_idle * f->duration;
	f->gpu_busy_joules = (e->gpu->power - e->gpu->power_idle) * busy;
	f->host_joules = f->nodes * e->host->power_idle * f->duration;
	f->nic_joules = f->nics * e->nic->power * f->duration;
	f->drive_joules = f->joules - f->gpu_idle_joules - f->gpu_busy_joules - f->host_joules -
			  f->nic_joules;
}

gboolean kvt_plan_point_run(
	const kvt_plan_settings *s, const kvt_plan_job *job, kvt_plan_figures *f, GError **error)
{
	g_auto(kvt_plan_point) p = { 0 };
	if (!kvt_plan_point_open(s, job, &p, error) || !kvt_fleet_run(p.fleet, error))
		return FALSE;
	g_autoptr(kvt_fleet_figures) from = kvt_fleet_figures_new(p.fleet);
	const kvt_service_figures *all = &from->all;
	double requests = (double)MAX(all->requests, 1);
	*f = (kvt_plan_figures){ .p50_ttft = all->ttft.p50,
		/* of nothing served nothing is fast */
		.p95_ttft = all->served > 0 ? all->ttft.p95 : INFINITY,
		.p99_ttft = all->ttft.p99,
		.p95_tpot = all->tpot.p95,
		.goodput = all->goodput,
		.goodput_share = all->goodput_share,
		.refused_share = (double)all->refused / requests,
		.duration = from->duration,
		.mtokens = (double)from->replicas.output_tokens * 1e-6,
		.cost = from->duration > 0 ? from->cost / from->duration * 3600 : NAN,
		.cost_per_mtoken = from->cost_per_mtoken,
		.joules_per_mtoken = from->joules_per_mtoken };
	count_machines(p.fleet, f);
	add_links(p.fleet, f);
	add_moves(s, &p, f);
	add_energy(p.fleet, from, f);
	return TRUE;
}

bool kvt_plan_meets(const kvt_plan_settings *s, const kvt_plan_figures *f)
{
	return f->p95_ttft <= kvt_time_to_seconds(s->ttft) &&
	       (s->tpot == 0 || f->p95_tpot <= kvt_time_to_seconds(s->tpot)) &&
	       f->goodput_share >= s->share && f->refused_share <= s->refused;
}

kvt_price_bill kvt_plan_bill(const kvt_plan_figures *f)
{
	return (kvt_price_bill){ .gpus = f->gpus,
		.nodes = f->nodes,
		.dram_gb = f->dram_gb,
		.drives = f->drives,
		.nics = f->nics,
		.watts = f->duration > 0 ? f->joules / f->duration : 0 };
}
