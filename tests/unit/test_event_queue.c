/*
 * test_event_queue.c: the event queue under random schedules, cancellations and runs, checked
 * event by event against a sorted tree; and what it holds in memory.
 */
#include <glib.h>
#include <string.h>

#include "sim/base/rng.h"
#include "sim/core/event_queue.h"

typedef struct plan plan;

/* An event as the reference knows it. */
typedef struct expected {
	plan *plan;
	kvt_time when;
	uint64_t sequence;
	kvt_event handle;
	size_t place; /* in plan->pending */
} expected;

/* A random run: what is pending, by the reference, and what to do next. */
struct plan {
	kvt_loop *loop;
	GTree *order;       /* of expected, by (when, sequence) */
	GPtrArray *pending; /* the same ones, to draw from */
	GArray *past;       /* handles of events that have run or were cancelled, some of them */
	kvt_rng rng;
	kvt_time now;
	kvt_time (*draw)(plan *p);
	uint64_t n_scheduled, n_cancelled, n_run, n_stops, budget;
	uint64_t digest;
	unsigned target; /* population to steer to */
};

static int compare_expected(const void *a, const void *b, void *unused)
{
	const expected *x = a, *y = b;
	if (x->when != y->when)
		return x->when < y->when ? -1 : 1;
	return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

static void run_expected(void *arg);

/* now + delay, but never NEVER. */
static kvt_time later(const plan *p, double delay)
{
	kvt_time room = KVT_TIME_NEVER - 1 - p->now;
	return delay >= (double)room ? KVT_TIME_NEVER - 1 : p->now + (kvt_time)delay;
}

static kvt_time draw_exponential(plan *p)
{
	return later(p, kvt_rng_exponential(&p->rng, 1e9));
}

static kvt_time draw_dense(plan *p)
{
	return later(p, (double)kvt_rng_below(&p->rng, 40));
}

static kvt_time draw_bimodal(plan *p)
{
	return later(p, kvt_rng_exponential(&p->rng, kvt_rng_below(&p->rng, 10) ? 1e6 : 1e10));
}

/* From 1 ps to hours, each power of two as likely. */
static kvt_time draw_powers(plan *p)
{
	return later(p, (double)(1ull << kvt_rng_below(&p->rng, 56)));
}

/* A few instants, many of them now, some past. */
static kvt_time draw_instants(plan *p)
{
	int instant = (int)kvt_rng_below(&p->rng, 6) - 2;
	return later(p, 1e6 * instant - (double)(p->now % 1000000));
}

static kvt_time draw_now(plan *p)
{
	return p->now;
}

/* Each earlier than the one before, until they catch up with now. */
static kvt_time draw_falling(plan *p)
{
	return later(p, (double)(10000000 - (kvt_time)(p->n_scheduled % 100000) * 100));
}

static kvt_time draw_mixed(plan *p)
{
	kvt_time (*const draws[])(
		plan *) = { draw_exponential, draw_dense, draw_bimodal, draw_instants, draw_now };
	/* The end of time late in the run: once it has come there is no other. */
	if (p->budget < 8000 && kvt_rng_below(&p->rng, 1000) == 0)
		return KVT_TIME_NEVER - 1 - (kvt_time)kvt_rng_below(&p->rng, 3);
	if (kvt_rng_below(&p->rng, 100) == 0)
		return -(kvt_time)kvt_rng_below(&p->rng, INT64_MAX);
	/* The kind changes now and then, so that all meet in one queue. */
	return draws[p->n_scheduled / 700 % G_N_ELEMENTS(draws)](p);
}

static void schedule(plan *p)
{
	expected *e = g_new(expected, 1);
	kvt_time when = p->draw(p);
	*e = (expected){ .plan = p, .when = MAX(when, p->now), .sequence = p->n_scheduled++ };
	e->handle = kvt_loop_at(p->loop, when, run_expected, e);
	g_assert_cmpuint(e->handle, !=, 0);
	e->place = p->pending->len;
	g_ptr_array_add(p->pending, e);
	g_tree_insert(p->order, e, e);
}

/* Takes an event out of the reference; remembers the handles of some. */
static void forget(plan *p, expected *e)
{
	expected *last = p->pending->pdata[p->pending->len - 1];
	g_assert_true(g_tree_remove(p->order, e));
	p->pending->pdata[e->place] = last;
	last->place = e->place;
	g_ptr_array_set_size(p->pending, (int)p->pending->len - 1);
	if (p->past->len < 64)
		g_array_append_val(p->past, e->handle);
	else
		g_array_index(p->past, kvt_event, kvt_rng_below(&p->rng, 64)) = e->handle;
	g_free(e);
}

static void cancel_one(plan *p)
{
	if (p->past->len > 0) {
		uint64_t i = kvt_rng_below(&p->rng, p->past->len);
		g_assert_false(kvt_loop_cancel(p->loop, g_array_index(p->past, kvt_event, i)));
	}
	if (p->pending->len == 0)
		return;
	expected *e = p->pending->pdata[kvt_rng_below(&p->rng, p->pending->len)];
	g_assert_true(kvt_loop_cancel(p->loop, e->handle));
	g_assert_false(kvt_loop_cancel(p->loop, e->handle));
	forget(p, e);
	p->n_cancelled++;
}

/* Steers the population to its target, which wanders between 0 and 4000. */
static void act(plan *p)
{
	for (unsigned n = (unsigned)kvt_rng_below(&p->rng, 5); n > 0 && p->budget > 0; n--) {
		p->budget--;
		if (kvt_rng_below(&p->rng, 1000) == 0)
			p->target = 1u << kvt_rng_below(&p->rng, 13);
		if (p->pending->len > p->target && kvt_rng_below(&p->rng, 4) > 0)
			cancel_one(p);
		else if (p->pending->len <= p->target || kvt_rng_below(&p->rng, 3) == 0)
			schedule(p);
	}
}

static void run_expected(void *arg)
{
	expected *e = arg;
	plan *p = e->plan;
	g_assert_true(g_tree_node_value(g_tree_node_first(p->order)) == e);
	g_assert_cmpint(kvt_loop_now(p->loop), ==, e->when);
	g_assert_cmpint(e->when, >=, p->now);
	p->now = e->when;
	p->n_run++;
	p->digest = (p->digest ^ (uint64_t)e->when ^ e->sequence << 40) * 0x9e3779b97f4a7c15u;
	g_assert_false(kvt_loop_cancel(p->loop, e->handle));
	forget(p, e);
	act(p);
	if (kvt_rng_below(&p->rng, 200) == 0) {
		p->n_stops++;
		kvt_loop_stop(p->loop);
	}
}

/* Runs a random plan to its end; returns a digest of what ran when. */
static uint64_t check_plan(kvt_time (*draw)(plan *), uint64_t seed, uint64_t budget)
{
	plan p = { .loop = kvt_virtual_loop_new(), .draw = draw, .budget = budget, .target = 10 };
	p.order = g_tree_new_full(compare_expected, NULL, NULL, NULL);
	p.pending = g_ptr_array_new();
	p.past = g_array_new(FALSE, FALSE, sizeof(kvt_event));
	p.rng = kvt_rng_init(seed, kvt_rng_stream_id("test.event_queue", 0));
	while (p.budget > 0 || p.pending->len > 0) {
		act(&p);
		uint64_t before = p.n_run, stops = p.n_stops;
		uint64_t n = kvt_loop_run(p.loop);
		g_assert_cmpuint(n, ==, p.n_run - before);
		g_assert_true(p.pending->len == 0 || p.n_stops > stops);
	}
	g_assert_cmpuint(p.n_scheduled, ==, p.n_run + p.n_cancelled);
	g_assert_cmpuint(p.n_run, >, budget / 10);
	g_assert_cmpuint(p.n_cancelled, >, budget / 50);
	kvt_loop_free(p.loop);
	g_tree_unref(p.order);
	g_ptr_array_unref(p.pending);
	g_array_unref(p.past);
	return p.digest;
}

static void test_random(gconstpointer draw)
{
	check_plan((kvt_time(*)(plan *))draw, 1, 60000);
	check_plan((kvt_time(*)(plan *))draw, 2, 20000);
}

static void test_same_seed(void)
{
	uint64_t digest = check_plan(draw_mixed, 7, 20000);
	g_assert_cmpuint(check_plan(draw_mixed, 7, 20000), ==, digest);
	g_assert_cmpuint(check_plan(draw_mixed, 8, 20000), !=, digest);
}

static void nothing(void *arg)
{
}

/* Pops one event, which must be due at `when`. */
static void pop_at(kvt_event_queue *queue, kvt_time when)
{
	kvt_callback callback = NULL;
	void *arg;
	g_assert_true(kvt_event_queue_pop(queue, &callback, &arg));
	g_assert_cmpint(queue->now, ==, when);
	g_assert_true(callback == nothing);
}

/* Timers that are set and cancelled over and over, far more than are ever pending. */
static void test_churn_is_bounded(void)
{
	kvt_event_queue queue;
	kvt_event_queue_init(&queue);
	kvt_rng rng = kvt_rng_init(3, 0);
	kvt_event timers[100] = { 0 };
	kvt_time tick = 0;
	kvt_event_queue_push(&queue, tick, nothing, NULL);
	for (int i = 0; i < 300000; i++) {
		int k = (int)kvt_rng_below(&rng, G_N_ELEMENTS(timers));
		g_assert_true(timers[k] == 0 || kvt_event_queue_cancel(&queue, timers[k]));
		timers[k] = kvt_event_queue_push(&queue,
			queue.now + KVT_SECOND + (kvt_time)kvt_rng_below(&rng, KVT_SECOND), nothing,
			NULL);
		if (i % 10 == 0) {
			pop_at(&queue, tick);
			kvt_event_queue_push(&queue, tick += 1000, nothing, NULL);
		}
	}
	g_assert_cmpuint(queue.n_pending, ==, 101);
	g_assert_cmpuint(kvt_event_queue_bytes(&queue), <, 1 << 20);
	kvt_event_queue_clear(&queue);
}

/* The population grows and is run down again and again: the second time costs no memory. */
static void test_memory_is_reused(void)
{
	enum { N = 100000 };
	kvt_event_queue queue;
	kvt_event_queue_init(&queue);
	kvt_rng rng = kvt_rng_init(4, 0);
	size_t bytes = 0;
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < N; i++)
			kvt_event_queue_push(&queue,
				queue.now + (kvt_time)kvt_rng_below(&rng, KVT_SECOND), nothing,
				NULL);
		kvt_time before = 0;
		kvt_callback callback;
		void *arg;
		for (int i = 0; i < N; i++) {
			g_assert_true(kvt_event_queue_pop(&queue, &callback, &arg));
			g_assert_cmpint(queue.now, >=, before);
			before = queue.now;
		}
		g_assert_false(kvt_event_queue_pop(&queue, &callback, &arg));
		if (round == 1)
			bytes = kvt_event_queue_bytes(&queue);
	}
	g_assert_cmpuint(kvt_event_queue_bytes(&queue), <=, bytes + bytes / 20);
	g_assert_cmpuint(bytes, <, (size_t)N * 100);
	kvt_event_queue_clear(&queue);
}

