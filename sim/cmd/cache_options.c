/* cache_options.c: the words that `kvtier cache` takes. */
#include "sim/cmd/cache_options.h"

#include <math.h>
#include <string.h>

#include "sim/base/error.h"
#include "sim/cmd/command_options.h"
#include "traces/block_zipf.h"

static bool has(const kvt_policy_ops *const *policies, const kvt_policy_ops *policy)
{
	for (; *policies != NULL; policies++)
		if (*policies == policy)
			return true;
	return false;
}

const kvt_policy_ops **kvt_cache_policies(const char *text, GError **error)
{
	g_auto(GStrv) words = g_strsplit(text, ",", -1);
	g_autofree const kvt_policy_ops **policies =
		g_new0(const kvt_policy_ops *, g_strv_length(words) + 1);
	unsigned n = 0;
	for (char **word = words; *word != NULL; word++) {
		const kvt_policy_ops *policy = kvt_policy_find(g_strstrip(*word), error);
		if (policy == NULL) {
			g_prefix_error(error, "--policy: ");
			return NULL;
		}
		if (policy->mass != NULL) {
			kvt_error_usage(error,
				"--policy: %s needs attention's masses, which block traces do not "
				"have, expected another policy",
				policy->name);
			return NULL;
		}
		if (!has(policies, policy))
			policies[n++] = policy;
	}
	if (n == 0) {
		kvt_error_usage(error, "--policy: is empty, expected policies such as lru,arc");
		return NULL;
	}
	return g_steal_pointer(&policies);
}

static bool read_size(const char *text, kvt_cache_size *size, GError **error)
{
	static const struct {
		kvt_unit unit;
		int of;
	} forms[] = {
		{ KVT_UNIT_COUNT, KVT_CACHE_IN_BLOCKS },
		{ KVT_UNIT_BYTES, KVT_CACHE_IN_BYTES },
		{ KVT_UNIT_SHARE, KVT_CACHE_IN_SHARE },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(forms); i++)
		if (kvt_unit_parse(text, forms[i].unit, &size->amount, NULL)) {
			size->unit = forms[i].of;
			return size->amount > 0 ||
			       kvt_error_usage(
				       error, "--size: %s, expected more than nothing", text);
		}
	g_autofree char *quoted = kvt_error_quote(text);
	return kvt_error_usage(error,
		"--size: %s, expected blocks such as 100K, bytes with a unit such as 4GiB, or a "
		"share of the distinct blocks such as 10%%",
		quoted);
}

kvt_cache_size *kvt_cache_sizes(const char *text, unsigned *n, GError **error)
{
	g_auto(GStrv) words = g_strsplit(text, ",", -1);
	g_autofree kvt_cache_size *sizes = g_new0(kvt_cache_size, g_strv_length(words) + 1);
	for (*n = 0; words[*n] != NULL; ++*n)
		if (!read_size(g_strstrip(words[*n]), &sizes[*n], error))
			return NULL;
	if (*n == 0) {
		kvt_error_usage(error, "--size: is empty, expected sizes such as 1K,10%%");
		return NULL;
	}
	return g_steal_pointer(&sizes);
}

bool kvt_cache_capacity_of(const kvt_cache_size *size, const kvt_accesses *accesses,
	kvt_cache_capacity *capacity, GError **error)
{
	double amount = size->amount;
	if (size->unit == KVT_CACHE_IN_SHARE)
		amount = MAX(1, floor(amount * accesses->n_blocks));
	*capacity = (kvt_cache_capacity){ .in_bytes = size->unit == KVT_CACHE_IN_BYTES,
		.amount = (uint64_t)MIN(amount, 0x1p62) };
	if (capacity->in_bytes && accesses->bytes == NULL && accesses->block_bytes == 0)
		return kvt_error_usage(error,
			"--size: in bytes, but the trace says nothing of blocks' bytes, expected "
			"blocks, a share, or --block-bytes");
	return true;
}

#define ZIPF_EXPECTED "expected zipf:ALPHA,BLOCKS,ACCESSES or zipf:ALPHA,BLOCKS,ACCESSES,SEED"

static bool zipf_number(
	const char *text, kvt_unit unit, double least, double most, double *value, GError **error)
{
	if (kvt_unit_parse(text, unit, value, NULL) && *value >= least && *value <= most)
		return true;
	g_autofree char *quoted = kvt_error_quote(text);
	return kvt_error_usage(
		error, "zipf: %s, " ZIPF_EXPECTED " such as zipf:1.0,1M,10M", quoted);
}

static kvt_block_trace *make_zipf(const char *text, GError **error)
{
	g_auto(GStrv) words = g_strsplit(text, ",", -1);
	unsigned n = g_strv_length(words);
	double alpha, blocks, accesses, seed = 1;
	if (n < 3 || n > 4) {
		kvt_error_usage(error, "zipf: %u numbers, " ZIPF_EXPECTED, n);
		return NULL;
	}
	if (!zipf_number(words[0], KVT_UNIT_NONE, 0, 10, &alpha, error) ||
		!zipf_number(words[1], KVT_UNIT_COUNT, 1, 1e8, &blocks, error) ||
		!zipf_number(words[2], KVT_UNIT_COUNT, 1, 1e9, &accesses, error) ||
		(n == 4 && !zipf_number(words[3], KVT_UNIT_COUNT, 0, 1e15, &seed, error)))
		return NULL;
	return kvt_block_zipf(&(kvt_zipf){ .alpha = alpha,
		.n_blocks = (uint32_t)blocks,
		.n_accesses = (uint64_t)accesses,
		.seed = (uint64_t)seed });
}

kvt_block_trace *kvt_cache_trace(const char *text, kvt_block_source source, GError **error)
{
	if (g_str_has_prefix(text, "zipf:"))
		return make_zipf(text + strlen("zipf:"), error);
	return kvt_block_trace_open(text, source, error);
}
