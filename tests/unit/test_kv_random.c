/* test_kv_random.c: the KV manager under long random sequences of everything that a replica does:
 * every invariant after every operation, with one and several kinds of layers, shared tiers and
 * names, quotas, and moves that fail. */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "sim/base/rng.h"
#include "sim/fleet/kv_internal.h"

enum { BLOCK = 8, SESSIONS = 12, TURNS = 6, SEQUENCES = 10, MOVES = 256, PROMPT_BLOCKS = 24 };

typedef struct running {
	gboolean used, out;
	unsigned replica, session;
	uint32_t id, tenant;
	uint64_t prompt, tokens, computed;
	const uint32_t *ids;
	uint32_t n_ids;
} running;

typedef struct flight {
	unsigned replica;
	kvt_kv_move move;
} flight;

/* Two replicas with a tier each and a pool below them both. */
typedef struct world {
	kvt_block_shape shape;
	kvt_block_names *names;
	kvt_block_tier *tiers[3];
	kvt_kv_manager *replicas[2];
	running sequences[SEQUENCES];
	flight flights[MOVES];
	unsigned n_flights;
	uint32_t ids[SESSIONS][PROMPT_BLOCKS];
	kvt_kv_moves moves;
	kvt_rng rng;
	unsigned fail; /* of 16 moves */
	uint64_t admitted, refused, hits, evicted, swapped, restored;
} world;

static uint32_t below(world *w, uint32_t n)
{
	return (uint32_t)kvt_rng_below(&w->rng, n);
}

/* Sessions share prefixes of others', as a tree: equal ids are equal prefixes. */
static uint32_t make_ids(world *w)
{
	uint32_t n_ids = 0;
	for (unsigned session = 0; session < SESSIONS; session++) {
		unsigned shared = session > 0 ? below(w, PROMPT_BLOCKS) : 0;
		unsigned like = session > 0 ? below(w, session) : 0;
		for (unsigned i = 0; i < PROMPT_BLOCKS; i++)
			w->ids[session][i] = i < shared ? w->ids[like][i] : n_ids++;
	}
	return n_ids;
}

static uint32_t tenant_of(unsigned session)
{
	return session % 2;
}

static world *world_new(uint64_t seed, const kvt_block_shape *shape, gboolean shared_names,
	gboolean quotas, gboolean write_through, const char *policy)
{
	world *w = g_new0(world, 1);
	w->rng = kvt_rng_init(seed, 7);
	w->shape = *shape;
	w->fail = seed % 3 == 0 ? 3 : 0;
	w->names = kvt_block_names_new(make_ids(w), 2, shared_names);
	for (unsigned session = 0; session < SESSIONS; session++)
		kvt_block_names_add(w->names, tenant_of(session), w->ids[session], PROMPT_BLOCKS);
	kvt_block_names_seal(w->names);
	uint64_t block = 0;
	for (unsigned kind = 0; kind < shape->n_kinds; kind++)
		block += kvt_block_shape_saved_bytes(shape, kind);
	const kvt_policy_ops *ops = kvt_policy_find(policy, NULL);
	uint64_t capacity[3] = { 20 * block, 20 * block, 50 * block + 7 };
	for (unsigned i = 0; i < 3; i++) {
		uint64_t quota[2] = { capacity[i] / 3, capacity[i] / 2 };
		kvt_block_tier_settings settings = kvt_block_tier_settings_of(
			shape, "tier", ops, capacity[i], w->names, quotas ? quota : NULL);
		w->tiers[i] = kvt_block_tier_new(&settings);
	}
	uint64_t hbm = 0;
	for (unsigned kind = 0; kind < shape->n_kinds; kind++)
		hbm += (shape->kinds[0].window > 0  ? 18
			       : shape->n_kinds > 1 ? 28
						    : 45) *
		       kvt_block_shape_piece_bytes(shape, kind);
	uint64_t hbm_quota[2] = { hbm / 3, hbm / 2 };
	for (unsigned i = 0; i < 2; i++) {
		kvt_block_tier *chain[2] = { w->tiers[i], w->tiers[2] };
		kvt_kv_settings settings = { .shape = shape,
			.names = w->names,
			.hbm_bytes = hbm + 5,
			.policy = ops,
			.hbm_quotas = quotas ? hbm_quota : NULL,
			.tiers = chain,
			.n_tiers = 2,
			.write_through = write_through };
		w->replicas[i] = kvt_kv_manager_new(&settings, NULL);
		g_assert_nonnull(w->replicas[i]);
	}
	return w;
}

