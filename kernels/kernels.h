/*
 * kernels.h: arithmetic over KV pages with a C ABI: sketches of keys and their scores, attention
 * and the merge of its parts. It knows no cache, no tier and no GLib, allocates nothing, and
 * returns 0 or a negative errno.
 *
 * Every scoring kernel has a plain C reference (KVT_ISA_SCALAR) and variants that give the same
 * bits: sums are taken in one fixed order, products are rounded once, and nothing depends on a math
 * library. So a decision made from a score does not depend on the machine. Attention decides
 * nothing; its variants differ in their rounding.
 */
#ifndef KVT_KERNELS_H
#define KVT_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Instruction sets, best last. AVX512 stands for AVX-512 F, BW, DQ, VL and VNNI. */
typedef enum kvt_isa {
	KVT_ISA_SCALAR,
	KVT_ISA_AVX2, /* with FMA */
	KVT_ISA_AVX512,
	KVT_ISA_COUNT,
} kvt_isa;

/* "scalar", "avx2", "avx512". */
const char *kvt_isa_name(kvt_isa isa);

/* Whether this machine runs it; the best that it runs. Constant for the life of a process. */
int kvt_isa_supported(kvt_isa isa);
kvt_isa kvt_isa_best(void);

/* Numbers of keys as they lie in a cache. */
typedef enum kvt_element {
	KVT_ELEMENT_F16,  /* IEEE 754 half precision */
	KVT_ELEMENT_BF16, /* the upper half of a float */
	KVT_ELEMENT_F32,
	KVT_ELEMENT_E4M3, /* a byte, OCP FP8 (OFP8 1.0): largest 448, no infinity */
} kvt_element;

/* Of one number. */
static inline size_t kvt_element_bytes(kvt_element element)
{
	return element == KVT_ELEMENT_F32 ? 4 : element == KVT_ELEMENT_E4M3 ? 1 : 2;
}

/* out[i] = numbers[i], exactly. */
void kvt_elements_to_float(kvt_element element, const void *numbers, size_t n, float *out);

/* out[i] = numbers[i] rounded to the nearest, ties to even; NaN stays one. What E4M3 cannot hold,
 * infinity too, becomes its largest number. */
void kvt_elements_from_float(kvt_element element, const float *numbers, size_t n, void *out);

/*
 * Page codes: keys at 2.3 bits a number, from which the logits of a page's tokens are estimated
 * with errors that are small and known. A token takes 18.5 bytes at head_dim 64, all steps and
 * variances counted, and 36.5 at 128: it is bits a number that stay the same, not bytes a token.
 *
 * A page is 16 tokens. Its keys, less a centre that all pages share (softmax does not see it), are
 * rotated over channels by a Hadamard matrix with fixed random signs, which makes the channels
 * alike and close to Gaussian whatever the model (as in QuaRot, arXiv 2404.00456, and TurboQuant,
 * arXiv 2504.19874), and transformed over the 16 tokens by a Walsh-Hadamard matrix, because
 * neighbours are alike: most of the variance gathers in the rows of low sequency. Each of the 5
 * classes of rows (row 0 is the mean; 1; 2-3; 4-7; 8-15) has one scale a page, and its numbers are
 * quantised uniformly with the step that is best for a Gaussian: 4 bits in rows 0 and 1, 2 bits in
 * the others. Nothing is learnt from data, so a page is coded when it is written, once.
 *
 * A page's code is in two places:
 * - detail, a record of kvt_code_detail_bytes a page: head_dim / 16 vectors of 64 bytes. Byte
 *   4 r + i of vector v holds, in bits 2k and 2k + 1, row r of channel 16 v + 4 k + i: the number
 *   is (code - 1.5) x step. Row 1 has its upper two bits in the place of row 0. On 64-byte
 *   boundaries scans are fastest.
 * - mean, kvt_code_mean_bytes a page, in blocks of 16 pages that are scored at once: block b holds
 *   pages 16 b to 16 b + 15. It is head_dim / 8 vectors of 64 bytes, of which byte 4 p + i of
 *   vector v holds row 0 of the block's page p, channel 4 v + i in its low and channel
 *   head_dim / 2 + 4 v + i in its high half: (code - 7.5) x step; then 5 x 16 bytes, of which byte
 *   p of the c-th 16 is the step of class c of page p, 2^((e - 128) / 8), 0 for none; then 16
 *   little-endian bfloat16, the variance of page p's numbers about its mean, a channel; and 16
 * bytes that are not used.
 *
 * head_dim is a multiple of 16, at most KVT_CODE_HEAD_DIM_MAX.
 */
