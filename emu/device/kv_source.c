/* kv_source.c: numbers out of a recording, or out of a hash of where they belong. */
#include "emu/device/kv_source.h"

#include <math.h>
#include <string.h>

#include "models/dtype.h"
#include "sim/base/error.h"

enum { KEYS, VALUES, QUERIES };

bool kvt_kv_shape_init(kvt_kv_shape *shape, const kvt_kv_layout *layout, GError **error)
{
	const kvt_llm *llm = layout->llm;
	if (llm->attention.form != KVT_ATTENTION_GROUPED || layout->local_layers > 0)
		return kvt_error_usage(error,
			"[model] %s: the emulation takes models whose layers are all global and "
			"keep K and V by heads",
			llm->name);
	if (layout->held_ranks != 1)
		return kvt_error_usage(error,
			"[gpu] count: the emulation is of one GPU, expected 1, or one rank of "
			"several with [emulation] rank = one");
	if (llm->kv.scale != KVT_KV_SCALE_NONE ||
		(llm->kv.format != KVT_DTYPE_BF16 && llm->kv.format != KVT_DTYPE_FP16 &&
			llm->kv.format != KVT_DTYPE_FP8))
		return kvt_error_usage(error,
			"[model] kv_format: the emulation takes bf16, fp16 and fp8 without scales");
	/* KV heads are cut among ranks, and each is on several where there are fewer */
	uint32_t ranks = layout->ranks, kv_heads = (uint32_t)llm->attention.kv_heads;
	kv_heads = MAX(kv_heads / ranks, 1);
	*shape = (kvt_kv_shape){
		.element = llm->kv.format == KVT_DTYPE_BF16   ? KVT_ELEMENT_BF16
			   : llm->kv.format == KVT_DTYPE_FP16 ? KVT_ELEMENT_F16
							      : KVT_ELEMENT_E4M3,
		.layers = llm->n_layers,
		.kv_heads = kv_heads,
		.heads = (uint32_t)llm->attention.query_heads / ranks / kv_heads,
		.head_dim = (uint32_t)llm->attention.head_dim,
		.page_tokens = (uint32_t)layout->page_tokens,
		.scale = 1 / sqrtf((float)llm->attention.head_dim),
	};
	shape->block_bytes =
		(uint64_t)shape->page_tokens * shape->head_dim * kvt_element_bytes(shape->element);
	shape->page_bytes = 2 * shape->kv_heads * shape->block_bytes;
	g_assert(shape->page_bytes == layout->page_tokens * layout->token_bytes);
	kvt_attention_shape kernel = kvt_kv_attention_shape(shape);
	if (kvt_attention_scratch_bytes(&kernel, 1) == 0)
		return kvt_error_usage(error,
			"[model] %s: no attention kernel for head_dim %u, expected a multiple of "
			"16",
			llm->name, shape->head_dim);
	return true;
}

kvt_attention_shape kvt_kv_attention_shape(const kvt_kv_shape *shape)
{
	size_t stride = shape->head_dim * kvt_element_bytes(shape->element);
	return (kvt_attention_shape){ .element = shape->element,
		.head_dim = shape->head_dim,
		.heads = shape->heads,
		.page_tokens = shape->page_tokens,
		.key_stride = stride,
		.value_stride = stride,
		.scale = shape->scale,
		.key_scale = 1,
		.value_scale = 1 };
}

bool kvt_kv_source_record(kvt_kv_source *source, const kvt_kv_recording *recording, uint64_t stored,
	uint64_t n_queries, GError **error)
{
	kvt_kv_shape *shape = &source->shape;
	if (shape->kv_heads != recording->kv_heads || shape->heads != recording->heads ||
		shape->head_dim != recording->head_dim)
		return kvt_error_usage(error,
			"[model] name: %u KV heads of %u query heads each and head_dim %u, and %s "
			"was recorded of %u of %u and head_dim %u, expected a model of its shape",
			shape->kv_heads, shape->heads, shape->head_dim, recording->path,
			recording->kv_heads, recording->heads, recording->head_dim);
	uint64_t first = 0;
	while (first < recording->n_steps && recording->positions[first] < stored)
		first++;
	uint64_t left = recording->n_steps - first;
	if (n_queries > left)
		return kvt_error_usage(error,
			"[context] tokens, prompt_tokens, output_tokens: %" G_GUINT64_FORMAT
			" tokens follow the %" G_GUINT64_FORMAT
			" that are stored, and %s has queries of %" G_GUINT64_FORMAT
			" from there on (positions %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT
			" in all), expected no more than that",
			n_queries, stored, recording->path, left, recording->positions[0],
			recording->positions[recording->n_steps - 1]);
	source->recording = recording;
	source->stored = stored;
	source->first_step = first;
	source->n_queries = n_queries;
	shape->scale = recording->scale;
	return true;
}

