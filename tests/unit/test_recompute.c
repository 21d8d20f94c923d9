/*
 * test_recompute.c: pages that storage does not deliver are found, made again and attended to, in
 * every layer exactly once; what that costs grows with what is lost and has an end.
 */
#include <errno.h>
#include <glib.h>
#include <math.h>
#include <string.h>

#include "sim/base/rng.h"
#include "sim/engine/lost_pages.h"
#include "sim/engine/span_map.h"
#include "sim/engine/turn.h"
#include "tests/unit/lossy_tier.h"

/* Spans against an array. */
static void test_span_map(void)
{
	enum { N = 200 };
	kvt_rng rng = kvt_rng_init(5, 0);
	for (unsigned round = 0; round < 50; round++) {
		kvt_span_map map = { 0 };
		unsigned plain[N] = { 0 };
		for (unsigned i = 0; i < 60; i++) {
			uint64_t first = kvt_rng_below(&rng, N), end = kvt_rng_below(&rng, N + 1);
			unsigned value = (unsigned)kvt_rng_below(&rng, 4);
			kvt_span_map_set(&map, first, MAX(first, end), value);
			for (uint64_t t = first; t < end; t++)
				plain[t] = value;
			uint64_t tokens = 0;
			for (uint64_t t = 0; t < N; t++) {
				uint64_t to;
				g_assert_cmpuint(kvt_span_map_at(&map, t, &to), ==, plain[t]);
				g_assert_cmpuint(to, >, t);
				for (uint64_t same = t; same < MIN(to, N); same++)
					g_assert_cmpuint(plain[same], ==, plain[t]);
				tokens += plain[t] != 0;
			}
			g_assert_cmpuint(map.tokens, ==, tokens);
		}
		kvt_span_map_clear(&map);
	}
}

/* A loop, a null tier around which pages get lost, and an engine with only those. */
typedef struct bench {
	kvt_llm llm;
	kvt_layer layers[6];
	kvt_network *network;
	lossy_settings lossy;
	kvt_engine engine;
	unsigned ended;
} bench;

static void bench_init(bench *w)
{
	memset(w, 0, sizeof *w);
	w->llm = (kvt_llm){ .n_layers = G_N_ELEMENTS(w->layers),
		.layers = w->layers,
		.hidden = 256,
		.window = 64,
		.attention = { .query_heads = 4, .kv_heads = 2, .head_dim = 64 },
		.kv = { .format = KVT_DTYPE_BF16 } };
	w->engine.loop = kvt_virtual_loop_new();
	w->network = kvt_network_new(w->engine.loop);
	kvt_tier_env env = { .loop = w->engine.loop, .network = w->network, .seed = 1 };
	w->engine.storage = lossy_tier_new(kvt_tier_open("null", &env, NULL, NULL), &w->lossy);
	kvt_kv_layout_init(&w->engine.layout, &w->llm, 1, 1, 16);
}

static void bench_clear(bench *w)
{
	kvt_tier_close(w->engine.storage);
	kvt_network_free(w->network);
	kvt_loop_free(w->engine.loop);
}

static void read_done(kvt_page_read *read)
{
	((bench *)read->arg)->ended++;
}

