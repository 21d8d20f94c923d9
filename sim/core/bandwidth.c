/*
 * bandwidth.c: flows in time: starting, stopping, when each ends, what has moved. The rates at an
 * instant come from bandwidth_share.c.
 *
 * A flow moves at a constant rate between changes, so its state is what remained at its last change
 * of rate; a flow whose rate comes out the same is not touched, and does not drift. What a link has
 * moved is counted in whole bytes when flows leave it, so nothing is lost to rounding.
 */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "sim/core/bandwidth_internal.h"

enum { HEAP_WAYS = 4 };

static bool ends_before(const kvt_heap_entry *a, const kvt_heap_entry *b)
{
	return a->finish != b->finish ? a->finish < b->finish : a->sequence < b->sequence;
}

static void heap_put(kvt_network *n, uint32_t at, kvt_heap_entry entry)
{
	n->heap[at] = entry;
	n->flows[entry.flow].heap_index = at;
}

static void heap_up(kvt_network *n, uint32_t at, kvt_heap_entry entry)
{
	while (at > 0) {
		uint32_t parent = (at - 1) / HEAP_WAYS;
		if (!ends_before(&entry, &n->heap[parent]))
			break;
		heap_put(n, at, n->heap[parent]);
		at = parent;
	}
	heap_put(n, at, entry);
}

static void heap_down(kvt_network *n, uint32_t at, kvt_heap_entry entry)
{
	for (;;) {
		uint32_t child = at * HEAP_WAYS + 1;
		uint32_t end = MIN(child + HEAP_WAYS, n->heap_size), best = child;
		if (child >= n->heap_size)
			break;
		while (++child < end)
			if (ends_before(&n->heap[child], &n->heap[best]))
				best = child;
		if (!ends_before(&n->heap[best], &entry))
			break;
		heap_put(n, at, n->heap[best]);
		at = best;
	}
	heap_put(n, at, entry);
}

static void heap_place(kvt_network *n, uint32_t at, kvt_heap_entry entry)
{
	if (at > 0 && ends_before(&entry, &n->heap[(at - 1) / HEAP_WAYS]))
		heap_up(n, at, entry);
	else
		heap_down(n, at, entry);
}

static void heap_remove(kvt_network *n, kvt_flow_state *f)
{
	uint32_t at = f->heap_index;
	f->heap_index = KVT_NONE;
	f->finish = KVT_TIME_NEVER;
	n->heap_size--;
	if (at < n->heap_size)
		heap_place(n, at, n->heap[n->heap_size]);
}

static void set_finish(kvt_network *n, kvt_flow_state *f, kvt_time finish)
{
	if (finish == KVT_TIME_NEVER) {
		if (f->heap_index != KVT_NONE)
			heap_remove(n, f);
		return;
	}
	kvt_heap_entry entry = { finish, f->sequence, (uint32_t)(f - n->flows) };
	f->finish = finish;
	if (f->heap_index == KVT_NONE)
		heap_up(n, n->heap_size++, entry);
	else
		heap_place(n, f->heap_index, entry);
}

static double remaining_at(const kvt_flow_state *f, kvt_time now)
{
	if (f->finish <= now)
		return 0;
	double moved = f->rate * ((double)(now - f->updated) * 1e-12);
	return moved < f->remaining ? f->remaining - moved : 0;
}

/* Whole bytes that have not moved, rounded up. */
static uint64_t bytes_left(const kvt_flow_state *f, kvt_time now)
{
	double left = ceil(remaining_at(f, now));
	return left >= (double)f->bytes ? f->bytes : (uint64_t)left;
}

