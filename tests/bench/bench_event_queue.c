/*
 * bench_event_queue.c: events/s of the virtual loop in the hold model (each event schedules one
 * more, so the population stays), beside a plain binary heap and beside no queue at all, in turns
 * in one run, on one core. Exits with 1 only when loop and heap disagree on the order of events.
 *
 * usage: bench_event_queue [--quick] [REPETITIONS]
 */
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim/base/rng.h"
#include "sim/core/loop.h"
#include "tests/bench/median.h"
#include "tests/bench/reference_heap.h"

/* Increments are drawn beforehand: what is measured is the queue, not the random numbers. */
enum { N_INCREMENTS = 1 << 14, MAX_REPETITIONS = 99 };

/* One hold experiment on one of the contenders. */
typedef struct hold {
	kvt_loop *loop;
	reference_heap heap;
	int64_t now; /* of no queue at all */
	uint64_t left, position;
	uint64_t digest, n_scheduled; /* of the order, when it is checked */
	const int64_t *increments;
} hold;

typedef struct distribution {
	const char *name;
	int64_t (*draw)(kvt_rng *rng);
} distribution;

static int64_t draw_exponential(kvt_rng *rng)
{
	return (int64_t)kvt_rng_exponential(rng, 1e9);
}

static int64_t draw_uniform(kvt_rng *rng)
{
	return (int64_t)(2e9 * kvt_rng_uniform(rng));
}

/* Device latencies beside compute: most events soon, one in ten a thousand times later. */
static int64_t draw_bimodal(kvt_rng *rng)
{
	double mean = kvt_rng_uniform(rng) < 0.1 ? 1e10 : 1e7;
	return (int64_t)(mean * (0.5 + kvt_rng_uniform(rng)));
}

static int64_t draw_pareto(kvt_rng *rng)
{
	double u = 1.0 - kvt_rng_uniform(rng);
	return (int64_t)(1e8 / (u * u));
}

/* All events at one instant, then all at the next. */
static int64_t draw_equal(kvt_rng *rng)
{
	return 1000000000;
}

/* A few instants, many events at each, and a tenth for right now. */
static int64_t draw_steps(kvt_rng *rng)
{
	return (int64_t)kvt_rng_below(rng, 10) * 100000000;
}

static const distribution distributions[] = {
	{ "exponential", draw_exponential },
	{ "uniform", draw_uniform },
	{ "bimodal", draw_bimodal },
	{ "pareto 1/2", draw_pareto },
	{ "equal", draw_equal },
	{ "steps", draw_steps },
};

static int64_t next_increment(hold *h)
{
	return h->increments[h->position++ % N_INCREMENTS];
}

static void hold_on_loop(void *arg)
{
	hold *h = arg;
	if (--h->left == 0)
		kvt_loop_stop(h->loop);
	kvt_loop_at(h->loop, kvt_loop_now(h->loop) + next_increment(h), hold_on_loop, h);
}

static void hold_on_heap(void *arg)
{
	hold *h = arg;
	if (--h->left == 0)
		h->heap.stopped = 1;
	reference_heap_push(&h->heap, h->heap.now + next_increment(h), hold_on_heap, h);
}

static void hold_on_nothing(void *arg)
{
	hold *h = arg;
	--h->left;
	h->now += next_increment(h);
}