/* Each page that is lost is found, for its own reason, and no other one, in few reads. */
static void test_page_read(void)
{
	kvt_rng rng = kvt_rng_init(6, 0);
	uint64_t lost = 0, extra = 0;
	kvt_page_read read = { 0 };
	bench w;
	bench_init(&w);
	for (unsigned layer = 0; layer < 4; layer += 3) {
		kvt_extent all = kvt_kv_extent(&w.engine.layout, layer, 0, 16 << 20);
		kvt_tier *tier = w.engine.storage;
		g_assert_true(tier->ops->preload(tier, 0, &all));
	}
	for (unsigned round = 0; round < 300; round++) {
		uint64_t n = 1 + kvt_rng_below(&rng, 600), first = kvt_rng_below(&rng, 1000);
		w.lossy = (lossy_settings){ .seed = round, .rate = 0.5 / (double)n * (round % 6) };
		read.engine = &w.engine;
		read.extent = kvt_kv_extent(&w.engine.layout, 3, first * 16, n * 16);
		read.patience = 6;
		read.done = read_done;
		read.arg = &w;
		w.ended = 0;
		kvt_page_read_start(&read);
		kvt_loop_run(w.engine.loop);
		g_assert_cmpuint(w.ended, ==, 1);
		g_assert_cmpint(read.status, ==, 0);
		g_autofree int *found = g_new0(int, n);
		for (guint i = 0; read.lost && i < read.lost->len; i++) {
			const kvt_lost_run *run = &g_array_index(read.lost, kvt_lost_run, i);
			static const int status[] = { -ENOENT, -EIO, -EBADMSG };
			for (uint64_t p = 0; p < run->n_pages; p++) {
				g_assert_cmpint(found[run->first_page + p - first], ==, 0);
				found[run->first_page + p - first] = status[run->loss];
			}
		}
		uint64_t bad = 0;
		for (uint64_t p = 0; p < n; p++) {
			int expected = lossy_page(&w.lossy, 3, first + p);
			bad += expected != 0;
			/* what is missing is said to be so where nothing else is wrong beside it */
			if (expected != 0 && expected != -ENOENT && read.lost_pages <= 3)
				g_assert_cmpint(found[p], ==, expected);
			g_assert_true(expected == 0 || found[p] != 0);
		}
		/* few are found exactly; many close together may take good ones along */
		if (bad <= 3)
			g_assert_cmpuint(read.lost_pages, ==, bad);
		extra += read.lost_pages - bad;
		g_assert_cmpuint(read.rereads, <=, bad * 2 * 10);
		g_assert_cmpuint(read.rereads > 0, ==, bad > 0 && n > 1);
		g_assert_cmpuint(read.bytes, ==, (n - read.lost_pages) * read.extent.page_bytes);
		lost += bad;
	}
	g_assert_cmpuint(lost, >, 100);
	g_assert_cmpuint(extra, <, lost / 20);
	/* what is dead is not asked for page by page, and what is no loss is an error */
	w.lossy = (lossy_settings){ .rate = 1, .status = -EIO };
	read.extent = kvt_kv_extent(&w.engine.layout, 0, 0, 16 << 20);
	kvt_page_read_start(&read);
	kvt_loop_run(w.engine.loop);
	g_assert_cmpuint(read.lost_pages, ==, 1 << 20);
	g_assert_cmpuint(w.lossy.reads, ==, 127);
	w.lossy.status = -ENODEV;
	kvt_page_read_start(&read);
	kvt_loop_run(w.engine.loop);
	g_assert_cmpint(read.status, ==, -ENODEV);
	kvt_page_read_clear(&read);
	bench_clear(&w);
}

/* Where local layers lie below, what the lost tokens see is computed with them. */
static void test_plan(void)
{
	static const struct {
		kvt_attention_kind below;
		unsigned layer;
		uint64_t first, begin;
	} cases[] = { { KVT_ATTENTION_GLOBAL, 5, 1000, 1000 },
		{ KVT_ATTENTION_CHUNKED, 5, 1000, 960 }, { KVT_ATTENTION_CHUNKED, 0, 1000, 1000 },
		{ KVT_ATTENTION_SLIDING, 5, 1000, 1000 - 5 * 64 },
		{ KVT_ATTENTION_SLIDING, 5, 100, 0 } };
	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		bench w;
		bench_init(&w);
		for (unsigned layer = 0; layer < 5; layer++)
			w.layers[layer].attention = cases[i].below;
		kvt_lost_limits limits = { 1 << 20, 1 << 30 };
		kvt_lost_pages *lost = kvt_lost_pages_new(&w.engine, 48, &limits);
		GArray *jobs = g_array_new(FALSE, FALSE, sizeof(kvt_recompute_job));
		uint64_t first = cases[i].first, at = cases[i].begin;
		g_assert_true(
			kvt_lost_pages_plan(lost, cases[i].layer, first, first + 100, false, jobs));
		for (guint j = 0; j < jobs->len; j++) {
			kvt_recompute_job job = g_array_index(jobs, kvt_recompute_job, j);
			g_assert_cmpuint(job.position, ==, at);
			g_assert_cmpuint(job.tokens, <=, 48);
			g_assert_cmpuint(job.from, ==, 0);
			g_assert_cmpuint(job.to, ==, cases[i].layer);
			g_assert_true(job.edge ==
				      (at < first && cases[i].below == KVT_ATTENTION_SLIDING));
			at += job.tokens;
			kvt_lost_pages_done(lost, &job);
		}
		g_assert_cmpuint(at, ==, first + 100);
		/* the same tokens go on from there */
		g_array_set_size(jobs, 0);
		g_assert_true(
			kvt_lost_pages_plan(lost, cases[i].layer, first, first + 48, false, jobs));
		kvt_recompute_job last = g_array_index(jobs, kvt_recompute_job, jobs->len - 1);
		g_assert_cmpuint(last.position, ==, first);
		g_assert_cmpuint(last.from, ==, cases[i].layer);
		g_array_unref(jobs);
		kvt_lost_pages_free(lost);
		bench_clear(&w);
	}
}

static kvt_tier *open_lossy(void *arg, const kvt_tier_env *env, const char *name, GError **error)
{
	return lossy_tier_new(kvt_tier_open(name, env, NULL, error), arg);
}

