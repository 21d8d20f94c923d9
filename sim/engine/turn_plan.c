/* turn_plan.c: fits a turn's KV into HBM, or decides what streams. */
#include "sim/engine/turn_plan.h"

#include "models/llm_cost.h"
#include "sim/base/error.h"

/* Seconds that bringing `tokens` back takes at the least, and computing them: both closed forms on
 * the slowest link and the GPU's attention and products, good enough to choose by. */
static double estimate_load(const kvt_system *system, uint64_t tokens)
{
	const kvt_topology_spec *spec = &system->topology.spec;
	double rate = MIN(spec->gpu_link_rate, spec->nic_rate * spec->fabric_efficiency);
	return (double)kvt_kv_page_bytes_total(&system->engine.layout, tokens) / rate;
}

static double estimate_compute(const kvt_system *system, uint64_t tokens)
{
	const kvt_experiment *e = system->experiment;
	uint64_t chunk = MIN((uint64_t)e->chunk_tokens, MAX(tokens, 1));
	double chunks = (double)tokens / (double)chunk, seconds = 0;
	for (unsigned layer = 0; layer < e->llm->n_layers; layer++) {
		kvt_work work = { .layer = layer, .tokens = chunk };
		const kvt_work_kind dense[] = { KVT_WORK_QKV, KVT_WORK_OUTPUT, KVT_WORK_MLP };
		for (unsigned i = 0; i < G_N_ELEMENTS(dense); i++) {
			work.kind = dense[i];
			seconds += chunks *
				   kvt_time_to_seconds(kvt_work_cost_time(system->cost, &work));
		}
		work.kind = KVT_WORK_ALL_REDUCE;
		if (e->overlap != KVT_OVERLAP_FULL)
			seconds += 2 * chunks *
				   kvt_time_to_seconds(kvt_work_cost_time(system->cost, &work));
		work.kind = KVT_WORK_ATTENTION;
		work.causal = 1;
		work.kv_tokens = kvt_llm_held_tokens(e->llm, layer, tokens) / 2;
		seconds += chunks * kvt_time_to_seconds(kvt_work_cost_time(system->cost, &work));
	}
	return seconds;
}

/* Bytes of KV of all layers in HBM at the turn's end. */
static uint64_t needed_bytes(const kvt_turn_plan *plan, const kvt_kv_layout *layout)
{
	return kvt_kv_page_bytes_total(layout, plan->total_tokens) -
	       plan->skipped_tokens * layout->token_bytes * layout->global_layers +
	       plan->sketch_bytes;
}

/* How many pages of global layers a resumed turn loads, where it does not load all. */
static void plan_choice(kvt_turn_plan *plan, const kvt_system *system)
{
	const kvt_experiment *e = system->experiment;
	const kvt_kv_layout *layout = &system->engine.layout;
	uint64_t stored_pages = plan->stored_tokens / layout->page_tokens;
	if (!e->selectivity || stored_pages == 0 || layout->global_layers == 0)
		return;
	plan->selectivity = kvt_selectivity_at(e->selectivity, (double)plan->stored_tokens);
	kvt_page_choice *choice = &plan->choice;
	kvt_page_choice_init(
		choice, stored_pages, plan->selectivity.share, plan->selectivity.run_pages);
	const kvt_llm *llm = e->llm;
	uint64_t kv_heads =
		llm->attention.form == KVT_ATTENTION_LATENT ? 1 : (uint64_t)llm->attention.kv_heads;
	uint64_t ranks = (uint64_t)e->ranks;
	choice->parts = (unsigned)((kv_heads + ranks - 1) / ranks);
	choice->late = !e->select_ahead;
	choice->sketch_bytes = e->sketch_bytes * layout->page_tokens * choice->parts * ranks;
	double layer_bytes = (double)choice->sketch_bytes * (double)stored_pages;
	choice->score_time =
		kvt_time_for_bytes((uint64_t)layer_bytes, system->topology.spec.hbm_rate);
	plan->sketch_bytes = choice->sketch_bytes * stored_pages * (uint64_t)e->reload_depth;
	plan->chooses = true;
	plan->skipped_tokens = (stored_pages - choice->chosen_pages) * layout->page_tokens;
}

