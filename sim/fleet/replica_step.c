/* replica_step.c: what a step is made of, when it ends, and what it brings. */
#include "sim/fleet/replica_internal.h"
#include "sim/fleet/replica_tenants.h"

#include <errno.h>

/* Looks for something to do that found nothing, one after the other, before it is a livelock. */
enum { IDLE_STEPS_MAX = 10000000 };

static void end_step(void *arg);

static kvt_sequence *nth(const GPtrArray *sequences, guint i)
{
	return g_ptr_array_index(sequences, i);
}

/* Makes whoever came last give way to the sequence. False when nobody has to: it is the last one
 * itself and waits, or has given way. */
static bool give_way(kvt_replica *r, kvt_sequence *sequence)
{
	kvt_sequence *last = kvt_replica_is_apart(r) ? kvt_replica_gives_way(r, sequence)
						     : nth(r->active, r->active->len - 1);
	if (last && last != sequence) {
		kvt_replica_preempt(r, last);
		return true;
	}
	/* alone, and nothing will change */
	sequence->scattered = r->active->len == 1 && r->moving == 0;
	/* a prompt keeps what it has until there is room for more */
	if (sequence->state == KVT_SEQUENCE_DECODE || sequence->scattered)
		kvt_replica_preempt(r, sequence);
	return false;
}

/* Room for a sequence's KV up to `tokens`, of those that came later if need be and allowed. False
 * when there is none now. */
static bool make_room(kvt_replica *r, kvt_sequence *sequence, uint64_t tokens, bool may_preempt)
{
	int error;
	r->acting = kvt_replica_request(r, sequence)->tenant;
	while ((error = kvt_kv_extend(r->kv, sequence->handle, tokens, &r->moves)) != 0) {
		g_assert(error == -ENOSPC);
		if (!may_preempt || !give_way(r, sequence))
			break;
	}
	kvt_replica_start_moves(r, error == 0 ? sequence : NULL);
	return error == 0 && sequence->rooms == 0;
}

static uint64_t context_of(const kvt_replica *r, const kvt_sequence *sequence)
{
	return (uint64_t)kvt_replica_request(r, sequence)->input_tokens + sequence->generated;
}

bool kvt_replica_add_decode(kvt_replica *r, kvt_sequence *sequence, kvt_step *step)
{
	uint64_t context = context_of(r, sequence);
	if (!make_room(r, sequence, context, true))
		return false;
	g_ptr_array_add(r->decodes, sequence);
	sequence->step = r->stats.steps + 1;
	step->decodes++;
	step->context += context;
	step->local_context += MIN(context, kvt_step_cost_window(r->env.cost));
	return true;
}

/* Every running sequence's next token. */
static void add_decodes(kvt_replica *r, kvt_step *step)
{
	for (guint i = 0; i < r->active->len; i++) {
		kvt_sequence *sequence = nth(r->active, i);
		if (sequence->state == KVT_SEQUENCE_DECODE && sequence->rooms == 0)
			kvt_replica_add_decode(r, sequence, step);
	}
}

/* How much of its loading a sequence's first chunk can hide: of its layers all but the last compute
 * while later ones load. */
static kvt_time hides(kvt_replica *r, kvt_sequence *sequence)
{
	if (sequence->hides >= 0)
		return sequence->hides;
	const kvt_fleet_settings *s = r->env.settings;
	uint64_t most = (uint64_t)MIN(s->chunk_tokens, s->token_budget);
	uint64_t tokens = MIN(sequence->prompt - sequence->found, most);
	const kvt_step_chunk chunk = { tokens, sequence->found };
	const kvt_step step = { .chunks = &chunk,
		.n_chunks = 1,
		.rows = sequence->found + tokens == sequence->prompt };
	kvt_time time = kvt_step_cost_time(r->env.cost, &step);
	kvt_time layers = kvt_step_cost_layers(r->env.cost);
	sequence->hides = time / layers * (layers - 1);
	return sequence->hides;
}

