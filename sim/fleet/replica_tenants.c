/* replica_tenants.c: tenants' queues and shares of a replica. Deficit round robin within a step:
 * what a tenant got too much or too little of one, the next one makes up for. */
#include "sim/fleet/replica_tenants.h"

#include <math.h>

static kvt_sequence *nth(const GPtrArray *sequences, guint i)
{
	return g_ptr_array_index(sequences, i);
}

static uint32_t tenant_index(const kvt_replica *r, const kvt_sequence *sequence)
{
	return kvt_replica_request(r, sequence)->tenant;
}

static kvt_replica_tenant *tenant_of(const kvt_replica *r, const kvt_sequence *sequence)
{
	return &r->tenants->tenants[tenant_index(r, sequence)];
}

/* What a prompt token takes in a full step, and a decode's KV token beside it. */
static void measure(kvt_replica *r, kvt_replica_tenants *t)
{
	enum { DECODES = 32, CONTEXT = 16384 };
	const kvt_step_chunk chunk = { (uint64_t)r->env.settings->token_budget, 0 };
	kvt_step step = { .chunks = &chunk, .n_chunks = 1 };
	t->token_time = kvt_step_cost_time(r->env.cost, &step) / r->env.settings->token_budget;
	t->token_time = MAX(t->token_time, 1);
	uint64_t window = kvt_step_cost_window(r->env.cost);
	step = (kvt_step){ .decodes = DECODES,
		.context = DECODES * CONTEXT,
		.local_context = DECODES * MIN(CONTEXT, window),
		.rows = DECODES };
	kvt_time far = kvt_step_cost_time(r->env.cost, &step);
	step.context = step.local_context = DECODES;
	kvt_time near = kvt_step_cost_time(r->env.cost, &step);
	t->context_tokens =
		(double)MAX(far - near, 0) / (DECODES * (CONTEXT - 1.0)) / (double)t->token_time;
}

kvt_replica_tenants *kvt_replica_tenants_new(kvt_replica *r)
{
	kvt_replica_tenants *t = g_new0(kvt_replica_tenants, 1);
	int sharing = r->env.settings->qos.sharing;
	t->n = r->env.trace->n_tenants;
	t->is_apart = sharing != KVT_SHARING_FCFS;
	t->is_reserved = sharing == KVT_SHARING_RESERVED;
	t->tenants = g_new0(kvt_replica_tenant, t->n);
	t->claims = g_new0(kvt_share_claim, t->n);
	t->ready = g_ptr_array_new();
	t->hbm_bytes = kvt_kv_allocator(r->kv)->bytes;
	for (unsigned i = 0; i < t->n; i++) {
		t->tenants[i].settings = r->env.tenants[i];
		kvt_wait_queue_init(&t->tenants[i].queue);
	}
	measure(r, t);
	return t;
}

void kvt_replica_tenants_free(kvt_replica_tenants *t)
{
	if (!t)
		return;
	for (unsigned i = 0; i < t->n; i++)
		kvt_wait_queue_clear(&t->tenants[i].queue);
	g_free(t->tenants);
	g_free(t->claims);
	g_ptr_array_unref(t->ready);
	g_free(t);
}

/* Waiting */

/* Who comes back after a pause has no claim to what it did not ask for meanwhile. */
static void join(kvt_replica_tenants *t, kvt_replica_tenant *tenant)
{
	double least = INFINITY;
	for (unsigned i = 0; i < t->n; i++)
		if (&t->tenants[i] != tenant && t->tenants[i].backlog > 0)
			least = MIN(least, t->tenants[i].served);
	if (least < INFINITY)
		tenant->served = MAX(tenant->served, least);
}

kvt_wait_queue *kvt_replica_queue(kvt_replica *r, const kvt_sequence *sequence)
{
	return kvt_replica_is_apart(r) ? &tenant_of(r, sequence)->queue : &r->queue;
}

