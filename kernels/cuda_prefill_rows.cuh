/*
 * cuda_prefill_rows.cuh: the kernel of cuda_prefill.cu, which alone includes it: attention of 128
 * rows (query tokens x heads that share a KV head) over paged keys and values. Launching it and
 * joining parts is not here.
 *
 * A block of 4 warps takes 128 rows, 32 a warp, and 64 tokens at a time: keys and values come to
 * shared memory while those before are multiplied. 16-byte pieces of a row lie there in another
 * order in every row, so that no two threads meet at a bank. The running maximum is a whole power
 * of two: weights are rounded the same whatever the order of tokens.
 */
#ifndef KVT_CUDA_PREFILL_ROWS_H
#define KVT_CUDA_PREFILL_ROWS_H

#include "kernels/cuda_kernels.h"
#include "kernels/cuda_tensor.cuh"

namespace
{

enum {
	WARPS = 4,
	THREADS = WARPS * 32,
	WARP_ROWS = 32,
	ROWS = WARPS * WARP_ROWS,
	TOKENS = 64,
	GROUP = TOKENS / WARPS, // tokens that a warp fetches: of one page
	STEPS = TOKENS / 16,
};

struct prefill_call {
	const uint8_t *const *pages;
	const float *queries; // KV head h's rows begin at queries + h * stride
	size_t stride;
	float *output, *lse;
	float *part_output; // [rest * splits][ROWS][head_dim], relative to 2^max
	float2 *part_stat;  // [rest * splits][ROWS]: max, sum of weights
	uint64_t first, n_tokens, seen;
	size_t head_stride, value_offset;
	uint32_t page_shift, heads, n_rows, row_tiles;
	// tiles of rows that one block attends with, and those that `splits` blocks share
	uint32_t whole, rest, splits;
	float scale, sign; // of a product, to a logit in octaves: above 0; of queries: 1 or -1
	float value_scale;

