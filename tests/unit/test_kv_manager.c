/* test_kv_manager.c: what a replica's chain of tiers promises, case by case, each from a way in
 * which such caches have failed: wrong hits, partial loads, failed stores, leaks on a cancel,
 * evictions of what is read; and what returning users, windows, swaps and other replicas get. */
#include <errno.h>
#include <glib.h>

#include "sim/fleet/kv_manager.h"

enum { BLOCK = 16, IDS = 200, TENANTS = 2 };

typedef struct bed {
	kvt_block_shape shape;
	kvt_block_names *names;
	kvt_block_tier *tiers[2];
	kvt_kv_manager *kv;
	kvt_kv_moves moves;
	uint32_t ids[IDS];
} bed;

static const kvt_block_shape one_kind = { .block_tokens = BLOCK,
	.page_tokens = 4,
	.n_kinds = 1,
	.kinds = { { KVT_ATTENTION_GLOBAL, 4, 0, 8, 4 } } };

/* Chunks of 4 blocks. */
static const kvt_block_shape two_kinds = { .block_tokens = BLOCK,
	.page_tokens = 4,
	.n_kinds = 2,
	.kinds = { { KVT_ATTENTION_GLOBAL, 1, 0, 8, 8 },
		{ KVT_ATTENTION_CHUNKED, 3, 4 * BLOCK, 24, 24 } } };

/* HBM and tiers for so many blocks of all kinds. */
static bed *bed_new(const kvt_block_shape *shape, unsigned hbm, unsigned dram, unsigned nvme,
	gboolean write_through)
{
	bed *b = g_new0(bed, 1);
	b->shape = *shape;
	b->names = kvt_block_names_new(IDS, TENANTS, FALSE);
	for (uint32_t id = 0; id < IDS; id++)
		b->ids[id] = id;
	for (uint32_t tenant = 0; tenant < TENANTS; tenant++)
		kvt_block_names_add(b->names, tenant, b->ids, IDS);
	kvt_block_names_seal(b->names);
	uint64_t inside = 0, outside = 0;
	for (unsigned kind = 0; kind < shape->n_kinds; kind++) {
		inside += kvt_block_shape_piece_bytes(shape, kind);
		outside += kvt_block_shape_saved_bytes(shape, kind);
	}
	const kvt_policy_ops *lru = kvt_policy_find("lru", NULL);
	const unsigned room[2] = { dram, nvme };
	for (unsigned i = 0; i < 2; i++) {
		kvt_block_tier_settings settings = kvt_block_tier_settings_of(
			shape, "tier", lru, room[i] * outside, b->names, NULL);
		b->tiers[i] = kvt_block_tier_new(&settings);
	}
	kvt_kv_settings settings = { .shape = shape,
		.names = b->names,
		.hbm_bytes = hbm * inside,
		.policy = lru,
		.tiers = b->tiers,
		.n_tiers = nvme > 0 ? 2 : 1,
		.write_through = write_through };
	b->kv = kvt_kv_manager_new(&settings, NULL);
	return b;
}

static void bed_free(bed *b)
{
	kvt_kv_check(b->kv);
	kvt_kv_manager_free(b->kv);
	for (unsigned i = 0; i < 2; i++)
		kvt_block_tier_free(b->tiers[i]);
	kvt_block_names_free(b->names);
	kvt_kv_moves_clear(&b->moves);
	g_free(b);
}

static void end_moves(bed *b, gboolean well)
{
	for (uint32_t i = 0; i < b->moves.n; i++) {
		const kvt_kv_move *move = &b->moves.moves[i];
		uint32_t n = well ? MAX(move->n_pieces, 1) : 0;
		if (move->kind == KVT_KV_LOAD || move->kind == KVT_KV_RESTORE)
			kvt_kv_loaded(b->kv, move->id, n);
		else
			kvt_kv_stored(b->kv, move->id, n);
	}
	b->moves.n = 0;
	kvt_kv_check(b->kv);
}

