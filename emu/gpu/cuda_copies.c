/*
 * cuda_copies.c: copies by CUDA's engines and by our kernel, beside each other where that is
 * fastest, and checksums of pages: what takes lists, which kernels read from the device's memory.
 */
#include "emu/gpu/cuda_gpu.h"

#if KVT_CUDA

#include <errno.h>
#include <string.h>

#include "emu/gpu/cuda_gpu_internal.h"

/*
 * GB/s from pinned memory to an H200 on PCIe 5.0, pages at random, where one large copy has 55.5.
 * The kernel alone has 51.4 (93%) at every size; engines, in calls of 256 runs, one thread
 * submitting, and both beside each other with a share of the bytes for the engines:
 *
 *   runs     engines   both by the engines' share
 *   16 KiB   29..32    20%: 52.2  30%: 52.6  40%: 52.9  50%: 46.5  60%: 42
 *   32 KiB   48..50    30%: 52.5  40%: 53.0  50%: 52.4  60%: 50.0  80%: 46.9
 *   64 KiB   53.0      50%: 53.1  70%: 53.8  80%: 54.1
 *   128 KiB  53.7
 *   256 KiB  53.3
 *
 * In calls of 1024 runs engines have 17.9 at 16 KiB, and in one of 32768 4.7. A call costs 0.5 us a
 * run, which is what limits engines with small ones: their share below 16 KiB, which was not
 * measured, falls with the size.
 */
enum {
	BATCH_RUNS = 256,       /* of one call to the engines */
	ENGINE_MEAN = 64 << 10, /* bytes of a run, on average: from here on by engines alone */
	SHARE_MEAN = 16 << 10,  /* and from here on so much by them */
	SHARE = 40,             /* percent */
	/* less is a kernel's alone: what is gained, 3%, is less than what fork and join take */
	SHARED_BYTES = 8 << 20,
	LIST_BYTES = 256 << 10, /* of a block of lists */
	LIST_ALIGNMENT = 16,
};

/* --- Lists --- */

/* Goes on in the stream's next block of lists, when the stream is through with it. */
static cudaError_t next_lists(cuda_stream *stream)
{
	cuda_lists *block = &stream->lists[stream->list];
	cudaError_t error = cudaEventRecord(block->passed, stream->stream);
	if (error != cudaSuccess)
		return error;
	block->recorded = true;
	stream->list = (stream->list + 1) % KVT_CUDA_LISTS;
	stream->taken = 0;
	block = &stream->lists[stream->list];
	return block->recorded ? cudaEventSynchronize(block->passed) : cudaSuccess;
}

/* All of a stream at once: later it would hold up copies. */
static cudaError_t make_lists(cuda_stream *stream)
{
	kvt_real_gpu *gpu = stream->base.gpu;
	cudaError_t error = cudaSuccess;
	for (unsigned i = 0; i < KVT_CUDA_LISTS && error == cudaSuccess; i++) {
		cuda_lists *block = &stream->lists[i];
		block->device = gpu->ops->alloc(gpu, LIST_BYTES);
		error = cudaEventCreateWithFlags(&block->passed, cudaEventDisableTiming);
		if (error == cudaSuccess)
			error = cudaHostAlloc((void **)&block->host, LIST_BYTES,
				cudaHostAllocPortable | cudaHostAllocMapped);
	}
	return error;
}

/* Room in the stream's lists for entries of some size, n at least one and at most all of them;
 * pinned memory to be filled. */
static cudaError_t take_list(cuda_stream *stream, size_t size, unsigned *n, void **list)
{
	cudaError_t error = cudaSuccess;
	if (!stream->lists[0].host)
		error = make_lists(stream);
	else if (LIST_BYTES - stream->taken < size)
		error = next_lists(stream);
	if (error != cudaSuccess)
		return error;
	cuda_lists *block = &stream->lists[stream->list];
	*n = (unsigned)MIN(*n, (LIST_BYTES - stream->taken) / size);
	*list = block->host + stream->taken;
	return cudaSuccess;
}

/* Of a list that was taken and filled: where the kernel finds it. */
static cudaError_t send_list(cuda_stream *stream, size_t bytes, void **list)
{
	cuda_lists *block = &stream->lists[stream->list];
	void *host = block->host + stream->taken;
	void *device = block->device ? block->device + stream->taken : NULL;
	stream->taken += (unsigned)(bytes + LIST_ALIGNMENT - 1) / LIST_ALIGNMENT * LIST_ALIGNMENT;
	*list = device ? device : host;
	return device ? cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream->stream)
		      : cudaSuccess;
}