	// a row does not see tokens from here on
	__device__ __forceinline__ uint64_t end(uint32_t row) const
	{
		const uint64_t sees = seen + row / heads;
		return first + (sees < n_tokens ? sees : n_tokens);
	}
};

// Numbers of 2 bytes in shared memory: as they come.
template <class PAIRS, int HEAD_DIM> struct wide_tiles {
	using pairs = PAIRS;
	static constexpr int head_dim = HEAD_DIM, row_bytes = HEAD_DIM * 2;

	// of 16-byte pieces
	static __device__ __forceinline__ int place(int row, int piece)
	{
		return piece ^ (row & 7);
	}
	// What the thread has of keys' operands, for 16 dimensions and 8 x 4 tokens.
	static __device__ __forceinline__ uint32_t key_lane(uint32_t keys, int lane)
	{
		const int row = lane % 8 + lane / 16 * 8;
		return keys + row * row_bytes + place(row, lane / 8 % 2) * 16;
	}
	static __device__ __forceinline__ void load_keys(
		uint32_t lane, int step, int quarter, uint32_t (&b)[4][2])
	{
		const uint32_t at = (lane ^ (uint32_t)(step * 32)) + quarter * 32 * row_bytes;
#pragma unroll
		for (int i = 0; i < 2; i++) {
			uint32_t r[4];
			load_matrices(r, at + i * 16 * row_bytes);
			b[2 * i][0] = r[0], b[2 * i][1] = r[1];
			b[2 * i + 1][0] = r[2], b[2 * i + 1][1] = r[3];
		}
	}
	// The same of values, for 2 x 16 tokens and 8 x 2 dimensions.
	static __device__ __forceinline__ uint32_t value_lane(uint32_t values, int lane)
	{
		const int row = lane % 16;
		return values + row * row_bytes + place(row, lane / 16) * 16;
	}
	static __device__ __forceinline__ void load_values(
		uint32_t lane, int sixteen, int half, uint32_t (&b)[2][2][2])
	{
		const uint32_t at = (lane ^ (uint32_t)(sixteen * 32)) + half * 32 * row_bytes;
#pragma unroll
		for (int i = 0; i < 2; i++) {
			uint32_t r[4];
			load_transposed(r, at + i * 16 * row_bytes);
			b[i][0][0] = r[0], b[i][0][1] = r[1];
			b[i][1][0] = r[2], b[i][1][1] = r[3];
		}
	}
	// Where the thread's pairs of 4 dimensions of a query go.
	static __device__ __forceinline__ void store_query(
		uint8_t *rows, int row, int quad, uint32_t low, uint32_t high)
	{
		uint8_t *to =
			rows + row * HEAD_DIM * 2 + (quad / 2 ^ (row & 7)) * 16 + quad % 2 * 8;
		*reinterpret_cast<uint2 *>(to) = make_uint2(low, high);
	}
	// Sums of 16 dimensions: of 8, and of the 8 after them.
	static __device__ __forceinline__ void store_output(
		float *row, int sixteen, int t, float a0, float a1, float b0, float b1)
	{
		float *to = row + sixteen * 16 + t * 2;
		*reinterpret_cast<float2 *>(to) = make_float2(a0, a1);
		*reinterpret_cast<float2 *>(to + 8) = make_float2(b0, b1);
	}
};

// The same of bytes, which become FP16 on their way to the tensor cores. As 16-bit matrices are
// what a warp loads, 16 dimensions are taken in another order, the same for queries and keys; and
// values of even dimensions come before those of odd ones.
template <int HEAD_DIM> struct byte_tiles {
	using pairs = f16_pairs;
	static constexpr int head_dim = HEAD_DIM, row_bytes = HEAD_DIM;

	static __device__ __forceinline__ int place(int row, int piece)
	{
		return row_bytes >= 128 ? piece ^ (row & 7) : piece ^ (row / 2 & 3);
	}
	static __device__ __forceinline__ uint32_t key_lane(uint32_t keys, int lane)
	{
		return keys + lane * row_bytes + place(lane, 0) * 16;
	}
	static __device__ __forceinline__ void load_keys(
		uint32_t lane, int step, int quarter, uint32_t (&b)[4][2])
	{
		uint32_t r[4];
		load_matrices(r, (lane ^ (uint32_t)(step * 16)) + quarter * 32 * row_bytes);
#pragma unroll
		for (int i = 0; i < 4; i++) {
			b[i][0] = e4m3_pair(r[i] & 0xffff);
			b[i][1] = e4m3_pair(r[i] >> 16);
		}
	}
	static __device__ __forceinline__ uint32_t value_lane(uint32_t values, int lane)
	{
		return key_lane(values, lane);
	}
	static __device__ __forceinline__ void load_values(
		uint32_t lane, int sixteen, int half, uint32_t (&b)[2][2][2])
	{
		uint32_t r[4];
		load_transposed(r, (lane ^ (uint32_t)(sixteen * 16)) + half * 32 * row_bytes);
#pragma unroll
		for (int i = 0; i < 4; i++) {
			// tokens 2 t and 2 t + 1 of an even dimension, then of the odd one after it
			const uint32_t v = __byte_perm(r[i], 0, 0x3120);
			b[i / 2][0][i % 2] = e4m3_pair(v & 0xffff);
			b[i / 2][1][i % 2] = e4m3_pair(v >> 16);
		}
	}
	static __device__ __forceinline__ void store_query(
		uint8_t *rows, int row, int quad, uint32_t low, uint32_t high)
	{
		uint8_t *to = rows + row * HEAD_DIM * 2 + quad % 4 * 4;
		const int piece = quad / 4 * 2;
		*reinterpret_cast<uint32_t *>(to + (piece ^ (row & 7)) * 16) = low;
		*reinterpret_cast<uint32_t *>(to + ((piece + 1) ^ (row & 7)) * 16) = high;
	}
	static __device__ __forceinline__ void store_output(
		float *row, int sixteen, int t, float a0, float a1, float b0, float b1)
	{
		*reinterpret_cast<float4 *>(row + sixteen * 16 + t * 4) =
			make_float4(a0, b0, a1, b1);
	}
};

// What a block attends with and to: rows from `row` on, tiles [tile, last) of 64 tokens.
struct share {
	uint32_t kv_head, row;
	int part; // its place among parts, -1: it has all tokens
	uint32_t tile, last;
	uint32_t plain, plain_end; // of these tiles every row sees every token
	uint32_t last_group;       // of 16 tokens, of which any of its rows sees one
	uint64_t end;              // tokens that any of its rows sees
};

// Called again where it is needed: registers are short in the loop over tokens, and a compiler that
// knew that the results are the same would keep them.
__device__ __forceinline__ share share_of(const prefill_call &call)
{
	uint32_t index, split = 0, splits = 1;
	share s;
	asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(index));
	s.part = -1;
	if (index >= call.whole) {
		s.part = (int)(index - call.whole);
		index = call.whole + (uint32_t)s.part % call.rest;
		split = (uint32_t)s.part / call.rest;
		splits = call.splits;
	}
	s.kv_head = index / call.row_tiles;
	// those that see the most begin first
	s.row = (call.row_tiles - 1 - index % call.row_tiles) * ROWS;
	s.end = call.end(min(s.row + ROWS, call.n_rows) - 1);
	const uint32_t from = (uint32_t)(call.first / TOKENS);
	const uint64_t n = s.end > call.first ? (s.end + TOKENS - 1) / TOKENS - from : 0;
	s.tile = from + (uint32_t)(n * split / splits);
	s.last = from + (uint32_t)(n * (split + 1) / splits);
	s.plain = (uint32_t)((call.first + TOKENS - 1) / TOKENS);
	s.plain_end = (uint32_t)(call.end(s.row) / TOKENS);
	s.last_group = (uint32_t)((s.end - 1) / GROUP);
	return s;
}

