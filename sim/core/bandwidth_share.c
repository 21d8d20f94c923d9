/*
 * bandwidth_share.c: the rates of one component of flows and links at an instant, by filling: all
 * flows of a class rise together, by weight, and stop where a link or their cap stops them. It
 * knows nothing of time and bytes.
 */
#include <glib.h>
#include <math.h>

#include "sim/core/bandwidth_internal.h"

/* Below this share of a link's capacity what is left is taken for rounding. */
static const double NOTHING_LEFT = 1e-12;

/* Levels closer than this are one that rounding has split. */
static const double SAME_LEVEL = 1e-12;

/* When this share of a link's weight is left, the rest is summed anew, not found by subtraction. */
static const double WEIGHT_CANCELLED = 1e-4;

double kvt_network_rate_alone(const kvt_network *n, const kvt_flow_state *f)
{
	double rate = f->max_rate;
	for (unsigned i = 0; i < f->path_length; i++) {
		double most = n->links[f->path[i].link].capacity / f->path[i].cost;
		rate = MIN(rate, most);
	}
	return rate;
}

static void gather_link(kvt_network *n, kvt_link link)
{
	kvt_link_state *l = &n->links[link];
	if (l->epoch == n->epoch)
		return;
	l->epoch = n->epoch;
	l->left = l->capacity;
	n->component_links[n->n_component_links++] = link;
}

/* Fills component_links and component_flows; returns the set of classes in it. */
static unsigned gather(kvt_network *n, kvt_link seed, bool *reserved)
{
	unsigned classes = 0;
	*reserved = false;
	n->epoch++;
	n->n_component_links = n->n_component_flows = 0;
	gather_link(n, seed);
	for (uint32_t i = 0; i < n->n_component_links; i++) {
		uint32_t x = n->links[n->component_links[i]].head;
		while (x != KVT_NONE) {
			kvt_flow_state *f = &n->flows[x / KVT_PATH_MAX];
			x = f->path[x % KVT_PATH_MAX].next;
			if (f->epoch == n->epoch)
				continue;
			f->epoch = n->epoch;
			f->floor = f->new_rate = 0;
			f->active = false;
			classes |= 1u << f->priority;
			*reserved |= f->reserved_rate > 0;
			n->component_flows[n->n_component_flows++] = (uint32_t)(f - n->flows);
			for (unsigned hop = 0; hop < f->path_length; hop++)
				gather_link(n, f->path[hop].link);
		}
	}
	return classes;
}

/* Gives reservations; where a link cannot carry them, its flows get the same share of theirs. */
static void give_reservations(kvt_network *n)
{
	for (uint32_t i = 0; i < n->n_component_links; i++)
		n->links[n->component_links[i]].reserved = 0;
	for (uint32_t i = 0; i < n->n_component_flows; i++) {
		kvt_flow_state *f = &n->flows[n->component_flows[i]];
		f->floor = f->reserved_rate > 0
				   ? MIN(f->reserved_rate, kvt_network_rate_alone(n, f))
				   : 0;
		for (unsigned hop = 0; hop < f->path_length; hop++)
			n->links[f->path[hop].link].reserved += f->floor * f->path[hop].cost;
	}
	for (uint32_t i = 0; i < n->n_component_flows; i++) {
		kvt_flow_state *f = &n->flows[n->component_flows[i]];
		double share = 1;
		for (unsigned hop = 0; hop < f->path_length; hop++) {
			const kvt_link_state *l = &n->links[f->path[hop].link];
			if (l->reserved > l->capacity)
				share = MIN(share, l->capacity / l->reserved);
		}
		f->floor *= share;
		f->new_rate = f->floor;
		for (unsigned hop = 0; hop < f->path_length; hop++)
			n->links[f->path[hop].link].left -= f->floor * f->path[hop].cost;
	}
}

/* Puts a stop where it belongs among the others. */
static void add_stop(kvt_network *n, kvt_stop stop)
{
	uint32_t at = n->n_stops++;
	for (; at > 0 && n->stops[(at - 1) / 2].level > stop.level; at = (at - 1) / 2)
		n->stops[at] = n->stops[(at - 1) / 2];
	n->stops[at] = stop;
}

/* The flow rises from `level` on: to its links as if it had risen from 0, and had brought with it
 * what it would have used by now. */