unsigned kvt_replica_waiting(const kvt_replica *r)
{
	unsigned n = kvt_wait_queue_length(&r->queue);
	for (unsigned i = 0; kvt_replica_is_apart(r) && i < r->tenants->n; i++)
		n += kvt_wait_queue_length(&r->tenants->tenants[i].queue);
	return n;
}

void kvt_replica_count_backlog(kvt_replica *r, const kvt_sequence *sequence, uint64_t change)
{
	kvt_replica_tenant *tenant = tenant_of(r, sequence);
	if (tenant->backlog == 0)
		join(r->tenants, tenant);
	tenant->backlog += change;
}

/* Its class, a step better for each time that it has waited `aging`. */
static unsigned rank_of(const kvt_replica *r, const kvt_sequence *sequence)
{
	unsigned rank = (unsigned)tenant_of(r, sequence)->settings->priority;
	kvt_time since = sequence->state == KVT_SEQUENCE_DECODE
				 ? sequence->last_token
				 : r->env.outcomes[sequence->request].arrival;
	kvt_time steps = (kvt_loop_now(r->env.loop) - since) / r->env.settings->qos.aging;
	return steps >= (kvt_time)rank ? 0 : rank - (unsigned)steps;
}

/* Admission */

static void count_active(kvt_replica *r)
{
	kvt_replica_tenants *t = r->tenants;
	for (unsigned i = 0; i < t->n; i++)
		t->tenants[i].active = t->tenants[i].prompts = t->tenants[i].held = 0;
	for (guint i = 0; i < r->active->len; i++) {
		kvt_sequence *sequence = nth(r->active, i);
		kvt_replica_tenant *tenant = tenant_of(r, sequence);
		tenant->active++;
		tenant->prompts += sequence->state == KVT_SEQUENCE_PROMPT;
		tenant->held += kvt_kv_held_bytes(r->kv, sequence->handle);
	}
}

static double reserved(const kvt_replica_tenants *t, unsigned i, kvt_reservation what)
{
	return t->is_reserved ? t->tenants[i].settings->reserved[what] : 0;
}

/* `more`: sequences more than it has. */
static bool is_within(const kvt_replica *r, unsigned i, unsigned more)
{
	const kvt_replica_tenants *t = r->tenants;
	double sequences = reserved(t, i, KVT_RESERVED_SEQUENCES);
	double memory = reserved(t, i, KVT_RESERVED_MEMORY);
	double slots = sequences * (double)r->env.settings->max_sequences;
	return sequences > 0 && memory > 0 && t->tenants[i].active + more <= MAX(slots, 1) &&
	       (double)t->tenants[i].held <= memory * (double)t->hbm_bytes;
}

static kvt_sequence *head_of(const kvt_replica *r, unsigned i)
{
	for (guint k = 0; k < r->swapped->len; k++)
		if (tenant_index(r, nth(r->swapped, k)) == i)
			return nth(r->swapped, k);
	return kvt_wait_queue_first(&r->tenants->tenants[i].queue);
}

/* Whose turn it is, or t->n: within what is reserved first, then the best class, then who has had
 * least for its weight. */
static unsigned choose(kvt_replica *r, bool *within)
{
	const kvt_fleet_settings *s = r->env.settings;
	kvt_replica_tenants *t = r->tenants;
	bool open = !r->closed && r->active->len < s->max_sequences;
	unsigned best = t->n, best_rank = 0;
	for (unsigned i = 0; i < t->n; i++) {
		const kvt_sequence *head = head_of(r, i);
		/* each tenant has that many ahead, or one would keep the others from their share */
		if (!head || t->tenants[i].prompts >= r->ahead)
			continue;
		bool promised = is_within(r, i, 1);
		if (!open && !promised)
			continue;
		unsigned rank = promised ? 0 : 1 + rank_of(r, head);
		if (best < t->n && (rank > best_rank ||
					   (rank == best_rank && t->tenants[i].served >=
									 t->tenants[best].served)))
			continue;
		best = i;
		best_rank = rank;
		*within = promised;
	}
	return best;
}