// Queries become numbers of 16 bits in shared memory: `rows`, and what rounding left at `rests`.
template <class L, bool HALVES>
__device__ __forceinline__ void load_queries(
	const prefill_call &call, const share &s, uint8_t *rows, uint8_t *rests)
{
	using P = typename L::pairs;
	constexpr int QUADS = L::head_dim / 4;
	const float *from = call.queries + s.kv_head * call.stride + (size_t)s.row * L::head_dim;
	for (int i = (int)threadIdx.x; i < ROWS * QUADS; i += THREADS) {
		const int row = i / QUADS, quad = i % QUADS;
		float4 q = make_float4(0, 0, 0, 0);
		if (s.row + (uint32_t)row < call.n_rows)
			q = *reinterpret_cast<const float4 *>(from + (size_t)i * 4);
		q.x *= call.sign, q.y *= call.sign, q.z *= call.sign, q.w *= call.sign;
		const uint32_t low = P::pack(q.x, q.y), high = P::pack(q.z, q.w);
		L::store_query(rows, row, quad, low, high);
		if (HALVES)
			L::store_query(rests, row, quad,
				P::pack(q.x - P::low(low), q.y - P::high(low)),
				P::pack(q.z - P::low(high), q.w - P::high(high)));
	}
}

// Where the tokens begin that the thread's warp fetches of a tile. Of those that nobody sees the
// page may not exist: any other will do.
template <class L>
__device__ __forceinline__ const uint8_t *group_of(
	const prefill_call &call, const share &s, uint32_t tile, int warp)
{
	const uint64_t token = (uint64_t)min(tile * WARPS + warp, s.last_group) * GROUP;
	const uint32_t within = (uint32_t)token & ((1u << call.page_shift) - 1);
	return call.pages[token >> call.page_shift] + s.kv_head * call.head_stride +
	       (size_t)within * L::row_bytes;
}

// Where the thread's first 16 bytes of a tile go.
template <class L> __device__ __forceinline__ uint32_t fetch_lane(int warp, int lane)
{
	constexpr int PIECES = L::row_bytes / 16;
	const int row = warp * GROUP + lane / PIECES;
	return (uint32_t)(row * L::row_bytes + L::place(row, lane % PIECES) * 16);
}

