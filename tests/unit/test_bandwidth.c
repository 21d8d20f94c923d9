/*
 * test_bandwidth.c: flows in time: when they end, what they have moved, cancelling, link rates that
 * change. Which rates are fair is the matter of test_bandwidth_share.c.
 */
#include <glib.h>
#include <math.h>
#include <stdlib.h>

#include "sim/base/rng.h"
#include "sim/core/bandwidth.h"

typedef struct world {
	kvt_loop *loop;
	kvt_network *network;
} world;

typedef struct job {
	const world *w;
	kvt_flow flow;
	kvt_time started, ended; /* ended: -1 before done has run */
	unsigned calls, order;
	unsigned *counter;
} job;

static world world_new(void)
{
	world w = { .loop = kvt_virtual_loop_new() };
	w.network = kvt_network_new(w.loop);
	return w;
}

static void world_free(world *w)
{
	kvt_network_free(w->network);
	kvt_loop_free(w->loop);
}

static void on_done(void *arg)
{
	job *j = arg;
	j->ended = kvt_loop_now(j->w->loop);
	j->calls++;
	if (j->counter != NULL)
		j->order = (*j->counter)++;
}

static void job_start(const world *w, job *j, kvt_flow_spec spec)
{
	j->w = w;
	j->started = kvt_loop_now(w->loop);
	j->ended = -1;
	j->calls = 0;
	spec.done = on_done;
	spec.arg = j;
	j->flow = kvt_network_start(w->network, &spec);
	g_assert_cmpuint(j->flow, !=, 0);
	g_assert_cmpuint(j->calls, ==, 0); /* never inline */
}

static void test_alone(void)
{
	world w = world_new();
	kvt_link a = kvt_network_add_link(w.network, "a", 45e9);
	kvt_link b = kvt_network_add_link(w.network, "b", 7e9);
	static const uint64_t sizes[] = { 1, 7, 65536, 1000003, 3ull << 40 };
	for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
		job j = { 0 };
		job_start(&w, &j,
			(kvt_flow_spec){ .path = { a, b }, .path_length = 2, .bytes = sizes[i] });
		g_assert_cmpfloat(kvt_network_flow_rate(w.network, j.flow), ==, 7e9);
		kvt_loop_run(w.loop);
		g_assert_cmpuint(j.calls, ==, 1);
		g_assert_cmpint(j.ended - j.started, ==, kvt_time_for_bytes(sizes[i], 7e9));
		/* Rounded up, in exact integers. */
		__int128 moved = (__int128)(j.ended - j.started) * 7000000000;
		g_assert_true(moved >= (__int128)sizes[i] * KVT_SECOND);
		g_assert_cmpfloat(kvt_network_flow_rate(w.network, j.flow), ==, 0);
	}
	world_free(&w);
}

static void look(void *arg)
{
	const job *j = arg;
	/* half of its time, half of its bytes */
	g_assert_cmpuint(kvt_network_flow_left(j->w->network, j->flow), ==, 500);
}

/* What has yet to move, on the way, before and after. */
static void test_left(void)
{
	world w = world_new();
	kvt_link a = kvt_network_add_link(w.network, "a", 1e9);
	job j = { 0 };
	job_start(&w, &j, (kvt_flow_spec){ .path = { a }, .path_length = 1, .bytes = 1000 });
	g_assert_cmpuint(kvt_network_flow_left(w.network, j.flow), ==, 1000);
	kvt_loop_at(w.loop, 500 * KVT_NANOSECOND, look, &j);
	kvt_loop_run(w.loop);
	g_assert_cmpuint(kvt_network_flow_left(w.network, j.flow), ==, 0);
	world_free(&w);
}

