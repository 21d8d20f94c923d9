/*
 * bench_kv_blocks.c: what finding, holding and letting go of a prompt's blocks takes in the KV
 * manager, in ns a block, beside one look-up a block in a hash table of the same ids, in turns in
 * one run, on one core; and the bytes of memory it takes a known block. Exits with 1 only when a
 * prompt is not found where it has been put.
 *
 * usage: bench_kv_blocks [--quick] [PROMPT_BLOCKS]
 */
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "sim/fleet/kv_manager.h"
#include "tests/bench/median.h"

enum { SESSIONS = 32, ROUNDS_MAX = 15, BLOCK_TOKENS = 64, STEPS = 4 };

typedef enum step { MATCH, ADMIT, COMPUTED, FINISH } step;

typedef struct bench {
	kvt_block_names *names;
	kvt_block_tier *tiers[2];
	kvt_kv_manager *manager;
	kvt_kv_moves moves;
	uint32_t prompt_blocks;
	uint32_t *ids; /* [SESSIONS x prompt_blocks] */
	GHashTable *table;
} bench;

typedef struct place {
	const char *name;
	double hbm, dram; /* prompts that fit */
	uint32_t level;   /* where a prompt is found, or KVT_KV_LEVELS: nowhere */
} place;

static const place places[] = {
	{ "in HBM", SESSIONS + 1, 1, KVT_KV_HBM },
	{ "in DRAM", 2, SESSIONS + 1, 1 },
	{ "on NVMe", 2, 2, 2 },
	{ "nowhere", 2, 2, KVT_KV_LEVELS },
};

