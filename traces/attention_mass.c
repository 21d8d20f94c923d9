/* attention_mass.c: recomputes attention mass from queries and keys, chunk of keys by chunk, and
 * finds what an oracle would keep of it. The arithmetic of one chunk is attention_softmax.c. */
#include "traces/attention_mass.h"

#include <math.h>
#include <string.h>

#include "sim/base/error.h"
#include "traces/attention_softmax.h"

enum {
	CHUNK_FLOATS = 1 << 17, /* keys of a chunk as floats: 512 KiB, so that it stays in L2 */
	BATCH_MEMORY = 128 << 20,
	QUERIES = KVT_SOFTMAX_QUERIES,
	LANES = KVT_SOFTMAX_LANES,
};

/* The steps that one pass over the keys serves, and the buffers of the pass. */
typedef struct batch {
	kvt_attention_layer *layer;
	const kvt_attention_header *header;
	const kvt_attention_step *steps;
	uint64_t first_step, stride, count;
	uint32_t kv_head, group;
	size_t quads;        /* query heads of the group, in fours */
	size_t chunk;        /* tokens; whole pages and whole tiles */
	size_t chunks;       /* that a step can touch, at most */
	size_t chunk_pages;  /* pages of a chunk */
	float *queries;      /* [count][quads][head_dim][4], scaled */
	float *sums;         /* [count][group][chunks x chunk_pages] */
	float *maxima;       /* [count][group][padded chunks] */
	size_t maxima_pitch; /* chunks, padded to whole tiles */
	uint16_t *halves;    /* [chunk][head_dim] */
	float *tiles, *logits;
} batch;

static uint64_t gcd(uint64_t a, uint64_t b)
{
	while (b != 0) {
		uint64_t rest = a % b;
		a = b;
		b = rest;
	}
	return a;
}

static uint64_t step_position(const batch *b, uint64_t i)
{
	return b->steps[b->first_step + i * b->stride].position;
}

/* First token that the i-th step attends to. */
static uint64_t step_low(const batch *b, uint64_t i)
{
	if (kvt_attention_layer_get_kind(b->layer) == KVT_TRACE_LAYER_GLOBAL)
		return 0;
	uint64_t position = step_position(b, i);
	return position - position % b->header->local_chunk_tokens;
}

static void batch_size(batch *b)
{
	const kvt_attention_header *header = b->header;
	uint64_t unit = header->block_tokens / gcd(header->block_tokens, LANES) * LANES;
	b->chunk = MAX(1, CHUNK_FLOATS / header->head_dim / unit) * unit;
	b->chunk_pages = b->chunk / header->block_tokens;
	b->chunks = 1;
	for (uint64_t i = 0; i < b->count; i++)
		b->chunks = MAX(
			b->chunks, step_position(b, i) / b->chunk - step_low(b, i) / b->chunk + 1);
	b->maxima_pitch = (b->chunks + LANES - 1) / LANES * LANES;
}

static void batch_allocate(batch *b, uint64_t count)
{
	size_t dim = b->header->head_dim;
	b->queries = g_new0(float, count * b->quads * dim * QUERIES);
	b->sums = g_new(float, count * b->group * b->chunks * b->chunk_pages);
	b->maxima = g_new(float, count * b->group * b->maxima_pitch);
	b->halves = g_new(uint16_t, b->chunk * dim);
	b->tiles = g_new(float, b->chunk *dim);
	b->logits = g_new(float, b->chunk *QUERIES);
}

static void batch_clear(batch *b)
{
	g_free(b->queries);
	g_free(b->sums);
	g_free(b->maxima);
	g_free(b->halves);
	g_free(b->tiles);
	g_free(b->logits);
}

/* Queries of the batch's steps, scaled and interleaved in fours; missing ones of the last four
 * stay zero. */
