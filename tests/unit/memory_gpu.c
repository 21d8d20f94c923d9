/* memory_gpu.c: memory that the host cannot touch, threads that are streams, and events. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/memory_gpu_internal.h"

enum { PAGE = 4096 };

static memory_gpu *gpu_of(const kvt_gpu_stream *stream)
{
	return (memory_gpu *)stream->gpu;
}

/* Memory. */

/* The region that a byte is in, or NULL; with the lock. */
static memory_region *region_at(memory_gpu *gpu, const uint8_t *memory)
{
	for (guint i = 0; i < gpu->regions->len; i++) {
		memory_region *region = &g_array_index(gpu->regions, memory_region, i);
		if (memory >= region->base && memory < region->base + region->mapped)
			return region;
	}
	return NULL;
}

static memory_kind kind_of(memory_gpu *gpu, const uint8_t *memory, uint64_t bytes)
{
	memory_region *region = region_at(gpu, memory);
	if (region) {
		if (memory + bytes > region->base + region->bytes)
			g_error("memory_gpu: [%p, +%" G_GUINT64_FORMAT
				") leaves its device memory, [%p, +%" G_GUINT64_FORMAT ")",
				(const void *)memory, bytes, (void *)region->base, region->bytes);
		return MEMORY_DEVICE;
	}
	if (bytes > 0 && region_at(gpu, memory + bytes - 1))
		g_error("memory_gpu: memory of the host and of the device in one run");
	for (guint i = 0; i < gpu->pins->len; i++) {
		const memory_pin *pin = &g_array_index(gpu->pins, memory_pin, i);
		if (memory >= pin->base && memory + bytes <= pin->base + pin->bytes)
			return MEMORY_PINNED;
	}
	return MEMORY_HOST;
}

memory_kind memory_gpu_kind(memory_gpu *gpu, const void *memory, uint64_t bytes)
{
	pthread_mutex_lock(&gpu->lock);
	memory_kind kind = kind_of(gpu, memory, bytes);
	pthread_mutex_unlock(&gpu->lock);
	return kind;
}

void *memory_gpu_find(
	memory_gpu *gpu, const void *memory, uint64_t bytes, bool pinned, const char *what)
{
	pthread_mutex_lock(&gpu->lock);
	memory_kind kind = kind_of(gpu, memory, bytes);
	void *found = NULL;
	if (kind == MEMORY_DEVICE) {
		const memory_region *region = region_at(gpu, memory);
		found = region->shadow + ((const uint8_t *)memory - region->base);
	} else if (kind == MEMORY_PINNED && pinned) {
		found = (void *)(uintptr_t)memory;
	} else {
		g_error("memory_gpu: %s at %p, %" G_GUINT64_FORMAT
			" bytes: this memory is not device memory%s",
			what, memory, bytes, pinned ? " and not pinned" : "");
	}
	pthread_mutex_unlock(&gpu->lock);
	return found;
}

static void *memory_alloc(kvt_real_gpu *base, uint64_t bytes)
{
	memory_gpu *gpu = (memory_gpu *)base;
	uint64_t mapped = (MAX(bytes, 1) + PAGE - 1) / PAGE * PAGE;
	gpu->counts.allocs++;
	bool refused = gpu->settings.refuse > 0 && gpu->counts.allocs >= gpu->settings.refuse;
	if (refused || bytes > gpu->settings.cap - gpu->used)
		return NULL;
	int fd = memfd_create("memory_gpu", MFD_CLOEXEC);
	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(ftruncate(fd, (off_t)mapped), ==, 0);
	memory_region region = { mmap(NULL, mapped, PROT_NONE, MAP_SHARED, fd, 0),
		mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), bytes, mapped };
	g_assert(region.base != MAP_FAILED && region.shadow != MAP_FAILED);
	close(fd);
	memset(region.shadow, 0xff, mapped);
	pthread_mutex_lock(&gpu->lock);
	g_array_append_val(gpu->regions, region);
	gpu->used += bytes;
	gpu->peak = MAX(gpu->peak, gpu->used);
	pthread_mutex_unlock(&gpu->lock);
	return region.base;
}

/* Streams have nothing more to do; with the lock. */
static void wait_idle(memory_gpu *gpu);

static void memory_release(kvt_real_gpu *base, void *memory)
{
	memory_gpu *gpu = (memory_gpu *)base;
	if (!memory)
		return;
	pthread_mutex_lock(&gpu->lock);
	wait_idle(gpu);
	memory_region *region = region_at(gpu, memory);
	if (!region || region->base != memory)
		g_error("memory_gpu: %p was not allocated", memory);
	gpu->used -= region->bytes;
	munmap(region->base, region->mapped);
	munmap(region->shadow, region->mapped);
	g_array_remove_index_fast(
		gpu->regions, (guint)(region - (memory_region *)(void *)gpu->regions->data));
	pthread_mutex_unlock(&gpu->lock);
}

