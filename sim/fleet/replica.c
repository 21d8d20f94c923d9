/* replica.c: who is at a replica: waiting, admitted, giving way, done. */
#include "sim/fleet/replica_internal.h"
#include "sim/fleet/replica_tenants.h"

#include <errno.h>

const char *const kvt_refusal_names[KVT_REFUSALS] = { "", "larger-than-cache", "rate-limit",
	"queue-full", "deadline" };

kvt_replica *kvt_replica_new(const kvt_replica_env *env, unsigned index, kvt_kv_manager *kv)
{
	kvt_replica *r = g_new0(kvt_replica, 1);
	r->env = *env;
	r->index = index;
	r->kv = kv;
	r->ahead = (unsigned)env->settings->ahead;
	kvt_wait_queue_init(&r->queue);
	r->active = g_ptr_array_new();
	r->swapped = g_ptr_array_new();
	r->decodes = g_ptr_array_new();
	r->chunks = g_ptr_array_new();
	r->chunk_shapes = g_array_new(FALSE, FALSE, sizeof(kvt_step_chunk));
	r->sequences = g_ptr_array_new_with_free_func(g_free);
	kvt_histogram_init(&r->gaps);
	if (env->tenants)
		r->tenants = kvt_replica_tenants_new(r);
	return r;
}

void kvt_replica_free(kvt_replica *r)
{
	if (!r)
		return;
	kvt_wait_queue_clear(&r->queue);
	kvt_replica_tenants_free(r->tenants);
	g_ptr_array_unref(r->active);
	g_ptr_array_unref(r->swapped);
	g_ptr_array_unref(r->decodes);
	g_ptr_array_unref(r->chunks);
	g_array_unref(r->chunk_shapes);
	g_ptr_array_unref(r->sequences);
	kvt_kv_moves_clear(&r->moves);
	g_free(r);
}

static void on_kick(void *arg)
{
	kvt_replica *r = arg;
	r->kicked = false;
	if (!r->stepping)
		kvt_replica_compose(r);
}

/* Looks for something to do once all that happens at this time has happened. */
void kvt_replica_kick(kvt_replica *r)
{
	if (r->kicked || r->stepping)
		return;
	r->kicked = true;
	kvt_loop_at(r->env.loop, kvt_loop_now(r->env.loop), on_kick, r);
}

void kvt_replica_set_backlog(kvt_replica *r, kvt_sequence *sequence, uint64_t tokens)
{
	r->backlog += tokens - sequence->backlog;
	if (r->tenants)
		kvt_replica_count_backlog(r, sequence, tokens - sequence->backlog);
	sequence->backlog = tokens;
}

/* What is asked of the KV manager for a sequence that computes its prompt. */
static kvt_kv_prompt prompt_of(const kvt_replica *r, uint32_t request, uint64_t tokens)
{
	const kvt_request_trace *trace = r->env.trace;
	const kvt_request *q = &trace->requests[request];
	kvt_kv_prompt prompt = { .tenant = q->tenant,
		.ids = trace->blocks + q->first_block,
		.tokens = tokens,
		.next_use = UINT32_MAX };
	if (r->env.settings->prefix_caching) {
		/* the last one, in part, is not the prompt's alone once tokens were generated */
		uint64_t blocks = tokens > q->input_tokens ? q->input_tokens / r->env.block_tokens
							   : (tokens + r->env.block_tokens - 1) /
								     r->env.block_tokens;
		prompt.n_ids = (uint32_t)MIN(q->n_blocks, blocks);
	}
	return prompt;
}

static kvt_sequence *take_sequence(kvt_replica *r, uint32_t request)
{
	kvt_sequence *sequence = r->free_sequences;
	if (sequence) {
		r->free_sequences = sequence->next_free;
	} else {
		sequence = g_new0(kvt_sequence, 1);
		g_ptr_array_add(r->sequences, sequence);
	}
	const kvt_request *q = &r->env.trace->requests[request];
	uint32_t admission = sequence->admission;
	*sequence = (kvt_sequence){ .request = request,
		.admission = admission, /* batches of who had it before are not its own */
		.first_admission = admission + 1,
		.order = r->orders++,
		.prompt = q->input_tokens,
		.output = MAX(q->output_tokens, 1) };
	return sequence;
}

