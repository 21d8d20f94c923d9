/*
 * test_processor_sharing.c: a shared link as a queue: response times against the theory of
 * processor sharing, and what more bandwidth is sure to do.
 */
#include <glib.h>
#include <math.h>

#include "sim/base/rng.h"
#include "sim/core/bandwidth.h"

enum { BATCHES = 40, BATCH_JOBS = 10000, WARM_UP = 20000 };

static const double LINK_RATE = 1e10;
static const double MEAN_BYTES = 1e7; /* S = 1 ms */

typedef enum sizes { EXPONENTIAL, CONSTANT, TWO_SIZES } sizes;

typedef struct queue {
	kvt_loop *loop;
	kvt_network *network;
	kvt_rng arrivals, bytes;
	sizes sizes;
	double mean_gap;
	unsigned started, ended;
	double sums[BATCHES]; /* of response times, s */
} queue;

typedef struct customer {
	queue *q;
	unsigned number;
	kvt_time arrival;
} customer;

static void on_departure(void *arg)
{
	customer *c = arg;
	queue *q = c->q;
	if (c->number >= WARM_UP)
		q->sums[(c->number - WARM_UP) / BATCH_JOBS] +=
			kvt_time_to_seconds(kvt_loop_now(q->loop) - c->arrival);
	q->ended++;
	g_free(c);
}

static double draw_bytes(queue *q)
{
	if (q->sizes == CONSTANT)
		return MEAN_BYTES;
	if (q->sizes == EXPONENTIAL)
		return kvt_rng_exponential(&q->bytes, MEAN_BYTES);
	return kvt_rng_uniform(&q->bytes) < 0.8 ? MEAN_BYTES / 2 : MEAN_BYTES * 3;
}

static void on_arrival(void *arg)
{
	queue *q = arg;
	if (q->started == WARM_UP + BATCHES * BATCH_JOBS)
		return;
	customer *c = g_new(customer, 1);
	*c = (customer){ .q = q, .number = q->started++, .arrival = kvt_loop_now(q->loop) };
	kvt_network_start(q->network, &(kvt_flow_spec){ .path_length = 1,
					      .bytes = (uint64_t)ceil(draw_bytes(q)),
					      .done = on_departure,
					      .arg = c });
	kvt_loop_after(q->loop,
		kvt_time_from_seconds(kvt_rng_exponential(&q->arrivals, q->mean_gap)), on_arrival,
		q);
}

/*
 * The mean response of M/G/1 processor sharing is S / (1 - rho) whatever the sizes are distributed
 * like (Kleinrock, Queueing Systems II, 4.4). Batch means, 3.5 standard errors.
 */
static void check_response(double load, sizes kind, uint64_t seed)
{
	queue q = { .loop = kvt_virtual_loop_new(), .sizes = kind };
	q.network = kvt_network_new(q.loop);
	q.arrivals = kvt_rng_init(seed, 1);
	q.bytes = kvt_rng_init(seed, 2);
	q.mean_gap = MEAN_BYTES / LINK_RATE / load;
	kvt_link l = kvt_network_add_link(q.network, "link", LINK_RATE);
	on_arrival(&q);
	kvt_loop_run(q.loop);
	g_assert_cmpuint(q.ended, ==, q.started);

	double mean = 0, variance = 0;
	for (unsigned b = 0; b < BATCHES; b++)
		mean += q.sums[b] / BATCH_JOBS / BATCHES;
	for (unsigned b = 0; b < BATCHES; b++)
		variance += pow(q.sums[b] / BATCH_JOBS - mean, 2) / (BATCHES - 1);
	double margin = 3.5 * sqrt(variance / BATCHES);
	double expected = MEAN_BYTES / LINK_RATE / (1 - load);
	g_test_message("load %.2f, sizes %d: %.5f ms, expected %.5f, margin %.5f", load, kind,
		mean * 1e3, expected * 1e3, margin * 1e3);
	g_assert_cmpfloat(margin, <, 0.05 * expected);
	g_assert_cmpfloat(fabs(mean - expected), <, margin);
	double utilisation = kvt_time_to_seconds(kvt_network_link_stats(q.network, l).busy) /
			     kvt_time_to_seconds(kvt_loop_now(q.loop));
	g_assert_cmpfloat_with_epsilon(utilisation, load, 0.01);
	kvt_network_free(q.network);
	kvt_loop_free(q.loop);
}

static void test_exponential(void)
{
	check_response(0.5, EXPONENTIAL, 1);
	check_response(0.8, EXPONENTIAL, 2);
}

static void test_constant(void)
{
	check_response(0.7, CONSTANT, 3);
}

static void test_two_sizes(void)
{
	check_response(0.7, TWO_SIZES, 4);
}

enum { FLOWS = 30 };

typedef struct ending {
	kvt_loop *loop;
	kvt_time time;
} ending;