/* CPU time in ns: other work on the machine is not held against a contender. */
static int64_t cpu_time(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static double events_per_second(uint64_t n, int64_t start)
{
	return 1e9 * (double)n / (double)MAX(cpu_time() - start, 1);
}

static double run_loop(hold *h, uint64_t n)
{
	h->left = n;
	int64_t start = cpu_time();
	kvt_loop_run(h->loop);
	return events_per_second(n, start);
}

static double run_heap(hold *h, uint64_t n)
{
	h->left = n;
	int64_t start = cpu_time();
	reference_heap_run(&h->heap);
	return events_per_second(n, start);
}

static double run_nothing(hold *h, uint64_t n)
{
	void (*volatile callback)(void *) = hold_on_nothing;
	void (*call)(void *) = callback;
	h->left = n;
	int64_t start = cpu_time();
	while (h->left > 0)
		call(h);
	return events_per_second(n, start);
}

static void hold_init(hold *h, const int64_t *increments)
{
	*h = (hold){ .increments = increments, .loop = kvt_virtual_loop_new() };
	reference_heap_init(&h->heap);
}

static void hold_clear(hold *h)
{
	kvt_loop_free(h->loop);
	reference_heap_clear(&h->heap);
}

/* One contender after the other, again and again, so that a slow spell of the machine hits both. */
static void measure(const distribution *d, const int64_t *increments, uint64_t population,
	uint64_t n_events, unsigned repetitions)
{
	hold loop, heap, nothing;
	hold_init(&loop, increments);
	hold_init(&heap, increments);
	hold_init(&nothing, increments);
	for (uint64_t i = 0; i < population; i++) {
		kvt_loop_at(loop.loop, next_increment(&loop), hold_on_loop, &loop);
		reference_heap_push(&heap.heap, next_increment(&heap), hold_on_heap, &heap);
	}
	run_loop(&loop, MAX(4 * population, n_events / 2));
	run_heap(&heap, MAX(4 * population, n_events / 2));
	double a[MAX_REPETITIONS], b[MAX_REPETITIONS], c[MAX_REPETITIONS], ratio[MAX_REPETITIONS];
	for (unsigned r = 0; r < repetitions; r++) {
		a[r] = run_loop(&loop, n_events);
		b[r] = run_heap(&heap, population > 100000 ? n_events / 4 : n_events);
		c[r] = run_nothing(&nothing, n_events);
		ratio[r] = a[r] / b[r];
	}
	printf("%-12s %10" G_GUINT64_FORMAT " %8.1f %8.1f %8.1f %8.2f\n", d->name, population,
		1e-6 * bench_median(a, repetitions), 1e-6 * bench_median(b, repetitions),
		1e-6 * bench_median(c, repetitions), bench_median(ratio, repetitions));
	fflush(stdout);
	hold_clear(&loop);
	hold_clear(&heap);
	hold_clear(&nothing);
}

/* Times of events that are all scheduled before any runs: rising, falling, scattered, and powers.
 */
static int64_t fill_time(int pattern, uint64_t i, uint64_t n)
{
	const uint64_t scattered = (i * 0x9e3779b97f4a7c15u) >> 16;
	switch (pattern) {
	case 0:
		return (int64_t)(i * 1000);
	case 1:
		return (int64_t)((n - i) * 1000);
	case 2:
		return (int64_t)scattered;
	default:
		return (int64_t)(1ull << (scattered % 60)) + (int64_t)(i % 100);
	}
}

typedef struct fill {
	hold hold;
	int pattern;
	uint64_t n;
} fill;

static void do_nothing(void *arg)
{
}

static void fill_loop(void *arg)
{
	fill *f = arg;
	int64_t now = kvt_loop_now(f->hold.loop);
	for (uint64_t i = 0; i < f->n; i++)
		kvt_loop_at(f->hold.loop, now + fill_time(f->pattern, i, f->n), do_nothing, NULL);
}

static void fill_heap(void *arg)
{
	fill *f = arg;
	for (uint64_t i = 0; i < f->n; i++)
		reference_heap_push(
			&f->hold.heap, fill_time(f->pattern, i, f->n), do_nothing, NULL);
}

/* A population that grows from none in one callback and is run down again. */
static void measure_fill(uint64_t n, unsigned repetitions)
{
	static const char *const names[] = { "rising", "falling", "scattered", "powers of 2" };
	for (int pattern = 0; pattern < (int)G_N_ELEMENTS(names); pattern++) {
		double a[MAX_REPETITIONS], b[MAX_REPETITIONS], ratio[MAX_REPETITIONS];
		for (unsigned r = 0; r < repetitions; r++) {
			fill f = { .pattern = pattern, .n = n };
			hold_init(&f.hold, NULL);
			int64_t start = cpu_time();
			kvt_loop_at(f.hold.loop, 0, fill_loop, &f);
			kvt_loop_run(f.hold.loop);
			a[r] = events_per_second(n, start);
			start = cpu_time();
			reference_heap_push(&f.hold.heap, 0, fill_heap, &f);
			reference_heap_run(&f.hold.heap);
			b[r] = events_per_second(n, start);
			ratio[r] = a[r] / b[r];
			hold_clear(&f.hold);
		}
		printf("%-12s %10" G_GUINT64_FORMAT " %8.1f %8.1f %8s %8.2f\n", names[pattern], n,
			1e-6 * bench_median(a, repetitions), 1e-6 * bench_median(b, repetitions),
			"-", bench_median(ratio, repetitions));
		fflush(stdout);
	}
}

/* Each event cancels its timeout, which is far off, and sets another. */
typedef struct guarded {
	hold *hold;
	kvt_event timeout;
} guarded;

static void hold_guarded(void *arg)
{
	guarded *g = arg;
	hold *h = g->hold;
	kvt_loop_cancel(h->loop, g->timeout);
	g->timeout = kvt_loop_after(h->loop, 1000000000000, do_nothing, NULL);
	if (--h->left == 0)
		kvt_loop_stop(h->loop);
	kvt_loop_at(h->loop, kvt_loop_now(h->loop) + next_increment(h), hold_guarded, g);
}

static void measure_timeouts(
	const int64_t *increments, uint64_t population, uint64_t n_events, unsigned repetitions)
{
	hold h;
	hold_init(&h, increments);
	guarded *events = g_new0(guarded, population);
	for (uint64_t i = 0; i < population; i++) {
		events[i].hold = &h;
		kvt_loop_at(h.loop, next_increment(&h), hold_guarded, &events[i]);
	}
	run_loop(&h, MAX(4 * population, n_events / 2));
	double a[MAX_REPETITIONS];
	for (unsigned r = 0; r < repetitions; r++)
		a[r] = run_loop(&h, n_events);
	printf("%-12s %10" G_GUINT64_FORMAT " %8.1f %8s %8s %8s\n", "timeouts", population,
		1e-6 * bench_median(a, repetitions), "-", "-", "-");
	hold_clear(&h);
	g_free(events);
}

/* An event of the check knows its number, which goes into the digest with its time. */
typedef struct checked {
	hold *hold;
	uint64_t number;
} checked;

static void digest_event(checked *c, int64_t now)
{
	hold *h = c->hold;
	h->digest = (h->digest ^ (uint64_t)now) * 0x9e3779b97f4a7c15u;
	h->digest = (h->digest ^ (h->digest >> 29) ^ c->number) * 0xbf58476d1ce4e5b9u;
	c->number = h->n_scheduled++;
}

static void check_on_loop(void *arg)
{
	checked *c = arg;
	hold *h = c->hold;
	digest_event(c, kvt_loop_now(h->loop));
	if (--h->left == 0)
		kvt_loop_stop(h->loop);
	kvt_loop_at(h->loop, kvt_loop_now(h->loop) + next_increment(h), check_on_loop, c);
}

static void check_on_heap(void *arg)
{
	checked *c = arg;
	hold *h = c->hold;
	digest_event(c, h->heap.now);
	if (--h->left == 0)
		h->heap.stopped = 1;
	reference_heap_push(&h->heap, h->heap.now + next_increment(h), check_on_heap, c);
}

static gboolean same_order(const distribution *d, const int64_t *increments, uint64_t population)
{
	hold loop, heap;
	hold_init(&loop, increments);
	hold_init(&heap, increments);
	checked *events = g_new(checked, 2 * population);
	for (uint64_t i = 0; i < population; i++) {
		events[2 * i] = (checked){ &loop, loop.n_scheduled++ };
		events[2 * i + 1] = (checked){ &heap, heap.n_scheduled++ };
		kvt_loop_at(loop.loop, next_increment(&loop), check_on_loop, &events[2 * i]);
		reference_heap_push(
			&heap.heap, next_increment(&heap), check_on_heap, &events[2 * i + 1]);
	}
	run_loop(&loop, 3 * population);
	run_heap(&heap, 3 * population);
	gboolean same = loop.digest == heap.digest && kvt_loop_now(loop.loop) == heap.heap.now;
	if (!same)
		printf("%s at %" G_GUINT64_FORMAT ": loop and heap disagree on the order\n",
			d->name, population);
	hold_clear(&loop);
	hold_clear(&heap);
	g_free(events);
	return same;
}

int main(int argc, char **argv)
{
	gboolean quick = FALSE;
	unsigned repetitions = 0;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--quick") == 0)
			quick = TRUE;
		else
			repetitions = (unsigned)strtoul(argv[i], NULL, 10);
	}
	if (repetitions == 0 || repetitions > MAX_REPETITIONS)
		repetitions = quick ? 3 : 9;
	const uint64_t populations[] = { 1000, 32000, 1000000 };
	gboolean same = TRUE;
	printf("event queue, hold model, one callback an event: M events/s of CPU time, median of "
	       "%u\n"
	       "distribution population     loop     heap no queue loop/heap\n",
		repetitions);
	int64_t *increments = g_new(int64_t, N_INCREMENTS);
	for (gsize k = 0; k < G_N_ELEMENTS(distributions); k++) {
		kvt_rng rng = kvt_rng_init(1, kvt_rng_stream_id("bench.event_queue", k));
		for (int i = 0; i < N_INCREMENTS; i++)
			increments[i] = distributions[k].draw(&rng);
		for (gsize p = 0; p < G_N_ELEMENTS(populations); p++) {
			uint64_t n = populations[p];
			if (quick && n > 100000)
				continue;
			same &= same_order(&distributions[k], increments, n);
			measure(&distributions[k], increments, n,
				quick        ? 200000
				: n > 100000 ? 4 * n
					     : 3000000,
				repetitions);
		}
		if (k == 0)
			measure_timeouts(increments, 1000, quick ? 200000 : 2000000, repetitions);
	}
	printf("all scheduled in one callback, then run down\n");
	measure_fill(quick ? 30000 : 300000, repetitions);
	g_free(increments);
	return same ? 0 : 1;
}