static void give_sequence(kvt_replica *r, kvt_sequence *sequence)
{
	sequence->state = KVT_SEQUENCE_OVER;
	sequence->admission++;
	sequence->next_free = r->free_sequences;
	r->free_sequences = sequence;
}

/* The KV of the last token is never computed. */
static bool fits(const kvt_replica *r, uint32_t request)
{
	const kvt_request *q = &r->env.trace->requests[request];
	uint64_t tokens = (uint64_t)q->input_tokens + MAX(q->output_tokens, 1) - 1;
	const kvt_fleet_settings *s = r->env.settings;
	return kvt_kv_fits(r->kv, tokens, (uint64_t)MIN(s->chunk_tokens, s->token_budget));
}

void kvt_replica_enqueue(kvt_replica *r, uint32_t request)
{
	kvt_request_outcome *outcome = &r->env.outcomes[request];
	outcome->replica = r->index;
	if (!fits(r, request)) {
		outcome->refusal = KVT_REFUSED_LARGE;
		outcome->ended = kvt_loop_now(r->env.loop);
		r->env.ended(r->env.arg, request);
		return;
	}
	kvt_sequence *sequence = take_sequence(r, request);
	r->n_requests++;
	kvt_replica_set_backlog(r, sequence, sequence->prompt);
	kvt_wait_queue_push(kvt_replica_queue(r, sequence), sequence);
	r->stats.waiting_max = MAX(r->stats.waiting_max, kvt_replica_waiting(r));
	kvt_replica_kick(r);
}

static void begin_admission(kvt_replica *r, kvt_sequence *sequence, const kvt_kv_match *match)
{
	sequence->admission++;
	sequence->rooms = sequence->loads = sequence->n_transfers = 0;
	sequence->last_load = 0;
	sequence->hides = -1;
	sequence->swapped = sequence->state == KVT_SEQUENCE_SWAPPED;
	sequence->found = MIN(match->tokens, sequence->prompt - 1);
	kvt_replica_set_backlog(r, sequence, sequence->prompt - sequence->found);
	g_ptr_array_add(r->active, sequence);
	kvt_request_outcome *outcome = &r->env.outcomes[sequence->request];
	if (outcome->admitted >= 0)
		return;
	outcome->admitted = kvt_loop_now(r->env.loop);
	outcome->hit_tokens = match->tokens;
	outcome->lookup_blocks = kvt_replica_request(r, sequence)->n_blocks;
	for (unsigned level = 0; level < KVT_KV_LEVELS; level++)
		outcome->hit_blocks[level] = match->level_blocks[level];
}

/* The other replica where the session was; UINT32_MAX: none, or its KV stays there. */
static uint32_t peer_of(const kvt_replica *r, uint32_t request)
{
	uint32_t home = r->env.homes[r->env.trace->requests[request].session];
	return r->env.settings->migration && home != r->index ? home : UINT32_MAX;
}

static bool admit(kvt_replica *r, kvt_sequence *sequence)
{
	r->acting = kvt_replica_request(r, sequence)->tenant;
	kvt_kv_match match = { 0 };
	kvt_kv_prompt prompt = prompt_of(r, sequence->request, sequence->prompt);
	if (sequence->scattered)
		prompt.n_ids = 0;
	sequence->peer = peer_of(r, sequence->request);
	if (sequence->peer != UINT32_MAX)
		prompt.peer = r->env.managers[sequence->peer];
	kvt_replica_limit_loads(r, &prompt, sequence->peer);
	int error = kvt_kv_admit(r->kv, &prompt, &r->moves, &match, &sequence->handle);
	if (error != 0)
		return false;
	begin_admission(r, sequence, &match);
	sequence->state = KVT_SEQUENCE_PROMPT;
	r->n_prompts++;
	kvt_replica_start_moves(r, sequence);
	return true;
}

