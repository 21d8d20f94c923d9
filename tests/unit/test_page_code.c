/* test_page_code.c: codes of pages: their error against rate-distortion figures of a Gaussian,
 * scores against exact arithmetic on the decoded keys, variants to the last bit, hostile input. */
#include <errno.h>
#include <glib.h>
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "sim/base/rng.h"

enum { TOKENS = KVT_CODE_TOKENS, DIM_MAX = KVT_CODE_HEAD_DIM_MAX, HEADS = 9 };

/* Keys that differ from token to token by `novelty` of their variance. */
static void random_keys(kvt_rng *rng, uint32_t n_pages, uint32_t dim, double novelty, float *keys)
{
	for (uint32_t token = 0; token < n_pages * TOKENS; token++)
		for (uint32_t i = 0; i < dim; i++) {
			float fresh = (float)kvt_rng_normal(rng);
			float *key = keys + (size_t)token * dim + i;
			*key = token % TOKENS == 0
				       ? fresh
				       : (float)sqrt(1 - novelty) * key[-(ptrdiff_t)dim] +
						 (float)sqrt(novelty) * fresh;
		}
}

typedef struct coded {
	uint32_t dim, n_pages;
	kvt_codes codes;
} coded;

static coded code_pages(uint32_t dim, uint32_t n_pages, const float *keys)
{
	coded c = { .dim = dim, .n_pages = n_pages };
	c.codes = (kvt_codes){ .head_dim = dim,
		.means = g_malloc0(kvt_code_means_bytes(dim, n_pages)),
		.details = g_malloc(n_pages * kvt_code_detail_bytes(dim)) };
	for (uint32_t page = 0; page < n_pages; page++)
		g_assert_cmpint(
			kvt_code_build(&c.codes, page, KVT_ELEMENT_F32,
				keys + (size_t)page * TOKENS * dim, dim * sizeof(float), NULL),
			==, 0);
	return c;
}

static void coded_clear(coded *c)
{
	g_free(c->codes.means);
	g_free(c->codes.details);
}

static void decode(const coded *c, uint32_t page, float *out)
{
	g_assert_cmpint(kvt_code_decode(&c->codes, page, out), ==, 0);
}

/* Share of the variance of keys that the code loses. */
static double distortion(uint32_t dim, double novelty, float scale)
{
	enum { PAGES = 400 };
	kvt_rng rng = kvt_rng_init(11, dim);
	g_autofree float *keys = g_new(float, (size_t)PAGES *TOKENS *dim);
	g_autofree float *back = g_new(float, (size_t)TOKENS *dim);
	random_keys(&rng, PAGES, dim, novelty, keys);
	for (size_t i = 0; i < (size_t)PAGES * TOKENS * dim; i++)
		keys[i] *= scale;
	coded c = code_pages(dim, PAGES, keys);
	double error = 0, power = 0;
	for (uint32_t page = 0; page < PAGES; page++) {
		decode(&c, page, back);
		for (uint32_t i = 0; i < TOKENS * dim; i++) {
			double x = keys[(size_t)page * TOKENS * dim + i];
			error += (x - back[i]) * (x - back[i]);
			power += x * x;
		}
	}
	coded_clear(&c);
	return error / power;
}

/* Uniform quantisers of a Gaussian: 0.1188 at 2 bits, 0.01154 at 4 (Max, 1960); 14 of 16 rows have
 * 2 bits. Steps in eighths of an octave add a little, and a scale changes nothing. */
static void test_distortion(void)
{
	double theory = (14 * 0.1188 + 2 * 0.01154) / 16;
	static const uint32_t dims[] = { 16, 48, 64, 80, 128, 512 };
	for (size_t i = 0; i < G_N_ELEMENTS(dims); i++) {
		double found = distortion(dims[i], 1, 1);
		g_assert_cmpfloat(found, <, theory * 1.02);
		g_assert_cmpfloat(found, >, theory * (dims[i] < 64 ? 0.8 : 0.95));
	}
	g_assert_cmpfloat(fabs(distortion(64, 1, 1) - distortion(64, 1, 1024)), <, 1e-6);
	g_assert_cmpfloat(fabs(distortion(64, 1, 1) - distortion(64, 1, 1e-3f)), <, 1e-3);
	/* neighbours that are alike are cheaper */
	g_assert_cmpfloat(distortion(64, 0.3, 1), <, theory * 0.6);
	g_assert_cmpfloat(distortion(64, 0, 1), <, 0.013);
}

