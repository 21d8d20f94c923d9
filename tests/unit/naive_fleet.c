/* naive_fleet.c: continuous batching by searching lists. */
#include "tests/unit/naive_fleet.h"

typedef enum job_life { TO_COME, WAITING, PREEMPTED, PROMPT, DECODE, OVER } job_life;

typedef struct job {
	job_life life;
	uint64_t prompt, computed; /* tokens */
	uint64_t held;             /* tokens that it has pages for */
	uint32_t generated, output;
	uint64_t admitted; /* order of admission */
	uint64_t start, chunk;
	bool in_step;
} job;

typedef struct naive {
	const kvt_fleet_settings *s;
	const kvt_request_trace *trace;
	kvt_naive_outcome *outcomes;
	job *jobs;
	unsigned n;
	uint64_t pages; /* in all */
	bool *cached;   /* by id */
	uint64_t admissions;
	bool closed;
	kvt_time now;
} naive;

static bool has_room(const job *j)
{
	return j->life == PROMPT || j->life == DECODE;
}

static uint64_t pages_of(const naive *v, uint64_t tokens)
{
	uint64_t page = (uint64_t)v->s->experiment->page_tokens;
	return (tokens + page - 1) / page;
}

static uint64_t free_pages(const naive *v)
{
	if (v->pages == UINT64_MAX)
		return UINT64_MAX;
	uint64_t taken = 0;
	for (unsigned i = 0; i < v->n; i++)
		if (has_room(&v->jobs[i]))
			taken += pages_of(v, v->jobs[i].held);
	return v->pages - taken;
}

static job *last_admitted(naive *v)
{
	job *last = NULL;
	for (unsigned i = 0; i < v->n; i++)
		if (has_room(&v->jobs[i]) && (!last || v->jobs[i].admitted > last->admitted))
			last = &v->jobs[i];
	return last;
}

/* The next one by order of admission after `admitted`. */
static job *next_admitted(naive *v, uint64_t admitted)
{
	job *next = NULL;
	for (unsigned i = 0; i < v->n; i++) {
		job *j = &v->jobs[i];
		if (has_room(j) && j->admitted > admitted &&
			(!next || j->admitted < next->admitted))
			next = j;
	}
	return next;
}

static void preempt(naive *v, job *j)
{
	unsigned i = (unsigned)(j - v->jobs);
	j->life = PREEMPTED;
	j->prompt = (uint64_t)v->trace->requests[i].input_tokens + j->generated;
	j->computed = j->held = 0;
	v->outcomes[i].preemptions++;
	v->closed = true;
}

static uint64_t block_tokens(const naive *v)
{
	return v->trace->block_tokens;
}

/* Tokens of a prompt whose blocks somebody has computed, from the first on. */
static uint64_t cached_tokens(const naive *v, unsigned i)
{
	const kvt_request *q = &v->trace->requests[i];
	uint64_t blocks = 0;
	if (v->pages != UINT64_MAX)
		return 0;
	while (blocks < q->n_blocks && v->cached[v->trace->blocks[q->first_block + blocks]])
		blocks++;
	return blocks * block_tokens(v);
}

static void mark(naive *v, unsigned i, uint64_t tokens)
{
	const kvt_request *q = &v->trace->requests[i];
	for (uint64_t b = 0; b < q->n_blocks && (b + 1) * block_tokens(v) <= tokens; b++)
		v->cached[v->trace->blocks[q->first_block + b]] = true;
}

/* Whether a prompt that has room is to compute the block: then nobody else's copy is taken. */
static bool is_awaited(const naive *v, uint32_t id)
{
	for (unsigned i = 0; i < v->n; i++) {
		const kvt_request *q = &v->trace->requests[i];
		for (uint32_t b = 0; b < q->n_blocks && v->jobs[i].life == PROMPT; b++)
			if (v->trace->blocks[q->first_block + b] == id)
				return true;
	}
	return false;
}

/* What was generated is known by the ids of the session's next request. */
static void mark_context(naive *v, unsigned i)
{
	const kvt_request *q = &v->trace->requests[i];
	uint64_t tokens = (uint64_t)q->input_tokens + v->jobs[i].generated - 1;
	for (unsigned k = i + 1; k < v->n; k++) {
		const kvt_request *next = &v->trace->requests[k];
		if (next->session != q->session)
			continue;
		for (uint64_t b = 0; b < next->n_blocks && (b + 1) * block_tokens(v) <= tokens;
			b++) {
			uint32_t id = v->trace->blocks[next->first_block + b];
			v->cached[id] |= !is_awaited(v, id);
		}
		return;
	}
}

