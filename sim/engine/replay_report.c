/* replay_report.c: results of a replay to JSON and to a table. */
#include "sim/engine/replay_report.h"

#include <math.h>

static void set_real(json_t *object, const char *key, double value)
{
	json_object_set_new(object, key, kvt_json_real(value));
}

static void set_integer(json_t *object, const char *key, uint64_t value)
{
	json_object_set_new(object, key, json_integer((json_int_t)value));
}

static double ratio(uint64_t part, uint64_t whole)
{
	return whole > 0 ? (double)part / (double)whole : NAN;
}

static kvt_time stall(const kvt_replay_result *result)
{
	kvt_time sum = 0;
	for (unsigned cause = 0; cause < KVT_STALL_CAUSES; cause++)
		sum += result->stall[cause];
	return sum;
}

static double mean_step(const kvt_replay_result *result)
{
	if (result->steps < 2)
		return NAN;
	return kvt_time_to_seconds(result->total - result->ttft) / (result->steps - 1);
}

static double step_time(const kvt_replay_result *result, double q)
{
	return result->steps < 2 ? NAN : kvt_time_to_seconds(kvt_replay_step_time(result, q));
}

static json_t *by_tier(const char *tier, json_t *hbm, json_t *storage)
{
	json_t *object = json_object();
	json_object_set_new(object, "hbm", hbm);
	json_object_set_new(object, tier, storage);
	return object;
}

static json_t *accesses(const kvt_residency_counts *counts)
{
	json_t *object = json_object();
	set_integer(object, "total", counts->accesses);
	set_integer(object, "hits", counts->hits);
	set_integer(object, "prefetched", counts->prefetched);
	set_integer(object, "demanded", counts->demanded);
	set_integer(object, "streamed", counts->streamed);
	set_integer(object, "born", counts->born);
	set_integer(object, "evicted", counts->evicted);
	return object;
}

static json_t *needed(const kvt_replay_result *result)
{
	json_t *object = json_object();
	set_integer(object, "total", result->needed);
	set_integer(object, "before", result->needed_here - result->needed_during);
	set_integer(object, "during", result->needed_during);
	set_integer(object, "after", result->needed - result->needed_here);
	return object;
}

static json_t *prefetched(const kvt_residency_counts *counts)
{
	json_t *object = json_object();
	set_integer(object, "total", counts->moved);
	set_integer(object, "used", counts->used);
	set_integer(object, "wasted", counts->wasted);
	set_integer(object, "unused", counts->unused);
	return object;
}

static json_t *compulsory(const kvt_replay_result *result)
{
	const kvt_residency_counts *counts = &result->counts;
	json_t *object = json_object();
	set_integer(object, "misses", counts->compulsory);
	set_real(object, "hit_rate_limit",
		ratio(counts->accesses - counts->compulsory, counts->accesses));
	return object;
}

static json_t *lost_of(const kvt_replay_lost *lost)
{
	json_t *object = json_object();
	set_integer(object, "pages", lost->pages);
	set_integer(object, "recomputed_tokens", lost->tokens);
	set_real(object, "recompute_s", kvt_time_to_seconds(lost->time));
	set_integer(object, "stored_again_bytes", lost->stored_again_bytes);
	set_integer(object, "failed_bytes", lost->failed_bytes);
	return object;
}

static json_t *storage(const kvt_replay_result *result)
{
	const kvt_tier_stats *stats = &result->storage;
	json_t *object = json_object();
	set_integer(object, "reads", stats->reads);
	set_integer(object, "writes", stats->writes);
	set_integer(object, "device_ios", stats->device_ios);
	set_integer(object, "retries", result->retries);
	if (result->lost.pages > 0)
		json_object_set_new(object, "lost", lost_of(&result->lost));
	set_real(object, "read_latency_median_s",
		(double)kvt_histogram_quantile(&stats->read_latency, 0.5) * 1e-12);
	set_real(object, "read_latency_p99_s",
		(double)kvt_histogram_quantile(&stats->read_latency, 0.99) * 1e-12);
	return object;
}