static kvt_kv_prompt prompt_of(const bed *b, uint32_t tenant, uint32_t first, uint32_t n)
{
	return (kvt_kv_prompt){
		.tenant = tenant, .n_ids = n, .ids = b->ids + first, .tokens = (uint64_t)n * BLOCK
	};
}

static uint32_t admit(bed *b, const kvt_kv_prompt *prompt, kvt_kv_match *match)
{
	uint32_t sequence = UINT32_MAX;
	g_assert_cmpint(kvt_kv_admit(b->kv, prompt, &b->moves, match, &sequence), ==, 0);
	kvt_kv_check(b->kv);
	return sequence;
}

static void compute(bed *b, uint32_t sequence, uint64_t tokens)
{
	g_assert_cmpint(kvt_kv_extend(b->kv, sequence, tokens, &b->moves), ==, 0);
	kvt_kv_computed(b->kv, sequence, tokens);
	kvt_kv_check(b->kv);
}

/* Blocks first .. first + n - 1 of a tenant are computed, whole, and let go. */
static void serve(bed *b, uint32_t tenant, uint32_t first, uint32_t n)
{
	kvt_kv_prompt prompt = prompt_of(b, tenant, first, n);
	uint32_t sequence = admit(b, &prompt, NULL);
	end_moves(b, TRUE);
	for (uint32_t block = 1; block <= n; block++)
		compute(b, sequence, block * BLOCK);
	end_moves(b, TRUE);
	kvt_kv_finish(b->kv, sequence, NULL, 0, &b->moves);
	end_moves(b, TRUE);
}

static kvt_kv_match match_of(bed *b, uint32_t tenant, uint32_t first, uint32_t n)
{
	kvt_kv_prompt prompt = prompt_of(b, tenant, first, n);
	kvt_kv_match match;
	kvt_kv_match_prompt(b->kv, &prompt, &match);
	return match;
}

static uint64_t bytes_in_use(const bed *b)
{
	return kvt_block_allocator_waste(kvt_kv_allocator(b->kv)).allocated_bytes;
}

/* A prompt that another tenant has computed is not found; his own is. */
static void test_no_hit_across_tenants(void)
{
	bed *b = bed_new(&one_kind, 20, 20, 20, FALSE);
	serve(b, 0, 0, 8);
	g_assert_cmpuint(match_of(b, 0, 0, 8).blocks, ==, 8);
	g_assert_cmpuint(match_of(b, 1, 0, 8).blocks, ==, 0);
	serve(b, 1, 0, 8);
	g_assert_cmpuint(kvt_kv_counts(b->kv, 1)->hit_tokens, ==, 0);
	g_assert_cmpuint(kvt_kv_counts(b->kv, 0)->lookup_blocks, ==, 8);
	bed_free(b);
}

/* What has been given room but not computed is no hit; of two that compute the same, each sees what
 * the other has done, and memory holds it once. */
static void test_computing_is_no_hit(void)
{
	bed *b = bed_new(&one_kind, 20, 0, 0, FALSE);
	kvt_kv_prompt prompt = prompt_of(b, 0, 0, 8);
	kvt_kv_match match;
	uint32_t one = admit(b, &prompt, &match), two = admit(b, &prompt, &match);
	g_assert_cmpuint(match.blocks, ==, 0);
	g_assert_cmpuint(bytes_in_use(b), ==, 8 * BLOCK * 8);
	compute(b, one, 3 * BLOCK + 5);
	gboolean waiting;
	g_assert_cmpuint(kvt_kv_ready(b->kv, one, &waiting), ==, 3 * BLOCK + 5);
	g_assert_cmpuint(kvt_kv_ready(b->kv, two, &waiting), ==, 3 * BLOCK);
	g_assert_false(waiting);
	g_assert_cmpuint(match_of(b, 0, 0, 8).blocks, ==, 3);
	/* given up half-way: what is whole stays, the rest was never there */
	kvt_kv_drop(b->kv, one);
	kvt_kv_drop(b->kv, two);
	g_assert_cmpuint(match_of(b, 0, 0, 8).blocks, ==, 3);
	g_assert_cmpuint(bytes_in_use(b), ==, 3 * BLOCK * 8);
	bed_free(b);
}