enum {
	KVT_CODE_TOKENS = 16,
	KVT_CODE_CLASSES = 5,
	KVT_CODE_BLOCK = 16, /* pages whose means lie together */
	KVT_CODE_HEAD_DIM_MAX = 512,
	KVT_CODE_HEADS_MAX = 128, /* query heads of a group */
};

static inline size_t kvt_code_mean_bytes(uint32_t head_dim)
{
	return head_dim / 2 + 8;
}

/* Bytes of the mean records of n_pages: whole blocks. */
static inline size_t kvt_code_means_bytes(uint32_t head_dim, uint32_t n_pages)
{
	size_t n_blocks = ((size_t)n_pages + KVT_CODE_BLOCK - 1) / KVT_CODE_BLOCK;
	return n_blocks * KVT_CODE_BLOCK * kvt_code_mean_bytes(head_dim);
}

static inline size_t kvt_code_detail_bytes(uint32_t head_dim)
{
	return (size_t)head_dim * 4;
}

/* The step that a byte e stands for: 2^((e - 128) / 8), 0 for 0. */
static inline float kvt_code_step(uint8_t e)
{
	/* 2^(i / 8), as bits */
	static const uint32_t eighths[8] = { 0x3f800000, 0x3f8b95c2, 0x3f9837f0, 0x3fa5fed7,
		0x3fb504f3, 0x3fc5672a, 0x3fd744fd, 0x3feac0c7 };
	union {
		uint32_t bits;
		float value;
	} step = { .bits = eighths[e & 7] + ((uint32_t)(e >> 3) << 23) - (UINT32_C(16) << 23) };
	return e ? step.value : 0.0f;
}

/* The variance that a bfloat16 of a block stands for: its magnitude; NaN and infinity are finite.
 */
static inline float kvt_code_variance(uint16_t bits)
{
	union {
		uint32_t bits;
		float value;
	} variance = { .bits = (uint32_t)(bits & 0x7fff) << 16 };
	return variance.value < 0x1.fp127f ? variance.value : 0x1.fp127f;
}

/* The codes of a KV head, pages from 0 on, whole blocks of means. */
typedef struct kvt_codes {
	uint32_t head_dim;
	uint8_t *means, *details;
} kvt_codes;

/*
 * Codes one page: keys[16][head_dim], `stride` bytes from token to token. `centre` [head_dim] is
 * what all pages of the KV head subtract; NULL: zeros. NaN and infinite numbers count as the
 * centre's. Pages may be coded in any order; a block's pages must not be coded at once by several
 * threads, nor scored while one is coded. Returns how many numbers were not finite, or -EINVAL for
 * a head_dim that is not allowed.
 */
int kvt_code_build(const kvt_codes *codes, uint32_t page, kvt_element element, const void *keys,
	size_t stride, const float *centre);

/* What the code says of a page: out[16][head_dim], the centre not added. */
int kvt_code_decode(const kvt_codes *codes, uint32_t page, float *out);

/* Squared distances between the mean of a page's keys and those of others[n], as the mean records
 * have them. All are coded. -EINVAL for a head_dim that is not allowed. */
int kvt_code_mean_distances(const kvt_codes *codes, uint32_t page, const uint32_t *others,
	uint32_t n, float *distances);

/* The queries of a group, made ready: rotated, 8 bits a number and a scale a head. */
typedef struct kvt_code_query {
	uint32_t head_dim, n_heads;
	int32_t *sum;  /* [n_heads rounded up to 4], of the numbers: even */
	float *factor; /* the same; octaves x 2^23 that an integer product stands for */
	float *noise;  /* the same; octaves x 2^23 of exp's bias, a unit of page variance */
	int8_t *q;     /* [n_heads rounded up to 4][head_dim] */
} kvt_code_query;

/* Bytes of memory that a prepared query takes. */
size_t kvt_code_query_bytes(uint32_t head_dim, uint32_t n_heads);

/* Lays `query` out over `memory` (64-byte aligned, held while it is in use). -EINVAL for sizes out
 * of range. */
int kvt_code_query_init(kvt_code_query *query, uint32_t head_dim, uint32_t n_heads, void *memory);

/* Fills it from queries[n_heads][head_dim]; a logit is scale x (query . key). A query that holds
 * NaN or infinity becomes 0: all pages score alike. */
void kvt_code_query_set(kvt_code_query *query, const float *queries, float scale);

