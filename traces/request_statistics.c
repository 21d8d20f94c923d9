/* request_statistics.c: what a request trace holds in numbers; see the header. */
#include "traces/request_statistics.h"

#include <math.h>
#include <stdlib.h>

#include "sim/base/sim_time.h"

static int compare_values(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;
	return left < right ? -1 : left > right;
}

kvt_request_moments kvt_request_moments_of(double *values, uint64_t count)
{
	kvt_request_moments moments = { .count = count };
	if (count == 0)
		return moments;
	double sum = 0, squares = 0;
	for (uint64_t i = 0; i < count; i++)
		sum += values[i];
	moments.mean = sum / (double)count;
	for (uint64_t i = 0; i < count; i++)
		squares += (values[i] - moments.mean) * (values[i] - moments.mean);
	if (moments.mean > 0)
		moments.cv = sqrt(squares / (double)count) / moments.mean;
	qsort(values, count, sizeof(*values), compare_values);
	/* The least value that so many are not above. */
	moments.p50 = values[(count - 1) / 2];
	moments.p99 = values[(uint64_t)ceil(0.99 * (double)count) - 1];
	moments.most = values[count - 1];
	return moments;
}

typedef enum field { INPUT, OUTPUT, INTERVAL, THINK, LATENCY } field;

/* That value of a request; negative where it has none. */
static double value_of(const kvt_request *r, uint64_t i, field which)
{
	switch (which) {
	case INPUT:
		return r->input_tokens;
	case OUTPUT:
		return r->output_tokens;
	case INTERVAL:
		return i > 0 ? kvt_time_to_seconds(r->arrival - r[-1].arrival) : -1;
	case THINK:
		return r->after != KVT_REQUEST_NONE ? kvt_time_to_seconds(r->think) : -1;
	case LATENCY:
		return r->latency > 0 ? kvt_time_to_seconds(r->latency) : -1;
	}
	return -1;
}

static kvt_request_moments moments_of_field(
	const kvt_request_trace *trace, field which, double *values)
{
	uint64_t count = 0;
	for (uint64_t i = 0; i < trace->n_requests; i++) {
		double value = value_of(&trace->requests[i], i, which);
		if (value >= 0)
			values[count++] = value;
	}
	return kvt_request_moments_of(values, count);
}

static kvt_request_moments moments_of_turns(
	const kvt_request_trace *trace, uint64_t *subagent_sessions)
{
	g_autofree double *turns = g_new0(double, trace->n_sessions);
	g_autofree bool *subagent = g_new0(bool, trace->n_sessions);
	*subagent_sessions = 0;
	for (uint64_t i = 0; i < trace->n_requests; i++) {
		const kvt_request *r = &trace->requests[i];
		turns[r->session]++;
		subagent[r->session] = (r->flags & KVT_REQUEST_SUBAGENT) != 0;
	}
	for (uint32_t i = 0; i < trace->n_sessions; i++)
		*subagent_sessions += subagent[i];
	return kvt_request_moments_of(turns, trace->n_sessions);
}

kvt_request_statistics kvt_request_statistics_of(const kvt_request_trace *trace)
{
	kvt_request_statistics s = { 0 };
	uint64_t hits = 0, known = 0;
	for (uint64_t i = 0; i < trace->n_requests; i++) {
		const kvt_request *r = &trace->requests[i];
		s.input_tokens += r->input_tokens;
		s.output_tokens += r->output_tokens;
		s.subagent_requests += (r->flags & KVT_REQUEST_SUBAGENT) != 0;
		s.joins += r->joins != KVT_REQUEST_NONE;
		/* Ids count up with their first use, so what is known leads a prompt. */
		uint64_t found = 0;
		const uint32_t *ids = trace->blocks + r->first_block;
		while (found < r->n_blocks && ids[found] < known)
			found++;
		if (r->n_blocks > 0)
			known = MAX(known, (uint64_t)ids[r->n_blocks - 1] + 1);
		hits += MIN(found * trace->block_tokens, r->input_tokens);
	}
	g_autofree double *values = g_new(double, trace->n_requests);
	s.duration = kvt_time_to_seconds(trace->requests[trace->n_requests - 1].arrival);
	s.input = moments_of_field(trace, INPUT, values);
	s.output = moments_of_field(trace, OUTPUT, values);
	s.interval = moments_of_field(trace, INTERVAL, values);
	s.think = moments_of_field(trace, THINK, values);
	s.latency = moments_of_field(trace, LATENCY, values);
	s.turns = moments_of_turns(trace, &s.subagent_sessions);
	if (trace->n_blocks > 0)
		s.block_hit_ratio = 1 - (double)trace->n_ids / (double)trace->n_blocks;
	if (s.input_tokens > 0)
		s.token_hit_ratio = (double)hits / (double)s.input_tokens;
	return s;
}