/* What each latency is a latency of. */
static json_t *units(const kvt_replay_result *result)
{
	json_t *object = json_object();
	g_autofree char *first = g_strdup_printf(
		"the first step, one token through %u layers, from an empty HBM", result->layers);
	g_autofree char *step = g_strdup_printf(
		"a step after the first, one token through %u layers; median", result->layers);
	json_object_set_new(object, "ttft_s", kvt_json_text(first));
	json_object_set_new(object, "tpot_s", kvt_json_text(step));
	json_object_set_new(object, "stall_s",
		kvt_json_text("all steps, time that attention waited for pages"));
	json_object_set_new(object, "hit_rate",
		kvt_json_text("accesses, a page read by one step, layer and KV head, by where "
			      "the page was when the step before had ended"));
	json_object_set_new(object, "bytes", kvt_json_text("read from each tier"));
	json_object_set_new(object, "read_latency_median_s",
		kvt_json_text("one layer's prefetch or demand fetch, all KV heads"));
	return object;
}

static json_t *heads(const kvt_replay_result *result)
{
	json_t *array = json_array();
	for (uint32_t i = 0; i < result->n_rows; i++) {
		const kvt_replay_head *head = &result->by_head[i];
		json_t *object = json_object();
		set_integer(object, "layer", head->layer);
		set_integer(object, "head", head->head);
		set_real(object, "mass_kept", head->mass_kept);
		set_real(object, "mass_oracle", head->mass_oracle);
		set_real(object, "mass_resident", head->mass_resident);
		set_real(object, "mass_estimated", head->mass_estimated);
		set_real(object, "dense", head->dense);
		json_array_append_new(array, object);
	}
	return array;
}

static void add_mass(json_t *object, const kvt_replay_result *result)
{
	set_real(object, "mass_kept", result->mass_kept);
	set_real(object, "mass_oracle", result->mass_oracle);
	set_real(object, "mass_lost", result->mass_lost);
	set_real(object, "mass_resident", result->mass_resident);
	set_real(object, "mass_on_time", result->mass_on_time);
	set_real(object, "mass_estimated", result->mass_estimated);
	set_integer(object, "dense_rows", result->dense_rows);
	set_integer(object, "diffuse_heads", kvt_replay_diffuse_heads(result));
	set_real(object, "worst_head_of_oracle", kvt_replay_worst_head(result));
	json_object_set_new(object, "heads", heads(result));
	/* of which nobody knows on which pages it lies; all figures above may be higher by it */
	set_real(object, "mass_unlisted", MAX(1 - result->mass_listed, 0));
	json_t *selection = json_object();
	set_real(selection, "mean", result->selection);
	set_real(selection, "runs", result->selection_runs);
	set_integer(selection, "least", result->selection_least);
	set_integer(selection, "most", result->selection_most);
	json_object_set_new(object, "selected_pages", selection);
}

static void add_scorer(json_t *object, const kvt_replay_result *result)
{
	const kvt_prefetcher_stats *scorer = &result->scorer;
	set_real(object, "scorer_bytes_per_token", kvt_replay_sketch_bytes(result));
	set_integer(object, "scorer_bytes_scanned", scorer->scanned_bytes);
	set_real(object, "scorer_pages_per_query", kvt_replay_scored_pages(result));
	set_real(object, "scorer_s", kvt_time_to_seconds(result->scorer_time));
}

static void add_time(json_t *object, const kvt_replay_result *result)
{
	set_real(object, "ttft_s", kvt_time_to_seconds(result->ttft));
	set_real(object, "tpot_s", step_time(result, 0.5));
	set_real(object, "tpot_p99_s", step_time(result, 0.99));
	set_real(object, "tpot_mean_s", mean_step(result));
	set_real(object, "total_s", kvt_time_to_seconds(result->total));
	set_real(object, "stall_s", kvt_time_to_seconds(stall(result)));
	json_t *causes = json_object();
	for (unsigned cause = 0; cause < KVT_STALL_CAUSES; cause++)
		set_real(causes, kvt_stall_names[cause], kvt_time_to_seconds(result->stall[cause]));
	json_object_set_new(object, "stall", causes);
	set_real(object, "first_step_stall_s", kvt_time_to_seconds(result->first_step_stall));
	set_real(object, "attention_s", kvt_time_to_seconds(result->attention_time));
	set_real(object, "other_work_s", kvt_time_to_seconds(result->other_time));
}