/* A page whose tokens are all the same is its mean, and has no variance. */
static void test_constant_page(void)
{
	float keys[TOKENS * 64], back[TOKENS * 64];
	for (uint32_t i = 0; i < TOKENS * 64; i++)
		keys[i] = (float)(i % 64 % 7) - 3;
	coded c = code_pages(64, 1, keys);
	const uint8_t *variance = c.codes.means + 8 * 64 + 16 * KVT_CODE_CLASSES;
	g_assert_cmpfloat(kvt_code_variance((uint16_t)(variance[0] | variance[1] << 8)), <, 1e-6);
	decode(&c, 0, back);
	for (uint32_t i = 64; i < TOKENS * 64; i++)
		g_assert_cmpfloat(fabsf(back[i] - back[i % 64]), <, 1e-3);
	coded_clear(&c);
	memset(keys, 0, sizeof(keys));
	c = code_pages(64, 1, keys);
	decode(&c, 0, back);
	for (uint32_t i = 0; i < TOKENS * 64; i++)
		g_assert_cmpfloat(back[i], ==, 0);
	coded_clear(&c);
}

typedef struct scored {
	void *memory;
	kvt_code_query query;
} scored;

static scored prepare(uint32_t dim, uint32_t n_heads, const float *queries, float scale)
{
	scored s;
	size_t bytes = (kvt_code_query_bytes(dim, n_heads) + 63) & ~(size_t)63;
	s.memory = aligned_alloc(64, bytes);
	g_assert_cmpint(kvt_code_query_init(&s.query, dim, n_heads, s.memory), ==, 0);
	kvt_code_query_set(&s.query, queries, scale);
	return s;
}

static double exact_sum(const float *key, const float *query, uint32_t dim, double scale)
{
	double sum = 0;
	for (uint32_t token = 0; token < TOKENS; token++) {
		double logit = 0;
		for (uint32_t i = 0; i < dim; i++)
			logit += (double)key[token * dim + i] * query[i];
		sum += exp(logit * scale);
	}
	return sum;
}

/* Scores are what the decoded keys say, but for 8-bit queries and powers that are up to 6% high. */
static void test_scores(void)
{
	enum { PAGES = 50 };
	static const uint32_t dims[] = { 16, 48, 64, 128, 256 };
	for (size_t d = 0; d < G_N_ELEMENTS(dims); d++) {
		uint32_t dim = dims[d];
		kvt_rng rng = kvt_rng_init(12, dim);
		g_autofree float *keys = g_new(float, (size_t)PAGES *TOKENS *dim);
		g_autofree float *queries = g_new(float, HEADS *dim);
		g_autofree float *back = g_new(float, (size_t)TOKENS *dim);
		random_keys(&rng, PAGES, dim, 0.5, keys);
		for (uint32_t i = 0; i < HEADS * dim; i++)
			queries[i] = 3 * (float)kvt_rng_normal(&rng);
		coded c = code_pages(dim, PAGES, keys);
		float scale = 1 / sqrtf((float)dim);
		scored s = prepare(dim, HEADS, queries, scale);
		float sums[HEADS][PAGES];
		kvt_page_list all = { .n = PAGES };
		g_assert_cmpint(
			kvt_code_score(KVT_ISA_SCALAR, &c.codes, &s.query, &all, sums[0], PAGES),
			==, 0);
		for (uint32_t page = 0; page < PAGES; page++) {
			decode(&c, page, back);
			for (uint32_t h = 0; h < HEADS; h++) {
				double exact = exact_sum(back, queries + h * dim, dim, scale);
				g_assert_cmpfloat(sums[h][page], >, exact * 0.9);
				g_assert_cmpfloat(sums[h][page], <, exact * 1.18);
			}
		}
		free(s.memory);
		coded_clear(&c);
	}
}