static void join(kvt_network *n, kvt_flow_state *f, double level)
{
	f->active = true;
	f->joined = level;
	if (f->max_rate < INFINITY)
		add_stop(n, (kvt_stop){ level + (f->max_rate - f->floor) / f->weight,
				    (uint32_t)(f - n->flows), true });
	for (unsigned hop = 0; hop < f->path_length; hop++) {
		kvt_link_state *l = &n->links[f->path[hop].link];
		double weight = f->weight * f->path[hop].cost;
		l->left += level * weight;
		l->weight += weight;
		l->weight_at_first = MAX(l->weight_at_first, l->weight);
		l->active++;
	}
}

/* What a link has for others while its own flows are at `level`. */
static bool has_room(const kvt_link_state *l, double level)
{
	double left = l->active > 0 ? l->left - level * l->weight : l->left;
	return left > l->capacity * NOTHING_LEFT;
}

/* The next flow of a class in a line at a link, if any, that could rise; NULL: none. */
static kvt_flow_state *next_in_line(
	kvt_network *n, kvt_link_state *l, unsigned line, unsigned priority, double level)
{
	uint32_t *at = &l->lines[line];
	while (*at != KVT_NONE && has_room(l, level)) {
		uint32_t x = *at;
		kvt_flow_state *f = &n->flows[x / KVT_PATH_MAX];
		*at = f->path[x % KVT_PATH_MAX].next;
		bool could = x % KVT_PATH_MAX == 0 && f->turn > 0 && f->line == line &&
			     f->priority == priority && f->floor < f->max_rate;
		for (unsigned hop = 0; could && hop < f->path_length; hop++)
			could = has_room(&n->links[f->path[hop].link], level);
		if (could)
			return f;
	}
	return NULL;
}

/* The first ones of every line; returns how many. */
static uint32_t begin_lines(kvt_network *n, kvt_link_state *l, unsigned priority)
{
	uint32_t rising = 0;
	for (unsigned line = 0; l->in_line > 0 && line < KVT_LINES; line++) {
		uint64_t taken = 0;
		l->lines[line] = l->head;
		while (taken < l->places) {
			kvt_flow_state *first = next_in_line(n, l, line, priority, 0);
			if (!first)
				break;
			join(n, first, 0);
			taken += first->places;
			rising++;
		}
	}
	return rising;
}

/* Makes the flows of a class active, of a line the first one, and weighs their links; returns how
 * many flows. */
static uint32_t begin_class(kvt_network *n, unsigned priority)
{
	uint32_t rising = 0;
	n->n_stops = 0;
	for (uint32_t i = 0; i < n->n_component_links; i++) {
		kvt_link_state *l = &n->links[n->component_links[i]];
		l->weight = l->weight_at_first = 0;
		l->active = 0;
		if (l->left <= l->capacity * NOTHING_LEFT)
			l->left = 0;
	}
	for (uint32_t i = 0; i < n->n_component_flows; i++) {
		kvt_flow_state *f = &n->flows[n->component_flows[i]];
		if (f->priority != priority || f->floor >= f->max_rate || f->turn > 0)
			continue;
		join(n, f, 0);
		rising++;
	}
	for (uint32_t i = 0; i < n->n_component_links; i++)
		rising += begin_lines(n, &n->links[n->component_links[i]], priority);
	for (uint32_t i = 0; i < n->n_component_links; i++) {
		kvt_link_state *l = &n->links[n->component_links[i]];
		if (l->active > 0)
			add_stop(
				n, (kvt_stop){ l->left / l->weight, n->component_links[i], false });
	}
	return rising;
}

/* Puts a stop where it belongs among the stops at and below `at`, which hold none. */
static void sink_stop(kvt_network *n, uint32_t at, kvt_stop stop)
{
	for (;;) {
		uint32_t child = 2 * at + 1;
		if (child >= n->n_stops)
			break;
		if (child + 1 < n->n_stops && n->stops[child + 1].level < n->stops[child].level)
			child++;
		if (n->stops[child].level >= stop.level)
			break;
		n->stops[at] = n->stops[child];
		at = child;
	}
	n->stops[at] = stop;
}

static void drop_lowest_stop(kvt_network *n)
{
	if (--n->n_stops > 0)
		sink_stop(n, 0, n->stops[n->n_stops]);
}

