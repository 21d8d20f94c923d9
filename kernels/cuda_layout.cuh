/*
 * cuda_layout.cuh: how a warp's 16-byte loads of 16 tokens' keys and values become operands of
 * tensor cores without a way through shared memory: logits^T = K Q^T and output^T = V^T P^T with
 * m16n8k16, tokens or dimensions along M and the rows of queries along N. So that a thread's loads
 * are 16 bytes, dimensions are taken in another order, the same for queries and keys. For sources
 * compiled by nvcc alone.
 */
#ifndef KVT_CUDA_LAYOUT_H
#define KVT_CUDA_LAYOUT_H

#include "kernels/cuda_tensor.cuh"

namespace kvt_cuda
{

template <int N> struct constant {
	static constexpr int value = N;
};
/* f(constant<0>), ... f(constant<N - 1>). */
template <int I, int N, class F> __device__ __forceinline__ void each_from(const F &f)
{
	if constexpr (I < N) {
		f(constant<I>{});
		each_from<I + 1, N>(f);
	}
}
template <int N, class F> __device__ __forceinline__ void each(const F &f)
{
	each_from<0, N>(f);
}

/* 16 or 8 bytes at a constant offset, which are read once. The offset is part of the instruction:
 * else a thread's registers would be filled with addresses. */
template <int OFFSET> __device__ __forceinline__ uint4 load16(const void *p)
{
	uint4 v;
	asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4+%5];"
		     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
		     : "l"(p), "n"(OFFSET));
	return v;
}

template <int OFFSET> __device__ __forceinline__ uint4 load8(const void *p)
{
	uint2 v;
	asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v2.u32 {%0,%1}, [%2+%3];"
		     : "=r"(v.x), "=r"(v.y)
		     : "l"(p), "n"(OFFSET));
	return make_uint4(v.x, v.y, 0, 0);
}

/* From shared memory, each time anew: registers are for others. */
__device__ __forceinline__ uint4 load_shared(uint32_t place)
{
	uint4 v;
	asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
		     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
		     : "r"(place));
	return v;
}