/* A handle never comes back: a slot is given up when its generations are used up. */
static void test_generations_end(void)
{
	kvt_event_queue queue;
	kvt_event_queue_init(&queue);
	kvt_event first = kvt_event_queue_push(&queue, 1, nothing, NULL);
	pop_at(&queue, 1);
	uint32_t slot = (uint32_t)first;
	queue.slots[slot].generation = UINT32_MAX - 1;
	kvt_event last = kvt_event_queue_push(&queue, 2, nothing, NULL);
	g_assert_cmpuint((uint32_t)last, ==, slot);
	pop_at(&queue, 2);
	g_assert_false(kvt_event_queue_cancel(&queue, last));
	for (int i = 0; i < 100; i++) {
		kvt_event next = kvt_event_queue_push(&queue, 3, nothing, NULL);
		g_assert_cmpuint((uint32_t)next, !=, slot);
		g_assert_false(kvt_event_queue_cancel(&queue, first));
		g_assert_false(kvt_event_queue_cancel(&queue, slot));
	}
	kvt_event_queue_clear(&queue);
}

/* From the largest times there are, with and without what lies between them. */
static void test_extremes(void)
{
	kvt_event_queue queue;
	kvt_event_queue_init(&queue);
	const kvt_time end = KVT_TIME_NEVER - 1;
	for (int i = 0; i < 200; i++) {
		kvt_event_queue_push(&queue, end - i % 2, nothing, NULL);
		kvt_event_queue_push(&queue, i % 2, nothing, NULL);
		kvt_event_queue_push(&queue, end / 2 + i % 2, nothing, NULL);
	}
	const kvt_time bases[] = { 0, end / 2, end - 1 };
	for (int i = 0; i < 600; i++)
		pop_at(&queue, bases[i / 200] + i / 100 % 2);
	for (int i = 0; i < 200; i++)
		kvt_event_queue_push(&queue, end, nothing, NULL);
	for (int i = 0; i < 200; i++)
		pop_at(&queue, end);
	g_assert_cmpuint(queue.n_pending, ==, 0);
	kvt_event_queue_clear(&queue);
}