uint64_t kvt_kv_source_position(const kvt_kv_source *source, uint64_t token)
{
	if (!source->recording || token < source->stored)
		return token;
	g_assert(token < source->stored + source->n_queries);
	return source->recording->positions[source->first_step + token - source->stored];
}

uint64_t kvt_kv_source_left_out(const kvt_kv_source *source)
{
	if (!source->recording || source->n_queries == 0)
		return 0;
	uint64_t end = source->stored + source->n_queries;
	return kvt_kv_source_position(source, end - 1) + 1 - end;
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* Four uniform numbers are about a normal one when they are added. */
static void random_numbers(const kvt_kv_source *source, unsigned kind, unsigned layer,
	unsigned head, uint64_t token, float *out)
{
	uint64_t place = mix(source->seed + mix(token) + kind) + mix((uint64_t)layer << 32 | head);
	for (uint32_t i = 0; i < source->shape.head_dim; i++) {
		uint64_t x = mix(place + (i + 1) * UINT64_C(0x9e3779b97f4a7c15));
		int32_t sum = (int32_t)((x & 0xffff) + (x >> 16 & 0xffff) + (x >> 32 & 0xffff) +
					(x >> 48));
		/* the standard deviation of the sum is 2^16 / sqrt(3) */
		out[i] = (float)(sum - 131070) * (1.7320508f / 65536);
	}
}

static void recorded_numbers(const kvt_kv_source *source, unsigned kind, unsigned layer,
	unsigned head, uint64_t token, float *out)
{
	const kvt_kv_recording *r = source->recording;
	uint64_t index = layer % r->n_layers;
	if (kind == QUERIES) {
		g_assert(token >= source->stored && token < source->stored + source->n_queries);
		uint64_t step = source->first_step + token - source->stored;
		uint64_t row = step * r->kv_heads * r->heads + head;
		memcpy(out, r->queries[index] + row * r->head_dim, r->head_dim * sizeof(*out));
		return;
	}
	const uint16_t *all = kind == KEYS ? r->keys[index] : r->values[index];
	uint64_t row = head * r->n_tokens + kvt_kv_source_position(source, token);
	kvt_elements_to_float(KVT_ELEMENT_F16, all + row * r->head_dim, r->head_dim, out);
}

/* Numbers of one token and head. */
static void numbers(const kvt_kv_source *source, unsigned kind, unsigned layer, unsigned head,
	uint64_t token, float *out)
{
	if (source->recording)
		recorded_numbers(source, kind, layer, head, token, out);
	else
		random_numbers(source, kind, layer, head, token, out);
}

void kvt_kv_source_fill(
	const kvt_kv_source *source, unsigned layer, uint64_t first, uint64_t n, void *pages)
{
	const kvt_kv_shape *shape = &source->shape;
	uint64_t first_page = first / shape->page_tokens;
	size_t row = shape->head_dim * kvt_element_bytes(shape->element);
	float out[KVT_CODE_HEAD_DIM_MAX];
	for (uint64_t token = first; token < first + n; token++) {
		char *page = (char *)pages +
			     (token / shape->page_tokens - first_page) * shape->page_bytes +
			     token % shape->page_tokens * row;
		for (uint32_t block = 0; block < 2 * shape->kv_heads; block++) {
			numbers(source, block % 2 ? VALUES : KEYS, layer, block / 2, token, out);
			kvt_elements_from_float(shape->element, out, shape->head_dim,
				page + block * shape->block_bytes);
		}
	}
}

void kvt_kv_source_queries(const kvt_kv_source *source, unsigned layer, unsigned kv_head,
	uint64_t first, uint64_t n, float *out)
{
	const kvt_kv_shape *shape = &source->shape;
	for (uint64_t token = first; token < first + n; token++)
		for (uint32_t head = 0; head < shape->heads; head++, out += shape->head_dim)
			numbers(source, QUERIES, layer, kv_head * shape->heads + head, token, out);
}
