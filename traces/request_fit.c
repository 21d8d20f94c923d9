/* request_fit.c: the moments of a request trace as a model of it; request_model.h. */
#include <math.h>
#include <string.h>

#include "traces/request_model.h"
#include "traces/request_statistics.h"

/* What is gathered of a session. */
typedef struct session_facts {
	uint32_t last; /* its latest request so far, or KVT_REQUEST_NONE */
	uint32_t turns;
} session_facts;

typedef struct fit {
	const kvt_request_trace *trace;
	session_facts *sessions;
	GArray *starts, *firsts, *growths, *fresh, *intervals, *outputs; /* double */
	uint64_t pairs;
	double kept, cut; /* tokens of prompts that were cut back, and before */
	double latency, latency_tokens;
	uint32_t *root_uses; /* of each id, by sessions that begin with it */
	uint64_t known;      /* ids below have been seen */
	double depth, deep;  /* tokens seen before at the beginning of sessions, and of how many */
	int64_t longest;
	bool subagents; /* there is nothing else */
} fit;

/* Tokens of `before` that begin `r`, too, by whole blocks; without blocks, all if it is longer. */
static uint64_t kept_tokens(
	const kvt_request_trace *trace, const kvt_request *before, const kvt_request *r)
{
	if (trace->block_tokens == 0)
		return r->input_tokens > before->input_tokens ? before->input_tokens : 0;
	const uint32_t *old = trace->blocks + before->first_block;
	const uint32_t *new = trace->blocks + r->first_block;
	uint32_t same = 0;
	while (same < before->n_blocks && same < r->n_blocks && old[same] == new[same])
		same++;
	return MIN((uint64_t)same * trace->block_tokens, before->input_tokens);
}

static void add_value(GArray *values, double value)
{
	g_array_append_val(values, value);
}

static void add_first(fit *f, const kvt_request *r)
{
	const uint32_t *ids = f->trace->blocks + r->first_block;
	add_value(f->starts, kvt_time_to_seconds(r->arrival));
	add_value(f->firsts, r->input_tokens);
	if (r->n_blocks > 0)
		f->root_uses[ids[0]]++;
	uint32_t found = 0;
	while (found < r->n_blocks && ids[found] < f->known)
		found++;
	if (found > 0) {
		f->depth += MIN((double)found * f->trace->block_tokens, r->input_tokens);
		f->deep++;
	}
}

static void add_pair(fit *f, const kvt_request *before, const kvt_request *r)
{
	f->pairs++;
	add_value(f->intervals, kvt_time_to_seconds(r->arrival - before->arrival));
	uint64_t kept = kept_tokens(f->trace, before, r);
	/* The last block may be another, as it was not full. */
	if (r->input_tokens > before->input_tokens &&
		kept + f->trace->block_tokens >= before->input_tokens) {
		add_value(f->growths, (double)r->input_tokens - before->input_tokens);
		return;
	}
	kept = MIN(kept, r->input_tokens);
	f->kept += (double)kept;
	f->cut += before->input_tokens;
	add_value(f->fresh, (double)(r->input_tokens - kept));
}

static void add_request(fit *f, uint32_t i)
{
	const kvt_request *r = &f->trace->requests[i];
	session_facts *session = &f->sessions[r->session];
	if ((r->flags & KVT_REQUEST_SUBAGENT) != 0 && !f->subagents)
		return;
	if (session->last == KVT_REQUEST_NONE)
		add_first(f, r);
	else
		add_pair(f, &f->trace->requests[session->last], r);
	session->last = i;
	session->turns++;
	add_value(f->outputs, r->output_tokens);
	if (r->latency > 0) {
		f->latency += kvt_time_to_seconds(r->latency);
		f->latency_tokens += r->output_tokens;
	}
	f->longest = MAX(f->longest, (int64_t)r->input_tokens);
	if (r->n_blocks > 0)
		f->known = MAX(
			f->known, (uint64_t)f->trace->blocks[r->first_block + r->n_blocks - 1] + 1);
}

static kvt_request_moments take_moments(GArray *values)
{
	return kvt_request_moments_of((double *)values->data, values->len);
}

static void fit_arrivals(fit *f, kvt_request_model *model)
{
	double *starts = (double *)f->starts->data;
	uint64_t n = f->starts->len;
	double first = starts[0], span = starts[n - 1] - first;
	for (uint64_t i = 0; i + 1 < n; i++)
		starts[i] = starts[i + 1] - starts[i];
	kvt_request_moments moments = kvt_request_moments_of(starts, n - 1);
	model->arrival_cv = moments.cv;
	model->arrivals = fabs(moments.cv - 1) <= 0.05 ? KVT_ARRIVALS_POISSON : KVT_ARRIVALS_GAMMA;
	if (span > 0) {
		model->session_rate = (double)(n - 1) / span;
		return;
	}
	const kvt_request_trace *trace = f->trace;
	double duration = kvt_time_to_seconds(trace->requests[trace->n_requests - 1].arrival);
	model->session_rate = duration > 0 ? (double)n / duration : 1;
	model->arrivals = KVT_ARRIVALS_POISSON;
	model->arrival_cv = 1;
}

