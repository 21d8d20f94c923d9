/*
 * cuda_tensor.cuh: what tensor cores of compute capability 8.0 and later take: fragments in
 * registers, numbers of 16 bits in pairs, E4M3 made such, and copies to shared memory that run
 * beside. All the assembly that kernels share is here; no kernel is.
 */
#ifndef KVT_CUDA_TENSOR_H
#define KVT_CUDA_TENSOR_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

// Pairs of BF16: c += a b, 16 rows x 8 columns, 16 products each (mma's m16n8k16).
struct bf16_pairs {
	// weights are multiplied by 2^this before they are rounded
	static constexpr int weight_shift = 0;

	static __device__ __forceinline__ uint32_t pack(float low, float high)
	{
		__nv_bfloat162 v = __floats2bfloat162_rn(low, high);
		return *reinterpret_cast<uint32_t *>(&v);
	}
	static __device__ __forceinline__ float low(uint32_t v)
	{
		return __uint_as_float(v << 16);
	}
	static __device__ __forceinline__ float high(uint32_t v)
	{
		return __uint_as_float(v & 0xffff0000u);
	}
	static __device__ __forceinline__ void multiply(
		float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
	{
		asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
			     "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
			     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
			     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
	}
};

// Pairs of FP16.
struct f16_pairs {
	// the smallest FP16 is 2^-24: 2^15 keeps weights down to 2^-39 of the largest
	static constexpr int weight_shift = 15;

	static __device__ __forceinline__ uint32_t pack(float low, float high)
	{
		__half2 v = __floats2half2_rn(low, high);
		return *reinterpret_cast<uint32_t *>(&v);
	}
	static __device__ __forceinline__ float low(uint32_t v)
	{
		return __low2float(*reinterpret_cast<__half2 *>(&v));
	}
	static __device__ __forceinline__ float high(uint32_t v)
	{
		return __high2float(*reinterpret_cast<__half2 *>(&v));
	}
	static __device__ __forceinline__ void multiply(
		float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
	{
		asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
			     "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
			     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
			     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
	}
};

// The lower two E4M3 bytes as a pair of FP16, exactly; NaN stays one.
__device__ __forceinline__ uint32_t e4m3_pair(uint32_t bytes)
{
#if __CUDA_ARCH__ >= 890
	uint32_t v;
	asm("{.reg .b16 h; cvt.u16.u32 h, %1; cvt.rn.f16x2.e4m3x2 %0, h;}" : "=r"(v) : "r"(bytes));
	return v;
#else
	const uint32_t spread = __byte_perm(bytes, 0, 0x1404) & 0xff00ff00u;
	const uint32_t magnitude = spread & 0x7f007f00u;
	uint32_t bits = (spread & 0x80008000u) | (magnitude >> 1);
	__half2 v = __hmul2(*reinterpret_cast<__half2 *>(&bits), __float2half2_rn(256.0f));
	uint32_t out = *reinterpret_cast<uint32_t *>(&v);
	// 0x7f is NaN
	out |= ((magnitude & 0xff00u) == 0x7f00u ? 0x7fffu : 0) |
	       ((magnitude & 0xff000000u) == 0x7f000000u ? 0x7fff0000u : 0);
	return out;
#endif
}

// 2^x: what is below FP32's normal numbers is 0.
__device__ __forceinline__ float power_of_two(float x)
{
	float y;
	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

// Where memory shared by a block lies, as instructions on it take it.
__device__ __forceinline__ uint32_t shared_address(const void *p)
{
	return (uint32_t)__cvta_generic_to_shared(p);
}

// Four 8 x 8 matrices of 16-bit numbers, whose rows are at the addresses of 8 threads each. Thread
// 4 g + t gets the pair 2 t, 2 t + 1 of row g.
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], uint32_t address)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(address)
		     : "memory");
}

// The same, transposed: thread 4 g + t gets column g of rows 2 t and 2 t + 1.
__device__ __forceinline__ void load_transposed(uint32_t (&r)[4], uint32_t address)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(address)
		     : "memory");
}

// 16 bytes to shared memory, in the background.
__device__ __forceinline__ void copy16(uint32_t to, const void *from)
{
	asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to), "l"(from)
		     : "memory");
}

// The same, or zeros without a look at `from`.
__device__ __forceinline__ void copy16_if(bool wanted, uint32_t to, const void *from)
{
	const int bytes = wanted ? 16 : 0;
	asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
		     "r"(bytes)
		     : "memory");
}

// All copies that the thread began have arrived.
__device__ __forceinline__ void await_copies()
{
	asm volatile("cp.async.wait_all;" ::: "memory");
}

#endif
