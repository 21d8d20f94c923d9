/* request_generate.c: request traces drawn from a model; request_model.h. */
#include <math.h>

#include "sim/base/error.h"
#include "sim/base/rng.h"
#include "traces/request_builder.h"
#include "traces/request_model.h"

/* Gamma of a mean and a coefficient of variation (Marsaglia and Tsang, ACM TOMS 26:3, 2000). */
static double draw_gamma(kvt_rng *rng, double mean, double cv)
{
	if (cv < 1e-6 || mean <= 0)
		return mean;
	double shape = 1 / (cv * cv), scale = mean / shape, boost = 1;
	if (shape < 1) {
		boost = pow(1 - kvt_rng_uniform(rng), 1 / shape);
		shape++;
	}
	double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);
	for (;;) {
		double x = kvt_rng_normal(rng), v = 1 + c * x;
		if (v <= 0)
			continue;
		v = v * v * v;
		double u = 1 - kvt_rng_uniform(rng);
		if (log(u) < 0.5 * x * x + d - d * v + d * log(v))
			return d * v * boost * scale;
	}
}

static double draw_lognormal(kvt_rng *rng, double mean, double cv)
{
	if (cv < 1e-6 || mean <= 0)
		return mean;
	double variance = log1p(cv * cv);
	return exp(log(mean) - variance / 2 + sqrt(variance) * kvt_rng_normal(rng));
}

/* One of the two whole numbers beside it, so that the mean stays. */
static double draw_whole(kvt_rng *rng, double value)
{
	return floor(value + kvt_rng_uniform(rng));
}

static uint32_t draw_tokens(kvt_rng *rng, double mean, double cv, uint32_t least)
{
	double tokens = draw_whole(rng, draw_lognormal(rng, mean, cv));
	return (uint32_t)CLAMP(tokens, least, KVT_REQUEST_TOKENS_MAX - 1);
}

/* 1 + a negative binomial of that mean and variance; where the variance is below a Poisson's, a
 * gamma that is rounded. */
static uint64_t draw_turns(kvt_rng *rng, double mean, double cv)
{
	double rest = mean - 1, variance = mean * cv * mean * cv;
	if (rest <= 0)
		return 1;
	if (variance < rest) {
		double of_rounding = 1.0 / 6;
		double deviation = sqrt(MAX(variance - of_rounding, 0));
		return 1 + (uint64_t)draw_whole(rng, draw_gamma(rng, rest, deviation / rest));
	}
	double rate = draw_gamma(rng, rest, sqrt(variance - rest) / rest);
	uint64_t count = 0;
	for (double sum = kvt_rng_exponential(rng, 1); sum < rate; count++)
		sum += kvt_rng_exponential(rng, 1);
	return 1 + count;
}

/* When sessions begin. */
typedef struct arrivals {
	const kvt_request_model *model;
	kvt_rng rng;
	double now;
	bool burst;
	double state_end;
} arrivals;

static double next_in_bursts(arrivals *a)
{
	const kvt_request_model *m = a->model;
	double share = m->burst_time / (m->burst_time + m->calm_time);
	double calm = m->session_rate / (1 - share + share * m->burst_factor);
	double now = a->now;
	for (;;) {
		double rate = a->burst ? calm * m->burst_factor : calm;
		double next = now + kvt_rng_exponential(&a->rng, 1 / rate);
		if (next <= a->state_end)
			return next;
		/* What was left of the interval is drawn anew: exponentials have no memory. */
		now = a->state_end;
		a->burst = !a->burst;
		a->state_end +=
			kvt_rng_exponential(&a->rng, a->burst ? m->burst_time : m->calm_time);
	}
}

static void next_arrival(arrivals *a)
{
	const kvt_request_model *m = a->model;
	switch (m->arrivals) {
	case KVT_ARRIVALS_BURSTS:
		a->now = next_in_bursts(a);
		break;
	case KVT_ARRIVALS_GAMMA:
		a->now += draw_gamma(&a->rng, 1 / m->session_rate, m->arrival_cv);
		break;
	default:
		a->now += kvt_rng_exponential(&a->rng, 1 / m->session_rate);
	}
}

/* Tokens of a prompt, from where the part before ends; their blocks are of that scope. */
typedef struct part {
	uint64_t scope;
	uint64_t end;
} part;

/* A conversation as it grows. */
typedef struct session {
	kvt_rng rng;
	GArray *parts; /* part; the last one has no end */
	part shared;   /* end 0: none */
	uint64_t tokens;
} session;

static void add_part(session *s, uint64_t scope, uint64_t end)
{
	part added = { scope, end };
	g_array_append_val(s->parts, added);
}

static void begin_prompt(session *s, const kvt_request_model *m, kvt_request_builder *builder)
{
	g_array_set_size(s->parts, 0);
	if (s->shared.end > 0)
		add_part(s, s->shared.scope, s->shared.end);
	add_part(s, kvt_request_builder_scope(builder), UINT64_MAX);
	s->tokens = s->shared.end + draw_tokens(&s->rng, m->first, m->first_cv, 1);
	s->tokens = MIN(s->tokens, (uint64_t)m->context);
}

