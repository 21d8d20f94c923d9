/*
 * bench_replay.c: block accesses/s of the replay's engine, the reader's rate apart, beside a bare
 * LRU cache that does nothing but look up, touch and evict the same recorded pages, in one run.
 *
 * usage: bench_replay [--quick] [TRACE.h5 [BUDGET]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim/base/datadir.h"
#include "sim/cache/page_cache.h"
#include "sim/engine/replay.h"
#include "sim/engine/replay_trace.h"
#include "sim/tier/topology.h"

typedef struct measure {
	double accesses, engine, reader, rows; /* seconds */
} measure;

/* Processor time: what else runs on the machine is no part of it. */
static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void must(gboolean good, GError *error)
{
	if (good)
		return;
	fprintf(stderr, "bench_replay: %s\n", error->message);
	exit(1);
}

static kvt_replay_source *open_source(kvt_attention_trace *trace)
{
	GError *error = NULL;
	kvt_replay_trace_spec spec = { .layer = -1, .masses = KVT_REPLAY_MASSES_RECORDED };
	kvt_replay_source *source = kvt_replay_trace_new(trace, &spec, &error);
	must(source != NULL, error);
	return source;
}

static measure replay(kvt_attention_trace *trace, const kvt_replay_settings *settings)
{
	GError *error = NULL;
	kvt_replay_source *source = open_source(trace);
	kvt_loop *loop = kvt_virtual_loop_new();
	kvt_network *network = kvt_network_new(loop);
	kvt_topology topology;
	kvt_topology_spec spec = {
		.ranks = 1, .dram_rate = 200e9, .gpu_link_rate = 25e9, .gpu_copy_cost = 1e-6
	};
	kvt_topology_init(&topology, network, &spec);
	kvt_tier_env env = { .loop = loop, .network = network, .seed = 1, .topology = &topology };
	kvt_tier *tier = kvt_tier_open("dram", &env, NULL, &error);
	must(tier != NULL, error);
	kvt_replay_world world = { .loop = loop, .storage = tier };
	kvt_replay_result result;
	double began = now();
	must(kvt_replay_run(source, settings, &world, &result, &error), error);
	double seconds = now() - began;
	kvt_replay_trace_stats stats = kvt_replay_trace_get_stats(source);
	measure found = { .accesses = (double)result.counts.accesses,
		.engine = seconds - stats.processor_seconds,
		.reader = stats.processor_seconds,
		.rows = (double)stats.rows };
	kvt_replay_result_clear(&result);
	kvt_tier_close(tier);
	kvt_network_free(network);
	kvt_loop_free(loop);
	kvt_replay_trace_free(source);
	return found;
}

/* The recorded pages, row by row, through LRU alone; reading is left out. */
static measure bare_lru(kvt_attention_trace *trace, double budget)
{
	kvt_replay_source *source = open_source(trace);
	uint32_t capacity = MAX((uint32_t)(budget * source->n_pages), 5), evicted;
	g_autoptr(kvt_page_cache) cache =
		kvt_page_cache_new(kvt_policy_find("lru", NULL), source->n_pages, capacity);
	measure found = { 0 };
	for (uint32_t step = 0; step < source->n_steps; step++)
		for (uint32_t i = 0; i < source->n_layers * source->n_heads; i++) {
			GError *error = NULL;
			kvt_replay_row row;
			must(source->row(source, step, i / source->n_heads, i % source->n_heads, 1,
				     &row, &error),
				error);
			double began = now();
			for (uint32_t p = 0; p < row.n; p++) {
				if (kvt_page_cache_has(cache, row.pages[p]))
					kvt_page_cache_touch(cache, row.pages[p]);
				else
					kvt_page_cache_enter(cache, row.pages[p], &evicted);
			}
			found.engine += now() - began;
			found.accesses += row.n;
		}
	kvt_replay_trace_free(source);
	return found;
}

/* The quickest of some runs: the one that was disturbed least. */
static measure best(measure a, measure b)
{
	return b.engine < a.engine ? b : a;
}

int main(int argc, char **argv)
{
	gboolean quick = argc > 1 && strcmp(argv[1], "--quick") == 0;
	argc -= quick;
	argv += quick;
	GError *error = NULL;
	g_autofree char *path =
		argc > 1 ? g_strdup(argv[1])
			 : kvt_datadir_find("traces/samples/code-128k-retrieval.h5", &error);
	must(path != NULL, error);
	double budget = argc > 2 ? g_ascii_strtod(argv[2], NULL) : 0.02;
	g_autoptr(kvt_attention_trace) trace = kvt_attention_trace_open(path, &error);
	must(trace != NULL, error);

	static const char *const prefetchers[] = { "none", "last-step", "oracle" };
	static const char *const policies[] = { "lru", "belady" };
	int repetitions = quick ? 1 : 3;
	printf("# %s, budget %g%%: M block accesses a processor second of the engine, best of %d\n",
		path, 100 * budget, repetitions);
	printf("%-10s %-10s %-8s %10s %8s %8s %8s %12s\n", "attention", "prefetch", "policy",
		"accesses", "M/s", "/ LRU", "us/row", "reader rows/s");
	measure lru = bare_lru(trace, budget);
	for (int i = 1; i < repetitions; i++)
		lru = best(lru, bare_lru(trace, budget));
	for (int attention = 0; attention < 2; attention++)
		for (size_t p = 0; p < G_N_ELEMENTS(prefetchers); p++)
			for (size_t e = 0; e < G_N_ELEMENTS(policies); e++) {
				kvt_replay_settings settings = { .budget = budget,
					.attention = attention,
					.prefetcher = kvt_prefetcher_find(prefetchers[p], NULL),
					.policy = kvt_policy_find(policies[e], NULL),
					.page_bytes = 4096,
					.hbm_rate = 700e9,
					.window_bytes = 1 << 20,
					.prefetch_depth = 4 };
				measure run = replay(trace, &settings);
				for (int i = 1; i < repetitions; i++)
					run = best(run, replay(trace, &settings));
				double rate = run.accesses / run.engine;
				printf("%-10s %-10s %-8s %10.0f %8.2f %8.2f %8.2f %12.0f\n",
					kvt_replay_attention_names[attention], prefetchers[p],
					policies[e], run.accesses, rate * 1e-6,
					rate / (lru.accesses / lru.engine),
					1e6 * run.engine / run.rows, run.rows / run.reader);
			}
	printf("%-30s %10.0f %8.2f %8.2f\n", "bare LRU", lru.accesses,
		lru.accesses / lru.engine * 1e-6, 1.0);
	return 0;
}
