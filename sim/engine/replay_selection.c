/* replay_selection.c: rows of attention, the prefetchers' plans, and the mass they keep. */
#include "sim/engine/replay_selection.h"

#include <math.h>

#include "sim/prefetch/top_pages.h"
#include "traces/attention_mass.h"

G_STATIC_ASSERT((int)KVT_REPLAY_KEPT_FIRST == (int)KVT_ATTENTION_BUDGET_FIRST);
G_STATIC_ASSERT((int)KVT_REPLAY_KEPT_LAST == (int)KVT_ATTENTION_BUDGET_LAST);

/* The row of one layer and head: as a list by rising page, and dense by page. */
typedef struct head_state {
	kvt_selection selection;
	uint32_t n; /* listed pages */
	uint32_t *pages;
	uint32_t *mass;  /* quantised, goes with pages */
	float *share;    /* the same as the source gave it */
	uint32_t *dense; /* [n_pages], 0 where a page is not listed */
	uint32_t end;    /* pages that were present at the last step */
} head_state;

struct kvt_selector {
	kvt_replay_source *source;
	kvt_selector_spec spec;
	kvt_feed *feed;
	kvt_time planning;
	head_state *heads; /* [layer x n_heads + head] */
	/* scratch, [n_pages] where nothing else is said */
	float *dense_share;
	uint64_t *listed, *selected, *ahead; /* bits, all zero between uses */
	uint32_t *plan;                      /* [n_pages + 1] */
	uint64_t *ranking;                   /* [2 x n_pages + 1] */
	uint32_t *attended;
	float *attended_share;
};

kvt_selector *kvt_selector_new(kvt_replay_source *source, const kvt_selector_spec *spec)
{
	kvt_selector *selector = g_new0(kvt_selector, 1);
	uint32_t n = source->n_pages, n_rows = source->n_layers * source->n_heads;
	selector->source = source;
	selector->spec = *spec;
	selector->feed = kvt_feed_new(source, spec->prefetcher, spec->query, spec->seed);
	selector->heads = g_new0(head_state, n_rows);
	for (uint32_t i = 0; i < n_rows; i++) {
		head_state *head = &selector->heads[i];
		head->pages = g_new(uint32_t, n);
		head->mass = g_new(uint32_t, n);
		head->share = g_new(float, n);
		head->dense = g_new0(uint32_t, n);
		head->selection.pages = g_new(uint32_t, n);
		head->selection.needed = g_new(uint32_t, n);
		head->selection.ahead = g_new(uint32_t, n);
	}
	selector->dense_share = g_new0(float, n);
	selector->listed = g_new0(uint64_t, (size_t)n / 64 + 1);
	selector->selected = g_new0(uint64_t, (size_t)n / 64 + 1);
	selector->ahead = g_new0(uint64_t, (size_t)n / 64 + 1);
	selector->plan = g_new(uint32_t, (size_t)n + 1);
	selector->ranking = g_new(uint64_t, 2 * (size_t)n + 1);
	selector->attended = g_new(uint32_t, n);
	selector->attended_share = g_new(float, n);
	return selector;
}

void kvt_selector_free(kvt_selector *selector)
{
	if (!selector)
		return;
	kvt_feed_free(selector->feed);
	for (uint32_t i = 0; i < selector->source->n_layers * selector->source->n_heads; i++) {
		head_state *head = &selector->heads[i];
		g_free(head->pages);
		g_free(head->mass);
		g_free(head->share);
		g_free(head->dense);
		g_free(head->selection.pages);
		g_free(head->selection.needed);
		g_free(head->selection.ahead);
	}
	g_free(selector->heads);
	g_free(selector->dense_share);
	g_free(selector->listed);
	g_free(selector->selected);
	g_free(selector->ahead);
	g_free(selector->plan);
	g_free(selector->ranking);
	g_free(selector->attended);
	g_free(selector->attended_share);
	g_free(selector);
}

uint32_t kvt_replay_budget_pages(double share, uint32_t present)
{
	return (uint32_t)kvt_attention_budget_pages(share, present);
}

uint32_t kvt_replay_move_pages(double share, uint32_t present)
{
	return MAX((uint32_t)floor(share * present), 1);
}

static bool has_bit(const uint64_t *bits, uint32_t page)
{
	return bits[page / 64] >> page % 64 & 1;
}

static void set_bit(uint64_t *bits, uint32_t page)
{
	bits[page / 64] |= UINT64_C(1) << page % 64;
}

/* Lists the pages whose bits are set, rising, and clears them; returns how many. */
static uint32_t take_bits(uint64_t *bits, const kvt_replay_present *present, uint32_t *pages)
{
	uint32_t n = 0;
	for (uint32_t word = present->first / 64; word <= (present->end - 1) / 64; word++) {
		for (uint64_t left = bits[word]; left; left &= left - 1)
			pages[n++] = word * 64 + (uint32_t)__builtin_ctzll(left);
		bits[word] = 0;
	}
	return n;
}