void kvt_cuda_stream_clear(cuda_stream *stream)
{
	for (unsigned i = 0; i < KVT_CUDA_LISTS; i++) {
		cuda_lists *block = &stream->lists[i];
		if (block->host)
			cudaFreeHost(block->host);
		if (block->passed)
			cudaEventDestroy(block->passed);
		stream->base.gpu->ops->release(stream->base.gpu, block->device);
	}
	if (stream->forked)
		cudaEventDestroy(stream->forked);
	if (stream->joined)
		cudaEventDestroy(stream->joined);
	if (stream->partner)
		cudaStreamDestroy(stream->partner);
}

/* --- Copies --- */

/* Whether all is the device's or pinned. */
static bool all_reached(cuda_gpu *gpu, const kvt_gpu_copy *copies, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (!kvt_cuda_gpu_reaches(gpu, copies[i].to, copies[i].bytes))
			return false;
	for (unsigned i = 0; i < n; i++)
		if (!kvt_cuda_gpu_reaches(gpu, copies[i].from, copies[i].bytes))
			return false;
	return true;
}

/* Whether the kernel can copy them. */
static bool suits_kernel(cuda_gpu *gpu, const kvt_gpu_copy *copies, unsigned n)
{
	uintptr_t bits = 0;
	for (unsigned i = 0; i < n; i++)
		bits |= (uintptr_t)copies[i].to | (uintptr_t)copies[i].from | copies[i].bytes;
	return bits % 16 == 0 && all_reached(gpu, copies, n);
}

static uint64_t bytes_of(const kvt_gpu_copy *copies, unsigned n)
{
	uint64_t bytes = 0;
	for (unsigned i = 0; i < n; i++)
		bytes += copies[i].bytes;
	return bytes;
}

static int copy_by_kernel(cuda_stream *stream, const kvt_gpu_copy *copies, unsigned n)
{
	cuda_gpu *gpu = kvt_cuda_gpu_of(&stream->base);
	while (n > 0) {
		unsigned part = n;
		void *list;
		cudaError_t error = take_list(stream, sizeof(kvt_cuda_run), &part, &list);
		if (error != cudaSuccess)
			return kvt_cuda_gpu_status(gpu, error);
		kvt_cuda_run *runs = list;
		for (unsigned i = 0; i < part; i++)
			runs[i] = (kvt_cuda_run){ copies[i].to, copies[i].from, copies[i].bytes };
		error = send_list(stream, part * sizeof(*runs), &list);
		if (error != cudaSuccess)
			return kvt_cuda_gpu_status(gpu, error);
		int status = kvt_cuda_gather(list, part, 0, KVT_CUDA_GATHER_BEST, stream->stream);
		if (status != 0)
			return kvt_cuda_kernel_status(gpu, status);
		copies += part;
		n -= part;
	}
	return 0;
}

static cudaError_t copy_one(cudaStream_t stream, const kvt_gpu_copy *copy)
{
	return cudaMemcpyAsync(copy->to, copy->from, copy->bytes, cudaMemcpyDefault, stream);
}

/* One call for many runs takes less between them, where there is one; `reached`: all is the
 * device's or pinned. */
static cudaError_t copy_by_engine(
	cudaStream_t stream, const kvt_gpu_copy *copies, unsigned n, bool reached)
{
	cudaError_t error = cudaSuccess;
#if CUDART_VERSION >= 13000
	struct cudaMemcpyAttributes order = { .srcAccessOrder = cudaMemcpySrcAccessOrderStream };
	void *to[BATCH_RUNS];
	const void *from[BATCH_RUNS];
	size_t bytes[BATCH_RUNS], first = 0;
	while (reached && n > 1 && error == cudaSuccess) {
		unsigned part = MIN(n, BATCH_RUNS);
		for (unsigned i = 0; i < part; i++) {
			to[i] = copies[i].to;
			from[i] = copies[i].from;
			bytes[i] = copies[i].bytes;
		}
		error = cudaMemcpyBatchAsync(
			(void *const *)to, from, bytes, part, &order, &first, 1, stream);
		copies += part;
		n -= part;
	}
#endif
	for (unsigned i = 0; i < n && error == cudaSuccess; i++)
		error = copy_one(stream, &copies[i]);
	return error;
}

/* Bytes of these runs that are the engines', when a kernel has the rest. */
static uint64_t share_of_engines(uint64_t bytes, unsigned n)
{
#if CUDART_VERSION >= 13000
	uint64_t mean = bytes / n;
	return bytes >= SHARED_BYTES ? bytes * SHARE / 100 * MIN(mean, SHARE_MEAN) / SHARE_MEAN : 0;
#else
	return 0; /* a call a run */
#endif
}