static int memory_pin_host(kvt_real_gpu *base, void *memory, uint64_t bytes)
{
	memory_gpu *gpu = (memory_gpu *)base;
	memory_pin pin = { memory, bytes };
	if (!memory || bytes == 0)
		return -EINVAL;
	pthread_mutex_lock(&gpu->lock);
	for (guint i = 0; i < gpu->pins->len; i++) {
		const memory_pin *other = &g_array_index(gpu->pins, memory_pin, i);
		if (pin.base < other->base + other->bytes && other->base < pin.base + bytes) {
			pthread_mutex_unlock(&gpu->lock);
			return -EINVAL;
		}
	}
	g_array_append_val(gpu->pins, pin);
	gpu->counts.pinned += bytes;
	pthread_mutex_unlock(&gpu->lock);
	return 0;
}

static void memory_unpin(kvt_real_gpu *base, void *memory)
{
	memory_gpu *gpu = (memory_gpu *)base;
	pthread_mutex_lock(&gpu->lock);
	wait_idle(gpu);
	guint i = 0;
	while (i < gpu->pins->len && g_array_index(gpu->pins, memory_pin, i).base != memory)
		i++;
	if (i == gpu->pins->len)
		g_error("memory_gpu: %p was not pinned", memory);
	g_array_remove_index_fast(gpu->pins, i);
	pthread_mutex_unlock(&gpu->lock);
}

static void memory_memory_used(const kvt_real_gpu *base, uint64_t *now, uint64_t *peak)
{
	const memory_gpu *gpu = (const memory_gpu *)base;
	*now = gpu->used;
	*peak = gpu->peak;
}

static void memory_describe(const kvt_real_gpu *base, kvt_gpu_description *description)
{
	*description = (kvt_gpu_description){ .name = "memory of the host",
		.versions = "none",
		.memory = ((const memory_gpu *)base)->settings.cap };
}

static const char *memory_failure(const kvt_real_gpu *base)
{
	memory_gpu *gpu = (memory_gpu *)(uintptr_t)base;
	pthread_mutex_lock(&gpu->lock);
	bool failed = gpu->failed;
	pthread_mutex_unlock(&gpu->lock);
	return failed ? "it was told to fail" : NULL;
}

bool memory_gpu_owns(kvt_real_gpu *base, const void *memory, uint64_t bytes)
{
	return memory_gpu_kind((memory_gpu *)base, memory, bytes) == MEMORY_DEVICE;
}

void memory_gpu_peek(kvt_real_gpu *base, const void *memory, uint64_t bytes, void *out)
{
	memcpy(out, memory_gpu_find((memory_gpu *)base, memory, bytes, false, "a look"), bytes);
}

void memory_gpu_poke(kvt_real_gpu *base, void *memory, uint64_t bytes, const void *from)
{
	memcpy(memory_gpu_find((memory_gpu *)base, memory, bytes, false, "a poke"), from, bytes);
}

/* Events. */

/* With the lock. */
static void event_unref(memory_event *event)
{
	if (--event->refs == 0)
		g_free(event);
}

static kvt_gpu_event *memory_event_new(kvt_real_gpu *base)
{
	memory_event *event = g_new0(memory_event, 1);
	event->base.gpu = base;
	event->refs = 1;
	((memory_gpu *)base)->events++;
	return &event->base;
}

static void memory_event_free(kvt_gpu_event *base)
{
	if (!base)
		return;
	memory_gpu *gpu = (memory_gpu *)base->gpu;
	pthread_mutex_lock(&gpu->lock);
	gpu->events--;
	event_unref((memory_event *)base);
	pthread_mutex_unlock(&gpu->lock);
}

static int memory_query(kvt_gpu_event *base)
{
	memory_event *event = (memory_event *)base;
	memory_gpu *gpu = (memory_gpu *)base->gpu;
	pthread_mutex_lock(&gpu->lock);
	if (event->recorded == 0)
		g_error("memory_gpu: an event is asked for that was not recorded");
	int status = gpu->failed ? -EIO : event->done < event->recorded ? -EBUSY : 0;
	pthread_mutex_unlock(&gpu->lock);
	return status;
}