/* Moves the flow at `rate` from now on. */
static void set_rate(kvt_network *n, kvt_flow_state *f, double rate, kvt_time now)
{
	/* One that is due has moved all its bytes, and only waits for its turn. */
	if (rate == f->rate || f->finish <= now)
		return;
	f->remaining = remaining_at(f, now);
	f->updated = now;
	f->rate = rate;
	kvt_time finish = KVT_TIME_NEVER;
	if (rate > 0) {
		double ps = ceil(f->remaining / rate * 1e12);
		if (ps < (double)(KVT_TIME_NEVER - now))
			finish = now + (kvt_time)ps;
	}
	set_finish(n, f, finish);
}

static void on_timer(void *arg);

static void set_timer(kvt_network *n)
{
	kvt_time when = n->heap_size > 0 ? n->heap[0].finish : KVT_TIME_NEVER;
	if (n->in_timer || (n->timer != 0 && n->timer_at == when))
		return;
	if (n->timer != 0)
		kvt_loop_cancel(n->loop, n->timer);
	n->timer = 0;
	if (when == KVT_TIME_NEVER)
		return;
	n->timer = kvt_loop_at(n->loop, when, on_timer, n);
	n->timer_at = when;
}

/* Sets the rates of all that is connected to a link that has changed. */
static void share_dirty(kvt_network *n)
{
	kvt_time now = kvt_loop_now(n->loop);
	uint64_t before = n->epoch;
	for (uint32_t i = 0; i < n->n_dirty; i++) {
		kvt_link link = n->dirty[i];
		kvt_link_state *l = &n->links[link];
		l->dirty = false;
		/* A link that an earlier one of this batch led to has been seen to. */
		if (l->n_flows == 0 || l->epoch > before)
			continue;
		kvt_network_share_component(n, link);
		for (uint32_t j = 0; j < n->n_component_flows; j++) {
			kvt_flow_state *f = &n->flows[n->component_flows[j]];
			set_rate(n, f, f->new_rate, now);
		}
	}
	n->n_dirty = 0;
	set_timer(n);
}

static void on_share(void *arg)
{
	kvt_network *n = arg;
	n->share_event = 0;
	share_dirty(n);
}

static void mark_dirty(kvt_network *n, kvt_link link, kvt_time now)
{
	kvt_link_state *l = &n->links[link];
	if (l->dirty || l->n_flows == 0)
		return;
	l->dirty = true;
	n->dirty[n->n_dirty++] = link;
	if (n->share_event == 0)
		n->share_event = kvt_loop_at(n->loop, now, on_share, n);
}

static kvt_crossing *crossing_of(kvt_network *n, uint32_t x)
{
	return &n->flows[x / KVT_PATH_MAX].path[x % KVT_PATH_MAX];
}

/* The crossing that the flow's is to come behind: the last one, but those behind it in line. */
static uint32_t place_of(kvt_network *n, const kvt_link_state *l, const kvt_flow_state *f)
{
	uint32_t behind = l->tail;
	for (uint32_t x = l->tail; x != KVT_NONE; x = crossing_of(n, x)->previous) {
		const kvt_flow_state *other = &n->flows[x / KVT_PATH_MAX];
		bool in_line = x % KVT_PATH_MAX == 0 && other->turn > 0;
		if (in_line && other->turn <= f->turn)
			break;
		if (in_line)
			behind = crossing_of(n, x)->previous;
	}
	return behind;
}

static void join_links(kvt_network *n, kvt_flow_state *f, kvt_time now)
{
	uint32_t first = (uint32_t)(f - n->flows) * KVT_PATH_MAX;
	for (unsigned hop = 0; hop < f->path_length; hop++) {
		kvt_crossing *x = &f->path[hop];
		kvt_link_state *l = &n->links[x->link];
		g_assert(l->last_start != f->sequence); /* each link once */
		l->last_start = f->sequence;
		x->previous = hop == 0 && f->turn > 0 ? place_of(n, l, f) : l->tail;
		uint32_t *from =
			x->previous == KVT_NONE ? &l->head : &crossing_of(n, x->previous)->next;
		x->next = *from;
		*from = first + hop;
		*(x->next == KVT_NONE ? &l->tail : &crossing_of(n, x->next)->previous) =
			first + hop;
		l->in_line += hop == 0 && f->turn > 0;
		if (l->n_flows++ == 0)
			l->busy_since = now;
	}
}