bool kvt_replica_may_begin(kvt_replica *r, kvt_sequence *sequence, uint64_t *start, kvt_time *wait)
{
	gboolean waiting = FALSE;
	/* the last token of a prompt is computed in any case: the next one comes of it */
	*start = MIN(kvt_kv_ready(r->kv, sequence->handle, &waiting), sequence->prompt - 1);
	*wait = KVT_TIME_NEVER;
	sequence->early = false;
	if (!waiting)
		return true;
	if (!r->env.settings->layerwise || sequence->loads == 0 || sequence->swapped)
		return false;
	kvt_time left = kvt_replica_loads_left(r, sequence);
	if (left == KVT_TIME_NEVER)
		return false;
	kvt_time hidden = hides(r, sequence);
	if (left > hidden) {
		*wait = left - hidden;
		return false;
	}
	*start = sequence->found;
	sequence->early = true;
	return true;
}

uint64_t kvt_replica_add_chunk(
	kvt_replica *r, kvt_sequence *sequence, kvt_step *step, uint64_t budget, kvt_time *wake)
{
	uint64_t start;
	kvt_time wait;
	if (!kvt_replica_may_begin(r, sequence, &start, &wait)) {
		*wake = MIN(*wake, wait);
		return 0;
	}
	g_assert(start < sequence->prompt);
	uint64_t tokens = MIN(sequence->prompt - start, budget);
	tokens = MIN(tokens, (uint64_t)r->env.settings->chunk_tokens);
	/* nobody gives way who is in this step */
	bool first = (step->decodes == 0 && r->chunks->len == 0) || kvt_replica_is_apart(r);
	if (!make_room(r, sequence, start + tokens, first))
		return 0;
	sequence->start = start;
	sequence->chunk = tokens;
	sequence->step = r->stats.steps + 1;
	const kvt_step_chunk chunk = { tokens, start };
	g_ptr_array_add(r->chunks, sequence);
	g_array_append_val(r->chunk_shapes, chunk);
	step->rows += start + tokens == sequence->prompt;
	return tokens;
}

static void add_chunks(kvt_replica *r, kvt_step *step, kvt_time *wake)
{
	uint64_t budget = (uint64_t)r->env.settings->token_budget - step->decodes;
	for (guint i = 0; i < r->active->len && budget > 0; i++) {
		kvt_sequence *sequence = nth(r->active, i);
		if (sequence->state == KVT_SEQUENCE_PROMPT && sequence->rooms == 0)
			budget -= kvt_replica_add_chunk(r, sequence, step, budget, wake);
	}
}

static void on_wake(void *arg)
{
	kvt_replica *r = arg;
	r->wake = 0;
	kvt_replica_kick(r);
}

/* Nothing can be computed now: looks again when loads will have come far enough. */
static void set_wake(kvt_replica *r, kvt_time wait)
{
	kvt_time at = wait == KVT_TIME_NEVER ? wait : kvt_loop_now(r->env.loop) + wait;
	if (r->wake != 0 && r->wake_at == at)
		return;
	if (r->wake != 0)
		kvt_loop_cancel(r->env.loop, r->wake);
	r->wake_at = at;
	r->wake = kvt_loop_at(r->env.loop, at, on_wake, r);
}

static void begin_step(kvt_replica *r, const kvt_step *step)
{
	r->stepping = true;
	r->step_begun = kvt_loop_now(r->env.loop);
	r->step_time = kvt_step_cost_time(r->env.cost, step);
	r->stats.steps++;
	r->idle_steps = 0;
	unsigned running = r->decodes->len + r->chunks->len;
	r->stats.running_max = MAX(r->stats.running_max, running);
	kvt_loop_after(r->env.loop, r->step_time, end_step, r);
}

void kvt_replica_compose(kvt_replica *r)
{
	g_assert(!r->stepping);
	kvt_step step = { 0 };
	kvt_time wake = KVT_TIME_NEVER;
	g_ptr_array_set_size(r->decodes, 0);
	g_ptr_array_set_size(r->chunks, 0);
	g_array_set_size(r->chunk_shapes, 0);
	if (++r->idle_steps > IDLE_STEPS_MAX)
		kvt_loop_stop(r->env.loop);
	uint64_t preemptions = r->stats.preemptions;
	if (kvt_replica_is_apart(r)) {
		kvt_replica_compose_apart(r, &step, &wake);
	} else {
		add_decodes(r, &step);
		kvt_replica_admit_waiting(r);
		preemptions = r->stats.preemptions;
		add_chunks(r, &step, &wake);
	}
	step.rows += step.decodes;
	step.chunks = (const kvt_step_chunk *)(void *)r->chunk_shapes->data;
	step.n_chunks = r->chunk_shapes->len;
	bool gave_way = r->stats.preemptions > preemptions;
	if (step.decodes > 0 || step.n_chunks > 0)
		wake = KVT_TIME_NEVER;
	set_wake(r, wake);
	if (step.decodes > 0 || step.n_chunks > 0)
		begin_step(r, &step);
	else if (gave_way)
		kvt_replica_kick(r); /* there is room now, for itself if nobody else */
}