/* Pushes by the wall clock: what comes next is looked at, and then something is due before it. */
static void test_next(void)
{
	enum { N = 4000, INSTANTS = 40 };
	kvt_event_queue queue;
	kvt_event_queue_init(&queue);
	kvt_rng rng = kvt_rng_init(4, 0);
	g_autofree kvt_time *pending = g_new(kvt_time, N); /* by order of submission; < 0: gone */
	g_autofree kvt_event *events = g_new(kvt_event, N);
	kvt_time clock = 0, when = 0;
	size_t n = 0, left = 0;
	g_assert_false(kvt_event_queue_next(&queue, &when));
	while (n < N || left > 0) {
		uint64_t what = kvt_rng_below(&rng, 8);
		size_t first = N;
		for (size_t i = 0; i < n; i++)
			if (pending[i] >= 0 && (first == N || pending[i] < pending[first]))
				first = i;
		g_assert_true(kvt_event_queue_next(&queue, &when) == (first < N));
		if (first < N)
			g_assert_cmpint(when, ==, pending[first]);
		if (what < 5 && n < N) {
			pending[n] = clock + (kvt_time)kvt_rng_below(&rng, INSTANTS) * 7;
			events[n] = kvt_event_queue_push(
				&queue, pending[n], nothing, GSIZE_TO_POINTER(n));
			n++, left++;
		} else if (what == 5 && first < N) {
			g_assert_true(kvt_event_queue_cancel(&queue, events[first]));
			pending[first] = -1, left--;
		} else if (first < N) {
			kvt_callback callback;
			void *arg = NULL;
			clock = MAX(clock, pending[first]);
			g_assert_true(kvt_event_queue_pop(&queue, &callback, &arg));
			g_assert_cmpuint(GPOINTER_TO_SIZE(arg), ==, first);
			pending[first] = -1, left--;
		}
	}
	g_assert_false(kvt_event_queue_next(&queue, &when));
	kvt_event_queue_clear(&queue);
}