static cudaError_t make_partner(cuda_stream *stream)
{
	int priority = 0;
	cudaError_t error = cudaStreamGetPriority(stream->stream, &priority);
	if (error == cudaSuccess)
		error = cudaEventCreateWithFlags(&stream->forked, cudaEventDisableTiming);
	if (error == cudaSuccess)
		error = cudaEventCreateWithFlags(&stream->joined, cudaEventDisableTiming);
	if (error == cudaSuccess)
		error = cudaStreamCreateWithPriority(
			&stream->partner, cudaStreamNonBlocking, priority);
	return error;
}

/* The first runs by the kernel and the last ones, `share` bytes, by the engines, both at once. The
 * kernel is given its list first: engines are at work while they are still told what to do. */
static int copy_by_both(cuda_stream *stream, const kvt_gpu_copy *copies, unsigned n, uint64_t share)
{
	cuda_gpu *gpu = kvt_cuda_gpu_of(&stream->base);
	unsigned first = n;
	/* by small copies, too: later it would hold up large ones */
	cudaError_t error = stream->partner ? cudaSuccess : make_partner(stream);
	if (error != cudaSuccess)
		return kvt_cuda_gpu_status(gpu, error);
	for (uint64_t bytes = 0; bytes + copies[first - 1].bytes <= share && first > 1; first--)
		bytes += copies[first - 1].bytes;
	if (first == n)
		return copy_by_kernel(stream, copies, n);
	error = cudaEventRecord(stream->forked, stream->stream);
	if (error == cudaSuccess)
		error = cudaStreamWaitEvent(stream->partner, stream->forked, 0);
	int status = error == cudaSuccess ? copy_by_kernel(stream, copies, first)
					  : kvt_cuda_gpu_status(gpu, error);
	if (status != 0)
		return status;
	error = copy_by_engine(stream->partner, copies + first, n - first, true);
	if (error == cudaSuccess)
		error = cudaEventRecord(stream->joined, stream->partner);
	if (error == cudaSuccess)
		error = cudaStreamWaitEvent(stream->stream, stream->joined, 0);
	return kvt_cuda_gpu_status(gpu, error);
}

int kvt_cuda_gpu_copy(
	kvt_gpu_stream *base, const kvt_gpu_copy *copies, unsigned n, kvt_gpu_copy_way way)
{
	cuda_stream *stream = (cuda_stream *)base;
	cuda_gpu *gpu = kvt_cuda_gpu_of(base);
	if (gpu->failed)
		return -EIO;
	uint64_t bytes = bytes_of(copies, n);
	bool small = way == KVT_GPU_COPY_AUTOMATIC && n > 1 && bytes / n < ENGINE_MEAN;
	bool suits = (small || way == KVT_GPU_COPY_KERNEL) && suits_kernel(gpu, copies, n);
	if (way == KVT_GPU_COPY_KERNEL)
		return suits ? copy_by_kernel(stream, copies, n) : -EINVAL;
	if (small && suits)
		return copy_by_both(stream, copies, n, share_of_engines(bytes, n));
	return kvt_cuda_gpu_status(gpu,
		copy_by_engine(stream->stream, copies, n, n > 1 && all_reached(gpu, copies, n)));
}

/* --- Checksums --- */

/* Whether the kernel can sum them, and write the sums. */
static bool suits_checksum(
	cuda_gpu *gpu, const kvt_cuda_page *pages, unsigned n, const uint64_t *sums)
{
	for (unsigned i = 0; i < n; i++)
		if (((uintptr_t)pages[i].page | pages[i].bytes) % 16 != 0 ||
			pages[i].bytes < KVT_CUDA_CHECKSUM_LEAST ||
			!kvt_cuda_gpu_reaches(gpu, pages[i].page, pages[i].bytes))
			return false;
	return (uintptr_t)sums % sizeof(*sums) == 0 &&
	       kvt_cuda_gpu_reaches(gpu, sums, n * sizeof(*sums));
}

int kvt_cuda_gpu_checksum(
	kvt_gpu_stream *base, const kvt_cuda_page *pages, unsigned n, uint64_t *sums)
{
	cuda_stream *stream = (cuda_stream *)base;
	cuda_gpu *gpu = kvt_cuda_gpu_of(base);
	if (gpu->failed)
		return -EIO;
	if (n > 0 && !suits_checksum(gpu, pages, n, sums))
		return -EINVAL;
	while (n > 0) {
		unsigned part = n;
		void *list;
		cudaError_t error = take_list(stream, sizeof(*pages), &part, &list);
		if (error == cudaSuccess) {
			memcpy(list, pages, part * sizeof(*pages));
			error = send_list(stream, part * sizeof(*pages), &list);
		}
		if (error != cudaSuccess)
			return kvt_cuda_gpu_status(gpu, error);
		int status = kvt_cuda_page_checksums(list, part, sums, stream->stream);
		if (status != 0)
			return kvt_cuda_kernel_status(gpu, status);
		pages += part;
		sums += part;
		n -= part;
	}
	return 0;
}

#endif
