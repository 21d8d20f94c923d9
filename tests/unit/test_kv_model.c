/* test_kv_model.c: the KV manager beside naive_kv.h, operation by operation: what is found and
 * where, what is evicted, every piece of every move, and the state of every block after it. */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "sim/base/rng.h"
#include "sim/fleet/kv_internal.h"
#include "tests/unit/naive_kv.h"

enum { TENANTS = 2, BLOCKS = 12, SESSIONS = 6, SEQUENCES = 6, FLIGHTS = 200, IDS_MAX = 200 };
enum { BLOCK = 8, PAGE = 4, TOKEN_BYTES = 6 };

typedef struct flight {
	uint32_t id;
	naive_move move;
} flight;

typedef struct running {
	uint32_t id, session, n_ids;
	unsigned prompt;
} running;

typedef struct world {
	kvt_rng rng;
	kvt_block_names *names;
	kvt_block_tier *tiers[NAIVE_KV_TIERS];
	kvt_kv_manager *real;
	naive_kv *naive;
	kvt_kv_moves moves;
	uint32_t ids[SESSIONS][BLOCKS], n_ids;
	running sequences[SEQUENCES];
	flight *flights;
	unsigned n_flights, fail;
	uint64_t evictions, loads, refusals, copies;
} world;

static uint32_t below(world *w, uint32_t n)
{
	return (uint32_t)kvt_rng_below(&w->rng, n);
}

static void make_ids(world *w)
{
	for (unsigned session = 0; session < SESSIONS; session++) {
		unsigned shared = session > 0 ? below(w, BLOCKS) : 0;
		unsigned like = session > 0 ? below(w, session) : 0;
		for (unsigned i = 0; i < BLOCKS; i++)
			w->ids[session][i] = i < shared ? w->ids[like][i] : w->n_ids++;
	}
	g_assert_cmpuint(w->n_ids, <, IDS_MAX);
}

static world *world_new(uint64_t seed)
{
	world *w = g_new0(world, 1);
	w->rng = kvt_rng_init(seed, 11);
	w->flights = g_new(flight, FLIGHTS);
	w->fail = seed % 3 == 0 ? 4 : 0;
	make_ids(w);
	w->names = kvt_block_names_new(w->n_ids, TENANTS, FALSE);
	for (uint32_t tenant = 0; tenant < TENANTS; tenant++)
		kvt_block_names_add(w->names, tenant, w->ids[0], SESSIONS * BLOCKS);
	kvt_block_names_seal(w->names);
	kvt_block_shape shape = { .block_tokens = BLOCK,
		.page_tokens = PAGE,
		.n_kinds = 1,
		.kinds = { { KVT_ATTENTION_GLOBAL, 1, 0, TOKEN_BYTES, TOKEN_BYTES } } };
	w->naive = g_new0(naive_kv, 1);
	w->naive->block = BLOCK;
	w->naive->page = PAGE;
	w->naive->pages = 30 + below(w, 40);
	w->naive->room[0] = below(w, 20);
	w->naive->room[1] = 10 + below(w, 40);
	w->naive->write_through = seed % 2;
	const kvt_policy_ops *lru = kvt_policy_find("lru", NULL);
	for (unsigned i = 0; i < NAIVE_KV_TIERS; i++) {
		kvt_block_tier_settings settings = kvt_block_tier_settings_of(&shape, "tier", lru,
			(uint64_t)w->naive->room[i] * BLOCK * TOKEN_BYTES + below(w, BLOCK),
			w->names, NULL);
		w->tiers[i] = kvt_block_tier_new(&settings);
	}
	kvt_kv_settings settings = { .shape = &shape,
		.names = w->names,
		.hbm_bytes = (uint64_t)w->naive->pages * PAGE * TOKEN_BYTES,
		.policy = lru,
		.tiers = w->tiers,
		.n_tiers = NAIVE_KV_TIERS,
		.write_through = w->naive->write_through };
	w->real = kvt_kv_manager_new(&settings, NULL);
	return w;
}

static void world_free(world *w)
{
	kvt_kv_manager_free(w->real);
	for (unsigned i = 0; i < NAIVE_KV_TIERS; i++)
		kvt_block_tier_free(w->tiers[i]);
	kvt_block_names_free(w->names);
	kvt_kv_moves_clear(&w->moves);
	g_free(w->naive);
	g_free(w->flights);
	g_free(w);
}