static kvt_turn run_turn(const char *text, lossy_settings *lossy, kvt_run_kind kind)
{
	GError *error = NULL;
	kvt_config *config = kvt_config_parse("test.ini", text, &error);
	g_assert_no_error(error);
	g_autoptr(kvt_experiment) experiment = kvt_experiment_new(config, &error);
	g_assert_no_error(error);
	kvt_world world = { .open_store = lossy ? open_lossy : NULL, .arg = lossy };
	kvt_turn turn;
	kvt_turn_run_in(&world, experiment, kind, NULL, &turn, &error);
	g_assert_no_error(error);
	return turn;
}

#define MODEL(name)                                                                                \
	"[model]\nname = " name "\n[gpu]\nname = l40s\ncount = 4\n[context]\ntokens = 30K\n"       \
	"output_tokens = 4\n"

static const char *const turns[] = {
	MODEL("qwen2.5-7b-instruct-1m"),
	MODEL("llama-4-scout-17b-16e-fp8"),
	MODEL("llama-4-scout-17b-16e-fp8") "[prefill]\nchunk_tokens = 1K\noverlap = full\n",
	MODEL("qwen2.5-7b-instruct-1m") "[stream]\nmode = always\nwindow_tokens = 4096\n",
	MODEL("llama-4-scout-17b-16e-fp8") "[stream]\nmode = always\nwindow_tokens = 2048\n",
	MODEL("llama-4-scout-17b-16e-fp8") "[select]\ncurve = selectivity.csv\n",
	MODEL("llama-4-scout-17b-16e-fp8") "[select]\ncurve = selectivity.csv\nsketch_bytes = "
					   "37B\n",
};

static uint64_t lost_pages(const kvt_turn *turn)
{
	uint64_t pages = 0;
	for (unsigned i = 0; i < KVT_LOSSES; i++)
		pages += turn->lost.pages[i];
	return pages;
}

/* More lost pages take more time, up to where it is given up; none, none at all. */
static void test_rates(void)
{
	static const double rates[] = { 0, 0.0001, 0.001, 0.01, 0.05 };
	unsigned growing = 0, given_up = 0;
	for (unsigned t = 0; t < G_N_ELEMENTS(turns); t++) {
		kvt_turn plain = run_turn(turns[t], NULL, KVT_RUN_RESUME), before = plain;
		kvt_turn cold = run_turn(turns[t], NULL, KVT_RUN_COLD);
		for (unsigned i = 0; i < G_N_ELEMENTS(rates); i++) {
			lossy_settings lossy = { .seed = 1, .rate = rates[i] };
			kvt_turn turn = run_turn(turns[t], &lossy, KVT_RUN_RESUME);
			g_test_message(
				"turn %u, rate %g: ttft %g s, recompute %g s, given up %g s, "
				"%" G_GUINT64_FORMAT " pages (cold: %g s)",
				t, rates[i], turn.ttft, kvt_time_to_seconds(turn.lost.time),
				turn.given_up, lost_pages(&turn), cold.ttft);
			if (lost_pages(&turn) == 0) {
				g_assert_true(turn.ttft == plain.ttft && turn.tpot == plain.tpot);
				g_assert_cmpuint(turn.read_bytes[0], ==, plain.read_bytes[0]);
				g_assert_cmpuint(turn.hbm_peak, ==, plain.hbm_peak);
				g_assert_cmpuint(turn.lost.rereads + turn.lost.tokens, ==, 0);
				continue;
			}
			g_assert_cmpfloat(turn.ttft, >, plain.ttft);
			g_assert_cmpuint(turn.hbm_peak, >=, plain.hbm_peak);
			if (turn.given_up > 0) {
				given_up++;
				g_assert_true(turn.recomputed);
				/* what streams loses pages of a cold turn, too */
				if (!turn.streamed)
					g_assert_cmpfloat(turn.ttft, <, 3 * cold.ttft);
				continue;
			}
			growing++;
			g_assert_false(turn.recomputed);
			g_assert_cmpfloat(turn.ttft, >, before.ttft);
			g_assert_cmpint(turn.lost.time, >, before.lost.time);
			g_assert_cmpuint(lost_pages(&turn), >, lost_pages(&before));
			g_assert_cmpuint(turn.lost.rereads, >, before.lost.rereads);
			before = turn;
		}
	}
	g_assert_cmpuint(growing, >=, 8);
	g_assert_cmpuint(given_up, >=, 4);
}

/* What was made again is stored again, in whatever form it had: a second resume finds it, and takes
 * as long as one that never lost anything. The first token did not wait for it. */