/* A user returns when his blocks have fallen to DRAM and on to NVMe: they are found there, are hits
 * when they are loaded, and a load that ends half-way is half a hit. */
static void test_warm_start(void)
{
	bed *b = bed_new(&one_kind, 10, 6, 30, FALSE);
	serve(b, 0, 0, 10);
	for (uint32_t id = 100; id < 110; id += 2)
		serve(b, 0, id, 2);
	kvt_kv_match match = match_of(b, 0, 0, 10);
	g_assert_cmpuint(match.blocks, ==, 10);
	/* the end of the prefix fell first, and furthest */
	g_assert_cmpuint(match.level_blocks[1], ==, 6);
	g_assert_cmpuint(match.level_blocks[2], ==, 4);
	g_assert_cmpuint(match.level_bytes[2], ==, 4 * BLOCK * 4);
	kvt_kv_prompt prompt = prompt_of(b, 0, 0, 10);
	uint32_t sequence = admit(b, &prompt, NULL);
	gboolean waiting;
	g_assert_cmpuint(kvt_kv_ready(b->kv, sequence, &waiting), ==, 0);
	g_assert_true(waiting);
	unsigned loads = 0;
	for (uint32_t i = 0; i < b->moves.n; i++) {
		kvt_kv_move *move = &b->moves.moves[i];
		if (move->kind != KVT_KV_LOAD) {
			g_assert_cmpuint(loads, ==, 0);
			kvt_kv_stored(b->kv, move->id, move->n_pieces);
			continue;
		}
		loads++;
		/* of what comes from NVMe one block arrives */
		kvt_kv_loaded(b->kv, move->id, move->from == 1 ? move->n_pieces : 1);
	}
	b->moves.n = 0;
	g_assert_cmpuint(loads, ==, 2);
	g_assert_cmpuint(kvt_kv_ready(b->kv, sequence, &waiting), ==, 7 * BLOCK);
	g_assert_false(waiting);
	const kvt_kv_count *count = kvt_kv_counts(b->kv, 0);
	g_assert_cmpuint(count->failed_blocks, ==, 3);
	g_assert_cmpuint(count->hit_blocks[1], ==, 6);
	g_assert_cmpuint(count->hit_blocks[2], ==, 1);
	g_assert_cmpuint(count->hit_tokens, ==, 7 * BLOCK);
	/* copies that could not be read are gone */
	compute(b, sequence, 10 * BLOCK);
	g_assert_cmpuint(kvt_kv_ready(b->kv, sequence, NULL), ==, 10 * BLOCK);
	kvt_kv_drop(b->kv, sequence);
	bed_free(b);
}

/* A store that failed is no copy, here or further down; one on its way is none yet. */
static void test_failed_store(void)
{
	bed *b = bed_new(&one_kind, 10, 20, 0, FALSE);
	serve(b, 0, 0, 10);
	kvt_kv_prompt prompt = prompt_of(b, 0, 100, 10);
	uint32_t sequence = admit(b, &prompt, NULL);
	g_assert_cmpuint(b->moves.n, ==, 1);
	g_assert_cmpint(b->moves.moves[0].kind, ==, KVT_KV_STORE);
	g_assert_cmpuint(b->moves.moves[0].makes_room, ==, 1);
	g_assert_cmpuint(b->moves.moves[0].n_pieces, ==, 10);
	g_assert_cmpuint(match_of(b, 0, 0, 10).blocks, ==, 0);
	end_moves(b, FALSE);
	g_assert_cmpuint(match_of(b, 0, 0, 10).blocks, ==, 0);
	g_assert_cmpuint(b->tiers[0]->bytes, ==, 0);
	g_assert_cmpuint(b->tiers[0]->counts[0].failed_pieces, ==, 10);
	kvt_kv_drop(b->kv, sequence);
	bed_free(b);
}

/* Dropped while its blocks are being loaded: the load goes on into memory that is still its own,
 * and is of use to the next one; when it fails, all is free. */