static void world_free(world *w)
{
	for (unsigned i = 0; i < 2; i++)
		kvt_kv_manager_free(w->replicas[i]);
	for (unsigned i = 0; i < 3; i++)
		kvt_block_tier_free(w->tiers[i]);
	kvt_block_names_free(w->names);
	kvt_kv_moves_clear(&w->moves);
	g_free(w);
}

static void end_move(world *w, unsigned i)
{
	flight ended = w->flights[i];
	w->flights[i] = w->flights[--w->n_flights];
	uint32_t n = MAX(ended.move.n_pieces, 1);
	if (below(w, 16) < w->fail)
		n = below(w, n);
	kvt_kv_manager *replica = w->replicas[ended.replica];
	if (ended.move.kind == KVT_KV_LOAD || ended.move.kind == KVT_KV_RESTORE)
		kvt_kv_loaded(replica, ended.move.id, n);
	else
		kvt_kv_stored(replica, ended.move.id, n);
	w->restored += ended.move.kind == KVT_KV_RESTORE;
}

static void collect(world *w, unsigned replica)
{
	for (uint32_t i = 0; i < w->moves.n; i++) {
		const kvt_kv_move *move = &w->moves.moves[i];
		g_assert_cmpuint(move->from, !=, move->to);
		if (move->kind == KVT_KV_STORE)
			g_assert_cmpuint(move->from, <, move->to);
		g_assert_cmpuint(w->n_flights, <, MOVES);
		w->flights[w->n_flights++] = (flight){ replica, *move };
	}
	w->moves.n = 0;
	while (w->n_flights > MOVES / 2)
		end_move(w, below(w, w->n_flights));
}

/* Whether a piece of a block is anywhere that a prompt may find it. */
static gboolean is_somewhere(const world *w, const kvt_kv_manager *replica,
	const kvt_kv_prompt *prompt, uint32_t block, unsigned kind)
{
	uint32_t piece = kvt_kv_prompt_piece(replica, prompt, block, kind);
	uint32_t share = MIN(BLOCK, (uint32_t)(prompt->tokens - block * BLOCK));
	if (replica->map[piece] != KVT_NO_BLOCK) {
		const kvt_block *here = kvt_kv_block(replica, replica->map[piece]);
		return here->state != KVT_KV_EMPTY && here->tokens >= share;
	}
	gboolean there = FALSE;
	for (uint32_t i = 0; i < replica->n_tiers; i++)
		there |= kvt_block_tier_has(replica->tiers[i], piece);
	const kvt_kv_manager *peer = prompt->peer;
	if (peer && peer->map[piece] != KVT_NO_BLOCK) {
		const kvt_block *far = kvt_kv_block(peer, peer->map[piece]);
		there |= far->state == KVT_KV_READY && far->tokens == BLOCK;
	}
	for (uint32_t i = 0; peer && i < peer->n_tiers; i++)
		there |= kvt_block_tier_has(peer->tiers[i], piece);
	return there;
}

/* The longest prefix whose next token finds, in every layer, each token that it looks back at. */
static uint32_t longest_prefix(
	const world *w, const kvt_kv_manager *replica, const kvt_kv_prompt *prompt)
{
	uint64_t blocks = MIN(prompt->n_ids, (prompt->tokens + BLOCK - 1) / BLOCK);
	for (; blocks > 0; blocks--) {
		gboolean all = TRUE;
		uint64_t next = MIN(blocks * BLOCK, prompt->tokens - 1);
		for (unsigned kind = 0; kind < w->shape.n_kinds; kind++)
			for (uint64_t token = 0; token < MIN(blocks * BLOCK, prompt->tokens);
				token++) {
				const kvt_block_kind *k = &w->shape.kinds[kind];
				gboolean seen = k->attention == KVT_ATTENTION_GLOBAL ||
						(k->attention == KVT_ATTENTION_CHUNKED &&
							token / k->window == next / k->window) ||
						(k->attention == KVT_ATTENTION_SLIDING &&
							token + k->window > next);
				all = all && (!seen || is_somewhere(w, replica, prompt,
							       (uint32_t)(token / BLOCK), kind));
			}
		if (all)
			return (uint32_t)blocks;
	}
	return 0;
}

