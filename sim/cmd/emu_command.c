/* emu_command.c: `kvtier emu FILE.ini`: one experiment in real time on this machine. */
#include "emu/turn/emulation.h"
#include "sim/base/error.h"
#include "sim/cmd/command.h"
#include "sim/cmd/command_options.h"
#include "sim/cmd/run_summary.h"
#include "sim/engine/replay_feed.h"

static void write_stages(const json_t *result, FILE *stream)
{
	const json_t *stage;
	size_t i;
	fprintf(stream, "\n%-24s %14s  %s\n", "stage", "seconds", "");
	json_array_foreach(json_object_get(result, "marked_stages"), i, stage) fprintf(stream,
		"%-24s %14.6f  %s\n", json_string_value(json_object_get(stage, "stage")),
		json_number_value(json_object_get(stage, "seconds")),
		json_string_value(json_object_get(stage, "kind")));
}

static void write_check(const kvt_attention_errors *errors, FILE *stream)
{
	fprintf(stream,
		"\nattention: %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
		" outputs against double precision: error %.3g rms, %.3g at most;\nin FP32 with "
		"everything in memory %.3g rms",
		errors->compared, errors->outputs, errors->rms, errors->most, errors->resident);
	if (errors->bound > 0)
		fprintf(stream, ", by the GPU's arithmetic up to %.3g",
			errors->bound * errors->output);
	fprintf(stream, ": %s\n", kvt_attention_errors_pass(errors) ? "exact" : "WRONG");
}

static void write_lost(const kvt_turn *turn, FILE *stream)
{
	const kvt_lost_counts *lost = &turn->lost;
	if (lost->rereads + lost->tokens == 0)
		return;
	fputs("\npages that the tier did not deliver:", stream);
	for (unsigned i = 0; i < KVT_LOSSES; i++)
		fprintf(stream, " %" G_GUINT64_FORMAT " %s", lost->pages[i], kvt_loss_names[i]);
	fprintf(stream,
		"; %" G_GUINT64_FORMAT " reads to find them;\n%" G_GUINT64_FORMAT
		" tokens recomputed in %.6f s, MODELLED\n",
		lost->rereads, lost->tokens, kvt_time_to_seconds(lost->time));
	if (turn->given_up > 0)
		fprintf(stream, "too much: started over after %.6f s\n", turn->given_up);
}

/* What was recomputed, or fetched, and went out when the first token was there. */
static void write_writes(const char *what, const kvt_page_writes *writes, FILE *stream)
{
	if (writes->bytes + writes->failed_bytes == 0)
		return;
	fprintf(stream, "%s: %.0f bytes in %.6f s, REAL", what, (double)writes->bytes,
		writes->seconds);
	if (writes->failed_bytes > 0)
		fprintf(stream, "; %.0f bytes not", (double)writes->failed_bytes);
	fputs("\n", stream);
}

/* The turns of a session that moves; the page goes on with the fetch. */
static void write_migration(const kvt_emulated_migration *moved, const json_t *json, FILE *stream)
{
	kvt_run_summary_migration(json_object_get(json, "migration"), stream);
	for (unsigned i = 0; i < KVT_MIGRATION_TURNS; i++) {
		const kvt_attention_errors *errors = &moved->errors[i];
		if (i == KVT_MIGRATION_SETTLED && !moved->migration.settled)
			continue;
		fprintf(stream,
			"  attention, %-23s error %.3g rms, in FP32 with everything in memory "
			"%.3g: "
			"%s\n",
			kvt_migration_names[i], errors->rms, errors->resident,
			kvt_attention_errors_pass(errors) ? "exact" : "WRONG");
	}
	fputs("\nBy fetching\n", stream);
}

static void write_decode(const kvt_emulation_result *result, const json_t *json, FILE *stream);

static void write_summary(const kvt_emulation_result *result, const json_t *json, FILE *stream)
{
	const kvt_turn *turn = &result->turn;
	fprintf(stream, "%s\n", json_string_value(json_object_get(json, "title")));
	g_autofree char *data = kvt_emulation_data_text(&result->data);
	fprintf(stream, "%s\n", data);
	g_autofree char *device = kvt_emulation_device_text(result);
	fprintf(stream, "tier %s, %s\n", result->tier, device);
	if (result->one_rank)
		fputs("one rank of the group; figures are that rank's\n", stream);
	if (result->migration.ran)
		write_migration(&result->migration, json, stream);
	fprintf(stream, "\ntime to first token      %14.6f s\n", turn->ttft);
	fprintf(stream, "time per output token    %14.6f s\n", turn->tpot);
	fprintf(stream, "read back                %14.0f bytes in %" G_GUINT64_FORMAT " loads%s\n",
		(double)turn->read_bytes[0], turn->loads, turn->streamed ? ", streamed" : "");
	write_stages(json, stream);
	write_lost(turn, stream);
	write_writes("stored again", &turn->stored_again, stream);
	write_writes("kept at the other node", &turn->kept, stream);
	write_check(&result->errors, stream);
	if (result->decode.ran)
		write_decode(result, json, stream);
}

