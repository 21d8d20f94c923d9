/*
 * attention_fixture.h: small synthetic attention traces for tests, with a plain double-precision
 * reference of their masses. What it computes shares no code with traces/attention_mass.c.
 */
#ifndef KVT_ATTENTION_FIXTURE_H
#define KVT_ATTENTION_FIXTURE_H

#include "traces/attention_trace.h"

/* Recorded layers of a fixture: layer 1 is chunked, layer 3 global (of 4). */
enum { FIXTURE_LAYERS = 2 };

typedef struct attention_fixture {
	kvt_attention_header header;
	uint8_t kinds[4];
	kvt_attention_step *steps;
	uint64_t step_count;
	uint32_t *tokens;
	uint32_t layers[FIXTURE_LAYERS];
	uint16_t *queries[FIXTURE_LAYERS]; /* [steps][query_heads][head_dim] */
	uint16_t *keys[FIXTURE_LAYERS];    /* [kv_heads][total_tokens][head_dim] */
	uint16_t *values[FIXTURE_LAYERS];
} attention_fixture;

/* A fixture with random tensors: `steps` steps at the last positions. `header` gives heads,
 * head_dim, block_tokens, local_chunk_tokens, context_tokens and total_tokens. */
attention_fixture *attention_fixture_new(
	const kvt_attention_header *header, uint64_t steps, uint64_t seed);

/* 2 KV heads of 2 query heads, head_dim 8, pages of 4 tokens, chunks of 10, 40 tokens, 6 steps. */
attention_fixture *attention_fixture_small(void);
void attention_fixture_free(attention_fixture *fixture);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(attention_fixture, attention_fixture_free)

/* Masses of the pages present at (step, head) of the i-th recorded layer, in double; `mass` has
 * room for all pages. Returns how many there are, the first being *first. */
uint64_t attention_fixture_masses(const attention_fixture *fixture, unsigned i, uint64_t step,
	uint32_t head, double *mass, uint64_t *first);

/* Writes it with all tensors; g_asserts that it works. */
void attention_fixture_write(const attention_fixture *fixture, const char *path);

/* A folder for a test's files, removed with what is in it. */
char *attention_fixture_folder(void);
void attention_fixture_remove(char *folder);

/* Reads all of a trace, rows and tensors and tokens; false with the first error. */
bool attention_read_all(kvt_attention_trace *trace, GError **error);

#endif
