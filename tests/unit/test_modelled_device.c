/* test_modelled_device.c: what a card takes beyond its kernels' own times: launches, the thread
 * that submits, gaps in a stream, steps from one stream to another; and that all of it is nothing
 * where nothing was measured. */
#include "sim/engine/modelled_device.h"

#include "models/llm.h"

typedef struct bench {
	kvt_llm *llm;
	kvt_gpu *gpu;
	kvt_loop *loop;
	kvt_work_cost *cost;
	kvt_device *device;
	kvt_time heard;
} bench;

static void bench_init(bench *b, kvt_time launch, kvt_time submit, kvt_time gap, kvt_time hop)
{
	GError *error = NULL;
	*b = (bench){ .heard = -1 };
	b->llm = kvt_llm_load("qwen2.5-7b-instruct-1m", &error);
	g_assert_no_error(error);
	b->gpu = kvt_gpu_load("h200", &error);
	g_assert_no_error(error);
	b->gpu->launch_latency = launch;
	b->gpu->submit_time = submit;
	b->gpu->call_gap = gap;
	b->gpu->stream_latency = hop;
	b->loop = kvt_virtual_loop_new();
	const kvt_cost_options options = { .ranks = 4 };
	b->cost = kvt_work_cost_new(b->llm, b->gpu, &options, &error);
	g_assert_no_error(error);
	b->device = kvt_modelled_device_new(b->loop, b->cost, NULL);
}

static void bench_clear(bench *b)
{
	kvt_device_free(b->device);
	kvt_work_cost_free(b->cost);
	kvt_loop_free(b->loop);
	kvt_gpu_free(b->gpu);
	kvt_llm_free(b->llm);
}

static kvt_work work_of(kvt_work_kind kind)
{
	return (kvt_work){ .kind = kind,
		.tokens = 1,
		.kv_tokens = kind == KVT_WORK_ATTENTION ? 65536 : 0,
		.causal = 1,
		.batch = 1 };
}

static kvt_time time_of(bench *b, kvt_work_kind kind)
{
	kvt_work work = work_of(kind);
	return kvt_work_cost_time(b->cost, &work);
}

static kvt_token submit(bench *b, kvt_work_kind kind, kvt_token after)
{
	kvt_work work = work_of(kind);
	kvt_stream stream =
		kind == KVT_WORK_ALL_REDUCE ? KVT_STREAM_COMMUNICATION : KVT_STREAM_COMPUTE;
	return kvt_device_submit(b->device, stream, &work, &after, 1);
}

static void hear(void *arg)
{
	bench *b = arg;
	b->heard = kvt_loop_now(b->loop);
}

static kvt_time end_of(bench *b, kvt_token token)
{
	kvt_device_notify(b->device, token, hear, b);
	kvt_loop_run(b->loop);
	return b->heard;
}

/* A layer's calls up to its all-reduce, and one behind that. */
static kvt_time layer(bench *b)
{
	kvt_token at = submit(b, KVT_WORK_QKV, 0);
	at = submit(b, KVT_WORK_ATTENTION, at);
	at = submit(b, KVT_WORK_OUTPUT, at);
	at = submit(b, KVT_WORK_ALL_REDUCE, at);
	at = submit(b, KVT_WORK_MLP, at);
	return end_of(b, at);
}

static kvt_time layer_work(bench *b)
{
	return time_of(b, KVT_WORK_QKV) + time_of(b, KVT_WORK_ATTENTION) +
	       time_of(b, KVT_WORK_OUTPUT) + time_of(b, KVT_WORK_ALL_REDUCE) +
	       time_of(b, KVT_WORK_MLP);
}

static void test_nothing(void)
{
	bench b;
	bench_init(&b, 0, 0, 0, 0);
	g_assert_cmpint(layer(&b), ==, layer_work(&b));
	bench_clear(&b);
}

static void test_each(void)
{
	const kvt_time us = KVT_MICROSECOND;
	bench b;
	bench_init(&b, 7 * us, 0, 0, 0);
	g_assert_cmpint(layer(&b), ==, layer_work(&b) + 7 * us);
	bench_clear(&b);
	/* the stream is busy with the first call while the others are submitted */
	bench_init(&b, 0, us, 0, 0);
	g_assert_cmpint(layer(&b), ==, layer_work(&b) + us);
	bench_clear(&b);
	/* three dense calls and an all-reduce; attention's own is in its measured time */
	bench_init(&b, 0, 0, 2 * us, 0);
	g_assert_cmpint(layer(&b), ==, layer_work(&b) + 4 * 2 * us);
	bench_clear(&b);
	bench_init(&b, 0, 0, 0, 0);
	b.gpu->append_time = 5 * us;
	g_assert_cmpint(layer(&b), ==, layer_work(&b) + 5 * us);
	bench_clear(&b);
	/* to the other stream and back */
	bench_init(&b, 0, 0, 0, 3 * us);
	g_assert_cmpint(layer(&b), ==, layer_work(&b) + 2 * 3 * us);
	bench_clear(&b);
}

/* A thread that submits more slowly than the card computes decides, and hears of nothing before. */
static void test_submitting(void)
{
	bench b;
	bench_init(&b, 0, KVT_MILLISECOND, 0, 0);
	for (unsigned i = 0; i < 9; i++)
		submit(&b, KVT_WORK_QKV, 0);
	kvt_token last = submit(&b, KVT_WORK_QKV, 0);
	kvt_time one = time_of(&b, KVT_WORK_QKV);
	g_assert_cmpint(one, <, KVT_MILLISECOND);
	g_assert_cmpint(end_of(&b, 0), ==, 10 * KVT_MILLISECOND);
	g_assert_cmpint(end_of(&b, last), ==, 10 * KVT_MILLISECOND + one);
	bench_clear(&b);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/modelled-device/nothing", test_nothing);
	g_test_add_func("/modelled-device/each", test_each);
	g_test_add_func("/modelled-device/submitting", test_submitting);
	return g_test_run();
}
