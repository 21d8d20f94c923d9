/* fleet_figures.c: sums and percentiles over what became of requests; power and prices. */
#include "sim/fleet/fleet_figures.h"

#include <math.h>
#include <stdlib.h>

static int compare_times(const void *a, const void *b)
{
	kvt_time x = *(const kvt_time *)a, y = *(const kvt_time *)b;
	return (x > y) - (x < y);
}

static double rank(const kvt_time *times, uint64_t count, double share)
{
	uint64_t at = (uint64_t)ceil(share * (double)count);
	return kvt_time_to_seconds(times[MAX(at, 1) - 1]);
}

kvt_percentiles kvt_percentiles_of(kvt_time *times, uint64_t count)
{
	kvt_percentiles p = { .count = count };
	if (count == 0)
		return p;
	qsort(times, count, sizeof(*times), compare_times);
	double sum = 0;
	for (uint64_t i = 0; i < count; i++)
		sum += (double)times[i];
	p.mean = sum / (double)count * 1e-12;
	p.p50 = rank(times, count, 0.5);
	p.p95 = rank(times, count, 0.95);
	p.p99 = rank(times, count, 0.99);
	p.p999 = rank(times, count, 0.999);
	p.max = kvt_time_to_seconds(times[count - 1]);
	return p;
}

static kvt_time ttft_of(const kvt_request_outcome *o)
{
	return kvt_request_outcome_ttft(o);
}

static kvt_time tpot_of(const kvt_request_outcome *o)
{
	return o->generated < 2 ? -1 : kvt_request_outcome_tpot(o);
}

static kvt_time e2e_of(const kvt_request_outcome *o)
{
	return o->ended - o->arrival;
}

static kvt_time queueing_of(const kvt_request_outcome *o)
{
	return o->admitted - o->arrival;
}

enum { ALL_TENANTS = -1 };

/* Which requests count. */
typedef struct selection {
	const kvt_fleet *fleet;
	uint32_t first; /* behind the warm-up */
	int64_t tenant;
} selection;

static const kvt_request_outcome *selected(const selection *s, uint32_t request)
{
	const kvt_request *q = &s->fleet->trace->requests[request];
	if (s->tenant != ALL_TENANTS && q->tenant != (uint32_t)s->tenant)
		return NULL;
	return &s->fleet->outcomes[request];
}

static kvt_percentiles percentiles(
	const selection *s, kvt_time *scratch, kvt_time (*of)(const kvt_request_outcome *))
{
	uint64_t n = 0;
	for (uint32_t i = s->first; i < s->fleet->n_requests; i++) {
		const kvt_request_outcome *o = selected(s, i);
		if (!o || !kvt_request_outcome_served(o))
			continue;
		kvt_time time = of(o);
		if (time >= 0)
			scratch[n++] = time;
	}
	return kvt_percentiles_of(scratch, n);
}

static bool is_good(const kvt_fleet_settings *settings, const kvt_request_outcome *o)
{
	return kvt_request_outcome_served(o) && kvt_request_outcome_ttft(o) <= settings->slo_ttft &&
	       kvt_request_outcome_tpot(o) <= settings->slo_tpot;
}

static void add_hits(kvt_service_figures *f, const kvt_request_outcome *o)
{
	f->lookup_blocks += o->lookup_blocks;
	for (unsigned level = 0; level < KVT_KV_LEVELS; level++)
		f->hit_blocks[level] += o->hit_blocks[level];
}

