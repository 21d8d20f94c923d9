/* cuda_gpu.c: gpu.h's calls as CUDA's; copies are cuda_copies.c's. */
#include "emu/gpu/cuda_gpu.h"

#include "emu/loop/memory_touch.h"
#include "sim/base/error.h"

#if KVT_CUDA

#include <errno.h>
#include <string.h>

#include "emu/gpu/cuda_gpu_internal.h"

enum { ALIGNMENT = 4096, WAITS_MEASURED = 64 };

/* Memory that the device reaches. */
typedef struct reach {
	uint8_t *memory;
	uint64_t bytes;
	void *raw; /* as CUDA gave it; NULL: pinned */
} reach;

typedef struct cuda_event {
	kvt_gpu_event base;
	cudaEvent_t event;
} cuda_event;

int kvt_cuda_gpu_status(cuda_gpu *gpu, cudaError_t error)
{
	if (error == cudaSuccess)
		return 0;
	if (!gpu->failed)
		g_snprintf(gpu->failure, sizeof(gpu->failure), "%s (%s)", cudaGetErrorString(error),
			cudaGetErrorName(error));
	gpu->failed = true;
	return -EIO;
}

int kvt_cuda_kernel_status(cuda_gpu *gpu, int status)
{
	if (status == -EIO)
		return kvt_cuda_gpu_status(gpu, cudaErrorLaunchFailure);
	return status == -ENODEV ? -ENOTSUP : status;
}

static void cuda_describe(const kvt_real_gpu *base, kvt_gpu_description *description)
{
	*description = ((const cuda_gpu *)base)->description;
}

static const char *cuda_failure(const kvt_real_gpu *base)
{
	const cuda_gpu *gpu = (const cuda_gpu *)base;
	return gpu->failed ? gpu->failure : NULL;
}

