/*
 * fuzz_block_trace.c: any bytes as a block trace, as text and as oracleGeneral. What is refused
 * must have one line of UTF-8 for a message; what is read must have ids in the order of first
 * accesses, read back the same once written, and be replayed with no fewer misses than Belady's.
 */
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sim/base/error.h"
#include "sim/cache/cache_run.h"
#include "traces/block_trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_refusal(const GError *error, const char *path)
{
	g_assert(error != NULL && error->domain == KVT_ERROR);
	g_assert(g_str_has_prefix(error->message, path));
	g_assert(strpbrk(error->message, "\n\r") == NULL);
	g_assert(g_utf8_validate(error->message, -1, NULL));
}

static void check_replay(const kvt_block_trace *trace)
{
	g_autofree uint32_t *next = g_new(uint32_t, trace->n_accesses);
	kvt_block_trace_next_uses(trace, next);
	uint32_t seen = 0;
	for (uint64_t i = 0; i < trace->n_accesses; i++) {
		g_assert(trace->blocks[i] <= seen);
		seen += trace->blocks[i] == seen;
		g_assert(next[i] == UINT32_MAX || trace->blocks[next[i]] == trace->blocks[i]);
	}
	g_assert(seen == trace->n_blocks && seen > 0);
	kvt_accesses accesses = { trace->blocks, trace->bytes, trace->n_accesses, trace->n_blocks,
		trace->block_bytes };
	kvt_cache_misses floor, least, lru;
	kvt_cache_capacity capacity = { .amount = (trace->n_blocks + 1) / 2 };
	kvt_cache_run_compulsory(&accesses, &floor);
	kvt_cache_run_belady(&accesses, next, capacity, &least);
	kvt_cache_run(&accesses, kvt_policy_find("lru", NULL), capacity, &lru);
	g_assert(floor.accesses == seen && floor.accesses <= least.accesses);
	g_assert(least.accesses <= lru.accesses && lru.accesses <= trace->n_accesses);
	if (trace->bytes != NULL) {
		capacity = (kvt_cache_capacity){ .in_bytes = true, .amount = trace->bytes[0] };
		kvt_cache_run(&accesses, kvt_policy_find("sieve", NULL), capacity, &lru);
		kvt_cache_run_belady(&accesses, next, capacity, &least);
		g_assert(lru.accesses >= floor.accesses && least.accesses >= floor.accesses);
	}
}

static void try_as(const char *path, const char *copy, kvt_block_source source)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_block_trace) trace = kvt_block_trace_open(path, source, &error);
	if (trace == NULL) {
		check_refusal(error, path);
		return;
	}
	g_assert(error == NULL);
	check_replay(trace);
	g_assert(kvt_block_trace_write(trace, copy, NULL));
	g_autoptr(kvt_block_trace) again =
		kvt_block_trace_open(copy, KVT_BLOCK_SOURCE_ORACLE, NULL);
	g_assert(again != NULL && again->n_accesses == trace->n_accesses);
	g_assert(memcmp(again->blocks, trace->blocks, trace->n_accesses * sizeof(uint32_t)) == 0);
	g_assert((again->bytes == NULL) == (trace->bytes == NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int file = memfd_create("trace", 0), other = memfd_create("copy", 0);
	g_assert(file >= 0 && other >= 0);
	g_assert(write(file, data, size) == (ssize_t)size);
	g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", file);
	g_autofree char *copy = g_strdup_printf("/proc/self/fd/%d", other);
	try_as(path, copy, KVT_BLOCK_SOURCE_TEXT);
	try_as(path, copy, KVT_BLOCK_SOURCE_ORACLE);
	close(file);
	close(other);
	return 0;
}
