/* top_pages.c: radix selection of the k-th largest mass, then a radix sort of what it selects. */
#include "sim/prefetch/top_pages.h"

#include <string.h>

enum { DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS, INSERTION_MAX = 32 };

/* A threshold such that `above` masses are larger and the k-th largest equals it (1 <= k <= n). */
static uint32_t kth_largest(const uint32_t *mass, uint32_t n, uint32_t k, uint32_t *above)
{
	static const unsigned shifts[] = { 21, 10, 0 };
	static const unsigned widths[] = { 11, 11, 10 };
	uint32_t prefix = 0, known = 0, larger = 0;
	for (unsigned pass = 0; pass < 3; pass++) {
		uint32_t count[DIGITS] = { 0 };
		uint32_t digit_mask = (1u << widths[pass]) - 1;
		for (uint32_t i = 0; i < n; i++)
			if ((mass[i] & known) == prefix)
				count[mass[i] >> shifts[pass] & digit_mask]++;
		uint32_t digit = digit_mask;
		while (larger + count[digit] < k)
			larger += count[digit--];
		prefix |= digit << shifts[pass];
		known |= digit_mask << shifts[pass];
	}
	*above = larger;
	return prefix;
}

/* Entries are mass << 32 | page; falling by mass, and stable, so rising by page within a mass. */
static void insertion_sort(uint64_t *entries, uint32_t n)
{
	for (uint32_t i = 1; i < n; i++) {
		uint64_t entry = entries[i];
		uint32_t j = i;
		for (; j > 0 && entries[j - 1] >> 32 < entry >> 32; j--)
			entries[j] = entries[j - 1];
		entries[j] = entry;
	}
}

static void radix_sort(uint64_t *entries, uint64_t *spare, uint32_t n)
{
	uint64_t *from = entries, *to = spare;
	for (unsigned shift = 32; shift < 64; shift += DIGIT_BITS) {
		uint32_t start[DIGITS + 1] = { 0 };
		for (uint32_t i = 0; i < n; i++)
			start[DIGITS - (from[i] >> shift & (DIGITS - 1))]++;
		for (uint32_t d = 1; d <= DIGITS; d++)
			start[d] += start[d - 1];
		for (uint32_t i = 0; i < n; i++)
			to[start[DIGITS - 1 - (from[i] >> shift & (DIGITS - 1))]++] = from[i];
		uint64_t *other = from;
		from = to;
		to = other;
	}
	/* three passes: the result is in `spare` */
	memcpy(entries, from, n * sizeof(*entries));
}

uint32_t kvt_top_pages(const uint32_t *pages, const uint32_t *mass, uint32_t n, uint32_t k,
	uint32_t *top, uint64_t *scratch)
{
	if (k > n)
		k = n;
	if (k == 0)
		return 0;
	uint32_t above;
	uint32_t threshold = kth_largest(mass, n, k, &above);
	uint32_t equal = k - above, taken = 0;
	for (uint32_t i = 0; i < n; i++) {
		if (mass[i] < threshold || (mass[i] == threshold && equal == 0))
			continue;
		equal -= mass[i] == threshold;
		scratch[taken++] = (uint64_t)mass[i] << 32 | pages[i];
	}
	if (k <= INSERTION_MAX)
		insertion_sort(scratch, k);
	else
		radix_sort(scratch, scratch + k, k);
	for (uint32_t i = 0; i < k; i++)
		top[i] = (uint32_t)scratch[i];
	return k;
}