/* A sequence of who has more than is reserved for it: of the last class, the last one admitted. */
static kvt_sequence *borrower(kvt_replica *r, const kvt_replica_tenant *but)
{
	kvt_sequence *found = NULL;
	for (guint i = 0; i < r->active->len; i++) {
		kvt_sequence *sequence = nth(r->active, i);
		const kvt_replica_tenant *tenant = tenant_of(r, sequence);
		if (tenant == but || sequence->step > r->stats.steps ||
			is_within(r, tenant_index(r, sequence), 0))
			continue;
		if (!found || tenant->settings->priority >= tenant_of(r, found)->settings->priority)
			found = sequence;
	}
	return found;
}

/* Admits the head of the tenant, and takes room from borrowers where it was promised. */
static bool admit_head(kvt_replica *r, unsigned i, bool promised)
{
	kvt_replica_tenant *tenant = &r->tenants->tenants[i];
	kvt_sequence *head = head_of(r, i);
	bool has_slot = r->active->len < r->env.settings->max_sequences;
	while (!has_slot || !kvt_replica_try_admit(r, head)) {
		kvt_sequence *last = promised ? borrower(r, tenant) : NULL;
		if (!last)
			return kvt_replica_unstick(r, head);
		kvt_replica_preempt(r, last);
		count_active(r);
		has_slot = true;
	}
	tenant->served += (double)(head->backlog + head->output) / tenant->settings->weight;
	return true;
}

static void admit_waiting(kvt_replica *r)
{
	bool promised = false;
	if (r->active->len == 0)
		r->closed = false;
	for (;;) {
		count_active(r);
		unsigned next = choose(r, &promised);
		if (next == r->tenants->n || !admit_head(r, next, promised))
			return;
	}
}

kvt_sequence *kvt_replica_gives_way(kvt_replica *r, kvt_sequence *sequence)
{
	kvt_replica_tenant *tenant = tenant_of(r, sequence);
	count_active(r);
	kvt_sequence *last = NULL;
	if (is_within(r, tenant_index(r, sequence), 0))
		last = borrower(r, tenant);
	for (guint i = r->active->len; i-- > 0 && !last;) {
		kvt_sequence *other = nth(r->active, i);
		/* within what is reserved nobody gives way to who is not */
		if (other == sequence || (other->step <= r->stats.steps &&
						 (tenant_of(r, other) == tenant ||
							 !is_within(r, tenant_index(r, other), 0))))
			last = other;
	}
	return last;
}

/* Steps */

static double decode_tokens(const kvt_replica *r, const kvt_sequence *sequence)
{
	const kvt_request *q = kvt_replica_request(r, sequence);
	double context = (double)q->input_tokens + sequence->generated;
	return 1 + r->tenants->context_tokens * context;
}

/* What each tenant could use of this step. */
static void find_demand(kvt_replica *r, kvt_time *wake)
{
	kvt_replica_tenants *t = r->tenants;
	const kvt_fleet_settings *s = r->env.settings;
	for (unsigned i = 0; i < t->n; i++)
		t->claims[i] = (kvt_share_claim){ .weight = t->tenants[i].settings->weight,
			.reserved = reserved(t, i, KVT_RESERVED_COMPUTE) * (double)s->token_budget,
			.rank = KVT_TENANT_CLASSES };
	g_ptr_array_set_size(t->ready, 0);
	for (guint i = 0; i < r->active->len; i++) {
		kvt_sequence *sequence = nth(r->active, i);
		kvt_share_claim *claim = &t->claims[tenant_index(r, sequence)];
		uint64_t start;
		kvt_time wait;
		if (sequence->rooms > 0)
			continue;
		if (sequence->state == KVT_SEQUENCE_DECODE) {
			claim->demand += decode_tokens(r, sequence);
			g_ptr_array_add(t->ready, sequence);
		} else if (kvt_replica_may_begin(r, sequence, &start, &wait)) {
			claim->demand +=
				(double)MIN(sequence->prompt - start, (uint64_t)s->chunk_tokens);
		} else {
			*wake = MIN(*wake, wait);
			continue;
		}
		claim->rank = MIN(claim->rank, rank_of(r, sequence));
	}
}