static void *cuda_alloc(kvt_real_gpu *base, uint64_t bytes)
{
	cuda_gpu *gpu = (cuda_gpu *)base;
	reach r = { .bytes = MAX(bytes, 1) };
	if (gpu->failed || r.bytes > gpu->cap - gpu->used)
		return NULL;
	cudaError_t error = cudaMalloc(&r.raw, r.bytes);
	if (error == cudaSuccess && (uintptr_t)r.raw % ALIGNMENT != 0) {
		cudaFree(r.raw);
		error = cudaMalloc(&r.raw, r.bytes + ALIGNMENT);
	}
	if (error == cudaErrorMemoryAllocation) {
		cudaGetLastError();
		return NULL;
	}
	if (kvt_cuda_gpu_status(gpu, error) != 0)
		return NULL;
	r.memory = (uint8_t *)(((uintptr_t)r.raw + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
	g_array_append_val(gpu->reaches, r);
	gpu->used += r.bytes;
	gpu->peak = MAX(gpu->peak, gpu->used);
	return r.memory;
}

/* Takes it off the list; its raw pointer. */
static void *forget(cuda_gpu *gpu, const void *memory)
{
	guint i = 0;
	while (i < gpu->reaches->len && g_array_index(gpu->reaches, reach, i).memory != memory)
		i++;
	g_assert(i < gpu->reaches->len);
	const reach *r = &g_array_index(gpu->reaches, reach, i);
	void *raw = r->raw;
	if (raw)
		gpu->used -= r->bytes;
	g_array_remove_index_fast(gpu->reaches, i);
	gpu->last_reach = 0;
	return raw;
}

static void cuda_release(kvt_real_gpu *base, void *memory)
{
	cuda_gpu *gpu = (cuda_gpu *)base;
	if (!memory)
		return;
	/* by itself CUDA does not promise to wait for streams that are no one's default */
	kvt_cuda_gpu_status(gpu, cudaDeviceSynchronize());
	cudaFree(forget(gpu, memory));
}

static int cuda_pin(kvt_real_gpu *base, void *memory, uint64_t bytes)
{
	cuda_gpu *gpu = (cuda_gpu *)base;
	kvt_memory_touch(memory, bytes);
	cudaError_t error =
		cudaHostRegister(memory, bytes, cudaHostRegisterPortable | cudaHostRegisterMapped);
	if (error == cudaErrorHostMemoryAlreadyRegistered || error == cudaErrorInvalidValue) {
		cudaGetLastError();
		return -EINVAL;
	}
	if (error == cudaErrorMemoryAllocation || error == cudaErrorNotSupported) {
		cudaGetLastError();
		return error == cudaErrorMemoryAllocation ? -ENOMEM : -ENOTSUP;
	}
	int status = kvt_cuda_gpu_status(gpu, error);
	reach r = { .memory = memory, .bytes = bytes };
	if (status == 0)
		g_array_append_val(gpu->reaches, r);
	return status;
}

static void cuda_unpin(kvt_real_gpu *base, void *memory)
{
	cuda_gpu *gpu = (cuda_gpu *)base;
	kvt_cuda_gpu_status(gpu, cudaDeviceSynchronize());
	forget(gpu, memory);
	kvt_cuda_gpu_status(gpu, cudaHostUnregister(memory));
}

static void cuda_memory_used(const kvt_real_gpu *base, uint64_t *now, uint64_t *peak)
{
	const cuda_gpu *gpu = (const cuda_gpu *)base;
	*now = gpu->used;
	*peak = gpu->peak;
}

/* Streams. */

static void cuda_stream_free(kvt_gpu_stream *base)
{
	cuda_stream *stream = (cuda_stream *)base;
	if (!stream)
		return;
	cudaStreamSynchronize(stream->stream);
	kvt_cuda_stream_clear(stream);
	cudaStreamDestroy(stream->stream);
	g_free(stream);
}

static kvt_gpu_stream *cuda_stream_new(kvt_real_gpu *base, bool urgent)
{
	cuda_gpu *gpu = (cuda_gpu *)base;
	cuda_stream *stream = g_new0(cuda_stream, 1);
	stream->base.gpu = base;
	/* a smaller number goes first */
	cudaError_t error = cudaStreamCreateWithPriority(
		&stream->stream, cudaStreamNonBlocking, urgent ? gpu->greatest : gpu->least);
	if (kvt_cuda_gpu_status(gpu, error) == 0)
		return &stream->base;
	g_free(stream);
	return NULL;
}

static kvt_gpu_event *cuda_event_new(kvt_real_gpu *base)
{
	cuda_event *event = g_new0(cuda_event, 1);
	event->base.gpu = base;
	/* one that cannot be made fails where it is recorded */
	if (kvt_cuda_gpu_status((cuda_gpu *)base, cudaEventCreate(&event->event)) != 0)
		event->event = NULL;
	return &event->base;
}

static void cuda_event_free(kvt_gpu_event *base)
{
	cuda_event *event = (cuda_event *)base;
	if (event && event->event)
		cudaEventDestroy(event->event);
	g_free(event);
}

static int cuda_record(kvt_gpu_stream *stream, kvt_gpu_event *event)
{
	return kvt_cuda_gpu_status(kvt_cuda_gpu_of(stream),
		cudaEventRecord(((cuda_event *)event)->event, ((cuda_stream *)stream)->stream));
}

static int cuda_wait_event(kvt_gpu_stream *stream, kvt_gpu_event *event)
{
	return kvt_cuda_gpu_status(
		kvt_cuda_gpu_of(stream), cudaStreamWaitEvent(((cuda_stream *)stream)->stream,
						 ((cuda_event *)event)->event, 0));
}

static int cuda_query(kvt_gpu_event *event)
{
	cuda_gpu *gpu = (cuda_gpu *)event->gpu;
	if (gpu->failed)
		return -EIO;
	cudaError_t error = cudaEventQuery(((cuda_event *)event)->event);
	return error == cudaErrorNotReady ? -EBUSY : kvt_cuda_gpu_status(gpu, error);
}

static kvt_time cuda_elapsed(kvt_gpu_event *from, kvt_gpu_event *to)
{
	float ms = 0;
	cudaError_t error =
		cudaEventElapsedTime(&ms, ((cuda_event *)from)->event, ((cuda_event *)to)->event);
	if (kvt_cuda_gpu_status((cuda_gpu *)from->gpu, error) != 0)
		return 0;
	return (kvt_time)((double)ms * (double)KVT_MILLISECOND);
}

static int cuda_wait_time(kvt_gpu_stream *stream, kvt_time duration)
{
	cuda_gpu *gpu = kvt_cuda_gpu_of(stream);
	if (duration < 0)
		return -EINVAL;
	/* half of what a launch takes is nearer to nothing than to a launch */
	if (duration < gpu->wait_cost / 2)
		return gpu->failed ? -EIO : 0;
	kvt_time left = MAX(duration - gpu->wait_cost, 0);
	return kvt_cuda_kernel_status(gpu,
		kvt_cuda_wait((uint64_t)(left / KVT_NANOSECOND), ((cuda_stream *)stream)->stream));
}

/* Memory that is reached. */

static bool is_within(const reach *r, const uint8_t *memory, uint64_t bytes)
{
	return memory >= r->memory && memory + bytes <= r->memory + r->bytes;
}

bool kvt_cuda_gpu_reaches(cuda_gpu *gpu, const void *memory, uint64_t bytes)
{
	if (gpu->last_reach < gpu->reaches->len &&
		is_within(&g_array_index(gpu->reaches, reach, gpu->last_reach), memory, bytes))
		return true;
	for (guint i = 0; i < gpu->reaches->len; i++)
		if (is_within(&g_array_index(gpu->reaches, reach, i), memory, bytes)) {
			gpu->last_reach = i;
			return true;
		}
	return false;
}

/* Kernels. */

static int cuda_attend(kvt_gpu_stream *stream, const kvt_cuda_shape *shape,
	const kvt_cuda_queries *queries, const kvt_cuda_window *window,
	const kvt_cuda_partial *partial, void *scratch)
{
	return kvt_cuda_kernel_status(
		kvt_cuda_gpu_of(stream), kvt_cuda_attention(shape, queries, window, partial,
						 scratch, ((cuda_stream *)stream)->stream));
}

static int cuda_merge(kvt_gpu_stream *stream, const kvt_cuda_partial *into,
	const kvt_cuda_partial *from, uint64_t n_rows, uint32_t head_dim)
{
	return kvt_cuda_kernel_status(kvt_cuda_gpu_of(stream),
		kvt_cuda_merge(into, from, n_rows, head_dim, ((cuda_stream *)stream)->stream));
}

static uint64_t cuda_scratch_bytes(
	kvt_real_gpu *gpu, const kvt_cuda_shape *shape, uint32_t n_queries)
{
	return kvt_cuda_attention_scratch(shape, n_queries);
}

static void cuda_free(kvt_real_gpu *base)
{
	cuda_gpu *gpu = (cuda_gpu *)base;
	g_array_unref(gpu->reaches);
	g_free(gpu);
}

static const kvt_gpu_ops cuda_ops = {
	.name = "cuda",
	.describe = cuda_describe,
	.failure = cuda_failure,
	.alloc = cuda_alloc,
	.release = cuda_release,
	.pin = cuda_pin,
	.unpin = cuda_unpin,
	.memory_used = cuda_memory_used,
	.stream_new = cuda_stream_new,
	.stream_free = cuda_stream_free,
	.event_new = cuda_event_new,
	.event_free = cuda_event_free,
	.record = cuda_record,
	.wait_event = cuda_wait_event,
	.query = cuda_query,
	.elapsed = cuda_elapsed,
	.wait_time = cuda_wait_time,
	.copy = kvt_cuda_gpu_copy,
	.checksum = kvt_cuda_gpu_checksum,
	.attend = cuda_attend,
	.merge = cuda_merge,
	.scratch_bytes = cuda_scratch_bytes,
	.free = cuda_free,
};

/* Opening. */

static cudaError_t describe(cuda_gpu *gpu, int device)
{
	kvt_gpu_description *d = &gpu->description;
	struct cudaDeviceProp properties;
	int driver = 0, runtime = 0;
	cudaError_t error = cudaGetDeviceProperties(&properties, device);
	if (error != cudaSuccess)
		return error;
	cudaDriverGetVersion(&driver);
	cudaRuntimeGetVersion(&runtime);
	cudaDeviceGetPCIBusId(d->bus, sizeof(d->bus), device);
	g_autofree char *module = NULL;
	if (g_file_get_contents("/sys/module/nvidia/version", &module, NULL, NULL))
		g_strstrip(module);
	g_strlcpy(d->name, properties.name, sizeof(d->name));
	g_snprintf(d->versions, sizeof(d->versions),
		"driver %.32s, for CUDA %d.%d; built with %d.%d", module ? module : "unknown",
		driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
	d->memory = properties.totalGlobalMem;
	d->processors = (unsigned)properties.multiProcessorCount;
	return cudaSuccess;
}

/* What a wait takes beyond its time, one behind the other: launches are queued while the first one
 * lasts. */
static int measure_wait(cuda_gpu *gpu)
{
	const kvt_gpu_ops *ops = gpu->base.ops;
	kvt_gpu_stream *stream = cuda_stream_new(&gpu->base, false);
	kvt_gpu_event *from = cuda_event_new(&gpu->base), *to = cuda_event_new(&gpu->base);
	int status = stream ? 0 : -EIO;
	for (unsigned round = 0; round < 2 && status == 0; round++) {
		status = kvt_cuda_wait(3000000, ((cuda_stream *)stream)->stream);
		status = status ? status : ops->record(stream, from);
		for (unsigned i = 0; i < WAITS_MEASURED && status == 0; i++)
			status = kvt_cuda_wait(0, ((cuda_stream *)stream)->stream);
		status = status ? status : ops->record(stream, to);
		status = status ? status : kvt_cuda_gpu_status(gpu, cudaDeviceSynchronize());
	}
	if (status == 0)
		gpu->wait_cost = ops->elapsed(from, to) / WAITS_MEASURED;
	cuda_event_free(from);
	cuda_event_free(to);
	cuda_stream_free(stream);
	return status;
}

static cudaError_t open_device(cuda_gpu *gpu, int device, size_t *free_bytes)
{
	int n = 0, same = 0;
	size_t total;
	cudaError_t error = cudaGetDeviceCount(&n);
	if (error == cudaSuccess && device >= n)
		error = cudaErrorInvalidDevice;
	if (error == cudaSuccess)
		error = cudaSetDevice(device);
	if (error == cudaSuccess)
		error = describe(gpu, device);
	if (error == cudaSuccess)
		error = cudaDeviceGetStreamPriorityRange(&gpu->least, &gpu->greatest);
	/* kernels are given the host's addresses */
	if (error == cudaSuccess)
		error = cudaDeviceGetAttribute(
			&same, cudaDevAttrCanUseHostPointerForRegisteredMem, device);
	if (error == cudaSuccess && !same)
		error = cudaErrorNotSupported;
	if (error == cudaSuccess)
		error = cudaMemGetInfo(free_bytes, &total);
	return error;
}

kvt_real_gpu *kvt_cuda_gpu_new(const kvt_cuda_gpu_settings *settings, GError **error)
{
	static const kvt_cuda_gpu_settings defaults;
	const kvt_cuda_gpu_settings *s = settings ? settings : &defaults;
	cuda_gpu *gpu = g_new0(cuda_gpu, 1);
	gpu->base.ops = &cuda_ops;
	gpu->reaches = g_array_new(FALSE, FALSE, sizeof(reach));
	size_t free_bytes = 0;
	cudaError_t failure = open_device(gpu, s->device, &free_bytes);
	gpu->cap = s->cap > 0 ? s->cap : free_bytes;
	if (failure != cudaSuccess)
		kvt_error_failed(error,
			"[emulation] device: there is no GPU that CUDA can use (%s), expected cpu",
			cudaGetErrorString(failure));
	else if (gpu->cap > free_bytes)
		kvt_error_failed(error,
			"%s: %.1f GB of its memory are free, expected as much as the cap, %.1f GB",
			gpu->description.name, (double)free_bytes * 1e-9, (double)gpu->cap * 1e-9);
	else if (measure_wait(gpu) != 0)
		kvt_error_failed(error, "%s: kernels do not run on it: %s", gpu->description.name,
			gpu->failure);
	else
		return &gpu->base;
	cuda_free(&gpu->base);
	return NULL;
}

#else

kvt_real_gpu *kvt_cuda_gpu_new(const kvt_cuda_gpu_settings *settings, GError **error)
{
	kvt_error_failed(error, "[emulation] device: kvtier was built without CUDA, for which nvcc "
				"has to be there, "
				"expected cpu");
	return NULL;
}

#endif