/* Whom the flow stood before in line may rise now; returns how many do. */
static uint32_t call_next(kvt_network *n, const kvt_flow_state *f, double level)
{
	if (f->turn == 0)
		return 0;
	kvt_link_state *l = &n->links[f->path[0].link];
	kvt_flow_state *next = next_in_line(n, l, f->line, f->priority, level);
	if (!next)
		return 0;
	join(n, next, level);
	for (unsigned hop = 0; hop < next->path_length; hop++) {
		l = &n->links[next->path[hop].link];
		add_stop(n, (kvt_stop){ l->left / l->weight, next->path[hop].link, false });
	}
	return 1;
}

static double sum_weight(const kvt_network *n, const kvt_link_state *l)
{
	double weight = 0;
	uint32_t x = l->head;
	while (x != KVT_NONE) {
		const kvt_flow_state *f = &n->flows[x / KVT_PATH_MAX];
		const kvt_crossing *crossing = &f->path[x % KVT_PATH_MAX];
		if (f->active)
			weight += f->weight * crossing->cost;
		x = crossing->next;
	}
	return weight;
}

/* The flow rises no more: its links lose its weight, and what it got above its reservation and
 * brought when it joined. */
static void stop_flow(kvt_network *n, kvt_flow_state *f, double rate)
{
	double extra = rate - f->floor + f->joined * f->weight;
	f->active = false;
	f->new_rate = rate;
	for (unsigned hop = 0; hop < f->path_length; hop++) {
		const kvt_crossing *x = &f->path[hop];
		kvt_link_state *l = &n->links[x->link];
		l->left = MAX(l->left - extra * x->cost, 0);
		l->weight -= f->weight * x->cost;
		l->active--;
		/* Subtraction has eaten the digits when a far heavier flow has just gone. */
		if (l->weight < l->weight_at_first * WEIGHT_CANCELLED && l->active > 0) {
			l->weight = sum_weight(n, l);
			l->weight_at_first = l->weight;
		}
	}
}

/* Stops every active flow of a link that is full at `level`; returns how many more than begin to
 * rise for it. */
static uint32_t stop_at_link(kvt_network *n, kvt_link_state *l, double level)
{
	uint32_t stopped = 0;
	uint32_t x = l->head;
	/* nobody joins it any more */
	l->left = 0;
	while (x != KVT_NONE) {
		kvt_flow_state *f = &n->flows[x / KVT_PATH_MAX];
		x = f->path[x % KVT_PATH_MAX].next;
		if (!f->active)
			continue;
		stop_flow(n, f, f->floor + MAX(level - f->joined, 0) * f->weight);
		stopped++;
		stopped -= call_next(n, f, level);
	}
	return stopped;
}

/*
 * Raises the flows of a class from stop to stop, the lowest first. As flows stop, the level at
 * which a link is full only rises, so a link is looked at again when its turn comes, not before.
 */
static void fill_class(kvt_network *n, unsigned priority)
{
	uint32_t rising = begin_class(n, priority);
	double level = 0;
	while (rising > 0) {
		g_assert(n->n_stops > 0);
		kvt_stop stop = n->stops[0];
		if (stop.is_cap) {
			kvt_flow_state *f = &n->flows[stop.of];
			if (f->active) {
				stop_flow(n, f, f->max_rate);
				drop_lowest_stop(n);
				level = MAX(level, stop.level);
				rising = rising - 1 + call_next(n, f, level);
			} else {
				drop_lowest_stop(n);
			}
			continue;
		}
		kvt_link_state *l = &n->links[stop.of];
		if (l->active == 0) {
			drop_lowest_stop(n);
			continue;
		}
		double full_at = l->left / l->weight;
		if (full_at > stop.level * (1 + SAME_LEVEL)) {
			stop.level = full_at;
			sink_stop(n, 0, stop);
			continue;
		}
		/* A lower level now than before is rounding: what heavy flows left is all noise.
		 * And links that fill together must give the same rate, to the last bit. */
		if (stop.level - level > level * SAME_LEVEL)
			level = stop.level;
		drop_lowest_stop(n);
		rising -= stop_at_link(n, l, level);
	}
}

void kvt_network_share_component(kvt_network *n, kvt_link link)
{
	bool reserved;
	unsigned classes = gather(n, link, &reserved);
	if (reserved)
		give_reservations(n);
	for (unsigned priority = 0; priority < KVT_PRIORITY_CLASSES; priority++)
		if (classes & (1u << priority))
			fill_class(n, priority);
	n->stats.shares++;
	n->stats.shared_flows += n->n_component_flows;
}
