/* top_pages.c: selection of the k-th largest mass by digits, then a radix sort of what is above. */
#include "sim/prefetch/top_pages.h"

#include <string.h>

enum { DIGIT_BITS = 8, DIGITS = 1 << DIGIT_BITS, INSERTION_MAX = 24, MAGNITUDES = 1 << 11 };

/* A number that rises with the mass: exponent and 3 bits of the mantissa, so that masses of all
 * magnitudes spread over its values. */
static uint32_t magnitude(uint32_t mass)
{
	float value = (float)mass;
	uint32_t bits;
	memcpy(&bits, &value, sizeof(bits));
	return bits >> 20;
}

/* The k-th largest of n masses (1 <= k <= n), by its digits from the highest; subtracts the number
 * of larger ones from *k. */
static uint32_t radix_select(const uint32_t *mass, uint32_t n, uint32_t *k)
{
	uint32_t prefix = 0, known = 0;
	for (int shift = 32 - DIGIT_BITS; shift >= 0; shift -= DIGIT_BITS) {
		uint32_t count[DIGITS] = { 0 };
		for (uint32_t i = 0; i < n; i++)
			if ((mass[i] & known) == prefix)
				count[mass[i] >> shift & (DIGITS - 1)]++;
		uint32_t digit = DIGITS - 1;
		while (count[digit] < *k)
			*k -= count[digit--];
		prefix |= digit << shift;
		known |= (uint32_t)(DIGITS - 1) << shift;
	}
	return prefix;
}

/* The k-th largest of n masses; *equal is how many of that mass are among the k largest. The masses
 * of its magnitude, a few as a rule, go through `scratch`. */
static uint32_t kth_largest(
	const uint32_t *mass, uint32_t n, uint32_t k, uint32_t *equal, uint32_t *scratch)
{
	uint32_t count[MAGNITUDES] = { 0 };
	for (uint32_t i = 0; i < n; i++)
		count[magnitude(mass[i])]++;
	uint32_t wanted = MAGNITUDES - 1;
	while (count[wanted] < k)
		k -= count[wanted--];
	uint32_t n_candidates = 0;
	for (uint32_t i = 0; i < n; i++) {
		scratch[n_candidates] = mass[i];
		n_candidates += magnitude(mass[i]) == wanted;
	}
	*equal = k;
	return radix_select(scratch, n_candidates, equal);
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

/* An even number of passes: what began in `entries` ends there. */
static void radix_sort(uint64_t *entries, uint64_t *spare, uint32_t n)
{
	for (unsigned shift = 32; shift < 64; shift += DIGIT_BITS) {
		uint32_t start[DIGITS + 1] = { 0 };
		for (uint32_t i = 0; i < n; i++)
			start[DIGITS - (entries[i] >> shift & (DIGITS - 1))]++;
		for (uint32_t d = 1; d <= DIGITS; d++)
			start[d] += start[d - 1];
		for (uint32_t i = 0; i < n; i++)
			spare[start[DIGITS - 1 - (entries[i] >> shift & (DIGITS - 1))]++] =
				entries[i];
		uint64_t *other = entries;
		entries = spare;
		spare = other;
	}
}

uint32_t kvt_top_pages(const uint32_t *pages, const uint32_t *mass, uint32_t n, uint32_t k,
	uint32_t *top, uint64_t *scratch)
{
	if (k > n)
		k = n;
	if (k == 0)
		return 0;
	uint32_t equal;
	uint32_t threshold = kth_largest(mass, n, k, &equal, (uint32_t *)scratch);
	uint32_t taken = 0;
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

uint64_t kvt_top_mass(const uint32_t *mass, uint32_t n, uint32_t k, uint64_t *scratch)
{
	if (k > n)
		k = n;
	if (k == 0)
		return 0;
	uint32_t equal;
	uint32_t threshold = kth_largest(mass, n, k, &equal, (uint32_t *)scratch);
	uint64_t sum = (uint64_t)equal * threshold;
	for (uint32_t i = 0; i < n; i++)
		sum += mass[i] > threshold ? mass[i] : 0;
	return sum;
}