/* Copies the source's row, as a list by rising page and by page. */
static bool load_row(kvt_selector *selector, uint32_t step, uint32_t layer, uint32_t head_index,
	head_state *head, GError **error)
{
	kvt_replay_row row;
	if (!selector->source->row(
		    selector->source, step, layer, head_index, head->selection.budget, &row, error))
		return false;
	for (uint32_t i = 0; i < head->n; i++)
		head->dense[head->pages[i]] = 0;
	const kvt_replay_present *present = &head->selection.present;
	uint64_t listed = 0;
	for (uint32_t i = 0; i < row.n; i++) {
		uint32_t page = row.pages[i], mass = kvt_mass_quantise(row.mass[i]);
		g_assert(page >= present->first && page < present->end);
		set_bit(selector->listed, page);
		selector->dense_share[page] = row.mass[i];
		head->dense[page] = mass;
		listed += mass;
	}
	uint32_t n = take_bits(selector->listed, present, head->pages);
	for (uint32_t i = 0; i < n; i++) {
		head->mass[i] = head->dense[head->pages[i]];
		head->share[i] = selector->dense_share[head->pages[i]];
	}
	g_assert(n == row.n);
	head->n = n;
	head->selection.listed_mass = listed;
	return true;
}

/* Marks a page as selected while the budget lasts. */
static void add_page(kvt_selector *selector, kvt_selection *selection, uint32_t page)
{
	if (selection->n < selection->budget && !has_bit(selector->selected, page)) {
		set_bit(selector->selected, page);
		selection->n++;
	}
}

static void add_kept(kvt_selector *selector, kvt_selection *selection)
{
	const kvt_replay_present *present = &selection->present;
	uint32_t last = MIN((uint32_t)KVT_REPLAY_KEPT_LAST, present->end - present->first);
	add_page(selector, selection, present->first);
	for (uint32_t page = present->end - last; page < present->end; page++)
		add_page(selector, selection, page);
}

/* What the best choice keeps: the pages always kept, then the largest of the others. */
static void find_needed(kvt_selector *selector, head_state *head)
{
	kvt_selection *selection = &head->selection;
	const kvt_replay_present *present = &selection->present;
	uint32_t *needed = selection->needed, n_needed = 0;
	uint32_t last = MIN((uint32_t)KVT_REPLAY_KEPT_LAST, present->end - present->first - 1);
	needed[n_needed++] = present->first;
	for (uint32_t page = present->end - last; page < present->end; page++)
		needed[n_needed++] = page;
	uint32_t *others = selector->attended, *mass = selector->plan, n = 0;
	for (uint32_t i = 0; i < head->n; i++) {
		others[n] = head->pages[i];
		mass[n] = head->mass[i];
		n += !kvt_replay_is_kept(present, head->pages[i]);
	}
	n_needed += kvt_top_pages(others, mass, n, selection->budget - n_needed, needed + n_needed,
		selector->ranking);
	selection->n_needed = n_needed;
	selection->oracle_mass = 0;
	for (uint32_t i = 0; i < n_needed; i++)
		selection->oracle_mass += head->dense[needed[i]];
}

/* Pages that may yet be moved for a step, beside those always kept. */
static uint32_t moves_left(
	const kvt_selector *selector, const head_state *head, const uint8_t *resident)
{
	const kvt_replay_present *present = &head->selection.present;
	uint32_t n = present->end - present->first;
	if (!resident || !(selector->spec.moves > 0))
		return UINT32_MAX;
	uint32_t moves = kvt_replay_move_pages(selector->spec.moves, n);
	uint32_t missing = !resident[present->first];
	for (uint32_t i = 1; i <= MIN((uint32_t)KVT_REPLAY_KEPT_LAST, n - 1); i++) {
		/* the page that the step's token begins is made in HBM */
		bool born = i == 1 && present->end > head->end;
		missing += !resident[present->end - i] && !born;
	}
	return moves - MIN(moves, missing);
}

/* Takes the plan's pages while there is room for them and, where they are not in HBM, while pages
 * may be moved. */
static void add_plan(kvt_selector *selector, head_state *head, const kvt_plan *plan, uint32_t room,
	const uint8_t *resident)
{
	kvt_selection *selection = &head->selection;
	const kvt_replay_present *present = &selection->present;
	uint32_t moves = moves_left(selector, head, resident);
	selection->n_ahead = 0;
	for (uint32_t i = 0; i < plan->n; i++) {
		uint32_t page = plan->pages[i];
		/* what does not exist cannot be fetched, whoever asks for it */
		g_assert(page < present->end);
		if (page < present->first || has_bit(selector->selected, page) ||
			has_bit(selector->ahead, page))
			continue;
		bool select = i < plan->select && selection->n < selection->budget;
		if (!select && (plan->select == UINT32_MAX ||
				       selection->budget + selection->n_ahead >= room))
			continue;
		if (!(resident && resident[page])) {
			if (moves == 0)
				continue;
			moves--;
		}
		if (select) {
			add_page(selector, selection, page);
		} else {
			set_bit(selector->ahead, page);
			selection->n_ahead++;
		}
	}
	selection->filled = plan->n == 0;
	if (selection->filled && resident)
		for (uint32_t page = present->end; page-- > present->first;)
			if (resident[page])
				add_page(selector, selection, page);
}

