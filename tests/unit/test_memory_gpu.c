/* test_memory_gpu.c: the GPU in memory obeys the contract, and notices who does not; failures come
 * when they are asked for. */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "emu/gpu/gpu_watch.h"
#include "emu/loop/real_loop.h"
#include "tests/unit/gpu_conformance.h"
#include "tests/unit/memory_gpu.h"

static kvt_real_gpu *open_punctual(uint64_t cap)
{
	const memory_gpu_settings settings = { .cap = cap };
	return memory_gpu_new(&settings);
}

static kvt_real_gpu *open_late(uint64_t cap)
{
	const memory_gpu_settings settings = { .cap = cap, .late = true };
	return memory_gpu_new(&settings);
}

static void test_refusal(void)
{
	const memory_gpu_settings settings = { .refuse = 2 };
	kvt_real_gpu *gpu = memory_gpu_new(&settings);
	void *memory = gpu->ops->alloc(gpu, 100);
	g_assert_nonnull(memory);
	g_assert_null(gpu->ops->alloc(gpu, 100));
	g_assert_null(gpu->ops->alloc(gpu, 1));
	uint8_t bytes[100], nothing[100];
	memset(nothing, 0xff, sizeof(nothing));
	memory_gpu_peek(gpu, memory, sizeof(bytes), bytes);
	g_assert_cmpmem(bytes, sizeof(bytes), nothing, sizeof(nothing));
	gpu->ops->release(gpu, memory);
	gpu->ops->free(gpu);
}

/* Work up to the fault is done; nothing after it is, and everyone hears of it. */
static void test_fault(void)
{
	const memory_gpu_settings settings = { .fail_after = 3 };
	kvt_real_gpu *gpu = memory_gpu_new(&settings);
	const kvt_gpu_ops *ops = gpu->ops;
	kvt_gpu_stream *stream = ops->stream_new(gpu, false);
	kvt_gpu_event *events[2] = { ops->event_new(gpu), ops->event_new(gpu) };
	uint8_t *device = ops->alloc(gpu, 64), one[64], two[64];
	memset(one, 1, sizeof(one));
	kvt_gpu_copy copy = { device, one, 64 };
	g_assert_cmpint(ops->copy(stream, &copy, 1, KVT_GPU_COPY_AUTOMATIC), ==, 0);
	g_assert_cmpint(ops->record(stream, events[0]), ==, 0);
	while (ops->query(events[0]) == -EBUSY)
		g_usleep(10);
	g_assert_cmpint(ops->query(events[0]), ==, 0);
	g_assert_null(ops->failure(gpu));
	g_assert_cmpint(ops->wait_time(stream, KVT_MICROSECOND), ==, 0);
	memset(two, 2, sizeof(two));
	copy.from = two;
	ops->copy(stream, &copy, 1, KVT_GPU_COPY_AUTOMATIC);
	ops->record(stream, events[1]);
	while (ops->query(events[1]) == -EBUSY)
		g_usleep(10);
	g_assert_cmpint(ops->query(events[1]), ==, -EIO);
	g_assert_cmpstr(ops->failure(gpu), ==, "it was told to fail");
	g_assert_cmpint(ops->query(events[0]), ==, -EIO);
	g_assert_cmpint(ops->copy(stream, &copy, 1, KVT_GPU_COPY_AUTOMATIC), ==, -EIO);
	ops->stream_free(stream);
	memory_gpu_peek(gpu, device, 64, two);
	g_assert_cmpmem(one, 64, two, 64);
	ops->event_free(events[0]);
	ops->event_free(events[1]);
	ops->release(gpu, device);
	ops->free(gpu);
}

/* In a process of its own: what breaks the contract ends it. */
static void break_contract(unsigned how)
{
	kvt_real_gpu *gpu = memory_gpu_new(NULL);
	const kvt_gpu_ops *ops = gpu->ops;
	kvt_gpu_stream *stream = ops->stream_new(gpu, false);
	kvt_gpu_event *event = ops->event_new(gpu);
	uint8_t *device = ops->alloc(gpu, 4096), host[64] = { 0 };
	kvt_gpu_copy copies[] = { { device + 4090, host, 64 }, { host, host, 64 } };
	kvt_cuda_shape shape = { KVT_ELEMENT_BF16, 64, 1, 1, 16, 4096, 2048, 1, 1, 1, 0 };
	kvt_cuda_queries queries = { (float *)(void *)device, 64, 1 };
	kvt_cuda_window window = { (const void *const *)(void *)host, 16, 0, 16, 0 };
	kvt_cuda_partial partial = { (float *)(void *)device, (float *)(void *)device };
	if (how == 0)
		ops->copy(stream, &copies[0], 1, KVT_GPU_COPY_AUTOMATIC);
	else if (how == 1)
		ops->copy(stream, &copies[1], 1, KVT_GPU_COPY_AUTOMATIC);
	else if (how == 2)
		ops->query(event);
	else if (how == 3)
		ops->wait_event(stream, event);
	else if (how == 4) /* the list of pages is neither pinned nor on the device */
		ops->attend(stream, &shape, &queries, &window, &partial, device);
	else
		((volatile uint8_t *)device)[0] = 1;
	g_usleep(1000000);
}

