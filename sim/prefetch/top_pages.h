/*
 * top_pages.h: the k pages of most attention mass, in time linear in the number of pages. Masses
 * are compared as integers and ties go to the lower page id, so that no difference in floating
 * point (a compiler's, a vector unit's, a GPU's) can change a decision.
 */
#ifndef KVT_TOP_PAGES_H
#define KVT_TOP_PAGES_H

#include <stdint.h>

/* What a whole row of attention, mass 1, is in quantised mass. Half-precision masses of a recorded
 * trace are exact multiples of 2^-24, so they convert without loss. */
#define KVT_MASS_ONE (UINT32_C(1) << 31)

/* A share of mass as an integer, rounded to nearest; below 0 and NaN become 0, above 1
 * KVT_MASS_ONE.
 */
static inline uint32_t kvt_mass_quantise(float mass)
{
	if (!(mass > 0))
		return 0;
	if (mass >= 1)
		return KVT_MASS_ONE;
	return (uint32_t)(mass * (float)KVT_MASS_ONE + 0.5f);
}

/*
 * Writes the ids of the k pages with the largest mass[i] to `top`, the largest first, equal ones by
 * rising id; returns min(k, n). pages[n] are distinct and rising; mass[n], at most KVT_MASS_ONE
 * each, goes with them. `scratch` holds n + 1 entries and at least 2 x min(k, n), is overwritten
 * and overlaps nothing.
 */
uint32_t kvt_top_pages(const uint32_t *pages, const uint32_t *mass, uint32_t n, uint32_t k,
	uint32_t *top, uint64_t *scratch);

/* The sum of the k largest of mass[n], or of all when k >= n; scratch holds n + 1 entries. */
uint64_t kvt_top_mass(const uint32_t *mass, uint32_t n, uint32_t k, uint64_t *scratch);

#endif
