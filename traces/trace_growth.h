/*
 * trace_growth.h: writes a trace of a longer context than was recorded, from statistical models of
 * what was. What it writes is flagged synthetic. A layer that was recorded with queries and keys
 * has queries, compact keys (trace_growth_keys.h) and the rows that follow from them by softmax;
 * any other has rows only, from trace_growth_model.h. No values, token ids or likelihoods.
 */
#ifndef KVT_TRACE_GROWTH_H
#define KVT_TRACE_GROWTH_H

#include "sim/base/progress.h"
#include "traces/attention_trace.h"

/* How queries are scaled with their position: 1 + rate x log1p(floor((position + 1) / tokens)).
 * A rate of 0 is no scaling. */
typedef struct kvt_attention_temperature {
	double rate;
	uint64_t tokens;
} kvt_attention_temperature;

/* Reads "1+0.1*log1p(floor((position+1)/2048))" from the description of a model; a rate of 0 when
 * it has nothing of the kind. */
kvt_attention_temperature kvt_attention_temperature_of(const char *model);

typedef struct kvt_growth {
	uint64_t context_tokens; /* wanted before the first step; rounded down by whole pages */
	int32_t layer;           /* -1: every recorded layer that is global */
	/* 0: as many as recorded, with keys at most 2^29 / context_tokens but 8; fewer than
	 * recorded are the last ones of each turn. */
	uint64_t steps;
	bool without_keys; /* rows only, of all layers */
	uint64_t seed;
	const kvt_attention_temperature *temperature; /* NULL: what the model's description says */
} kvt_growth;

/*
 * Grows `trace` into `path`, which appears when it is complete. The steps keep their turns, kinds
 * and queries, which are scaled by how much the temperature grows with the position; steps beyond
 * those recorded begin them anew as further turns, and only without keys. Errors: KVT_ERROR_USAGE
 * for a trace that is synthetic, a layer that is not recorded or not global, and a context that is
 * not longer or beyond the format. `progress` may be NULL and counts rows.
 */
bool kvt_attention_trace_grow(kvt_attention_trace *trace, const char *path,
	const kvt_growth *growth, kvt_progress *progress, GError **error);

#endif
