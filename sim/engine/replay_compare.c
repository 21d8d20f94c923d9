/* replay_compare.c: a table of replays by prefetcher and budget. */
#include "sim/engine/replay_compare.h"

const double kvt_replay_compare_budgets[] = { 0.01, 0.02, 0.05, 0.1, 0 };

#define SHARE(key, header)                                                                         \
	{                                                                                          \
		key, header, KVT_CELL_NUMBER, KVT_UNIT_NONE, "%.2f%%", 100                         \
	}

static const kvt_column columns[] = {
	{ "prefetch", "prefetch", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "policy", "policy", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "sees_future", NULL, KVT_CELL_BOOL, KVT_UNIT_NONE, NULL, 0 },
	{ "budget", "budget", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%g%%", 100 },
	{ "hbm", "HBM", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%g%%", 100 },
	SHARE("mass_kept", "mass kept"),
	SHARE("mass_oracle", NULL),
	SHARE("oracle_share", "of oracle"),
	SHARE("worst_head", "worst head"),
	SHARE("mass_resident", NULL),
	SHARE("mass_on_time", "mass in HBM"),
	SHARE("hit_rate", "hit rate"),
	SHARE("timely", "timely"),
	SHARE("coverage", "coverage"),
	SHARE("waste", "waste"),
	SHARE("pollution", "pollution"),
	{ "scorer_bytes_per_token", "B/token", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%.1f", 0 },
	{ "scorer_pages_per_query", "scored", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%.0f", 0 },
	{ "scorer_bytes_scanned", NULL, KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "misses", "misses", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "read_bytes", "read", KVT_CELL_NUMBER, KVT_UNIT_BYTES, NULL, 0 },
	{ "tpot_s", "TPOT", KVT_CELL_NUMBER, KVT_UNIT_TIME, NULL, 0 },
	{ 0 },
};

kvt_table *kvt_replay_compare_new(void)
{
	return kvt_table_new(columns);
}

void kvt_replay_compare_add(
	kvt_table *table, const kvt_replay_settings *settings, const kvt_replay_result *result)
{
	const kvt_residency_counts *counts = &result->counts;
	double hbm = settings->hbm > 0 ? settings->hbm : settings->budget;
	kvt_table_add_row(table);
	kvt_table_add_text(table, settings->prefetcher->name);
	kvt_table_add_text(table, settings->policy->name);
	kvt_table_add_bool(table, settings->prefetcher->sees_future);
	kvt_table_add_number(table, settings->budget);
	kvt_table_add_number(table, hbm);
	kvt_table_add_number(table, result->mass_kept);
	kvt_table_add_number(table, result->mass_oracle);
	kvt_table_add_number(table, result->mass_kept / result->mass_oracle);
	kvt_table_add_number(table, kvt_replay_worst_head(result));
	kvt_table_add_number(table, result->mass_resident);
	kvt_table_add_number(table, result->mass_on_time);
	kvt_table_add_number(table, kvt_replay_hit_rate(result));
	kvt_table_add_number(table, kvt_replay_timely(result));
	kvt_table_add_number(table, kvt_replay_coverage(result));
	kvt_table_add_number(table, kvt_replay_waste(result));
	kvt_table_add_number(table, kvt_replay_pollution(result));
	kvt_table_add_number(table, kvt_replay_sketch_bytes(result));
	kvt_table_add_number(table, kvt_replay_scored_pages(result));
	kvt_table_add_integer(table, (int64_t)result->scorer.scanned_bytes);
	kvt_table_add_integer(table, (int64_t)(counts->prefetched + counts->demanded));
	kvt_table_add_number(table, (double)result->storage.read_bytes);
	if (result->steps < 2)
		kvt_table_add_none(table);
	else
		kvt_table_add_number(table, kvt_time_to_seconds(kvt_replay_step_time(result, 0.5)));
}
