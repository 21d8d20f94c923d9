/*
 * attention_mass.h: attention mass a page, recomputed exactly from recorded queries and keys, and
 * the oracle that budgeted attention is measured against. The recorded rows are cut at 0.99 of the
 * mass or 1,024 pages; this is for what needs the rest, and for checking them.
 */
#ifndef KVT_ATTENTION_MASS_H
#define KVT_ATTENTION_MASS_H

#include "traces/attention_trace.h"

/* Pages always kept by a budget: the first one present and the last four. */
enum {
	KVT_ATTENTION_BUDGET_FIRST = 1,
	KVT_ATTENTION_BUDGET_LAST = 4,
};

/* Pages that a budget of `share` (0..1) grants out of `pages` present: max(5, floor(share x
 * pages)), and never more than `pages`. */
uint64_t kvt_attention_budget_pages(double share, uint64_t pages);

/*
 * Mass that the best choice of `budget` pages keeps out of mass[pages], the first page and the
 * last four always among them (all pages when budget >= pages). `scratch` holds pages floats, may
 * not overlap mass, and is overwritten. Deterministic: summed in double from the largest down.
 */
double kvt_attention_oracle_mass(
	const float *mass, uint64_t pages, uint64_t budget, float *scratch);

/* The same for n rising budgets in one go: kept[i] for budgets[i]. */
void kvt_attention_oracle_masses(const float *mass, uint64_t pages, const uint64_t *budgets,
	size_t n, float *scratch, double *kept);

/*
 * Softmax over all tokens present at a step, summed by page and averaged over the query heads of
 * the group, for the steps first_step, first_step + stride, ... (count of them) in one pass over
 * the keys. Page *first + i of the n-th step (kvt_attention_pages_present) goes to
 * mass[n x pitch + i]; pitch is at least the pages present at the last of the steps. Relative
 * error below 1e-5 of exact arithmetic for masses above 1e-30; the same bits on every x86-64
 * machine. Error when the layer has no queries or keys, or they hold NaN or infinity.
 */
bool kvt_attention_mass_recompute(kvt_attention_layer *layer, uint64_t first_step, uint64_t stride,
	uint64_t count, uint32_t kv_head, float *mass, size_t pitch, GError **error);

/*
 * A stream of recomputed masses, step after step: it computes windows of steps ahead, because one
 * pass over the keys serves many steps. Ask in step order; any other order is right but slow.
 */
typedef struct kvt_attention_mass_stream kvt_attention_mass_stream;

/* Only steps that are multiples of `stride` (>= 1) may be asked for. `memory` bounds the window's
 * bytes (0: 64 MiB; at least one step). The layer must outlive the stream. */
kvt_attention_mass_stream *kvt_attention_mass_stream_new(
	kvt_attention_layer *layer, uint64_t stride, size_t memory);
void kvt_attention_mass_stream_free(kvt_attention_mass_stream *stream);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_attention_mass_stream, kvt_attention_mass_stream_free)

/* The masses of the pages present at (step, kv_head), from the first one present; owned by the
 * stream until the next call. NULL with an error. */
const float *kvt_attention_mass_stream_get(
	kvt_attention_mass_stream *stream, uint64_t step, uint32_t kv_head, GError **error);

/* Where an oracle takes its masses from. */
typedef enum kvt_attention_mass_source {
	KVT_ATTENTION_MASS_BEST,       /* recomputed where the layer has queries and keys */
	KVT_ATTENTION_MASS_RECOMPUTED, /* queries and keys: every page */
	KVT_ATTENTION_MASS_ROWS,       /* recorded rows: pages they leave out count as 0 */
} kvt_attention_mass_source;

/* Oracle mass kept with budgets of shares[n] (rising), mean over the steps 0, stride, 2 x stride,
 * ... and all KV heads, into kept[n]. */
bool kvt_attention_trace_oracle_mass(kvt_attention_layer *layer, kvt_attention_mass_source source,
	uint64_t stride, const double *shares, size_t n, double *kept, GError **error);

#endif