static void test_cancel_while_loading(void)
{
	for (unsigned well = 0; well < 2; well++) {
		bed *b = bed_new(&one_kind, 10, 20, 0, FALSE);
		serve(b, 0, 0, 6);
		serve(b, 0, 100, 10);
		kvt_kv_prompt prompt = prompt_of(b, 0, 0, 6);
		uint32_t sequence = admit(b, &prompt, NULL);
		g_assert_cmpuint(b->tiers[0]->held_bytes, >=, 6 * BLOCK * 4);
		kvt_kv_drop(b->kv, sequence);
		/* no room for ten: six blocks are written into */
		kvt_kv_prompt other = prompt_of(b, 0, 120, 10);
		g_assert_cmpint(
			kvt_kv_admit(b->kv, &other, &b->moves, NULL, &sequence), ==, -ENOSPC);
		end_moves(b, well);
		g_assert_cmpuint(match_of(b, 0, 0, 6).level_blocks[0], ==, well ? 6 : 0);
		g_assert_cmpuint(b->tiers[0]->held_bytes, ==, 0);
		sequence = admit(b, &other, NULL);
		end_moves(b, TRUE);
		kvt_kv_drop(b->kv, sequence);
		bed_free(b);
	}
}

/* What is being read from a tier stays there, however much falls into it meanwhile. */
static void test_read_while_evicting(void)
{
	bed *b = bed_new(&one_kind, 20, 10, 0, FALSE);
	serve(b, 0, 0, 10);
	serve(b, 0, 100, 20);
	g_assert_cmpuint(match_of(b, 0, 0, 10).level_blocks[1], ==, 10);
	kvt_kv_prompt prompt = prompt_of(b, 0, 0, 10);
	uint32_t sequence = admit(b, &prompt, NULL);
	/* ten blocks had to leave HBM; all of DRAM is being read, so they are lost */
	g_assert_cmpuint(b->tiers[0]->counts[0].refused_pieces, ==, 10);
	g_assert_cmpuint(b->tiers[0]->counts[0].out_pieces, ==, 0);
	g_assert_cmpuint(b->moves.n, ==, 1);
	end_moves(b, TRUE);
	g_assert_cmpuint(kvt_kv_ready(b->kv, sequence, NULL), ==, 10 * BLOCK);
	kvt_kv_drop(b->kv, sequence);
	bed_free(b);
}

/* A block that is in the next tier already is not written there again. */
static void test_write_back_once(void)
{
	for (unsigned through = 0; through < 2; through++) {
		bed *b = bed_new(&one_kind, 10, 40, 0, through);
		for (unsigned round = 0; round < 3; round++) {
			serve(b, 0, 0, 10);
			serve(b, 0, 100, 10);
		}
		g_assert_cmpuint(b->tiers[0]->counts[0].in_pieces, ==, 20);
		g_assert_cmpuint(b->tiers[0]->counts[0].read_pieces, ==, 40);
		bed_free(b);
	}
}

/* With write_through a block is held in HBM until it has been stored. */
static void test_write_through(void)
{
	bed *b = bed_new(&one_kind, 10, 40, 0, TRUE);
	kvt_kv_prompt prompt = prompt_of(b, 0, 0, 10);
	uint32_t sequence = admit(b, &prompt, NULL);
	compute(b, sequence, 10 * BLOCK);
	kvt_kv_finish(b->kv, sequence, NULL, 0, &b->moves);
	g_assert_cmpuint(b->moves.n, ==, 1);
	g_assert_cmpuint(b->moves.moves[0].makes_room, ==, 0);
	kvt_kv_moves none = { 0 };
	kvt_kv_prompt other = prompt_of(b, 0, 100, 1);
	g_assert_cmpint(kvt_kv_admit(b->kv, &other, &none, NULL, &sequence), ==, -ENOSPC);
	end_moves(b, TRUE);
	/* and what leaves then costs nothing */
	g_assert_cmpint(kvt_kv_admit(b->kv, &other, &none, NULL, &sequence), ==, 0);
	g_assert_cmpuint(none.n, ==, 0);
	kvt_kv_drop(b->kv, sequence);
	kvt_kv_moves_clear(&none);
	bed_free(b);
}

