/*
 * request_transform.c: each change is a pass over an array of requests that still point at each
 * other by their old indices; a builder sorts and numbers them in the end.
 */
#include "traces/request_transform.h"

#include <math.h>
#include <string.h>

#include "sim/base/error.h"
#include "sim/base/rng.h"
#include "traces/request_builder.h"

/* A trace on its way: requests with the trace's indices, and which of them stay. */
typedef struct draft {
	const kvt_request_trace *trace;
	kvt_request *requests;
	uint32_t *dialogue; /* the request that the dialogue of each begins with */
	uint32_t *order;    /* by arrival */
	uint32_t n;         /* of order */
} draft;

static void draft_clear(draft *d)
{
	g_free(d->requests);
	g_free(d->dialogue);
	g_free(d->order);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(draft, draft_clear)

/* The requests that stay, all others forgotten. */
static void select_requests(draft *d, const kvt_request_edit *edit)
{
	const kvt_request_trace *trace = d->trace;
	d->requests = g_memdup2(trace->requests, trace->n_requests * sizeof(kvt_request));
	d->order = g_new(uint32_t, trace->n_requests);
	d->dialogue = g_new(uint32_t, trace->n_requests);
	g_autofree bool *stays = g_new0(bool, trace->n_requests);
	uint64_t found = 0;
	for (uint32_t i = 0; i < trace->n_requests; i++) {
		kvt_time arrival = trace->requests[i].arrival;
		if (arrival < edit->from || (edit->until > 0 && arrival >= edit->until))
			continue;
		uint64_t at = found++;
		stays[i] =
			at >= edit->first && (edit->count == 0 || at - edit->first < edit->count);
		if (stays[i])
			d->order[d->n++] = i;
	}
	for (uint32_t j = 0; j < d->n; j++) {
		kvt_request *r = &d->requests[d->order[j]];
		if (r->after != KVT_REQUEST_NONE && !stays[r->after])
			r->after = KVT_REQUEST_NONE;
		if (r->joins != KVT_REQUEST_NONE && !stays[r->joins])
			r->joins = KVT_REQUEST_NONE;
	}
	/* Of several that something waited for, one that stayed is what it comes after now. */
	for (uint32_t j = 0; j < d->n; j++) {
		kvt_request *r = &d->requests[d->order[j]];
		if (r->joins != KVT_REQUEST_NONE &&
			d->requests[r->joins].after == KVT_REQUEST_NONE) {
			d->requests[r->joins].after = d->order[j];
			r->joins = KVT_REQUEST_NONE;
		}
	}
	for (uint32_t j = 0; j < d->n; j++)
		if (d->requests[d->order[j]].after == KVT_REQUEST_NONE)
			d->requests[d->order[j]].think = 0;
}

static void close_sessions(draft *d, kvt_time pace)
{
	g_autofree uint32_t *last = g_new(uint32_t, d->trace->n_sessions);
	memset(last, 0xff, d->trace->n_sessions * sizeof(*last));
	for (uint32_t j = 0; j < d->n; j++) {
		uint32_t i = d->order[j];
		kvt_request *r = &d->requests[i];
		uint32_t before = last[r->session];
		last[r->session] = i;
		if (r->after != KVT_REQUEST_NONE || before == KVT_REQUEST_NONE)
			continue;
		const kvt_request *b = &d->requests[before];
		double took = b->latency > 0 ? (double)b->latency : (double)pace * b->output_tokens;
		r->after = before;
		r->think = (kvt_time)MAX((double)(r->arrival - b->arrival) - took, 0);
	}
}

static void find_dialogues(draft *d)
{
	for (uint32_t j = 0; j < d->n; j++) {
		uint32_t i = d->order[j], after = d->requests[i].after;
		d->dialogue[i] = after == KVT_REQUEST_NONE ? i : d->dialogue[after];
	}
}

static bool too_long(GError **error)
{
	return kvt_error_usage(error, "the trace becomes longer than 100 days, expected a part of "
				      "it, or a higher rate");
}

static bool scale_arrivals(draft *d, double rate, GError **error)
{
	for (uint32_t j = 0; j < d->n; j++) {
		kvt_request *r = &d->requests[d->order[j]];
		double arrival = (double)r->arrival / rate;
		if (!(arrival <= (double)KVT_REQUEST_TIME_MAX))
			return too_long(error);
		r->arrival = (kvt_time)arrival;
	}
	return true;
}

/* Moves each dialogue so that it begins when `begin` says. */
static bool move_dialogues(draft *d, const kvt_time *begin, GError **error)
{
	for (uint32_t j = d->n; j-- > 0;) {
		/* The first one is moved last, so that its own time is still there. */
		uint32_t i = d->order[j], first = d->dialogue[i];
		kvt_time since = d->requests[i].arrival - d->requests[first].arrival;
		if (begin[first] > KVT_REQUEST_TIME_MAX - since)
			return too_long(error);
		d->requests[i].arrival = begin[first] + since;
	}
	return true;
}

static bool start_at_random(draft *d, const kvt_request_edit *edit, GError **error)
{
	g_autofree kvt_time *begin = g_new0(kvt_time, d->trace->n_requests);
	kvt_rng rng = kvt_rng_init(edit->seed, kvt_rng_stream_id("requests.starts", 0));
	double now = 0;
	for (uint32_t j = 0; j < d->n; j++)
		if (d->dialogue[d->order[j]] == d->order[j]) {
			begin[d->order[j]] = kvt_time_from_seconds(now);
			now += kvt_rng_exponential(&rng, 1 / edit->start_rate);
		}
	return move_dialogues(d, begin, error);
}

/* The last request of each dialogue, at its first one's index. */
static uint32_t *find_ends(const draft *d)
{
	uint32_t *end = g_new(uint32_t, d->trace->n_requests);
	for (uint32_t j = 0; j < d->n; j++)
		end[d->dialogue[d->order[j]]] = d->order[j];
	return end;
}

/* When somebody's next dialogue begins: later than all of the last one, if by a picosecond. */
static bool next_beginning(
	kvt_time *clock, const kvt_request *first, const kvt_request *last, kvt_time think)
{
	return !__builtin_add_overflow(*clock, last->arrival - first->arrival, clock) &&
	       !__builtin_add_overflow(*clock, last->latency, clock) &&
	       !__builtin_add_overflow(*clock, MAX(think, 1), clock);
}

static bool deal_to_users(draft *d, const kvt_request_edit *edit, GError **error)
{
	g_autofree kvt_time *begin = g_new0(kvt_time, d->trace->n_requests);
	g_autofree kvt_time *clock = g_new0(kvt_time, edit->users);
	g_autofree uint32_t *last = g_new(uint32_t, edit->users), *end = find_ends(d);
	memset(last, 0xff, edit->users * sizeof(*last));
	for (uint32_t j = 0; j < d->n; j++) {
		uint32_t i = d->order[j], user = 0;
		kvt_request *r = &d->requests[i];
		if (d->dialogue[i] != i)
			continue;
		/* Whose last dialogue ended first. */
		for (uint32_t u = 1; u < edit->users; u++)
			if (clock[u] < clock[user])
				user = u;
		begin[i] = clock[user];
		r->after = last[user];
		r->think = last[user] != KVT_REQUEST_NONE ? edit->think : 0;
		last[user] = end[i];
		if (!next_beginning(&clock[user], r, &d->requests[end[i]], edit->think))
			return too_long(error);
	}
	return move_dialogues(d, begin, error);
}

/* Blocks of `to` tokens for those of `from`: one is a multiple of the other. */
static void append_blocks(kvt_request_builder *builder, uint64_t scope,
	const kvt_request_trace *trace, const kvt_request *r, uint32_t to)
{
	const uint32_t *ids = trace->blocks + r->first_block;
	uint32_t from = trace->block_tokens;
	if (to >= from) {
		/* An id names all before it, so every so-many-th is enough. */
		uint32_t whole = MIN(r->n_blocks, r->input_tokens / MAX(from, 1));
		uint32_t step = from > 0 ? to / from : 1;
		for (uint32_t i = 0; i < r->n_blocks; i++)
			if (step == 1 || ((i + 1) % step == 0 && i < whole))
				kvt_request_builder_append(
					builder, kvt_request_builder_block(builder, scope, ids[i]));
		return;
	}
	for (uint32_t i = 0; i < r->n_blocks; i++) {
		uint64_t rest = r->input_tokens - (uint64_t)i * from;
		uint64_t parts = MIN((rest + to - 1) / to, from / to);
		for (uint64_t part = 0; part < parts; part++)
			kvt_request_builder_append(
				builder, kvt_request_builder_block(builder, scope,
						 (uint64_t)ids[i] * (from / to) + part));
	}
}

/* Adds the requests of a draft to a builder, with sessions of their own and tenants from
 * `tenants`. */
static void add_draft(const draft *d, kvt_request_builder *builder, const uint32_t *tenants,
	uint32_t block_tokens)
{
	const kvt_request_trace *trace = d->trace;
	uint64_t scope = kvt_request_builder_scope(builder);
	uint32_t base = 0;
	for (uint32_t s = 0; s < trace->n_sessions; s++) {
		uint32_t session = kvt_request_builder_session(builder);
		base = s == 0 ? session : base;
	}
	g_autofree uint32_t *index = g_new(uint32_t, trace->n_requests);
	for (uint32_t j = 0; j < d->n; j++) {
		uint32_t i = d->order[j];
		kvt_request r = d->requests[i];
		append_blocks(builder, scope, trace, &r, block_tokens);
		r.session += base;
		r.tenant = tenants[r.tenant];
		r.after = r.joins = KVT_REQUEST_NONE;
		index[i] = kvt_request_builder_add(builder, &r);
		if (index[i] == KVT_REQUEST_NONE)
			return;
	}
	for (uint32_t j = 0; j < d->n; j++) {
		const kvt_request *r = &d->requests[d->order[j]];
		uint32_t i = index[d->order[j]];
		if (r->after != KVT_REQUEST_NONE)
			kvt_request_builder_get(builder, i)->after = index[r->after];
		/* Of dialogues that a cut tore apart, one may have been moved before the other. */
		if (r->joins != KVT_REQUEST_NONE && d->requests[r->joins].arrival >= r->arrival)
			kvt_request_builder_get(builder, i)->joins = index[r->joins];
	}
}

static bool check_blocks(
	const kvt_request_trace *trace, uint32_t tokens, const char *name, GError **error)
{
	uint32_t have = trace->block_tokens;
	if (tokens == 0 || have == 0 || tokens % have == 0 || have % tokens == 0)
		return true;
	return kvt_error_usage(error,
		"%s: blocks of %u tokens as blocks of %u, expected a multiple or a fraction", name,
		have, tokens);
}

kvt_request_trace *kvt_request_transform(const kvt_request_trace *trace,
	const kvt_request_edit *edit, const char *name, GError **error)
{
	g_auto(draft) d = { .trace = trace };
	if (!check_blocks(trace, edit->block_tokens, name, error))
		return NULL;
	select_requests(&d, edit);
	if (edit->close)
		close_sessions(&d, edit->close_pace);
	find_dialogues(&d);
	if ((edit->rate > 0 && !scale_arrivals(&d, edit->rate, error)) ||
		(edit->start_rate > 0 && !start_at_random(&d, edit, error)) ||
		(edit->users > 0 && !deal_to_users(&d, edit, error)))
		return NULL;
	g_autoptr(kvt_request_builder) builder = kvt_request_builder_new(trace->source);
	g_autofree uint32_t *tenants = g_new(uint32_t, trace->n_tenants);
	for (uint32_t i = 0; i < trace->n_tenants; i++)
		tenants[i] = kvt_request_builder_tenant(builder, trace->tenant_names[i]);
	uint32_t block_tokens = edit->block_tokens > 0 ? edit->block_tokens : trace->block_tokens;
	add_draft(&d, builder, tenants, block_tokens);
	return kvt_request_builder_finish(builder, block_tokens, name, error);
}

/* Requests a second of a trace: as many intervals as requests. */
static double mean_rate(const kvt_request_trace *trace)
{
	kvt_time last = trace->requests[trace->n_requests - 1].arrival;
	return last > 0 ? (double)(trace->n_requests - 1) / kvt_time_to_seconds(last) : 0;
}

static bool check_parts(const kvt_request_part *parts, unsigned count, uint32_t *block_tokens,
	double *shares, GError **error)
{
	*shares = 0;
	*block_tokens = 0;
	for (unsigned i = 0; i < count; i++) {
		uint32_t tokens = parts[i].trace->block_tokens;
		if (tokens != 0 && *block_tokens != 0 && tokens != *block_tokens)
			return kvt_error_usage(error,
				"%s: blocks of %u tokens, expected %u as those before have: "
				"convert "
				"it first",
				parts[i].trace->source, tokens, *block_tokens);
		*block_tokens = MAX(*block_tokens, tokens);
		*shares += parts[i].share;
	}
	for (unsigned i = 0; i<count && * shares> 0; i++)
		if (!(parts[i].share > 0) || mean_rate(parts[i].trace) <= 0)
			return kvt_error_usage(error,
				parts[i].share > 0
					? "%s: all arrive at once, expected a rate that can be "
					  "scaled"
					: "%s: no share, expected one of every trace or of none",
				parts[i].trace->source);
	return true;
}

/* Brings a part to its rate; *end is when it ends, where that is earlier. */
static bool fit_part(draft *d, double rate, kvt_time *end, GError **error)
{
	const kvt_request_edit all = { 0 };
	select_requests(d, &all);
	if (rate > 0 && !scale_arrivals(d, rate / mean_rate(d->trace), error))
		return false;
	*end = MIN(*end, d->requests[d->n - 1].arrival);
	return true;
}

/* Leaves out what comes after `end`; what waited for it may go on without. */
static void end_part(draft *d, kvt_time end)
{
	while (d->n > 0 && d->requests[d->n - 1].arrival > end)
		d->n--;
	for (uint32_t i = 0; i < d->n; i++)
		if (d->requests[i].joins != KVT_REQUEST_NONE && d->requests[i].joins >= d->n)
			d->requests[i].joins = KVT_REQUEST_NONE;
}

static void add_part(
	const kvt_request_part *part, const draft *d, kvt_request_builder *builder, uint32_t tokens)
{
	const kvt_request_trace *trace = part->trace;
	g_autofree uint32_t *tenants = g_new(uint32_t, trace->n_tenants);
	uint32_t one = part->name != NULL ? kvt_request_builder_tenant(builder, part->name) : 0;
	for (uint32_t i = 0; i < trace->n_tenants; i++)
		tenants[i] = part->name != NULL
				     ? one
				     : kvt_request_builder_tenant(builder, trace->tenant_names[i]);
	add_draft(d, builder, tenants, tokens);
}

/* Parts at their rates, cut where the first of them ends, as one. */
static kvt_request_trace *mix_drafts(const kvt_request_part *parts, unsigned count, draft *drafts,
	double rate, double shares, const char *source, uint32_t block_tokens, GError **error)
{
	g_autoptr(kvt_request_builder) builder = kvt_request_builder_new(source);
	kvt_time end = KVT_TIME_NEVER;
	for (unsigned i = 0; i < count; i++) {
		drafts[i].trace = parts[i].trace;
		if (!fit_part(&drafts[i], shares > 0 ? rate * parts[i].share / shares : 0, &end,
			    error))
			return NULL;
	}
	for (unsigned i = 0; i < count; i++) {
		end_part(&drafts[i], shares > 0 ? end : KVT_TIME_NEVER);
		add_part(&parts[i], &drafts[i], builder, block_tokens);
	}
	return kvt_request_builder_finish(builder, block_tokens, "mix", error);
}

kvt_request_trace *kvt_request_mix(
	const kvt_request_part *parts, unsigned count, double rate, GError **error)
{
	uint32_t block_tokens;
	double shares, together = 0;
	if (!check_parts(parts, count, &block_tokens, &shares, error))
		return NULL;
	g_autoptr(GString) source = g_string_new("mix of ");
	for (unsigned i = 0; i < count; i++) {
		together += mean_rate(parts[i].trace);
		g_string_append_printf(source, "%s%s", i > 0 ? ", " : "", parts[i].trace->source);
	}
	g_autofree draft *drafts = g_new0(draft, count);
	kvt_request_trace *trace = mix_drafts(parts, count, drafts, rate > 0 ? rate : together,
		shares, source->str, block_tokens, error);
	for (unsigned i = 0; i < count; i++)
		draft_clear(&drafts[i]);
	return trace;
}