/* One that was swapped out has its own prompt, what it generated included, where it was, and goes
 * on as a prompt whose last token alone is to be computed. */
static bool swap_in(kvt_replica *r, kvt_sequence *sequence)
{
	kvt_kv_match match = { 0 };
	r->acting = kvt_replica_request(r, sequence)->tenant;
	int error = kvt_kv_swap_in(r->kv, sequence->handle, &r->moves, &match);
	if (error != 0)
		return false;
	begin_admission(r, sequence, &match);
	sequence->state = KVT_SEQUENCE_PROMPT;
	r->n_prompts++;
	kvt_replica_start_moves(r, sequence);
	return true;
}

/* Whether a sequence that found no room would find none for ever. */
static bool is_stuck(const kvt_replica *r, const kvt_sequence *sequence)
{
	return r->active->len == 0 && r->moving == 0 && !sequence->scattered;
}

bool kvt_replica_try_admit(kvt_replica *r, kvt_sequence *sequence)
{
	bool is_swapped = sequence->state == KVT_SEQUENCE_SWAPPED;
	if (!(is_swapped ? swap_in(r, sequence) : admit(r, sequence)))
		return false;
	if (is_swapped)
		g_ptr_array_remove(r->swapped, sequence);
	else
		kvt_wait_queue_pop(kvt_replica_queue(r, sequence));
	return true;
}

bool kvt_replica_unstick(kvt_replica *r, kvt_sequence *sequence)
{
	kvt_replica_start_moves(r, NULL);
	if (!is_stuck(r, sequence))
		return false;
	sequence->scattered = true;
	if (sequence->state != KVT_SEQUENCE_SWAPPED)
		return true;
	g_ptr_array_remove(r->swapped, sequence);
	kvt_kv_drop(r->kv, sequence->handle);
	sequence->state = KVT_SEQUENCE_WAITING;
	kvt_wait_queue_return(kvt_replica_queue(r, sequence), sequence);
	return true;
}

/* Those that were swapped out first, the oldest of them before all others. */
void kvt_replica_admit_waiting(kvt_replica *r)
{
	const kvt_fleet_settings *s = r->env.settings;
	if (r->active->len == 0)
		r->closed = false;
	while (!r->closed && r->active->len < s->max_sequences && r->n_prompts < r->ahead) {
		kvt_sequence *first = r->swapped->len > 0 ? g_ptr_array_index(r->swapped, 0)
							  : kvt_wait_queue_first(&r->queue);
		if (!first || (!kvt_replica_try_admit(r, first) && !kvt_replica_unstick(r, first)))
			return;
	}
}

static bool by_order(const GPtrArray *sequences, guint i, const kvt_sequence *sequence)
{
	return ((const kvt_sequence *)g_ptr_array_index(sequences, i))->order < sequence->order;
}

static bool swap_out(kvt_replica *r, kvt_sequence *sequence)
{
	if (r->env.settings->preemption != KVT_PREEMPT_SWAP || sequence->scattered ||
		kvt_kv_swap_out(r->kv, sequence->handle, &r->moves) != 0)
		return false;
	guint at = 0;
	while (at < r->swapped->len && by_order(r->swapped, at, sequence))
		at++;
	g_ptr_array_insert(r->swapped, (gint)at, sequence);
	sequence->state = KVT_SEQUENCE_SWAPPED;
	r->stats.swaps++;
	return true;
}

/* Takes the sequence's room away. It comes back with all that it has generated as its prompt. Moves
 * of the swap are in r->moves. */
void kvt_replica_preempt(kvt_replica *r, kvt_sequence *sequence)
{
	const kvt_request *q = kvt_replica_request(r, sequence);
	if (sequence->state == KVT_SEQUENCE_PROMPT)
		r->n_prompts--;
	else
		kvt_kv_computed(r->kv, sequence->handle,
			(uint64_t)q->input_tokens + sequence->generated - 1);
	g_ptr_array_remove(r->active, sequence);
	sequence->prompt = (uint64_t)q->input_tokens + sequence->generated;
	sequence->admission++;
	r->env.outcomes[sequence->request].preemptions++;
	r->stats.preemptions++;
	r->closed = true;
	if (!swap_out(r, sequence)) {
		kvt_kv_drop(r->kv, sequence->handle);
		sequence->state = KVT_SEQUENCE_WAITING;
		kvt_wait_queue_return(kvt_replica_queue(r, sequence), sequence);
	}
	kvt_replica_set_backlog(r, sequence, sequence->prompt);
}