/* Which pages to score: ids[n], or first .. first + n - 1 where ids is NULL. */
typedef struct kvt_page_list {
	uint32_t n, first;
	const uint32_t *ids;
} kvt_page_list;

/*
 * Estimates for every page of the list and every query head the sum over its tokens of
 * e^logit: sums[head x pitch + i] for the i-th page, in units that are the same for all pages of a
 * head, between 2^-122 and 2^104 (logits that lie outside of what that can hold are cut off).
 * Powers are taken as 2^k (1 + f), which is at most 6% high, and on average the same for all pages.
 * Reads both records of each page. -EINVAL where head_dim differs, -ENOTSUP where the machine
 * lacks the instruction set.
 */
int kvt_code_score(kvt_isa isa, const kvt_codes *codes, const kvt_code_query *query,
	const kvt_page_list *pages, float *sums, size_t pitch);

/*
 * The same from the mean records alone, an eighth of the bytes: 16 e^(logit of the mean + v / 2), v
 * being the variance of logits within the page as the code tells it (the expectation of e^x of a
 * Gaussian). For choosing which pages to look at more closely.
 */
int kvt_code_score_means(kvt_isa isa, const kvt_codes *codes, const kvt_code_query *query,
	const kvt_page_list *pages, float *sums, size_t pitch);

/*
 * Joins the heads of a group: share[i] = mean over heads of sums[head][i] / total of the head, as a
 * multiple of 2^-31 rounded to nearest. A head without any finite, positive sum counts as nothing.
 */
void kvt_group_shares(
	const float *sums, size_t pitch, uint32_t n_heads, uint32_t n_pages, uint32_t *share);

/* Up to 16 pages that are scored at once: a block of mean records and their details. A page that
 * is not asked for has details, too: of any page. */
typedef struct kvt_code_block {
	uint32_t head_dim;
	const uint8_t *means;
	const uint8_t *details[KVT_CODE_BLOCK];
} kvt_code_block;

/* Variants, one an instruction set, of a block, or of the means of n blocks in a row, and 4 query
 * heads from `head` on, whose sums are `pitch` numbers apart; sizes have been checked. For
 * kvt_code_score and kvt_code_score_means. */
#define KVT_CODE_VARIANTS(isa)                                                                     \
	void kvt_code_score_##isa(const kvt_code_block *block, const kvt_code_query *query,        \
		uint32_t head, float *sums, size_t pitch);                                         \
	void kvt_code_score_means_##isa(const uint8_t *means, uint32_t n,                          \
		const kvt_code_query *query, uint32_t head, float *sums, size_t pitch);
KVT_CODE_VARIANTS(scalar)
KVT_CODE_VARIANTS(avx2)
KVT_CODE_VARIANTS(avx512)

/*
 * SimHash codes, the control that hashes alone: of every token the signs of n_bits random
 * projections of its key, less a centre, and the key's norm: 18 bytes a token for 128 bits,
 * whatever the head_dim. Two vectors at an angle theta agree in a bit with probability 1 - theta /
 * pi (Charikar 2002). With the query's projections not rounded to signs, query . key ~ sqrt(pi / 2)
 * / n_bits x |key| x sum over j of sign(S key)_j (S query)_j is unbiased, with variance |query|^2
 * |key|^2 (pi / 2 - cos^2 theta) / n_bits (QJL, arXiv 2406.03482): E sign(x) y = sqrt(2 / pi) cos
 * theta, and E y^2 = 1.
 *
 * A page's code is kvt_simhash_page_bytes: n_bits / 32 vectors of 64 bytes, bit k of byte 4 t + i
 * of vector v being hash bit 32 v + 4 k + i of token t, 1 for a sign that is not negative; then 16
 * little-endian half-precision norms. n_bits is a multiple of 32, at most KVT_SIMHASH_BITS_MAX.
 */
enum { KVT_SIMHASH_BITS_MAX = 512 };

/* A random projection: [head_dim][n_bits] normal numbers that only the seed decides. */
typedef struct kvt_simhash {
	uint32_t head_dim, n_bits;
	float *projection;
} kvt_simhash;

/* Bytes of memory that a projection takes. */
size_t kvt_simhash_bytes(uint32_t head_dim, uint32_t n_bits);

/* Fills `memory`, held while the projection is in use. -EINVAL for sizes out of range. */
int kvt_simhash_init(
	kvt_simhash *hash, uint32_t head_dim, uint32_t n_bits, uint64_t seed, void *memory);