static void test_contract(gconstpointer how)
{
	static const char *const said[] = { "*leaves its device memory*", "*host to the host*",
		"*asked for that was not recorded*", "*wait for an event that was not*",
		"*list of pages*not pinned*", "*" };
	if (g_test_subprocess()) {
		break_contract(GPOINTER_TO_UINT(how));
		return;
	}
	g_test_trap_subprocess(NULL, 0, 0);
	g_test_trap_assert_failed();
	g_test_trap_assert_stderr(said[GPOINTER_TO_UINT(how)]);
}

typedef struct told {
	GArray *order; /* of unsigned */
	unsigned number;
	int status;
	kvt_gpu_event *event;
} told;

static void on_passed(void *arg, int status)
{
	told *t = arg;
	t->status = status;
	g_array_append_val(t->order, t->number);
}

/* Two streams of different pace; each one's events are told in order, and the loop waits. */
static void test_watch(void)
{
	enum { STREAMS = 2, EACH = 20 };
	const memory_gpu_settings settings = { .late = true };
	kvt_real_gpu *gpu = memory_gpu_new(&settings);
	kvt_loop *loop = kvt_real_loop_new(NULL);
	kvt_gpu_watch *watch = kvt_gpu_watch_new(loop, gpu);
	kvt_gpu_stream *streams[STREAMS];
	told all[STREAMS * EACH];
	GArray *order = g_array_new(FALSE, FALSE, sizeof(unsigned));
	g_assert_cmpuint(kvt_loop_run(loop), ==, 0);
	for (unsigned s = 0; s < STREAMS; s++) {
		streams[s] = gpu->ops->stream_new(gpu, s == 0);
		for (unsigned i = 0; i < EACH; i++) {
			told *t = &all[s * EACH + i];
			*t = (told){ order, s * EACH + i, 1, gpu->ops->event_new(gpu) };
			gpu->ops->wait_time(streams[s], (kvt_time)(s + 1) * 300 * KVT_MICROSECOND);
			kvt_gpu_watch_record(watch, streams[s], t->event, on_passed, t);
		}
	}
	g_assert_cmpuint(order->len, ==, 0);
	g_assert_cmpuint(kvt_loop_run(loop), ==, STREAMS * EACH);
	g_assert_cmpuint(order->len, ==, STREAMS * EACH);
	unsigned next[STREAMS] = { 0, EACH };
	for (unsigned i = 0; i < order->len; i++) {
		unsigned number = g_array_index(order, unsigned, i);
		g_assert_cmpuint(number, ==, next[number / EACH]++);
	}
	for (unsigned i = 0; i < STREAMS * EACH; i++)
		g_assert_cmpint(all[i].status, ==, 0);
	/* a fault is told to all who wait, and to who asks later */
	gpu->ops->wait_time(streams[0], KVT_SECOND / 10);
	kvt_gpu_watch_record(watch, streams[0], all[0].event, on_passed, &all[0]);
	memory_gpu_fail(gpu);
	kvt_gpu_watch_record(watch, streams[1], all[1].event, on_passed, &all[1]);
	g_assert_cmpuint(kvt_loop_run(loop), ==, 2);
	g_assert_cmpint(all[0].status, ==, -EIO);
	g_assert_cmpint(all[1].status, ==, -EIO);
	/* and one that is freed tells nobody */
	kvt_gpu_watch_record(watch, streams[1], all[2].event, on_passed, &all[2]);
	kvt_gpu_watch_free(watch);
	g_assert_cmpuint(kvt_loop_run(loop), ==, 0);
	for (unsigned s = 0; s < STREAMS; s++)
		gpu->ops->stream_free(streams[s]);
	for (unsigned i = 0; i < STREAMS * EACH; i++)
		gpu->ops->event_free(all[i].event);
	g_array_unref(order);
	kvt_loop_free(loop);
	gpu->ops->free(gpu);
}

int main(int argc, char **argv)
{
	static const gpu_conformance suites[] = {
		{ .name = "memory-gpu", .open = open_punctual },
		{ .name = "memory-gpu-late", .open = open_late },
	};
	static const char *const names[] = { "bounds", "host-to-host", "query", "wait", "pages",
		"touch" };
	g_test_init(&argc, &argv, NULL);
	for (unsigned i = 0; i < G_N_ELEMENTS(suites); i++)
		gpu_conformance_add(&suites[i]);
	g_test_add_func("/memory-gpu/refusal", test_refusal);
	g_test_add_func("/memory-gpu/fault", test_fault);
	for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
		g_autofree char *path = g_strconcat("/memory-gpu/contract/", names[i], NULL);
		g_test_add_data_func(path, GUINT_TO_POINTER(i), test_contract);
	}
	g_test_add_func("/gpu-watch/order", test_watch);
	return g_test_run();
}
