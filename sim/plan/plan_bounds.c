/* plan_bounds.c: HBM, compute and prices of shapes, from models alone. */
#include "sim/plan/plan_bounds.h"

#include <math.h>
#include <stdlib.h>

#include "models/llm_cost.h"

/* A batch of prompts may cost less a token than one chunk as large as a step: by no more than what
 * attention within the chunk takes. */
static const double BATCHING = 0.85;

/* Requests that may be late when 95% must not. */
static const double LATE = 0.05;

void kvt_plan_new_tokens(const kvt_request_trace *trace, uint64_t n, uint32_t *tokens)
{
	g_autofree bool *seen = g_new0(bool, MAX(trace->n_ids, 1));
	for (uint64_t i = 0; i < n; i++) {
		const kvt_request *q = &trace->requests[i];
		const uint32_t *blocks = trace->blocks + q->first_block;
		uint64_t found = 0;
		while (found < q->n_blocks && seen[blocks[found]])
			found++;
		for (uint64_t b = found; b < q->n_blocks; b++)
			seen[blocks[b]] = true;
		uint64_t known = found * trace->block_tokens;
		tokens[i] = known < q->input_tokens ? q->input_tokens - (uint32_t)known : 1;
		tokens[i] = MAX(tokens[i], 1);
	}
}

static int compare_tokens(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

/* Requests that are run, and the first of them that counts. */
static uint64_t requests_of(
	const kvt_plan_settings *s, const kvt_fleet_settings *fleet, uint64_t *first)
{
	uint64_t n = s->trace->n_requests;
	if (fleet->requests > 0)
		n = MIN(n, (uint64_t)fleet->requests);
	*first = (uint64_t)(fleet->warm_up * (double)n);
	return n;
}

/* GPU seconds of prompts have to fit between the first arrival and the last one's deadline. */
static void bound_compute(const kvt_plan_settings *s, const kvt_fleet *fleet, kvt_plan_bounds *b)
{
	const kvt_fleet_settings *settings = fleet->settings;
	uint64_t first, n = requests_of(s, settings, &first);
	if (settings->loop != KVT_LOOP_OPEN || n <= first || s->refused > 0)
		return;
	g_autofree uint32_t *tokens = g_new(uint32_t, n);
	kvt_plan_new_tokens(s->trace, n, tokens);
	qsort(tokens + first, n - first, sizeof(*tokens), compare_tokens);
	uint64_t end = n - (uint64_t)ceil(LATE * (double)(n - first));
	double sum = 0;
	for (uint64_t i = first; i < end; i++)
		sum += tokens[i];
	uint64_t budget = (uint64_t)settings->token_budget;
	const kvt_step_chunk chunk = { .tokens = budget };
	const kvt_step step = { .chunks = &chunk, .n_chunks = 1 };
	double token = BATCHING * kvt_time_to_seconds(kvt_step_cost_time(fleet->cost, &step)) /
		       (double)budget;
	double span = kvt_time_to_seconds(
		s->trace->requests[n - 1].arrival - s->trace->requests[first].arrival);
	b->work_s = sum * token;
	b->span_s = span / settings->rate_scale;
}

/* Whether enough requests fit into the HBM of a replica, alone. */
static bool capacity_does(const kvt_plan_settings *s, const kvt_fleet *fleet)
{
	const kvt_experiment *e = fleet->settings->experiment;
	uint64_t first, n = requests_of(s, fleet->settings, &first), large = 0;
	for (uint64_t i = first; i < n; i++) {
		const kvt_request *q = &s->trace->requests[i];
		uint64_t tokens = MIN((uint64_t)q->input_tokens + q->output_tokens, 1000000000);
		uint64_t bytes =
			kvt_llm_kv_bytes(e->llm, tokens, (unsigned)e->ranks) * (uint64_t)e->ranks;
		large += bytes > fleet->hbm_bytes;
	}
	return (double)large <= s->refused * (double)(n - first);
}

static void count_machines(const kvt_fleet *fleet, kvt_plan_bounds *b)
{
	const kvt_fleet_settings *s = fleet->settings;
	const kvt_experiment *e = s->experiment;
	b->gpus = (double)e->ranks;
	b->replicas_a_node = (double)s->replicas_a_node;
	b->nics = (double)e->nics;
	b->gpu_watts = e->gpu->power_idle;
	b->node_watts = e->host->power_idle + b->nics * e->nic->power;
	for (unsigned i = 0; i < s->n_tiers; i++) {
		const kvt_tier_settings *tier = &s->tiers[i];
		if (tier->kind == KVT_FLEET_DRAM)
			b->dram_gb += (double)tier->capacity * 1e-9;
		if (tier->kind != KVT_FLEET_NVME)
			continue;
		b->drives += (double)tier->drives;
		b->drive_watts = tier->drive->power_idle;
	}
}

static void bound(const kvt_plan_settings *s, unsigned shape, kvt_plan_bounds *b)
{
	const kvt_plan_job job = { .shape = shape, .replicas = 1, .raise = -1 };
	g_auto(kvt_plan_point) point = { 0 };
	g_autoptr(GError) error = NULL;
	if (!kvt_plan_point_open(s, &job, &point, &error)) {
		b->error = g_strdup(error->message);
		return;
	}
	b->fits = true;
	b->prices = point.prices;
	count_machines(point.fleet, b);
	b->holds = capacity_does(s, point.fleet);
	bound_compute(s, point.fleet, b);
}

int64_t kvt_plan_bounds_low(const kvt_plan_settings *s, const kvt_plan_bounds *b, double ttft)
{
	if (!b->fits || !b->holds)
		return s->high + 1;
	double least = ceil(b->work_s / (b->span_s + ttft));
	return MAX(s->low, (int64_t)MIN(least, 1e9));
}

kvt_plan_bounds *kvt_plan_bounds_new(const kvt_plan_settings *s)
{
	kvt_plan_bounds *bounds = g_new0(kvt_plan_bounds, MAX(s->shapes->len, 1));
	for (unsigned i = 0; i < s->shapes->len; i++)
		bound(s, i, &bounds[i]);
	return bounds;
}

void kvt_plan_bounds_free(kvt_plan_bounds *bounds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		g_free(bounds[i].error);
	g_free(bounds);
}

double kvt_plan_cost_floor(const kvt_plan_bounds *b, int64_t replicas)
{
	double nodes = ceil((double)replicas / b->replicas_a_node);
	kvt_price_bill bill = { .gpus = b->gpus * (double)replicas,
		.nodes = nodes,
		.dram_gb = b->dram_gb * nodes,
		.drives = b->drives * nodes,
		.nics = b->nics * nodes };
	bill.watts =
		bill.gpus * b->gpu_watts + nodes * b->node_watts + bill.drives * b->drive_watts;
	return kvt_price_fleet_hour(&b->prices, &bill);
}