/* Takes the flow off its links, which have `moved` more bytes behind them. */
static void leave_links(kvt_network *n, kvt_flow_state *f, uint64_t moved, kvt_time now)
{
	for (unsigned hop = 0; hop < f->path_length; hop++) {
		kvt_crossing *x = &f->path[hop];
		kvt_link_state *l = &n->links[x->link];
		*(x->previous == KVT_NONE ? &l->head : &crossing_of(n, x->previous)->next) =
			x->next;
		*(x->next == KVT_NONE ? &l->tail : &crossing_of(n, x->next)->previous) =
			x->previous;
		l->bytes += moved;
		l->busy_units += x->cost * (double)moved;
		l->in_line -= hop == 0 && f->turn > 0;
		if (--l->n_flows == 0)
			l->busy += now - l->busy_since;
		mark_dirty(n, x->link, now);
	}
}

static void renew_stops(kvt_network *n)
{
	size_t most = (size_t)n->flows_capacity * KVT_STOPS_PER_FLOW + n->links_capacity;
	n->stops = g_renew(kvt_stop, n->stops, most);
}

static kvt_flow_state *take_flow(kvt_network *n)
{
	if (n->first_free != KVT_NONE) {
		kvt_flow_state *f = &n->flows[n->first_free];
		n->first_free = f->next_free;
		return f;
	}
	if (n->n_flows == n->flows_capacity) {
		g_assert(n->flows_capacity < KVT_NONE / KVT_PATH_MAX / 2);
		n->flows_capacity = MAX(64, n->flows_capacity * 2);
		n->flows = g_renew(kvt_flow_state, n->flows, n->flows_capacity);
		n->heap = g_renew(kvt_heap_entry, n->heap, n->flows_capacity);
		n->component_flows = g_renew(uint32_t, n->component_flows, n->flows_capacity);
		renew_stops(n);
	}
	kvt_flow_state *f = &n->flows[n->n_flows++];
	memset(f, 0, sizeof(*f));
	f->generation = 1;
	return f;
}

static void release_flow(kvt_network *n, kvt_flow_state *f)
{
	if (++f->generation == 0)
		f->generation = 1;
	f->sequence = 0;
	f->next_free = n->first_free;
	n->first_free = (uint32_t)(f - n->flows);
}

/* The flow of a handle, or NULL when it has ended. */
static kvt_flow_state *find_flow(const kvt_network *n, kvt_flow flow)
{
	uint32_t index = (uint32_t)flow;
	if (index >= n->n_flows)
		return NULL;
	kvt_flow_state *f = &n->flows[index];
	return f->sequence != 0 && f->generation == (uint32_t)(flow >> 32) ? f : NULL;
}

static void finish_flow(kvt_network *n, kvt_flow_state *f, kvt_time now)
{
	kvt_callback done = f->done;
	void *arg = f->arg;
	heap_remove(n, f);
	leave_links(n, f, f->bytes, now);
	release_flow(n, f);
	n->stats.finished++;
	if (done != NULL)
		done(arg);
}

static void on_timer(void *arg)
{
	kvt_network *n = arg;
	kvt_time now = kvt_loop_now(n->loop);
	/* What the done of a flow starts ends in a later callback, even if at this time. */
	uint64_t last = n->sequence;
	n->timer = 0;
	n->in_timer = true;
	while (n->heap_size > 0 && n->heap[0].finish <= now && n->heap[0].sequence <= last)
		finish_flow(n, &n->flows[n->heap[0].flow], now);
	n->in_timer = false;
	set_timer(n);
}