static kvt_time add_decodes(naive *v, uint64_t *decodes)
{
	const kvt_step_settings *step = &v->s->step;
	kvt_time time = 0;
	uint64_t at = 0;
	*decodes = 0;
	for (job *j; (j = next_admitted(v, at)) != NULL;) {
		at = j->admitted;
		if (j->life != DECODE)
			continue;
		uint64_t context =
			(uint64_t)v->trace->requests[j - v->jobs].input_tokens + j->generated;
		while (has_room(j) && free_pages(v) < pages_of(v, context) - pages_of(v, j->held))
			preempt(v, last_admitted(v));
		if (!has_room(j))
			break;
		j->held = context;
		j->in_step = true;
		(*decodes)++;
		time += step->per_sequence + step->per_kv_token * (kvt_time)context;
	}
	return time;
}

static job *first_waiting(naive *v)
{
	for (int life = PREEMPTED; life >= WAITING; life--)
		for (unsigned i = 0; i < v->n; i++)
			if (v->jobs[i].life == (job_life)life)
				return &v->jobs[i];
	return NULL;
}

static unsigned count(const naive *v, job_life life)
{
	unsigned n = 0;
	for (unsigned i = 0; i < v->n; i++)
		n += v->jobs[i].life == life;
	return n;
}

static void admit(naive *v)
{
	if (count(v, PROMPT) + count(v, DECODE) == 0)
		v->closed = false;
	while (!v->closed && count(v, PROMPT) + count(v, DECODE) < v->s->max_sequences &&
		count(v, PROMPT) < v->s->ahead) {
		job *j = first_waiting(v);
		if (!j || free_pages(v) < pages_of(v, j->prompt))
			return;
		j->life = PROMPT;
		j->admitted = ++v->admissions;
		j->held = j->prompt;
		j->computed = 0;
	}
}

static kvt_time add_chunks(naive *v, uint64_t budget, bool *any)
{
	kvt_time time = 0;
	uint64_t at = 0;
	for (job *j; budget > 0 && (j = next_admitted(v, at)) != NULL;) {
		at = j->admitted;
		if (j->life != PROMPT)
			continue;
		uint64_t start = MAX(j->computed, cached_tokens(v, (unsigned)(j - v->jobs)));
		j->start = MIN(start, j->prompt - 1);
		j->chunk = MIN(MIN(j->prompt - j->start, budget), (uint64_t)v->s->chunk_tokens);
		j->in_step = *any = true;
		budget -= j->chunk;
		time += v->s->step.per_token * (kvt_time)j->chunk;
	}
	return time;
}

static void end_one(naive *v, unsigned i)
{
	job *j = &v->jobs[i];
	j->in_step = false;
	if (j->life == PROMPT) {
		j->computed = j->start + j->chunk;
		mark(v, i, j->computed);
		if (j->computed < j->prompt)
			return;
		if (v->outcomes[i].first_token < 0)
			v->outcomes[i].first_token = v->now;
		j->life = DECODE;
	}
	if (++j->generated < j->output)
		return;
	mark_context(v, i);
	j->life = OVER;
	v->closed = false;
	v->outcomes[i].ended = v->now;
}

/* False when there is nothing to do. */
static bool step(naive *v)
{
	uint64_t decodes;
	bool any = false;
	kvt_time time = add_decodes(v, &decodes);
	admit(v);
	time += add_chunks(v, (uint64_t)v->s->token_budget - decodes, &any);
	if (decodes == 0 && !any)
		return false;
	v->now += MAX(time + v->s->step.base, 1);
	for (unsigned i = 0; i < v->n; i++)
		if (v->jobs[i].in_step)
			end_one(v, i);
	return true;
}

void kvt_naive_fleet_run(const kvt_fleet_settings *settings, const kvt_request_trace *trace,
	uint64_t pages, kvt_naive_outcome *outcomes)
{
	naive v = { .s = settings,
		.trace = trace,
		.outcomes = outcomes,
		.n = (unsigned)trace->n_requests,
		.pages = pages };
	v.jobs = g_new0(job, v.n);
	v.cached = g_new0(bool, trace->n_ids + 1);
	for (unsigned i = 0; i < v.n; i++) {
		outcomes[i] = (kvt_naive_outcome){ -1, -1, 0 };
		v.jobs[i].prompt = trace->requests[i].input_tokens;
		v.jobs[i].output = MAX(trace->requests[i].output_tokens, 1);
	}
	while (count(&v, OVER) < v.n) {
		kvt_time next = KVT_TIME_NEVER;
		for (unsigned i = 0; i < v.n; i++) {
			if (v.jobs[i].life != TO_COME)
				continue;
			if (trace->requests[i].arrival <= v.now)
				v.jobs[i].life = WAITING;
			else
				next = MIN(next, trace->requests[i].arrival);
		}
		if (!step(&v)) {
			g_assert_cmpint(next, <, KVT_TIME_NEVER);
			v.now = next;
		}
	}
	g_free(v.jobs);
	g_free(v.cached);
}