__device__ __forceinline__ uint2 load_shared8(uint32_t place)
{
	uint2 v;
	asm volatile("ld.shared.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(place));
	return v;
}

__device__ __forceinline__ uint32_t word(const uint4 &v, int i)
{
	return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/* An 8 x 8 matrix of 16-bit numbers, two a register and thread, with rows for columns. */
__device__ __forceinline__ uint32_t transpose(uint32_t a)
{
	uint32_t b;
	asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(b) : "r"(a));
	return b;
}

/* Tokens of a tile. */
enum { TILE = 16 };

/* Numbers of 2 bytes. `g`, `t`: the thread's group of 4 and its place there. */
template <class PAIRS, int HEAD_DIM> struct wide_layout {
	using pairs = PAIRS;
	static constexpr int head_dim = HEAD_DIM;
	static constexpr int row_bytes = HEAD_DIM * 2;
	static constexpr int key_loads = HEAD_DIM / 32, value_loads = HEAD_DIM / 64;

	/* Of k-step `step`, the first of 4 dimensions one after another that are the thread's. */
	static __device__ __forceinline__ int query_dim(int step, int t)
	{
		return step / 2 * 32 + t * 8 + step % 2 * 4;
	}
	static __device__ __forceinline__ void key_operand(
		const uint4 (&k)[2][key_loads], int step, uint32_t (&a)[4])
	{
		const int load = step / 2, w = step % 2 * 2;
		a[0] = word(k[0][load], w);
		a[1] = word(k[1][load], w);
		a[2] = word(k[0][load], w + 1);
		a[3] = word(k[1][load], w + 1);
	}
	/* Of M-tile `tile`, the first of the thread's 2 dimensions. */
	static __device__ __forceinline__ int value_dim(int tile, int g)
	{
		return tile / 4 * 64 + g * 8 + tile % 4 * 2;
	}
	static __device__ __forceinline__ void value_operand(
		const uint4 (&v)[4][value_loads], int tile, uint32_t (&a)[4])
	{
		const int load = tile / 4, w = tile % 4;
		const uint32_t w0 = word(v[0][load], w), w1 = word(v[1][load], w);
		const uint32_t w2 = word(v[2][load], w), w3 = word(v[3][load], w);
		a[0] = __byte_perm(w0, w1, 0x5410);
		a[1] = __byte_perm(w0, w1, 0x7632);
		a[2] = __byte_perm(w2, w3, 0x5410);
		a[3] = __byte_perm(w2, w3, 0x7632);
	}
};

/* E4M3: values of head_dim 128 take loads of 16 bytes, of 64 of 8. */
template <int HEAD_DIM> struct byte_layout {
	using pairs = f16_pairs;
	static constexpr int head_dim = HEAD_DIM;
	static constexpr int row_bytes = HEAD_DIM;
	static constexpr int key_loads = (HEAD_DIM + 63) / 64, value_loads = (HEAD_DIM + 127) / 128;

	static __device__ __forceinline__ int query_dim(int step, int t)
	{
		return step / 4 * 64 + t * 16 + step % 4 * 4;
	}
	static __device__ __forceinline__ void key_operand(
		const uint4 (&k)[2][key_loads], int step, uint32_t (&a)[4])
	{
		const uint32_t w0 = word(k[0][step / 4], step % 4);
		const uint32_t w1 = word(k[1][step / 4], step % 4);
		a[0] = e4m3_pair(w0 & 0xffff);
		a[1] = e4m3_pair(w1 & 0xffff);
		a[2] = e4m3_pair(w0 >> 16);
		a[3] = e4m3_pair(w1 >> 16);
	}
	static __device__ __forceinline__ int value_dim(int tile, int g)
	{
		return g * (HEAD_DIM / 8) + tile * 2;
	}
	static __device__ __forceinline__ void value_operand(
		const uint4 (&v)[4][value_loads], int tile, uint32_t (&a)[4])
	{
		const int w = tile / 2;
		const uint32_t near =
			__byte_perm(word(v[0][0], w), word(v[1][0], w), tile % 2 ? 0x7362 : 0x5140);
		const uint32_t far =
			__byte_perm(word(v[2][0], w), word(v[3][0], w), tile % 2 ? 0x7362 : 0x5140);
		a[0] = e4m3_pair(near & 0xffff);
		a[1] = e4m3_pair(near >> 16);
		a[2] = e4m3_pair(far & 0xffff);
		a[3] = e4m3_pair(far >> 16);
	}
};

/* Keys of tokens g and g + 8 of a tile. One address and constant offsets: registers are few. */
template <class L>
__device__ __forceinline__ void load_keys(
	const uint8_t *tile, int g, int t, uint4 (&k)[2][L::key_loads])
{
	const uint8_t *at = tile + (uint32_t)(g * L::row_bytes + t * 16);
	each<L::key_loads>([&](auto n) {
		constexpr int i = decltype(n)::value;
		k[0][i] = load16<i * 64>(at);
		k[1][i] = load16<8 * L::row_bytes + i * 64>(at);
	});
}

/* The j-th of the 4 tokens whose values are the thread's. */
constexpr __host__ __device__ __forceinline__ int value_token(int t, int j)
{
	return 2 * t + j % 2 + j / 2 * 8;
}

template <class L>
__device__ __forceinline__ void load_values(
	const uint8_t *tile, int g, int t, uint4 (&v)[4][L::value_loads])
{
	constexpr int bytes = L::row_bytes >= 128 ? 16 : 8;
	const uint8_t *at = tile + (uint32_t)(2 * t * L::row_bytes + g * bytes);
	each<L::value_loads * 4>([&](auto n) {
		constexpr int i = decltype(n)::value / 4, j = decltype(n)::value % 4;
		constexpr int offset = value_token(0, j) * L::row_bytes + i * 128;
		if constexpr (bytes == 16)
			v[j][i] = load16<offset>(at);
		else
			v[j][i] = load8<offset>(at);
	});
}

} // namespace kvt_cuda

#endif