static void admit(world *w, running *r)
{
	unsigned replica = below(w, 2), session = below(w, SESSIONS);
	uint32_t blocks = 1 + below(w, PROMPT_BLOCKS);
	*r = (running){ .replica = replica,
		.session = session,
		.tenant = tenant_of(session),
		.prompt = blocks * BLOCK - (below(w, 2) ? 0 : below(w, BLOCK)),
		.ids = w->ids[session],
		.n_ids = below(w, 8) == 0 ? below(w, blocks + 1) : blocks };
	kvt_kv_prompt prompt = { .tenant = r->tenant,
		.n_ids = r->n_ids,
		.ids = r->ids,
		.tokens = r->prompt,
		.next_use = below(w, 1000),
		.peer = below(w, 2) ? w->replicas[1 - replica] : NULL };
	kvt_kv_match match, before;
	kvt_kv_match_prompt(w->replicas[replica], &prompt, &before);
	g_assert_cmpuint(before.blocks, ==, longest_prefix(w, w->replicas[replica], &prompt));
	int status = kvt_kv_admit(w->replicas[replica], &prompt, &w->moves, &match, &r->id);
	collect(w, replica);
	r->used = status == 0;
	w->refused += !r->used;
	if (!r->used)
		return;
	g_assert_cmpint(memcmp(&match, &before, sizeof(match)), ==, 0);
	w->admitted++;
	w->hits += match.blocks;
	r->tokens = r->prompt;
}

static void step(world *w, running *r)
{
	kvt_kv_manager *replica = w->replicas[r->replica];
	gboolean waiting;
	uint64_t ready = kvt_kv_ready(replica, r->id, &waiting);
	g_assert_cmpuint(ready, <=, r->prompt + TURNS * BLOCK * 4);
	if (waiting)
		return;
	uint64_t to = MIN(ready, r->prompt - 1) + 1 + below(w, 3 * BLOCK);
	if (ready >= r->prompt)
		to = ready + 1 + below(w, 3);
	else
		to = MIN(to, r->prompt);
	if (to > r->prompt + TURNS * BLOCK * 2)
		return;
	int status = kvt_kv_extend(replica, r->id, to, &w->moves);
	collect(w, r->replica);
	if (status != 0) {
		g_assert_cmpint(status, ==, -ENOSPC);
		return;
	}
	kvt_kv_computed(replica, r->id, to);
	uint64_t after = kvt_kv_ready(replica, r->id, &waiting);
	g_assert_true(waiting || after >= to);
	r->computed = after;
}

static void end(world *w, running *r)
{
	kvt_kv_manager *replica = w->replicas[r->replica];
	gboolean waiting;
	uint64_t ready = kvt_kv_ready(replica, r->id, &waiting);
	r->used = FALSE;
	if (waiting || ready < r->prompt || below(w, 4) == 0) {
		kvt_kv_drop(replica, r->id);
		return;
	}
	gboolean known = r->n_ids * BLOCK + BLOCK > r->prompt && below(w, 2);
	kvt_kv_finish(replica, r->id, known ? r->ids : NULL, known ? PROMPT_BLOCKS : 0, &w->moves);
	collect(w, r->replica);
}

static void swap(world *w, running *r)
{
	kvt_kv_manager *replica = w->replicas[r->replica];
	if (!r->out) {
		int status = kvt_kv_swap_out(replica, r->id, &w->moves);
		r->out = status == 0;
		w->swapped += r->out;
	} else {
		kvt_kv_match match;
		int status = kvt_kv_swap_in(replica, r->id, &w->moves, &match);
		r->out = status != 0;
	}
	collect(w, r->replica);
}

static void check(const world *w)
{
	for (unsigned i = 0; i < 2; i++)
		kvt_kv_check(w->replicas[i]);
}