static void copy_spec(const kvt_network *n, kvt_flow_state *f, const kvt_flow_spec *spec)
{
	g_assert(spec->path_length <= KVT_PATH_MAX && spec->priority < KVT_PRIORITY_CLASSES);
	g_assert(spec->line < KVT_LINES);
	g_assert(spec->weight >= 0 && spec->weight < INFINITY && spec->max_rate >= 0 &&
		 spec->reserved_rate >= 0);
	f->bytes = spec->bytes;
	f->weight = spec->weight > 0 ? spec->weight : 1;
	f->max_rate = spec->max_rate > 0 ? spec->max_rate : INFINITY;
	f->reserved_rate = spec->reserved_rate;
	f->priority = (uint8_t)spec->priority;
	f->done = spec->done;
	f->arg = spec->arg;
	/* Nothing to move asks for no share of anything. */
	f->path_length = spec->bytes > 0 ? (uint8_t)spec->path_length : 0;
	f->turn = f->path_length > 0 ? spec->turn : 0;
	f->line = (uint8_t)spec->line;
	f->places = MAX(spec->places, 1);
	for (unsigned hop = 0; hop < f->path_length; hop++) {
		g_assert(spec->path[hop] < n->n_links && spec->cost[hop] >= 0);
		f->path[hop].link = spec->path[hop];
		f->path[hop].cost = spec->cost[hop] > 0 ? spec->cost[hop] : 1;
	}
}

kvt_flow kvt_network_start(kvt_network *n, const kvt_flow_spec *spec)
{
	kvt_time now = kvt_loop_now(n->loop);
	kvt_flow_state *f = take_flow(n);
	copy_spec(n, f, spec);
	f->sequence = ++n->sequence;
	f->remaining = (double)f->bytes;
	f->rate = 0;
	f->updated = now;
	f->finish = KVT_TIME_NEVER;
	f->heap_index = KVT_NONE;
	n->stats.started++;

	bool alone = true;
	join_links(n, f, now);
	for (unsigned hop = 0; alone && hop < f->path_length; hop++)
		alone = n->links[f->path[hop].link].n_flows == 1;
	if (alone) {
		/* A flow of no bytes ends now, even at no rate at all. */
		double rate = f->bytes > 0 ? kvt_network_rate_alone(n, f) : INFINITY;
		set_rate(n, f, rate, now);
		set_timer(n);
	} else {
		/* Any of its links leads to the whole component. */
		mark_dirty(n, f->path[0].link, now);
	}
	return (kvt_flow)f->generation << 32 | (uint32_t)(f - n->flows);
}

void kvt_network_set_share(kvt_network *n, kvt_flow flow, double weight, double reserved_rate)
{
	kvt_flow_state *f = find_flow(n, flow);
	g_assert(weight >= 0 && weight < INFINITY && reserved_rate >= 0);
	weight = weight > 0 ? weight : 1;
	if (f == NULL || (f->weight == weight && f->reserved_rate == reserved_rate))
		return;
	f->weight = weight;
	f->reserved_rate = reserved_rate;
	/* one link is as good as all: what shares with it is found from there */
	if (f->path_length > 0)
		mark_dirty(n, f->path[0].link, kvt_loop_now(n->loop));
}

uint64_t kvt_network_cancel(kvt_network *n, kvt_flow flow)
{
	kvt_flow_state *f = find_flow(n, flow);
	if (f == NULL)
		return 0;
	kvt_time now = kvt_loop_now(n->loop);
	uint64_t left = bytes_left(f, now);
	if (f->heap_index != KVT_NONE)
		heap_remove(n, f);
	leave_links(n, f, f->bytes - left, now);
	release_flow(n, f);
	n->stats.cancelled++;
	set_timer(n);
	return left;
}

uint64_t kvt_network_flow_left(const kvt_network *n, kvt_flow flow)
{
	const kvt_flow_state *f = find_flow(n, flow);
	return f == NULL ? 0 : bytes_left(f, kvt_loop_now(n->loop));
}