static bool load_queries(batch *b, GError **error)
{
	const kvt_attention_header *header = b->header;
	size_t dim = header->head_dim;
	g_autofree float *all = g_new(float, (size_t)header->query_heads *dim);
	for (uint64_t i = 0; i < b->count; i++) {
		uint64_t step = b->first_step + i * b->stride;
		if (!kvt_attention_layer_queries(b->layer, step, all, error))
			return false;
		float *out = b->queries + i * b->quads * dim * QUERIES;
		for (uint32_t g = 0; g < b->group; g++) {
			const float *query = all + ((size_t)b->kv_head * b->group + g) * dim;
			for (size_t d = 0; d < dim; d++) {
				if (!isfinite(query[d]))
					return kvt_error_at(error,
						kvt_attention_trace_path(
							kvt_attention_layer_trace(b->layer)),
						0,
						"layers/%u/queries: step %" G_GUINT64_FORMAT
						": %g, expected finite numbers",
						kvt_attention_layer_number(b->layer), step,
						query[d]);
				out[(g / QUERIES * dim + d) * QUERIES + g % QUERIES] =
					query[d] * header->softmax_scale;
			}
		}
	}
	return true;
}

static bool load_chunk(batch *b, uint64_t start, uint64_t tokens, GError **error)
{
	if (!kvt_attention_layer_keys_half(b->layer, b->kv_head, start, tokens, b->halves, error))
		return false;
	size_t bad = kvt_softmax_tile(b->halves, tokens, b->header->head_dim, b->tiles);
	if (bad < tokens)
		return kvt_error_at(error,
			kvt_attention_trace_path(kvt_attention_layer_trace(b->layer)), 0,
			"layers/%u/keys: KV head %u, token %" G_GUINT64_FORMAT
			": NaN or infinity, expected finite numbers",
			kvt_attention_layer_number(b->layer), b->kv_head, start + bad);
	return true;
}

/* The i-th step against the chunk that starts at token `start`. */
static void attend_chunk(batch *b, uint64_t i, uint64_t start)
{
	uint64_t low = step_low(b, i), high = MIN(step_position(b, i) + 1, start + b->chunk);
	size_t dim = b->header->head_dim;
	size_t chunk = start / b->chunk - low / b->chunk;
	size_t from = low > start ? low - start : 0, to = high - start;
	size_t tiles = (to + LANES - 1) / LANES;
	for (size_t quad = 0; quad < b->quads; quad++) {
		kvt_softmax_logits(b->tiles, tiles, dim,
			b->queries + (i * b->quads + quad) * dim * QUERIES, b->logits, false);
		for (size_t g = quad * QUERIES; g < MIN((quad + 1) * QUERIES, b->group); g++) {
			size_t row = i * b->group + g;
			b->maxima[row * b->maxima_pitch + chunk] = kvt_softmax_sum_pages(
				b->logits + g % QUERIES * tiles * LANES, to, from, to,
				b->header->block_tokens,
				b->sums + (row * b->chunks + chunk) * b->chunk_pages, false);
		}
	}
}

/* Weight of each chunk's sums in the softmax of one query, in place of the chunk's maximum; false
 * when the logits were not finite. */
static bool weigh_chunks(batch *b, uint64_t row, size_t chunks, size_t last_pages)
{
	float *weight = b->maxima + row * b->maxima_pitch;
	const float *sums = b->sums + row * b->chunks * b->chunk_pages;
	kvt_softmax_relative(weight, chunks);
	double total = 0;
	for (size_t c = 0; c < chunks; c++) {
		double sum = 0;
		for (size_t p = 0; p < (c + 1 < chunks ? b->chunk_pages : last_pages); p++)
			sum += sums[c * b->chunk_pages + p];
		total += sum * weight[c];
	}
	/* Written so that NaN fails it. */
	if (!(total > 0 && total < INFINITY))
		return false;
	for (size_t c = 0; c < chunks; c++)
		weight[c] = (float)(weight[c] / total / b->group);
	return true;
}

