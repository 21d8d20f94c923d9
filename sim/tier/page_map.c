/* page_map.c: sorted, disjoint, merged runs for each (tenant, context, layer). */
#include "sim/tier/page_map.h"

#include <glib.h>

typedef struct page_set_key {
	uint32_t tenant, context, layer;
} page_set_key;

typedef struct page_run {
	uint64_t first, end;
} page_run;

typedef struct page_set {
	page_set_key key;
	uint64_t page_bytes;
	unsigned claims;
	GArray *runs; /* of page_run: sorted by first, never touching each other */
} page_set;

struct kvt_page_map {
	GHashTable *sets; /* page_set by its key; looked up, never iterated for a result */
};

static guint key_hash(gconstpointer pointer)
{
	const page_set_key *key = pointer;
	uint64_t mixed = key->tenant * 0x9e3779b97f4a7c15u;
	mixed = (mixed ^ key->context) * 0xbf58476d1ce4e5b9u;
	mixed = (mixed ^ key->layer ^ mixed >> 31) * 0x94d049bb133111ebu;
	return (guint)(mixed >> 32);
}

static gboolean key_equal(gconstpointer a, gconstpointer b)
{
	const page_set_key *x = a, *y = b;
	return x->tenant == y->tenant && x->context == y->context && x->layer == y->layer;
}

static void set_free(gpointer pointer)
{
	page_set *set = pointer;
	g_array_unref(set->runs);
	g_free(set);
}

kvt_page_map *kvt_page_map_new(void)
{
	kvt_page_map *map = g_new0(kvt_page_map, 1);
	map->sets = g_hash_table_new_full(key_hash, key_equal, NULL, set_free);
	return map;
}

void kvt_page_map_free(kvt_page_map *map)
{
	if (!map)
		return;
	g_hash_table_unref(map->sets);
	g_free(map);
}

static page_set *find_set(const kvt_page_map *map, uint32_t tenant, const kvt_extent *extent)
{
	page_set_key key = { tenant, extent->context, extent->layer };
	return g_hash_table_lookup(map->sets, &key);
}

static page_set *find_or_add_set(kvt_page_map *map, uint32_t tenant, const kvt_extent *extent)
{
	page_set *set = find_set(map, tenant, extent);
	if (set)
		return set;
	set = g_new0(page_set, 1);
	set->key = (page_set_key){ tenant, extent->context, extent->layer };
	set->page_bytes = extent->page_bytes;
	set->runs = g_array_new(FALSE, FALSE, sizeof(page_run));
	g_hash_table_insert(map->sets, &set->key, set);
	return set;
}

static void drop_if_empty(kvt_page_map *map, page_set *set)
{
	if (set->runs->len == 0 && set->claims == 0)
		g_hash_table_remove(map->sets, &set->key);
}

bool kvt_page_map_claim(kvt_page_map *map, uint32_t tenant, const kvt_extent *extent)
{
	page_set *set = find_or_add_set(map, tenant, extent);
	if (set->page_bytes != extent->page_bytes)
		return false;
	set->claims++;
	return true;
}

void kvt_page_map_release(kvt_page_map *map, uint32_t tenant, const kvt_extent *extent)
{
	page_set *set = find_set(map, tenant, extent);
	g_assert(set && set->claims > 0);
	set->claims--;
	drop_if_empty(map, set);
}

/* Index of the first run that ends after `page`. */
static guint first_run_after(const GArray *runs, uint64_t page)
{
	guint low = 0, high = runs->len;
	while (low < high) {
		guint middle = low + (high - low) / 2;
		if (g_array_index(runs, page_run, middle).end > page)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static uint64_t count_pages(const GArray *runs, uint64_t first, uint64_t end)
{
	uint64_t pages = 0;
	for (guint i = first_run_after(runs, first); i < runs->len; i++) {
		const page_run *run = &g_array_index(runs, page_run, i);
		if (run->first >= end)
			break;
		pages += MIN(run->end, end) - MAX(run->first, first);
	}
	return pages;
}

/* Puts `n` runs where the runs [from, to) were. */
static void replace_runs(GArray *runs, guint from, guint to, const page_run *with, guint n)
{
	guint kept = MIN(n, to - from);
	for (guint i = 0; i < kept; i++)
		g_array_index(runs, page_run, from + i) = with[i];
	if (to - from > kept)
		g_array_remove_range(runs, from + kept, to - from - kept);
	else if (n > kept)
		g_array_insert_vals(runs, from + kept, with + kept, n - kept);
}

uint64_t kvt_page_map_count(const kvt_page_map *map, uint32_t tenant, const kvt_extent *extent)
{
	page_set *set = find_set(map, tenant, extent);
	if (!set || set->page_bytes != extent->page_bytes)
		return 0;
	return count_pages(set->runs, extent->first_page, extent->first_page + extent->n_pages);
}

uint64_t kvt_page_map_add(kvt_page_map *map, uint32_t tenant, const kvt_extent *extent)
{
	page_set *set = find_or_add_set(map, tenant, extent);
	g_assert(extent->n_pages > 0 && set->page_bytes == extent->page_bytes);
	page_run merged = { extent->first_page, extent->first_page + extent->n_pages };
	uint64_t present = count_pages(set->runs, merged.first, merged.end);
	/* runs that overlap or touch the new one are replaced by their union */
	guint from = merged.first > 0 ? first_run_after(set->runs, merged.first - 1) : 0;
	guint to = from;
	while (to < set->runs->len) {
		const page_run *run = &g_array_index(set->runs, page_run, to);
		if (run->first > merged.end)
			break;
		merged.first = MIN(merged.first, run->first);
		merged.end = MAX(merged.end, run->end);
		to++;
	}
	replace_runs(set->runs, from, to, &merged, 1);
	return (extent->n_pages - present) * extent->page_bytes;
}

uint64_t kvt_page_map_remove(kvt_page_map *map, uint32_t tenant, const kvt_extent *extent)
{
	page_set *set = find_set(map, tenant, extent);
	if (!set)
		return 0;
	uint64_t first = extent->first_page, end = first + extent->n_pages;
	uint64_t removed = 0;
	/* what stays of the runs at both ends */
	page_run rest[2];
	guint n_rest = 0, from = first_run_after(set->runs, first), to = from;
	for (; to < set->runs->len; to++) {
		page_run run = g_array_index(set->runs, page_run, to);
		if (run.first >= end)
			break;
		removed += MIN(run.end, end) - MAX(run.first, first);
		if (run.first < first)
			rest[n_rest++] = (page_run){ run.first, first };
		if (run.end > end)
			rest[n_rest++] = (page_run){ end, run.end };
	}
	uint64_t bytes = removed * set->page_bytes;
	replace_runs(set->runs, from, to, rest, n_rest);
	drop_if_empty(map, set);
	return bytes;
}

unsigned kvt_page_map_n_runs(const kvt_page_map *map, uint32_t tenant, const kvt_extent *extent)
{
	page_set *set = find_set(map, tenant, extent);
	return set ? set->runs->len : 0;
}
