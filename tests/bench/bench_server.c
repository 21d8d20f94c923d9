/*
 * bench_server.c: jobs served a second on one core, and as a ratio to the events a second of a bare
 * loop in the same run, which a faster or busier machine does not change.
 */
#include <glib.h>
#include <stdio.h>

#include "sim/base/rng.h"
#include "sim/core/server.h"

typedef struct bench {
	kvt_loop *loop;
	kvt_server *server;
	kvt_rng rng;
	uint64_t left;
} bench;

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

static void on_done(void *arg)
{
	bench *b = arg;
	if (b->left == 0)
		return;
	b->left--;
	uint64_t random = kvt_rng_next(&b->rng);
	kvt_server_submit(b->server, (kvt_time)(random >> 44), random & 3, on_done, b);
}

/* Jobs a second with `jobs` about at a time. */
static void measure(double events, unsigned servers, unsigned jobs, uint64_t total)
{
	bench b = { .loop = kvt_virtual_loop_new(), .left = total, .rng = kvt_rng_init(1, 1) };
	b.server = kvt_server_new(b.loop, "bench", servers);
	double begin = seconds();
	for (unsigned i = 0; i < jobs; i++)
		on_done(&b);
	kvt_loop_run(b.loop);
	double rate = (double)total / (seconds() - begin);
	printf("%4u servers, %6u jobs about %12.0f jobs/s %6.1f events a job\n", servers, jobs,
		rate, events / rate);
	kvt_server_free(b.server);
	kvt_loop_free(b.loop);
}

int main(void)
{
	const uint64_t total = 3000000;
	bench b = { .loop = kvt_virtual_loop_new(), .left = total };
	double begin = seconds();
	on_event(&b);
	kvt_loop_run(b.loop);
	double events = (double)total / (seconds() - begin);
	kvt_loop_free(b.loop);
	printf("bare loop, one event pending   %12.0f events/s\n", events);
	measure(events, 1, 1, total);
	measure(events, 1, 32, total);
	measure(events, 64, 32, total);
	measure(events, 64, 10000, total);
	return 0;
}
