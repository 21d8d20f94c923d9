/*
 * cuda_copies.c: copies by CUDA's engines or by our kernel, whichever is faster, and checksums of
 * pages: what takes lists, which kernels read from the device's memory.
 */
#include "emu/gpu/cuda_gpu.h"

#if KVT_CUDA

#include <errno.h>
#include <string.h>

#include "emu/gpu/cuda_gpu_internal.h"

/*
 * GB/s from pinned memory to an H200 on PCIe 5.0, pages at random, where one large copy has 55.5.
 * The kernel has 51.4 (93%) at every size: a packet has 128 bytes of what processors read. Engines
 * take 0.5 to 1 us a run of the one thread that tells them, by the machine:
 *
 *   runs      16 KiB   32 KiB   64 KiB   128 KiB   256 KiB
 *   engines   17..32   37..50   53.0     53.7      53.3
 *
 * Both at once have 52.9 at 16 and 32 KiB where the thread is fast and has nothing else to do, and
 * less than the kernel alone where it is not: a second stream of small runs brings the engines down
 * to 4.
 */
enum {
	BATCH_RUNS = 256,       /* of one call to the engines */
	ENGINE_MEAN = 48 << 10, /* bytes of a run, on average: from here on by engines */
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

/* Of a list that was taken and filled: it stays until the stream is through with it. */
static cuda_lists *keep_list(cuda_stream *stream, size_t bytes, size_t *at)
{
	*at = stream->taken;
	stream->taken += (unsigned)(bytes + LIST_ALIGNMENT - 1) / LIST_ALIGNMENT * LIST_ALIGNMENT;
	return &stream->lists[stream->list];
}

/* The same, and brought to where a kernel that has much to read finds it fastest. */
static cudaError_t send_list(cuda_stream *stream, size_t bytes, void **list)
{
	size_t at;
	cuda_lists *block = keep_list(stream, bytes, &at);
	if (!block->device)
		return cudaSuccess;
	*list = block->device + at;
	return cudaMemcpyAsync(
		*list, block->host + at, bytes, cudaMemcpyHostToDevice, stream->stream);
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

int kvt_cuda_gpu_copy(
	kvt_gpu_stream *base, const kvt_gpu_copy *copies, unsigned n, kvt_gpu_copy_way way)
{
	cuda_stream *stream = (cuda_stream *)base;
	cuda_gpu *gpu = kvt_cuda_gpu_of(base);
	if (gpu->failed)
		return -EIO;
	uint64_t bytes = bytes_of(copies, n);
	bool small = way == KVT_GPU_COPY_AUTOMATIC && n > 1 && bytes / n < ENGINE_MEAN;
	if (small || way == KVT_GPU_COPY_KERNEL) {
		if (suits_kernel(gpu, copies, n))
			return copy_by_kernel(stream, copies, n);
		if (way == KVT_GPU_COPY_KERNEL)
			return -EINVAL;
	}
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
		size_t at;
		cudaError_t error = take_list(stream, sizeof(*pages), &part, &list);
		if (error != cudaSuccess)
			return kvt_cuda_gpu_status(gpu, error);
		/* read where it is: the engines have copies of pages to make, which the list would
		 * wait for, and they for it */
		memcpy(list, pages, part * sizeof(*pages));
		keep_list(stream, part * sizeof(*pages), &at);
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
