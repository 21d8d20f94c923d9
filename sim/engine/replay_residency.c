/* replay_residency.c: hits, prefetches, demand fetches and evictions of one layer and KV head. */
#include "sim/engine/replay_residency.h"

#include <string.h>

#include "sim/prefetch/top_pages.h"

struct kvt_residency {
	kvt_residency_spec spec;
	kvt_page_cache *cache;
	uint8_t *arriving; /* prefetched for the step that is prepared */
	uint8_t *moved;    /* prefetched, and not read since */
	uint8_t *entered;  /* for it, prefetched or made there, and not read yet */
	uint8_t *fresh;    /* prefetched and not needed yet */
	uint8_t *ousted;   /* left for a prefetched page, and not moved since */
	uint8_t *touched;  /* accessed before; so were all pages below touched_end */
	uint32_t touched_end;
	uint32_t first, end; /* present at the last step that was prepared */
	uint32_t born;       /* at the step that is prepared; KVT_NO_PAGE: none */
	/* since they were last counted */
	uint64_t n_evicted, n_moved, n_wasted, n_polluted;
};

kvt_residency *kvt_residency_new(const kvt_residency_spec *spec)
{
	kvt_residency *residency = g_new0(kvt_residency, 1);
	residency->spec = *spec;
	residency->cache = kvt_page_cache_new(spec->policy, spec->n_pages, spec->capacity_max);
	residency->arriving = g_new0(uint8_t, spec->n_pages);
	residency->moved = g_new0(uint8_t, spec->n_pages);
	residency->entered = g_new0(uint8_t, spec->n_pages);
	residency->fresh = g_new0(uint8_t, spec->n_pages);
	residency->ousted = g_new0(uint8_t, spec->n_pages);
	residency->touched = g_new0(uint8_t, spec->n_pages);
	return residency;
}

void kvt_residency_free(kvt_residency *residency)
{
	if (!residency)
		return;
	kvt_page_cache_free(residency->cache);
	g_free(residency->arriving);
	g_free(residency->moved);
	g_free(residency->entered);
	g_free(residency->fresh);
	g_free(residency->ousted);
	g_free(residency->touched);
	g_free(residency);
}

const uint8_t *kvt_residency_resident(const kvt_residency *residency)
{
	return residency->cache->resident;
}

const uint8_t *kvt_residency_arriving(const kvt_residency *residency)
{
	return residency->arriving;
}

uint32_t kvt_residency_peak(const kvt_residency *residency)
{
	return residency->cache->stats.peak_resident;
}

/* Tells the policy when the page is used next after `step`. */
static void tell_next_use(kvt_residency *residency, uint32_t page, uint32_t step)
{
	if (!residency->spec.policy->needs_future)
		return;
	const kvt_residency_spec *spec = &residency->spec;
	uint64_t next = spec->next_all[step] < spec->n_steps ? spec->next_all[step] : UINT64_MAX;
	if (spec->future)
		next = MIN(next, kvt_access_log_next(spec->future, page, step));
	/* within a step pages are attended in rising order */
	if (next != UINT64_MAX)
		next = next << 32 | page;
	kvt_page_cache_next_use(residency->cache, page, next);
}

static void count_left(kvt_residency *residency, uint32_t page, bool for_prefetch)
{
	residency->n_wasted += residency->fresh[page];
	residency->fresh[page] = residency->moved[page] = residency->entered[page] = 0;
	residency->ousted[page] = for_prefetch;
}

static void count_moved(kvt_residency *residency, uint32_t page)
{
	residency->n_polluted += residency->ousted[page];
	residency->ousted[page] = 0;
}

/* Lets a page in; false when it found no place. */
static bool enter(kvt_residency *residency, uint32_t page, bool prefetch, uint32_t *left_end)
{
	uint32_t evicted;
	if (!kvt_page_cache_enter(residency->cache, page, &evicted))
		return false;
	if (evicted != KVT_NO_PAGE) {
		residency->n_evicted++;
		count_left(residency, evicted, prefetch);
		*left_end = MAX(*left_end, evicted + 1);
	}
	return true;
}

static void add_pages(
	kvt_extent_list *fetch, const kvt_extent *like, uint32_t first, uint32_t n_pages)
{
	kvt_extent extent = *like;
	extent.first_page = first;
	extent.n_pages = n_pages;
	kvt_extent_list_add(fetch, &extent);
}

/* The pages of a selection that stay pinned while a step is attended: residents that only filled a
 * selection up may leave as soon as they were read. */
static bool stays(const kvt_selection *selection, uint32_t page)
{
	return !selection->filled || kvt_replay_is_kept(&selection->present, page);
}