json_t *kvt_replay_to_json(
	const kvt_replay_settings *settings, const kvt_replay_result *result, const char *tier)
{
	const kvt_residency_counts *counts = &result->counts;
	uint64_t moved = counts->prefetched + counts->demanded;
	json_t *object = json_object();
	set_integer(object, "steps", result->steps);
	set_integer(object, "layers_timed", result->layers);
	set_integer(object, "dense_steps", result->dense_steps);
	add_mass(object, result);
	json_object_set_new(object, "hit_rate",
		by_tier(tier, kvt_json_real(ratio(counts->hits, counts->accesses)),
			kvt_json_real(ratio(moved, counts->accesses))));
	/* in HBM when attention asked, moved there for it or not */
	set_real(object, "ready_rate", ratio(counts->hits + counts->prefetched, counts->accesses));
	set_real(object, "timely", kvt_replay_timely(result));
	set_real(object, "coverage", kvt_replay_coverage(result));
	set_real(object, "waste", kvt_replay_waste(result));
	set_real(object, "pollution", kvt_replay_pollution(result));
	set_integer(object, "block_accesses", counts->accesses);
	json_object_set_new(object, "accesses", accesses(counts));
	json_object_set_new(object, "compulsory", compulsory(result));
	json_object_set_new(object, "needed_pages", needed(result));
	json_object_set_new(object, "prefetched_pages", prefetched(counts));
	set_integer(object, "misses", moved);
	json_object_set_new(object, "belady_misses",
		result->has_belady ? json_integer((json_int_t)result->belady_misses) : json_null());
	json_object_set_new(object, "bytes",
		by_tier(tier, json_integer((json_int_t)result->attended_bytes),
			json_integer((json_int_t)result->storage.read_bytes)));
	json_object_set_new(object, "written_bytes",
		by_tier(tier, json_integer((json_int_t)result->moved_bytes),
			json_integer((json_int_t)result->storage.written_bytes)));
	add_scorer(object, result);
	add_time(object, result);
	set_integer(object, "peak_hbm_pages", result->peak_pages);
	set_integer(object, "peak_hbm_bytes", result->peak_hbm_bytes);
	set_integer(object, "page_bytes", settings->page_bytes);
	json_object_set_new(object, "storage", storage(result));
	json_object_set_new(object, "units", units(result));
	return object;
}

static const kvt_column columns[] = {
	{ "figure", "", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "value", "value", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "meaning", "of", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ 0 },
};

static void add_row(kvt_table *table, const char *figure, char *value, const char *meaning)
{
	kvt_table_add_row(table);
	kvt_table_add_text(table, figure);
	kvt_table_add_text(table, value);
	kvt_table_add_text(table, meaning);
	g_free(value);
}

static char *share(double value)
{
	return isnan(value) ? g_strdup("-") : g_strdup_printf("%.2f%%", 100 * value);
}

static char *quantity(double value, kvt_unit unit)
{
	return isnan(value) ? g_strdup("-") : kvt_unit_format(value, unit);
}

static char *count(uint64_t value)
{
	return g_strdup_printf("%" G_GUINT64_FORMAT, value);
}

static void add_stalls(kvt_table *table, const kvt_replay_result *result)
{
	static const char *const meanings[] = {
		"prefetches still moving when attention was due",
		"pages that attention had to ask for",
		"pages that could not leave before they were written",
		"fetches that the tier had not taken yet",
	};
	double total = kvt_time_to_seconds(result->total);
	add_row(table, "stall", quantity(kvt_time_to_seconds(stall(result)), KVT_UNIT_TIME),
		"all steps, waiting for pages");
	for (unsigned cause = 0; cause < KVT_STALL_CAUSES; cause++) {
		double time = kvt_time_to_seconds(result->stall[cause]);
		if (time <= 0)
			continue;
		g_autofree char *name = g_strconcat("  ", kvt_stall_names[cause], NULL);
		g_autofree char *text = kvt_unit_format(time, KVT_UNIT_TIME);
		add_row(table, name, g_strdup_printf("%s (%.1f%%)", text, 100 * time / total),
			meanings[cause]);
	}
}