static int64_t cpu_time(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Ids as traces have them: sessions take turns, so that a prompt's are in runs of a few hundred. */
static void make_ids(bench *b)
{
	enum { TURN = 200 };
	b->ids = g_new(uint32_t, (size_t)SESSIONS * b->prompt_blocks);
	uint32_t next = 0;
	for (uint32_t start = 0; start < b->prompt_blocks; start += TURN)
		for (uint32_t session = 0; session < SESSIONS; session++)
			for (uint32_t i = start; i < MIN(start + TURN, b->prompt_blocks); i++)
				b->ids[(size_t)session * b->prompt_blocks + i] = next++;
	b->table = g_hash_table_new(g_direct_hash, g_direct_equal);
	for (uint32_t id = 0; id < next; id++)
		g_hash_table_insert(b->table, GUINT_TO_POINTER(id), GUINT_TO_POINTER(id + 1));
}

static void bench_init(bench *b, uint32_t prompt_blocks, const place *where, gboolean nvme)
{
	*b = (bench){ .prompt_blocks = prompt_blocks };
	make_ids(b);
	kvt_block_shape shape = { .block_tokens = BLOCK_TOKENS,
		.page_tokens = 16,
		.n_kinds = 1,
		.kinds = { { KVT_ATTENTION_GLOBAL, 80, 0, 327680, 327680 } } };
	uint64_t prompt = prompt_blocks * kvt_block_shape_piece_bytes(&shape, 0);
	const kvt_policy_ops *lru = kvt_policy_find("lru", NULL);
	b->names = kvt_block_names_new(SESSIONS * prompt_blocks, 1, TRUE);
	kvt_block_names_seal(b->names);
	double capacity[2] = { where->dram, nvme ? SESSIONS + 1 : 2 };
	for (unsigned i = 0; i < 2; i++) {
		kvt_block_tier_settings settings = kvt_block_tier_settings_of(&shape, "tier", lru,
			(uint64_t)(capacity[i] * (double)prompt), b->names, NULL);
		b->tiers[i] = kvt_block_tier_new(&settings);
	}
	kvt_kv_settings settings = { .shape = &shape,
		.names = b->names,
		.hbm_bytes = (uint64_t)(where->hbm * (double)prompt),
		.policy = lru,
		.tiers = b->tiers,
		.n_tiers = 2 };
	b->manager = kvt_kv_manager_new(&settings, NULL);
}

static void bench_clear(bench *b)
{
	kvt_kv_manager_free(b->manager);
	for (unsigned i = 0; i < 2; i++)
		kvt_block_tier_free(b->tiers[i]);
	kvt_block_names_free(b->names);
	kvt_kv_moves_clear(&b->moves);
	g_hash_table_unref(b->table);
	g_free(b->ids);
}

static void end_moves(bench *b)
{
	for (uint32_t i = 0; i < b->moves.n; i++) {
		const kvt_kv_move *move = &b->moves.moves[i];
		if (move->kind == KVT_KV_LOAD)
			kvt_kv_loaded(b->manager, move->id, move->n_pieces);
		else
			kvt_kv_stored(b->manager, move->id, move->n_pieces);
	}
	b->moves.n = 0;
}

/* One prompt's life; adds the ns of each step. The moves' ends are in admit. */
static void serve(bench *b, uint32_t session, int64_t ns[STEPS], kvt_kv_match *match)
{
	kvt_kv_prompt prompt = { .n_ids = b->prompt_blocks,
		.ids = b->ids + (size_t)session * b->prompt_blocks,
		.tokens = (uint64_t)b->prompt_blocks * BLOCK_TOKENS };
	uint32_t sequence;
	int64_t start = cpu_time();
	kvt_kv_match_prompt(b->manager, &prompt, match);
	int64_t matched = cpu_time();
	int status = kvt_kv_admit(b->manager, &prompt, &b->moves, match, &sequence);
	g_assert(status == 0);
	end_moves(b);
	int64_t admitted = cpu_time();
	kvt_kv_ready(b->manager, sequence, NULL);
	kvt_kv_computed(b->manager, sequence, prompt.tokens);
	int64_t computed = cpu_time();
	kvt_kv_finish(b->manager, sequence, NULL, 0, &b->moves);
	end_moves(b);
	int64_t end = cpu_time();
	ns[MATCH] += matched - start;
	ns[ADMIT] += admitted - matched;
	ns[COMPUTED] += computed - admitted;
	ns[FINISH] += end - computed;
}

static int64_t look_up(const bench *b, uint64_t *sum)
{
	int64_t start = cpu_time();
	for (uint32_t session = 0; session < SESSIONS; session++)
		for (uint32_t i = 0; i < b->prompt_blocks; i++)
			*sum += GPOINTER_TO_UINT(g_hash_table_lookup(b->table,
				GUINT_TO_POINTER(b->ids[(size_t)session * b->prompt_blocks + i])));
	return cpu_time() - start;
}

static gboolean measure(const place *where, uint32_t prompt_blocks, unsigned rounds)
{
	bench b;
	bench_init(&b, prompt_blocks, where, where->level != KVT_KV_LEVELS);
	double step_ns[STEPS][ROUNDS_MAX], table_ns[ROUNDS_MAX];
	double blocks = (double)prompt_blocks * SESSIONS;
	gboolean right = TRUE;
	uint64_t sum = 0;
	for (unsigned round = 0; round <= rounds; round++) {
		int64_t ns[STEPS] = { 0 };
		for (uint32_t session = 0; session < SESSIONS; session++) {
			kvt_kv_match match;
			serve(&b, session, ns, &match);
			if (round > 0 && where->level < KVT_KV_LEVELS)
				right &= match.level_blocks[where->level] == prompt_blocks;
			else if (round > 0)
				right &= match.blocks == 0;
		}
		int64_t table = look_up(&b, &sum);
		/* the first round fills */
		for (unsigned i = 0; round > 0 && i < STEPS; i++)
			step_ns[i][round - 1] = (double)ns[i] / blocks;
		if (round > 0)
			table_ns[round - 1] = (double)table / blocks;
	}
	right &= sum > 0;
	double reference = bench_median(table_ns, rounds), all = 0;
	printf("%-10s", where->name);
	for (unsigned i = 0; i < STEPS; i++) {
		double ns = bench_median(step_ns[i], rounds);
		all += ns;
		printf(" %9.1f", ns);
	}
	printf(" %9.1f %9.1f %9.2f\n", all, reference, all / reference);
	if (!right)
		printf("%-10s prompts were not found where they had been put\n", where->name);
	bench_clear(&b);
	return right;
}

int main(int argc, char **argv)
{
	unsigned rounds = 9;
	uint32_t prompt_blocks = 14000;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--quick") == 0)
			rounds = 3;
		else
			prompt_blocks = (uint32_t)g_ascii_strtoull(argv[i], NULL, 10);
	}
	if (prompt_blocks == 0) {
		fprintf(stderr, "usage: bench_kv_blocks [--quick] [PROMPT_BLOCKS]\n");
		return 2;
	}
	gboolean right = TRUE;
	printf("ns a block, %u sessions of %u blocks, LRU everywhere\n", (unsigned)SESSIONS,
		prompt_blocks);
	printf("%-10s %9s %9s %9s %9s %9s %9s %9s\n", "found", "match", "admit", "computed",
		"finish", "all", "hash", "ratio");
	for (size_t i = 0; i < G_N_ELEMENTS(places); i++)
		right &= measure(&places[i], prompt_blocks, rounds);
	return right ? 0 : 1;
}