static void fit_turns(fit *f, kvt_request_model *model)
{
	g_autoptr(GArray) turns = g_array_new(FALSE, FALSE, sizeof(double));
	for (uint32_t i = 0; i < f->trace->n_sessions; i++)
		if (f->sessions[i].turns > 0)
			add_value(turns, f->sessions[i].turns);
	kvt_request_moments moments = take_moments(turns);
	model->turns = moments.mean;
	model->turns_cv = moments.cv;
	moments = take_moments(f->intervals);
	model->interval = moments.mean;
	model->interval_cv = moments.cv;
	model->pace = f->latency_tokens > 0 ? f->latency / f->latency_tokens : 0;
	moments = take_moments(f->growths);
	model->growth = MAX(moments.mean, 1);
	model->growth_cv = moments.cv;
	model->restart = f->pairs > 0 ? (double)f->fresh->len / (double)f->pairs : 0;
	model->kept = f->cut > 0 ? f->kept / f->cut : 0;
	moments = take_moments(f->fresh);
	model->fresh = MAX(moments.mean, 1);
	model->fresh_cv = moments.cv;
}

/* Sessions that begin with the same block share what, on average, was there of a session's first
 * prompt when it began; as many prefixes, were all alike likely, as two sessions meet on as often.
 */
static void fit_prefixes(fit *f, kvt_request_model *model)
{
	double users = 0, squares = 0;
	for (uint32_t i = 0; i < f->trace->n_ids; i++)
		if (f->root_uses[i] > 1) {
			users += f->root_uses[i];
			squares += (double)f->root_uses[i] * f->root_uses[i];
		}
	model->prefixes = 1;
	if (users == 0 || f->deep == 0)
		return;
	int64_t tokens = f->trace->block_tokens;
	model->shared = users / f->starts->len;
	model->prefixes = MAX((int64_t)llround(users * users / squares), 1);
	model->prefix = MAX((int64_t)llround(f->depth / f->deep / (double)tokens), 1) * tokens;
}

static void fit_prompts(fit *f, kvt_request_model *model)
{
	double mean_prefix = model->shared * (double)model->prefix;
	kvt_request_moments moments = take_moments(f->firsts);
	/* The whole prompt's mean and deviation stay what they are. */
	double rest = MAX(moments.mean - mean_prefix, 1);
	double spread = (double)model->prefix * sqrt(model->shared * (1 - model->shared));
	double deviation = moments.cv * moments.mean;
	model->first = rest;
	model->first_cv = sqrt(MAX(deviation * deviation - spread * spread, 0)) / rest;
	moments = take_moments(f->outputs);
	model->output = moments.mean;
	model->output_cv = moments.cv;
}

/* A few odd requests may have moments that the model's table has no room for. */
static void keep_within_table(kvt_request_model *model)
{
	for (const kvt_option *option = kvt_request_model_options; option->name != NULL; option++) {
		char *field = (char *)model + option->offset;
		if (option->type == KVT_OPTION_QUANTITY)
			*(double *)field = CLAMP(*(double *)field, option->low, option->high);
	}
}

kvt_request_model kvt_request_model_fit(const kvt_request_trace *trace)
{
	fit f = { .trace = trace };
	GArray **lists[] = { &f.starts, &f.firsts, &f.growths, &f.fresh, &f.intervals, &f.outputs };
	for (size_t i = 0; i < G_N_ELEMENTS(lists); i++)
		*lists[i] = g_array_new(FALSE, FALSE, sizeof(double));
	f.sessions = g_new0(session_facts, trace->n_sessions);
	f.root_uses = g_new0(uint32_t, (gsize)trace->n_ids + 1);
	for (uint32_t i = 0; i < trace->n_sessions; i++)
		f.sessions[i].last = KVT_REQUEST_NONE;
	f.subagents = true;
	for (uint64_t i = 0; i < trace->n_requests; i++)
		f.subagents = f.subagents && (trace->requests[i].flags & KVT_REQUEST_SUBAGENT) != 0;
	for (uint64_t i = 0; i < trace->n_requests; i++)
		add_request(&f, (uint32_t)i);
	kvt_request_model model = { 0 };
	model.burst_factor = 10;
	model.burst_time = 10;
	model.calm_time = 90;
	model.block_tokens = trace->block_tokens;
	fit_arrivals(&f, &model);
	fit_turns(&f, &model);
	fit_prefixes(&f, &model);
	fit_prompts(&f, &model);
	model.context = MAX(f.longest, 1);
	model.prefixes = MIN(model.prefixes, 1000000);
	keep_within_table(&model);
	for (size_t i = 0; i < G_N_ELEMENTS(lists); i++)
		g_array_free(*lists[i], TRUE);
	g_free(f.sessions);
	g_free(f.root_uses);
	return model;
}
