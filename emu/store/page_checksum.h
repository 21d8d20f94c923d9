/*
 * page_checksum.h: the checksum of a page: XXH3 of 64 bits, as <xxhash.h> has it, by whichever way
 * is the fastest on this processor, which is tried once. The library's own is built for the oldest
 * of processors; where wide registers are emulated, the plain way is five times as fast.
 */
#ifndef KVT_PAGE_CHECKSUM_H
#define KVT_PAGE_CHECKSUM_H

#include <stdint.h>

uint64_t kvt_page_checksum(const void *page, uint64_t bytes);

/* page_checksum_plain.c; any processor. */
uint64_t kvt_page_checksum_plain(const void *page, uint64_t bytes);

/* page_checksum_avx2.c; x86 with AVX2 alone. */
uint64_t kvt_page_checksum_avx2(const void *page, uint64_t bytes);

#endif