static kvt_time memory_elapsed(kvt_gpu_event *from, kvt_gpu_event *to)
{
	memory_gpu *gpu = (memory_gpu *)from->gpu;
	memory_event *a = (memory_event *)from, *b = (memory_event *)to;
	pthread_mutex_lock(&gpu->lock);
	g_assert(a->recorded > 0 && b->recorded > 0);
	g_assert(gpu->failed || (a->done == a->recorded && b->done == b->recorded));
	kvt_time elapsed = (b->ns - a->ns) * KVT_NANOSECOND;
	pthread_mutex_unlock(&gpu->lock);
	return elapsed;
}

/* Streams. */

static void work_free(memory_work *work)
{
	if (work->event)
		event_unref(work->event);
	g_free(work->copies);
	g_free(work->pages);
	g_free(work->snapshot);
	g_free(work);
}

static void count(memory_gpu *gpu, const memory_work *work)
{
	memory_gpu_counts *c = &gpu->counts;
	c->works++;
	c->copies += work->kind == MEMORY_WORK_COPY;
	c->pages += work->n_pages;
	c->attends += work->kind == MEMORY_WORK_ATTEND;
	c->merges += work->kind == MEMORY_WORK_MERGE;
	c->waits += work->kind == MEMORY_WORK_WAIT_TIME;
	for (unsigned i = 0; i < work->n; i++)
		c->bytes += work->copies[i].bytes;
	*(work->kernel ? &c->kernel_runs : &c->runs) += work->n;
	if (gpu->settings.fail_after > 0 && c->works >= gpu->settings.fail_after)
		gpu->failed = true;
}

/* With the lock, which it gives up while it works. */
static void run_work(memory_gpu *gpu, memory_stream *stream, const memory_work *work)
{
	memory_event *event = work->event;
	struct timespec now;
	if (work->kind == MEMORY_WORK_WAIT_EVENT) {
		while (event->done < work->generation && !gpu->failed)
			pthread_cond_wait(&gpu->changed, &gpu->lock);
		return;
	}
	if (work->kind == MEMORY_WORK_RECORD) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		event->done = work->generation;
		event->ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
		return;
	}
	/* what fails is not done, and all that comes after it neither */
	count(gpu, work);
	if (gpu->failed)
		return;
	pthread_mutex_unlock(&gpu->lock);
	if (gpu->settings.late) {
		stream->random = stream->random * UINT64_C(6364136223846793005) + 1;
		g_usleep(stream->random >> 33 & 127);
	}
	memory_gpu_do(gpu, work);
	pthread_mutex_lock(&gpu->lock);
}

static void *stream_main(void *arg)
{
	memory_stream *stream = arg;
	memory_gpu *gpu = gpu_of(&stream->base);
	pthread_mutex_lock(&gpu->lock);
	for (;;) {
		memory_work *work = g_queue_peek_head(stream->queue);
		if (work) {
			run_work(gpu, stream, work);
			g_queue_pop_head(stream->queue);
			work_free(work);
			pthread_cond_broadcast(&gpu->changed);
		} else if (stream->stop) {
			break;
		} else {
			pthread_cond_wait(&gpu->changed, &gpu->lock);
		}
	}
	pthread_mutex_unlock(&gpu->lock);
	return NULL;
}

static void wait_idle(memory_gpu *gpu)
{
	for (guint i = 0; i < gpu->streams->len; i++) {
		const memory_stream *stream = gpu->streams->pdata[i];
		while (stream->queue->length > 0)
			pthread_cond_wait(&gpu->changed, &gpu->lock);
	}
}

static kvt_gpu_stream *memory_stream_new(kvt_real_gpu *base, bool urgent)
{
	memory_gpu *gpu = (memory_gpu *)base;
	memory_stream *stream = g_new0(memory_stream, 1);
	stream->base.gpu = base;
	stream->queue = g_queue_new();
	stream->random = gpu->streams->len + 1;
	g_assert_cmpint(pthread_create(&stream->thread, NULL, stream_main, stream), ==, 0);
	g_ptr_array_add(gpu->streams, stream);
	return &stream->base;
}

static void memory_stream_free(kvt_gpu_stream *base)
{
	memory_stream *stream = (memory_stream *)base;
	if (!stream)
		return;
	memory_gpu *gpu = gpu_of(base);
	pthread_mutex_lock(&gpu->lock);
	stream->stop = true;
	pthread_cond_broadcast(&gpu->changed);
	pthread_mutex_unlock(&gpu->lock);
	pthread_join(stream->thread, NULL);
	g_ptr_array_remove(gpu->streams, stream);
	g_queue_free(stream->queue);
	g_free(stream);
}

