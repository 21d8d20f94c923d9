/*
 * cuda_gather.cu: copies that the device makes itself, of runs that are too small for its copy
 * engines: pages that lie scattered in pinned memory of the host. By loads and stores of 16 bytes
 * through registers, or by bulk copies that one thread a block begins and shared memory holds.
 *
 * Runs are cut into pieces that are counted through, and dealt to workers (warps, or blocks) in
 * turn: the shares are even whatever the runs' sizes, and nothing is counted in memory.
 */
#include <cuda_runtime.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/cuda_bulk.cuh"
#include "kernels/cuda_kernels.h"

namespace
{

static_assert(offsetof(kvt_cuda_run, to) == 0 && offsetof(kvt_cuda_run, from) == 8 &&
		      offsetof(kvt_cuda_run, bytes) == 16 && sizeof(kvt_cuda_run) == 24,
	"words of the list");

enum {
	LOADS = 8, // of 16 bytes that a thread has under way
	WARPS = 16,
	LOAD_PIECE = LOADS * 32 * 16,
	BULK_PIECE = 8192,
	STAGES = 8, // pieces in shared memory
	LAG = 6,    // pieces that are read while others are written
	RUN_WORDS = sizeof(kvt_cuda_run) / 8,
	/* 4 blocks x 16 warps x 4 KiB, or 4 x 6 pieces x 8 KiB, are under way: 256 or 192 KiB, when
	 * a PCIe 5.0 link of 55 GB/s and 2 us takes 110 KiB */
	LOAD_BLOCKS = 4,
	BULK_BLOCKS = 4,
};

// The piece that is a worker's next: of a run, `bytes` at `offset`.
struct piece {
	uint8_t *to;
	const uint8_t *from;
	uint32_t bytes;
};

// A worker's pieces, one after the other. All threads of a warp walk together: 32 runs at a time,
// one a thread, whose pieces are counted by a sum over the warp. The list, which may lie in the
// host's memory, is read in whole lines and once a warp: it comes through `words`.
template <int BYTES> class walk
{
      public:
	__device__ walk(const kvt_cuda_run *list, uint32_t length, uint64_t *room, uint32_t worker,
		uint32_t n_workers)
	    : runs(reinterpret_cast<const unsigned long long *>(list)), words(room), n(length),
	      step(n_workers), mine(worker)
	{
		read();
	}

	// False when there is none any more; the same for all threads.
	__device__ bool next(piece *p)
	{
		while (mine >= total) {
			mine -= total;
			first += 32;
			if (first >= n)
				return false;
			read();
		}
		// the last run that begins at this piece or before: runs without bytes have none
		const int last = 31 - __clz(__ballot_sync(~0u, before <= mine));
		const uint64_t offset = (uint64_t)(mine - __shfl_sync(~0u, before, last)) * BYTES;
		const uint64_t *run = words + last * RUN_WORDS;
		const uint64_t left = run[2] - offset;
		p->to = reinterpret_cast<uint8_t *>(run[0] + offset);
		p->from = reinterpret_cast<const uint8_t *>(run[1] + offset);
		p->bytes = left < BYTES ? (uint32_t)left : BYTES;
		mine += step;
		return true;
	}

      private:
	const unsigned long long *runs;
	uint64_t *words; // [32 runs]
	uint32_t n, first = 0, step;
	uint32_t mine, before, total; // pieces, counted from run `first` on

	// The thread's of 32 runs, and the pieces of those before it.
	__device__ void read()
	{
		const int lane = (int)threadIdx.x % 32;
		const uint32_t n_words = min(n - first, 32u) * RUN_WORDS;
		__syncwarp();
		for (uint32_t i = (uint32_t)lane; i < n_words; i += 32)
			words[i] = __ldg(runs + (uint64_t)first * RUN_WORDS + i);
		__syncwarp();
		const uint64_t bytes = first + lane < n ? words[lane * RUN_WORDS + 2] : 0;
		const uint32_t pieces = (uint32_t)((bytes + BYTES - 1) / BYTES);
		uint32_t sum = pieces;
		for (int d = 1; d < 32; d *= 2) {
			const uint32_t other = __shfl_up_sync(~0u, sum, d);
			sum += lane >= d ? other : 0;
		}
		before = sum - pieces;
		total = __shfl_sync(~0u, sum, 31);
	}
};

__device__ __forceinline__ uint4 load_once(const void *p)
{
	uint4 v;
	asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
		     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
		     : "l"(p));
	return v;
}

