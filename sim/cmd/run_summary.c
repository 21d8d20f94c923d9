/* run_summary.c: times, where they went, bytes and sources, as a page of text. */
#include "sim/cmd/run_summary.h"

#include <glib.h>
#include <string.h>

#include "sim/base/units.h"

static void print_quantity(FILE *stream, const char *label, const json_t *value, kvt_unit unit)
{
	if (!json_is_number(value))
		return;
	g_autofree char *text = kvt_unit_format(json_number_value(value), unit);
	fprintf(stream, "  %-34s %s\n", label, text);
}

static void print_times(FILE *stream, const json_t *turn)
{
	print_quantity(
		stream, "time to first token", json_object_get(turn, "ttft_s"), KVT_UNIT_TIME);
	print_quantity(
		stream, "time per output token", json_object_get(turn, "tpot_s"), KVT_UNIT_TIME);
	fprintf(stream, "  %-34s %.4g\n", "output tokens per second, whole turn",
		json_number_value(json_object_get(turn, "tokens_per_s")));
}

static void print_stages(FILE *stream, const json_t *stages, double whole)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)stages, key, value)
	{
		double seconds = json_number_value(value);
		if (!json_is_number(value) || seconds <= 1e-12)
			continue;
		g_autofree char *name = g_strndup(key, strlen(key) - strlen("_s"));
		g_strdelimit(name, "_", ' ');
		g_autofree char *text = kvt_unit_format(seconds, KVT_UNIT_TIME);
		fprintf(stream, "    %-32s %-10s %5.1f%%\n", name, text,
			whole > 0 ? 100 * seconds / whole : 0);
	}
}

static void print_bytes(FILE *stream, const char *label, const json_t *bytes)
{
	const char *tier;
	json_t *value;
	json_object_foreach((json_t *)bytes, tier, value)
	{
		if (json_integer_value(value) == 0)
			continue;
		g_autofree char *line = g_strdup_printf("%s %s", label, tier);
		print_quantity(stream, line, value, KVT_UNIT_BYTES);
	}
}

static void print_choice(FILE *stream, const json_t *choice)
{
	if (!choice)
		return;
	fprintf(stream, "  %-34s %.1f%%, with %.1f%% of the mass\n",
		"of global layers' pages, loaded",
		100 * json_number_value(json_object_get(choice, "share")),
		100 * json_number_value(json_object_get(choice, "mass_kept")));
	if (json_is_true(json_object_get(choice, "extrapolated"))) {
		g_autofree char *tokens = kvt_unit_format(
			json_number_value(json_object_get(choice, "recorded_to_tokens")),
			KVT_UNIT_COUNT);
		fprintf(stream,
			"    extrapolated: no recording of this length, that of the nearest is "
			"taken (the longest: %s tokens)\n",
			tokens);
	}
}

/* What was written once the first token was there. */
static void print_writes(FILE *stream, const char *label, const json_t *writes)
{
	g_autofree char *failed = g_strconcat(label, ", but not", NULL);
	double not_written = json_number_value(json_object_get(writes, "failed_bytes"));
	print_quantity(stream, label, json_object_get(writes, "bytes"), KVT_UNIT_BYTES);
	if (not_written > 0)
		print_quantity(
			stream, failed, json_object_get(writes, "failed_bytes"), KVT_UNIT_BYTES);
}

static void print_lost(FILE *stream, const json_t *lost)
{
	const char *why;
	json_t *value;
	if (!lost)
		return;
	fputs("  pages that storage did not deliver\n", stream);
	json_object_foreach(json_object_get(lost, "pages"), why, value)
	{
		if (json_integer_value(value) > 0)
			fprintf(stream, "    %-32s %" JSON_INTEGER_FORMAT "\n", why,
				json_integer_value(value));
	}
	print_quantity(stream, "  read again", json_object_get(lost, "reread_ios"), KVT_UNIT_COUNT);
	print_quantity(stream, "  tokens recomputed", json_object_get(lost, "recomputed_tokens"),
		KVT_UNIT_COUNT);
	print_quantity(
		stream, "  recomputing took", json_object_get(lost, "recompute_s"), KVT_UNIT_TIME);
	print_writes(stream, "  stored again", json_object_get(lost, "stored_again"));
	if (json_number_value(json_object_get(lost, "given_up_s")) > 0)
		print_quantity(stream, "  too much: started over after",
			json_object_get(lost, "given_up_s"), KVT_UNIT_TIME);
}