/* Makes the projections orthogonal in blocks of head_dim, and of the length at which estimates stay
 * without bias. With whole blocks their variance falls to |query|^2 |key|^2 (pi / 2 - 1 - cos^2
 * theta / 2) / n_bits, for large head_dim: the signs of a block are a vector of known length, of
 * which a known part is along the key, and only the direction of the rest is random. */
void kvt_simhash_orthogonalise(kvt_simhash *hash);

/* The signs of the projections of x[head_dim], bit j % 32 of words[j / 32], for hash tables: of a
 * key less the centre, or of a query as it is. */
void kvt_simhash_signs(const kvt_simhash *hash, const float *x, uint32_t *words);

static inline size_t kvt_simhash_page_bytes(uint32_t n_bits)
{
	return (size_t)n_bits * 2 + 32;
}

/* Hash bit j of a page's token. */
static inline int kvt_simhash_bit(const uint8_t *code, unsigned token, uint32_t j)
{
	return code[j / 32 * 64 + 4 * token + j % 4] >> j % 32 / 4 & 1;
}

/* The norm of a page's token; of bits that no norm has, a finite number. */
static inline float kvt_simhash_norm(const uint8_t *code, uint32_t n_bits, unsigned token)
{
	const uint8_t *half = code + (size_t)n_bits * 2 + (size_t)token * 2;
	union {
		uint32_t bits;
		float value;
	} norm = { .bits = (uint32_t)((half[0] | half[1] << 8) & 0x7fff) << 13 };
	return norm.value * 0x1p112f;
}

/* Codes one page; like kvt_code_build. */
int kvt_simhash_build(const kvt_simhash *hash, kvt_element element, const void *keys, size_t stride,
	const float *centre, uint8_t *code);

/* The queries of a group, made ready: projected, 8 bits a number and a scale a head. */
typedef struct kvt_simhash_query {
	uint32_t n_bits, n_heads;
	int32_t *sum;   /* [n_heads rounded up to 4], of the weights */
	float *factor;  /* the same; octaves x 2^23 that a product stands for, a unit of norm */
	int8_t *weight; /* [n_heads rounded up to 4][n_bits] */
} kvt_simhash_query;

/* Like kvt_code_query_bytes, kvt_code_query_init and kvt_code_query_set; -EINVAL, too, where the
 * projection has another number of bits than the query. */
size_t kvt_simhash_query_bytes(uint32_t n_bits, uint32_t n_heads);
int kvt_simhash_query_init(
	kvt_simhash_query *query, uint32_t n_bits, uint32_t n_heads, void *memory);
int kvt_simhash_query_set(
	kvt_simhash_query *query, const kvt_simhash *hash, const float *queries, float scale);

/* Like kvt_code_score, of the pages whose codes lie one after the other at `codes`. */
int kvt_simhash_score(kvt_isa isa, const uint8_t *codes, const kvt_simhash_query *query,
	const kvt_page_list *pages, float *sums, size_t pitch);

/* The probability that a bit of two vectors agrees. */
double kvt_simhash_collision(double cosine);

/* The probability that a key and a query agree in at least two of n_tables hashes of k_bits bits:
 * what MagicPIG (arXiv 2410.16179) samples keys by. */
double kvt_simhash_sampled(double cosine, unsigned k_bits, unsigned n_tables);

/* Variants, one an instruction set, of four pages and four query heads from `head` on: sums[4 h +
 * i] of the i-th page. For kvt_simhash_score. */
#define KVT_SIMHASH_VARIANT(isa)                                                                   \
	void kvt_simhash_score_##isa(const uint8_t *const *codes, const kvt_simhash_query *query,  \
		uint32_t head, float *sums);
KVT_SIMHASH_VARIANT(scalar)
KVT_SIMHASH_VARIANT(avx2)
KVT_SIMHASH_VARIANT(avx512)

/*
 * Attention of some query tokens of a group over windows of KV that lies in pages, without the
 * matrix of its weights, and the exact merge of windows' partial results (FlashAttention's online
 * softmax, arXiv 2205.14135; FlashDecoding's merge by log-sum-exp). Sums and weights are FP32.
 * There is no sentinel for "minus infinity" but minus infinity, and logarithms are natural.
 */
typedef struct kvt_attention_shape {
	kvt_element element;             /* of keys and values: F16, BF16 or E4M3 */
	uint32_t head_dim;               /* a multiple of 16, at most KVT_CODE_HEAD_DIM_MAX */
	uint32_t heads;                  /* query heads that share the KV head, at most 128 */
	uint32_t page_tokens;            /* tokens a page */
	size_t key_stride, value_stride; /* bytes from a page's token to its next */
	float scale;                     /* logit = scale x (query . key) */
	float key_scale, value_scale;    /* a stored number counts so much: 1, but for FP8 */
} kvt_attention_shape;

