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
		n->links[n->component_links[i]].level = 0;
	for (uint32_t i = 0; i < n->n_component_flows; i++) {
		kvt_flow_state *f = &n->flows[n->component_flows[i]];
		f->floor = f->reserved_rate > 0
				   ? MIN(f->reserved_rate, kvt_network_rate_alone(n, f))
				   : 0;
		for (unsigned hop = 0; hop < f->path_length; hop++)
			n->links[f->path[hop].link].level += f->floor * f->path[hop].cost;
	}
	for (uint32_t i = 0; i < n->n_component_flows; i++) {
		kvt_flow_state *f = &n->flows[n->component_flows[i]];
		double share = 1;
		for (unsigned hop = 0; hop < f->path_length; hop++) {
			const kvt_link_state *l = &n->links[f->path[hop].link];
			if (l->level > l->capacity)
				share = MIN(share, l->capacity / l->level);
		}
		f->floor *= share;
		f->new_rate = f->floor;
		for (unsigned hop = 0; hop < f->path_length; hop++)
			n->links[f->path[hop].link].left -= f->floor * f->path[hop].cost;
	}
}

/* Makes the flows of a class active and weighs their links; returns how many flows. */
static uint32_t begin_class(kvt_network *n, unsigned priority, bool *capped)
{
	uint32_t rising = 0;
	*capped = false;
	for (uint32_t i = 0; i < n->n_component_links; i++) {
		kvt_link_state *l = &n->links[n->component_links[i]];
		l->weight = 0;
		l->active = 0;
		if (l->left <= l->capacity * NOTHING_LEFT)
			l->left = 0;
	}
	for (uint32_t i = 0; i < n->n_component_flows; i++) {
		kvt_flow_state *f = &n->flows[n->component_flows[i]];
		if (f->priority != priority || f->floor >= f->max_rate)
			continue;
		f->active = true;
		*capped |= f->max_rate < INFINITY;
		n->rising_flows[rising++] = n->component_flows[i];
		for (unsigned hop = 0; hop < f->path_length; hop++) {
			kvt_link_state *l = &n->links[f->path[hop].link];
			l->weight += f->weight * f->path[hop].cost;
			l->active++;
		}
	}
	return rising;
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

/* The flow rises no more: its links lose its weight, and what it got above its reservation. */
static void stop_flow(kvt_network *n, kvt_flow_state *f, double rate, double extra)
{
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

/* Stops the flows that reach their cap no later than at `level`; returns how many still rise. */
static uint32_t stop_at_caps(kvt_network *n, uint32_t rising, double level)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < rising; i++) {
		kvt_flow_state *f = &n->flows[n->rising_flows[i]];
		if (!f->active)
			continue;
		if (f->max_rate - f->floor <= level * f->weight)
			stop_flow(n, f, f->max_rate, f->max_rate - f->floor);
		else
			n->rising_flows[kept++] = n->rising_flows[i];
	}
	return kept;
}

/* Stops every active flow of a link that is full at `level`; returns how many. */
static uint32_t stop_at_link(kvt_network *n, kvt_link_state *l, double level)
{
	uint32_t stopped = 0;
	uint32_t x = l->head;
	while (x != KVT_NONE) {
		kvt_flow_state *f = &n->flows[x / KVT_PATH_MAX];
		x = f->path[x % KVT_PATH_MAX].next;
		if (!f->active)
			continue;
		double extra = level * f->weight;
		stop_flow(n, f, f->floor + extra, extra);
		stopped++;
	}
	l->left = 0;
	return stopped;
}

/* The lowest level at which a link with active flows is full; drops the other links. */
static double lowest_level(kvt_network *n, uint32_t *n_links)
{
	double lowest = INFINITY;
	uint32_t kept = 0;
	for (uint32_t i = 0; i < *n_links; i++) {
		kvt_link_state *l = &n->links[n->rising_links[i]];
		if (l->active == 0)
			continue;
		l->level = l->left / l->weight;
		lowest = MIN(lowest, l->level);
		n->rising_links[kept++] = n->rising_links[i];
	}
	*n_links = kept;
	return lowest;
}

static void fill_class(kvt_network *n, unsigned priority)
{
	bool capped;
	uint32_t rising = begin_class(n, priority, &capped);
	uint32_t left = rising, n_links = 0;
	for (uint32_t i = 0; i < n->n_component_links; i++) {
		kvt_link_state *l = &n->links[n->component_links[i]];
		l->weight_at_first = l->weight;
		if (l->active > 0)
			n->rising_links[n_links++] = n->component_links[i];
	}
	while (left > 0) {
		double level = lowest_level(n, &n_links);
		if (capped) {
			/* Stopping at caps only lifts the levels of links, so all caps below this
			 * one may go at once; then the links must be looked at again. */
			rising = stop_at_caps(n, rising, level);
			if (rising < left) {
				left = rising;
				continue;
			}
		}
		for (uint32_t i = 0; i < n_links; i++) {
			kvt_link_state *l = &n->links[n->rising_links[i]];
			if (l->level <= level)
				left -= stop_at_link(n, l, level);
		}
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
