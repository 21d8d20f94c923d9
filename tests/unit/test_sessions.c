/*
 * test_sessions.c: many sessions at once on one store: no page is lost, none is another's, memory
 * is bounded. A few seconds as a part of the tests; `-m slow` runs a thousand sessions for a
 * minute, and tells how fast and in how much memory.
 */
#include <errno.h>
#include <glib.h>
#include <pthread.h>

#include "emu/loop/real_loop.h"
#include "emu/turn/real_tiers.h"
#include "emu/tier/uring_tier.h"
#include "sim/base/rng.h"
#include "tests/unit/session_stress.h"
#include "tests/unit/store_fixture.h"

/* Sanitizers make everything slow, and keep what was freed. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static kvt_tier *open_tier(kvt_loop *loop, const char *kind, const char *options)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *text = g_strdup_printf("[tier]\n%s\n", options);
	g_autoptr(kvt_config) config = kvt_config_parse("test.ini", text, &error);
	g_assert_no_error(error);
	const kvt_tier_env env = { .loop = loop };
	kvt_tier *tier = kvt_tier_open_kind(
		kvt_real_tier_find(kind), &env, kvt_config_section(config, "tier"), &error);
	g_assert_no_error(error);
	return tier;
}

static void tell(const char *what, const stress_counts *c)
{
	g_test_message(
		"%s: %.1f s, %.0f pages/s written, %.0f read (%.0f and %.0f MB/s); %u I/Os at "
		"once",
		what, c->seconds, (double)c->written_pages / c->seconds,
		(double)c->read_pages / c->seconds, (double)c->written_bytes / c->seconds * 1e-6,
		(double)c->read_bytes / c->seconds * 1e-6, c->in_flight);
	g_test_message("%s: %" G_GUINT64_FORMAT " reads of nothing, %" G_GUINT64_FORMAT
		       " discards, %" G_GUINT64_FORMAT " evictions, %" G_GUINT64_FORMAT
		       " refused, %" G_GUINT64_FORMAT " failed, %" G_GUINT64_FORMAT " pages lost",
		what, c->missed, c->discards, c->evicted_sessions, c->refused, c->failed, c->lost);
}

/* What there must have been for the test to mean something. */
static void assert_busy(const stress_counts *c)
{
	g_assert_cmpuint(c->written_pages, >, 0);
	g_assert_cmpuint(c->read_pages, >, 0);
	g_assert_cmpuint(c->evicted_sessions, >, 0);
	g_assert_cmpuint(c->missed, >, 0);
	g_assert_cmpuint(c->in_flight, >, 20);
}

/* Some I/Os come to -EIO. */
static int fail_some(void *arg, kvt_raw_op op, uint64_t offset, uint64_t length, int result)
{
	kvt_rng *rng = arg;
	return kvt_rng_next(rng) % 200 == 0 ? -EIO : result;
}

typedef struct store_case {
	const char *name, *options;
	bool faults;
} store_case;

static void test_store(gconstpointer arg)
{
	const store_case *which = arg;
	char *folder = store_folder_new();
	g_autofree char *options =
		g_strdup_printf("path = %s\ncapacity = 24MiB\nsegment = 1MiB\nmax_ios = 100\n%s",
			folder, which->options);
	kvt_loop *loop = kvt_real_loop_new(NULL);
	kvt_tier *tier = open_tier(loop, "store", options);
	kvt_rng rng = kvt_rng_init(3, 3);
	if (which->faults)
		kvt_io_engine_set_fault(kvt_uring_tier_engine(tier), fail_some, &rng);
	const stress_spec spec = { .sessions = 120,
		.tenants = 4,
		.seed = 11,
		.operations = SANITIZED ? 3000 : 15000,
		.think = 200 * KVT_MICROSECOND,
		.faults = which->faults };
	session_stress *stress = session_stress_new(loop, tier, &spec);
	stress_counts counts;
	session_stress_run(stress, &counts);
	tell(which->name, &counts);
	assert_busy(&counts);
	g_assert_cmpint(counts.failed > 0, ==, which->faults);
	kvt_io_engine_set_fault(kvt_uring_tier_engine(tier), NULL, NULL);
	session_stress_verify(stress, loop, tier);
	g_assert_cmpuint(kvt_uring_tier_counts(tier).bad_pages, ==, 0);
	kvt_store_info info;
	kvt_store_info_get(kvt_uring_tier_store(tier), &info);
	g_assert_cmpuint(info.readers + info.writers, ==, 0);
	g_assert_cmpuint(info.used, <=, info.shape.capacity);
	kvt_tier_close(tier);
	kvt_loop_free(loop);
	/* and again from the files alone */
	loop = kvt_real_loop_new(NULL);
	tier = open_tier(loop, "store", options);
	session_stress_verify(stress, loop, tier);
	kvt_tier_close(tier);
	kvt_loop_free(loop);
	session_stress_free(stress);
	store_folder_free(folder);
}