/* The mean records' estimate is right on average where logits are Gaussian within a page. */
static void test_mean_scores(void)
{
	enum { PAGES = 3000, DIM = 64 };
	kvt_rng rng = kvt_rng_init(13, 0);
	g_autofree float *keys = g_new(float, (size_t)PAGES *TOKENS *DIM);
	float query[DIM], scale = 0.125f;
	random_keys(&rng, PAGES, DIM, 0.5, keys);
	for (uint32_t i = 0; i < DIM; i++)
		query[i] = 1.5f * (float)kvt_rng_normal(&rng);
	coded c = code_pages(DIM, PAGES, keys);
	scored s = prepare(DIM, 1, query, scale);
	g_autofree float *sums = g_new(float, PAGES);
	kvt_page_list all = { .n = PAGES };
	g_assert_cmpint(
		kvt_code_score_means(KVT_ISA_SCALAR, &c.codes, &s.query, &all, sums, PAGES), ==, 0);
	double estimate = 0, exact = 0;
	for (uint32_t page = 0; page < PAGES; page++) {
		estimate += sums[page];
		exact += exact_sum(keys + (size_t)page * TOKENS * DIM, query, DIM, scale);
	}
	g_assert_cmpfloat(estimate / exact, >, 0.95);
	g_assert_cmpfloat(estimate / exact, <, 1.15);
	free(s.memory);
	coded_clear(&c);
}

/* Every variant, over ranges and lists, with extreme steps and queries: the same bits. */
static void check_variants(kvt_rng *rng, uint32_t dim, uint32_t n_heads, float size)
{
	enum { PAGES = 40 };
	g_autofree float *queries = g_new(float, (size_t)n_heads *dim);
	size_t means_bytes = kvt_code_means_bytes(dim, PAGES);
	g_autofree uint8_t *means = g_malloc(means_bytes);
	g_autofree uint8_t *details = g_malloc(PAGES * kvt_code_detail_bytes(dim));
	for (size_t i = 0; i < means_bytes; i++)
		means[i] = (uint8_t)kvt_rng_below(rng, 256);
	for (size_t i = 0; i < PAGES * kvt_code_detail_bytes(dim); i++)
		details[i] = (uint8_t)kvt_rng_below(rng, 256);
	for (size_t i = 0; i < means_bytes; i++)
		/* any byte is a step; most are of a size that matters */
		if (i % (8 * dim + 128) >= 8 * dim && i % 4)
			means[i] = (uint8_t)(90 + means[i] % 60);
	for (uint32_t i = 0; i < n_heads * dim; i++)
		queries[i] = size * (float)kvt_rng_normal(rng);
	scored s = prepare(dim, n_heads, queries, 0.125f);
	kvt_codes codes = { .head_dim = dim, .means = means, .details = details };
	uint32_t ids[PAGES];
	for (uint32_t i = 0; i < PAGES; i++)
		ids[i] = (uint32_t)kvt_rng_below(rng, PAGES);
	kvt_page_list lists[] = { { .n = PAGES }, { .n = 17, .first = 20 },
		{ .n = PAGES, .ids = ids }, { .n = 0 } };
	g_autofree float *expected = g_new0(float, (size_t)n_heads *PAGES);
	g_autofree float *found = g_new0(float, (size_t)n_heads *PAGES);
	for (size_t l = 0; l < G_N_ELEMENTS(lists); l++)
		for (kvt_isa isa = KVT_ISA_SCALAR; isa < KVT_ISA_COUNT; isa++)
			for (int means_only = 0; means_only < 2; means_only++) {
				int (*score)(kvt_isa, const kvt_codes *, const kvt_code_query *,
					const kvt_page_list *, float *, size_t) =
					means_only ? kvt_code_score_means : kvt_code_score;
				memset(found, 0, sizeof(float) * n_heads * PAGES);
				memset(expected, 0, sizeof(float) * n_heads * PAGES);
				g_assert_cmpint(score(KVT_ISA_SCALAR, &codes, &s.query, &lists[l],
							expected, PAGES),
					==, 0);
				int status = score(isa, &codes, &s.query, &lists[l], found, PAGES);
				g_assert_cmpint(status, ==, kvt_isa_supported(isa) ? 0 : -ENOTSUP);
				if (status == 0)
					g_assert_cmpmem(found, sizeof(float) * n_heads * PAGES,
						expected, sizeof(float) * n_heads * PAGES);
				for (uint32_t i = 0; i < n_heads * PAGES; i++)
					g_assert_true(isfinite(found[i]));
			}
	free(s.memory);
}

