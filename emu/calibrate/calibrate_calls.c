/* calibrate_calls.c: what a call to the device's threads takes beyond its work, and merges, by the
 * CPU device's own steps: the engine's loop, the pool, a post back. Threads are as they will be:
 * awake between the calls of a layer where they have processors of their own. */
#include <errno.h>

#include "emu/calibrate/calibration.h"
#include "emu/device/cpu_pool.h"
#include "emu/loop/real_loop.h"
#include "kernels/kernels.h"
#include "sim/base/error.h"

enum { ROUNDS = 100, QUICK_ROUNDS = 20, SIZES = 2, HEADS = 7, KV_HEADS = 4, DIM = 128 };

/* Query tokens of a merge: next to nothing, and enough to see how fast it goes. */
static const unsigned TOKENS[SIZES] = { 1, 64 };
/* From a call's end to the next timed one: less than what lies between most layers' calls. */
static const kvt_time PAUSE = 200 * KVT_MICROSECOND;

typedef struct calls {
	kvt_loop *loop;
	kvt_cpu_pool *pool;
	kvt_attention_partial so_far, part;
	unsigned size, round, rounds;
	bool merging;
	kvt_time from; /* when the call should have begun */
	int64_t nanoseconds;
	double beyond[2 * ROUNDS * SIZES];
	double seconds[SIZES][ROUNDS];
	unsigned n_beyond;
} calls;

static kvt_attention_partial rows_of(const kvt_attention_partial *partial, size_t row)
{
	return (kvt_attention_partial){ partial->output + row * DIM, partial->lse + row,
		partial->lse_rest + row };
}

/* Both as attention leaves them: written by whatever thread it was. */
static void fill_task(void *arg, unsigned index, unsigned thread)
{
	calls *c = arg;
	size_t rows = (size_t)TOKENS[c->size] * HEADS;
	(void)thread;
	for (unsigned i = 0; i < 2; i++) {
		kvt_attention_partial own = rows_of(i == 0 ? &c->so_far : &c->part, index * rows);
		for (size_t row = 0; row < rows; row++) {
			for (unsigned d = 0; d < DIM; d++)
				own.output[row * DIM + d] = (float)(d % 7) - 3;
			own.lse[row] = (float)i;
			own.lse_rest[row] = 0;
		}
	}
}

static void merge_task(void *arg, unsigned index, unsigned thread)
{
	calls *c = arg;
	size_t rows = (size_t)TOKENS[c->size] * HEADS;
	kvt_attention_partial into = rows_of(&c->so_far, index * rows);
	kvt_attention_partial from = rows_of(&c->part, index * rows);
	(void)thread;
	kvt_attention_merge(&into, &from, rows, DIM);
}

static void over(void *arg);

static void finish(void *arg, int64_t nanoseconds)
{
	calls *c = arg;
	c->nanoseconds = nanoseconds;
	kvt_real_loop_post(c->loop, over, c);
}

static void begin(void *arg)
{
	calls *c = arg;
	kvt_cpu_job job = { .task = c->merging ? merge_task : fill_task,
		.finish = finish,
		.arg = c,
		.n_tasks = KV_HEADS };
	kvt_real_loop_hold(c->loop);
	kvt_cpu_pool_begin(c->pool, &job);
}

/* A call behind a timer, as attention is, then a merge behind that. */
static void over(void *arg)
{
	calls *c = arg;
	kvt_time now = kvt_loop_now(c->loop);
	double took = (double)c->nanoseconds * 1e-9;
	kvt_real_loop_release(c->loop);
	c->beyond[c->n_beyond++] = MAX(kvt_time_to_seconds(now - c->from) - took, 1e-9);
	if (!c->merging) {
		c->merging = true;
		c->from = now;
		begin(c);
		return;
	}
	c->seconds[c->size][c->round] = took;
	c->merging = false;
	c->size = (c->size + 1) % SIZES;
	if (c->size == 0 && ++c->round == c->rounds)
		return;
	c->from = now + PAUSE;
	kvt_loop_at(c->loop, c->from, begin, c);
}

/* Median with quartiles. */
static kvt_measured middle(double *values, unsigned n)
{
	kvt_measured all = kvt_measured_of(values, n);
	return (kvt_measured){ all.value, values[n / 4], values[n - 1 - n / 4] };
}

static void evaluate(calls *c, kvt_calibration *calibration)
{
	const double more = (double)(TOKENS[1] - TOKENS[0]) * HEADS * KV_HEADS;
	double rates[ROUNDS];
	for (unsigned i = 0; i < c->rounds; i++)
		rates[i] = more * KVT_MERGE_BYTES(DIM) /
			   MAX(c->seconds[1][i] - c->seconds[0][i], 1e-7);
	calibration->host[KVT_HOST_CALL] = middle(c->beyond, c->n_beyond);
	calibration->host[KVT_HOST_START] = middle(c->seconds[0], c->rounds);
	calibration->host[KVT_HOST_MERGE] = middle(rates, c->rounds);
}

static void make_partial(kvt_attention_partial *partial)
{
	const size_t rows = (size_t)TOKENS[SIZES - 1] * HEADS * KV_HEADS;
	*partial = (kvt_attention_partial){ g_new0(float, rows *DIM), g_new0(float, rows),
		g_new0(float, rows) };
}

static void clear_partial(kvt_attention_partial *partial)
{
	g_free(partial->output);
	g_free(partial->lse);
	g_free(partial->lse_rest);
}

gboolean kvt_calibrate_calls(
	kvt_calibration *calibration, const kvt_calibrate_settings *settings, GError **error)
{
	unsigned compute = kvt_cores_compute(settings->place);
	unsigned threads = settings->threads > 0 ? settings->threads : compute;
	bool placed = threads <= compute && kvt_cores_place_engine(settings->place);
	const kvt_real_loop_settings spin = { .spin = placed ? KVT_SECOND : 0 };
	g_autofree calls *c = g_new0(calls, 1);
	c->rounds = settings->quick ? QUICK_ROUNDS : ROUNDS;
	c->loop = kvt_real_loop_new(&spin);
	gboolean good =
		c->loop || kvt_error_failed(error, "calibrate: no loop: %s", g_strerror(errno));
	c->pool = good ? kvt_cpu_pool_new(threads, error) : NULL;
	good = c->pool != NULL;
	if (good) {
		if (placed)
			kvt_cpu_pool_place(c->pool, settings->place);
		make_partial(&c->so_far);
		make_partial(&c->part);
		c->from = kvt_loop_now(c->loop) + PAUSE;
		kvt_loop_at(c->loop, c->from, begin, c);
		kvt_loop_run(c->loop);
		evaluate(c, calibration);
		clear_partial(&c->so_far);
		clear_partial(&c->part);
	}
	kvt_cpu_pool_free(c->pool);
	if (c->loop)
		kvt_loop_free(c->loop);
	kvt_cores_release(settings->place);
	return good;
}