static void print_turn(FILE *stream, const json_t *turn)
{
	print_times(stream, turn);
	print_bytes(stream, "read from", json_object_get(turn, "bytes"));
	print_bytes(stream, "written to", json_object_get(turn, "written_bytes"));
	print_quantity(stream, "peak HBM, all GPUs", json_object_get(turn, "peak_hbm_bytes"),
		KVT_UNIT_BYTES);
	print_choice(stream, json_object_get(turn, "choice"));
	print_lost(stream, json_object_get(turn, "lost"));
	print_writes(stream, "kept for turns to come", json_object_get(turn, "kept"));
	if (json_is_true(json_object_get(turn, "streamed")))
		fprintf(stream,
			"  the KV does not fit into HBM: %" JSON_INTEGER_FORMAT
			" tokens of each global layer stay, the rest streams\n",
			json_integer_value(json_object_get(turn, "resident_tokens")));
	const json_t *stages = json_object_get(turn, "stages");
	fputs("  of the time to first token (stages overlap)\n", stream);
	print_stages(stream, stages, json_number_value(json_object_get(turn, "ttft_s")));
	fputs("  of a decode step\n", stream);
	print_stages(stream, json_object_get(stages, "decode_step"),
		json_number_value(json_object_get(turn, "tpot_s")));
	const json_t *policy = json_object_get(turn, "policy");
	double compute = json_number_value(json_object_get(policy, "compute_estimate_s"));
	if (compute > 0) {
		fputs("  load or recompute, by estimate\n", stream);
		print_quantity(stream, "  loading takes",
			json_object_get(policy, "load_estimate_s"), KVT_UNIT_TIME);
		print_quantity(stream, "  computing takes",
			json_object_get(policy, "compute_estimate_s"), KVT_UNIT_TIME);
		print_quantity(stream, "  both are even at",
			json_object_get(policy, "break_even_bytes_per_s"), KVT_UNIT_RATE);
	}
}

void kvt_run_summary_migration(const json_t *times, FILE *stream)
{
	fputs("\nThe session goes on at another node: time to first token\n", stream);
	print_quantity(stream, "fetching from the first one's pool",
		json_object_get(times, "fetch_s"), KVT_UNIT_TIME);
	print_quantity(stream, "recomputing", json_object_get(times, "recompute_s"), KVT_UNIT_TIME);
	print_quantity(stream, "had it stayed", json_object_get(times, "stay_s"), KVT_UNIT_TIME);
	print_quantity(stream, "once more, from its own pool", json_object_get(times, "settled_s"),
		KVT_UNIT_TIME);
	fprintf(stream, "  %-34s %.4g times as fast\n", "fetching is",
		json_number_value(json_object_get(times, "recompute_over_fetch")));
	print_quantity(stream, "both are even at", json_object_get(times, "break_even_bytes_per_s"),
		KVT_UNIT_RATE);
}

static void print_provenance(FILE *stream, const json_t *provenance)
{
	size_t i;
	json_t *entry;
	fputs("\nWhere the settings are from\n", stream);
	json_array_foreach((json_t *)provenance, i, entry)
	{
		const char *value = json_string_value(json_object_get(entry, "value"));
		fprintf(stream, "  %s = %s\n      %s\n",
			json_string_value(json_object_get(entry, "name")), value ? value : "-",
			json_string_value(json_object_get(entry, "source")));
	}
}

void kvt_run_summary_write(const json_t *result, FILE *stream)
{
	const char *title = json_string_value(json_object_get(result, "title"));
	if (title && title[0] != '\0')
		fprintf(stream, "%s\n", title);
	const json_t *cold = json_object_get(result, "cold");
	if (cold) {
		fputs("\nWithout a cache\n", stream);
		print_turn(stream, cold);
		fprintf(stream, "\nTurn 2 from stored KV: %.4g times as fast\n",
			json_number_value(json_object_get(result, "speedup")));
	}
	const json_t *migration = json_object_get(result, "migration");
	if (migration) {
		kvt_run_summary_migration(migration, stream);
		fputs("\nBy fetching\n", stream);
	}
	print_turn(stream, result);
	print_provenance(stream, json_object_get(result, "provenance"));
}
