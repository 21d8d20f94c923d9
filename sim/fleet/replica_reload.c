/*
 * replica_reload.c: whether a prefix that was found below HBM, or at the replica where its session
 * was, is loaded or computed again. An estimate: what is on the links and in the step beside it is
 * not known yet.
 */
#include "sim/fleet/replica_internal.h"

/* One way to serve a prompt: what is at levels in this order, up to some one, is loaded. */
typedef struct reload_choice {
	kvt_replica *replica;
	const kvt_kv_prompt *prompt;
	uint32_t peer;
	kvt_time load;   /* of what is loaded, side by side */
	uint64_t blocks; /* there then */
} reload_choice;

static void add_level(reload_choice *choice, const kvt_kv_match *match, unsigned level)
{
	kvt_replica *r = choice->replica;
	const kvt_fleet_place to = { r->index, KVT_KV_HBM };
	kvt_fleet_place from = { r->index, level };
	/* of what a peer has, most is in its first tier where there is one */
	if (level == KVT_KV_PEER)
		from = (kvt_fleet_place){ choice->peer, MIN(r->env.settings->n_tiers, 1) };
	uint64_t bytes = match->level_bytes[level];
	const kvt_fleet_settings *s = r->env.settings;
	/* of a pool, what lies in other nodes: all but one of equal shares */
	if (level <= s->n_tiers && kvt_tier_settings_has_homes(s, &s->tiers[level - 1])) {
		unsigned nodes = kvt_fleet_settings_nodes(s);
		unsigned node = r->index / (unsigned)s->replicas_a_node;
		from.replica = kvt_replica_of_node(r, (node + 1) % nodes);
		bytes -= bytes / nodes;
	}
	kvt_time load = kvt_fleet_transfers_alone(r->env.transfers, from, to, bytes);
	choice->load = MAX(choice->load, load);
	choice->blocks += match->level_blocks[level];
}

/* How long until the prompt's last chunk. */
static kvt_time estimate(const reload_choice *choice)
{
	const kvt_replica *r = choice->replica;
	const kvt_fleet_settings *s = r->env.settings;
	uint64_t tokens = choice->prompt->tokens;
	uint64_t found = MIN(choice->blocks * r->env.block_tokens, tokens - 1);
	uint64_t chunk = (uint64_t)MIN(s->chunk_tokens, s->token_budget);
	kvt_time compute = kvt_step_cost_prefill(r->env.cost, tokens - found, found, chunk);
	return s->layerwise ? MAX(choice->load, compute) : choice->load + compute;
}

void kvt_replica_limit_loads(kvt_replica *r, kvt_kv_prompt *prompt, uint32_t peer)
{
	int reload = r->env.settings->reload;
	/* who adapts chooses, too: loads are not what they are alone */
	if (reload == KVT_RELOAD_LOAD && r->env.settings->adapt_on)
		reload = KVT_RELOAD_AUTO;
	if (reload == KVT_RELOAD_LOAD)
		return;
	prompt->limited = TRUE;
	if (reload == KVT_RELOAD_RECOMPUTE)
		return;
	kvt_kv_match match;
	prompt->load_end = UINT32_MAX;
	kvt_kv_match_prompt(r->kv, prompt, &match);
	reload_choice choice = { r, prompt, peer, 0, match.level_blocks[KVT_KV_HBM] };
	kvt_time best = estimate(&choice);
	prompt->load_end = 0;
	/* a prefix loses its end first, so what is further down comes later in it */
	for (unsigned level = 1; level < KVT_KV_LEVELS; level++) {
		if (match.level_blocks[level] == 0)
			continue;
		add_level(&choice, &match, level);
		kvt_time time = estimate(&choice);
		if (time >= best)
			continue;
		best = time;
		prompt->load_end = (uint32_t)choice.blocks;
	}
}