static void test_variants(void)
{
	kvt_rng rng = kvt_rng_init(14, 0);
	for (uint32_t dim = 16; dim <= DIM_MAX; dim += dim < 144 ? 16 : 112)
		for (uint32_t heads = 1; heads <= HEADS; heads += 3)
			check_variants(&rng, dim, heads, 1);
	static const float sizes[] = { 0, 1e-30f, 1e-6f, 30, 1e5f, 1e18f, 1e30f, INFINITY, NAN };
	for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++)
		check_variants(&rng, 64, 4, sizes[i]);
}

/* The same keys in three formats, each exactly representable in all. */
static void test_elements(void)
{
	float keys[TOKENS * 32];
	uint16_t f16[TOKENS * 32], bf16[TOKENS * 32];
	kvt_rng rng = kvt_rng_init(15, 0);
	for (uint32_t i = 0; i < TOKENS * 32; i++) {
		keys[i] = ((float)kvt_rng_below(&rng, 255) - 127) / 16;
		uint32_t bits;
		memcpy(&bits, &keys[i], sizeof(bits));
		bf16[i] = (uint16_t)(bits >> 16);
		f16[i] = (uint16_t)((bits >> 16 & 0x8000) |
				    (bits << 1 ? (bits >> 13 & 0x3ffff) - (112 << 10) : 0));
	}
	uint8_t mean[3][24 * KVT_CODE_BLOCK] = { 0 }, detail[3][128];
	const void *numbers[] = { f16, bf16, keys };
	for (unsigned i = 0; i < 3; i++) {
		kvt_codes codes = { .head_dim = 32, .means = mean[i], .details = detail[i] };
		g_assert_cmpint(kvt_code_build(&codes, 0, (kvt_element)i, numbers[i],
					i < 2 ? 64 : 128, NULL),
			==, 0);
	}
	for (unsigned i = 0; i < 2; i++) {
		g_assert_cmpmem(mean[i], sizeof(mean[i]), mean[2], sizeof(mean[2]));
		g_assert_cmpmem(detail[i], 128, detail[2], 128);
	}
	static const uint16_t odd[] = { 0x7c00, 0xfc00, 0x7e00, 0x0001, 0x8001, 0x03ff, 0x7bff };
	float out[G_N_ELEMENTS(odd)];
	kvt_elements_to_float(KVT_ELEMENT_F16, odd, G_N_ELEMENTS(odd), out);
	g_assert_true(isinf(out[0]) && isinf(out[1]) && out[1] < 0 && isnan(out[2]));
	g_assert_cmpfloat(out[3], ==, 0x1p-24f);
	g_assert_cmpfloat(out[4], ==, -0x1p-24f);
	g_assert_cmpfloat(out[5], ==, 0x3ffp-24f);
	g_assert_cmpfloat(out[6], ==, 65504);
}