/* Prompts that end in the same partial block share it until one goes on; what was generated is kept
 * under the next request's names, and that finds it. */
static void test_next_turn(void)
{
	bed *b = bed_new(&one_kind, 20, 0, 0, FALSE);
	kvt_kv_prompt prompt = prompt_of(b, 0, 0, 3);
	prompt.tokens -= 6;
	uint32_t one = admit(b, &prompt, NULL), two = admit(b, &prompt, NULL);
	compute(b, one, prompt.tokens);
	g_assert_cmpuint(kvt_kv_ready(b->kv, two, NULL), ==, prompt.tokens);
	g_assert_cmpuint(bytes_in_use(b), ==, (2 * 4 + 3) * 4 * 8);
	compute(b, one, prompt.tokens + 1);
	g_assert_cmpuint(kvt_kv_allocator(b->kv)->copies, ==, 1);
	g_assert_cmpuint(bytes_in_use(b), ==, (2 * 4 + 3 + 3) * 4 * 8);
	compute(b, two, prompt.tokens + 1);
	g_assert_cmpuint(kvt_kv_allocator(b->kv)->copies, ==, 1);
	/* 5 whole blocks and a bit; at most one page of a sequence is not full */
	for (uint64_t tokens = prompt.tokens + 2; tokens <= 5 * BLOCK + 3; tokens++) {
		compute(b, one, tokens);
		kvt_block_waste waste = kvt_block_allocator_waste(kvt_kv_allocator(b->kv));
		g_assert_cmpuint(waste.waste_bytes, <, 2 * 4 * 8);
	}
	kvt_kv_drop(b->kv, two);
	kvt_kv_finish(b->kv, one, b->ids + 0, 9, &b->moves);
	g_assert_cmpuint(match_of(b, 0, 0, 9).blocks, ==, 5);
	g_assert_cmpuint(bytes_in_use(b), ==, 5 * BLOCK * 8);
	bed_free(b);
}

/* A sequence that does not fit is refused without a trace of it, and admitted when another ended.
 */
static void test_refused(void)
{
	bed *b = bed_new(&one_kind, 10, 0, 0, FALSE);
	g_assert_true(kvt_kv_fits(b->kv, 10 * BLOCK, BLOCK));
	g_assert_false(kvt_kv_fits(b->kv, 10 * BLOCK + 1, BLOCK));
	kvt_kv_prompt first = prompt_of(b, 0, 0, 6), second = prompt_of(b, 0, 100, 5);
	uint32_t one = admit(b, &first, NULL), two;
	g_assert_cmpint(kvt_kv_admit(b->kv, &second, &b->moves, NULL, &two), ==, -ENOSPC);
	g_assert_cmpuint(bytes_in_use(b), ==, 6 * BLOCK * 8);
	g_assert_cmpuint(kvt_kv_counts(b->kv, 0)->requests, ==, 1);
	compute(b, one, 10 * BLOCK);
	g_assert_cmpint(kvt_kv_extend(b->kv, one, 10 * BLOCK + 1, &b->moves), ==, -ENOSPC);
	kvt_kv_finish(b->kv, one, NULL, 0, &b->moves);
	two = admit(b, &second, NULL);
	kvt_kv_drop(b->kv, two);
	bed_free(b);
}