/* Every id of every tenant, in HBM and in each tier. */
static void compare_states(world *w)
{
	for (uint32_t tenant = 0; tenant < TENANTS; tenant++)
		for (uint32_t id = 0; id < w->n_ids; id++) {
			uint32_t piece = kvt_block_names_get(w->names, tenant, id);
			unsigned name = naive_kv_name(tenant, id);
			const naive_block *block = naive_kv_find(w->naive, name);
			uint32_t index = w->real->map[piece];
			g_assert_cmpint(index != KVT_NO_BLOCK, ==, block != NULL);
			if (block) {
				const kvt_block *real = kvt_kv_block(w->real, index);
				g_assert_cmpuint(real->tokens, ==, block->tokens);
				g_assert_cmpuint(real->references, >=, block->holders);
				g_assert_cmpuint(real->state, ==,
					block->state == NAIVE_EMPTY     ? KVT_KV_EMPTY
					: block->state == NAIVE_LOADING ? KVT_KV_LOADING
									: KVT_KV_READY);
			}
			for (unsigned tier = 0; tier < NAIVE_KV_TIERS; tier++) {
				const naive_copy *copy = naive_kv_find_copy(w->naive, tier, name);
				kvt_piece_state state = kvt_block_tier_state(w->tiers[tier], piece);
				g_assert_cmpint(state, ==,
					!copy            ? KVT_PIECE_ABSENT
					: copy->arriving ? KVT_PIECE_ARRIVING
							 : KVT_PIECE_THERE);
			}
		}
	kvt_block_waste waste = kvt_block_allocator_waste(kvt_kv_allocator(w->real));
	g_assert_cmpuint(
		waste.allocated_bytes, ==, naive_kv_used_pages(w->naive) * PAGE * TOKEN_BYTES);
	g_assert_cmpuint(waste.used_bytes, ==, naive_kv_used_tokens(w->naive) * TOKEN_BYTES);
	kvt_kv_check(w->real);
}

/* The moves of both, piece by piece; they are in flight from now on. */
static void compare_moves(world *w)
{
	g_assert_cmpuint(w->moves.n, ==, w->naive->n_moves);
	for (uint32_t i = 0; i < w->moves.n; i++) {
		const kvt_kv_move *move = &w->moves.moves[i];
		const naive_move *same = NULL;
		for (unsigned j = 0; j < w->naive->n_moves; j++) {
			const naive_move *other = &w->naive->moves[j];
			if (other->from == move->from && other->to == move->to &&
				other->keeps == (move->kind == KVT_KV_STORE && !move->makes_room))
				same = other;
		}
		g_assert_nonnull(same);
		g_assert_cmpuint(move->n_pieces, ==, same->n);
		g_assert_cmpuint(move->bytes, ==, same->n * BLOCK * TOKEN_BYTES);
		const kvt_kv_move_state *state = &w->real->moves[move->id];
		const kvt_block_tier *to = same->load ? w->real->hbm : w->tiers[move->to - 1];
		uint32_t piece = state->first;
		for (unsigned k = 0; k < same->n; k++, piece = to->link[piece])
			g_assert_cmpuint(piece, ==,
				kvt_block_names_get(
					w->names, same->names[k] / 1000, same->names[k] % 1000));
		g_assert_cmpuint(w->n_flights, <, FLIGHTS);
		w->flights[w->n_flights++] = (flight){ move->id, *same };
		w->loads += same->load;
		w->evictions += !same->load && !same->keeps;
	}
	w->moves.n = 0;
	w->naive->n_moves = 0;
}

static void end_flight(world *w)
{
	unsigned i = below(w, w->n_flights);
	flight ended = w->flights[i];
	w->flights[i] = w->flights[--w->n_flights];
	unsigned n = ended.move.n;
	if (below(w, 16) < w->fail)
		n = below(w, n);
	if (ended.move.load)
		kvt_kv_loaded(w->real, ended.id, n);
	else
		kvt_kv_stored(w->real, ended.id, n);
	naive_kv_moved(w->naive, &ended.move, n);
}