// Fetches the warp's 16 tokens of a tile's keys or values, and zeros for tokens outside the window:
// what lies there may be NaN.
template <class L>
__device__ __forceinline__ void fetch(
	const prefill_call &call, const share &s, uint32_t tile, const uint8_t *group, uint32_t to)
{
	constexpr int PIECES = L::row_bytes / 16, TOGETHER = 32 / PIECES;
	const int lane = (int)threadIdx.x % 32;
	const uint8_t *from = group + lane * 16;
	if (tile >= s.plain && tile < s.plain_end) {
#pragma unroll
		for (int i = 0; i < GROUP / TOGETHER; i++)
			copy16((to ^ (uint32_t)(L::place(i * TOGETHER, 0) * 16)) + i * 512,
				from + i * 512);
		return;
	}
	const uint64_t token = (uint64_t)tile * TOKENS + threadIdx.x / 32 * GROUP + lane / PIECES;
	const uint64_t end = share_of(call).end;
#pragma unroll
	for (int i = 0; i < GROUP / TOGETHER; i++)
		copy16_if(token + i * TOGETHER >= call.first && token + i * TOGETHER < end,
			(to ^ (uint32_t)(L::place(i * TOGETHER, 0) * 16)) + i * 512,
			from + i * 512);
}

// Of the thread's rows [16 rows][g or g + 8]: sums over the tokens so far.
template <int HEAD_DIM> struct sums {
	float output[2][HEAD_DIM / 8][4];
	float max[2][2], weight[2][2]; // weight: of the thread's tokens alone
};

// Products of the warp's queries with 64 keys.
template <class L, bool HALVES>
__device__ __forceinline__ void multiply_keys(
	uint32_t queries, uint32_t keys, float (&logit)[2][TOKENS / 8][4])
{
	using P = typename L::pairs;
	constexpr int SIXTEEN = 16 * L::head_dim * 2, RESTS = ROWS * L::head_dim * 2;
#pragma unroll
	for (int m = 0; m < 2; m++)
#pragma unroll
		for (int n = 0; n < TOKENS / 8; n++)
			logit[m][n][0] = logit[m][n][1] = logit[m][n][2] = logit[m][n][3] = 0;
#pragma unroll
	for (int step = 0; step < L::head_dim / 16; step++) {
		uint32_t q[2][4], r[2][4];
#pragma unroll
		for (int m = 0; m < 2; m++) {
			load_matrices(q[m], (queries ^ (uint32_t)(step * 32)) + m * SIXTEEN);
			if (HALVES)
				load_matrices(r[m],
					(queries ^ (uint32_t)(step * 32)) + m * SIXTEEN + RESTS);
		}
#pragma unroll
		for (int half = 0; half < 2; half++) {
			uint32_t b[4][2];
			L::load_keys(keys, step, half, b);
#pragma unroll
			for (int m = 0; m < 2; m++)
#pragma unroll
				for (int n = 0; n < 4; n++)
					P::multiply(logit[m][half * 4 + n], q[m], b[n][0], b[n][1]);
			if (HALVES)
#pragma unroll
				for (int m = 0; m < 2; m++)
#pragma unroll
					for (int n = 0; n < 4; n++)
						P::multiply(logit[m][half * 4 + n], r[m], b[n][0],
							b[n][1]);
		}
	}
}

// Tokens that a row does not see get no weight.
__device__ __forceinline__ void hide_unseen(
	const prefill_call &call, uint32_t tile, float (&logit)[2][TOKENS / 8][4])
{
	const int warp = (int)threadIdx.x / 32, g = (int)threadIdx.x % 32 / 4,
		  t = (int)threadIdx.x % 4;
	const uint64_t base = (uint64_t)tile * TOKENS;
	const int from = call.first > base ? (int)(call.first - base) : 0;
	const uint32_t first_row = share_of(call).row;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		const int m = i / 2, h = i % 2;
		const uint64_t end = call.end(first_row + warp * WARP_ROWS + m * 16 + h * 8 + g);
		const int to = end <= base ? 0 : end - base >= TOKENS ? TOKENS : (int)(end - base);
#pragma unroll
		for (int n = 0; n < TOKENS / 8; n++)
#pragma unroll
			for (int k = 0; k < 2; k++) {
				const int token = n * 8 + t * 2 + k;
				if (token < from || token >= to)
					logit[m][n][h * 2 + k] = -INFINITY;
			}
	}
}

// The largest product of a row, of the thread's tokens. NaN is not larger than anything.
__device__ __forceinline__ float largest(const float (&logit)[TOKENS / 8][4], int h)
{
	float top = fmaxf(logit[0][h * 2], logit[0][h * 2 + 1]);
#pragma unroll
	for (int n = 1; n < TOKENS / 8; n++)
		top = fmaxf(top, fmaxf(logit[n][h * 2], logit[n][h * 2 + 1]));
	return top;
}