static void add_masses(
	kvt_table *table, const kvt_replay_settings *settings, const kvt_replay_result *result)
{
	bool budgeted = settings->attention == KVT_REPLAY_BUDGETED;
	add_row(table, "attention mass kept", share(result->mass_kept),
		budgeted ? "on the selected pages"
			 : "on the selected pages: in HBM without a demand fetch");
	add_row(table, "  of the best choice", share(result->mass_oracle),
		"oracle within the same budgets");
	add_row(table, "  worst head", share(kvt_replay_worst_head(result)),
		"of its best choice: the layer and KV head that keeps least of it");
	if (!isnan(result->mass_estimated))
		add_row(table, "  estimated", share(result->mass_estimated),
			"what the prefetcher thought it would keep");
	if (budgeted)
		add_row(table, "  lost", share(result->mass_lost), "what was not attended to");
	if (result->mass_listed < 0.9999)
		add_row(table, "  not recorded", share(1 - result->mass_listed),
			"mass of pages that the rows leave out, counted as none");
	if (result->dense_rows > 0)
		add_row(table, "attended in full",
			share((double)result->dense_rows /
				((double)result->steps * result->n_rows)),
			"steps, layers and heads without enough mass in sight");
	add_row(table, "mass in HBM", share(result->mass_on_time), "when attention began");
	add_row(table, "pages selected", g_strdup_printf("%.1f", result->selection),
		"mean a step, layer and KV head");
}

static void add_sketch(kvt_table *table, const kvt_replay_result *result)
{
	if (result->scorer.sketch_tokens == 0)
		return;
	const kvt_prefetcher_stats *scorer = &result->scorer;
	add_row(table, "sketch",
		g_strdup_printf("%.2f bytes a token", kvt_replay_sketch_bytes(result)),
		"one KV head, all that scoring holds");
	add_row(table, "  pages scored", g_strdup_printf("%.1f", kvt_replay_scored_pages(result)),
		"mean a step, layer and KV head, index entries included");
	add_row(table, "  read", quantity((double)scorer->scanned_bytes, KVT_UNIT_BYTES),
		"of sketches, all steps");
}

kvt_table *kvt_replay_to_table(
	const kvt_replay_settings *settings, const kvt_replay_result *result, const char *tier)
{
	const kvt_residency_counts *counts = &result->counts;
	uint64_t moved = counts->prefetched + counts->demanded;
	bool budgeted = settings->attention == KVT_REPLAY_BUDGETED;
	kvt_table *table = kvt_table_new(columns);
	add_masses(table, settings, result);
	add_row(table, "page accesses", count(counts->accesses),
		"a page read by one step, layer and KV head");
	add_row(table, "  in HBM before", share(ratio(counts->hits, counts->accesses)),
		"hit rate of HBM");
	add_row(table, "  prefetched", share(ratio(counts->prefetched, counts->accesses)),
		"moved ahead for the step");
	add_row(table, "  on demand", share(ratio(counts->demanded, counts->accesses)),
		"fetched when attention asked");
	add_row(table, "needed pages timely", share(kvt_replay_timely(result)),
		"of the best choice: in HBM when attention began");
	add_row(table, "  coverage", share(kvt_replay_coverage(result)),
		"of the best choice: selected");
	add_row(table, "prefetches wasted", share(kvt_replay_waste(result)),
		"pages that left and were never of the best choice");
	add_sketch(table, result);
	add_row(table, "misses", count(moved), "accesses to pages that had to be moved");
	add_row(table, "  pollution", share(kvt_replay_pollution(result)),
		"pages that had left for a prefetched one");
	if (result->has_belady)
		add_row(table, "  Belady", count(result->belady_misses),
			budgeted ? "the fewest of any policy on these accesses"
				 : "no policy can have fewer on these accesses");
	add_row(table, "  compulsory", count(counts->compulsory), "first accesses to stored pages");
	g_autofree char *from = g_strdup_printf("read from %s", tier);
	g_autofree char *to = g_strdup_printf("written to %s", tier);
	add_row(table, from, quantity((double)result->storage.read_bytes, KVT_UNIT_BYTES),
		"all steps");
	add_row(table, to, quantity((double)result->storage.written_bytes, KVT_UNIT_BYTES),
		"pages that decode completed");
	add_row(table, "peak of HBM", quantity((double)result->peak_hbm_bytes, KVT_UNIT_BYTES),
		"KV pages");
	add_row(table, "TTFT", quantity(kvt_time_to_seconds(result->ttft), KVT_UNIT_TIME),
		"the first step, from an empty HBM");
	add_row(table, "TPOT median", quantity(step_time(result, 0.5), KVT_UNIT_TIME),
		"a step after the first");
	add_row(table, "TPOT p99", quantity(step_time(result, 0.99), KVT_UNIT_TIME),
		"a step after the first");
	add_stalls(table, result);
	return table;
}