static kvt_service_figures service(const selection *s, kvt_time *scratch)
{
	const kvt_fleet *fleet = s->fleet;
	kvt_service_figures f = { 0 };
	kvt_time first = KVT_TIME_NEVER;
	double hit_tokens = 0;
	for (uint32_t i = s->first; i < fleet->n_requests; i++) {
		const kvt_request_outcome *o = selected(s, i);
		if (!o)
			continue;
		first = MIN(first, o->arrival);
		f.requests++;
		f.good += is_good(fleet->settings, o);
		if (!kvt_request_outcome_served(o)) {
			f.refused++;
			f.refused_by[o->refusal]++;
			continue;
		}
		f.served++;
		f.prompt_tokens += fleet->trace->requests[i].input_tokens;
		f.output_tokens += o->generated;
		hit_tokens += (double)o->hit_tokens;
		add_hits(&f, o);
	}
	f.ttft = percentiles(s, scratch, ttft_of);
	f.tpot = percentiles(s, scratch, tpot_of);
	f.e2e = percentiles(s, scratch, e2e_of);
	f.queueing = percentiles(s, scratch, queueing_of);
	if (f.requests > 0 && fleet->end > first)
		f.goodput = (double)f.good / kvt_time_to_seconds(fleet->end - first);
	f.goodput_share = f.requests > 0 ? (double)f.good / (double)f.requests : 0;
	f.hit_tokens_share = f.prompt_tokens > 0 ? hit_tokens / f.prompt_tokens : 0;
	for (unsigned level = 0; level < KVT_KV_LEVELS && f.lookup_blocks > 0; level++) {
		f.hit_rate[level] = (double)f.hit_blocks[level] / (double)f.lookup_blocks;
		f.hit_rate_all += f.hit_rate[level];
	}
	return f;
}

static void add_replicas(const kvt_fleet *fleet, kvt_fleet_figures *f, kvt_histogram *gaps)
{
	kvt_replica_stats *sum = &f->replicas;
	kvt_histogram_init(gaps);
	for (unsigned i = 0; i < fleet->n_replicas; i++) {
		const kvt_replica_stats *s = kvt_replica_get_stats(fleet->replicas[i]);
		sum->steps += s->steps;
		sum->prompt_tokens += s->prompt_tokens;
		sum->output_tokens += s->output_tokens;
		sum->recomputed_tokens += s->recomputed_tokens;
		sum->preemptions += s->preemptions;
		sum->swaps += s->swaps;
		sum->busy += s->busy;
		sum->stall += s->stall;
		sum->running_time += s->running_time;
		sum->running_max = MAX(sum->running_max, s->running_max);
		sum->waiting_max = MAX(sum->waiting_max, s->waiting_max);
		kvt_histogram_merge(gaps, kvt_replica_token_gaps(fleet->replicas[i]));
		kvt_block_waste waste = kvt_block_allocator_waste(kvt_kv_allocator(fleet->kv[i]));
		f->peak_waste_bytes = MAX(f->peak_waste_bytes, waste.peak_waste_bytes);
		f->peak_hbm_bytes = MAX(f->peak_hbm_bytes, waste.peak_allocated_bytes);
	}
	double busy = kvt_time_to_seconds(sum->busy);
	double time = f->duration * fleet->n_replicas;
	f->busy_share = time > 0 ? busy / time : 0;
	f->stall_share = time > 0 ? kvt_time_to_seconds(sum->stall) / time : 0;
	f->running = busy > 0 ? sum->running_time / busy : 0;
}

/* As a histogram has it: within 1.6%. */
static kvt_percentiles histogram_percentiles(const kvt_histogram *h)
{
	kvt_percentiles p = { .count = h->count,
		.mean = kvt_histogram_mean(h) * 1e-12,
		.p50 = (double)kvt_histogram_quantile(h, 0.5) * 1e-12,
		.p95 = (double)kvt_histogram_quantile(h, 0.95) * 1e-12,
		.p99 = (double)kvt_histogram_quantile(h, 0.99) * 1e-12,
		.p999 = (double)kvt_histogram_quantile(h, 0.999) * 1e-12,
		.max = h->count > 0 ? (double)h->maximum * 1e-12 : 0 };
	return p;
}

/* Drives of all tiers, and TB of DRAM that tiers have. */
static void count_storage(const kvt_fleet *fleet, double *drives, double *dram)
{
	const kvt_fleet_settings *s = fleet->settings;
	*drives = *dram = 0;
	for (unsigned i = 0; i < s->n_tiers; i++) {
		const kvt_tier_settings *tier = &s->tiers[i];
		bool remote =
			tier->kind == KVT_FLEET_REMOTE_DRAM || tier->kind == KVT_FLEET_REMOTE_NVME;
		double places = remote ? 1 : fleet->n_nodes;
		if (tier->drive)
			*drives += places * (double)tier->drives;
		else
			*dram += places * (double)tier->capacity * 1e-12;
	}
}