/* What needs no link: a cap alone, nothing at all, no bytes (even where nothing can move). */
static void test_degenerate(void)
{
	world w = world_new();
	kvt_link a = kvt_network_add_link(w.network, "a", 1e9);
	unsigned counter = 0;
	job capped = { .counter = &counter }, free_job = capped, empty = capped, behind = capped;
	kvt_network_set_rate(w.network, a, 0);
	job_start(&w, &behind, (kvt_flow_spec){ .path = { a }, .path_length = 1, .bytes = 10 });
	job_start(&w, &capped, (kvt_flow_spec){ .bytes = 1000, .max_rate = 1e9 });
	job_start(&w, &free_job, (kvt_flow_spec){ .bytes = UINT64_MAX });
	job_start(&w, &empty, (kvt_flow_spec){ .path = { a }, .path_length = 1 });
	g_assert_true(isinf(kvt_network_flow_rate(w.network, free_job.flow)));
	kvt_loop_run(w.loop);
	g_assert_cmpint(free_job.ended, ==, 0);
	g_assert_cmpint(empty.ended, ==, 0);
	g_assert_cmpint(free_job.order, ==, 0);
	g_assert_cmpint(empty.order, ==, 1);
	g_assert_cmpint(capped.ended, ==, KVT_MICROSECOND);
	g_assert_cmpuint(behind.calls, ==, 0);
	/* A stopped link holds its flow for as long as it takes. */
	kvt_network_set_rate(w.network, a, 1e9);
	kvt_loop_run(w.loop);
	g_assert_cmpint(behind.ended, ==, KVT_MICROSECOND + 10 * KVT_NANOSECOND);
	world_free(&w);
}

static void test_two_share(void)
{
	world w = world_new();
	kvt_link a = kvt_network_add_link(w.network, "a", 3e9);
	job small = { 0 }, large = { 0 };
	kvt_flow_spec spec = { .path = { a }, .path_length = 1, .bytes = 1000000 };
	job_start(&w, &small, spec);
	spec.bytes = 4000000;
	spec.weight = 2;
	job_start(&w, &large, spec);
	kvt_loop_run(w.loop);
	/* 1 and 2 GB/s until 1 MB and 2 MB have moved, then 3 GB/s for the other 2 MB. */
	g_assert_cmpint(small.ended, ==, KVT_MILLISECOND);
	g_assert_cmpint(large.ended, ==, KVT_MILLISECOND + 666666667);
	kvt_link_stats s = kvt_network_link_stats(w.network, a);
	g_assert_cmpfloat(s.bytes, ==, 5e6);
	g_assert_cmpfloat(s.busy_units, ==, 5e6);
	g_assert_cmpint(s.busy, ==, large.ended);
	g_assert_cmpstr(s.name, ==, "a");
	g_assert_cmpuint(kvt_network_n_links(w.network), ==, 1);
	world_free(&w);
}

/* An I/O of 4 KiB on a drive of 8 GB/s and 1M I/Os per second costs 8e9 / (1e6 x 4096). */
static void test_cost(void)
{
	world w = world_new();
	kvt_link drive = kvt_network_add_link(w.network, "drive", 8e9);
	job j = { 0 };
	double cost = 8e9 / (1e6 * 4096);
	job_start(&w, &j,
		(kvt_flow_spec){
			.path = { drive }, .path_length = 1, .cost = { cost }, .bytes = 4096000 });
	kvt_loop_run(w.loop);
	g_assert_cmpint(llabs(j.ended - KVT_MILLISECOND), <=, 1);
	kvt_link_stats s = kvt_network_link_stats(w.network, drive);
	g_assert_cmpfloat(s.bytes, ==, 4096000);
	g_assert_cmpfloat_with_epsilon(s.busy_units / (8e9 * 1e-3), 1, 1e-9);
	world_free(&w);
}

typedef struct later {
	const world *w;
	job *j;
	kvt_link link;
	double rate;
	uint64_t left;
	kvt_flow_spec spec;
} later;

static void do_cancel(void *arg)
{
	later *l = arg;
	l->left = kvt_network_cancel(l->w->network, l->j->flow);
}

static void do_set_rate(void *arg)
{
	later *l = arg;
	kvt_network_set_rate(l->w->network, l->link, l->rate);
}

static void do_start(void *arg)
{
	later *l = arg;
	job_start(l->w, l->j, l->spec);
}

