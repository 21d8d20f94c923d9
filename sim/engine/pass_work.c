/* pass_work.c: tokens of a pass, layer by layer. */
#include "sim/engine/pass_work.h"

#include "models/llm_cost.h"
#include "sim/engine/page_choice.h"

/* Earlier tokens of global layers that are not attended to. */
static uint64_t skipped_tokens(const kvt_engine *engine, const kvt_pass_spec *spec)
{
	const kvt_page_choice *choice = spec->choice;
	/* what is computed again counts positions as held ones */
	if (!choice || spec->again)
		return 0;
	return (choice->stored_pages - choice->chosen_pages) * engine->layout.page_tokens;
}

static uint64_t arriving_tokens(const kvt_pass_spec *spec)
{
	return spec->loaded > spec->resident ? spec->loaded - spec->resident : 0;
}

uint64_t kvt_pass_load_range(
	const kvt_engine *engine, const kvt_pass_spec *spec, unsigned layer, uint64_t *first)
{
	if (kvt_kv_layer_is_global(&engine->layout, layer)) {
		*first = spec->resident;
		return arriving_tokens(spec);
	}
	if (!spec->load_local)
		return 0;
	/* what the stored context holds of this layer, as far as a new token can see it */
	uint64_t loaded = spec->loaded + skipped_tokens(engine, spec);
	uint64_t held = kvt_kv_held_tokens(&engine->layout, layer, loaded);
	*first = loaded - held;
	return held;
}

kvt_work kvt_pass_resident_work(const kvt_engine *engine, const kvt_pass_spec *spec, unsigned layer,
	uint64_t tokens, uint64_t earlier_new)
{
	kvt_work work = { .kind = KVT_WORK_ATTENTION,
		.layer = layer,
		.tokens = tokens,
		.batch = 1,
		.causal = 1,
		.again = spec->again,
		.position = spec->position + earlier_new };
	if (kvt_kv_layer_is_global(&engine->layout, layer)) {
		work.gap_first = spec->resident;
		work.gap = arriving_tokens(spec);
		work.kv_tokens = work.position - skipped_tokens(engine, spec) - work.gap;
		return work;
	}
	const kvt_llm *llm = engine->layout.llm;
	uint64_t window = (uint64_t)llm->window;
	work.batch = (unsigned)((tokens + window - 1) / window);
	work.tokens = (tokens + work.batch - 1) / work.batch;
	double pairs = kvt_llm_attention_pairs(llm, layer, work.position, tokens);
	double own = 0.5 * (double)work.tokens * (double)(work.tokens + 1) * work.batch;
	double earlier = (pairs - own) / (double)tokens;
	work.kv_tokens = earlier > 0 ? (uint64_t)(earlier + 0.5) : 0;
	work.first = work.position - MIN(work.position, work.kv_tokens);
	return work;
}