static void test_memory(void)
{
	kvt_loop *loop = kvt_real_loop_new(NULL);
	kvt_tier *tier = open_tier(loop, "memory", "capacity = 24MiB\nhelpers = 2\nmax_ios = 100");
	const stress_spec spec = { .sessions = 120,
		.tenants = 4,
		.seed = 12,
		.operations = SANITIZED ? 3000 : 15000,
		.think = 200 * KVT_MICROSECOND };
	session_stress *stress = session_stress_new(loop, tier, &spec);
	stress_counts counts;
	session_stress_run(stress, &counts);
	tell("memory", &counts);
	assert_busy(&counts);
	session_stress_verify(stress, loop, tier);
	session_stress_free(stress);
	kvt_tier_close(tier);
	kvt_loop_free(loop);
}

/* --- The store itself, from several threads --- */

enum { WORKERS = 4, CONTEXTS = 12, CONTEXT_PAGES = 24, API_PAGE = 2048 };

typedef struct worker {
	kvt_store *store;
	unsigned tenant, rounds;
	uint64_t versions[CONTEXTS][CONTEXT_PAGES]; /* 0: not there */
	uint64_t puts, gets, full;
} worker;

static void set_versions(worker *w, const kvt_store_run *run, uint64_t version)
{
	for (uint64_t i = 0; i < run->pages.n_pages; i++)
		w->versions[run->pages.context][run->pages.first_page + i] = version;
}

/* Room by gc, or else by giving up a context; other threads may be at it, too. */
static void make_room(worker *w, const kvt_store_run *run, unsigned context)
{
	const kvt_store_run all = store_run(w->tenant, context, 0, 0, CONTEXT_PAGES, API_PAGE);
	w->full++;
	if (kvt_store_gc(w->store, kvt_store_run_cost(run), NULL) == 0)
		return;
	g_assert_cmpint(kvt_store_discard(w->store, &all, 1, NULL), ==, 0);
	set_versions(w, &all, 0);
}

/* What was put and not discarded is there, in the version that was put last. */
static void get(worker *w, const kvt_store_run *run, uint8_t *pages)
{
	const uint64_t *versions = &w->versions[run->pages.context][run->pages.first_page];
	uint64_t there = 0;
	for (uint64_t i = 0; i < run->pages.n_pages; i++)
		there += versions[i] != 0;
	int status = kvt_store_get(w->store, run, pages);
	g_assert_cmpint(status, ==, there == run->pages.n_pages ? 0 : -ENOENT);
	g_assert_cmpuint(kvt_store_count(w->store, run), ==, there);
	for (uint64_t i = 0; i < run->pages.n_pages && status == 0; i++)
		g_assert_cmpint(store_version(run, run->pages.first_page + i, pages + i * API_PAGE),
			==, (int64_t)versions[i]);
	w->gets += status == 0;
}

static void *use_store(void *arg)
{
	worker *w = arg;
	kvt_rng rng = kvt_rng_init(21, w->tenant);
	uint8_t *pages = g_malloc(CONTEXT_PAGES * API_PAGE);
	for (unsigned i = 1; i <= w->rounds; i++) {
		unsigned context = (unsigned)kvt_rng_below(&rng, CONTEXTS);
		uint64_t first = kvt_rng_below(&rng, CONTEXT_PAGES);
		uint64_t n = 1 + kvt_rng_below(&rng, MIN(CONTEXT_PAGES - first, 12));
		const kvt_store_run run = store_run(w->tenant, context, 0, first, n, API_PAGE);
		uint64_t dice = kvt_rng_below(&rng, 100);
		if (dice < 40) {
			int status = store_put(w->store, &run, i);
			if (status != -ENOSPC)
				g_assert_cmpint(status, ==, 0);
			if (status == 0)
				set_versions(w, &run, i);
			else
				make_room(w, &run, (context + 1) % CONTEXTS);
			w->puts += status == 0;
		} else if (dice < 50) {
			g_assert_cmpint(kvt_store_discard(w->store, &run, 1, NULL), ==, 0);
			set_versions(w, &run, 0);
		} else if (dice < 51) {
			g_assert_cmpint(kvt_store_seal(w->store), ==, 0);
		} else {
			get(w, &run, pages);
		}
	}
	g_free(pages);
	return NULL;
}

static void verify_workers(kvt_store *store, worker *workers)
{
	uint8_t *pages = g_malloc(CONTEXT_PAGES * API_PAGE);
	for (unsigned i = 0; i < WORKERS; i++) {
		workers[i].store = store;
		for (unsigned context = 0; context < CONTEXTS; context++)
			for (uint64_t page = 0; page < CONTEXT_PAGES; page++) {
				const kvt_store_run run =
					store_run(workers[i].tenant, context, 0, page, 1, API_PAGE);
				get(&workers[i], &run, pages);
			}
	}
	g_free(pages);
}

