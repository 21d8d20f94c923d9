/*
 * attention_mass.h: attention mass a page, recomputed exactly from recorded queries and keys, and
 * the oracle that budgeted attention is measured against. The recorded rows are cut at 0.99 of the
 * mass or 1,024 pages; this is for what needs the rest, and for checking them.
 */
#ifndef KVT_ATTENTION_MASS_H
#define KVT_ATTENTION_MASS_H

#include "traces/attention_trace.h"

/* Pages always kept by a budget: the first one present and the last four. */
#define KVT_ATTENTION_BUDGET_FIRST 1
#define KVT_ATTENTION_BUDGET_LAST 4

/* Pages that a budget of `share` (0..1) grants out of `pages` present: max(5, floor(share x
 * pages)), and never more than `pages`. */
uint64_t kvt_attention_budget_pages(double share, uint64_t pages);

/*
 * Mass that the best choice of `budget` pages keeps out of mass[pages], the first page and the
 * last four always among them (all pages when budget >= pages). `scratch` holds pages floats, may
 * not overlap mass, and is overwritten. Deterministic: a sum in double from the largest mass down.
 */
double kvt_attention_oracle_mass(
	const float *mass, uint64_t pages, uint64_t budget, float *scratch);

/*
 * Softmax over all tokens present at the step, summed by page and averaged over the query heads of
 * the group: mass[i] is that of page *first + i, for as many pages as
 * kvt_attention_pages_present says. Relative error below 1e-5 of exact arithmetic; the same bits on
 * every x86-64 machine. Error when the layer has no queries or keys, or holds NaN or infinity.
 */
bool kvt_attention_mass_recompute(
	kvt_attention_layer *layer, uint64_t step, uint32_t kv_head, float *mass, GError **error);

/* The same for the steps first_step, first_step + stride, ... (count of them) in one pass over the
 * keys; the row of the i-th begins at mass + i x pitch, where pitch (floats) is at least the pages
 * present at the last one. */
bool kvt_attention_mass_recompute_steps(kvt_attention_layer *layer, uint64_t first_step,
	uint64_t stride, uint64_t count, uint32_t kv_head, float *mass, size_t pitch,
	GError **error);

/* Where an oracle takes its masses from. */
typedef enum kvt_attention_mass_source {
	KVT_ATTENTION_MASS_RECOMPUTED, /* queries and keys: every page */
	KVT_ATTENTION_MASS_ROWS,       /* recorded rows: pages they leave out count as 0 */
	KVT_ATTENTION_MASS_BEST,       /* recomputed where the layer has keys and queries */
} kvt_attention_mass_source;

/* Oracle mass kept at each of shares[n], mean over the steps 0, stride, 2 x stride, ... and all KV
 * heads, into kept[n]. */
bool kvt_attention_trace_oracle_mass(kvt_attention_layer *layer, kvt_attention_mass_source source,
	uint64_t stride, const double *shares, size_t n, double *kept, GError **error);

#endif