/* What drives take above their idle power, and at idle. */
static double drive_joules(const kvt_fleet *fleet, double duration)
{
	const kvt_fleet_settings *s = fleet->settings;
	double joules = 0;
	unsigned array = 0;
	for (unsigned node = 0; node < fleet->n_nodes; node++) {
		for (unsigned i = 0; i < s->n_tiers; i++) {
			const kvt_tier_settings *tier = &s->tiers[i];
			if (!tier->drive || (node > 0 && tier->kind == KVT_FLEET_REMOTE_NVME))
				continue;
			const kvt_fleet_array *a = kvt_fleet_links_array(fleet->links, array++);
			kvt_link_stats stats = kvt_network_link_stats(fleet->network, a->link);
			double used = MIN(stats.busy_units / a->rate, duration);
			double drives = (double)tier->drives;
			joules += drives * tier->drive->power_idle * duration +
				  drives * (tier->drive->power - tier->drive->power_idle) * used;
		}
	}
	return joules;
}

static void add_cost(const kvt_fleet *fleet, kvt_fleet_figures *f)
{
	const kvt_fleet_settings *s = fleet->settings;
	const kvt_experiment *e = s->experiment;
	double gpus = (double)e->ranks * fleet->n_replicas, hours = f->duration / 3600;
	double busy = kvt_time_to_seconds(f->replicas.busy) * (double)e->ranks;
	double drives, dram;
	count_storage(fleet, &drives, &dram);
	f->gpu_hours = gpus * hours;
	f->joules = gpus * e->gpu->power_idle * f->duration +
		    (e->gpu->power - e->gpu->power_idle) * busy +
		    fleet->n_nodes * f->duration *
			    (e->host->power_idle + (double)e->nics * e->nic->power) +
		    drive_joules(fleet, f->duration);
	f->cost = hours * (gpus * s->gpu_hour + fleet->n_nodes * s->node_hour +
				  dram * s->dram_hour + drives * s->drive_hour) +
		  f->joules / 3.6e6 * s->pue * s->kwh;
	double mtokens = (double)f->replicas.output_tokens * 1e-6;
	f->cost_per_mtoken = mtokens > 0 ? f->cost / mtokens : NAN;
	f->joules_per_mtoken = mtokens > 0 ? f->joules / mtokens : NAN;
}

kvt_fleet_figures *kvt_fleet_figures_new(const kvt_fleet *fleet)
{
	kvt_fleet_figures *f = g_new0(kvt_fleet_figures, 1);
	g_autofree kvt_time *scratch = g_new(kvt_time, MAX(fleet->n_requests, 1));
	g_autofree kvt_histogram *gaps = g_new(kvt_histogram, 1);
	selection s = { .fleet = fleet,
		.first = (uint32_t)(fleet->settings->warm_up * fleet->n_requests),
		.tenant = ALL_TENANTS };
	f->duration = kvt_time_to_seconds(fleet->end);
	f->all = service(&s, scratch);
	f->n_tenants = fleet->trace->n_tenants;
	f->tenants = g_new0(kvt_service_figures, MAX(f->n_tenants, 1));
	for (unsigned i = 0; i < f->n_tenants; i++) {
		s.tenant = i;
		f->tenants[i] = service(&s, scratch);
	}
	for (uint32_t i = 0; i < fleet->n_requests; i++)
		f->refused_by[fleet->outcomes[i].refusal]++;
	add_replicas(fleet, f, gaps);
	f->token_gap = histogram_percentiles(gaps);
	add_cost(fleet, f);
	return f;
}

void kvt_fleet_figures_free(kvt_fleet_figures *f)
{
	if (!f)
		return;
	g_free(f->tenants);
	g_free(f);
}