static void test_api(void)
{
	char *folder = store_folder_new();
	/* less than all of them would have, and nothing is evicted */
	kvt_store *store = store_make(folder, 3 << 20, KVT_STORE_SYNC_NONE, NULL);
	worker *workers = g_new0(worker, WORKERS);
	pthread_t threads[WORKERS];
	uint64_t puts = 0, gets = 0, full = 0;
	for (unsigned i = 0; i < WORKERS; i++) {
		workers[i].store = store;
		workers[i].tenant = i;
		workers[i].rounds = SANITIZED ? 500 : 3000;
		g_assert_cmpint(pthread_create(&threads[i], NULL, use_store, &workers[i]), ==, 0);
	}
	for (unsigned i = 0; i < WORKERS; i++) {
		pthread_join(threads[i], NULL);
		puts += workers[i].puts;
		gets += workers[i].gets;
		full += workers[i].full;
	}
	g_test_message("%" G_GUINT64_FORMAT " puts, %" G_GUINT64_FORMAT " gets, %" G_GUINT64_FORMAT
		       " times full",
		puts, gets, full);
	g_assert_cmpuint(MIN(puts, MIN(gets, full)), >, 0);
	verify_workers(store, workers);
	kvt_store_info info;
	kvt_store_info_get(store, &info);
	g_assert_cmpuint(info.evicted_pages + info.corrupt_pages, ==, 0);
	g_assert_cmpuint(info.readers + info.writers, ==, 0);
	kvt_store_drop(store);
	store = store_reopen(folder, NULL);
	verify_workers(store, workers);
	store_close(store);
	g_free(workers);
	store_folder_free(folder);
}

/* --- A thousand for a minute --- */

typedef struct memory_samples {
	GArray *resident; /* uint64_t */
	kvt_tier *tier;
} memory_samples;

static void sample(void *arg, const stress_counts *c)
{
	memory_samples *samples = arg;
	uint64_t bytes = stress_resident_bytes();
	kvt_store_info info;
	kvt_store_info_get(kvt_uring_tier_store(samples->tier), &info);
	g_array_append_val(samples->resident, bytes);
	g_test_message("%5.1f s: %.1f MB resident, index %.1f MB, files %.0f MB; %" G_GUINT64_FORMAT
		       " pages written, %" G_GUINT64_FORMAT " read",
		c->seconds, (double)bytes * 1e-6, (double)info.memory * 1e-6,
		(double)info.used * 1e-6, c->written_pages, c->read_pages);
}

static void test_minute(void)
{
	g_autofree char *folder = g_dir_make_tmp("kvt-store-XXXXXX", NULL);
	g_autofree char *options = g_strdup_printf(
		"path = %s\ncapacity = 512MiB\nsegment = 16MiB\nmax_ios = 512", folder);
	kvt_loop *loop = kvt_real_loop_new(NULL);
	kvt_tier *tier = open_tier(loop, "store", options);
	memory_samples samples = { g_array_new(FALSE, FALSE, sizeof(uint64_t)), tier };
	const stress_spec spec = { .sessions = 1000,
		.tenants = 16,
		.seed = 13,
		.seconds = 60,
		.think = 20 * KVT_MILLISECOND,
		.samples = 0.2,
		.sample = sample,
		.sample_arg = &samples };
	session_stress *stress = session_stress_new(loop, tier, &spec);
	stress_counts counts;
	session_stress_run(stress, &counts);
	tell("a thousand sessions", &counts);
	assert_busy(&counts);
	session_stress_verify(stress, loop, tier);
	/* the first third fills tier, index and buffers */
	const uint64_t *resident = (const uint64_t *)(void *)samples.resident->data;
	guint n = samples.resident->len;
	g_assert_cmpuint(n, >=, 6);
	uint64_t early = 0, late = 0;
	for (guint i = 0; i < n; i++)
		*(i <= n / 3 ? &early : &late) = MAX(i <= n / 3 ? early : late, resident[i]);
	if (!SANITIZED)
		g_assert_cmpuint(late, <=, early + early / 4 + (8 << 20));
	g_array_unref(samples.resident);
	session_stress_free(stress);
	kvt_tier_close(tier);
	kvt_loop_free(loop);
	store_folder_free(g_steal_pointer(&folder));
}

int main(int argc, char **argv)
{
	static const store_case cases[] = { { "uring", "", false },
		{ "helpers", "helpers = 2\nqueue_depth = 16\nmax_transfer = 16KiB", false },
		{ "threads", "method = threads\nhelpers = 1", false },
		{ "sync", "sync = data\nhelpers = 1", false }, { "faults", "helpers = 1", true } };
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *name = g_strconcat("/sessions/store/", cases[i].name, NULL);
		g_test_add_data_func(name, &cases[i], test_store);
	}
	g_test_add_func("/sessions/memory", test_memory);
	g_test_add_func("/sessions/api", test_api);
	if (g_test_slow())
		g_test_add_func("/sessions/minute", test_minute);
	return g_test_run();
}
