/* arrivals.c: requests by time, and in a closed loop by what they wait for. */
#include "sim/fleet/arrivals.h"

#include <math.h>

/* A request that will come at its time. */
typedef struct coming {
	kvt_arrivals *owner;
	uint32_t request;
} coming;

struct kvt_arrivals {
	kvt_loop *loop;
	const kvt_request_trace *trace;
	const kvt_fleet_settings *settings;
	uint32_t n_requests;
	void (*arrive)(void *arg, uint32_t request);
	void *arg;
	uint64_t left;
	uint32_t next; /* open loop: the first that has not come */
	/* closed loop */
	uint32_t *waits_for;             /* how many requests that have not ended */
	uint32_t *first_child, *sibling; /* requests whose `after` it is */
	uint32_t *group;                 /* the request that it goes back to */
	uint32_t *group_left;            /* [a group's first request], that have not ended */
	uint32_t *roots;                 /* first requests of groups, in order */
	uint32_t n_roots, next_root;
	coming *comings;
};

static kvt_time scaled(kvt_time time, double scale)
{
	if (scale == 1)
		return time;
	double t = rint((double)time * scale);
	return t < 9e18 ? (kvt_time)t : KVT_TIME_NEVER;
}

static kvt_time arrival_of(const kvt_arrivals *a, uint32_t request)
{
	return scaled(a->trace->requests[request].arrival, 1 / a->settings->rate_scale);
}

/* Who waits for whom; `after` and what joins are earlier than who waits, so one pass finds each
 * request's group. */
static void link_requests(kvt_arrivals *a)
{
	const kvt_request *requests = a->trace->requests;
	uint32_t n = a->n_requests;
	a->waits_for = g_new0(uint32_t, n);
	a->first_child = g_new(uint32_t, n);
	a->sibling = g_new(uint32_t, n);
	a->group = g_new(uint32_t, n);
	a->group_left = g_new0(uint32_t, n);
	a->roots = g_new(uint32_t, n);
	a->comings = g_new(coming, n);
	for (uint32_t i = 0; i < n; i++) {
		a->first_child[i] = KVT_REQUEST_NONE;
		a->group[i] = i;
		a->comings[i] = (coming){ a, i };
	}
	for (uint32_t i = 0; i < n; i++) {
		uint32_t after = requests[i].after, joins = requests[i].joins;
		if (after != KVT_REQUEST_NONE) {
			a->waits_for[i]++;
			a->group[i] = a->group[after];
		}
		if (joins < n) {
			a->waits_for[joins]++;
			a->group[joins] = a->group[i];
		}
		a->group_left[a->group[i]]++;
		if (a->waits_for[i] == 0)
			a->roots[a->n_roots++] = i;
	}
	/* last to first, so that children come in order */
	for (uint32_t i = n; i-- > 0;) {
		uint32_t after = requests[i].after;
		if (after == KVT_REQUEST_NONE)
			continue;
		a->sibling[i] = a->first_child[after];
		a->first_child[after] = i;
	}
}

kvt_arrivals *kvt_arrivals_new(kvt_loop *loop, const kvt_request_trace *trace, uint32_t n_requests,
	const kvt_fleet_settings *settings, void (*arrive)(void *arg, uint32_t request), void *arg)
{
	kvt_arrivals *a = g_new0(kvt_arrivals, 1);
	a->loop = loop;
	a->trace = trace;
	a->settings = settings;
	a->n_requests = n_requests;
	a->arrive = arrive;
	a->arg = arg;
	a->left = n_requests;
	if (settings->loop == KVT_LOOP_CLOSED)
		link_requests(a);
	return a;
}

void kvt_arrivals_free(kvt_arrivals *a)
{
	if (!a)
		return;
	g_free(a->waits_for);
	g_free(a->first_child);
	g_free(a->sibling);
	g_free(a->group);
	g_free(a->group_left);
	g_free(a->roots);
	g_free(a->comings);
	g_free(a);
}

static void give(kvt_arrivals *a, uint32_t request)
{
	a->left--;
	a->arrive(a->arg, request);
}

static void come_open(void *arg)
{
	kvt_arrivals *a = arg;
	kvt_time now = kvt_loop_now(a->loop);
	while (a->next < a->n_requests && arrival_of(a, a->next) <= now)
		give(a, a->next++);
	if (a->next < a->n_requests)
		kvt_loop_at(a->loop, arrival_of(a, a->next), come_open, a);
}

static void come_closed(void *arg)
{
	coming *c = arg;
	give(c->owner, c->request);
}

/* The next session of the trace begins now. */
static void take_session(kvt_arrivals *a)
{
	if (a->next_root == a->n_roots)
		return;
	uint32_t root = a->roots[a->next_root++];
	kvt_loop_at(a->loop, kvt_loop_now(a->loop), come_closed, &a->comings[root]);
}

void kvt_arrivals_start(kvt_arrivals *a)
{
	if (a->settings->loop == KVT_LOOP_OPEN) {
		if (a->n_requests > 0)
			kvt_loop_at(a->loop, arrival_of(a, 0), come_open, a);
		return;
	}
	if (a->settings->users > 0) {
		for (int64_t i = 0; i < a->settings->users && a->next_root < a->n_roots; i++)
			take_session(a);
		return;
	}
	for (uint32_t i = 0; i < a->n_roots; i++)
		kvt_loop_at(
			a->loop, arrival_of(a, a->roots[i]), come_closed, &a->comings[a->roots[i]]);
}

static void release(kvt_arrivals *a, uint32_t request)
{
	if (--a->waits_for[request] > 0)
		return;
	kvt_time think = scaled(a->trace->requests[request].think, a->settings->think_scale);
	kvt_loop_after(a->loop, think, come_closed, &a->comings[request]);
}

void kvt_arrivals_ended(kvt_arrivals *a, uint32_t request)
{
	if (a->settings->loop == KVT_LOOP_OPEN)
		return;
	for (uint32_t child = a->first_child[request]; child != KVT_REQUEST_NONE;
		child = a->sibling[child])
		release(a, child);
	uint32_t joins = a->trace->requests[request].joins;
	if (joins < a->n_requests)
		release(a, joins);
	if (--a->group_left[a->group[request]] == 0 && a->settings->users > 0)
		take_session(a);
}

uint64_t kvt_arrivals_left(const kvt_arrivals *a)
{
	return a->left;
}