static void pin_residents(kvt_residency *residency, const uint32_t *pages, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (kvt_page_cache_has(residency->cache, pages[i]))
			kvt_page_cache_pin(residency->cache, pages[i]);
}

/* Lets those of the pages in that are not there, and pins them. */
static void let_in(kvt_residency *residency, uint32_t step, const uint32_t *pages, uint32_t n,
	const kvt_extent *like, kvt_extent_list *fetch, uint32_t *left_end)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t page = pages[i];
		if (kvt_page_cache_has(residency->cache, page))
			continue;
		bool entered = enter(residency, page, page != residency->born, left_end);
		g_assert(entered);
		residency->entered[page] = 1;
		kvt_page_cache_pin(residency->cache, page);
		/* used now, which is before anything that is not */
		kvt_page_cache_next_use(residency->cache, page, (uint64_t)step << 32 | page);
		if (page == residency->born)
			continue;
		residency->arriving[page] = residency->moved[page] = residency->fresh[page] = 1;
		residency->n_moved++;
		count_moved(residency, page);
		add_pages(fetch, like, page, 1);
	}
}

uint32_t kvt_residency_prepare(kvt_residency *residency, uint32_t step,
	const kvt_selection *selection, uint32_t capacity, const kvt_extent *like,
	kvt_extent_list *fetch)
{
	kvt_page_cache *cache = residency->cache;
	const kvt_replay_present *present = &selection->present;
	uint32_t left_end = 0;
	g_assert(capacity >= selection->n + selection->n_ahead && present->end >= residency->end);
	/* what a layer of local chunks has left behind is never used again */
	for (uint32_t page = residency->first; page < MIN(present->first, residency->end); page++)
		if (kvt_page_cache_has(cache, page)) {
			kvt_page_cache_remove(cache, page);
			count_left(residency, page, false);
			left_end = MAX(left_end, page + 1);
		}
	kvt_page_cache_set_capacity(cache, MAX(capacity, cache->stats.resident));
	residency->born = present->end > residency->end ? present->end - 1 : KVT_NO_PAGE;
	residency->first = present->first;
	residency->end = present->end;

	pin_residents(residency, selection->pages, selection->n);
	pin_residents(residency, selection->ahead, selection->n_ahead);
	let_in(residency, step, selection->pages, selection->n, like, fetch, &left_end);
	let_in(residency, step, selection->ahead, selection->n_ahead, like, fetch, &left_end);
	return left_end;
}

/* A resident page is read. */
static void count_resident(kvt_residency *residency, uint32_t page, kvt_residency_counts *counts)
{
	counts->accesses++;
	if (residency->moved[page])
		counts->prefetched++;
	else
		counts->hits++;
	counts->born += page == residency->born;
	residency->moved[page] = 0;
}

/* Whether it is a first access, and to a stored page. */
static void count_first(kvt_residency *residency, uint32_t page, kvt_residency_counts *counts)
{
	bool first = page >= residency->touched_end && !residency->touched[page];
	counts->compulsory += first && page != residency->born;
	residency->touched[page] = 1;
}

static void touch(kvt_residency *residency, uint32_t page, uint32_t step)
{
	if (residency->entered[page])
		kvt_page_cache_first_use(residency->cache, page);
	else
		kvt_page_cache_touch(residency->cache, page);
	residency->entered[page] = 0;
	tell_next_use(residency, page, step);
}

/* Pages first .. end - 1 are missing: they are fetched, and enter where they may. Returns what
 * left, as kvt_residency_prepare does. */
static uint32_t demand(kvt_residency *residency, uint32_t step, uint32_t first, uint32_t end,
	kvt_residency_counts *counts)
{
	uint32_t left_end = 0;
	uint32_t page = first;
	const uint8_t *ousted = residency->ousted + first;
	while ((ousted = memchr(ousted, 1, (size_t)(residency->ousted + end - ousted))))
		count_moved(residency, (uint32_t)(ousted - residency->ousted));
	while (page < end && enter(residency, page, false, &left_end)) {
		tell_next_use(residency, page, step);
		page++;
	}
	counts->accesses += end - first;
	counts->demanded += end - first;
	counts->streamed += end - page;
	return left_end;
}

