/*
 * page_checksum_avx2.c: <xxhash.h>'s XXH3 compiled for AVX2, on any x86. Not the library's own
 * choice at run time (xxh_x86dispatch.h): that leaves the upper halves of registers in use, after
 * which all code for SSE is several times slower.
 */
#include "emu/store/page_checksum.h"

#ifdef __x86_64__
/* what it includes is not to be compiled for AVX2 */
#include <immintrin.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#define XXH_VECTOR XXH_AVX2
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif
#include <xxhash.h>

uint64_t kvt_page_checksum_avx2(const void *page, uint64_t bytes)
{
	return XXH3_64bits(page, bytes);
}
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
