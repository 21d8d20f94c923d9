/*
 * test_queueing.c: a single server simulated on the virtual loop, against queueing theory: mean
 * waits of M/M/1 and M/D/1 (Pollaczek-Khinchine), the share of customers that wait, and Little's
 * law, which holds to the picosecond on every run that ends empty.
 */
#include <glib.h>
#include <math.h>

#include "sim/base/rng.h"
#include "sim/core/loop.h"

enum { N_BATCHES = 40, BATCH = 8000, N_CUSTOMERS = N_BATCHES * BATCH, WARM_UP = 4000 };

/* 99.9% of Student's t with 39 degrees of freedom, two-sided. */
static const double t_value = 3.558;
static const double mean_service = 1e9; /* ps */

typedef struct server {
	kvt_loop *loop;
	kvt_rng arrivals, services;
	double mean_gap;
	bool fixed_service;
	kvt_time *arrived; /* of each customer, in order of arrival */
	unsigned n_arrived, n_served, n_waited;
	bool busy;
	double batch_wait[N_BATCHES];
	kvt_time total_wait;  /* of all customers, warm-up too */
	kvt_time area;        /* customers waiting x time */
	kvt_time area_before; /* when `area` was brought up to date */
} server;

static void end_service(void *arg);

static unsigned n_waiting(const server *s)
{
	return s->n_arrived - s->n_served - (s->busy ? 1 : 0);
}

/* To be called before the number of customers that wait changes. */
static void count_area(server *s)
{
	kvt_time now = kvt_loop_now(s->loop);
	s->area += (now - s->area_before) * n_waiting(s);
	s->area_before = now;
}

static void begin_service(server *s)
{
	unsigned customer = s->n_served;
	kvt_time wait = kvt_loop_now(s->loop) - s->arrived[customer];
	count_area(s);
	s->busy = true;
	s->total_wait += wait;
	if (customer >= WARM_UP) {
		s->batch_wait[(customer - WARM_UP) / BATCH] += (double)wait / BATCH;
		s->n_waited += wait > 0;
	}
	double service =
		s->fixed_service ? mean_service : kvt_rng_exponential(&s->services, mean_service);
	kvt_loop_after(s->loop, llrint(service), end_service, s);
}

static void end_service(void *arg)
{
	server *s = arg;
	count_area(s);
	s->busy = false;
	s->n_served++;
	if (s->n_served < s->n_arrived)
		begin_service(s);
}

static void arrive(void *arg)
{
	server *s = arg;
	count_area(s);
	s->arrived[s->n_arrived++] = kvt_loop_now(s->loop);
	if (!s->busy)
		begin_service(s);
	if (s->n_arrived < N_CUSTOMERS + WARM_UP)
		kvt_loop_after(
			s->loop, llrint(kvt_rng_exponential(&s->arrivals, s->mean_gap)), arrive, s);
}

/* Mean and half the width of its 99.9% confidence interval, by the means of batches. */
static void batch_means(const double *batches, double *mean, double *half_width)
{
	double sum = 0.0, squares = 0.0;
	for (int i = 0; i < N_BATCHES; i++)
		sum += batches[i];
	*mean = sum / N_BATCHES;
	for (int i = 0; i < N_BATCHES; i++)
		squares += (batches[i] - *mean) * (batches[i] - *mean);
	*half_width = t_value * sqrt(squares / (N_BATCHES - 1) / N_BATCHES);
}

static void check_server(double load, bool fixed_service, uint64_t seed)
{
	server s = { .loop = kvt_virtual_loop_new(), .fixed_service = fixed_service };
	s.mean_gap = mean_service / load;
	s.arrivals = kvt_rng_init(seed, kvt_rng_stream_id("test.arrivals", 0));
	s.services = kvt_rng_init(seed, kvt_rng_stream_id("test.services", 0));
	s.arrived = g_new(kvt_time, N_CUSTOMERS + WARM_UP);
	kvt_loop_at(s.loop, 0, arrive, &s);
	/* One event for each arrival, one for each end of service. */
	g_assert_cmpuint(kvt_loop_run(s.loop), ==, 2 * (N_CUSTOMERS + WARM_UP));
	g_assert_cmpuint(s.n_served, ==, N_CUSTOMERS + WARM_UP);
	g_assert_cmpint(s.area, ==, s.total_wait);

	double wait, half_width;
	batch_means(s.batch_wait, &wait, &half_width);
	double theory = load * mean_service / (1.0 - load) * (fixed_service ? 0.5 : 1.0);
	double share = (double)s.n_waited / N_CUSTOMERS;
	g_test_message("%s load %.2f: wait %.4f +- %.4f services, theory %.4f; %.3f wait",
		fixed_service ? "M/D/1" : "M/M/1", load, wait / mean_service,
		half_width / mean_service, theory / mean_service, share);
	g_assert_cmpfloat(fabs(wait - theory), <, half_width);
	/* The interval has to be narrow enough to tell M/D/1 from M/M/1 and one load from another.
	 */
	g_assert_cmpfloat(half_width, <, 0.12 * theory);
	g_assert_cmpfloat_with_epsilon(share, load, 0.02);
	g_free(s.arrived);
	kvt_loop_free(s.loop);
}

static void test_mm1(void)
{
	check_server(0.2, false, 1);
	check_server(0.5, false, 2);
	check_server(0.8, false, 3);
}

static void test_md1(void)
{
	check_server(0.2, true, 4);
	check_server(0.5, true, 5);
	check_server(0.8, true, 6);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/queueing/mm1", test_mm1);
	g_test_add_func("/queueing/md1", test_md1);
	return g_test_run();
}
