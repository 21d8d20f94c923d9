/*
 * cuda_decode.cuh: attention of few rows (query heads of query tokens that share a KV head) over
 * paged keys and values, as fast as the memory: every key and value is read once, from memory
 * straight into tensor cores' registers. For cuda_decode_*.cu, one a number format.
 *
 * A warp takes TILES x 16 tokens at a time of a block's run of tokens; the keys of the next
 * are on their way while it weighs these, and so are the values. The running maximum is a whole
 * power of two, so weights are rounded the same whatever the order of tokens and the cut of
 * windows.
 */
#ifndef KVT_CUDA_DECODE_H
#define KVT_CUDA_DECODE_H

#include <float.h>

#include "kernels/cuda_internal.h"
#include "kernels/cuda_layout.cuh"

namespace kvt_cuda
{

enum {
	HALVES = 2,          /* a query's number, and a weight, is the sum of so many of 16 bits */
	QUERY_EXPONENT = 13, /* the largest number of a query row, before it becomes FP16 */
};

struct decode_call {
	const uint8_t *const *pages;
	const float *queries;
	size_t query_stride;
	float *part_output; /* see kvt_cuda_parts */
	float2 *part_stat;
	/* tokens: row r sees those from first on and before end and seen + r / heads */
	uint64_t first, end, seen;
	uint64_t settled; /* those before are so: kvt_cuda_window; 0: none is */
	size_t head_stride, value_offset;
	uint32_t page_shift, rows, parts;
	uint32_t heads_inverse; /* row / heads is row * heads_inverse >> 16 */
	float scale;            /* to logarithms to the base 2 */
};

/*
 * GROUPS of 8 rows; blocks of WARPS warps, BLOCKS of them at once on a multiprocessor and WAVES one
 * after the other; of a query's halves, IN_REGISTERS are kept there and the others in shared
 * memory.
 */
template <class LAYOUT, int GROUPS, int TILES, int WARPS, int BLOCKS, int WAVES, int IN_REGISTERS,
	bool INTERLEAVED>
struct decode_form {
	using layout = LAYOUT;
	using pairs = typename LAYOUT::pairs;
	static constexpr int head_dim = LAYOUT::head_dim, steps = head_dim / 16;
	static constexpr bool staged = false;
	static constexpr int groups = GROUPS, tiles = TILES, warps = WARPS, slots = 8 * GROUPS;
	static constexpr int blocks = BLOCKS, waves = WAVES;
	static constexpr int in_registers = IN_REGISTERS;
	/* from a warp's tiles to its next */
	static constexpr int stride = INTERLEAVED ? TILES * WARPS : TILES;
	static constexpr bool interleaved = INTERLEAVED;
	static constexpr int in_shared = HALVES - IN_REGISTERS;
	/* bytes: outputs of a block's warps, their maxima and sums, parts of queries */
	static constexpr int output_shared = WARPS * slots * head_dim * 4;
	static constexpr int stat_shared = WARPS * slots * 8;
	static constexpr int query_shared = GROUPS * in_shared * steps / 2 * 32 * 16;
	static constexpr int shared =
		(output_shared > query_shared ? output_shared : query_shared) + stat_shared;
};

/* Sums over the tokens so far, of the thread's 2 rows of each group and its dimensions. */
template <class F> struct decode_sums {
	float output[F::groups][F::steps][4];
	float max[F::groups][2], sum[F::groups][2]; /* sum: of the thread's tokens alone */
};

template <class F> struct decode_query {
	uint32_t part[F::groups][F::in_registers > 0 ? F::in_registers : 1][F::steps][2];
	uint32_t shared; /* the thread's place in [groups][in_shared][steps / 2][32] */
	float factor[F::groups]
		    [2]; /* logits of the thread's 2 rows are so many times the product */
};

/* Of a row, what brings its largest number between 2^n and 2^(n + 1), a power of two. */
__device__ __forceinline__ float row_scale(float largest, int n)
{
	const int exponent = (int)(__float_as_uint(largest) >> 23 & 0xff) - 127;
	const int by = largest == 0 || exponent == 128 ? 0 : min(n - exponent, 100);
	return __uint_as_float((uint32_t)(by + 127) << 23);
}

template <class F>
__device__ __forceinline__ void load_row(
	const decode_call &call, unsigned kv_head, int row, int t, float (&q)[F::steps][4])
{
	const float *from = call.queries + kv_head * call.query_stride + (size_t)row * F::head_dim;
#pragma unroll
	for (int step = 0; step < F::steps; step++) {
		float4 four = make_float4(0, 0, 0, 0);
		if (row < (int)call.rows)
			four = *reinterpret_cast<const float4 *>(
				from + F::layout::query_dim(step, t));
		q[step][0] = four.x, q[step][1] = four.y, q[step][2] = four.z, q[step][3] = four.w;
	}
}

/* The rows of the KV head as operands. Every warp has them in registers; of what is in shared
 * memory, the first writes it. */
template <class F>
__device__ __forceinline__ void load_query(
	const decode_call &call, unsigned kv_head, uint4 *shared, decode_query<F> &query)
{
	using P = typename F::pairs;
	const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
	query.shared = (uint32_t)__cvta_generic_to_shared(shared + lane);
#pragma unroll
	for (int group = 0; group < F::groups; group++) {
		float q[F::steps][4], scale = 1;
		load_row<F>(call, kv_head, group * 8 + g, t, q);
		if (P::weight_shift != 0) {
			float largest = 0;
			for (int i = 0; i < F::steps * 4; i++)
				largest = fmaxf(largest, fabsf(q[i / 4][i % 4]));
			largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
			largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
			scale = row_scale(largest, QUERY_EXPONENT);
		}
		for (int i = 0; i < 2; i++)
			query.factor[group][i] =
				call.scale / __shfl_sync(~0u, scale, (2 * t + i) * 4);
#pragma unroll
		for (int step = 0; step < F::steps; step++)
#pragma unroll
			for (int i = 0; i < 2; i++) {
				float low = q[step][2 * i] * scale,
				      high = q[step][2 * i + 1] * scale;
#pragma unroll
				for (int part = 0; part < HALVES; part++) {
					const uint32_t pair = P::pack(low, high);
					low -= P::low(pair), high -= P::high(pair);
					if (part < F::in_registers)
						query.part[group][part][step][i] = pair;
					else if (threadIdx.x < 32)
						reinterpret_cast<uint32_t *>(
							shared +
							((group * F::in_shared + part -
								 F::in_registers) *
									F::steps / 2 +
								step / 2) *
								32 +
							lane)[step % 2 * 2 + i] = pair;
				}
			}
	}
	if (F::in_shared > 0)
		__syncthreads();
}

/* Logits of a tile's tokens g (0, 1) and g + 8 (2, 3) and the thread's 2 rows. */
template <class F>
__device__ __forceinline__ void multiply_keys(const decode_query<F> &query,
	const uint4 (&keys)[2][F::layout::key_loads], float (&logit)[F::groups][4])
{
	using P = typename F::pairs;
	float rest[F::groups][4] = {};
#pragma unroll
	for (int group = 0; group < F::groups; group++)
		logit[group][0] = logit[group][1] = logit[group][2] = logit[group][3] = 0;
#pragma unroll
	for (int pair = 0; pair < F::steps / 2; pair++) {
		uint32_t a[2][4];
		F::layout::key_operand(keys, 2 * pair, a[0]);
		F::layout::key_operand(keys, 2 * pair + 1, a[1]);
#pragma unroll
		for (int group = 0; group < F::groups; group++) {
#pragma unroll
			for (int part = 0; part < F::in_registers; part++)
#pragma unroll
				for (int i = 0; i < 2; i++)
					P::multiply(part ? rest[group] : logit[group], a[i],
						query.part[group][part][2 * pair + i][0],
						query.part[group][part][2 * pair + i][1]);
#pragma unroll
			for (int part = 0; part < F::in_shared; part++) {
				const uint4 b = load_shared(
					query.shared +
					((group * F::in_shared + part) * F::steps / 2 + pair) *
						512);
				float(&sum)[4] =
					F::in_registers + part ? rest[group] : logit[group];
				P::multiply(sum, a[0], b.x, b.y);
				P::multiply(sum, a[1], b.z, b.w);
			}
		}
	}
#pragma unroll
	for (int group = 0; group < F::groups; group++)
#pragma unroll
		for (int i = 0; i < 4; i++)
			logit[group][i] =
				(logit[group][i] + rest[group][i]) * query.factor[group][i % 2];
}

/* How many tokens of the tile are before `to`: 0 to 16, or less than 0 where it is before them all.
 */
__device__ __forceinline__ int within_tile(uint64_t to, uint64_t token)
{
	const int64_t n = (int64_t)(to - token);
	return n < -TILE ? -TILE : n > TILE ? TILE : (int)n;
}

/* Tokens outside the window, or not yet there for a row, get no weight; what lies in place of those
 * that no row sees may be NaN. `token`: the tile's first; `last`: behind the warp's. */
template <class F>
__device__ __forceinline__ void hide_unseen(const decode_call &call, uint64_t token, uint64_t last,
	int g, int t, float (&logit)[F::groups][4], uint4 (&v)[4][F::layout::value_loads])
{
	const int from = within_tile(call.first, token),
		  to = within_tile(min(last, call.end), token);
	/* of row 0: of others, up to 15 more */
	const int seen = within_tile(min(call.seen, call.end), token);
#pragma unroll
	for (int group = 0; group < F::groups; group++)
#pragma unroll
		for (int i = 0; i < 4; i++) {
			const int row = group * 8 + 2 * t + i % 2, at = g + i / 2 * 8;
			const int later = (int)(row * call.heads_inverse >> 16);
			if (at < from || at >= min(to, seen + later))
				logit[group][i] = -INFINITY;
		}
#pragma unroll
	for (int j = 0; j < 4; j++) {
		const int at = value_token(t, j);
		if (at < from || at >= to)
#pragma unroll
			for (int i = 0; i < F::layout::value_loads; i++)
				v[j][i] = make_uint4(0, 0, 0, 0);
	}
}

/* Sums become relative to a new maximum, of those of the warp's tokens. */
template <class F>
__device__ __forceinline__ void raise(decode_sums<F> &s, float (&top)[F::groups][2])
{
#pragma unroll
	for (int group = 0; group < F::groups; group++)
#pragma unroll
		for (int i = 0; i < 2; i++) {
			float a = top[group][i];
#pragma unroll
			for (int d = 4; d < 32; d *= 2)
				a = fmaxf(a, __shfl_xor_sync(~0u, a, d));
			a = fmaxf(s.max[group][i], ceilf(a));
			const float keep = exp2f(s.max[group][i] - a);
			s.max[group][i] = a;
			s.sum[group][i] *= keep;
#pragma unroll
			for (int tile = 0; tile < F::steps; tile++) {
				s.output[group][tile][i] *= keep;
				s.output[group][tile][i + 2] *= keep;
			}
		}
}

/* Logits become weights. */
template <class F>
__device__ __forceinline__ void weigh(decode_sums<F> &s, float (&logit)[F::tiles][F::groups][4])
{
	float top[F::groups][2];
	bool higher = false;
#pragma unroll
	for (int group = 0; group < F::groups; group++)
#pragma unroll
		for (int i = 0; i < 2; i++) {
			float a = fmaxf(logit[0][group][i], logit[0][group][i + 2]);
#pragma unroll
			for (int u = 1; u < F::tiles; u++)
				a = fmaxf(a, fmaxf(logit[u][group][i], logit[u][group][i + 2]));
			top[group][i] = a;
			higher |= a > s.max[group][i];
		}
	if (__any_sync(~0u, higher))
		raise<F>(s, top);
#pragma unroll
	for (int u = 0; u < F::tiles; u++)
#pragma unroll
		for (int group = 0; group < F::groups; group++)
#pragma unroll
			for (int i = 0; i < 4; i++) {
				const float w = exp2f(logit[u][group][i] - s.max[group][i % 2]);
				s.sum[group][i % 2] += w;
				logit[u][group][i] = w;
			}
}

/* Output^T += V^T P^T. */
template <class F>
__device__ __forceinline__ void add_values(decode_sums<F> &s,
	const uint4 (&v)[4][F::layout::value_loads], const float (&weight)[F::groups][4])
{
	using P = typename F::pairs;
	uint32_t b[F::groups][HALVES][2];
#pragma unroll
	for (int group = 0; group < F::groups; group++)
#pragma unroll
		for (int half = 0; half < 2; half++) {
			float low = weight[group][2 * half] * (float)(1 << P::weight_shift);
			float high = weight[group][2 * half + 1] * (float)(1 << P::weight_shift);
#pragma unroll
			for (int part = 0; part < HALVES; part++) {
				const uint32_t pair = P::pack(low, high);
				low -= P::low(pair), high -= P::high(pair);
				b[group][part][half] = transpose(pair);
			}
		}
#pragma unroll
	for (int tile = 0; tile < F::steps; tile++) {
		uint32_t a[4];
		F::layout::value_operand(v, tile, a);
#pragma unroll
		for (int group = 0; group < F::groups; group++)
#pragma unroll
			for (int part = 0; part < HALVES; part++)
				P::multiply(s.output[group][tile], a, b[group][part][0],
					b[group][part][1]);
	}
}

/* Where a tile's keys lie; of a number beyond the last tile, the last one's. */
template <class F>
__device__ __forceinline__ const uint8_t *tile_place(
	const decode_call &call, unsigned kv_head, uint32_t tile, uint32_t last)
{
	const uint64_t token = (uint64_t)min(tile, last - 1) * TILE;
	const uint32_t within = (uint32_t)token & ((1u << call.page_shift) - 1);
	return call.pages[token >> call.page_shift] + kv_head * call.head_stride +
	       (size_t)within * F::layout::row_bytes;
}

/* What a warp has loaded and where the next lie. */
template <class F> struct decode_loads {
	uint4 keys[F::tiles][2][F::layout::key_loads], values[F::tiles][4][F::layout::value_loads];
	const uint8_t *next[F::tiles];
};

/* Begins with tile `tile`, which there is. */
template <class F>
__device__ __forceinline__ void begin_loads(const decode_call &call, unsigned kv_head,
	uint32_t tile, uint32_t last, decode_loads<F> &loads)
{
	using L = typename F::layout;
	const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
	for (int u = 0; u < F::tiles; u++) {
		loads.next[u] = tile_place<F>(call, kv_head, tile + u, last);
		load_keys<L>(loads.next[u], g, t, loads.keys[u]);
	}
#pragma unroll
	for (int u = 0; u < F::tiles; u++) {
		load_values<L>(loads.next[u] + call.value_offset, g, t, loads.values[u]);
		loads.next[u] = tile_place<F>(call, kv_head, tile + F::stride + u, last);
	}
}

/* The warp's tiles from `tile` on and before `last`, of which the first are on their way. */
template <class F>
__device__ __forceinline__ void attend(const decode_call &call, const decode_query<F> &query,
	unsigned kv_head, uint32_t tile, uint32_t last, decode_loads<F> &loads, decode_sums<F> &s)
{
	using L = typename F::layout;
	const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
	/* between these, all tokens are seen by all rows */
	const uint32_t clear_from = (uint32_t)((call.first + TILE - 1) / TILE);
	const uint32_t clear_to = min(last, (uint32_t)(min(call.seen, call.end) / TILE));
	for (;; tile += F::stride) {
		const bool goes_on = tile + F::stride < last;
		const uint8_t *after[F::tiles];
		float logit[F::tiles][F::groups][4];
#pragma unroll
		for (int u = 0; u < F::tiles; u++) {
			multiply_keys<F>(query, loads.keys[u], logit[u]);
			if (goes_on)
				load_keys<L>(loads.next[u], g, t, loads.keys[u]);
		}
#pragma unroll
		for (int u = 0; u < F::tiles; u++)
			after[u] = tile_place<F>(call, kv_head, tile + 2 * F::stride + u, last);
		if (tile < clear_from || tile + F::tiles > clear_to)
#pragma unroll
			for (int u = 0; u < F::tiles; u++)
				hide_unseen<F>(call, (uint64_t)(tile + u) * TILE,
					(uint64_t)last * TILE, g, t, logit[u], loads.values[u]);
		weigh<F>(s, logit);
#pragma unroll
		for (int u = 0; u < F::tiles; u++) {
			add_values<F>(s, loads.values[u], logit[u]);
			if (goes_on)
				load_values<L>(
					loads.next[u] + call.value_offset, g, t, loads.values[u]);
			loads.next[u] = after[u];
		}
		if (!goes_on)
			return;
	}
}

/* The sums of a block's warps become one part. */
template <class F>
__device__ __forceinline__ void write_part(
	const decode_call &call, size_t part, decode_sums<F> &s, float *outputs)
{
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
	float *maxima = outputs + F::warps * F::slots * F::head_dim; /* [warps][slots] */
	float *sums = maxima + F::warps * F::slots;
#pragma unroll
	for (int group = 0; group < F::groups; group++)
#pragma unroll
		for (int i = 0; i < 2; i++) {
			const int row = warp * F::slots + group * 8 + 2 * t + i;
			float sum = s.sum[group][i];
			for (int d = 4; d < 32; d *= 2)
				sum += __shfl_xor_sync(~0u, sum, d);
			if (g == 0) {
				maxima[row] = s.max[group][i];
				sums[row] = sum;
			}
#pragma unroll
			for (int tile = 0; tile < F::steps; tile++) {
				float *to =
					outputs + row * F::head_dim + F::layout::value_dim(tile, g);
				to[0] = s.output[group][tile][i];
				to[1] = s.output[group][tile][i + 2];
			}
		}
	__syncthreads();
	for (unsigned i = threadIdx.x; i < call.rows * F::head_dim / 4; i += F::warps * 32) {
		const unsigned row = i / (F::head_dim / 4), quad = i % (F::head_dim / 4);
		float max = -FLT_MAX, sum = 0;
#pragma unroll
		for (int w = 0; w < F::warps; w++)
			max = fmaxf(max, maxima[w * F::slots + row]);
		float4 output = make_float4(0, 0, 0, 0);
#pragma unroll
		for (int w = 0; w < F::warps; w++) {
			const float keep = exp2f(maxima[w * F::slots + row] - max);
			const float4 x = *reinterpret_cast<const float4 *>(
				outputs + (w * F::slots + row) * F::head_dim + quad * 4);
			sum += keep * sums[w * F::slots + row];
			output.x += keep * x.x, output.y += keep * x.y;
			output.z += keep * x.z, output.w += keep * x.w;
		}
		*reinterpret_cast<float4 *>(
			call.part_output + (part * F::slots + row) * F::head_dim + quad * 4) =
			output;
		if (quad == 0)
			call.part_stat[part * F::slots + row] = make_float2(max, sum);
	}
}

/* A block's share of a KV head's tiles, and of it each warp's: one part. */
template <class F>
__global__ __launch_bounds__(F::warps * 32, F::blocks) void decode_parts(decode_call call)
{
	extern __shared__ float4 memory[];
#if __CUDA_ARCH__ >= 900
	/* what comes before is over; what follows may get ready and wait for this */
	asm volatile("griddepcontrol.wait;" ::: "memory");
	asm volatile("griddepcontrol.launch_dependents;");
#endif
	const unsigned warp = threadIdx.x / 32, kv_head = blockIdx.y;
	const uint64_t from = call.first / TILE;
	const uint64_t tiles = call.end > call.first ? (call.end + TILE - 1) / TILE - from : 0;
	const uint64_t begin = from + tiles * blockIdx.x / call.parts;
	const uint64_t share = from + tiles * (blockIdx.x + 1) / call.parts - begin;
	const uint32_t tile =
		(uint32_t)(begin + (F::interleaved ? warp * F::tiles : share * warp / F::warps));
	const uint32_t last =
		(uint32_t)(begin + (F::interleaved ? share : share * (warp + 1) / F::warps));
	decode_loads<F> loads;
	if (tile < last)
		begin_loads<F>(call, kv_head, tile, last, loads);
	decode_query<F> query;
	load_query<F>(call, kv_head, reinterpret_cast<uint4 *>(memory), query);
	decode_sums<F> s = {};
#pragma unroll
	for (int i = 0; i < 2 * F::groups; i++)
		s.max[i / 2][i % 2] = -FLT_MAX;
	if (tile < last)
		attend<F>(call, query, kv_head, tile, last, loads, s);
	if (F::in_shared > 0)
		__syncthreads();
	write_part<F>(call, (size_t)kv_head * call.parts + blockIdx.x, s,
		reinterpret_cast<float *>(memory));
}

/* Parts of each KV head: all that the device runs at once, in so many waves, but none of nothing.
 */
template <class F> uint32_t decode_part_count(const decode_call &call, uint32_t kv_heads)
{
	const uint64_t tiles =
		call.end > call.first ? (call.end + TILE - 1) / TILE - call.first / TILE : 1;
	uint64_t parts = (uint64_t)kvt_cuda_processors() * F::blocks * F::waves / kv_heads;
	parts = parts < (uint64_t)KVT_CUDA_PARTS_MAX ? parts : (uint64_t)KVT_CUDA_PARTS_MAX;
	const uint64_t most = (tiles + F::tiles - 1) / F::tiles;
	parts = parts < most ? parts : most;
	return parts > 1 ? (uint32_t)parts : 1;
}

template <class F>
int decode_launch(
	void (*kernel)(decode_call), decode_call *call, uint32_t kv_heads, cudaStream_t stream)
{
	call->parts = decode_part_count<F>(*call, kv_heads);
	cudaError_t error = cudaFuncSetAttribute(
		kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, F::shared);
	if (error != cudaSuccess)
		return kvt_cuda_status(error);
	cudaLaunchAttribute early = {};
	early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
	early.val.programmaticStreamSerializationAllowed = 1;
	cudaLaunchConfig_t config = {};
	config.gridDim = dim3(call->parts, kv_heads);
	config.blockDim = dim3(F::warps * 32);
	config.dynamicSmemBytes = F::shared;
	config.stream = stream;
	config.attrs = &early;
	config.numAttrs = kvt_cuda_launches_early() ? 1 : 0;
	return kvt_cuda_status(cudaLaunchKernelEx(&config, kernel, *call));
}

/* One a number format: launches the form for the call's head_dim and rows; sets call->parts. */
int decode_bf16(decode_call *call, uint32_t head_dim, uint32_t kv_heads, cudaStream_t stream);
int decode_f16(decode_call *call, uint32_t head_dim, uint32_t kv_heads, cudaStream_t stream);
int decode_e4m3(decode_call *call, uint32_t head_dim, uint32_t kv_heads, cudaStream_t stream);

} // namespace kvt_cuda

#endif