// Products become weights; the sums become relative to a new maximum where there is one.
template <class L>
__device__ __forceinline__ void weigh(
	float scale, sums<L::head_dim> &s, float (&logit)[2][TOKENS / 8][4])
{
	float top[2][2];
	bool more = false;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		top[i / 2][i % 2] = largest(logit[i / 2], i % 2) * scale;
		more = more || top[i / 2][i % 2] > s.max[i / 2][i % 2];
	}
	if (__any_sync(~0u, more)) {
#pragma unroll
		for (int i = 0; i < 4; i++) {
			const int m = i / 2, h = i % 2;
			float x = top[m][h];
			x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
			x = fmaxf(x, __shfl_xor_sync(~0u, x, 2));
			x = fmaxf(s.max[m][h], ceilf(x));
			const float f = power_of_two(s.max[m][h] - x);
			s.max[m][h] = x;
			s.weight[m][h] *= f;
#pragma unroll
			for (int n = 0; n < L::head_dim / 8; n++) {
				s.output[m][n][h * 2] *= f;
				s.output[m][n][h * 2 + 1] *= f;
			}
		}
	}
#pragma unroll
	for (int i = 0; i < 4; i++) {
		const int m = i / 2, h = i % 2;
		const float less = L::pairs::weight_shift - s.max[m][h];
		float sum = 0;
#pragma unroll
		for (int n = 0; n < TOKENS / 8; n++)
#pragma unroll
			for (int k = 0; k < 2; k++) {
				float &x = logit[m][n][h * 2 + k];
				x = power_of_two(fmaf(x, scale, less));
				sum += x;
			}
		s.weight[m][h] += sum;
	}
}

// Adds 64 values by their weights. With two halves a tile is summed by itself and then added, which
// rounds to nearest: what tensor cores add, they cut off.
template <class L, bool HALVES>
__device__ __forceinline__ void add_values(
	uint32_t values, const float (&weight)[2][TOKENS / 8][4], sums<L::head_dim> &s)
{
	using P = typename L::pairs;
	uint32_t w[2][STEPS][4], r[2][STEPS][4];
#pragma unroll
	for (int m = 0; m < 2; m++)
#pragma unroll
		for (int step = 0; step < STEPS; step++)
#pragma unroll
			for (int i = 0; i < 4; i++) {
				const float *pair = &weight[m][step * 2 + i / 2][i % 2 * 2];
				const uint32_t both = P::pack(pair[0], pair[1]);
				w[m][step][i] = both;
				if (HALVES)
					r[m][step][i] = P::pack(
						pair[0] - P::low(both), pair[1] - P::high(both));
			}
#pragma unroll
	for (int d = 0; d < L::head_dim / 16; d++) {
		float sum[2][2][4];
#pragma unroll
		for (int i = 0; i < 16; i++)
			sum[i / 8][i / 4 % 2][i % 4] =
				HALVES ? 0 : s.output[i / 8][d * 2 + i / 4 % 2][i % 4];
#pragma unroll
		for (int half = 0; half < 2; half++) {
			uint32_t b[2][2][2];
			L::load_values(values, d, half, b);
#pragma unroll
			for (int step = 0; step < 2; step++) {
				const int k = half * 2 + step;
#pragma unroll
				for (int i = 0; i < 4; i++)
					P::multiply(sum[i / 2][i % 2], w[i / 2][k],
						b[step][i % 2][0], b[step][i % 2][1]);
				if (HALVES)
#pragma unroll
					for (int i = 0; i < 4; i++)
						P::multiply(sum[i / 2][i % 2], r[i / 2][k],
							b[step][i % 2][0], b[step][i % 2][1]);
			}
		}
#pragma unroll
		for (int i = 0; i < 16; i++) {
			float &x = s.output[i / 8][d * 2 + i / 4 % 2][i % 4];
			x = HALVES ? x + sum[i / 8][i / 4 % 2][i % 4]
				   : sum[i / 8][i / 4 % 2][i % 4];
		}
	}
}

