/* page_choice.c: runs of chosen pages, evenly spread, and where parts and sketches are stored. */
#include "sim/engine/page_choice.h"

#include <math.h>

void kvt_page_choice_init(
	kvt_page_choice *choice, uint64_t stored_pages, double share, double run_pages)
{
	g_assert(stored_pages > 0 && share > 0 && share <= 1 && run_pages >= 1);
	*choice = (kvt_page_choice){ .stored_pages = stored_pages, .parts = 1 };
	choice->chosen_pages = MAX((uint64_t)(share * (double)stored_pages), 1);
	choice->run_pages = MIN(run_pages, (double)choice->chosen_pages);
}

/* The run that a chosen page is in, and the first one of a run. */
static uint64_t run_of(const kvt_page_choice *choice, uint64_t held_page)
{
	uint64_t run = (uint64_t)((double)held_page / choice->run_pages);
	/* what division rounds */
	while ((uint64_t)floor((double)(run + 1) * choice->run_pages) <= held_page)
		run++;
	while (run > 0 && (uint64_t)floor((double)run * choice->run_pages) > held_page)
		run--;
	return run;
}

/* Pages that are left out before a run: as many before each as after all, evenly. */
static uint64_t left_out_before(const kvt_page_choice *choice, uint64_t run)
{
	double runs = ceil((double)choice->chosen_pages / choice->run_pages);
	uint64_t left_out = choice->stored_pages - choice->chosen_pages;
	return MIN((uint64_t)((double)left_out / runs * (double)(run + 1)), left_out);
}

uint64_t kvt_page_choice_stored_page(const kvt_page_choice *choice, uint64_t held_page)
{
	if (held_page >= choice->chosen_pages)
		return held_page + choice->stored_pages - choice->chosen_pages;
	return held_page + left_out_before(choice, run_of(choice, held_page));
}

static kvt_extent part_extent(const kvt_page_choice *choice, const kvt_kv_layout *layout,
	unsigned layer, unsigned part, uint64_t first, uint64_t n)
{
	return (kvt_extent){ .context = layout->context + 1 + part,
		.layer = layer,
		.first_page = first,
		.n_pages = n,
		.page_bytes = layout->token_bytes * layout->page_tokens / choice->parts };
}

/* The end of the run of held pages that `held` is in, at most `end`. */
static uint64_t run_end(const kvt_page_choice *choice, uint64_t held, uint64_t end)
{
	if (held >= choice->chosen_pages)
		return end;
	double next = floor((double)(run_of(choice, held) + 1) * choice->run_pages);
	return MIN(MIN((uint64_t)next, choice->chosen_pages), end);
}

void kvt_page_choice_extents(const kvt_page_choice *choice, const kvt_kv_layout *layout,
	unsigned layer, uint64_t first, uint64_t n, kvt_extent_list *list)
{
	for (unsigned part = 0; part < choice->parts; part++)
		for (uint64_t at = first, end; at < first + n; at = end) {
			end = run_end(choice, at, first + n);
			kvt_extent extent = part_extent(choice, layout, layer, part,
				kvt_page_choice_stored_page(choice, at), end - at);
			kvt_extent_list_add(list, &extent);
		}
}

void kvt_page_choice_stored(const kvt_page_choice *choice, const kvt_kv_layout *layout,
	unsigned layer, uint64_t pages, kvt_extent_list *list)
{
	for (unsigned part = 0; part < choice->parts; part++) {
		kvt_extent extent = part_extent(choice, layout, layer, part, 0, pages);
		kvt_extent_list_add(list, &extent);
	}
	kvt_extent sketches = kvt_page_choice_sketches(choice, layout, layer);
	if (sketches.n_pages > 0)
		kvt_extent_list_add(list, &sketches);
}

kvt_extent kvt_page_choice_sketches(
	const kvt_page_choice *choice, const kvt_kv_layout *layout, unsigned layer)
{
	return (kvt_extent){ .context = layout->context + 1 + choice->parts,
		.layer = layer,
		.n_pages = choice->sketch_bytes > 0 ? choice->stored_pages : 0,
		.page_bytes = choice->sketch_bytes };
}
