/*
 * page_bounds.h: a cuboid around a page's keys, channel by channel, and the largest product that a
 * query can have with a point in it: sum over channels of max(q low, q high).
 *
 * A record is low[head_dim], then high[head_dim], in half precision: 4 x head_dim bytes a page, 16
 * a token at head_dim 64 and 16 tokens a page.
 */
#ifndef KVT_PAGE_BOUNDS_H
#define KVT_PAGE_BOUNDS_H

#include <stddef.h>
#include <stdint.h>

static inline size_t kvt_page_bounds_bytes(uint32_t head_dim)
{
	return (size_t)head_dim * 4;
}

/* The smallest cuboid that holds all keys[n_tokens][head_dim], which are numbers of half precision:
 * no key's product is above the bound (Quest, arXiv 2406.10774). */
void kvt_page_bounds_extremes(
	uint32_t head_dim, const float *keys, uint32_t n_tokens, uint16_t *record);

/* Mean -+ mean absolute deviation of each channel: smaller than the above where a page has keys of
 * its own kind (ArkVale's cuboid, NeurIPS 2024). */
void kvt_page_bounds_deviations(
	uint32_t head_dim, const float *keys, uint32_t n_tokens, uint16_t *record);

/* bounds[g x pitch + i], for queries[group][head_dim] and the i-th of n records. head_dim is a
 * multiple of 4; sums are taken in one order on every machine. */
void kvt_page_bounds_score(uint32_t head_dim, const uint16_t *records, uint32_t n,
	const float *queries, uint32_t group, float *bounds, size_t pitch);

#endif