__global__ __launch_bounds__(WARPS * 32) void gather_loads(const kvt_cuda_run *runs, uint32_t n)
{
	__shared__ uint64_t words[WARPS][32 * RUN_WORDS];
	const uint32_t lane = threadIdx.x % 32;
	walk<LOAD_PIECE> w(runs, n, words[threadIdx.x / 32], blockIdx.x * WARPS + threadIdx.x / 32,
		gridDim.x * WARPS);
	for (piece p; w.next(&p);) {
		uint4 v[LOADS];
		if (p.bytes == LOAD_PIECE) {
#pragma unroll
			for (uint32_t i = 0; i < LOADS; i++)
				v[i] = load_once(p.from + (i * 32 + lane) * 16);
#pragma unroll
			for (uint32_t i = 0; i < LOADS; i++)
				*reinterpret_cast<uint4 *>(p.to + (i * 32 + lane) * 16) = v[i];
			continue;
		}
#pragma unroll
		for (uint32_t i = 0; i < LOADS; i++)
			if ((i * 32 + lane) * 16 < p.bytes)
				v[i] = load_once(p.from + (i * 32 + lane) * 16);
#pragma unroll
		for (uint32_t i = 0; i < LOADS; i++)
			if ((i * 32 + lane) * 16 < p.bytes)
				*reinterpret_cast<uint4 *>(p.to + (i * 32 + lane) * 16) = v[i];
	}
}

// One warp a block, of which one thread copies: 32 registers a thread and 64 KiB of shared memory,
// so that it finds room beside a block that attends.
#if CUDART_VERSION >= 12040
#define FEW_REGISTERS __maxnreg__(32)
#else
#define FEW_REGISTERS __launch_bounds__(32)
#endif
__global__ FEW_REGISTERS void gather_bulk(const kvt_cuda_run *runs, uint32_t n)
{
#if __CUDA_ARCH__ >= 900
	extern __shared__ __align__(128) uint8_t stages[];
	__shared__ __align__(8) uint64_t barriers[STAGES];
	__shared__ uint8_t *targets[STAGES];
	__shared__ uint32_t sizes[STAGES];
	__shared__ uint64_t words[32 * RUN_WORDS];
	const bool leads = threadIdx.x == 0;
	if (leads) {
		for (int i = 0; i < STAGES; i++)
			init_barrier(shared_address(&barriers[i]));
		publish_barriers();
	}
	__syncwarp();
	walk<BULK_PIECE> w(runs, n, words, blockIdx.x, gridDim.x);
	// piece i is read into stage i % STAGES, LAG pieces before it is written
	uint32_t begun = 0;
	for (piece p; w.next(&p); begun++) {
		if (!leads)
			continue;
		const uint32_t stage = begun % STAGES;
		// all writes but the youngest have left their stages: this one's, too
		asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(STAGES - LAG - 1)
			     : "memory");
		targets[stage] = p.to, sizes[stage] = p.bytes;
		expect_bytes(shared_address(&barriers[stage]), p.bytes);
		begin_read(shared_address(stages) + stage * BULK_PIECE, p.from, p.bytes,
			shared_address(&barriers[stage]));
		if (begun < LAG)
			continue;
		const uint32_t i = begun - LAG, done = i % STAGES;
		await_read(shared_address(&barriers[done]), i / STAGES % 2);
		begin_write(targets[done], shared_address(stages) + done * BULK_PIECE, sizes[done]);
	}
	if (leads) {
		for (uint32_t i = begun > LAG ? begun - LAG : 0; i < begun; i++) {
			const uint32_t stage = i % STAGES;
			await_read(shared_address(&barriers[stage]), i / STAGES % 2);
			begin_write(targets[stage], shared_address(stages) + stage * BULK_PIECE,
				sizes[stage]);
		}
		asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
	}
#endif
}

int status_of(cudaError_t error)
{
	if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorNoDevice)
		return -ENODEV;
	return error == cudaSuccess ? 0 : -EIO;
}

} // namespace

extern "C" int kvt_cuda_gather(const kvt_cuda_run *runs, uint64_t n, unsigned blocks,
	kvt_cuda_gather_way way, void *stream)
{
	if (n == 0)
		return 0;
	if (n >= INT32_MAX)
		return -EINVAL;
	int device, major;
	cudaError_t error = cudaGetDevice(&device);
	if (error == cudaSuccess)
		error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
	if (error != cudaSuccess)
		return status_of(error);
	if (way == KVT_CUDA_GATHER_BULK && major < 9)
		return -ENODEV;
	cudaStream_t on = static_cast<cudaStream_t>(stream);
	uint32_t length = (uint32_t)n;
	void *arguments[] = { &runs, &length };
	if (way == KVT_CUDA_GATHER_LOADS || major < 9)
		return status_of(cudaLaunchKernel((const void *)gather_loads,
			dim3(blocks > 0 ? blocks : (unsigned)LOAD_BLOCKS), dim3(WARPS * 32),
			arguments, 0, on));
	const int shared = STAGES * BULK_PIECE;
	error = cudaFuncSetAttribute(
		gather_bulk, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
	// what it leaves is for blocks that attend, which may come while it runs
	if (error == cudaSuccess)
		error = cudaFuncSetAttribute(gather_bulk,
			cudaFuncAttributePreferredSharedMemoryCarveout,
			cudaSharedmemCarveoutMaxShared);
	if (error != cudaSuccess)
		return status_of(error);
	return status_of(cudaLaunchKernel((const void *)gather_bulk,
		dim3(blocks > 0 ? blocks : (unsigned)BULK_BLOCKS), dim3(32), arguments,
		(size_t)shared, on));
}
