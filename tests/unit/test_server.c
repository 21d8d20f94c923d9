/* test_server.c: order, classes and handles of a server, and its waiting times against theory. */
#include <glib.h>
#include <math.h>

#include "sim/base/rng.h"
#include "sim/core/server.h"

typedef struct call {
	kvt_loop *loop;
	GString *log; /* letters of the jobs, as they end */
	char letter;
	kvt_time ended;
} call;

static void on_done(void *arg)
{
	call *c = arg;
	c->ended = kvt_loop_now(c->loop);
	g_string_append_c(c->log, c->letter);
}

/* Jobs A, B, ...: priority, service in ns; all submitted at 0. */
static void check_order(
	unsigned servers, const char *priorities, const kvt_time *ns, const char *expected)
{
	kvt_loop *loop = kvt_virtual_loop_new();
	kvt_server *s = kvt_server_new(loop, "s", servers);
	g_autoptr(GString) log = g_string_new(NULL);
	call calls[26];
	kvt_time total = 0;
	for (unsigned i = 0; priorities[i] != '\0'; i++) {
		calls[i] = (call){ loop, log, (char)('A' + i), 0 };
		kvt_server_submit(s, ns[i] * KVT_NANOSECOND, (unsigned)(priorities[i] - '0'),
			on_done, &calls[i]);
		total += ns[i];
	}
	g_assert_cmpuint(log->len, ==, 0); /* never inline */
	kvt_loop_run(loop);
	g_assert_cmpstr(log->str, ==, expected);
	kvt_server_stats stats = kvt_server_get_stats(s);
	g_assert_cmpfloat_with_epsilon(stats.busy_seconds, (double)total * 1e-9, 1e-18);
	g_assert_cmpuint(stats.finished, ==, log->len);
	g_assert_cmpuint(stats.serving + stats.waiting, ==, 0);
	kvt_server_free(s);
	kvt_loop_free(loop);
}

static void test_order(void)
{
	const kvt_time equal[] = { 5, 5, 5, 5, 5, 5 }, none[] = { 0, 0, 0, 0 };
	const kvt_time mixed[] = { 10, 4, 3, 2, 9 };
	check_order(1, "000000", equal, "ABCDEF");
	/* The first has begun, and is not interrupted. */
	check_order(1, "320100", equal, "ACEFDB");
	check_order(1, "2103", none, "ACBD");
	/* Two servers: B ends at 4, C at 7, D at 9, A at 10, E at 18. */
	check_order(2, "00000", mixed, "BCDAE");
	check_order(8, "00000", mixed, "DCBEA");
}

static void test_stats_and_handles(void)
{
	kvt_loop *loop = kvt_virtual_loop_new();
	kvt_server *s = kvt_server_new(loop, "disk", 2);
	g_autoptr(GString) log = g_string_new(NULL);
	call calls[5];
	kvt_job jobs[5];
	g_assert_null(kvt_server_waiting(s, 1));
	for (unsigned i = 0; i < 5; i++) {
		calls[i] = (call){ loop, log, (char)('A' + i), 0 };
		jobs[i] = kvt_server_submit(s, KVT_MICROSECOND, 1, on_done, &calls[i]);
		g_assert_cmpuint(jobs[i], !=, 0);
	}
	kvt_server_stats stats = kvt_server_get_stats(s);
	g_assert_cmpstr(stats.name, ==, "disk");
	g_assert_cmpuint(stats.serving, ==, 2);
	g_assert_cmpuint(stats.waiting, ==, 3);
	g_assert_false(kvt_server_cancel(s, jobs[0])); /* begun */
	g_assert_true(kvt_server_cancel(s, jobs[3]));
	g_assert_false(kvt_server_cancel(s, jobs[3]));
	g_assert_false(kvt_server_cancel(s, 0));
	g_assert_false(kvt_server_cancel(s, UINT64_MAX));
	/* The slot of what was cancelled is in use again; its old handle does not reach it. */
	kvt_job again = kvt_server_submit(s, KVT_MICROSECOND, 0, on_done, &calls[3]);
	g_assert_false(kvt_server_cancel(s, jobs[3]));
	g_assert_true(kvt_server_cancel(s, again));
	kvt_loop_run(loop);
	g_assert_cmpstr(log->str, ==, "ABCE");
	g_assert_cmpint(calls[4].ended, ==, 2 * KVT_MICROSECOND);
	g_assert_false(kvt_server_cancel(s, jobs[4]));
	stats = kvt_server_get_stats(s);
	g_assert_cmpuint(stats.submitted, ==, 6);
	g_assert_cmpuint(stats.finished, ==, 4);
	g_assert_cmpuint(stats.cancelled, ==, 2);
	g_assert_cmpuint(stats.waiting_max, ==, 3);
	const kvt_histogram *waited = kvt_server_waiting(s, 1);
	g_assert_cmpuint(waited->count, ==, 4);
	g_assert_cmpuint(waited->minimum, ==, 0);
	g_assert_cmpuint(waited->maximum, ==, KVT_MICROSECOND);
	g_assert_null(kvt_server_waiting(s, 0));
	/* Jobs that are about when it goes are dropped. */
	for (unsigned i = 0; i < 5; i++)
		kvt_server_submit(s, KVT_MICROSECOND, 1, on_done, &calls[i]);
	kvt_server_free(s);
	kvt_loop_run(loop);
	g_assert_cmpuint(log->len, ==, 4);
	kvt_loop_free(loop);
}