/* The ids of the whole context's blocks, where the next turn says them: it has to go on from here,
 * block by block. */
static const uint32_t *context_ids(const kvt_replica *r, uint32_t request, uint32_t *n)
{
	const kvt_request_trace *trace = r->env.trace;
	uint32_t next = r->env.next_turn[request];
	*n = 0;
	if (next == KVT_REQUEST_NONE || !r->env.settings->prefix_caching)
		return NULL;
	const kvt_request *q = &trace->requests[request], *then = &trace->requests[next];
	const uint32_t *ids = trace->blocks + q->first_block;
	const uint32_t *later = trace->blocks + then->first_block;
	uint64_t context = (uint64_t)q->input_tokens + q->output_tokens;
	uint32_t whole = MIN(q->input_tokens / r->env.block_tokens, q->n_blocks);
	if (then->input_tokens < context || then->n_blocks < whole || q->tenant != then->tenant)
		return NULL;
	/* an id is that of the whole prefix */
	if (whole > 0 && ids[whole - 1] != later[whole - 1])
		return NULL;
	*n = (uint32_t)MIN(context / r->env.block_tokens, then->n_blocks);
	return later;
}

void kvt_replica_finish(kvt_replica *r, kvt_sequence *sequence)
{
	const kvt_request *q = kvt_replica_request(r, sequence);
	uint32_t request = sequence->request, n_ids;
	r->acting = q->tenant;
	kvt_request_outcome *outcome = &r->env.outcomes[request];
	kvt_kv_computed(
		r->kv, sequence->handle, (uint64_t)q->input_tokens + sequence->generated - 1);
	const uint32_t *ids = context_ids(r, request, &n_ids);
	kvt_kv_finish(r->kv, sequence->handle, ids, n_ids, &r->moves);
	g_ptr_array_remove(r->active, sequence);
	kvt_replica_start_moves(r, NULL);
	r->env.homes[q->session] = r->index;
	outcome->ended = kvt_loop_now(r->env.loop);
	outcome->generated = sequence->generated;
	kvt_replica_set_backlog(r, sequence, 0);
	r->n_requests--;
	r->closed = false;
	give_sequence(r, sequence);
	r->env.ended(r->env.arg, request);
}

unsigned kvt_replica_requests(const kvt_replica *r)
{
	return r->n_requests;
}

uint64_t kvt_replica_match(kvt_replica *r, uint32_t request)
{
	kvt_kv_match match;
	kvt_kv_prompt prompt = prompt_of(r, request, r->env.trace->requests[request].input_tokens);
	prompt.limited = r->env.settings->reload == KVT_RELOAD_RECOMPUTE;
	kvt_kv_match_prompt(r->kv, &prompt, &match);
	return match.tokens;
}

void kvt_replica_set_ahead(kvt_replica *r, unsigned ahead)
{
	r->ahead = ahead;
	kvt_replica_kick(r);
}

kvt_replica_load kvt_replica_get_load(const kvt_replica *r)
{
	return (kvt_replica_load){ .waiting = kvt_replica_waiting(r),
		.running = r->active->len,
		.swapped = r->swapped->len,
		.stepping = r->stepping };
}

const kvt_replica_stats *kvt_replica_get_stats(const kvt_replica *r)
{
	return &r->stats;
}

const kvt_histogram *kvt_replica_token_gaps(const kvt_replica *r)
{
	return &r->gaps;
}

char *kvt_replica_describe(const kvt_replica *r)
{
	return g_strdup_printf("replica %u has %u requests waiting, %u with room in HBM and %u "
			       "swapped out, %u saves on their way",
		r->index, kvt_replica_waiting(r), r->active->len, r->swapped->len, r->saves);
}
