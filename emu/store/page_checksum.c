/* page_checksum.c: chooses how a page is summed. */
#include "emu/store/page_checksum.h"

#include <xxhash.h>

uint64_t kvt_page_checksum(const void *page, uint64_t bytes)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx2"))
		return kvt_page_checksum_avx2(page, bytes);
#endif
	return XXH3_64bits(page, bytes);
}