static void admit(world *w, unsigned i)
{
	running *r = &w->sequences[i];
	unsigned blocks = 1 + below(w, BLOCKS);
	*r = (running){ .session = below(w, SESSIONS),
		.prompt = blocks * BLOCK - (below(w, 2) ? 0 : below(w, BLOCK)) };
	r->n_ids = below(w, 6) == 0 ? below(w, blocks + 1) : blocks;
	kvt_kv_prompt prompt = { .tenant = r->session % TENANTS,
		.n_ids = r->n_ids,
		.ids = w->ids[r->session],
		.tokens = r->prompt };
	unsigned levels[1 + NAIVE_KV_TIERS];
	unsigned blocks_found =
		naive_kv_match(w->naive, prompt.tenant, prompt.ids, r->n_ids, r->prompt, levels);
	kvt_kv_match match;
	kvt_kv_match_prompt(w->real, &prompt, &match);
	g_assert_cmpuint(match.blocks, ==, blocks_found);
	for (unsigned level = 0; level <= NAIVE_KV_TIERS; level++) {
		g_assert_cmpuint(match.level_blocks[level], ==, levels[level]);
		g_assert_cmpuint(match.level_bytes[level], ==, levels[level] * BLOCK * TOKEN_BYTES);
	}
	int status = kvt_kv_admit(w->real, &prompt, &w->moves, &match, &r->id);
	bool fits = naive_kv_admit(w->naive, i, prompt.tenant, prompt.ids, r->n_ids, r->prompt);
	g_assert_cmpint(status, ==, fits ? 0 : -ENOSPC);
	w->refusals += !fits;
}

static void advance(world *w, unsigned i)
{
	running *r = &w->sequences[i];
	gboolean waiting;
	uint64_t ready = kvt_kv_ready(w->real, r->id, &waiting);
	if (waiting || ready > (BLOCKS - 1) * BLOCK)
		return;
	unsigned tokens = (unsigned)ready + 1 + below(w, 2 * BLOCK);
	if (ready < r->prompt)
		tokens = MIN(tokens, r->prompt);
	int status = kvt_kv_extend(w->real, r->id, tokens, &w->moves);
	bool extended = naive_kv_extend(w->naive, i, tokens);
	g_assert_cmpint(status, ==, extended ? 0 : -ENOSPC);
	compare_moves(w);
	if (!extended)
		return;
	kvt_kv_computed(w->real, r->id, tokens);
	naive_kv_computed(w->naive, i, tokens);
}

static void end(world *w, unsigned i)
{
	running *r = &w->sequences[i];
	gboolean waiting, drop = below(w, 4) == 0;
	uint64_t ready = kvt_kv_ready(w->real, r->id, &waiting);
	if (drop || waiting || ready < r->prompt) {
		kvt_kv_drop(w->real, r->id);
		naive_kv_end(w->naive, i, NULL, 0, true);
		return;
	}
	unsigned n = below(w, 2) ? BLOCKS : 0;
	kvt_kv_finish(w->real, r->id, w->ids[r->session], n, &w->moves);
	naive_kv_end(w->naive, i, w->ids[r->session], n, false);
}

static void test_beside_naive(void)
{
	uint64_t evictions = 0, loads = 0, refusals = 0, copies = 0;
	for (uint64_t seed = 0; seed < 30; seed++) {
		world *w = world_new(seed);
		for (unsigned step = 0; step < 1200; step++) {
			unsigned i = below(w, SEQUENCES), choice = below(w, 8);
			if (w->n_flights > FLIGHTS / 2 || (choice < 3 && w->n_flights > 0))
				end_flight(w);
			else if (!w->naive->sequences[i].used)
				admit(w, i);
			else if (choice < 7)
				advance(w, i);
			else
				end(w, i);
			compare_moves(w);
			compare_states(w);
		}
		evictions += w->evictions;
		loads += w->loads;
		refusals += w->refusals;
		copies += w->real->allocator->copies;
		world_free(w);
	}
	g_test_message("%" G_GUINT64_FORMAT " stores, %" G_GUINT64_FORMAT
		       " loads, %" G_GUINT64_FORMAT " refusals, %" G_GUINT64_FORMAT " copies",
		evictions, loads, refusals, copies);
	g_assert_cmpuint(evictions, >, 500);
	g_assert_cmpuint(loads, >, 500);
	g_assert_cmpuint(refusals, >, 100);
	g_assert_cmpuint(copies, >, 20);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/kv-model/beside-naive", test_beside_naive);
	return g_test_run();
}