static void test_cancel(void)
{
	world w = world_new();
	kvt_link a = kvt_network_add_link(w.network, "a", 2e9);
	job stays = { 0 }, goes = { 0 };
	kvt_flow_spec spec = { .path = { a }, .path_length = 1, .bytes = 4000000 };
	job_start(&w, &stays, spec);
	job_start(&w, &goes, spec);
	later cancel = { .w = &w, .j = &goes };
	kvt_loop_at(w.loop, KVT_MILLISECOND + 500, do_cancel, &cancel);
	kvt_loop_run(w.loop);
	g_assert_cmpuint(goes.calls, ==, 0);
	/* 1,000,000.5 bytes have moved: the half byte counts as not moved. */
	g_assert_cmpuint(cancel.left, ==, 3000000);
	g_assert_cmpint(stays.ended, ==, 2500000250);
	g_assert_cmpfloat(kvt_network_link_stats(w.network, a).bytes, ==, 5000000);
	/* Handles of what has ended, or never was, are harmless, also when their slot is in use. */
	job again = { 0 };
	job_start(&w, &again, spec);
	g_assert_cmpuint(kvt_network_cancel(w.network, goes.flow), ==, 0);
	g_assert_cmpuint(kvt_network_cancel(w.network, stays.flow), ==, 0);
	g_assert_cmpuint(kvt_network_cancel(w.network, 0), ==, 0);
	g_assert_cmpuint(kvt_network_cancel(w.network, UINT64_MAX), ==, 0);
	g_assert_cmpfloat(kvt_network_flow_rate(w.network, goes.flow), ==, 0);
	g_assert_cmpfloat(kvt_network_flow_rate(w.network, again.flow), ==, 2e9);
	g_assert_cmpuint(kvt_network_cancel(w.network, again.flow), ==, 4000000);
	kvt_loop_run(w.loop);
	g_assert_cmpuint(again.calls, ==, 0);
	kvt_network_stats s = kvt_network_get_stats(w.network);
	g_assert_cmpuint(s.started, ==, 3);
	g_assert_cmpuint(s.finished, ==, 1);
	g_assert_cmpuint(s.cancelled, ==, 2);
	world_free(&w);
}

typedef struct pair {
	job self; /* first: on_done takes it */
	kvt_flow other;
	uint64_t left;
} pair;

static void cancel_other(void *arg)
{
	pair *p = arg;
	on_done(&p->self);
	p->left = kvt_network_cancel(p->self.w->network, p->other);
}

/* A done may stop a flow that is due at the same time: its bytes have moved, its done never runs.
 */
static void test_cancel_due(void)
{
	world w = world_new();
	kvt_link a = kvt_network_add_link(w.network, "a", 1e9);
	pair first = { .self = { .w = &w }, .left = 77 };
	job second = { 0 };
	kvt_flow_spec spec = {
		.path = { a }, .path_length = 1, .bytes = 1000, .done = cancel_other, .arg = &first
	};
	first.self.flow = kvt_network_start(w.network, &spec);
	job_start(&w, &second, spec);
	first.other = second.flow;
	kvt_loop_run(w.loop);
	g_assert_cmpuint(first.self.calls, ==, 1);
	g_assert_cmpuint(first.left, ==, 0);
	g_assert_cmpuint(second.calls, ==, 0);
	g_assert_cmpfloat(kvt_network_link_stats(w.network, a).bytes, ==, 2000);
	world_free(&w);
}

static void test_link_rate_changes(void)
{
	world w = world_new();
	kvt_link a = kvt_network_add_link(w.network, "a", 2e9);
	kvt_link b = kvt_network_add_link(w.network, "b", 4e9);
	job j = { 0 };
	job_start(&w, &j, (kvt_flow_spec){ .path = { a, b }, .path_length = 2, .bytes = 10000000 });
	later changes[] = {
		{ .w = &w, .link = a, .rate = 8e9 }, /* b limits: 4 GB/s */
		{ .w = &w, .link = b, .rate = 1e9 },
		{ .w = &w, .link = a, .rate = 0 },
		{ .w = &w, .link = a, .rate = 16e9 },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(changes); i++)
		kvt_loop_at(w.loop, (i + 1) * KVT_MILLISECOND, do_set_rate, &changes[i]);
	kvt_loop_run(w.loop);
	/* 2 + 4 + 1 + 0 MB in the first 4 ms, then 3 MB at 1 GB/s. */
	g_assert_cmpint(j.ended, ==, 7 * KVT_MILLISECOND);
	g_assert_cmpfloat(kvt_network_link_stats(w.network, b).bytes, ==, 1e7);
	g_assert_cmpint(kvt_network_link_stats(w.network, b).busy, ==, 7 * KVT_MILLISECOND);
	world_free(&w);
}