static void write_decode(const kvt_emulation_result *result, const json_t *json, FILE *stream)
{
	const kvt_emulated_decode *decode = &result->decode;
	const kvt_replay_settings *settings = &decode->settings;
	kvt_emulated_step step = kvt_emulated_decode_step(decode);
	fprintf(stream,
		"\nThe output again from pages by KV head, %u steps through %u layers: %.3g%% of "
		"them chosen by\n%s with the %s query, %s attention, %s\n",
		decode->replay.steps, decode->replay.layers, 100 * settings->budget,
		settings->prefetcher->name, kvt_replay_query_names[settings->query],
		kvt_replay_attention_names[settings->attention], settings->policy->name);
	fprintf(stream, "\ntime per output token    %14.6f s, median %.6f s\n", step.all,
		step.median);
	fprintf(stream,
		"attention kept           %14.4f of it, %.4f by the trace's rows; the best choice "
		"%.4f\n",
		decode->mass, decode->replay.mass_kept, decode->replay.mass_oracle);
	fprintf(stream, "read back                %14.0f bytes, %.1f%% of accesses were hits\n",
		(double)decode->replay.moved_bytes, 100 * kvt_replay_hit_rate(&decode->replay));
	write_stages(json_object_get(json, "decode"), stream);
	const kvt_replay_lost *lost = &decode->replay.lost;
	if (lost->pages > 0)
		fprintf(stream,
			"\npages that the tier did not deliver: %" G_GUINT64_FORMAT
			"; %" G_GUINT64_FORMAT " tokens recomputed in %.6f s, MODELLED;\n"
			"%" G_GUINT64_FORMAT " bytes stored again, %" G_GUINT64_FORMAT " not\n",
			lost->pages, lost->tokens, kvt_time_to_seconds(lost->time),
			lost->stored_again_bytes, lost->failed_bytes);
	write_check(&decode->errors, stream);
}

static gboolean print_result(const kvt_command_options *options, const kvt_experiment *experiment,
	const kvt_emulation_result *result, GError **error)
{
	json_t *json = kvt_emulation_to_json(experiment, result);
	gboolean done = FALSE;
	if (options->format != KVT_FORMAT_TABLE) {
		done = kvt_command_print_json(options, json, error);
	} else {
		FILE *stream = kvt_command_open(options, error);
		if (stream) {
			write_summary(result, json, stream);
			done = kvt_command_close(options, stream, error);
		}
	}
	json_decref(json);
	return done;
}

static int run(int argc, char **argv, GError **error)
{
	char *timeline_file = NULL, *record_file = NULL;
	const GOptionEntry own[] = {
		{ "timeline", 0, 0, G_OPTION_ARG_FILENAME, &timeline_file,
			"Write what happened when, for ui.perfetto.dev", "FILE.json" },
		{ "record", 0, 0, G_OPTION_ARG_FILENAME, &record_file,
			"Write what was decided and in which order I/Os came back, for "
			"\"kvtier run --follow\"",
			"FILE" },
		{ 0 },
	};
	const kvt_command_syntax syntax = {
		.command = &kvt_command_emu,
		.takes = KVT_TAKES_ALL,
		.least = 1,
		.most = 1,
		.own = own,
	};
	g_auto(kvt_command_options) options = { 0 };
	gboolean parsed = kvt_command_parse(&syntax, argc, argv, &options, error);
	g_autofree char *path = timeline_file, *record = record_file;
	if (!parsed)
		return 0;
	g_autoptr(kvt_experiment) experiment =
		kvt_experiment_load(options.arguments[0], (const char *const *)options.sets, error);
	if (!experiment)
		return 0;
	g_autoptr(kvt_timeline) timeline =
		path ? kvt_timeline_new(KVT_TIMELINE_DEFAULT_LIMIT) : NULL;
	g_autoptr(kvt_decision_log) decisions = record ? kvt_decision_log_new() : NULL;
	const kvt_emulation_hooks hooks = { .decisions = decisions };
	g_auto(kvt_emulation_result) result = { 0 };
	if (!kvt_emulation_run(experiment, &hooks, timeline, &result, error))
		return 0;
	if (result.notice)
		g_printerr("kvtier: %s\n", result.notice);
	if (!print_result(&options, experiment, &result, error))
		return 0;
	if (timeline && !kvt_command_write_timeline(timeline, path, error))
		return 0;
	if (decisions && !kvt_decision_log_write(decisions, record, error))
		return 0;
	const kvt_attention_errors *errors;
	if (!kvt_emulation_exact(&result, &errors))
		kvt_error_failed(error,
			"attention is not what it should be: layer %u, KV head %u, position "
			"%" G_GUINT64_FORMAT " is %g off",
			errors->place.layer, errors->place.kv_head, errors->place.position,
			errors->most);
	return 0;
}

const kvt_command kvt_command_emu = {
	.name = "emu",
	.summary = "run one experiment in real time on this machine",
	.arguments = "FILE.ini",
	.help = "Turn 1 stores real keys and values in a real tier, Turn 2 brings them back "
		"through "
		"the same\nengine that \"kvtier run\" simulates and attends to them on this "
		"machine's processor, or its\nGPU ([emulation] device = cuda); what it attended to "
		"is compared with double precision. "
		"Dense "
		"parts of the model are timed waits.\nStages are marked REAL or MODELLED. "
		"[emulation] of the experiment file says where pages are\nstored and how many "
		"threads compute. A session that moves ([experiment] kind = migrate) is\nfetched "
		"from the first node's pool, and compared with staying and with recomputing.",
	.run = run,
};
