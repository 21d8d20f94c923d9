/* requests_info.c: `kvtier requests info`: what a request trace holds. */
#include "sim/cmd/requests_info.h"

#include "traces/request_statistics.h"

static const kvt_command info_action = {
	.name = "requests info",
	.summary = "Show what a request trace holds.",
	.arguments = "TRACE",
	.help = "TRACE is a file or, of agentic traces, a folder; what it is is seen from its "
		"content.\n"
		"Hit ratios are those of a prefix cache that keeps everything: no other has more.\n"
		"What waits does so for another request in a closed loop; think is how long "
		"after.",
};

static const kvt_column moment_columns[] = {
	{ "of", "", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "unit", "unit", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "count", "count", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "mean", "mean", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%.6g", 0 },
	{ "cv", "cv", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%.3f", 0 },
	{ "p50", "p50", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%.6g", 0 },
	{ "p99", "p99", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%.6g", 0 },
	{ "most", "most", KVT_CELL_NUMBER, KVT_UNIT_NONE, "%.6g", 0 },
	{ 0 },
};

static kvt_table *make_moments(const kvt_request_statistics *s)
{
	const struct {
		const char *name, *unit;
		const kvt_request_moments *moments;
	} rows[] = {
		{ "input", "tokens", &s->input },
		{ "output", "tokens", &s->output },
		{ "turns", "requests a session", &s->turns },
		{ "interval", "s", &s->interval },
		{ "think", "s", &s->think },
		{ "latency", "s", &s->latency },
	};
	kvt_table *table = kvt_table_new(moment_columns);
	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		const kvt_request_moments *m = rows[i].moments;
		kvt_table_add_row(table);
		kvt_table_add_text(table, rows[i].name);
		kvt_table_add_text(table, rows[i].unit);
		kvt_table_add_integer(table, (int64_t)m->count);
		if (m->count == 0)
			continue;
		kvt_table_add_number(table, m->mean);
		kvt_table_add_number(table, m->cv);
		kvt_table_add_number(table, m->p50);
		kvt_table_add_number(table, m->p99);
		kvt_table_add_number(table, m->most);
	}
	return table;
}

static json_t *make_object(
	const kvt_request_trace *trace, const kvt_request_statistics *s, const char *file)
{
	json_t *object = kvt_json_result("requests-info", 1);
	json_t *tenants = json_array();
	for (uint32_t i = 0; i < trace->n_tenants; i++)
		json_array_append_new(tenants, kvt_json_text(trace->tenant_names[i]));
	json_object_set_new(object, "file", kvt_json_text(file));
	json_object_set_new(object, "source", kvt_json_text(trace->source));
	const struct {
		const char *name;
		uint64_t value;
	} numbers[] = {
		{ "requests", trace->n_requests },
		{ "sessions", trace->n_sessions },
		{ "block_tokens", trace->block_tokens },
		{ "blocks", trace->n_blocks },
		{ "unique_blocks", trace->n_ids },
		{ "input_tokens", s->input_tokens },
		{ "output_tokens", s->output_tokens },
		{ "subagent_requests", s->subagent_requests },
		{ "subagent_sessions", s->subagent_sessions },
		{ "waiting_requests", s->think.count },
		{ "joining_requests", s->joins },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++)
		json_object_set_new(
			object, numbers[i].name, json_integer((json_int_t)numbers[i].value));
	bool blocks = trace->n_blocks > 0;
	json_object_set_new(object, "block_hit_ratio",
		blocks ? kvt_json_real(s->block_hit_ratio) : json_null());
	json_object_set_new(object, "token_hit_ratio",
		blocks ? kvt_json_real(s->token_hit_ratio) : json_null());
	json_object_set_new(object, "duration_s", kvt_json_real(s->duration));
	json_object_set_new(object, "tenants", tenants);
	return object;
}

static void print_text(FILE *stream, const kvt_request_trace *trace,
	const kvt_request_statistics *s, const kvt_table *moments)
{
	g_autofree char *duration = kvt_unit_format(s->duration, KVT_UNIT_TIME);
	fprintf(stream, "%-10s %s\n", "source", trace->source);
	fprintf(stream, "%-10s %" G_GUINT64_FORMAT " in %u sessions of %u tenant%s over %s\n",
		"requests", trace->n_requests, trace->n_sessions, trace->n_tenants,
		trace->n_tenants > 1 ? "s" : "", duration);
	if (s->think.count > 0)
		fprintf(stream,
			"%-10s %" G_GUINT64_FORMAT " wait for another, %" G_GUINT64_FORMAT
			" are of %" G_GUINT64_FORMAT " sub-agents\n",
			"", s->think.count, s->subagent_requests, s->subagent_sessions);
	if (trace->n_blocks > 0)
		fprintf(stream,
			"%-10s %" G_GUINT64_FORMAT
			" of %u tokens, %u of them unique: at best %.2f%% "
			"hits, %.2f%% of prompt tokens\n",
			"blocks", trace->n_blocks, trace->block_tokens, trace->n_ids,
			100 * s->block_hit_ratio, 100 * s->token_hit_ratio);
	fprintf(stream,
		"%-10s %" G_GUINT64_FORMAT " of prompts, %" G_GUINT64_FORMAT " of answers\n\n",
		"tokens", s->input_tokens, s->output_tokens);
	kvt_table_write(moments, KVT_FORMAT_TABLE, stream, NULL);
}

void kvt_requests_print(const kvt_command_options *options, const kvt_request_trace *trace,
	const char *file, GError **error)
{
	kvt_request_statistics s = kvt_request_statistics_of(trace);
	g_autoptr(kvt_table) moments = make_moments(&s);
	if (options->format == KVT_FORMAT_TABLE) {
		FILE *stream = kvt_command_open(options, error);
		if (stream == NULL)
			return;
		print_text(stream, trace, &s, moments);
		kvt_command_close(options, stream, error);
		return;
	}
	if (options->format == KVT_FORMAT_CSV) {
		kvt_command_print_table(options, moments, error);
		return;
	}
	json_t *object = make_object(trace, &s, file);
	json_object_set_new(object, "moments", kvt_table_to_json(moments));
	kvt_command_print_json(options, object, error);
	json_decref(object);
}

int kvt_requests_info_run(int argc, char **argv, GError **error)
{
	const kvt_command_syntax syntax = { &info_action, KVT_TAKES_FORMAT | KVT_TAKES_OUTPUT, 1, 1,
		NULL };
	g_auto(kvt_command_options) options = { 0 };
	if (!kvt_command_parse(&syntax, argc, argv, &options, error))
		return 0;
	g_autoptr(kvt_request_trace) trace = kvt_request_trace_open(options.arguments[0], error);
	if (trace != NULL)
		kvt_requests_print(&options, trace, options.arguments[0], error);
	return 0;
}