/* Everything present is read, by rising page. */
static uint32_t attend_all(kvt_residency *residency, uint32_t step, const kvt_selection *selection,
	const kvt_extent *like, kvt_extent_list *fetch, kvt_residency_counts *counts)
{
	kvt_page_cache *cache = residency->cache;
	const kvt_replay_present *present = &selection->present;
	const uint8_t *resident = cache->resident;
	uint32_t left_end = 0;
	/* a page that is here is not given up before it was read */
	for (uint32_t page = present->first; page < present->end; page++)
		if (resident[page])
			kvt_page_cache_pin(cache, page);
	uint32_t next = 0; /* of the selection */
	for (uint32_t page = present->first; page < present->end; page++) {
		if (!resident[page]) {
			const uint8_t *found =
				memchr(resident + page, 1, (size_t)(present->end - page));
			uint32_t end = found ? (uint32_t)(found - resident) : present->end;
			uint32_t left = demand(residency, step, page, end, counts);
			left_end = MAX(left_end, left);
			add_pages(fetch, like, page, end - page);
			page = end - 1;
			continue;
		}
		count_resident(residency, page, counts);
		while (next < selection->n && selection->pages[next] < page)
			next++;
		bool selected = next < selection->n && selection->pages[next] == page;
		if (selected && stays(selection, page))
			continue;
		kvt_page_cache_unpin(cache, page);
		touch(residency, page, step);
	}
	for (uint32_t i = 0; i < selection->n; i++) {
		uint32_t page = selection->pages[i];
		if (!stays(selection, page))
			continue;
		kvt_page_cache_unpin(cache, page);
		touch(residency, page, step);
	}
	for (uint32_t page = MAX(residency->touched_end, present->first); page < present->end;
		page++)
		count_first(residency, page, counts);
	residency->touched_end = present->end;
	return left_end;
}

static void attend_selection(kvt_residency *residency, uint32_t step,
	const kvt_selection *selection, kvt_residency_counts *counts)
{
	kvt_access_step found = { .pages = selection->pages,
		.n = selection->n,
		.capacity = residency->cache->capacity,
		.born = residency->born,
		.first = selection->present.first };
	if (residency->spec.log)
		kvt_access_log_step(residency->spec.log, &found);
	for (uint32_t i = 0; i < selection->n; i++) {
		uint32_t page = selection->pages[i];
		count_resident(residency, page, counts);
		count_first(residency, page, counts);
		kvt_page_cache_unpin(residency->cache, page);
		touch(residency, page, step);
	}
}

/* Pages that are only to be in HBM are not read; they have arrived, and may leave. */
static void release_ahead(kvt_residency *residency, uint32_t step, const kvt_selection *selection)
{
	for (uint32_t i = 0; i < selection->n; i++)
		residency->arriving[selection->pages[i]] = 0;
	for (uint32_t i = 0; i < selection->n_ahead; i++) {
		uint32_t page = selection->ahead[i];
		residency->arriving[page] = 0;
		kvt_page_cache_unpin(residency->cache, page);
		tell_next_use(residency, page, step);
	}
}

uint32_t kvt_residency_attend(kvt_residency *residency, uint32_t step,
	const kvt_selection *selection, bool all, const kvt_extent *like, kvt_extent_list *fetch,
	kvt_residency_counts *counts)
{
	uint32_t left_end = 0;
	release_ahead(residency, step, selection);
	if (all)
		left_end = attend_all(residency, step, selection, like, fetch, counts);
	else
		attend_selection(residency, step, selection, counts);
	counts->moved += residency->n_moved;
	residency->n_moved = 0;
	counts->evicted += residency->n_evicted;
	counts->wasted += residency->n_wasted;
	counts->polluted += residency->n_polluted;
	residency->n_evicted = residency->n_wasted = residency->n_polluted = 0;
	return left_end;
}

static bool is_selected(const kvt_selection *selection, uint32_t page)
{
	const uint32_t *pages = selection->pages;
	uint32_t first = 0, end = selection->n;
	while (first < end) {
		uint32_t middle = first + (end - first) / 2;
		if (pages[middle] < page)
			first = middle + 1;
		else
			end = middle;
	}
	return first < selection->n && pages[first] == page;
}

void kvt_residency_need(
	kvt_residency *residency, const kvt_selection *selection, kvt_residency_counts *counts)
{
	const kvt_page_cache *cache = residency->cache;
	for (uint32_t i = 0; i < selection->n_needed; i++) {
		uint32_t page = selection->needed[i];
		counts->needed++;
		counts->needed_selected += is_selected(selection, page);
		counts->needed_here += cache->resident[page];
		counts->needed_moved += residency->arriving[page];
		counts->used += residency->fresh[page];
		residency->fresh[page] = 0;
	}
}

void kvt_residency_learn(kvt_residency *residency, uint32_t step, const kvt_page_masses *row)
{
	if (!residency->spec.policy->mass)
		return;
	for (uint32_t i = 0; i < row->n; i++)
		kvt_page_cache_mass(
			residency->cache, row->pages[i], step, kvt_mass_quantise(row->mass[i]));
}

uint32_t kvt_residency_unused(const kvt_residency *residency)
{
	uint32_t unused = 0;
	for (uint32_t page = 0; page < residency->spec.n_pages; page++)
		unused += residency->fresh[page];
	return unused;
}
