/*
 * cuda_decode_staged.cuh: decode attention whose keys and values come to shared memory in whole
 * tiles, by bulk copies, instead of into registers: memory sees few large reads, and more of them
 * are under way than registers hold. What is computed is cuda_decode.cuh's, in the same order. For
 * numbers of 2 bytes, head_dim 128 and compute capability 9.0; elsewhere another form takes over.
 *
 * A warp has STAGES tiles, 4 KiB of keys and 4 KiB of values each, and serves itself: as soon as it
 * has read a tile into registers, its first thread begins the copy of the one that comes STAGES
 * later. Nothing waits for other warps until the end.
 * Of tokens that are settled (kvt_cuda_window) the first copies are begun before what comes before
 * in the stream is over: as much as the stages hold is on its way meanwhile.
 *
 * A multiprocessor runs one block. With smaller ones, of which two fit, so that the next call's is
 * there early, an H200 reads 3240 GB/s where it reads 4050 (131,072 tokens x 4 KV heads, queued).
 */
#ifndef KVT_CUDA_DECODE_STAGED_H
#define KVT_CUDA_DECODE_STAGED_H

#include "kernels/cuda_bulk.cuh"
#include "kernels/cuda_decode.cuh"

namespace kvt_cuda
{

/*
 * Rows of 256 bytes in shared memory, all of which begin at the same bank. Keys: 4 threads read 64
 * bytes of a row while the 4 beside them read the other 64 of the next. Values: a thread's 16
 * dimensions follow each other, and it begins with another 8 bytes of these than its neighbours.
 */
template <class PAIRS> struct staged_layout : wide_layout<PAIRS, 128> {
	static __device__ __forceinline__ int value_dim(int tile, int g)
	{
		return g * 16 + tile * 2;
	}
};

__device__ __forceinline__ uint4 select(bool other, const uint4 &a, const uint4 &b)
{
	return make_uint4(
		other ? b.x : a.x, other ? b.y : a.y, other ? b.z : a.z, other ? b.w : a.w);
}

__device__ __forceinline__ uint2 select(bool other, const uint2 &a, const uint2 &b)
{
	return make_uint2(other ? b.x : a.x, other ? b.y : a.y);
}

template <class L>
__device__ __forceinline__ void read_keys(uint32_t tile, int g, int t, uint4 (&k)[2][L::key_loads])
{
	const bool odd = g % 2;
	const uint32_t at = tile + (uint32_t)(g * L::row_bytes + t * 16);
#pragma unroll
	for (int row = 0; row < 2; row++)
#pragma unroll
		for (int i = 0; i < L::key_loads; i += 2) {
			const uint32_t from = at + row * 8 * L::row_bytes + i * 64;
			const uint4 a = load_shared(from + (odd ? 64 : 0));
			const uint4 b = load_shared(from + (odd ? 0 : 64));
			k[row][i] = select(odd, a, b);
			k[row][i + 1] = select(odd, b, a);
		}
}

template <class L>
__device__ __forceinline__ void read_values(
	uint32_t tile, int g, int t, uint4 (&v)[4][L::value_loads])
{
	const bool odd = t % 2, high = t / 2;
	const uint32_t at = tile + (uint32_t)(2 * t * L::row_bytes + g * 32);
#pragma unroll
	for (int j = 0; j < 4; j++) {
		uint2 x[4], y[4];
#pragma unroll
		for (int i = 0; i < 4; i++)
			x[i] = load_shared8(
				at + value_token(0, j) * L::row_bytes + (uint32_t)((i ^ t) * 8));
			/* x[i] has piece i ^ t */
#pragma unroll
		for (int i = 0; i < 4; i++)
			y[i] = select(odd, x[i], x[i ^ 1]);
#pragma unroll
		for (int i = 0; i < 2; i++) {
			const uint2 a = select(high, y[2 * i], y[2 * i ^ 2]);
			const uint2 b = select(high, y[2 * i + 1], y[(2 * i + 1) ^ 2]);
			v[j][i] = make_uint4(a.x, a.y, b.x, b.y);
		}
	}
}

/* WARPS warps a block with STAGES tiles each. */
template <class PAIRS, int WARPS, int STAGES>
struct staged_form : decode_form<staged_layout<PAIRS>, 1, 1, WARPS, 1, 1, 2, true> {
	using base = decode_form<staged_layout<PAIRS>, 1, 1, WARPS, 1, 1, 2, true>;
	/* where there are no bulk copies */
	using otherwise = decode_form<wide_layout<PAIRS, 128>, 1, 1, 8, 1, 1, 2, true>;
	static constexpr bool staged = true;
	static constexpr int stages = STAGES;
	static constexpr int half = TILE * base::layout::row_bytes; /* of a stage: keys, values */
	/* bytes: tiles (in whose place are the warps' outputs in the end), queries, barriers */
	static constexpr int tile_shared = WARPS * STAGES * 2 * half;
	static constexpr int barrier_shared = WARPS * STAGES * 8;
	static constexpr int shared = tile_shared + base::query_shared + barrier_shared;
	static_assert(tile_shared >= base::output_shared + base::stat_shared, "room for outputs");
};

#if __CUDA_ARCH__ >= 900
/* A warp's tiles `first`, first + warps, ... before `last`, on their way to its stages. */
template <class F> struct tile_stream {
	uint32_t first, last;
	uint32_t n;              /* of them */
	uint32_t begun;          /* copies */
	uint32_t tiles, barrier; /* the warp's in shared memory */
	/* of tiles number begun / 32 * 32 + lane, and 32 later */
	const uint8_t *places, *later;
};

template <class F>
__device__ __forceinline__ const uint8_t *stream_place(
	const decode_call &call, unsigned kv_head, const tile_stream<F> &stream, uint32_t number)
{
	return tile_place<F>(call, kv_head, stream.first + number * F::warps, stream.last);
}

template <class F>
__device__ __forceinline__ void open_stream(const decode_call &call, unsigned kv_head,
	uint32_t first, uint32_t last, uint32_t memory, tile_stream<F> &stream)
{
	const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	stream.first = first, stream.last = last, stream.begun = 0;
	stream.n = first < last ? (last - first + F::warps - 1) / F::warps : 0;
	stream.tiles = memory + warp * F::stages * 2 * F::half;
	stream.barrier = memory + F::tile_shared + F::query_shared + warp * F::stages * 8;
	if (lane == 0) {
		for (int i = 0; i < F::stages; i++)
			init_barrier(stream.barrier + i * 8);
		publish_barriers();
	}
	__syncwarp();
}

/* The next tile's copy, to stage `stage`, which is free. */
template <class F>
__device__ __forceinline__ void begin_tile(
	const decode_call &call, unsigned kv_head, uint32_t stage, tile_stream<F> &stream)
{
	const uint32_t lane = threadIdx.x % 32;
	if (stream.begun % 32 == 0) {
		stream.places = stream.later;
		stream.later = stream_place<F>(call, kv_head, stream, stream.begun + 32 + lane);
	}
	const uint8_t *from = reinterpret_cast<const uint8_t *>(__shfl_sync(
		~0u, reinterpret_cast<unsigned long long>(stream.places), stream.begun % 32));
	stream.begun++;
	if (lane == 0) {
		const uint32_t to = stream.tiles + stage * 2 * F::half;
		const uint32_t barrier = stream.barrier + stage * 8;
		const uint64_t policy = once_policy();
		expect_bytes(barrier, 2 * F::half);
		begin_read(to, from, F::half, barrier, policy);
		begin_read(to + F::half, from + call.value_offset, F::half, barrier, policy);
	}
}

/* Before what comes before is over: tiles whose tokens are settled. */
template <class F>
__device__ __forceinline__ void begin_settled(
	const decode_call &call, unsigned kv_head, tile_stream<F> &stream)
{
	const uint32_t lane = threadIdx.x % 32;
	const uint32_t settled = (uint32_t)(call.settled / TILE);
	if (stream.first >= settled || stream.n == 0)
		return;
	stream.later = stream_place<F>(call, kv_head, stream, lane);
	for (int i = 0; i < F::stages; i++)
		if (stream.begun < stream.n && stream.first + stream.begun * F::warps < settled)
			begin_tile<F>(call, kv_head, i, stream);
}

/* The warp's tiles, one after the other. */
template <class F>
__device__ __forceinline__ void attend_stream(const decode_call &call, const decode_query<F> &query,
	unsigned kv_head, tile_stream<F> &stream, decode_sums<F> &s)
{
	using L = typename F::layout;
	const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
	const uint32_t clear_from = (uint32_t)((call.first + TILE - 1) / TILE);
	const uint32_t clear_to = min(stream.last, (uint32_t)(min(call.seen, call.end) / TILE));
	uint32_t stage = 0, phase = 0;
	for (uint32_t tile = stream.first; tile < stream.last; tile += F::warps) {
		const uint32_t at = stream.tiles + stage * 2 * F::half;
		float logit[1][1][4];
		uint4 keys[2][L::key_loads], values[4][L::value_loads];
		await_read(stream.barrier + stage * 8, phase);
		read_keys<L>(at, g, t, keys);
		multiply_keys<F>(query, keys, logit[0]);
		read_values<L>(at + F::half, g, t, values);
		__syncwarp();
		if (stream.begun < stream.n)
			begin_tile<F>(call, kv_head, stage, stream);
		if (tile < clear_from || tile + 1 > clear_to)
			hide_unseen<F>(call, (uint64_t)tile * TILE, (uint64_t)stream.last * TILE, g,
				t, logit[0], values);
		weigh<F>(s, logit);
		add_values<F>(s, values, logit[0]);
		if (++stage == F::stages)
			stage = 0, phase ^= 1;
	}
}
#endif

/* A block's share of a KV head's tiles, dealt to its warps in turn: one part. */
template <class F>
__global__ __launch_bounds__(F::warps * 32, 1) void decode_staged(decode_call call)
{
#if __CUDA_ARCH__ >= 900
	/* nothing else is in shared memory: this begins at a line of 128 bytes, as copies write
	 * them */
	extern __shared__ float4 memory[];
	const unsigned warp = threadIdx.x / 32, kv_head = blockIdx.y;
	const uint64_t from = call.first / TILE;
	const uint64_t tiles = call.end > call.first ? (call.end + TILE - 1) / TILE - from : 0;
	const uint32_t begin = (uint32_t)(from + tiles * blockIdx.x / call.parts);
	const uint32_t end = (uint32_t)(from + tiles * (blockIdx.x + 1) / call.parts);
	tile_stream<F> stream;
	open_stream<F>(call, kv_head, begin + warp, end, shared_address(memory), stream);
	begin_settled<F>(call, kv_head, stream);
	/* what comes before is over; what follows may get ready and wait for this */
	asm volatile("griddepcontrol.wait;" ::: "memory");
	asm volatile("griddepcontrol.launch_dependents;");
	if (stream.begun == 0 && stream.n != 0)
		stream.later = stream_place<F>(call, kv_head, stream, threadIdx.x % 32);
	while (stream.begun < stream.n && stream.begun < F::stages)
		begin_tile<F>(call, kv_head, stream.begun, stream);
	decode_query<F> query;
	load_query<F>(
		call, kv_head, reinterpret_cast<uint4 *>(memory) + F::tile_shared / 16, query);
	decode_sums<F> s = {};
	s.max[0][0] = s.max[0][1] = -FLT_MAX;
	attend_stream<F>(call, query, kv_head, stream, s);
	__syncthreads();
	write_part<F>(call, (size_t)kv_head * call.parts + blockIdx.x, s,
		reinterpret_cast<float *>(memory));
#endif
}

/* A form of either kind. */
template <class F> int form_launch(decode_call *call, uint32_t kv_heads, cudaStream_t stream)
{
	if constexpr (!F::staged)
		return decode_launch<F>(decode_parts<F>, call, kv_heads, stream);
	else if (kvt_cuda_launches_early())
		return decode_launch<F>(decode_staged<F>, call, kv_heads, stream);
	else
		return form_launch<typename F::otherwise>(call, kv_heads, stream);
}

} // namespace kvt_cuda

#endif
