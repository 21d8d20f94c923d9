/* synthetic_keys.c: expands the compact keys of a grown trace. It draws nothing: all that was drawn
 * is in the arrays. */
#include "traces/synthetic_keys.h"

#include <glib.h>
#include <math.h>
#include <string.h>

#include "traces/half_float.h"

enum { LANES = 16 };

static char *check_page(const kvt_synthetic_keys *keys, uint64_t page)
{
	uint64_t base_pages = keys->base_tokens / keys->block_tokens;
	if (keys->page[page] >= base_pages)
		return g_strdup_printf("page %" G_GUINT64_FORMAT
				       ": base page %u, expected below %" G_GUINT64_FORMAT,
			page, keys->page[page], base_pages);
	float weight[KVT_SYNTHETIC_PARTNERS_MAX];
	kvt_half_to_float(keys->weight + page * keys->partners, weight, keys->partners);
	for (uint32_t r = 0; r < keys->partners; r++)
		/* Written so that NaN fails it. */
		if (!(fabsf(weight[r]) <= KVT_SYNTHETIC_WEIGHT_MAX))
			return g_strdup_printf("page %" G_GUINT64_FORMAT
					       ": weight %g of partner %u, expected -%d to %d",
				page, (double)weight[r], r, KVT_SYNTHETIC_WEIGHT_MAX,
				KVT_SYNTHETIC_WEIGHT_MAX);
	return NULL;
}

char *kvt_synthetic_keys_check(const kvt_synthetic_keys *keys)
{
	uint64_t partners = (uint64_t)keys->kv_heads * keys->base_tokens * keys->partners;
	for (uint64_t i = 0; i < partners; i++)
		if (keys->partner[i] >= keys->base_tokens)
			return g_strdup_printf("partner %u, expected below the %" G_GUINT64_FORMAT
					       " base tokens",
				keys->partner[i], keys->base_tokens);
	for (uint64_t page = 0; page < keys->pages; page++) {
		char *problem = check_page(keys, page);
		if (problem != NULL)
			return problem;
	}
	return NULL;
}

void kvt_synthetic_keys_clear(kvt_synthetic_keys *keys)
{
	g_clear_pointer(&keys->base, g_free);
	g_clear_pointer(&keys->values, g_free);
	g_clear_pointer(&keys->partner, g_free);
	g_clear_pointer(&keys->page, g_free);
	g_clear_pointer(&keys->weight, g_free);
}

/* The partners of a page that count: which they are, and their weights. */
typedef struct page_mix {
	uint32_t count;
	uint32_t partner[KVT_SYNTHETIC_PARTNERS_MAX];
	float weight[KVT_SYNTHETIC_PARTNERS_MAX];
} page_mix;

static page_mix mix_of_page(const kvt_synthetic_keys *keys, uint64_t page)
{
	page_mix mix;
	float weight[KVT_SYNTHETIC_PARTNERS_MAX];
	mix.count = 0;
	kvt_half_to_float(keys->weight + page * keys->partners, weight, keys->partners);
	for (uint32_t r = 0; r < keys->partners; r++)
		if (weight[r] != 0) {
			mix.partner[mix.count] = r;
			mix.weight[mix.count++] = weight[r];
		}
	return mix;
}

/* sum = base + the partners' shares of one token; in vectors of a length that compilers know. */
static inline __attribute__((always_inline)) void mix_values(const kvt_synthetic_keys *keys,
	const page_mix *mix, const float *head, const uint32_t *partner, uint64_t token, float *sum)
{
	uint32_t dim = keys->head_dim;
	const float *base = head + token * dim;
	memcpy(sum, base, dim * sizeof *sum);
	for (uint32_t i = 0; i < mix->count; i++) {
		const float *other =
			head + (uint64_t)partner[token * keys->partners + mix->partner[i]] * dim;
		float weight = mix->weight[i];
		uint32_t d = 0;
		for (; d + LANES <= dim; d += LANES)
			for (uint32_t j = 0; j < LANES; j++)
				sum[d + j] += weight * (other[d + j] - base[d + j]);
		for (; d < dim; d++)
			sum[d] += weight * (other[d] - base[d]);
	}
}

static void mix_narrow(const kvt_synthetic_keys *keys, const page_mix *mix, const float *head,
	const uint32_t *partner, uint64_t token, float *sum)
{
	mix_values(keys, mix, head, partner, token, sum);
}

/* AVX2 without FMA: a fused multiply-add would round differently from one machine to the next. */
#ifdef __x86_64__
__attribute__((target("avx2"))) static void mix_wide(const kvt_synthetic_keys *keys,
	const page_mix *mix, const float *head, const uint32_t *partner, uint64_t token, float *sum)
{
	mix_values(keys, mix, head, partner, token, sum);
}

static bool has_wide(void)
{
	return __builtin_cpu_supports("avx2");
}
#else
#define mix_wide mix_narrow

static bool has_wide(void)
{
	return false;
}
#endif

void kvt_synthetic_keys_prepare(kvt_synthetic_keys *keys)
{
	uint64_t values = keys->kv_heads * keys->base_tokens * keys->head_dim;
	keys->values = g_new(float, values);
	kvt_half_to_float(keys->base, keys->values, values);
}

void kvt_synthetic_keys_half(const kvt_synthetic_keys *keys, uint32_t kv_head, uint64_t first,
	uint64_t count, uint16_t *out)
{
	uint64_t head_tokens = kv_head * keys->base_tokens;
	uint32_t dim = keys->head_dim;
	const float *head = keys->values + head_tokens * dim;
	const uint32_t *partner = keys->partner + head_tokens * keys->partners;
	bool wide = has_wide();
	float sum[KVT_SYNTHETIC_DIM_MAX];
	g_assert(dim <= KVT_SYNTHETIC_DIM_MAX && first + count <= keys->pages * keys->block_tokens);
	for (uint64_t done = 0; done < count;) {
		uint64_t page = (first + done) / keys->block_tokens;
		uint64_t in_page = (first + done) % keys->block_tokens;
		uint64_t n = MIN(count - done, keys->block_tokens - in_page);
		uint64_t token = (uint64_t)keys->page[page] * keys->block_tokens + in_page;
		page_mix mix = mix_of_page(keys, page);
		for (uint64_t i = 0; i < n && mix.count > 0; i++) {
			if (wide)
				mix_wide(keys, &mix, head, partner, token + i, sum);
			else
				mix_narrow(keys, &mix, head, partner, token + i, sum);
			kvt_half_from_float(sum, out + (done + i) * dim, dim);
		}
		if (mix.count == 0)
			kvt_half_from_float(head + token * dim, out + done * dim, n * dim);
		done += n;
	}
}
