/*
 * cuda_bulk.cuh: bulk copies between device and shared memory, which one thread begins and a
 * barrier in shared memory counts, of compute capability 9.0: call these under __CUDA_ARCH__ >=
 * 900. Places in shared memory are as shared_address has them; addresses and bytes multiples of 16.
 */
#ifndef KVT_CUDA_BULK_H
#define KVT_CUDA_BULK_H

#include "kernels/cuda_tensor.cuh"

#if __CUDA_ARCH__ >= 900
// A barrier of 8 bytes for one thread's copies.
__device__ __forceinline__ void init_barrier(uint32_t barrier)
{
	asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier) : "memory");
}

// After the barriers' beginning, before the first copy.
__device__ __forceinline__ void publish_barriers()
{
	asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
	asm volatile("fence.proxy.async;" ::: "memory");
}

// The barrier's phase ends when so many bytes are there.
__device__ __forceinline__ void expect_bytes(uint32_t barrier, uint32_t bytes)
{
	asm volatile(
		"mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
		: "memory");
}

// Bytes to shared memory, which the barrier counts.
__device__ __forceinline__ void begin_read(
	uint32_t to, const void *from, uint32_t bytes, uint32_t barrier)
{
	asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
		     "[%0], [%1], %2, [%3];" ::"r"(to),
		     "l"(from), "r"(bytes), "r"(barrier)
		     : "memory");
}

// How memory that is read once is kept in the cache: it goes first.
__device__ __forceinline__ uint64_t once_policy()
{
	uint64_t policy;
	asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
	return policy;
}

// The same, kept in the cache as the policy says.
__device__ __forceinline__ void begin_read(
	uint32_t to, const void *from, uint32_t bytes, uint32_t barrier, uint64_t policy)
{
	asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
		     ".L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(to),
		     "l"(from), "r"(bytes), "r"(barrier), "l"(policy)
		     : "memory");
}

__device__ __forceinline__ void await_read(uint32_t barrier, uint32_t phase)
{
	asm volatile("{\n"
		     ".reg .pred there;\n"
		     "again:\n"
		     "mbarrier.try_wait.parity.shared::cta.b64 there, [%0], %1;\n"
		     "@there bra over;\n"
		     "bra again;\n"
		     "over:\n"
		     "}" ::"r"(barrier),
		     "r"(phase)
		     : "memory");
}

__device__ __forceinline__ void begin_write(void *to, uint32_t from, uint32_t bytes)
{
	asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to),
		     "r"(from), "r"(bytes)
		     : "memory");
	asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
#endif

#endif