static void test_hostile(void)
{
	float keys[TOKENS * 64], back[TOKENS * 64];
	kvt_rng rng = kvt_rng_init(16, 0);
	random_keys(&rng, 1, 64, 1, keys);
	keys[3] = NAN;
	keys[70] = INFINITY;
	keys[500] = -INFINITY;
	keys[501] = 3e38f;
	uint8_t mean[40 * KVT_CODE_BLOCK] = { 0 }, detail[256];
	kvt_codes codes = { .head_dim = 64, .means = mean, .details = detail };
	g_assert_cmpint(kvt_code_build(&codes, 0, KVT_ELEMENT_F32, keys, 256, NULL), ==, 4);
	g_assert_cmpint(kvt_code_decode(&codes, 0, back), ==, 0);
	for (uint32_t i = 0; i < TOKENS * 64; i++)
		g_assert_true(fabsf(back[i]) < 100);
	static const uint32_t bad[] = { 0, 8, 63, 520, DIM_MAX + 16, UINT32_MAX };
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		kvt_code_query query;
		codes.head_dim = bad[i];
		g_assert_cmpint(
			kvt_code_build(&codes, 0, KVT_ELEMENT_F32, keys, 0, NULL), ==, -EINVAL);
		g_assert_cmpint(kvt_code_decode(&codes, 0, back), ==, -EINVAL);
		g_assert_cmpint(kvt_code_query_init(&query, bad[i], 1, keys), ==, -EINVAL);
	}
	kvt_code_query query;
	g_assert_cmpint(kvt_code_query_init(&query, 64, 0, keys), ==, -EINVAL);
	g_assert_cmpint(kvt_code_query_init(&query, 64, KVT_CODE_HEADS_MAX + 1, keys), ==, -EINVAL);
	scored s = prepare(64, 1, keys, 1);
	codes.head_dim = 128;
	kvt_page_list one = { .n = 1 };
	float sum;
	g_assert_cmpint(
		kvt_code_score(KVT_ISA_SCALAR, &codes, &s.query, &one, &sum, 1), ==, -EINVAL);
	codes.head_dim = 64;
	g_assert_cmpint(
		kvt_code_score(KVT_ISA_COUNT, &codes, &s.query, &one, &sum, 1), ==, -ENOTSUP);
	free(s.memory);
}

static void test_group_shares(void)
{
	float sums[3][4] = { { 1, 2, 3, 2 }, { 10, 0, 0, 10 }, { INFINITY, 1, 1, 1 } };
	uint32_t share[4];
	kvt_group_shares(sums[0], 4, 2, 4, share);
	g_assert_cmpuint(share[0], ==, (1u << 28) / 2 + (1u << 29));
	g_assert_cmpuint(share[1], ==, 1u << 28);
	g_assert_cmpuint(share[2], ==, 3u << 27);
	g_assert_cmpuint(share[0] + share[1] + share[2] + share[3], ==, 1u << 31);
	kvt_group_shares(sums[0], 4, 3, 4, share);
	g_assert_cmpuint(share[1], <, 1u << 28);
	g_assert_cmpuint(share[1], >, 0);
	float odd[2] = { NAN, 1 };
	kvt_group_shares(odd, 2, 1, 2, share);
	g_assert_cmpuint(share[0] + share[1], ==, 0);
	float single = 7;
	kvt_group_shares(&single, 1, 1, 1, share);
	g_assert_cmpuint(share[0], ==, 1u << 31);
}

static void test_isa(void)
{
	g_assert_true(kvt_isa_supported(KVT_ISA_SCALAR));
	g_assert_true(kvt_isa_supported(kvt_isa_best()));
	g_assert_false(kvt_isa_supported(KVT_ISA_COUNT));
	g_assert_cmpstr(kvt_isa_name(KVT_ISA_AVX2), ==, "avx2");
	g_assert_cmpstr(kvt_isa_name(KVT_ISA_COUNT), ==, "unknown");
	g_test_message("best instruction set here: %s", kvt_isa_name(kvt_isa_best()));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/page-code/isa", test_isa);
	g_test_add_func("/page-code/distortion", test_distortion);
	g_test_add_func("/page-code/constant-page", test_constant_page);
	g_test_add_func("/page-code/scores", test_scores);
	g_test_add_func("/page-code/mean-scores", test_mean_scores);
	g_test_add_func("/page-code/variants", test_variants);
	g_test_add_func("/page-code/elements", test_elements);
	g_test_add_func("/page-code/hostile", test_hostile);
	g_test_add_func("/page-code/group-shares", test_group_shares);
	return g_test_run();
}
