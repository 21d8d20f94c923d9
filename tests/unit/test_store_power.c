/* test_store_power.c: a page store, in a directory or on a device, whose power is cut at any of its
 * calls to the system. With sync = data what was acknowledged is there, and nothing older or half
 * written; with sync = none the store is empty after a restart of the machine, and works. */
#include <errno.h>
#include <string.h>

#include "emu/store/store.h"
#include "sim/base/rng.h"
#include "tests/unit/store_fixture.h"
#include "tests/unit/store_power.h"

enum { RUNS = 12, STEPS = 110, CUTS = 400, MIB = 1 << 20 };

/* What was done to a run: between these calls of the log it was written or (version 0) discarded.
 */
typedef struct event {
	unsigned run, begin, end; /* UINT_MAX: never acknowledged */
	uint64_t version;
} event;

typedef struct history {
	store_power *power;
	GArray *events;
	unsigned created; /* calls until the store had been made */
} history;

static kvt_store_run run_of(unsigned i)
{
	static const uint64_t bytes[] = { 300, 4096, 5000, 9000 };
	return store_run(i % 2, i, i % 3, i, 1 + i % 5, bytes[i % 4]);
}

static void step(history *h, kvt_store *store, unsigned i, kvt_rng *rng)
{
	event e = { .run = (unsigned)kvt_rng_below(rng, RUNS),
		.begin = store_power_length(h->power) };
	kvt_store_run run = run_of(e.run);
	uint64_t kind = kvt_rng_below(rng, 12);
	if (kind == 0) {
		kvt_store_gc(store, 0, NULL);
		return;
	}
	if (kind == 1) {
		kvt_store_seal(store);
		return;
	}
	e.version = kind < 4 ? 0 : i + 1;
	int status = e.version == 0 ? kvt_store_discard(store, &run, 1, NULL)
				    : store_put(store, &run, e.version);
	if (status == -ENOSPC) {
		kvt_store_gc(store, 200000, NULL);
		return;
	}
	g_assert_cmpint(status, ==, 0);
	e.end = store_power_length(h->power);
	g_array_append_val(h->events, e);
}

/* Some time of a store's life, with a clean restart and one after a kill in it. */
static void live(history *h, kvt_store_sync sync, const char *path)
{
	kvt_store_settings settings = { .io = store_power_io(h->power), .boot = "before" };
	kvt_rng rng = kvt_rng_init(11, sync);
	kvt_store *store = store_make(path, MIB, sync, &settings);
	h->created = store_power_length(h->power);
	for (unsigned i = 0; i < STEPS; i++) {
		step(h, store, i, &rng);
		if (i == STEPS / 3)
			store_close(store);
		else if (i == STEPS / 3 * 2)
			kvt_store_drop(store);
		else
			continue;
		store = store_reopen(path, &settings);
	}
	kvt_store_drop(store);
}

/* Whether the run may hold that version after a cut at call `n`: what was acknowledged last, or
 * something that was begun since. */
static bool allowed(const history *h, unsigned run, unsigned n, uint64_t version)
{
	bool allowed = version == 0;
	for (guint i = 0; i < h->events->len; i++) {
		const event *e = &g_array_index(h->events, event, i);
		if (e->run != run || e->begin > n)
			continue;
		if (e->end <= n)
			allowed = e->version == version;
		else
			allowed |= e->version == version;
	}
	return allowed;
}

static uint64_t served_version(kvt_store *store, const kvt_store_run *run)
{
	const kvt_extent *pages = &run->pages;
	g_autofree uint8_t *content = g_malloc(kvt_extent_bytes(pages));
	uint64_t there = kvt_store_count(store, run);
	int64_t version = 0;
	g_assert_true(there == 0 || there == pages->n_pages);
	if (there > 0)
		g_assert_cmpint(kvt_store_get(store, run, content), ==, 0);
	for (uint64_t p = 0; p < there; p++) {
		int64_t found =
			store_version(run, pages->first_page + p, content + p * pages->page_bytes);
		g_assert_cmpint(found, >, 0);
		g_assert_true(p == 0 || found == version);
		version = found;
	}
	return (uint64_t)version;
}

static unsigned verify(const history *h, unsigned n, kvt_store_sync sync, const char *path)
{
	kvt_store_settings settings = { .boot = "after" };
	kvt_store *store = store_reopen(path, &settings);
	uint64_t versions[RUNS];
	unsigned served = 0;
	for (unsigned i = 0; i < RUNS; i++) {
		kvt_store_run run = run_of(i);
		versions[i] = served_version(store, &run);
		served += versions[i] > 0;
		if (sync == KVT_STORE_SYNC_DATA)
			g_assert_true(allowed(h, i, n, versions[i]));
		else
			g_assert_true(versions[i] == 0 || allowed(h, i, n, versions[i]));
	}
	kvt_store_run more = store_run(5, 5, 5, 0, 2, 3000);
	int status = store_put(store, &more, 9);
	if (status == -ENOSPC) {
		g_assert_cmpint(kvt_store_gc(store, 70000, NULL), ==, 0);
		status = store_put(store, &more, 9);
	}
	g_assert_cmpint(status, ==, 0);
	kvt_store_drop(store);
	/* what was found is found again */
	store = store_reopen(path, &settings);
	store_expect(store, &more, 9);
	for (unsigned i = 0; i < RUNS; i++) {
		kvt_store_run run = run_of(i);
		g_assert_cmpuint(served_version(store, &run), ==, versions[i]);
	}
	kvt_store_drop(store);
	return served;
}

/* Where, and with which promise. */
typedef struct trial {
	const char *name;
	kvt_store_sync sync;
	bool device;
} trial;

static void test_cuts(gconstpointer data)
{
	const trial *t = data;
	kvt_store_sync sync = t->sync;
	char *folder = store_folder_new();
	g_autofree char *path = t->device ? store_device_new(folder) : g_strdup(folder);
	history h = { .power = store_power_new(),
		.events = g_array_new(FALSE, FALSE, sizeof(event)) };
	kvt_rng rng = kvt_rng_init(5, sync);
	unsigned served = 0;
	live(&h, sync, path);
	unsigned length = store_power_length(h.power);
	g_assert_cmpuint(length, >, h.created + 2 * STEPS);
	for (unsigned i = 0; i < CUTS; i++) {
		/* every call has its turn */
		unsigned n = h.created + i * (length - h.created) / (CUTS - 1);
		char *after = store_folder_new();
		g_autofree char *found =
			t->device ? g_build_filename(after, "device", NULL) : g_strdup(after);
		store_power_cut(h.power, n, &rng, after);
		served += verify(&h, n, sync, found);
		store_folder_free(after);
	}
	if (sync == KVT_STORE_SYNC_DATA)
		g_assert_cmpuint(served, >, CUTS * RUNS / 3);
	g_array_free(h.events, TRUE);
	store_power_free(h.power);
	store_folder_free(folder);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	static const trial trials[] = {
		{ "/store_power/data", KVT_STORE_SYNC_DATA, false },
		{ "/store_power/none", KVT_STORE_SYNC_NONE, false },
		{ "/store_power/device-data", KVT_STORE_SYNC_DATA, true },
		{ "/store_power/device-none", KVT_STORE_SYNC_NONE, true },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(trials); i++)
		g_test_add_data_func(trials[i].name, &trials[i], test_cuts);
	return g_test_run();
}