/* When the step's last layer may end at the earliest, because of KV that came meanwhile: a layer's
 * share after the last byte. KVT_TIME_NEVER: it has not come. */
static kvt_time loads_allow(kvt_replica *r)
{
	kvt_time at = 0, layer = r->step_time / kvt_step_cost_layers(r->env.cost);
	for (guint i = 0; i < r->chunks->len; i++) {
		kvt_sequence *sequence = nth(r->chunks, i);
		gboolean waiting = FALSE;
		if (!sequence->early)
			continue;
		/* others may be loading the same blocks for themselves */
		if (sequence->loads > 0 ||
			kvt_kv_ready(r->kv, sequence->handle, &waiting) < sequence->start)
			return KVT_TIME_NEVER;
		at = MAX(at, sequence->last_load + layer);
	}
	return at;
}

void kvt_replica_loaded(kvt_replica *r)
{
	if (!r->stalled)
		return;
	kvt_time at = loads_allow(r);
	if (at == KVT_TIME_NEVER)
		return;
	r->stalled = false;
	kvt_loop_at(r->env.loop, MAX(at, kvt_loop_now(r->env.loop)), end_step, r);
}

static void end_decode(kvt_replica *r, kvt_sequence *sequence)
{
	kvt_time now = kvt_loop_now(r->env.loop);
	kvt_histogram_add(&r->gaps, (uint64_t)(now - sequence->last_token));
	sequence->last_token = now;
	sequence->generated++;
	r->stats.output_tokens++;
	if (sequence->generated >= sequence->output)
		kvt_replica_finish(r, sequence);
}

static void end_chunk(kvt_replica *r, kvt_sequence *sequence)
{
	uint64_t done = sequence->start + sequence->chunk;
	kvt_request_outcome *outcome = &r->env.outcomes[sequence->request];
	r->stats.prompt_tokens += sequence->chunk;
	if (sequence->admission > sequence->first_admission)
		r->stats.recomputed_tokens += sequence->chunk;
	kvt_kv_computed(r->kv, sequence->handle, done);
	kvt_replica_set_backlog(r, sequence, sequence->prompt - done);
	if (done < sequence->prompt)
		return;
	r->n_prompts--;
	sequence->state = KVT_SEQUENCE_DECODE;
	sequence->generated++;
	r->stats.output_tokens++;
	kvt_time now = kvt_loop_now(r->env.loop);
	if (outcome->first_token < 0)
		outcome->first_token = now;
	else
		kvt_histogram_add(&r->gaps, (uint64_t)(now - sequence->last_token));
	sequence->last_token = now;
	if (sequence->generated >= sequence->output)
		kvt_replica_finish(r, sequence);
}

static void end_step(void *arg)
{
	kvt_replica *r = arg;
	kvt_time now = kvt_loop_now(r->env.loop), at = loads_allow(r);
	if (at == KVT_TIME_NEVER) {
		r->stalled = true;
		return;
	}
	if (at > now) {
		kvt_loop_at(r->env.loop, at, end_step, r);
		return;
	}
	kvt_time took = now - r->step_begun;
	r->stepping = false;
	r->stats.busy += took;
	r->stats.stall += took - r->step_time;
	r->stats.running_time +=
		kvt_time_to_seconds(took) * (double)(r->decodes->len + r->chunks->len);
	if (r->tenants)
		kvt_replica_charge_step(r, took);
	for (guint i = 0; i < r->decodes->len; i++)
		end_decode(r, nth(r->decodes, i));
	for (guint i = 0; i < r->chunks->len; i++)
		end_chunk(r, nth(r->chunks, i));
	kvt_replica_kick(r);
}