/* The prompt keeps its beginning and goes on otherwise. */
static void cut_prompt(session *s, const kvt_request_model *m, kvt_request_builder *builder)
{
	uint64_t kept = (uint64_t)((double)s->tokens * m->kept);
	while (s->parts->len > 1 && g_array_index(s->parts, part, s->parts->len - 2).end >= kept)
		g_array_set_size(s->parts, s->parts->len - 1);
	g_array_index(s->parts, part, s->parts->len - 1).end = kept;
	add_part(s, kvt_request_builder_scope(builder), UINT64_MAX);
	s->tokens = kept + draw_tokens(&s->rng, m->fresh, m->fresh_cv, 1);
}

static void grow_prompt(session *s, const kvt_request_model *m, kvt_request_builder *builder)
{
	if (kvt_rng_uniform(&s->rng) < m->restart)
		cut_prompt(s, m, builder);
	else
		s->tokens += draw_tokens(&s->rng, m->growth, m->growth_cv, 1);
	if (s->tokens > (uint64_t)m->context)
		begin_prompt(s, m, builder);
}

/* Full blocks alone have ids: a partial one is another once it is full. */
static void append_blocks(const session *s, uint64_t block_tokens, kvt_request_builder *builder)
{
	uint64_t n = block_tokens > 0 ? s->tokens / block_tokens : 0;
	const part *of = (const part *)s->parts->data;
	for (uint64_t i = 0; i < n; i++) {
		while ((i + 1) * block_tokens > of->end)
			of++;
		kvt_request_builder_append(
			builder, kvt_request_builder_block(builder, of->scope, i));
	}
}

static bool add_session(const kvt_request_model *m, session *s, double begin,
	kvt_request_builder *builder, GError **error)
{
	uint64_t turns = draw_turns(&s->rng, m->turns, m->turns_cv);
	kvt_request r = { .after = KVT_REQUEST_NONE, .joins = KVT_REQUEST_NONE };
	r.session = kvt_request_builder_session(builder);
	for (uint64_t turn = 0; turn < turns; turn++) {
		if (turn == 0) {
			begin_prompt(s, m, builder);
		} else {
			begin += draw_gamma(&s->rng, m->interval, m->interval_cv);
			grow_prompt(s, m, builder);
		}
		if (begin > kvt_time_to_seconds(KVT_REQUEST_TIME_MAX))
			return kvt_error_usage(error,
				"the generated trace is longer than 100 days, expected fewer "
				"sessions, or a higher rate");
		kvt_time arrival = kvt_time_from_seconds(begin);
		if (turn > 0)
			r.think = MAX(arrival - r.arrival - r.latency, 0);
		r.arrival = arrival;
		r.input_tokens = (uint32_t)s->tokens;
		r.output_tokens = draw_tokens(&s->rng, m->output, m->output_cv, 0);
		r.latency = kvt_time_from_seconds(MIN(m->pace * r.output_tokens, 8e6));
		append_blocks(s, (uint64_t)m->block_tokens, builder);
		r.after = kvt_request_builder_add(builder, &r);
		if (r.after == KVT_REQUEST_NONE)
			return kvt_error_usage(error, "the generated trace is too large, expected "
						      "fewer sessions, or larger blocks");
	}
	return true;
}

kvt_request_trace *kvt_request_generate(const kvt_request_model *model, uint64_t sessions,
	kvt_time duration, uint64_t seed, GError **error)
{
	g_autoptr(kvt_request_builder) builder = kvt_request_builder_new("generated");
	kvt_request_builder_tenant(builder, "generated");
	g_autofree uint64_t *prefixes = g_new(uint64_t, model->prefixes);
	for (int64_t i = 0; i < model->prefixes; i++)
		prefixes[i] = kvt_request_builder_scope(builder);
	arrivals a = { .model = model };
	a.rng = kvt_rng_init(seed, kvt_rng_stream_id("requests.arrivals", 0));
	a.state_end = kvt_rng_exponential(&a.rng, model->calm_time);
	g_autoptr(GArray) parts = g_array_new(FALSE, FALSE, sizeof(part));
	for (uint64_t i = 0; sessions > 0 ? i < sessions : a.now < kvt_time_to_seconds(duration);
		i++) {
		session s = { .rng = kvt_rng_init(seed, kvt_rng_stream_id("requests.session", i)),
			.parts = parts };
		if (kvt_rng_uniform(&s.rng) < model->shared) {
			uint64_t which = kvt_rng_below(&s.rng, (uint64_t)model->prefixes);
			s.shared.scope = prefixes[which];
			s.shared.end = (uint64_t)MIN(model->prefix, model->context);
		}
		if (!add_session(model, &s, a.now, builder, error))
			return NULL;
		next_arrival(&a);
	}
	return kvt_request_builder_finish(
		builder, (uint32_t)model->block_tokens, "the generated trace", error);
}
