/*
 * replica_reload.c: whether a prefix that was found below HBM is loaded or computed again. An
 * estimate: what is on the links and in the step beside it is not known yet.
 */
#include "sim/fleet/replica_internal.h"

/* How long until the prompt's last chunk, when what is at levels up to `last` is loaded: `blocks`
 * of it are there then. */
static kvt_time estimate(kvt_replica *r, const kvt_kv_prompt *prompt, const kvt_kv_match *match,
	unsigned last, uint64_t blocks)
{
	const kvt_fleet_settings *s = r->env.settings;
	kvt_time load = 0;
	for (unsigned level = 1; level <= last; level++) {
		if (match->level_bytes[level] == 0)
			continue;
		const kvt_fleet_place from = { r->index, level }, to = { r->index, KVT_KV_HBM };
		load = MAX(load, kvt_fleet_transfers_alone(
					 r->env.transfers, from, to, match->level_bytes[level]));
	}
	uint64_t found = MIN(blocks * r->env.block_tokens, prompt->tokens - 1);
	uint64_t chunk = (uint64_t)MIN(s->chunk_tokens, s->token_budget);
	kvt_time compute = kvt_step_cost_prefill(r->env.cost, prompt->tokens - found, found, chunk);
	return s->layerwise ? MAX(load, compute) : load + compute;
}

void kvt_replica_limit_loads(kvt_replica *r, kvt_kv_prompt *prompt)
{
	int reload = r->env.settings->reload;
	if (reload == KVT_RELOAD_LOAD)
		return;
	prompt->limited = TRUE;
	if (reload == KVT_RELOAD_RECOMPUTE)
		return;
	kvt_kv_match match;
	prompt->load_end = UINT32_MAX;
	kvt_kv_match_prompt(r->kv, prompt, &match);
	/* a prefix loses its end first, so what is further down comes later in it */
	uint32_t blocks = match.level_blocks[KVT_KV_HBM];
	if (blocks == match.blocks)
		return;
	kvt_time best = estimate(r, prompt, &match, KVT_KV_HBM, blocks);
	prompt->load_end = 0;
	for (unsigned level = 1; level <= r->env.settings->n_tiers; level++) {
		if (match.level_blocks[level] == 0)
			continue;
		blocks += match.level_blocks[level];
		kvt_time time = estimate(r, prompt, &match, level, blocks);
		if (time >= best)
			continue;
		best = time;
		prompt->load_end = blocks;
	}
}