/* What each tenant may use: all of it where nobody else wants any. */
static void divide(kvt_replica *r)
{
	kvt_replica_tenants *t = r->tenants;
	unsigned wanting = 0;
	for (unsigned i = 0; i < t->n; i++)
		wanting += t->claims[i].demand > 0;
	kvt_share_divide(t->claims, t->n, (double)r->env.settings->token_budget);
	for (unsigned i = 0; i < t->n; i++) {
		kvt_replica_tenant *tenant = &t->tenants[i];
		bool is_short = t->claims[i].given < t->claims[i].demand;
		if (!is_short || wanting < 2)
			tenant->credit = 0;
		tenant->step =
			is_short && wanting < 2 ? INFINITY : t->claims[i].given + tenant->credit;
	}
}

static gint by_last_token(gconstpointer a, gconstpointer b)
{
	const kvt_sequence *x = *(kvt_sequence *const *)a, *y = *(kvt_sequence *const *)b;
	if (x->last_token != y->last_token)
		return x->last_token < y->last_token ? -1 : 1;
	return x->order < y->order ? -1 : x->order > y->order;
}

/* Those who have waited longest for their next token first, where not all can have one. */
static void add_decodes(kvt_replica *r, kvt_step *step)
{
	kvt_replica_tenants *t = r->tenants;
	g_ptr_array_sort(t->ready, by_last_token);
	for (guint i = 0; i < t->ready->len; i++) {
		kvt_sequence *sequence = nth(t->ready, i);
		kvt_replica_tenant *tenant = tenant_of(r, sequence);
		if (!(tenant->step > 1e-6) || sequence->state != KVT_SEQUENCE_DECODE)
			continue;
		if (kvt_replica_add_decode(r, sequence, step))
			tenant->step -= decode_tokens(r, sequence);
	}
}

static void add_chunks(kvt_replica *r, kvt_step *step, kvt_time *wake)
{
	uint64_t budget = (uint64_t)r->env.settings->token_budget - step->decodes;
	for (guint i = 0; i < r->active->len && budget > 0; i++) {
		kvt_sequence *sequence = nth(r->active, i);
		kvt_replica_tenant *tenant = tenant_of(r, sequence);
		if (sequence->state != KVT_SEQUENCE_PROMPT || sequence->rooms > 0)
			continue;
		double allowed = floor(tenant->step + 1e-6);
		if (!(allowed >= 1))
			continue;
		uint64_t most = allowed < (double)budget ? (uint64_t)allowed : budget;
		uint64_t tokens = kvt_replica_add_chunk(r, sequence, step, most, wake);
		budget -= tokens;
		tenant->step -= (double)tokens;
	}
}

void kvt_replica_compose_apart(kvt_replica *r, kvt_step *step, kvt_time *wake)
{
	kvt_replica_tenants *t = r->tenants;
	admit_waiting(r);
	find_demand(r, wake);
	divide(r);
	add_decodes(r, step);
	add_chunks(r, step, wake);
	for (unsigned i = 0; i < t->n; i++) {
		/* what it could not use for want of room is not saved up */
		double most = (double)r->env.settings->token_budget;
		double left = t->tenants[i].step;
		t->tenants[i].credit = left < INFINITY ? CLAMP(left, -most, 1) : 0;
	}
}

