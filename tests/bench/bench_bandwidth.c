/*
 * bench_bandwidth.c: flows started and finished a second, on one core. Each line is also a ratio to
 * the events a second of a bare loop in the same run: what a flow costs in units of an event, which
 * a faster or busier machine does not change.
 */
#include <glib.h>
#include <stdio.h>

#include "sim/base/rng.h"
#include "sim/core/bandwidth.h"

typedef struct bench {
	kvt_loop *loop;
	kvt_network *network;
	kvt_rng rng;
	uint64_t left;
	unsigned n_links; /* choices of the random path; 0: a fixed path */
	kvt_flow_spec spec;
} bench;

typedef struct slot {
	bench *b;
	kvt_flow_spec spec;
} slot;

static double seconds(void)
{
	return (double)g_get_monotonic_time() * 1e-6;
}

static void on_event(void *arg)
{
	bench *b = arg;
	if (b->left > 0) {
		b->left--;
		kvt_loop_after(b->loop, 1000, on_event, b);
	}
}

/* Events a second of the loop with one pending. */
static double bare_loop(uint64_t events)
{
	bench b = { .loop = kvt_virtual_loop_new(), .left = events };
	double begin = seconds();
	on_event(&b);
	kvt_loop_run(b.loop);
	double rate = (double)events / (seconds() - begin);
	kvt_loop_free(b.loop);
	return rate;
}

/* Ends one flow and starts the next, so that as many are under way as there are slots. */
static void on_done(void *arg)
{
	slot *s = arg;
	bench *b = s->b;
	if (b->left == 0)
		return;
	b->left--;
	for (unsigned hop = 0; b->n_links > 0 && hop < s->spec.path_length; hop++)
		s->spec.path[hop] =
			(kvt_link)((b->n_links / s->spec.path_length) * hop +
				   kvt_rng_below(&b->rng, b->n_links / s->spec.path_length));
	s->spec.bytes = 1000 + kvt_rng_below(&b->rng, 1000000);
	kvt_network_start(b->network, &s->spec);
}

/* Flows a second with `slots` under way at a time. `groups` sets of links apart from one another,
 * of 5 each; every flow crosses all of its group. Or, of `n_links`, a random path of 2. */
static void measure(const char *what, double events, unsigned slots, unsigned groups,
	unsigned n_links, uint64_t flows)
{
	bench b = { .loop = kvt_virtual_loop_new(), .left = flows, .n_links = n_links };
	b.network = kvt_network_new(b.loop);
	b.rng = kvt_rng_init(1, 1);
	for (unsigned l = 0; l < MAX(groups * 5, n_links); l++)
		kvt_network_add_link(b.network, "l", 1e9 * (1 + kvt_rng_uniform(&b.rng)));
	g_autofree slot *s = g_new0(slot, slots);
	for (unsigned i = 0; i < slots; i++) {
		s[i].b = &b;
		s[i].spec.path_length = n_links > 0 ? 2 : 5;
		for (unsigned hop = 0; hop < 5 && groups > 0; hop++)
			s[i].spec.path[hop] = i % groups * 5 + hop;
		s[i].spec.done = on_done;
		s[i].spec.arg = &s[i];
	}
	double begin = seconds();
	for (unsigned i = 0; i < slots; i++)
		on_done(&s[i]);
	kvt_loop_run(b.loop);
	double rate = (double)flows / (seconds() - begin);
	kvt_network_stats stats = kvt_network_get_stats(b.network);
	printf("%-44s %10.0f flows/s %8.1f events a flow, %6.1f flows a share\n", what, rate,
		events / rate, (double)stats.shared_flows / (double)MAX(stats.shares, 1));
	kvt_network_free(b.network);
	kvt_loop_free(b.loop);
}

int main(void)
{
	double events = bare_loop(5000000);
	printf("%-44s %10.0f events/s\n", "bare loop, one event pending", events);
	measure("1 flow over 5 links", events, 1, 1, 0, 3000000);
	measure("2 flows over 5 links", events, 2, 1, 0, 1000000);
	measure("8 flows over 5 links", events, 8, 1, 0, 1000000);
	measure("64 flows over 5 links", events, 64, 1, 0, 100000);
	measure("10,000 flows, 1,000 links in 200 groups", events, 10000, 200, 0, 100000);
	measure("1,000 flows alone, 5,000 links", events, 1000, 1000, 0, 1000000);
	measure("1,000 flows, 1 component of 5 links", events, 1000, 1, 0, 10000);
	measure("1,000 flows, 1 component of 200 links", events, 1000, 0, 200, 10000);
	measure("1,000 flows, 1 component of 1,000 links", events, 1000, 0, 1000, 10000);
	return 0;
}