typedef struct resubmit {
	call self;
	kvt_server *server;
	unsigned left;
} resubmit;

static void submit_again(void *arg)
{
	resubmit *r = arg;
	on_done(&r->self);
	if (r->left-- > 1)
		kvt_server_submit(r->server, KVT_NANOSECOND, 0, submit_again, r);
}

/* What waits begins before a done can submit more: a chain does not lock the queue out. */
static void test_waiting_before_done(void)
{
	kvt_loop *loop = kvt_virtual_loop_new();
	kvt_server *s = kvt_server_new(loop, "s", 1);
	g_autoptr(GString) log = g_string_new(NULL);
	resubmit chain = { { loop, log, 'c', 0 }, s, 3 };
	call other = { loop, log, 'o', 0 };
	kvt_server_submit(s, KVT_NANOSECOND, 0, submit_again, &chain);
	kvt_server_submit(s, KVT_NANOSECOND, 3, on_done, &other);
	kvt_server_submit(s, KVT_NANOSECOND, 3, NULL, NULL);
	kvt_loop_run(loop);
	g_assert_cmpstr(log->str, ==, "cocc");
	g_assert_cmpint(kvt_loop_now(loop), ==, 5 * KVT_NANOSECOND);
	kvt_server_free(s);
	kvt_loop_free(loop);
}

enum { BATCHES = 40, BATCH_JOBS = 10000, WARM_UP = 20000, CLASSES = 2 };

static const double SERVICE = 1e-3; /* s */

typedef struct queue {
	kvt_loop *loop;
	kvt_server *server;
	kvt_rng arrivals, services, classes;
	double mean_gap;
	bool constant;
	double first_class; /* share of class 0 */
	unsigned submitted;
	double sums[CLASSES][BATCHES]; /* of responses, s, less service */
	unsigned counts[CLASSES][BATCHES];
} queue;

typedef struct customer {
	queue *q;
	unsigned number, priority;
	kvt_time arrival, service;
} customer;

static void on_departure(void *arg)
{
	customer *c = arg;
	queue *q = c->q;
	if (c->number >= WARM_UP) {
		unsigned batch = (c->number - WARM_UP) / BATCH_JOBS;
		kvt_time waited = kvt_loop_now(q->loop) - c->arrival - c->service;
		q->sums[c->priority][batch] += kvt_time_to_seconds(waited);
		q->counts[c->priority][batch]++;
	}
	g_free(c);
}

static void on_arrival(void *arg)
{
	queue *q = arg;
	if (q->submitted == WARM_UP + BATCHES * BATCH_JOBS)
		return;
	customer *c = g_new(customer, 1);
	double service = q->constant ? SERVICE : kvt_rng_exponential(&q->services, SERVICE);
	*c = (customer){ .q = q,
		.number = q->submitted++,
		.arrival = kvt_loop_now(q->loop),
		.priority = kvt_rng_uniform(&q->classes) < q->first_class ? 0 : 1,
		.service = kvt_time_from_seconds(service) };
	kvt_server_submit(q->server, c->service, c->priority, on_departure, c);
	kvt_loop_after(q->loop,
		kvt_time_from_seconds(kvt_rng_exponential(&q->arrivals, q->mean_gap)), on_arrival,
		q);
}