/* Takes what `work` points to. */
static int queue(kvt_gpu_stream *base, const memory_work *work)
{
	memory_stream *stream = (memory_stream *)base;
	memory_gpu *gpu = gpu_of(base);
	memory_work *copy = g_memdup2(work, sizeof(*work));
	pthread_mutex_lock(&gpu->lock);
	bool failed = gpu->failed;
	if (copy->event)
		copy->event->refs++;
	if (failed) {
		work_free(copy);
	} else {
		g_queue_push_tail(stream->queue, copy);
		pthread_cond_broadcast(&gpu->changed);
	}
	pthread_mutex_unlock(&gpu->lock);
	return failed ? -EIO : 0;
}

static int memory_record(kvt_gpu_stream *stream, kvt_gpu_event *base)
{
	memory_event *event = (memory_event *)base;
	memory_gpu *gpu = gpu_of(stream);
	pthread_mutex_lock(&gpu->lock);
	memory_work work = {
		.kind = MEMORY_WORK_RECORD, .event = event, .generation = ++event->recorded
	};
	pthread_mutex_unlock(&gpu->lock);
	return queue(stream, &work);
}

static int memory_wait_event(kvt_gpu_stream *stream, kvt_gpu_event *base)
{
	memory_event *event = (memory_event *)base;
	memory_gpu *gpu = gpu_of(stream);
	pthread_mutex_lock(&gpu->lock);
	if (event->recorded == 0)
		g_error("memory_gpu: a stream is to wait for an event that was not recorded");
	memory_work work = {
		.kind = MEMORY_WORK_WAIT_EVENT, .event = event, .generation = event->recorded
	};
	pthread_mutex_unlock(&gpu->lock);
	return queue(stream, &work);
}

static int memory_wait_time(kvt_gpu_stream *stream, kvt_time duration)
{
	memory_work work = { .kind = MEMORY_WORK_WAIT_TIME, .duration = duration };
	return duration < 0 ? -EINVAL : queue(stream, &work);
}

static bool aligned(const kvt_gpu_copy *c)
{
	return ((uintptr_t)c->to | (uintptr_t)c->from | c->bytes) % 16 == 0;
}

/* What of the sources is the host's own, as it is now: it may change when the call is over. */
static void *take_snapshot(memory_gpu *gpu, const kvt_gpu_copy *copies, unsigned n)
{
	GByteArray *bytes = g_byte_array_new();
	for (unsigned i = 0; i < n; i++)
		if (memory_gpu_kind(gpu, copies[i].from, copies[i].bytes) == MEMORY_HOST)
			g_byte_array_append(bytes, copies[i].from, (guint)copies[i].bytes);
	return g_byte_array_free(bytes, FALSE);
}

static int memory_copy(
	kvt_gpu_stream *stream, const kvt_gpu_copy *copies, unsigned n, kvt_gpu_copy_way way)
{
	memory_gpu *gpu = gpu_of(stream);
	bool kernel = way == KVT_GPU_COPY_KERNEL, waits = false;
	uint64_t bytes = 0;
	for (unsigned i = 0; i < n; i++) {
		memory_kind from = memory_gpu_kind(gpu, copies[i].from, copies[i].bytes);
		memory_kind to = memory_gpu_kind(gpu, copies[i].to, copies[i].bytes);
		if (kernel && (!aligned(&copies[i]) || from == MEMORY_HOST || to == MEMORY_HOST))
			return -EINVAL;
		if (from != MEMORY_DEVICE && to != MEMORY_DEVICE)
			g_error("memory_gpu: a copy from the host to the host");
		waits |= to == MEMORY_HOST;
		bytes += copies[i].bytes;
	}
	/* about as cuda_copies.c does it, which has engines beside the kernel */
	if (way == KVT_GPU_COPY_AUTOMATIC)
		kernel = n > 1 && bytes / n < 65536;
	memory_work work = { .kind = MEMORY_WORK_COPY,
		.copies = g_memdup2(copies, n * sizeof(*copies)),
		.n = n,
		.kernel = kernel,
		.snapshot = take_snapshot(gpu, copies, n) };
	int status = queue(stream, &work);
	if (status != 0 || !waits)
		return status;
	pthread_mutex_lock(&gpu->lock);
	while (((memory_stream *)stream)->queue->length > 0)
		pthread_cond_wait(&gpu->changed, &gpu->lock);
	pthread_mutex_unlock(&gpu->lock);
	return 0;
}

