/* pass_loads.c: loads of a pass in order of layers, as far as buffers and depth allow. */
#include "sim/engine/lost_pages.h"
#include "sim/engine/pass_internal.h"
#include "sim/engine/pass_work.h"

/* Moves on to the next layer of a kind that has something left to load; false when there is none.
 */
static bool find_load(kvt_pass *p, bool global, uint64_t *first, uint64_t *left)
{
	kvt_load_cursor *next = &p->next[global];
	for (; next->layer < p->end_layer; next->layer++, next->offset = 0) {
		if (kvt_pass_is_global(p, next->layer) != global)
			continue;
		uint64_t range = kvt_pass_load_range(p->engine, &p->spec, next->layer, first);
		*left = range - MIN(range, next->offset);
		if (*left > 0)
			return true;
	}
	return false;
}

/* Layers are loaded in order; only those whose pages have yet to be chosen are passed over. */
static kvt_load_cursor *find_next(kvt_pass *p, uint64_t *first, uint64_t *left)
{
	uint64_t firsts[2], lefts[2];
	bool there[2];
	for (int global = 0; global < 2; global++)
		there[global] = find_load(p, global, &firsts[global], &lefts[global]);
	if (p->chooser && p->next[1].layer >= kvt_page_chooser_chosen(p->chooser))
		there[1] = false;
	if (!there[0] && !there[1])
		return NULL;
	int global = there[1] && (!there[0] || p->next[1].layer < p->next[0].layer);
	*first = firsts[global];
	*left = lefts[global];
	return &p->next[global];
}

static kvt_load_window *take_window(kvt_pass *p, unsigned layer)
{
	kvt_load_window *window = p->free_windows;
	if (window)
		p->free_windows = window->next;
	else
		window = g_new0(kvt_load_window, 1);
	*window = (kvt_load_window){ .owner = p,
		.layer = layer,
		.place = KVT_PLACE_HOME,
		.whole = true,
		.read = window->read };
	return window;
}

/* What a window reads: its tokens of its layer. */
static void set_read(kvt_pass *p, kvt_load_window *window)
{
	kvt_page_read *read = &window->read;
	read->engine = p->engine;
	read->choice = kvt_pass_is_global(p, window->layer) ? p->spec.choice : NULL;
	read->extent =
		kvt_kv_extent(&p->engine->layout, window->layer, window->first, window->tokens);
	/* nobody looks at what is attended to again */
	read->memory = read->choice || p->spec.again
			       ? NULL
			       : kvt_device_memory(p->engine->device, window->place, &read->extent);
	read->priority = p->spec.read_priority;
	read->arg = window;
	read->lost_pages = 0;
}

/* Whether tokens from `at` on, of what passes through HBM, need no load; at most *tokens of them,
 * for which the answer is the same. */
static bool is_here(const kvt_pass *p, unsigned layer, uint64_t at, uint64_t *tokens)
{
	uint64_t end;
	if (!p->spec.lost)
		return false;
	bool here = kvt_lost_pages_kept(p->spec.lost, layer, at, &end);
	*tokens = MIN(*tokens, end - at);
	return here;
}

kvt_load_window *kvt_pass_next_load(kvt_pass *p)
{
	const kvt_pass_spec *spec = &p->spec;
	uint64_t first, left;
	kvt_load_cursor *next = find_next(p, &first, &left);
	if (!next)
		return NULL;
	uint64_t at = first + next->offset, tokens = left;
	bool kept = !kvt_pass_is_global(p, next->layer) || at < spec->kept;
	bool here = !kept && is_here(p, next->layer, at, &tokens);
	if (kept) {
		if (p->kept_in_flight >= spec->depth)
			return NULL;
		if (kvt_pass_is_global(p, next->layer))
			tokens = MIN(left, spec->kept - at);
		p->kept_in_flight++;
	} else if (!here) {
		if (p->in_flight >= spec->in_flight || !p->free_buffers)
			return NULL;
		tokens = MIN(tokens, spec->window_tokens);
		p->in_flight++;
	}
	kvt_load_window *window = take_window(p, next->layer);
	window->kept = kept || here;
	window->arrived = here;
	if (!window->kept) {
		window->place = p->free_buffers->place;
		p->free_buffers = p->free_buffers->next;
	}
	window->first = at;
	window->tokens = tokens;
	set_read(p, window);
	next->offset += tokens;
	return window;
}

void kvt_pass_enqueue(kvt_pass *p, kvt_load_window *window)
{
	kvt_load_window **at = p->queue_end;
	if (p->queue && p->last_queued > window->layer)
		for (at = &p->queue; *at && (*at)->layer <= window->layer; at = &(*at)->next)
			;
	window->next = *at;
	*at = window;
	if (!window->next) {
		p->queue_end = &window->next;
		p->last_queued = window->layer;
	}
}