static queue queue_run(
	unsigned servers, double load, bool constant, double first_class, uint64_t seed)
{
	queue q = {
		.loop = kvt_virtual_loop_new(), .constant = constant, .first_class = first_class
	};
	q.server = kvt_server_new(q.loop, "queue", servers);
	q.arrivals = kvt_rng_init(seed, 1);
	q.services = kvt_rng_init(seed, 2);
	q.classes = kvt_rng_init(seed, 3);
	q.mean_gap = SERVICE / load / servers;
	on_arrival(&q);
	kvt_loop_run(q.loop);
	kvt_server_stats stats = kvt_server_get_stats(q.server);
	g_assert_cmpuint(stats.finished, ==, q.submitted);
	g_assert_cmpfloat_with_epsilon(
		stats.busy_seconds / servers / kvt_time_to_seconds(kvt_loop_now(q.loop)), load,
		0.01);
	return q;
}

static void queue_clear(queue *q)
{
	kvt_server_free(q->server);
	kvt_loop_free(q->loop);
}

/* The mean wait of a class is `expected` (s), by batch means within 3.5 standard errors. */
static void check_wait(const queue *q, unsigned priority, double expected)
{
	double mean = 0, variance = 0;
	for (unsigned b = 0; b < BATCHES; b++)
		mean += q->sums[priority][b] / q->counts[priority][b] / BATCHES;
	for (unsigned b = 0; b < BATCHES; b++)
		variance += pow(q->sums[priority][b] / q->counts[priority][b] - mean, 2) /
			    (BATCHES - 1);
	double margin = 3.5 * sqrt(variance / BATCHES);
	g_test_message("class %u: %.5f ms, expected %.5f, margin %.5f", priority, mean * 1e3,
		expected * 1e3, margin * 1e3);
	g_assert_cmpfloat(margin, <, 0.08 * expected);
	g_assert_cmpfloat(fabs(mean - expected), <, margin);
	/* The histogram saw the same, warm-up included. */
	double seen = kvt_histogram_mean(kvt_server_waiting(q->server, priority)) * 1e-12;
	g_assert_cmpfloat_with_epsilon(seen, mean, 0.05 * mean);
}

static void test_mm1(void)
{
	const double load = 0.7;
	queue q = queue_run(1, load, false, 1, 1);
	check_wait(&q, 0, load * SERVICE / (1 - load));
	/* P(wait > t) = load exp(-(1 - load) t / S): the 90th percentile, within the buckets'
	 * 1/32 and what the mean's margin allows. */
	double p90 = log(load / 0.1) * SERVICE / (1 - load);
	double seen = (double)kvt_histogram_quantile(kvt_server_waiting(q.server, 0), 0.9) * 1e-12;
	g_assert_cmpfloat_with_epsilon(seen, p90, 0.08 * p90);
	queue_clear(&q);
}

static void test_md1(void)
{
	const double load = 0.8;
	queue q = queue_run(1, load, true, 1, 2);
	check_wait(&q, 0, load * SERVICE / 2 / (1 - load));
	queue_clear(&q);
}

/* Erlang's C: the share that waits, times the mean wait of those. */
static void test_mm4(void)
{
	enum { SERVERS = 4 };
	const double load = 0.75, offered = SERVERS * load;
	double term = 1, sum = 0;
	for (unsigned i = 0; i < SERVERS; i++) {
		sum += term;
		term *= offered / (i + 1);
	}
	double wait_share = term / (1 - load) / (sum + term / (1 - load));
	queue q = queue_run(SERVERS, load, false, 1, 3);
	check_wait(&q, 0, wait_share * SERVICE / SERVERS / (1 - load));
	queue_clear(&q);
}

/* Cobham's formula for classes that do not interrupt one another: with W0 the mean rest of the job
 * being served, W0 / (1 - load0) and W0 / ((1 - load0) (1 - load)). */
static void test_two_classes(void)
{
	const double load = 0.7, load0 = 0.3 * load, rest = load * SERVICE;
	queue q = queue_run(1, load, false, 0.3, 4);
	check_wait(&q, 0, rest / (1 - load0));
	check_wait(&q, 1, rest / (1 - load0) / (1 - load));
	queue_clear(&q);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/server/order", test_order);
	g_test_add_func("/server/stats-and-handles", test_stats_and_handles);
	g_test_add_func("/server/waiting-before-done", test_waiting_before_done);
	g_test_add_func("/server/mm1", test_mm1);
	g_test_add_func("/server/md1", test_md1);
	g_test_add_func("/server/mm4", test_mm4);
	g_test_add_func("/server/two-classes", test_two_classes);
	return g_test_run();
}