static int memory_checksum(
	kvt_gpu_stream *stream, const kvt_cuda_page *pages, unsigned n, uint64_t *sums)
{
	memory_gpu *gpu = gpu_of(stream);
	for (unsigned i = 0; i < n; i++)
		if (((uintptr_t)pages[i].page | pages[i].bytes) % 16 != 0 ||
			pages[i].bytes < KVT_CUDA_CHECKSUM_LEAST ||
			memory_gpu_kind(gpu, pages[i].page, pages[i].bytes) == MEMORY_HOST)
			return -EINVAL;
	if (n > 0 && memory_gpu_kind(gpu, sums, n * sizeof(*sums)) == MEMORY_HOST)
		return -EINVAL;
	memory_work work = { .kind = MEMORY_WORK_CHECKSUM,
		.pages = g_memdup2(pages, n * sizeof(*pages)),
		.n_pages = n,
		.sums = sums };
	return queue(stream, &work);
}

static int memory_attend(kvt_gpu_stream *stream, const kvt_cuda_shape *shape,
	const kvt_cuda_queries *queries, const kvt_cuda_window *window,
	const kvt_cuda_partial *partial, void *scratch)
{
	if (memory_gpu_check_shape(shape) != 0 || queries->n == 0 || queries->stride % 4 != 0 ||
		(uintptr_t)queries->queries % 16 != 0 || window->skip >= shape->page_tokens)
		return -EINVAL;
	memory_work work = { .kind = MEMORY_WORK_ATTEND,
		.shape = *shape,
		.queries = *queries,
		.window = *window,
		.into = *partial,
		.scratch = scratch };
	return queue(stream, &work);
}

static int memory_merge(kvt_gpu_stream *stream, const kvt_cuda_partial *into,
	const kvt_cuda_partial *from, uint64_t n_rows, uint32_t head_dim)
{
	memory_work work = { .kind = MEMORY_WORK_MERGE,
		.into = *into,
		.from = *from,
		.n_rows = n_rows,
		.head_dim = head_dim };
	return queue(stream, &work);
}

static void memory_free(kvt_real_gpu *base)
{
	memory_gpu *gpu = (memory_gpu *)base;
	g_assert_cmpuint(gpu->streams->len, ==, 0);
	g_assert_cmpuint(gpu->events, ==, 0);
	g_assert_cmpuint(gpu->regions->len, ==, 0);
	g_assert_cmpuint(gpu->pins->len, ==, 0);
	g_array_unref(gpu->regions);
	g_array_unref(gpu->pins);
	g_ptr_array_unref(gpu->streams);
	pthread_cond_destroy(&gpu->changed);
	pthread_mutex_destroy(&gpu->lock);
	g_free(gpu);
}

static const kvt_gpu_ops memory_ops = {
	.name = "memory",
	.describe = memory_describe,
	.failure = memory_failure,
	.alloc = memory_alloc,
	.release = memory_release,
	.pin = memory_pin_host,
	.unpin = memory_unpin,
	.memory_used = memory_memory_used,
	.stream_new = memory_stream_new,
	.stream_free = memory_stream_free,
	.event_new = memory_event_new,
	.event_free = memory_event_free,
	.record = memory_record,
	.wait_event = memory_wait_event,
	.query = memory_query,
	.elapsed = memory_elapsed,
	.wait_time = memory_wait_time,
	.copy = memory_copy,
	.checksum = memory_checksum,
	.attend = memory_attend,
	.merge = memory_merge,
	.scratch_bytes = memory_gpu_scratch,
	.free = memory_free,
};

kvt_real_gpu *memory_gpu_new(const memory_gpu_settings *settings)
{
	memory_gpu *gpu = g_new0(memory_gpu, 1);
	gpu->ops = memory_ops;
	gpu->base.ops = &gpu->ops;
	if (settings)
		gpu->settings = *settings;
	if (gpu->settings.no_checksums)
		gpu->ops.checksum = NULL;
	if (gpu->settings.cap == 0)
		gpu->settings.cap = UINT64_C(1) << 30;
	pthread_mutex_init(&gpu->lock, NULL);
	pthread_cond_init(&gpu->changed, NULL);
	gpu->regions = g_array_new(FALSE, FALSE, sizeof(memory_region));
	gpu->pins = g_array_new(FALSE, FALSE, sizeof(memory_pin));
	gpu->streams = g_ptr_array_new();
	return &gpu->base;
}

void memory_gpu_fail(kvt_real_gpu *base)
{
	memory_gpu *gpu = (memory_gpu *)base;
	pthread_mutex_lock(&gpu->lock);
	gpu->failed = true;
	pthread_cond_broadcast(&gpu->changed);
	pthread_mutex_unlock(&gpu->lock);
}

void memory_gpu_count(kvt_real_gpu *base, memory_gpu_counts *counts)
{
	memory_gpu *gpu = (memory_gpu *)base;
	pthread_mutex_lock(&gpu->lock);
	*counts = gpu->counts;
	pthread_mutex_unlock(&gpu->lock);
}