// Weights' sums are whole; the block's results, or its part of them.
template <class L>
__device__ __forceinline__ void store(const prefill_call &call, sums<L::head_dim> &s)
{
	const share sh = share_of(call);
	const int warp = (int)threadIdx.x / 32, g = (int)threadIdx.x % 32 / 4,
		  t = (int)threadIdx.x % 4;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		const int m = i / 2, h = i % 2;
		float weight = s.weight[m][h];
		weight += __shfl_xor_sync(~0u, weight, 1);
		weight += __shfl_xor_sync(~0u, weight, 2);
		const float max = s.max[m][h] - L::pairs::weight_shift;
		const int within = warp * WARP_ROWS + m * 16 + h * 8 + g;
		if (sh.row + (uint32_t)within >= call.n_rows)
			continue;
		float f = 1, *to;
		if (sh.part >= 0) {
			const size_t row = (size_t)sh.part * ROWS + within;
			to = call.part_output + row * L::head_dim;
			if (t == 0)
				call.part_stat[row] = make_float2(max, weight);
		} else {
			const size_t row = (size_t)sh.kv_head * call.n_rows + sh.row + within;
			to = call.output + row * L::head_dim;
			f = weight == 0 ? 0 : call.value_scale / weight;
			if (t == 0)
				call.lse[row] =
					weight == 0 ? -INFINITY
						    : (max + log2f(weight)) * 0.69314718055994531f;
		}
#pragma unroll
		for (int d = 0; d < L::head_dim / 16; d++) {
			const float *a = s.output[m][d * 2], *b = s.output[m][d * 2 + 1];
			L::store_output(to, d, t, a[h * 2] * f, a[h * 2 + 1] * f, b[h * 2] * f,
				b[h * 2 + 1] * f);
		}
	}
}

template <class L, bool HALVES>
__global__ __launch_bounds__(THREADS, 2) void prefill_rows(const prefill_call call)
{
	extern __shared__ __align__(1024) uint8_t memory[];
	constexpr int QUERY_BYTES = ROWS * L::head_dim * 2, TILE_BYTES = TOKENS * L::row_bytes;
	uint8_t *rests = memory + (HALVES ? QUERY_BYTES : 0);
	const uint32_t keys = shared_address(rests + QUERY_BYTES), values = keys + TILE_BYTES;
	const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
	const share sh = share_of(call);
	sums<L::head_dim> s;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		s.max[i / 2][i % 2] = -1e30f;
		s.weight[i / 2][i % 2] = 0;
	}
#pragma unroll
	for (int i = 0; i < L::head_dim; i++)
		s.output[i / (L::head_dim / 2)][i / 4 % (L::head_dim / 8)][i % 4] = 0;

	if (sh.tile < sh.last) {
		const uint32_t fetch_to = keys + fetch_lane<L>(warp, lane);
		const uint8_t *group = group_of<L>(call, sh, sh.tile, warp);
		fetch<L>(call, sh, sh.tile, group, fetch_to);
		load_queries<L, HALVES>(call, sh, memory, rests);
		const int row = warp * WARP_ROWS + lane % 16;
		const uint32_t query_lane = shared_address(memory) + row * L::head_dim * 2 +
					    ((lane / 16) ^ (row & 7)) * 16;
		const uint32_t key_lane = L::key_lane(keys, lane);
		const uint32_t value_lane = L::value_lane(values, lane);
		for (uint32_t tile = sh.tile; tile < sh.last; tile++) {
			const bool goes_on = tile + 1 < sh.last;
			float logit[2][TOKENS / 8][4];
			// the keys are there, and nobody needs the values before them any more
			await_copies();
			__syncthreads();
			fetch<L>(call, sh, tile, group + call.value_offset, fetch_to + TILE_BYTES);
			if (goes_on)
				group = group_of<L>(call, sh, tile + 1, warp);
			multiply_keys<L, HALVES>(query_lane, key_lane, logit);
			await_copies();
			__syncthreads();
			if (goes_on)
				fetch<L>(call, sh, tile + 1, group, fetch_to);
			if (tile < sh.plain || tile >= sh.plain_end)
				hide_unseen(call, tile, logit);
			weigh<L>(call.scale, s, logit);
			add_values<L, HALVES>(value_lane, logit, s);
		}
	}
	store<L>(call, s);
}

} // namespace

#endif