static void run(world *w, unsigned operations)
{
	for (unsigned i = 0; i < operations; i++) {
		running *r = &w->sequences[below(w, SEQUENCES)];
		uint32_t choice = below(w, 10);
		if (choice < 2 && w->n_flights > 0)
			end_move(w, below(w, w->n_flights));
		else if (!r->used)
			admit(w, r);
		else if (r->out && choice < 5)
			kvt_kv_drop(w->replicas[r->replica], r->id), r->used = FALSE;
		else if (r->out || choice == 9)
			swap(w, r);
		else if (choice < 8)
			step(w, r);
		else
			end(w, r);
		check(w);
	}
	for (unsigned i = 0; i < SEQUENCES; i++)
		if (w->sequences[i].used)
			kvt_kv_drop(w->replicas[w->sequences[i].replica], w->sequences[i].id);
	while (w->n_flights > 0)
		end_move(w, 0);
	check(w);
	for (unsigned i = 0; i < 2; i++) {
		kvt_block_waste waste = kvt_block_allocator_waste(kvt_kv_allocator(w->replicas[i]));
		g_assert_cmpuint(waste.allocated_bytes, ==, kvt_kv_hbm(w->replicas[i])->bytes);
		g_assert_cmpuint(waste.waste_bytes, ==, 0);
		g_assert_cmpuint(kvt_kv_hbm(w->replicas[i])->held_bytes, ==, 0);
	}
	for (unsigned i = 0; i < 3; i++)
		g_assert_cmpuint(w->tiers[i]->held_bytes, ==, 0);
}

static const kvt_block_shape shapes[] = {
	{ .block_tokens = BLOCK,
		.page_tokens = 4,
		.n_kinds = 1,
		.kinds = { { KVT_ATTENTION_GLOBAL, 2, 0, 6, 5 } } },
	{ .block_tokens = BLOCK,
		.page_tokens = 4,
		.n_kinds = 2,
		.kinds = { { KVT_ATTENTION_GLOBAL, 1, 0, 4, 4 },
			{ KVT_ATTENTION_CHUNKED, 3, 32, 12, 12 } } },
	{ .block_tokens = BLOCK,
		.page_tokens = 8,
		.n_kinds = 3,
		.kinds = { { KVT_ATTENTION_GLOBAL, 1, 0, 4, 4 },
			{ KVT_ATTENTION_CHUNKED, 3, 30, 6, 6 },
			{ KVT_ATTENTION_SLIDING, 2, 20, 10, 10 } } },
	{ .block_tokens = BLOCK,
		.page_tokens = 2,
		.n_kinds = 1,
		.kinds = { { KVT_ATTENTION_SLIDING, 2, 21, 6, 6 } } },
};

static void test_random(gconstpointer data)
{
	const kvt_block_shape *shape = data;
	const char *const policies[] = { "lru", "s3fifo", "arc", "fifo", "lfu", "belady" };
	uint64_t admitted = 0, refused = 0, hits = 0, swapped = 0, restored = 0;
	for (uint64_t seed = 0; seed < 24; seed++) {
		world *w = world_new(seed, shape, seed % 2, seed % 4 > 1, seed % 5 > 2,
			policies[seed % G_N_ELEMENTS(policies)]);
		run(w, 1500);
		admitted += w->admitted;
		refused += w->refused;
		hits += w->hits;
		swapped += w->swapped;
		restored += w->restored;
		world_free(w);
	}
	g_test_message("%" G_GUINT64_FORMAT " admitted, %" G_GUINT64_FORMAT
		       " refused, %" G_GUINT64_FORMAT " blocks found, %" G_GUINT64_FORMAT
		       " swapped out, %" G_GUINT64_FORMAT " restored",
		admitted, refused, hits, swapped, restored);
	g_assert_cmpuint(admitted, >, 1000);
	g_assert_cmpuint(refused, >, 100);
	g_assert_cmpuint(hits, >, 1000);
	g_assert_cmpuint(swapped, >, 100);
	g_assert_cmpuint(restored, >, 10);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	const char *const names[] = { "global", "global-and-chunked", "three-kinds", "sliding" };
	for (size_t i = 0; i < G_N_ELEMENTS(shapes); i++) {
		g_autofree char *path = g_strdup_printf("/kv-random/%s", names[i]);
		g_test_add_data_func(path, &shapes[i], test_random);
	}
	return g_test_run();
}
