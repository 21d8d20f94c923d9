/* access_log.c: accesses by step, an index of them by page, and Belady's misses on them. */
#include "sim/cache/access_log.h"

#include "sim/cache/page_cache.h"

typedef struct logged_step {
	uint64_t end; /* of its accesses in `pages` */
	uint32_t capacity, born, first;
} logged_step;

struct kvt_access_log {
	uint32_t n_pages;
	GArray *steps; /* logged_step */
	GArray *pages; /* uint32_t */
	/* made when it is first asked for: the steps of page p are by_page[at[p] ..
	 * start[p + 1]), those before at[p] are past */
	uint64_t *start, *at;
	uint32_t *by_page;
};

kvt_access_log *kvt_access_log_new(uint32_t n_pages)
{
	kvt_access_log *log = g_new0(kvt_access_log, 1);
	log->n_pages = n_pages;
	log->steps = g_array_new(FALSE, FALSE, sizeof(logged_step));
	log->pages = g_array_new(FALSE, FALSE, sizeof(uint32_t));
	return log;
}

static void forget_index(kvt_access_log *log)
{
	g_clear_pointer(&log->start, g_free);
	g_clear_pointer(&log->at, g_free);
	g_clear_pointer(&log->by_page, g_free);
}

void kvt_access_log_free(kvt_access_log *log)
{
	if (!log)
		return;
	forget_index(log);
	g_array_unref(log->steps);
	g_array_unref(log->pages);
	g_free(log);
}

void kvt_access_log_step(kvt_access_log *log, const kvt_access_step *step)
{
	g_assert(log->start == NULL && step->n <= step->capacity);
	g_array_append_vals(log->pages, step->pages, step->n);
	logged_step logged = { .end = log->pages->len,
		.capacity = step->capacity,
		.born = step->born,
		.first = step->first };
	g_array_append_val(log->steps, logged);
}

uint64_t kvt_access_log_count(const kvt_access_log *log)
{
	return log->pages->len;
}

static const uint32_t *step_pages(const kvt_access_log *log, uint32_t step, uint32_t *n)
{
	uint64_t first = step > 0 ? g_array_index(log->steps, logged_step, step - 1).end : 0;
	*n = (uint32_t)(g_array_index(log->steps, logged_step, step).end - first);
	return (const uint32_t *)(const void *)log->pages->data + first;
}

static void make_index(kvt_access_log *log)
{
	log->start = g_new0(uint64_t, (size_t)log->n_pages + 2);
	log->at = g_new(uint64_t, (size_t)log->n_pages + 1);
	log->by_page = g_new(uint32_t, MAX(log->pages->len, 1));
	const uint32_t *pages = (const uint32_t *)(const void *)log->pages->data;
	for (uint64_t i = 0; i < log->pages->len; i++)
		log->start[pages[i] + 1]++;
	for (uint32_t page = 0; page < log->n_pages; page++) {
		log->start[page + 1] += log->start[page];
		log->at[page] = log->start[page];
	}
	for (uint32_t step = 0; step < log->steps->len; step++) {
		uint32_t n;
		const uint32_t *accessed = step_pages(log, step, &n);
		for (uint32_t i = 0; i < n; i++)
			log->by_page[log->at[accessed[i]]++] = step;
	}
	for (uint32_t page = 0; page < log->n_pages; page++)
		log->at[page] = log->start[page];
}

uint64_t kvt_access_log_next(kvt_access_log *log, uint32_t page, uint32_t step)
{
	if (!log->start)
		make_index(log);
	uint64_t *at = &log->at[page];
	while (*at < log->start[page + 1] && log->by_page[*at] <= step)
		++*at;
	return *at < log->start[page + 1] ? log->by_page[*at] : UINT64_MAX;
}

/* Empties what lies below the step's first page, and takes its capacity on. */
static void begin_step(kvt_page_cache *cache, uint32_t *first, const logged_step *step)
{
	for (; *first < step->first; ++*first)
		if (kvt_page_cache_has(cache, *first))
			kvt_page_cache_remove(cache, *first);
	kvt_page_cache_set_capacity(cache, MAX(step->capacity, cache->stats.resident));
}

uint64_t kvt_access_log_belady_misses(kvt_access_log *log)
{
	if (log->steps->len == 0)
		return 0;
	forget_index(log);
	uint32_t most = 0, first = 0;
	for (uint32_t step = 0; step < log->steps->len; step++)
		most = MAX(most, g_array_index(log->steps, logged_step, step).capacity);
	g_autoptr(kvt_page_cache) cache =
		kvt_page_cache_new(kvt_policy_find("belady", NULL), log->n_pages, most);
	uint64_t misses = 0;
	for (uint32_t step = 0; step < log->steps->len; step++) {
		const logged_step *logged = &g_array_index(log->steps, logged_step, step);
		uint32_t n, evicted;
		const uint32_t *pages = step_pages(log, step, &n);
		begin_step(cache, &first, logged);
		for (uint32_t i = 0; i < n; i++)
			if (kvt_page_cache_has(cache, pages[i]))
				kvt_page_cache_pin(cache, pages[i]);
		for (uint32_t i = 0; i < n; i++) {
			if (kvt_page_cache_has(cache, pages[i]))
				continue;
			bool entered = kvt_page_cache_enter(cache, pages[i], &evicted);
			g_assert(entered);
			kvt_page_cache_pin(cache, pages[i]);
			kvt_page_cache_next_use(cache, pages[i], step);
			misses += pages[i] != logged->born;
		}
		/* not before, so that victims are not looked for among far ones that are pinned */
		for (uint32_t i = 0; i < n; i++) {
			kvt_page_cache_unpin(cache, pages[i]);
			kvt_page_cache_next_use(
				cache, pages[i], kvt_access_log_next(log, pages[i], step));
		}
	}
	return misses;
}