/* Many that start and end together are shared once, and end in the order they were started. */
static void test_same_instant(void)
{
	enum { JOBS = 1000 };
	world w = world_new();
	kvt_link a = kvt_network_add_link(w.network, "a", 1e9);
	kvt_link b = kvt_network_add_link(w.network, "b", 5e9);
	g_autofree job *jobs = g_new0(job, JOBS);
	unsigned counter = 0;
	kvt_flow_spec spec = { .path = { a, b }, .path_length = 2, .bytes = 10000 };
	for (unsigned i = 0; i < JOBS; i++) {
		jobs[i].counter = &counter;
		job_start(&w, &jobs[i], spec);
	}
	kvt_loop_run(w.loop);
	for (unsigned i = 0; i < JOBS; i++) {
		g_assert_cmpuint(jobs[i].calls, ==, 1);
		g_assert_cmpuint(jobs[i].order, ==, i);
		g_assert_cmpint(jobs[i].ended, ==, jobs[0].ended);
	}
	/* 1e9 / 1000 is exact, and so is the time. */
	g_assert_cmpint(jobs[0].ended, ==, 10 * KVT_MILLISECOND);
	g_assert_cmpuint(kvt_network_get_stats(w.network).shares, ==, 1);
	world_free(&w);
}

typedef struct chain {
	job self;
	kvt_flow_spec spec;
	unsigned left, events_between;
} chain;

static void count_event(void *arg)
{
	(*(unsigned *)arg)++;
}

static void next_in_chain(void *arg)
{
	chain *c = arg;
	on_done(&c->self);
	if (c->left-- > 1) {
		kvt_loop_at(c->self.w->loop, c->self.ended, count_event, &c->events_between);
		kvt_network_start(c->self.w->network, &c->spec);
	}
}

/* A flow of no bytes that a done starts ends after what was scheduled for this time before it. */
static void test_chain_of_empty(void)
{
	world w = world_new();
	chain c = { .self = { .w = &w }, .left = 5 };
	c.spec = (kvt_flow_spec){ .done = next_in_chain, .arg = &c };
	kvt_network_start(w.network, &c.spec);
	kvt_loop_run(w.loop);
	g_assert_cmpuint(c.self.calls, ==, 5);
	g_assert_cmpuint(c.events_between, ==, 4);
	g_assert_cmpint(kvt_loop_now(w.loop), ==, 0);
	world_free(&w);
}

/* A class is served before the next; the starved one moves nothing and goes on afterwards. */
static void test_priority_in_time(void)
{
	world w = world_new();
	kvt_link a = kvt_network_add_link(w.network, "a", 1e9);
	job low = { 0 }, high = { 0 };
	kvt_flow_spec spec = { .path = { a }, .path_length = 1, .bytes = 3000, .priority = 3 };
	job_start(&w, &low, spec);
	spec.priority = 0;
	spec.bytes = 1000;
	later start = { .w = &w, .j = &high, .spec = spec };
	kvt_loop_at(w.loop, KVT_MICROSECOND, do_start, &start);
	kvt_loop_run(w.loop);
	g_assert_cmpint(high.ended, ==, 2 * KVT_MICROSECOND);
	g_assert_cmpint(low.ended, ==, 4 * KVT_MICROSECOND);
	world_free(&w);
}

typedef struct flicker {
	const world *w;
	kvt_rng rng;
	kvt_link link;
	unsigned left;
	kvt_time last;
	uint64_t rate;
	__int128 moved; /* picobytes, exact */
} flicker;

static void on_flicker(void *arg)
{
	flicker *f = arg;
	kvt_time now = kvt_loop_now(f->w->loop);
	f->moved += (__int128)f->rate * (now - f->last);
	f->last = now;
	if (f->left-- == 0)
		return;
	f->rate = 1000000000 + kvt_rng_below(&f->rng, 1000000007);
	kvt_network_set_rate(f->w->network, f->link, (double)f->rate);
	kvt_loop_after(
		f->w->loop, (kvt_time)(1 + kvt_rng_below(&f->rng, KVT_MICROSECOND)), on_flicker, f);
}

