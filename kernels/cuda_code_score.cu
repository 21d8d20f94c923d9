/*
 * cuda_code_score.cu: scores of page codes on the device, and the choice of the best pages. Integer
 * products are exact; floats are added and multiplied in the order of page_code_scalar.c, so that
 * results are the same to the bit.
 */
#include <cuda_runtime.h>

#include "kernels/cuda_code.cuh"

namespace
{

enum {
	THREADS = 256,
	PAGES = THREADS / CODE_TOKENS, // a block scores: a thread a row of details
	HEADS = 8,                     // at once
	SHARE_THREADS = 1024,
	BINS = 2048,
	DIM_MAX = KVT_CODE_HEAD_DIM_MAX,
};

struct score_call {
	const uint8_t *means, *details;
	const int8_t *q;
	const int32_t *sum;
	const float *factor, *noise;
	const uint32_t *ids;
	uint32_t head_dim, n_heads, first, n;
	float *sums;
	size_t pitch;
};

// 2^k (1 + f) for y / 2^23 - 127 = k + f: the bits of a float are its logarithm, nearly.
__device__ __forceinline__ float power(float y)
{
	y = y < 0x1p23f ? 0x1p23f : y;
	y = y > 227 * 0x1p23f ? 227 * 0x1p23f : y;
	return __int_as_float(__float2int_rn(y));
}

// Octaves x 2^23: the bits of 1.0f.
constexpr float ONE = 127 * 0x1p23f;

// The queries of heads from `head` on, 4 numbers a word, to shared memory; zeros where there is no
// head.
__device__ __forceinline__ void load_queries(
	const score_call &call, uint32_t head, uint32_t (*query)[DIM_MAX / 4])
{
	const uint32_t words = call.head_dim / 4;
	__syncthreads();
	for (uint32_t i = threadIdx.x; i < HEADS * words; i += blockDim.x) {
		const uint32_t h = head + i / words;
		query[i / words][i % words] =
			h < call.n_heads ? reinterpret_cast<const uint32_t *>(
						   call.q)[(size_t)h * words + i % words]
					 : 0;
	}
	__syncthreads();
}

__device__ __forceinline__ uint32_t page_of(const score_call &call, uint32_t i)
{
	return call.ids ? call.ids[i] : call.first + i;
}

// Products of row 0, a word of 8 numbers, with the queries.
__device__ __forceinline__ void multiply_mean(uint32_t word, uint32_t v, uint32_t head_dim,
	const uint32_t (*query)[DIM_MAX / 4], int32_t (&product)[HEADS])
{
	const int low = (int)(word & 0x0f0f0f0f), high = (int)(word >> 4 & 0x0f0f0f0f);
#pragma unroll
	for (int h = 0; h < HEADS; h++) {
		product[h] = __dp4a(low, (int)query[h][v], product[h]);
		product[h] = __dp4a(high, (int)query[h][head_dim / 8 + v], product[h]);
	}
}

// Of a page by its 16 threads: each has a row's sum of products, and the mean's in every thread.
__device__ __forceinline__ float page_sum(
	int32_t product, int32_t mean, float step, float mean_step, float factor)
{
	const uint32_t row = threadIdx.x % CODE_TOKENS;
	const int32_t above = __shfl_sync(~0u, product, (int)(threadIdx.x % 32 - row));
	product = row == 0 ? 0 : row == 1 ? product + 4 * above : product;
	float x = __fmul_rn((float)product, step);
#pragma unroll
	for (uint32_t half = 1; half < CODE_TOKENS; half *= 2) {
		const float other = __shfl_xor_sync(~0u, x, half);
		x = row & half ? __fadd_rn(other, -x) : __fadd_rn(x, other);
	}
	const float base = __fmaf_rn(__fmul_rn((float)mean, mean_step), factor, ONE);
	x = power(__fmaf_rn(x, factor, base));
#pragma unroll
	for (uint32_t n = CODE_TOKENS / 2; n > 0; n /= 2)
		x = __fadd_rn(x, __shfl_xor_sync(~0u, x, n));
	return x;
}

// 16 pages a block, a thread a row of details; rows of a page lie beside each other, 16 channels a
// word.
__global__ __launch_bounds__(THREADS) void score_pages(const score_call call)
{
	__shared__ uint32_t query[HEADS][DIM_MAX / 4];
	const uint32_t dim = call.head_dim, row = threadIdx.x % CODE_TOKENS;
	const uint32_t i = blockIdx.x * PAGES + threadIdx.x / CODE_TOKENS;
	const uint32_t page = page_of(call, min(i, call.n - 1)), place = page % CODE_BLOCK;
	const uint8_t *block = call.means + (size_t)(page / CODE_BLOCK) * code_block_bytes(dim);
	const uint32_t *detail =
		reinterpret_cast<const uint32_t *>(call.details + (size_t)page * dim * 4);
	const uint8_t *steps = block + 8 * dim + place;
	const float step = code_step(steps[CODE_BLOCK * code_class(row)]);
	const float mean_step = code_step(steps[0]);
	for (uint32_t head = 0; head < call.n_heads; head += HEADS) {
		int32_t product[HEADS] = {}, mean[HEADS] = {};
		load_queries(call, head, query);
#pragma unroll 8
		for (uint32_t v = 0; v < dim / 16; v++) {
			const uint32_t word = detail[v * 16 + row];
#pragma unroll
			for (int k = 0; k < 4; k++) {
				const int codes = (int)(word >> 2 * k & 0x03030303);
#pragma unroll
				for (int h = 0; h < HEADS; h++)
					product[h] =
						__dp4a(codes, (int)query[h][v * 4 + k], product[h]);
			}
		}
		for (uint32_t v = row; v < dim / 8; v += CODE_TOKENS)
			multiply_mean(reinterpret_cast<const uint32_t *>(block)[v * 16 + place], v,
				dim, query, mean);
#pragma unroll
		for (int h = 0; h < HEADS; h++) {
			if (head + h >= call.n_heads)
				break;
#pragma unroll
			for (int d = 1; d < CODE_TOKENS; d *= 2)
				mean[h] += __shfl_xor_sync(~0u, mean[h], d);
			// the middle of the levels is taken off: 1.5 and 7.5 sums
			const int32_t half = call.sum[head + h] / 2;
			const float sum = page_sum(product[h] - 3 * half, mean[h] - 15 * half, step,
				mean_step, call.factor[head + h]);
			if (row == 0 && i < call.n)
				call.sums[(head + h) * call.pitch + i] = sum;
		}
	}
}

// A page a thread.
__global__ __launch_bounds__(THREADS) void score_means(const score_call call)
{
	__shared__ uint32_t query[HEADS][DIM_MAX / 4];
	const uint32_t dim = call.head_dim, i = blockIdx.x * THREADS + threadIdx.x;
	const uint32_t page = page_of(call, min(i, call.n - 1)), place = page % CODE_BLOCK;
	const uint8_t *block = call.means + (size_t)(page / CODE_BLOCK) * code_block_bytes(dim);
	const uint32_t bits = *reinterpret_cast<const uint16_t *>(
		block + 8 * dim + CODE_BLOCK * CODE_CLASSES + place * 2);
	const float variance = fminf(__uint_as_float((bits & 0x7fff) << 16), 0x1.fp127f);
	const float step = code_step(block[8 * dim + place]);
	for (uint32_t head = 0; head < call.n_heads; head += HEADS) {
		int32_t product[HEADS] = {};
		load_queries(call, head, query);
#pragma unroll 8
		for (uint32_t v = 0; v < dim / 8; v++)
			multiply_mean(reinterpret_cast<const uint32_t *>(block)[v * 16 + place], v,
				dim, query, product);
#pragma unroll
		for (int h = 0; h < HEADS; h++) {
			if (head + h >= call.n_heads || i >= call.n)
				break;
			const int32_t sum = product[h] - 15 * (call.sum[head + h] / 2);
			const float base = __fmaf_rn(variance, call.noise[head + h], ONE);
			const float mean = __fmul_rn((float)sum, step);
			call.sums[(head + h) * call.pitch + i] =
				16 * power(__fmaf_rn(mean, call.factor[head + h], base));
		}
	}
}

// Over all threads of a block of SHARE_THREADS; every thread gets it.
template <class T, class F> __device__ T block_reduce(T x, F join)
{
	__shared__ T lanes[SHARE_THREADS / 32];
#pragma unroll
	for (int d = 16; d > 0; d /= 2)
		x = join(x, __shfl_xor_sync(~0u, x, d));
	__syncthreads();
	if (threadIdx.x % 32 == 0)
		lanes[threadIdx.x / 32] = x;
	__syncthreads();
	x = lanes[0];
	for (int i = 1; i < SHARE_THREADS / 32; i++)
		x = join(x, lanes[i]);
	return x;
}

// What a head's sums count: 2^31 / (their total x heads). The reference adds them in order, in
// double. Where all are multiples of a unit of which the total is at most 2^53, every order gives
// the same; else one thread does it in order.
__global__ __launch_bounds__(SHARE_THREADS) void weigh_heads(
	const float *sums, size_t pitch, uint32_t n_heads, uint32_t n, double *weights)
{
	__shared__ float row_part[SHARE_THREADS];
	const float *row = sums + blockIdx.x * pitch;
	double total = 0;
	uint32_t least = 255; // the smallest exponent
	for (uint32_t i = threadIdx.x; i < n; i += SHARE_THREADS) {
		const uint32_t bits = __float_as_uint(row[i]), exponent = bits >> 23;
		total += row[i];
		// negative, infinite and NaN: 0 makes the unit as small as can be
		least = min(least, bits == 0 ? 255 : exponent >= 255 ? 0 : exponent);
	}
	total = block_reduce(total, [](double a, double b) { return a + b; });
	least = block_reduce(least, [](uint32_t a, uint32_t b) { return a < b ? a : b; });
	// numbers of exponent e are multiples of 2^(e - 150)
	if (least == 0 || !(total <= ldexp(1.0, (int)least - 150 + 53))) {
		total = 0;
		for (uint32_t from = 0; from < n; from += SHARE_THREADS) {
			__syncthreads();
			if (from + threadIdx.x < n)
				row_part[threadIdx.x] = row[from + threadIdx.x];
			__syncthreads();
			for (uint32_t i = 0; threadIdx.x == 0 && i < SHARE_THREADS && from + i < n;
				i++)
				total += row_part[i];
		}
	}
	if (threadIdx.x == 0)
		weights[blockIdx.x] = total > 0 && total <= 0x1p200
					      ? __ddiv_rn(0x1p31, __dmul_rn(total, (double)n_heads))
					      : 0;
}

__global__ __launch_bounds__(THREADS) void share_pages(const float *sums, size_t pitch,
	uint32_t n_heads, uint32_t n, const double *weights, uint32_t *share)
{
	const uint32_t i = blockIdx.x * THREADS + threadIdx.x;
	if (i >= n)
		return;
	double sum = 0;
	for (uint32_t head = 0; head < n_heads; head++)
		if (weights[head] > 0)
			sum = __dadd_rn(
				sum, __dmul_rn((double)sums[head * pitch + i], weights[head]));
	share[i] = sum >= 0x1p31 ? 1u << 31 : (uint32_t)__dadd_rn(sum, 0.5);
}

// Numbers of threads before this one for which `mine` is true; *all: of the block.
__device__ __forceinline__ uint32_t count_before(bool mine, uint32_t *all)
{
	__shared__ uint32_t of_warp[SHARE_THREADS / 32];
	const uint32_t ballot = __ballot_sync(~0u, mine), lane = threadIdx.x % 32;
	__syncthreads();
	if (lane == 0)
		of_warp[threadIdx.x / 32] = (uint32_t)__popc(ballot);
	__syncthreads();
	uint32_t before = 0, sum = 0;
	for (uint32_t i = 0; i < SHARE_THREADS / 32; i++) {
		before += i < threadIdx.x / 32 ? of_warp[i] : 0;
		sum += of_warp[i];
	}
	*all = sum;
	return before + (uint32_t)__popc(ballot & ((1u << lane) - 1));
}

// One block: finds the k-th largest number, 11 bits after 11 after 10, then writes the places of
// those above it and of the first that equal it.
__global__ __launch_bounds__(SHARE_THREADS) void take_top(
	const uint32_t *share, uint32_t n, uint32_t k, uint32_t *places)
{
	__shared__ uint32_t bins[BINS], groups[BINS / 64];
	__shared__ uint32_t chosen, left_of;
	uint32_t known = 0, mask = 0, left = k; // `left` of those whose upper bits are known
	for (int shift = 21, bits = 11; k < n && shift >= 0;) {
		for (uint32_t i = threadIdx.x; i < BINS; i += SHARE_THREADS)
			bins[i] = 0;
		__syncthreads();
		for (uint32_t i = threadIdx.x; i < n; i += SHARE_THREADS)
			if ((share[i] & mask) == known)
				atomicAdd(&bins[share[i] >> shift & ((1u << bits) - 1)], 1u);
		__syncthreads();
		// sums of 64 bins a warp, so that one thread finds the bin in few steps
		const uint32_t at = threadIdx.x / 32 * 64 + threadIdx.x % 32;
		const uint32_t sum = __reduce_add_sync(~0u, bins[at] + bins[at + 32]);
		if (threadIdx.x % 32 == 0)
			groups[threadIdx.x / 32] = sum;
		__syncthreads();
		if (threadIdx.x == 0) {
			uint32_t group = BINS / 64 - 1, more = left;
			while (groups[group] < more)
				more -= groups[group--];
			uint32_t bin = group * 64 + 63;
			while (bins[bin] < more)
				more -= bins[bin--];
			chosen = bin, left_of = more;
		}
		__syncthreads();
		known |= chosen << shift;
		mask |= ((1u << bits) - 1) << shift;
		left = left_of;
		bits = shift == 21 ? 11 : 10;
		shift = shift == 21 ? 10 : shift == 10 ? 0 : -1;
		__syncthreads();
	}
	uint32_t taken = 0, equal = 0; // so far
	for (uint32_t from = 0; from < n; from += SHARE_THREADS) {
		const uint32_t i = from + threadIdx.x;
		const uint32_t x = i < n ? share[i] : 0;
		uint32_t n_equal, n_taken;
		const bool same = i < n && k < n && x == known;
		const uint32_t rank = equal + count_before(same, &n_equal);
		const bool take = i < n && (k >= n || x > known || (same && rank < left));
		const uint32_t place = taken + count_before(take, &n_taken);
		if (take)
			places[place] = i;
		equal += n_equal;
		taken += n_taken;
	}
}

int launch_scores(const void *kernel, uint32_t pages_each, const kvt_codes *codes,
	const kvt_code_query *query, const kvt_page_list *pages, float *sums, size_t pitch,
	void *stream)
{
	if (!code_allowed(codes->head_dim) || codes->head_dim != query->head_dim)
		return -EINVAL;
	if (pages->n == 0)
		return 0;
	score_call call = { codes->means, codes->details, query->q, query->sum, query->factor,
		query->noise, pages->ids, codes->head_dim, query->n_heads, pages->first, pages->n,
		sums, pitch };
	void *arguments[] = { &call };
	const uint32_t blocks = (pages->n - 1) / pages_each + 1;
	return kvt_cuda_status(cudaLaunchKernel(kernel, dim3(blocks), dim3(THREADS), arguments, 0,
		static_cast<cudaStream_t>(stream)));
}

} // namespace

