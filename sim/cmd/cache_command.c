/* cache_command.c: `kvtier cache`: miss ratios of eviction policies on a block trace alone, beside
 * the floor of first accesses and Belady's. The work is done in traces/ and sim/cache/. */
#include <time.h>

#include "sim/base/error.h"
#include "sim/base/progress.h"
#include "sim/cmd/cache_options.h"
#include "sim/cmd/command.h"
#include "sim/cmd/command_options.h"

/* What was asked for. */
typedef struct cache_request {
	char *policy_text, *size_text, *source_text, *block_bytes_text, *write;
	gboolean ignore_sizes;
	const kvt_policy_ops **policies;
	kvt_cache_size *sizes;
	unsigned n_sizes;
	int source;
	double block_bytes; /* 0: what the trace says */
} cache_request;

static void cache_request_clear(cache_request *request)
{
	g_free(request->policy_text);
	g_free(request->size_text);
	g_free(request->source_text);
	g_free(request->block_bytes_text);
	g_free(request->write);
	g_free(request->policies);
	g_free(request->sizes);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(cache_request, cache_request_clear)

/* The trace and what is known of it before any cache. */
typedef struct cache_input {
	kvt_block_trace *trace;
	kvt_accesses accesses;
	uint32_t *next; /* of every access */
	kvt_cache_misses compulsory;
	uint64_t bytes; /* of all accesses */
	double reading_s, next_s;
} cache_input;

static void cache_input_clear(cache_input *input)
{
	kvt_block_trace_close(input->trace);
	g_free(input->next);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(cache_input, cache_input_clear)

/* Reading may wait for a drive; a replay works alone, and other programs are not held against it.
 */
static double wall_time(void)
{
	return (double)g_get_monotonic_time() * 1e-6;
}

static double cpu_time(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool read_request(cache_request *request, GError **error)
{
	if (request->size_text == NULL)
		return kvt_error_usage(
			error, "--size: is missing, expected sizes such as --size 1K,10%%");
	request->policies = kvt_cache_policies(
		request->policy_text != NULL ? request->policy_text : "lru", error);
	request->sizes = request->policies != NULL
				 ? kvt_cache_sizes(request->size_text, &request->n_sizes, error)
				 : NULL;
	if (request->sizes == NULL)
		return false;
	if (request->source_text != NULL &&
		!kvt_command_choice("--input", request->source_text, kvt_block_source_names,
			&request->source, error))
		return false;
	if (request->block_bytes_text == NULL)
		return true;
	if (!kvt_command_quantity("--block-bytes", request->block_bytes_text, KVT_UNIT_BYTES,
		    &request->block_bytes, error))
		return false;
	return (request->block_bytes >= 1 && request->block_bytes <= UINT32_MAX) ||
	       kvt_error_usage(
		       error, "--block-bytes: %s, expected 1B to 4GiB", request->block_bytes_text);
}

/* Sizes are the trace's, or the ones that were asked for. */
static bool open_input(
	cache_input *input, const char *path, const cache_request *request, GError **error)
{
	double start = wall_time();
	input->trace = kvt_cache_trace(path, (kvt_block_source)request->source, error);
	input->reading_s = wall_time() - start;
	if (input->trace == NULL)
		return false;
	const kvt_block_trace *trace = input->trace;
	bool known = trace->bytes != NULL || trace->block_bytes > 0;
	if (request->block_bytes > 0 && known && !request->ignore_sizes)
		return kvt_error_usage(error,
			"--block-bytes: the trace has sizes of its own, expected --ignore-sizes "
			"beside it");
	bool given = request->block_bytes > 0 || request->ignore_sizes;
	input->accesses = (kvt_accesses){ .blocks = trace->blocks,
		.bytes = given ? NULL : trace->bytes,
		.n = trace->n_accesses,
		.n_blocks = trace->n_blocks,
		.block_bytes = given ? (uint32_t)request->block_bytes : trace->block_bytes };
	return true;
}

static void measure_bounds(cache_input *input)
{
	const kvt_accesses *accesses = &input->accesses;
	double start = cpu_time();
	input->next = g_new(uint32_t, accesses->n);
	kvt_block_trace_next_uses(input->trace, input->next);
	input->next_s = cpu_time() - start;
	kvt_cache_run_compulsory(accesses, &input->compulsory);
	input->bytes = accesses->n * accesses->block_bytes;
	for (uint64_t i = 0; accesses->bytes != NULL && i < accesses->n; i++)
		input->bytes += accesses->bytes[i];
}

/* Whether a policy can serve a size, before any time is spent. */
static bool check_pairs(const cache_request *request, const cache_input *input, GError **error)
{
	for (unsigned s = 0; s < request->n_sizes; s++) {
		kvt_cache_capacity capacity;
		if (!kvt_cache_capacity_of(&request->sizes[s], &input->accesses, &capacity, error))
			return false;
		for (const kvt_policy_ops *const *policy = request->policies; *policy; policy++)
			if (capacity.in_bytes && input->accesses.bytes != NULL &&
				!kvt_cache_run_takes_bytes(*policy))
				return kvt_error_usage(error,
					"--policy: %s counts blocks and these differ in size, "
					"expected --size in blocks or a share, or --ignore-sizes",
					(*policy)->name);
	}
	return true;
}

static const kvt_column columns[] = {
	{ "policy", "policy", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "size_blocks", "blocks", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "size_bytes", "bytes", KVT_CELL_NUMBER, KVT_UNIT_BYTES, NULL, 0 },
	{ "misses", NULL, KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "miss_ratio", "miss ratio", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.4f", 0 },
	{ "byte_miss_ratio", "of bytes", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.4f", 0 },
	{ "byte_hit_ratio", NULL, KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.4f", 0 },
	{ "belady_miss_ratio", "Belady", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.4f", 0 },
	{ "belady_byte_miss_ratio", "of bytes", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.4f", 0 },
	{ "compulsory", "compulsory", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.4f", 0 },
	{ "byte_compulsory", "of bytes", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.4f", 0 },
	{ "too_large", NULL, KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "requests_per_s", "requests/s", KVT_CELL_NUMBER, KVT_UNIT_FREQUENCY, NULL, 0 },
	{ 0 },
};

/* Of bytes where they are known; else blocks count the same. */
static double byte_ratio(const cache_input *input, const kvt_cache_misses *misses)
{
	return input->bytes > 0 ? (double)misses->bytes / (double)input->bytes
				: (double)misses->accesses / (double)input->accesses.n;
}

static void add_result(kvt_table *table, const cache_input *input, const kvt_policy_ops *policy,
	kvt_cache_capacity capacity, const kvt_cache_misses *misses, const kvt_cache_misses *belady,
	double seconds)
{
	double n = (double)input->accesses.n;
	kvt_table_add_row(table);
	kvt_table_add_text(table, policy->name);
	if (capacity.in_bytes) {
		kvt_table_add_none(table);
		kvt_table_add_number(table, (double)capacity.amount);
	} else {
		kvt_table_add_integer(table, (int64_t)capacity.amount);
		kvt_table_add_none(table);
	}
	kvt_table_add_integer(table, (int64_t)misses->accesses);
	kvt_table_add_number(table, (double)misses->accesses / n);
	kvt_table_add_number(table, byte_ratio(input, misses));
	kvt_table_add_number(table, 1 - byte_ratio(input, misses));
	kvt_table_add_number(table, (double)belady->accesses / n);
	kvt_table_add_number(table, byte_ratio(input, belady));
	kvt_table_add_number(table, (double)input->compulsory.accesses / n);
	kvt_table_add_number(table, byte_ratio(input, &input->compulsory));
	kvt_table_add_integer(table, (int64_t)misses->too_large);
	kvt_table_add_number(table, n / MAX(seconds, 1e-6));
}

static void run_size(kvt_table *table, const cache_request *request, const cache_input *input,
	const kvt_cache_size *size)
{
	kvt_cache_capacity capacity;
	kvt_cache_misses belady, misses;
	kvt_cache_capacity_of(size, &input->accesses, &capacity, NULL);
	double start = cpu_time();
	kvt_cache_run_belady(&input->accesses, input->next, capacity, &belady);
	/* to find next accesses is part of its work */
	double belady_s = cpu_time() - start + input->next_s;
	for (const kvt_policy_ops *const *policy = request->policies; *policy != NULL; policy++) {
		start = cpu_time();
		if ((*policy)->needs_future)
			misses = belady;
		else
			kvt_cache_run(&input->accesses, *policy, capacity, &misses);
		double seconds = (*policy)->needs_future ? belady_s : cpu_time() - start;
		add_result(table, input, *policy, capacity, &misses, &belady, seconds);
	}
}

/* What holds of the trace; a single result's members stand beside it, too. */
static json_t *result_of(const char *path, const cache_input *input, const kvt_table *table)
{
	json_t *result = kvt_json_result("cache", 1), *rows = kvt_table_to_json(table), *value;
	const char *key;
	double n = (double)input->accesses.n;
	json_object_set_new(result, "trace", kvt_json_text(path));
	json_object_set_new(result, "requests", json_integer((json_int_t)input->accesses.n));
	json_object_set_new(
		result, "empty_requests", json_integer((json_int_t)input->trace->n_empty));
	json_object_set_new(result, "blocks", json_integer(input->accesses.n_blocks));
	json_object_set_new(result, "bytes",
		input->bytes > 0 ? json_integer((json_int_t)input->bytes) : json_null());
	json_object_set_new(
		result, "compulsory", kvt_json_real((double)input->compulsory.accesses / n));
	json_object_set_new(
		result, "byte_compulsory", kvt_json_real(byte_ratio(input, &input->compulsory)));
	json_object_set_new(
		result, "reader_requests_per_s", kvt_json_real(n / MAX(input->reading_s, 1e-6)));
	if (json_array_size(rows) == 1)
		json_object_foreach(json_array_get(rows, 0), key, value)
			json_object_set(result, key, value);
	json_object_set_new(result, "results", rows);
	return result;
}

static bool run_all(const kvt_command_options *options, const cache_request *request,
	cache_input *input, GError **error)
{
	g_autoptr(kvt_table) table = kvt_table_new(columns);
	g_autoptr(kvt_progress) progress = kvt_progress_new("replaying sizes", request->n_sizes);
	measure_bounds(input);
	for (unsigned i = 0; i < request->n_sizes; i++) {
		run_size(table, request, input, &request->sizes[i]);
		kvt_progress_update(progress, i + 1);
	}
	if (options->format != KVT_FORMAT_JSON)
		return kvt_command_print_table(options, table, error);
	json_t *result = result_of(options->arguments[0], input, table);
	bool printed = kvt_command_print_json(options, result, error);
	json_decref(result);
	return printed;
}

static int run_cache(int argc, char **argv, GError **error)
{
	g_auto(cache_request) request = { 0 };
	const GOptionEntry own[] = {
		{ "policy", 0, 0, G_OPTION_ARG_FILENAME, &request.policy_text,
			"eviction policies, see \"kvtier help policy\" (lru)", "A,B" },
		{ "size", 0, 0, G_OPTION_ARG_FILENAME, &request.size_text,
			"blocks, bytes with a unit, or a share of the distinct blocks", "X,Y" },
		{ "input", 0, 0, G_OPTION_ARG_FILENAME, &request.source_text,
			"auto, oracle, text or requests (auto)", "FORM" },
		{ "ignore-sizes", 0, 0, G_OPTION_ARG_NONE, &request.ignore_sizes,
			"blocks count the same, whatever the trace says", NULL },
		{ "block-bytes", 0, 0, G_OPTION_ARG_FILENAME, &request.block_bytes_text,
			"bytes of each block where the trace does not say", "SIZE" },
		{ "write", 0, 0, G_OPTION_ARG_FILENAME, &request.write,
			"write the accesses as oracleGeneral, too", "FILE" },
		{ 0 },
	};
	const kvt_command_syntax syntax = { &kvt_command_cache, KVT_TAKES_FORMAT | KVT_TAKES_OUTPUT,
		1, 1, own };
	g_auto(kvt_command_options) options = { 0 };
	g_auto(cache_input) input = { 0 };
	if (kvt_command_parse(&syntax, argc, argv, &options, error) &&
		read_request(&request, error) &&
		open_input(&input, options.arguments[0], &request, error) &&
		check_pairs(&request, &input, error) &&
		(request.write == NULL || kvt_block_trace_write(input.trace, request.write, error)))
		run_all(&options, &request, &input, error);
	return 0;
}

const kvt_command kvt_command_cache = {
	.name = "cache",
	.summary = "Show miss ratios of eviction policies on a block trace alone",
	.arguments = "TRACE",
	.help = "Every policy is replayed at every size, and beside each result stand the floor "
		"that no\n"
		"cache gets below (the first access to each block) and Belady's misses, who knows "
		"the\n"
		"future. A block that is missed enters at once. Rates are of the replay alone, in "
		"its\n"
		"processor time; that of reading, ids made dense included, is "
		"reader_requests_per_s.\n"
		"\n"
		"TRACE is one of\n"
		"  oracleGeneral of libCacheSim, unpacked: 24 bytes an access (--input oracle)\n"
		"  text: an id a line, or id,bytes, or columns named id and bytes (--input text)\n"
		"  a request trace: each block of each prompt, in order (--input requests)\n"
		"  zipf:ALPHA,BLOCKS,ACCESSES[,SEED]: made, the same each time\n"
		"\n"
		"A size in blocks or a share of them counts blocks alone. In bytes, a block takes "
		"the\n"
		"bytes it entered with, and one larger than the cache always misses; blocks that "
		"differ\n"
		"in size are taken by lru, fifo, clock, lfu, sieve and belady, while arc and "
		"s3fifo,\n"
		"which count blocks, are refused. Belady is a bound but for such blocks. Accesses "
		"to\n"
		"no bytes are left out, and counted in empty_requests.\n"
		"\n"
		"  kvtier cache conversation.jsonl --policy lru,arc,s3fifo --size 1K,10%,50%\n"
		"  kvtier cache zipf:1.0,1M,10M --policy lru --size 100K --format json\n"
		"  kvtier cache trace.oracleGeneral --policy lru,belady --size 4GiB,16GiB",
	.run = run_cache,
};