static void test_stored_again(void)
{
	static const double rates[] = { 0.0001, 0.001, 0.05, 1 };
	unsigned lossy_turns = 0, given_up = 0;
	for (unsigned t = 0; t < G_N_ELEMENTS(turns); t++)
		for (unsigned i = 0; i < G_N_ELEMENTS(rates); i++) {
			g_autoptr(GHashTable) mended = g_hash_table_new(NULL, NULL);
			lossy_settings lossy = { .seed = 1, .rate = rates[i], .mends = true };
			lossy_settings never = lossy;
			lossy.mended = mended;
			kvt_turn plain = run_turn(turns[t], NULL, KVT_RUN_RESUME);
			kvt_turn first = run_turn(turns[t], &lossy, KVT_RUN_RESUME);
			kvt_turn second = run_turn(turns[t], &lossy, KVT_RUN_RESUME);
			kvt_turn without = run_turn(turns[t], &never, KVT_RUN_RESUME);
			/* what streams from its beginning goes to storage chunk by chunk */
			bool by_chunks = first.given_up > 0 && first.streamed;
			if (!by_chunks) {
				g_assert_true(first.ttft == without.ttft);
				g_assert_cmpuint(
					first.stored_again.bytes > 0, ==, lost_pages(&first) > 0);
			}
			g_assert_cmpuint(first.stored_again.failed_bytes, ==, 0);
			g_assert_cmpuint(first.written_bytes[0], >=, first.stored_again.bytes);
			g_assert_cmpuint(lost_pages(&second), ==, 0);
			g_assert_cmpuint(second.stored_again.bytes, ==, 0);
			g_assert_true(second.ttft == plain.ttft && second.tpot == plain.tpot);
			lossy_turns += lost_pages(&first) > 0;
			given_up += first.given_up > 0;
		}
	g_assert_cmpuint(lossy_turns, >=, 12);
	g_assert_cmpuint(given_up, >=, 4);
}

/* A tier that delivers nothing: about what a cold turn takes, and every token recomputed. */
static void test_dead(void)
{
	for (unsigned t = 0; t < G_N_ELEMENTS(turns); t++) {
		lossy_settings lossy = { .rate = 1, .status = -EIO };
		bool chooses = strstr(turns[t], "select") != NULL;
		if (chooses)
			continue;
		kvt_turn turn = run_turn(turns[t], &lossy, KVT_RUN_RESUME);
		kvt_turn cold = run_turn(turns[t], NULL, KVT_RUN_COLD);
		g_assert_cmpuint(turn.lost.tokens, ==, 30000);
		g_assert_cmpuint(turn.lost.pages[KVT_LOSS_FAILED], ==, lost_pages(&turn));
		g_assert_cmpfloat(turn.ttft, >, 0.7 * cold.ttft);
		g_assert_cmpfloat(turn.ttft, <, 2.2 * cold.ttft);
		g_test_message("dead %g cold %g", turn.ttft, cold.ttft);
	}
}

/* Several nodes: one that is dead costs its share of the pages, or, with replicas, next to nothing.
 */
static void test_dead_node(void)
{
	const char *const text = MODEL("qwen2.5-7b-instruct-1m");
	static const char *const nodes[] = { "", "nodes = 4\n", "nodes = 4\ndead_nodes = 1\n",
		"nodes = 4\nreplicas = 2\n", "nodes = 4\nreplicas = 2\ndead_nodes = 1\n",
		"nodes = 4\nreplicas = 2\ndead_nodes = 4\n" };
	kvt_turn turns_of[G_N_ELEMENTS(nodes)];
	for (unsigned i = 0; i < G_N_ELEMENTS(nodes); i++) {
		g_autofree char *more = g_strconcat(text, "[storage]\n", nodes[i], NULL);
		turns_of[i] = run_turn(more, NULL, KVT_RUN_RESUME);
		g_test_message("%s: %g s", nodes[i], turns_of[i].ttft);
	}
	uint64_t all = 28 * 30000 / 16;
	g_assert_cmpuint(lost_pages(&turns_of[1]) + lost_pages(&turns_of[3]), ==, 0);
	g_assert_cmpuint(lost_pages(&turns_of[2]), >, all / 4 * 7 / 10);
	g_assert_cmpuint(lost_pages(&turns_of[2]), <, all / 4 * 14 / 10);
	g_assert_cmpfloat(turns_of[2].ttft, >, 5 * turns_of[1].ttft);
	g_assert_cmpuint(lost_pages(&turns_of[4]), ==, 0);
	g_assert_cmpfloat(turns_of[4].ttft, >, turns_of[3].ttft);
	g_assert_cmpfloat(turns_of[4].ttft, <, 1.5 * turns_of[3].ttft);
	g_assert_cmpuint(turns_of[5].lost.tokens, ==, 30000);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/recompute/span-map", test_span_map);
	g_test_add_func("/recompute/page-read", test_page_read);
	g_test_add_func("/recompute/plan", test_plan);
	g_test_add_func("/recompute/rates", test_rates);
	g_test_add_func("/recompute/stored-again", test_stored_again);
	g_test_add_func("/recompute/dead", test_dead);
	g_test_add_func("/recompute/dead-node", test_dead_node);
	return g_test_run();
}