static void on_end(void *arg)
{
	ending *e = arg;
	e->time = kvt_loop_now(e->loop);
}

typedef struct arrival {
	kvt_network *network;
	const kvt_flow_spec *spec;
} arrival;

static void start_flow(void *arg)
{
	const arrival *a = arg;
	kvt_network_start(a->network, a->spec);
}

/* Runs flows that arrive at `at` over link 0 and, each, a link of its own. */
static void run_flows(const double *rates, const kvt_time *at, kvt_flow_spec *specs, ending *ends)
{
	kvt_loop *loop = kvt_virtual_loop_new();
	kvt_network *n = kvt_network_new(loop);
	arrival arrivals[FLOWS];
	for (unsigned l = 0; l <= FLOWS; l++)
		kvt_network_add_link(n, "l", rates[l]);
	for (unsigned f = 0; f < FLOWS; f++) {
		ends[f] = (ending){ .loop = loop };
		specs[f].done = on_end;
		specs[f].arg = &ends[f];
		arrivals[f] = (arrival){ n, &specs[f] };
		kvt_loop_at(loop, at[f], start_flow, &arrivals[f]);
	}
	kvt_loop_run(loop);
	kvt_network_free(n);
	kvt_loop_free(loop);
}

/*
 * Flows that share one link, each behind a link or cap of its own, of any weights and classes: a
 * faster shared link makes no flow end later. (Once one flow is gone, or the link is faster, the
 * level of every other is at least as high: rates only rise.) The margin is for rounding up to
 * picoseconds, once a flow.
 */
static void test_faster_shared_link(void)
{
	kvt_rng rng = kvt_rng_init(5, 0);
	for (unsigned round = 0; round < 300; round++) {
		double rates[FLOWS + 1];
		kvt_time at[FLOWS];
		kvt_flow_spec specs[FLOWS];
		ending slow[FLOWS], fast[FLOWS];
		rates[0] = 1e9 * (0.2 + kvt_rng_uniform(&rng));
		for (unsigned f = 0; f < FLOWS; f++) {
			rates[f + 1] = 1e8 * (0.2 + 5 * kvt_rng_uniform(&rng));
			at[f] = (kvt_time)kvt_rng_below(&rng, 10 * KVT_MILLISECOND);
			specs[f] = (kvt_flow_spec){ .path = { 0, f + 1 },
				.path_length = 2,
				.bytes = kvt_rng_below(&rng, 2000000),
				.weight = round % 2 ? 0 : 0.1 + kvt_rng_uniform(&rng),
				.priority = round % 3 ? 0 : (unsigned)kvt_rng_below(&rng, 4),
				.max_rate = round % 5 ? 0 : 3e8 * kvt_rng_uniform(&rng) };
		}
		run_flows(rates, at, specs, slow);
		rates[0] *= 1 + kvt_rng_uniform(&rng);
		run_flows(rates, at, specs, fast);
		for (unsigned f = 0; f < FLOWS; f++)
			g_assert_cmpint(fast[f].time, <=, slow[f].time + FLOWS);
	}
}

/*
 * A faster link of one flow may make another end later, and even the last one: fairness is not
 * monotone there. Two flows share 2 GB/s; the first has 10 MB, the second 30 MB and at most 1.5
 * GB/s. While the first can take only 0.5 GB/s both end at 20 ms; when it can take 1 GB/s it ends
 * at 10 ms, and the second has 20 MB left then.
 */
static void test_faster_private_link(void)
{
	double rates[FLOWS + 1];
	kvt_time at[FLOWS] = { 0 };
	kvt_flow_spec specs[FLOWS] = {
		{ .path = { 0, 1 }, .path_length = 2, .bytes = 10000000 },
		{ .path = { 0, 2 }, .path_length = 2, .bytes = 30000000 },
	};
	ending ends[FLOWS];
	for (unsigned l = 0; l <= FLOWS; l++)
		rates[l] = 1e9;
	rates[0] = 2e9;
	rates[1] = 0.5e9;
	rates[2] = 1.5e9;
	run_flows(rates, at, specs, ends);
	g_assert_cmpint(ends[0].time, ==, 20 * KVT_MILLISECOND);
	g_assert_cmpint(ends[1].time, ==, 20 * KVT_MILLISECOND);
	rates[1] = 1e9;
	run_flows(rates, at, specs, ends);
	g_assert_cmpint(ends[0].time, ==, 10 * KVT_MILLISECOND);
	g_assert_cmpint(ends[1].time, ==, 23333333334);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/processor-sharing/exponential", test_exponential);
	g_test_add_func("/processor-sharing/constant", test_constant);
	g_test_add_func("/processor-sharing/two-sizes", test_two_sizes);
	g_test_add_func("/processor-sharing/faster-shared-link", test_faster_shared_link);
	g_test_add_func("/processor-sharing/faster-private-link", test_faster_private_link);
	return g_test_run();
}
