/* remote_pages.c: pages that say what they are. */
#include "tests/unit/remote_pages.h"

#include <string.h>

static uint64_t page_seed(uint32_t tenant, const kvt_extent *run, uint64_t page, unsigned version)
{
	uint64_t seed = page + 1;
	const uint64_t parts[] = { tenant, run->context, run->layer, version };
	for (unsigned i = 0; i < G_N_ELEMENTS(parts); i++)
		seed = (seed ^ parts[i]) * UINT64_C(0x9e3779b97f4a7c15) + 1;
	return seed;
}

void remote_fill(uint32_t tenant, const kvt_extent *run, unsigned version, uint8_t *memory)
{
	for (uint64_t p = 0; p < run->n_pages; p++) {
		uint64_t word = page_seed(tenant, run, run->first_page + p, version);
		for (uint64_t at = 0; at < run->page_bytes; at += 8, word = word * 5 + 3)
			memcpy(memory + at, &word, MIN(run->page_bytes - at, 8));
		memory += run->page_bytes;
	}
}

bool remote_is(uint32_t tenant, const kvt_extent *run, unsigned version, const uint8_t *memory)
{
	g_autofree uint8_t *wanted = g_malloc(kvt_extent_bytes(run));
	remote_fill(tenant, run, version, wanted);
	return memcmp(memory, wanted, kvt_extent_bytes(run)) == 0;
}