void kvt_replica_charge_step(kvt_replica *r, kvt_time took)
{
	kvt_replica_tenants *t = r->tenants;
	double sum = 0;
	for (unsigned i = 0; i < t->n; i++)
		t->tenants[i].step = 0;
	for (guint i = 0; i < r->decodes->len; i++) {
		kvt_sequence *sequence = nth(r->decodes, i);
		tenant_of(r, sequence)->step += decode_tokens(r, sequence);
	}
	for (guint i = 0; i < r->chunks->len; i++) {
		kvt_sequence *sequence = nth(r->chunks, i);
		tenant_of(r, sequence)->step += (double)sequence->chunk;
	}
	for (unsigned i = 0; i < t->n; i++)
		sum += t->tenants[i].step;
	for (unsigned i = 0; i < t->n && sum > 0; i++)
		t->tenants[i].time += (kvt_time)((double)took * t->tenants[i].step / sum);
}

/* Estimates */

/* The part of the replica that the tenant has while all that have anything to do want it. */
static double share_of(const kvt_replica *r, uint32_t tenant)
{
	kvt_replica_tenants *t = r->tenants;
	for (unsigned i = 0; i < t->n; i++)
		t->claims[i] =
			(kvt_share_claim){ .demand = i == tenant || t->tenants[i].backlog > 0,
				.reserved = reserved(t, i, KVT_RESERVED_COMPUTE),
				.weight = t->tenants[i].settings->weight,
				.rank = (unsigned)t->tenants[i].settings->priority };
	kvt_share_divide(t->claims, t->n, 1);
	return MAX(t->claims[tenant].given, 1e-6);
}

/* Tokens that come before the last of `tokens` of the tenant's, those included. */
static double tokens_until(const kvt_replica *r, uint32_t tenant, double tokens)
{
	const kvt_replica_tenants *t = r->tenants;
	if (!t->is_apart)
		return (double)r->backlog + tokens;
	double own = (double)t->tenants[tenant].backlog + tokens;
	double others = (double)(r->backlog - t->tenants[tenant].backlog);
	double share = share_of(r, tenant);
	return own + MIN(others, own * (1 - share) / share);
}

double kvt_replica_ahead(const kvt_replica *r, uint32_t request)
{
	if (!r->tenants)
		return (double)r->backlog;
	return tokens_until(r, r->env.trace->requests[request].tenant, 0);
}

unsigned kvt_replica_queued(const kvt_replica *r, uint32_t tenant)
{
	unsigned n = 0;
	if (kvt_replica_is_apart(r))
		return kvt_wait_queue_length(&r->tenants->tenants[tenant].queue);
	for (const GList *at = r->queue.fresh.head; at; at = at->next)
		n += tenant_index(r, at->data) == tenant;
	return n;
}

kvt_time kvt_replica_predict(kvt_replica *r, uint32_t request)
{
	const kvt_replica_tenants *t = r->tenants;
	const kvt_request *q = &r->env.trace->requests[request];
	double budget = (double)r->env.settings->token_budget, decodes = 0;
	for (guint i = 0; i < r->active->len; i++)
		if (nth(r->active, i)->state == KVT_SEQUENCE_DECODE)
			decodes += decode_tokens(r, nth(r->active, i));
	/* decodes take their part of every step, and half a one is under way */
	double prompts = t->is_apart ? share_of(r, q->tenant) : 0.1;
	double slower = MIN(1 / MAX(1 - decodes / budget, 1e-6), 1 / MAX(prompts, 0.1));
	double tokens = (double)(q->input_tokens -
				 MIN(kvt_replica_match(r, request), (uint64_t)q->input_tokens - 1));
	double until = tokens_until(r, q->tenant, tokens) * slower;
	if (r->stepping)
		until += budget / 2;
	double time = until * (double)t->token_time;
	return time < 9e18 ? (kvt_time)time : KVT_TIME_NEVER;
}

kvt_time kvt_replica_tenant_time(const kvt_replica *r, uint32_t tenant)
{
	return r->tenants ? r->tenants->tenants[tenant].time : 0;
}