static void make_plan(kvt_selector *selector, uint32_t step, uint32_t layer, uint32_t head_index,
	const uint8_t *resident)
{
	head_state *head = &selector->heads[layer * selector->source->n_heads + head_index];
	kvt_selection *selection = &head->selection;
	const kvt_replay_present *present = &selection->present;
	kvt_prefetcher *prefetcher = kvt_feed_prefetcher(selector->feed, layer);
	kvt_page_masses future = { .n = head->n, .pages = head->pages, .mass = head->share };
	uint32_t room = kvt_replay_budget_pages(
		MAX(selector->spec.room, selector->spec.budget), present->end - present->first);
	kvt_plan_request request = { .step = step,
		.head = head_index,
		.first_present = present->first,
		.n_present = present->end,
		.budget = selection->budget,
		.room = room,
		.target = (float)selector->spec.target,
		.future = prefetcher->ops->sees_future ? &future : NULL };
	kvt_plan plan = { .pages = selector->plan, .select = UINT32_MAX, .mass = NAN };
	prefetcher->ops->plan(prefetcher, &request, &plan);
	g_assert(plan.n <= room);
	selection->estimate = plan.mass;
	selection->dense = selector->spec.target > 0 && !(plan.mass >= selector->spec.target);
	add_kept(selector, selection);
	add_plan(selector, head, &plan, room, resident);
}

const kvt_selection *kvt_selector_select(kvt_selector *selector, uint32_t step, uint32_t layer,
	uint32_t head_index, const uint8_t *resident, GError **error)
{
	kvt_replay_source *source = selector->source;
	head_state *head = &selector->heads[layer * source->n_heads + head_index];
	kvt_selection *selection = &head->selection;
	kvt_replay_present present = source->present(source, step, layer);
	g_assert(present.first < present.end && present.end <= source->n_pages);
	selection->present = present;
	selection->budget =
		kvt_replay_budget_pages(selector->spec.budget, present.end - present.first);
	selection->n = 0;
	if (!load_row(selector, step, layer, head_index, head, error))
		return NULL;
	find_needed(selector, head);
	kvt_loop *clock = selector->spec.clock;
	kvt_time began = clock ? kvt_loop_now(clock) : 0;
	if (!kvt_feed_step(selector->feed, step, layer, head_index, error))
		return NULL;
	make_plan(selector, step, layer, head_index, resident);
	selector->planning += clock ? kvt_loop_now(clock) - began : 0;
	head->end = present.end;
	uint32_t n = take_bits(selector->selected, &present, selection->pages);
	g_assert(n == selection->n);
	take_bits(selector->ahead, &present, selection->ahead);
	selection->kept_mass = 0;
	for (uint32_t i = 0; i < n; i++)
		selection->kept_mass += head->dense[selection->pages[i]];
	return selection;
}

kvt_page_masses kvt_selector_observe(
	kvt_selector *selector, uint32_t step, uint32_t layer, uint32_t head_index, bool all)
{
	const head_state *head = &selector->heads[layer * selector->source->n_heads + head_index];
	const kvt_selection *selection = &head->selection;
	kvt_page_masses row = { .n = head->n, .pages = head->pages, .mass = head->share };
	if (!all) {
		/* softmax over what was attended: the same ratios, and a sum of 1 */
		double scale = selection->kept_mass > 0 ? 1.0 / (double)selection->kept_mass : 0;
		for (uint32_t i = 0; i < selection->n; i++) {
			uint32_t page = selection->pages[i];
			selector->attended[i] = page;
			selector->attended_share[i] = (float)(head->dense[page] * scale);
		}
		row = (kvt_page_masses){ .n = selection->n,
			.pages = selector->attended,
			.mass = selector->attended_share };
	}
	kvt_prefetcher *prefetcher = kvt_feed_prefetcher(selector->feed, layer);
	prefetcher->ops->observe(prefetcher, step, head_index, &row);
	return row;
}

kvt_time kvt_selector_planning(const kvt_selector *selector)
{
	return selector->planning;
}

kvt_prefetcher_stats kvt_selector_stats(const kvt_selector *selector)
{
	return kvt_feed_stats(selector->feed);
}

uint64_t kvt_selector_mass_on(
	const kvt_selector *selector, uint32_t layer, uint32_t head_index, const uint8_t *resident)
{
	const head_state *head = &selector->heads[layer * selector->source->n_heads + head_index];
	uint64_t mass = 0;
	for (uint32_t i = 0; i < head->n; i++)
		mass += resident[head->pages[i]] ? head->mass[i] : 0;
	return mass;
}