/* A run of tokens: from token `skip` of page 0 on. Nothing is read of other tokens of the pages. */
typedef struct kvt_attention_window {
	const void *const *keys, *const *values; /* [pages], any order in memory */
	uint64_t n_tokens;
	uint32_t skip; /* below page_tokens */
	/* Query token i sees the first seen + i tokens, n_tokens at most; UINT64_MAX - n_queries or
	 * less. n_tokens: all see all. */
	uint64_t seen;
} kvt_attention_window;

/* Partial results: of a query token and head that saw nothing, zeros and -infinity. */
typedef struct kvt_attention_partial {
	float *output; /* [n_queries][heads][head_dim], normalised */
	float *lse;    /* [n_queries][heads], the natural logarithm of the sum of e^logit */
	/* [n_queries][heads], what the rounding of lse left out, so that merges of very many parts
	 * lose nothing by it; may be NULL: zeros. Of an empty part 0. */
	float *lse_rest;
} kvt_attention_partial;

/* Bytes of scratch memory that a call takes; 0 for a shape that is not allowed. */
size_t kvt_attention_scratch_bytes(const kvt_attention_shape *shape, uint32_t n_queries);

/*
 * Fills *partial from queries[n_queries][heads][head_dim]. `scratch`, 64-byte aligned, is the
 * call's alone. NaN in a key or value that a query sees makes its output NaN. Returns 0, -EINVAL
 * for a shape that is not allowed, -ENOTSUP where the machine lacks the instruction set.
 */
int kvt_attention(kvt_isa isa, const kvt_attention_shape *shape, const float *queries,
	uint32_t n_queries, const kvt_attention_window *window,
	const kvt_attention_partial *partial, void *scratch);

/*
 * Joins a part with another over other tokens, exactly but for FP32's rounding: `into` becomes what
 * one call over both would have given. In any order; an empty part changes nothing, whatever its
 * output holds. n_rows query tokens x heads.
 */
void kvt_attention_merge(const kvt_attention_partial *into, const kvt_attention_partial *from,
	size_t n_rows, uint32_t head_dim);

/* The same as kvt_attention in double precision, slowly: what results are checked against. The
 * shape has to be allowed. */
void kvt_attention_exact(const kvt_attention_shape *shape, const float *queries, uint32_t n_queries,
	const kvt_attention_window *window, double *output, double *lse);

enum { KVT_ATTENTION_TILE = 64 };

/* Some rows (heads of query tokens) and tokens that are attended to at once; sums over the tokens
 * so far. */
typedef struct kvt_attention_tile {
	kvt_element element;
	uint32_t head_dim, n_rows,
		n_tokens;    /* at least 1 each; KVT_ATTENTION_TILE tokens at most */
	uint32_t n_next;     /* tokens that are fetched for later */
	int in_order;        /* whether those lie behind these in memory */
	const float *query;  /* [n_rows][head_dim], by 2^logit, in the variant's order */
	float *sum;          /* the same: weighted values, relative to 2^max */
	float *max, *weight; /* [n_rows]: the largest logit or one near it, sum of weights */
	/* places of tokens (repeated up to whole vectors), and of those that are read next */
	const uint8_t *const *keys, *const *values, *const *next_keys, *const *next_values;
	float *unpacked; /* [2][KVT_ATTENTION_TILE][head_dim], for keys and values as FP32 */
} kvt_attention_tile;

/* Variants, one an instruction set; for kvt_attention. In a variant's order, BF16 numbers of each
 * whole block come as those of even, then those of odd number: a block is 1 vector of a query, 2 of
 * a sum. Variants with vectors take E4M3 for 2^-8 of what it is. */
void kvt_attention_tile_scalar(kvt_attention_tile *tile);
void kvt_attention_tile_avx2(kvt_attention_tile *tile); /* vectors of 8; 4 rows at most */
/* of 16: head_dim a multiple of 32; 8 rows at most */
void kvt_attention_tile_avx512(kvt_attention_tile *tile);

/* The same of any number of rows and KVT_ATTENTION_TILE tokens: keys and values become FP32 in
 * `unpacked` once, for all rows. */
void kvt_attention_rows_avx2(kvt_attention_tile *tile);
void kvt_attention_rows_avx512(kvt_attention_tile *tile);

#ifdef __cplusplus
}
#endif

#endif