/* A long flow whose rate changes a million times ends when exact arithmetic says. */
static void test_no_drift(void)
{
	world w = world_new();
	flicker f = { .w = &w, .rng = kvt_rng_init(1, 2), .left = 1000000, .rate = 1500000000 };
	f.link = kvt_network_add_link(w.network, "a", 1.5e9);
	job j = { 0 };
	uint64_t bytes = 1500000000; /* about twice what moves while the rate flickers */
	job_start(&w, &j, (kvt_flow_spec){ .path = { f.link }, .path_length = 1, .bytes = bytes });
	on_flicker(&f);
	kvt_loop_run(w.loop);
	__int128 left = (__int128)bytes * KVT_SECOND - f.moved;
	g_assert_true(left > 0);
	kvt_time exact = f.last + (kvt_time)((left + (__int128)f.rate - 1) / (__int128)f.rate);
	g_assert_cmpuint(kvt_network_get_stats(w.network).shares, >=, 999000);
	g_assert_cmpfloat(fabs((double)(j.ended - exact)), <, 1e-12 * (double)exact);
	world_free(&w);
}

enum { RUN_LINKS = 12, RUN_JOBS = 20000 };

typedef struct random_run {
	world w;
	kvt_rng rng;
	job *jobs;
	kvt_flow_spec *specs;
	uint64_t *unmoved;
	unsigned started, counter;
} random_run;

static void random_arrival(void *arg)
{
	random_run *r = arg;
	unsigned i = r->started++;
	kvt_flow_spec *s = &r->specs[i];
	unsigned first = (unsigned)kvt_rng_below(&r->rng, RUN_LINKS);
	s->path_length = (unsigned)kvt_rng_below(&r->rng, 4);
	for (unsigned hop = 0; hop < s->path_length; hop++) {
		s->path[hop] = (first + hop * 5) % RUN_LINKS;
		s->cost[hop] = kvt_rng_below(&r->rng, 3) ? 0 : 0.5 + kvt_rng_uniform(&r->rng);
	}
	s->bytes = kvt_rng_below(&r->rng, 10) ? kvt_rng_below(&r->rng, 1000000) : 0;
	s->weight = kvt_rng_below(&r->rng, 2) ? 0 : 0.25 + 3 * kvt_rng_uniform(&r->rng);
	s->priority = (unsigned)kvt_rng_below(&r->rng, 5) / 2;
	s->max_rate = kvt_rng_below(&r->rng, 4) ? 0 : 3e8 * (1 + kvt_rng_uniform(&r->rng));
	s->reserved_rate = kvt_rng_below(&r->rng, 8) ? 0 : 2e8 * kvt_rng_uniform(&r->rng);
	r->jobs[i].counter = &r->counter;
	job_start(&r->w, &r->jobs[i], *s);
	if (kvt_rng_below(&r->rng, 10) == 0) {
		unsigned victim = i - (unsigned)kvt_rng_below(&r->rng, MIN(i + 1, 8));
		bool ended = r->jobs[victim].calls > 0 || r->unmoved[victim] != UINT64_MAX;
		uint64_t left = kvt_network_cancel(r->w.network, r->jobs[victim].flow);
		if (!ended)
			r->unmoved[victim] = left;
		else
			g_assert_cmpuint(left, ==, 0);
	}
	if (kvt_rng_below(&r->rng, 50) == 0)
		kvt_network_set_rate(r->w.network, (kvt_link)kvt_rng_below(&r->rng, RUN_LINKS),
			5e8 + 2e9 * kvt_rng_uniform(&r->rng));
	if (r->started < RUN_JOBS)
		kvt_loop_after(r->w.loop,
			(kvt_time)kvt_rng_exponential(&r->rng, 0.25 * KVT_MILLISECOND),
			random_arrival, r);
}

static void random_run_go(random_run *r, uint64_t seed)
{
	*r = (random_run){ .w = world_new(), .rng = kvt_rng_init(seed, 7) };
	r->jobs = g_new0(job, RUN_JOBS);
	r->specs = g_new0(kvt_flow_spec, RUN_JOBS);
	r->unmoved = g_new(uint64_t, RUN_JOBS);
	for (unsigned i = 0; i < RUN_JOBS; i++)
		r->unmoved[i] = UINT64_MAX;
	for (unsigned l = 0; l < RUN_LINKS; l++)
		kvt_network_add_link(r->w.network, "l", 2e9);
	random_arrival(r);
	kvt_loop_run(r->w.loop);
}