static bool plan_streaming(kvt_turn_plan *plan, const kvt_system *system, GError **error)
{
	const kvt_experiment *e = system->experiment;
	const kvt_kv_layout *layout = &system->engine.layout;
	uint64_t capacity = kvt_system_kv_capacity(system);
	uint64_t page_bytes = layout->page_tokens * layout->token_bytes;
	uint64_t used = plan->sketch_bytes,
		 global_tokens = plan->total_tokens - plan->skipped_tokens;
	for (unsigned layer = 0; layer < e->llm->n_layers; layer++) {
		if (kvt_kv_layer_is_global(layout, layer))
			continue;
		uint64_t held = kvt_kv_held_tokens(layout, layer, plan->total_tokens);
		/* a window may begin and end within a page */
		used += (held / layout->page_tokens + 2) * page_bytes;
	}
	plan->buffers = (uint64_t)e->buffers;
	used += plan->buffers * plan->window_tokens * layout->token_bytes;
	uint64_t tail_pages = plan->tail_tokens / layout->page_tokens + 2;
	used += tail_pages * page_bytes * layout->global_layers;
	if (used > capacity) {
		g_autofree char *need = kvt_unit_format((double)used, KVT_UNIT_BYTES);
		g_autofree char *have = kvt_unit_format((double)capacity, KVT_UNIT_BYTES);
		return kvt_error_usage(error,
			"[stream] buffers, [prefill] chunk_tokens: local layers, staging buffers "
			"and the newest tokens take %s and HBM has %s for KV, expected fewer or "
			"smaller buffers or chunks",
			need, have);
	}
	uint64_t pages = layout->global_layers > 0 && e->stream_mode != KVT_STREAM_ALWAYS
				 ? (capacity - used) / (page_bytes * layout->global_layers)
				 : 0;
	plan->resident_tokens =
		MIN(pages * layout->page_tokens, (plan->prefill_tokens - plan->skipped_tokens) /
							 layout->page_tokens * layout->page_tokens);
	if (plan->resident_tokens + plan->tail_tokens > global_tokens)
		plan->resident_tokens = global_tokens > plan->tail_tokens
						? (global_tokens - plan->tail_tokens) /
							  layout->page_tokens * layout->page_tokens
						: 0;
	return true;
}

uint64_t kvt_turn_plan_storable(const kvt_experiment *experiment)
{
	uint64_t page_tokens = (uint64_t)experiment->page_tokens;
	return (uint64_t)((double)experiment->context_tokens * experiment->stored) / page_tokens *
	       page_tokens;
}

bool kvt_turn_plan_make(
	kvt_turn_plan *plan, const kvt_system *system, kvt_run_kind kind, GError **error)
{
	const kvt_experiment *e = system->experiment;
	const kvt_kv_layout *layout = &system->engine.layout;
	uint64_t context = (uint64_t)e->context_tokens, prompt = (uint64_t)e->prompt_tokens;
	*plan = (kvt_turn_plan){ .prefill_tokens = context + prompt };
	plan->total_tokens = plan->prefill_tokens + (uint64_t)e->output_tokens;
	plan->window_tokens = (uint64_t)e->window_tokens;
	if (kind != KVT_RUN_COLD) {
		plan->stored_tokens = kvt_turn_plan_storable(e);
		plan->load_estimate = estimate_load(system, plan->stored_tokens);
		plan->compute_estimate = estimate_compute(system, plan->stored_tokens);
		bool slower = e->resume_policy == KVT_RESUME_AUTO && plan->stored_tokens > 0 &&
			      plan->compute_estimate < plan->load_estimate;
		if (e->resume_policy == KVT_RESUME_RECOMPUTE || slower) {
			plan->recomputed = plan->stored_tokens > 0;
			plan->stored_tokens = 0;
		}
		plan_choice(plan, system);
	}
	uint64_t capacity = kvt_system_kv_capacity(system);
	uint64_t needed = needed_bytes(plan, layout);
	plan->streamed = e->stream_mode == KVT_STREAM_ALWAYS ||
			 (e->stream_mode == KVT_STREAM_AUTO && needed > capacity);
	if (!plan->streamed) {
		if (needed <= capacity)
			return true;
		return kvt_error_usage(error,
			"[stream] mode: the KV does not fit into HBM, expected auto or always");
	}
	/* the newest tokens: a chunk being computed, or the prompt and the output */
	uint64_t fresh = plan->total_tokens - plan->stored_tokens;
	plan->tail_tokens =
		MIN(fresh, MAX((uint64_t)e->chunk_tokens, prompt + (uint64_t)e->output_tokens));
	return plan_streaming(plan, system, error);
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

unsigned kvt_turn_pick_chunks(const kvt_turn_plan *plan, uint64_t chunk, uint64_t chunks,
	uint64_t samples, uint64_t **picks)
{
	uint64_t *all = g_new(uint64_t, samples + 6);
	unsigned n = 0;
	if (samples >= chunks) {
		for (uint64_t i = 0; i < chunks; i++)
			all[n++] = i;
		*picks = all;
		return n;
	}
	uint64_t knee = plan->streamed ? plan->resident_tokens / chunk : 0;
	const uint64_t fixed[] = { 0, 1, chunks - 2, chunks - 1, knee, knee + 1 };
	for (unsigned i = 0; i < G_N_ELEMENTS(fixed); i++)
		if (fixed[i] < chunks)
			all[n++] = fixed[i];
	uint64_t spread = samples > n ? samples - n : 0;
	for (uint64_t i = 1; i <= spread; i++)
		all[n++] = i * (chunks - 1) / (spread + 1);
	qsort(all, n, sizeof(uint64_t), compare_u64);
	unsigned unique = 0;
	for (unsigned i = 0; i < n; i++)
		if (unique == 0 || all[unique - 1] != all[i])
			all[unique++] = all[i];
	*picks = all;
	return unique;
}