static void count(void *arg)
{
	++*(unsigned *)arg;
}

/* A deadline far away that is looked at, moved on and met by bursts of what is due before it. */
static void test_moving_deadline(void)
{
	enum { ROUNDS = 500, BURST = 3 * KVT_EVENT_FRONT_ENTRIES };
	kvt_event_queue queue;
	kvt_event_queue_init(&queue);
	kvt_event deadline = 0;
	kvt_time when = 0, clock = 0;
	unsigned ran = 0;
	for (unsigned i = 0; i < ROUNDS; i++) {
		clock += KVT_MILLISECOND;
		for (unsigned k = 0; k < BURST; k++)
			kvt_event_queue_push(&queue, clock + k % 7, count, &ran);
		kvt_event_queue_cancel(&queue, deadline);
		deadline = kvt_event_queue_push(&queue, clock + 10 * KVT_SECOND, count, &ran);
		while (kvt_event_queue_next(&queue, &when) && when < clock + KVT_SECOND) {
			kvt_callback callback = NULL;
			void *arg = NULL;
			g_assert_true(kvt_event_queue_pop(&queue, &callback, &arg));
			g_assert_cmpint(queue.now, ==, when);
			callback(arg);
		}
		g_assert_cmpint(when, ==, clock + 10 * KVT_SECOND);
		g_assert_cmpuint(ran, ==, (i + 1) * BURST);
		g_assert_cmpuint(queue.n_levels, <, KVT_EVENT_MAX_LEVELS / 2);
	}
	kvt_event_queue_clear(&queue);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	const struct {
		const char *path;
		kvt_time (*draw)(plan *);
	} plans[] = {
		{ "/event-queue/random/exponential", draw_exponential },
		{ "/event-queue/random/dense", draw_dense },
		{ "/event-queue/random/bimodal", draw_bimodal },
		{ "/event-queue/random/powers", draw_powers },
		{ "/event-queue/random/instants", draw_instants },
		{ "/event-queue/random/now", draw_now },
		{ "/event-queue/random/falling", draw_falling },
		{ "/event-queue/random/mixed", draw_mixed },
	};
	for (gsize i = 0; i < G_N_ELEMENTS(plans); i++)
		g_test_add_data_func(plans[i].path, (gconstpointer)plans[i].draw, test_random);
	g_test_add_func("/event-queue/same-seed", test_same_seed);
	g_test_add_func("/event-queue/churn-is-bounded", test_churn_is_bounded);
	g_test_add_func("/event-queue/memory-is-reused", test_memory_is_reused);
	g_test_add_func("/event-queue/generations-end", test_generations_end);
	g_test_add_func("/event-queue/extremes", test_extremes);
	g_test_add_func("/event-queue/next", test_next);
	g_test_add_func("/event-queue/moving-deadline", test_moving_deadline);
	return g_test_run();
}