double kvt_network_flow_rate(kvt_network *n, kvt_flow flow)
{
	kvt_flow_state *f = find_flow(n, flow);
	if (f == NULL)
		return 0;
	if (n->n_dirty > 0) {
		kvt_loop_cancel(n->loop, n->share_event);
		n->share_event = 0;
		share_dirty(n);
	}
	return f->rate;
}

kvt_network *kvt_network_new(kvt_loop *loop)
{
	kvt_network *n = g_new0(kvt_network, 1);
	n->loop = loop;
	n->first_free = KVT_NONE;
	return n;
}

void kvt_network_free(kvt_network *n)
{
	if (n == NULL)
		return;
	g_assert(!n->in_timer);
	if (n->timer != 0)
		kvt_loop_cancel(n->loop, n->timer);
	if (n->share_event != 0)
		kvt_loop_cancel(n->loop, n->share_event);
	for (uint32_t i = 0; i < n->n_links; i++)
		g_free(n->links[i].name);
	g_free(n->links);
	g_free(n->flows);
	g_free(n->heap);
	g_free(n->dirty);
	g_free(n->component_links);
	g_free(n->component_flows);
	g_free(n->stops);
	g_free(n);
}

kvt_link kvt_network_add_link(kvt_network *n, const char *name, double bytes_per_second)
{
	g_assert(bytes_per_second > 0 && isfinite(bytes_per_second));
	if (n->n_links == n->links_capacity) {
		n->links_capacity = MAX(16, n->links_capacity * 2);
		n->links = g_renew(kvt_link_state, n->links, n->links_capacity);
		n->dirty = g_renew(kvt_link, n->dirty, n->links_capacity);
		n->component_links = g_renew(kvt_link, n->component_links, n->links_capacity);
		renew_stops(n);
	}
	n->links[n->n_links] = (kvt_link_state){
		.capacity = bytes_per_second,
		.places = 1,
		.head = KVT_NONE,
		.tail = KVT_NONE,
		.name = g_strdup(name),
	};
	return n->n_links++;
}

void kvt_network_set_places(kvt_network *n, kvt_link link, uint64_t places)
{
	g_assert(link < n->n_links && places > 0 && n->links[link].n_flows == 0);
	n->links[link].places = places;
}

void kvt_network_set_rate(kvt_network *n, kvt_link link, double bytes_per_second)
{
	g_assert(link < n->n_links && bytes_per_second >= 0 && isfinite(bytes_per_second));
	if (n->links[link].capacity == bytes_per_second)
		return;
	n->links[link].capacity = bytes_per_second;
	mark_dirty(n, link, kvt_loop_now(n->loop));
}

unsigned kvt_network_n_links(const kvt_network *n)
{
	return n->n_links;
}

kvt_link_stats kvt_network_link_stats(kvt_network *n, kvt_link link)
{
	g_assert(link < n->n_links);
	const kvt_link_state *l = &n->links[link];
	kvt_time now = kvt_loop_now(n->loop);
	uint64_t bytes = l->bytes;
	double busy_units = l->busy_units;
	for (uint32_t x = l->head; x != KVT_NONE;) {
		const kvt_flow_state *f = &n->flows[x / KVT_PATH_MAX];
		const kvt_crossing *crossing = &f->path[x % KVT_PATH_MAX];
		uint64_t moved = f->bytes - bytes_left(f, now);
		bytes += moved;
		busy_units += crossing->cost * (double)moved;
		x = crossing->next;
	}
	return (kvt_link_stats){
		.name = l->name,
		.bytes_per_second = l->capacity,
		.bytes = (double)bytes,
		.busy_units = busy_units,
		.busy = l->busy + (l->n_flows > 0 ? now - l->busy_since : 0),
		.flows = l->n_flows,
	};
}

kvt_network_stats kvt_network_get_stats(const kvt_network *n)
{
	return n->stats;
}