extern "C" int kvt_cuda_code_score(const kvt_codes *codes, const kvt_code_query *query,
	const kvt_page_list *pages, float *sums, size_t pitch, void *stream)
{
	return launch_scores(
		(const void *)score_pages, PAGES, codes, query, pages, sums, pitch, stream);
}

extern "C" int kvt_cuda_code_score_means(const kvt_codes *codes, const kvt_code_query *query,
	const kvt_page_list *pages, float *sums, size_t pitch, void *stream)
{
	return launch_scores(
		(const void *)score_means, THREADS, codes, query, pages, sums, pitch, stream);
}

extern "C" int kvt_cuda_group_shares(const float *sums, size_t pitch, uint32_t n_heads,
	uint32_t n_pages, uint32_t *share, void *scratch, void *stream)
{
	if (n_heads == 0 || n_heads > KVT_CODE_HEADS_MAX)
		return -EINVAL;
	if (n_pages == 0)
		return 0;
	cudaStream_t on = static_cast<cudaStream_t>(stream);
	double *weights = static_cast<double *>(scratch);
	void *heads[] = { &sums, &pitch, &n_heads, &n_pages, &weights };
	const int status = kvt_cuda_status(cudaLaunchKernel(
		(const void *)weigh_heads, dim3(n_heads), dim3(SHARE_THREADS), heads, 0, on));
	if (status != 0)
		return status;
	void *pages[] = { &sums, &pitch, &n_heads, &n_pages, &weights, &share };
	return kvt_cuda_status(cudaLaunchKernel((const void *)share_pages,
		dim3((n_pages - 1) / THREADS + 1), dim3(THREADS), pages, 0, on));
}

extern "C" int kvt_cuda_top_pages(
	const uint32_t *share, uint32_t n, uint32_t k, uint32_t *places, void *stream)
{
	if (n == 0 || k == 0)
		return 0;
	void *arguments[] = { &share, &n, &k, &places };
	return kvt_cuda_status(cudaLaunchKernel((const void *)take_top, dim3(1),
		dim3(SHARE_THREADS), arguments, 0, static_cast<cudaStream_t>(stream)));
}