static void random_run_clear(random_run *r)
{
	world_free(&r->w);
	g_free(r->jobs);
	g_free(r->specs);
	g_free(r->unmoved);
}

/* Every flow ends once or is cancelled, no sooner than its links allow; each link has moved exactly
 * the bytes of its flows. */
static void test_conservation(void)
{
	random_run r;
	random_run_go(&r, 3);
	uint64_t bytes[RUN_LINKS] = { 0 };
	double units[RUN_LINKS] = { 0 };
	unsigned cancelled = 0, together = 0;
	for (unsigned i = 0; i < RUN_JOBS; i++) {
		const job *j = &r.jobs[i];
		const kvt_flow_spec *s = &r.specs[i];
		bool stopped = r.unmoved[i] != UINT64_MAX;
		cancelled += stopped;
		g_assert_cmpuint(j->calls, ==, stopped ? 0 : 1);
		uint64_t moved = s->bytes - (stopped ? r.unmoved[i] : 0);
		g_assert_cmpuint(moved, <=, s->bytes);
		double highest = s->max_rate > 0 ? s->max_rate : INFINITY;
		for (unsigned hop = 0; hop < s->path_length; hop++) {
			double cost = s->cost[hop] > 0 ? s->cost[hop] : 1;
			bytes[s->path[hop]] += moved;
			units[s->path[hop]] += cost * (double)moved;
			highest = MIN(highest, 2.5e9 / cost);
		}
		if (stopped)
			continue;
		g_assert_cmpint(j->ended - j->started, >=, kvt_time_for_bytes(s->bytes, highest));
		together += j->ended > j->started + 2 * kvt_time_for_bytes(s->bytes, highest);
	}
	g_assert_cmpuint(cancelled, >, RUN_JOBS / 50);
	g_assert_cmpuint(together, >, RUN_JOBS / 10); /* they did contend */
	for (unsigned l = 0; l < RUN_LINKS; l++) {
		kvt_link_stats s = kvt_network_link_stats(r.w.network, l);
		g_assert_cmpfloat(s.bytes, ==, (double)bytes[l]);
		g_assert_cmpfloat_with_epsilon(s.busy_units, units[l], 1e-9 * units[l]);
		g_assert_cmpfloat(s.busy_units, <, 2.5e9 * kvt_time_to_seconds(s.busy));
	}
	random_run_clear(&r);
}

/* The same run again, on another heap, ends every flow at the same time and in the same order. */
static void test_determinism(void)
{
	random_run a, b;
	random_run_go(&a, 4);
	g_autofree void *shift = g_malloc(12345);
	g_assert_nonnull(shift);
	random_run_go(&b, 4);
	for (unsigned i = 0; i < RUN_JOBS; i++) {
		g_assert_cmpint(a.jobs[i].ended, ==, b.jobs[i].ended);
		g_assert_cmpuint(a.jobs[i].order, ==, b.jobs[i].order);
		g_assert_cmpuint(a.unmoved[i], ==, b.unmoved[i]);
	}
	random_run_clear(&a);
	random_run_clear(&b);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/bandwidth/alone", test_alone);
	g_test_add_func("/bandwidth/degenerate", test_degenerate);
	g_test_add_func("/bandwidth/left", test_left);
	g_test_add_func("/bandwidth/two-share", test_two_share);
	g_test_add_func("/bandwidth/cost", test_cost);
	g_test_add_func("/bandwidth/cancel", test_cancel);
	g_test_add_func("/bandwidth/cancel-due", test_cancel_due);
	g_test_add_func("/bandwidth/link-rate-changes", test_link_rate_changes);
	g_test_add_func("/bandwidth/same-instant", test_same_instant);
	g_test_add_func("/bandwidth/chain-of-empty", test_chain_of_empty);
	g_test_add_func("/bandwidth/priority-in-time", test_priority_in_time);
	g_test_add_func("/bandwidth/no-drift", test_no_drift);
	g_test_add_func("/bandwidth/conservation", test_conservation);
	g_test_add_func("/bandwidth/determinism", test_determinism);
	return g_test_run();
}
