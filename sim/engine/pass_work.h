/*
 * pass_work.h: which tokens of a layer a forward pass loads and which it attends to without a load.
 * The order of things is forward_pass.c's.
 */
#ifndef KVT_PASS_WORK_H
#define KVT_PASS_WORK_H

#include "sim/engine/forward_pass.h"

/* The tokens of a layer that the pass loads: [*first, *first + result); of a choice's, as it counts
 * them. */
uint64_t kvt_pass_load_range(
	const kvt_engine *engine, const kvt_pass_spec *spec, unsigned layer, uint64_t *first);

/*
 * Attention of `tokens` new tokens, before which there are `earlier_new` new ones, to each other,
 * to those and to what is in HBM. In a local layer the new tokens are taken in pieces no longer
 * than the window, each seeing as many earlier tokens as the layer's true number of (query, key)
 * pairs asks for.
 */
kvt_work kvt_pass_resident_work(const kvt_engine *engine, const kvt_pass_spec *spec, unsigned layer,
	uint64_t tokens, uint64_t earlier_new);

#endif