/* Out to DRAM and in again: all it had generated is there; a save that failed is not. */
static void test_swap(void)
{
	for (unsigned well = 0; well < 2; well++) {
		bed *b = bed_new(&one_kind, 10, 20, 0, FALSE);
		kvt_kv_prompt prompt = prompt_of(b, 0, 0, 4);
		uint32_t sequence = admit(b, &prompt, NULL), other;
		compute(b, sequence, 6 * BLOCK + 3);
		g_assert_cmpint(kvt_kv_swap_out(b->kv, sequence, &b->moves), ==, 0);
		g_assert_cmpuint(b->moves.moves[0].bytes, ==, (2 * BLOCK + 3) * 4);
		g_assert_cmpint(kvt_kv_swap_in(b->kv, sequence, &b->moves, NULL), ==, -EBUSY);
		end_moves(b, well);
		g_assert_cmpuint(b->tiers[0]->bytes, ==, well ? (2 * BLOCK + 3) * 4 : 0);
		kvt_kv_prompt second = prompt_of(b, 0, 100, 10);
		other = admit(b, &second, NULL);
		end_moves(b, TRUE);
		g_assert_cmpint(kvt_kv_swap_in(b->kv, sequence, &b->moves, NULL), ==, -ENOSPC);
		kvt_kv_drop(b->kv, other);
		g_assert_cmpint(kvt_kv_swap_in(b->kv, sequence, &b->moves, NULL), ==, 0);
		end_moves(b, TRUE);
		g_assert_cmpuint(
			kvt_kv_ready(b->kv, sequence, NULL), ==, well ? 6 * BLOCK + 3 : 4 * BLOCK);
		kvt_kv_finish(b->kv, sequence, NULL, 0, &b->moves);
		end_moves(b, TRUE);
		g_assert_cmpuint(b->tiers[0]->held_bytes, ==, 0);
		bed_free(b);
	}
}

/* Swapped out, and cancelled while it is saved or restored: nothing stays behind. */
static void test_cancel_while_swapping(void)
{
	bed *b = bed_new(&one_kind, 10, 20, 0, FALSE);
	for (unsigned when = 0; when < 3; when++) {
		kvt_kv_prompt prompt = prompt_of(b, 0, 0, 4);
		uint32_t sequence = admit(b, &prompt, NULL);
		compute(b, sequence, 6 * BLOCK);
		g_assert_cmpint(kvt_kv_swap_out(b->kv, sequence, &b->moves), ==, 0);
		if (when > 0)
			end_moves(b, TRUE);
		if (when > 1)
			g_assert_cmpint(kvt_kv_swap_in(b->kv, sequence, &b->moves, NULL), ==, 0);
		kvt_kv_drop(b->kv, sequence);
		kvt_kv_check(b->kv);
		if (when > 1)
			g_assert_cmpuint(bytes_in_use(b), ==, 6 * BLOCK * 8);
		end_moves(b, TRUE);
		g_assert_cmpuint(b->tiers[0]->bytes, ==, 0);
		g_assert_cmpuint(bytes_in_use(b), ==, 4 * BLOCK * 8);
	}
	bed_free(b);
}

/* Chunked layers need the last chunk of a prefix alone: HBM holds no more of a long context, a hit
 * needs no more, and where a window is gone the prefix ends before it. */
static void test_windows(void)
{
	bed *b = bed_new(&two_kinds, 20, 40, 0, FALSE);
	kvt_kv_prompt prompt = prompt_of(b, 0, 0, 18);
	uint32_t sequence = admit(b, &prompt, NULL);
	for (uint32_t block = 1; block <= 18; block++) {
		compute(b, sequence, block * BLOCK);
		uint64_t local = block % 4;
		g_assert_cmpuint(kvt_kv_held_bytes(b->kv, sequence), ==,
			18 * BLOCK * 8 + local * BLOCK * 24);
	}
	kvt_kv_finish(b->kv, sequence, NULL, 0, &b->moves);
	end_moves(b, TRUE);
	kvt_kv_match match = match_of(b, 0, 0, 19);
	g_assert_cmpuint(match.blocks, ==, 18);
	g_assert_cmpuint(match.level_bytes[0], ==, 18 * BLOCK * 8 + 2 * BLOCK * 24);
	bed_free(b);
}

/* The hot end of a conversation stays when memory is short; windows that it slid out of go first.
 */