/* Puts the i-th step's chunks together. */
static bool finish_step(batch *b, uint64_t i, float *mass, GError **error)
{
	uint64_t first;
	uint64_t pages = kvt_attention_pages_present(
		b->header, kvt_attention_layer_get_kind(b->layer), step_position(b, i), &first);
	/* The first chunk may begin before the first page present. */
	uint64_t skip = first - step_low(b, i) / b->chunk * b->chunk_pages;
	size_t chunks = (skip + pages + b->chunk_pages - 1) / b->chunk_pages;
	size_t last_pages = skip + pages - (chunks - 1) * b->chunk_pages;
	for (uint32_t g = 0; g < b->group; g++)
		if (!weigh_chunks(b, i * b->group + g, chunks, last_pages))
			return kvt_error_at(error,
				kvt_attention_trace_path(kvt_attention_layer_trace(b->layer)), 0,
				"layers/%u: step %" G_GUINT64_FORMAT
				", KV head %u: query . key overflows, expected finite logits",
				kvt_attention_layer_number(b->layer), b->first_step + i * b->stride,
				b->kv_head);
	memset(mass, 0, pages * sizeof *mass);
	for (uint32_t g = 0; g < b->group; g++) {
		const float *weight = b->maxima + (i * b->group + g) * b->maxima_pitch;
		const float *sums = b->sums + (i * b->group + g) * b->chunks * b->chunk_pages;
		for (size_t c = 0; c < chunks; c++) {
			size_t end = c + 1 < chunks ? b->chunk_pages : last_pages;
			for (size_t p = c == 0 ? skip : 0; p < end; p++)
				mass[c * b->chunk_pages + p - skip] +=
					sums[c * b->chunk_pages + p] * weight[c];
		}
	}
	/* A page that holds all of the mass may have been rounded above it. */
	for (uint64_t p = 0; p < pages; p++)
		mass[p] = MIN(mass[p], 1.0f);
	return true;
}

static bool batch_run(batch *b, float *mass, size_t pitch, GError **error)
{
	memset(b->queries, 0,
		b->count * b->quads * b->header->head_dim * QUERIES * sizeof *b->queries);
	if (!load_queries(b, error))
		return false;
	/* Positions rise, so the first step reaches lowest and the last one highest. */
	uint64_t end = step_position(b, b->count - 1) + 1;
	uint64_t reached = 0;
	for (uint64_t start = step_low(b, 0) / b->chunk * b->chunk; start < end;
		start += b->chunk) {
		if (!load_chunk(b, start, MIN(b->chunk, end - start), error))
			return false;
		/* Steps that end before this chunk are done, for good. */
		while (step_position(b, reached) < start)
			reached++;
		for (uint64_t i = reached; i < b->count; i++)
			if (step_low(b, i) < start + b->chunk)
				attend_chunk(b, i, start);
	}
	for (uint64_t i = 0; i < b->count; i++)
		if (!finish_step(b, i, mass + i * pitch, error))
			return false;
	return true;
}

bool kvt_attention_mass_recompute(kvt_attention_layer *layer, uint64_t first_step, uint64_t stride,
	uint64_t count, uint32_t kv_head, float *mass, size_t pitch, GError **error)
{
	uint64_t step_count;
	const kvt_attention_trace *trace = kvt_attention_layer_trace(layer);
	batch b = {
		.layer = layer,
		.header = kvt_attention_trace_header(trace),
		.steps = kvt_attention_trace_steps(trace, &step_count),
		.first_step = first_step,
		.stride = stride,
		.count = count,
		.kv_head = kv_head,
	};
	g_assert(stride > 0 && (count == 0 || first_step + (count - 1) * stride < step_count));
	b.group = b.header->query_heads / b.header->kv_heads;
	b.quads = (b.group + QUERIES - 1) / QUERIES;
	batch_size(&b);
	size_t row = b.group * b.chunks * b.chunk_pages * sizeof(float);
	uint64_t most = CLAMP(BATCH_MEMORY / row, 1, MAX(count, 1));
	batch_allocate(&b, most);
	bool ok = true;
	for (uint64_t done = 0; ok && done < count; done += b.count) {
		b.first_step = first_step + done * stride;
		b.count = MIN(most, count - done);
		ok = batch_run(&b, mass + done * pitch, pitch, error);
	}
	batch_clear(&b);
	return ok;
}
