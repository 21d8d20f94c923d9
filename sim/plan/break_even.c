/* break_even.c: a prompt's time by steps and by transfers alone. */
#include "sim/plan/break_even.h"

#include "models/llm_cost.h"

kvt_break_even kvt_break_even_of(const kvt_fleet *fleet, uint64_t tokens)
{
	const kvt_fleet_settings *s = fleet->settings;
	const kvt_experiment *e = s->experiment;
	uint64_t bytes = kvt_llm_kv_bytes(e->llm, tokens, (unsigned)e->ranks) * (uint64_t)e->ranks;
	uint64_t chunk = (uint64_t)MIN(s->chunk_tokens, s->token_budget);
	kvt_break_even at = { .tokens = tokens,
		.bytes = (double)bytes,
		.compute_s =
			kvt_time_to_seconds(kvt_step_cost_prefill(fleet->cost, tokens, 0, chunk)) };
	for (unsigned i = 0; i < s->n_tiers; i++) {
		const kvt_fleet_place from = { 0, i + 1 }, to = { 0, 0 };
		at.load_s[i] = kvt_time_to_seconds(
			kvt_fleet_transfers_alone(fleet->transfers, from, to, bytes));
	}
	return at;
}

static bool pays(const kvt_fleet *fleet, unsigned tier, uint64_t tokens)
{
	kvt_break_even at = kvt_break_even_of(fleet, tokens);
	return at.load_s[tier] < at.compute_s;
}

uint64_t kvt_break_even_tokens(const kvt_fleet *fleet, unsigned tier, uint64_t most)
{
	if (pays(fleet, tier, 1))
		return 0;
	uint64_t low = 1, high = 2;
	while (high < most && !pays(fleet, tier, high)) {
		low = high;
		high *= 2;
	}
	if (high >= most) {
		high = most;
		if (!pays(fleet, tier, high))
			return UINT64_MAX;
	}
	while (high - low > 1) {
		uint64_t middle = low + (high - low) / 2;
		if (pays(fleet, tier, middle))
			high = middle;
		else
			low = middle;
	}
	return high;
}
