/*
 * cuda_checksum.cu: checksums of pages in device memory: XXH3 of 64 bits as libxxhash's
 * XXH3_64bits has it, so that pages which were summed by a host are verified where they arrived. A
 * warp a page; what a block of 1 KiB adds is summed by all its threads, and only the mixing
 * between blocks is one after the other.
 */
#include <cuda_runtime.h>
#include <stdint.h>

#include "kernels/cuda_internal.h"

namespace
{

enum { THREADS = 128, SECRET = 192, STRIPE = 64, BLOCK = 1024, LEAST_BYTES = 256 };

// XXH3's own secret, little-endian, and constants: xxHash 0.8 by Yann Collet, BSD 2-Clause; the
// algorithm is described at github.com/Cyan4973/xxHash, doc/xxhash_spec.md.
__constant__ uint64_t secret[SECRET / 8] = { 0xbe4ba423396cfeb8, 0x1cad21f72c81017c,
	0xdb979083e96dd4de, 0x1f67b3b7a4a44072, 0x78e5c0cc4ee679cb, 0x2172ffcc7dd05a82,
	0x8e2443f7744608b8, 0x4c263a81e69035e0, 0xcb00c391bb52283c, 0xa32e531b8b65d088,
	0x4ef90da297486471, 0xd8acdea946ef1938, 0x3f349ce33f76faa8, 0x1d4f0bc7c7bbdcf9,
	0x3159b4cd4be0518a, 0x647378d9c97e9fc8, 0xc3ebd33483acc5ea, 0xeb6313faffa081c5,
	0x49daf0b751dd0d17, 0x9e68d429265516d3, 0xfca1477d58be162b, 0xce31d07ad1b8f88f,
	0x280416958f3acb45, 0x7e404bbbcafbd7af };
constexpr uint64_t PRIME32_1 = 0x9E3779B1, PRIME32_2 = 0x85EBCA77, PRIME32_3 = 0xC2B2AE3D;
constexpr uint64_t PRIME64_1 = 0x9E3779B185EBCA87, PRIME64_2 = 0xC2B2AE3D27D4EB4F,
		   PRIME64_3 = 0x165667B19E3779F9, PRIME64_4 = 0x85EBCA77C2B2AE63,
		   PRIME64_5 = 0x27D4EB2F165667C5, MIX = 0x165667919E3779F9;

// 8 bytes of the secret, at any place.
__device__ __forceinline__ uint64_t secret_at(int byte)
{
	const int shift = byte % 8 * 8;
	const uint64_t low = secret[byte / 8] >> shift;
	return shift ? low | secret[byte / 8 + 1] << (64 - shift) : low;
}

// What 16 bytes of a stripe add to the two sums that they belong to.
__device__ __forceinline__ void add(
	const ulonglong2 &data, uint64_t key_0, uint64_t key_1, uint64_t &a, uint64_t &b)
{
	const uint64_t x = data.x ^ key_0, y = data.y ^ key_1;
	a += data.y + (x & 0xffffffff) * (x >> 32);
	b += data.x + (y & 0xffffffff) * (y >> 32);
}

// Over the 8 threads that have the same two sums.
__device__ __forceinline__ void add_threads(uint64_t &a, uint64_t &b)
{
#pragma unroll
	for (int d = 4; d < 32; d *= 2) {
		a += __shfl_xor_sync(~0u, a, d);
		b += __shfl_xor_sync(~0u, b, d);
	}
}

__device__ __forceinline__ uint64_t scramble(uint64_t sum, uint64_t key)
{
	return (sum ^ sum >> 47 ^ key) * PRIME32_1;
}

// A warp's thread has the sums 2 p and 2 p + 1, p its number's lowest 2 bits, and every 8th stripe.
__global__ __launch_bounds__(THREADS) void sum_pages(
	const uint8_t *const *pages, uint64_t bytes, uint32_t n, uint64_t *sums)
{
	const uint32_t page = blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
	if (page >= n)
		return;
	const int lane = (int)threadIdx.x % 32, p = lane % 4, stripe = lane / 4;
	const uint8_t *from = pages[page] + lane * 16;
	uint64_t key[4];
#pragma unroll
	for (int i = 0; i < 4; i++)
		key[i] = secret[stripe + i / 2 * 8 + 2 * p + i % 2];
	const uint64_t mix_0 = secret_at(SECRET - STRIPE + 16 * p);
	const uint64_t mix_1 = secret_at(SECRET - STRIPE + 16 * p + 8);
	uint64_t a = p == 0 ? PRIME32_3 : p == 1 ? PRIME64_2 : p == 2 ? PRIME64_4 : PRIME64_5;
	uint64_t b = p == 0 ? PRIME64_1 : p == 1 ? PRIME64_3 : p == 2 ? PRIME32_2 : PRIME32_1;
	const uint64_t n_blocks = (bytes - 1) / BLOCK;
#pragma unroll 4
	for (uint64_t i = 0; i < n_blocks; i++) {
		const ulonglong2 *data = reinterpret_cast<const ulonglong2 *>(from + i * BLOCK);
		uint64_t x = 0, y = 0;
		add(data[0], key[0], key[1], x, y);
		add(data[BLOCK / 2 / 16], key[2], key[3], x, y);
		add_threads(x, y);
		a = scramble(a + x, mix_0);
		b = scramble(b + y, mix_1);
	}
	// whole stripes that are left, but for the page's last 64 bytes, which are taken otherwise
	const int left = (int)((bytes - 1 - n_blocks * BLOCK) / STRIPE);
	const ulonglong2 *data = reinterpret_cast<const ulonglong2 *>(from + n_blocks * BLOCK);
	uint64_t x = 0, y = 0;
	if (stripe < left)
		add(data[0], key[0], key[1], x, y);
	if (stripe + 8 < left)
		add(data[BLOCK / 2 / 16], key[2], key[3], x, y);
	if (stripe == 0) {
		const int at = SECRET - STRIPE - 7 + 16 * p;
		data = reinterpret_cast<const ulonglong2 *>(from + bytes - STRIPE);
		add(data[0], secret_at(at), secret_at(at + 8), x, y);
	}
	add_threads(x, y);
	a += x, b += y;
	// products of 128 bits, folded
	const uint64_t u = a ^ secret_at(11 + 16 * p), v = b ^ secret_at(11 + 16 * p + 8);
	uint64_t result = u * v ^ __umul64hi(u, v);
	result += __shfl_xor_sync(~0u, result, 1);
	result += __shfl_xor_sync(~0u, result, 2);
	result += bytes * PRIME64_1;
	result = (result ^ result >> 37) * MIX;
	if (lane == 0)
		sums[page] = result ^ result >> 32;
}

} // namespace

extern "C" int kvt_cuda_page_checksums(
	const void *const *pages, uint64_t page_bytes, uint32_t n, uint64_t *sums, void *stream)
{
	if (page_bytes < LEAST_BYTES || page_bytes % 16 != 0)
		return -EINVAL;
	if (n == 0)
		return 0;
	void *arguments[] = { &pages, &page_bytes, &n, &sums };
	const uint32_t each = THREADS / 32;
	return kvt_cuda_status(cudaLaunchKernel((const void *)sum_pages, dim3((n - 1) / each + 1),
		dim3(THREADS), arguments, 0, static_cast<cudaStream_t>(stream)));
}