static void test_tail_stays(void)
{
	bed *b = bed_new(&two_kinds, 10, 0, 0, FALSE);
	serve(b, 0, 0, 14);
	g_assert_cmpuint(match_of(b, 0, 0, 15).blocks, ==, 14);
	serve(b, 0, 100, 5);
	/* the last blocks may have gone, one after the other */
	g_assert_cmpuint(match_of(b, 0, 0, 15).blocks, >=, 12);
	/* a branch inside of the first chunk finds no window there any more */
	g_assert_cmpuint(match_of(b, 0, 0, 3).blocks, <, 3);
	bed_free(b);
}

/* A session moves: what only another replica has is read from there, and stays there meanwhile. */
static void test_migration(void)
{
	bed *home = bed_new(&one_kind, 10, 10, 0, FALSE), *b = bed_new(&one_kind, 10, 10, 0, FALSE);
	kvt_block_names_free(b->names);
	kvt_kv_manager_free(b->kv);
	kvt_kv_settings settings = { .shape = &one_kind,
		.names = home->names,
		.hbm_bytes = 10 * BLOCK * 8,
		.policy = kvt_policy_find("lru", NULL),
		.tiers = b->tiers,
		.n_tiers = 1 };
	b->kv = kvt_kv_manager_new(&settings, NULL);
	serve(home, 0, 0, 6);
	serve(home, 0, 100, 8);
	kvt_kv_prompt prompt = prompt_of(b, 0, 0, 8);
	g_assert_cmpuint(match_of(b, 0, 0, 8).blocks, ==, 0);
	prompt.peer = home->kv;
	kvt_kv_match match;
	uint32_t sequence = admit(b, &prompt, &match);
	g_assert_cmpuint(match.level_blocks[KVT_KV_PEER], ==, 6);
	g_assert_cmpuint(b->moves.n, ==, 2);
	g_assert_cmpuint(b->moves.moves[0].peer_level, ==, KVT_KV_HBM);
	g_assert_cmpuint(b->moves.moves[0].n_pieces, ==, 2);
	g_assert_cmpuint(b->moves.moves[1].peer_level, ==, 1);
	g_assert_cmpuint(b->moves.moves[1].n_pieces, ==, 4);
	/* at home, ten blocks of HBM are asked for: two are being read */
	kvt_kv_prompt other = prompt_of(home, 0, 120, 9);
	uint32_t id;
	g_assert_cmpint(kvt_kv_admit(home->kv, &other, &home->moves, NULL, &id), ==, -ENOSPC);
	end_moves(b, TRUE);
	g_assert_cmpint(kvt_kv_admit(home->kv, &other, &home->moves, NULL, &id), ==, 0);
	g_assert_cmpuint(kvt_kv_ready(b->kv, sequence, NULL), ==, 6 * BLOCK);
	end_moves(home, TRUE);
	kvt_kv_drop(home->kv, id);
	kvt_kv_drop(b->kv, sequence);
	b->names = NULL;
	bed_free(b);
	bed_free(home);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/kv-manager/no-hit-across-tenants", test_no_hit_across_tenants);
	g_test_add_func("/kv-manager/computing-is-no-hit", test_computing_is_no_hit);
	g_test_add_func("/kv-manager/warm-start", test_warm_start);
	g_test_add_func("/kv-manager/failed-store", test_failed_store);
	g_test_add_func("/kv-manager/cancel-while-loading", test_cancel_while_loading);
	g_test_add_func("/kv-manager/read-while-evicting", test_read_while_evicting);
	g_test_add_func("/kv-manager/write-back-once", test_write_back_once);
	g_test_add_func("/kv-manager/write-through", test_write_through);
	g_test_add_func("/kv-manager/next-turn", test_next_turn);
	g_test_add_func("/kv-manager/refused", test_refused);
	g_test_add_func("/kv-manager/swap", test_swap);
	g_test_add_func("/kv-manager/cancel-while-swapping", test_cancel_while_swapping);
	g_test_add_func("/kv-manager/windows", test_windows);
	g_test_add_func("/kv-manager/tail-stays", test_tail_stays);
	g_test_add_func("/kv-manager/migration", test_migration);
	return g_test_run();
}
