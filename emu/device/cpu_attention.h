/*
 * cpu_attention.h: the CPU device's attention: one call of the engine cut into tasks for threads,
 * by KV head and stretches of tokens, and what queries have attended to so far. It knows no time.
 */
#ifndef KVT_CPU_ATTENTION_H
#define KVT_CPU_ATTENTION_H

#include "emu/device/kv_source.h"
#include "sim/engine/device.h"

/* Of query tokens [position, position + tokens) in the layer that computes: [kv_heads][tokens]
 * [heads] rows. Queries of KV head h begin at queries + h * stride; they may be `own` or somebody
 * else's. */
typedef struct kvt_cpu_queries {
	uint64_t position, tokens, used; /* used: when last, in some order; 0: never */
	size_t capacity;                 /* rows that there is room for */
	const float *queries;
	float *own; /* NULL: none; freed with the rest */
	size_t stride;
	kvt_attention_partial so_far, part; /* the merge's result; a window's, to be merged */
} kvt_cpu_queries;

/* Room for `tokens` query tokens. */
void kvt_cpu_queries_reserve(kvt_cpu_queries *q, const kvt_kv_shape *shape, uint64_t tokens);
void kvt_cpu_queries_clear(kvt_cpu_queries *q);

/* One call on its way through the threads. */
typedef struct kvt_cpu_attention {
	const kvt_kv_source *source;
	kvt_isa isa;
	unsigned splits;      /* stretches of tokens, at least 1 */
	unsigned n_tasks;     /* kv_heads x splits */
	const uint8_t *pages; /* where the page that first_page is begins */
	uint64_t first_page;
	kvt_work work;
	kvt_cpu_queries *q;
	int status; /* 0, or a kernel's negative errno */
	/* by task */
	unsigned n_parts;
	kvt_attention_partial *parts;
	/* by thread */
	unsigned n_threads;
	struct kvt_cpu_scratch *scratch;
} kvt_cpu_attention;

void kvt_cpu_attention_init(
	kvt_cpu_attention *attention, const kvt_kv_source *source, kvt_isa isa, unsigned threads);
void kvt_cpu_attention_clear(kvt_cpu_attention *attention);

/* Makes ready for `work` (KVT_WORK_ATTENTION); sets n_tasks. */
void kvt_cpu_attention_begin(kvt_cpu_attention *attention, const kvt_work *work, const void *pages,
	uint64_t first_page, kvt_cpu_queries *q);

/* Runs a task; tasks may run at once on several threads. */
void kvt_cpu_attention_task(kvt_cpu_attention *attention, unsigned index, unsigned thread);

/* After all tasks: the result is in q->so_far (of causal work) or q->part. */
void kvt_cpu_attention_end(kvt_cpu_attention *attention);

#endif
