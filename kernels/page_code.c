/*
 * page_code.c: codes pages of keys, readies queries, and joins the scores of a group's heads. The
 * scoring itself is in page_code_scalar.c, page_code_avx2.c and page_code_avx512.c.
 */
#include "kernels/kernels.h"

#include <errno.h>
#include <math.h>
#include <string.h>

enum {
	TOKENS = KVT_CODE_TOKENS,
	CLASSES = KVT_CODE_CLASSES,
	BLOCK = KVT_CODE_BLOCK,
	DIM_MAX = KVT_CODE_HEAD_DIM_MAX,
	LINE = 64,
	RUN = 16, /* blocks whose means stay in the nearest cache for all heads */
};

/* Rows of a class, bits of a number, and the step that is best for a Gaussian of variance 1. */
typedef struct row_class {
	unsigned first, end, levels;
	float step;
} row_class;

static const row_class classes[CLASSES] = {
	{ 0, 1, 16, 0.3352f },
	{ 1, 2, 16, 0.3352f },
	{ 2, 4, 4, 0.9957f },
	{ 4, 8, 4, 0.9957f },
	{ 8, 16, 4, 0.9957f },
};

static int allowed(uint32_t head_dim)
{
	return head_dim > 0 && head_dim % 16 == 0 && head_dim <= KVT_CODE_HEAD_DIM_MAX;
}

/* +1 or -1, by the channel: the top bit of a multiplicative hash. */
static float channel_sign(uint32_t channel)
{
	uint64_t hash = (channel + 1) * UINT64_C(0x9e3779b97f4a7c15);
	hash = (hash ^ hash >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
	return hash >> 63 ? -1.0f : 1.0f;
}

/* In place, x[n] with n a power of two: sums and differences, not scaled. */
static void hadamard(float *x, uint32_t n)
{
	for (uint32_t half = 1; half < n; half *= 2)
		for (uint32_t base = 0; base < n; base += 2 * half)
			for (uint32_t i = base; i < base + half; i++) {
				float a = x[i], b = x[i + half];
				x[i] = a + b;
				x[i + half] = a - b;
			}
}

/* Signs, then Hadamard matrices over blocks of channels, as large as head_dim allows; orthonormal
 * but for rounding. */
static void rotate(uint32_t head_dim, const float *signs, float *x)
{
	uint32_t block = head_dim & -head_dim;
	float norm = 1.0f / sqrtf((float)block);
	for (uint32_t i = 0; i < head_dim; i++)
		x[i] *= signs[i];
	for (uint32_t i = 0; i < head_dim; i += block)
		hadamard(x + i, block);
	for (uint32_t i = 0; i < head_dim; i++)
		x[i] *= norm;
}

/* The inverse: the matrix is its own, and so are the signs. */
static void rotate_back(uint32_t head_dim, const float *signs, float *x)
{
	uint32_t block = head_dim & -head_dim;
	float norm = 1.0f / sqrtf((float)block);
	for (uint32_t i = 0; i < head_dim; i += block)
		hadamard(x + i, block);
	for (uint32_t i = 0; i < head_dim; i++)
		x[i] *= norm * signs[i];
}

static void fill_signs(uint32_t head_dim, float *signs)
{
	for (uint32_t i = 0; i < head_dim; i++)
		signs[i] = channel_sign(i);
}

/* The token that takes the place `row` before the transform over tokens: its number's bits in
 * reverse, which puts rows of low sequency first. */
static unsigned token_of(unsigned row)
{
	return (row & 1) << 3 | (row & 2) << 1 | (row & 4) >> 1 | (row & 8) >> 3;
}

/* The 16 tokens of every channel, in place, orthonormal: its own inverse. */
static void transform(uint32_t head_dim, float (*rows)[DIM_MAX])
{
	for (unsigned half = 1; half < TOKENS; half *= 2)
		for (unsigned row = 0; row < TOKENS; row++)
			for (uint32_t i = 0; i < head_dim && !(row & half); i++) {
				float a = rows[row][i], b = rows[row + half][i];
				rows[row][i] = a + b;
				rows[row + half][i] = a - b;
			}
	for (unsigned row = 0; row < TOKENS; row++)
		for (uint32_t i = 0; i < head_dim; i++)
			rows[row][i] *= 0.25f;
}

/* The nearest step, in the logarithm. */
static uint8_t encode_step(float step)
{
	/* 2^((i + 0.5) / 8) */
	static const float middles[8] = { 0x1.0b5586p+0f, 0x1.2387a6p+0f, 0x1.3dea64p+0f,
		0x1.5ab07ep+0f, 0x1.7a1148p+0f, 0x1.9c4918p+0f, 0x1.c199bep+0f, 0x1.ea4afap+0f };
	if (!(step > 0))
		return 0;
	int exponent;
	float mantissa = 2 * frexpf(step, &exponent);
	int e = 8 * (exponent - 1) + 128;
	for (unsigned i = 0; i < 8; i++)
		e += mantissa >= middles[i];
	return (uint8_t)(e < 1 ? 1 : e > 255 ? 255 : e);
}

/* Reads the keys, less the centre; returns how many were not finite. */
static int read_keys(uint32_t head_dim, kvt_element element, const void *keys, size_t stride,
	const float *centre, float (*rows)[DIM_MAX])
{
	int odd = 0;
	for (unsigned row = 0; row < TOKENS; row++) {
		float *x = rows[row];
		const char *key = (const char *)keys + token_of(row) * stride;
		kvt_elements_to_float(element, key, head_dim, x);
		for (uint32_t i = 0; i < head_dim; i++) {
			/* squares and sums of what is left stay finite */
			int bad = !(fabsf(x[i]) <= 0x1p40f);
			x[i] = bad ? 0 : centre ? x[i] - centre[i] : x[i];
			odd += bad;
		}
	}
	return odd;
}

static unsigned quantise(float x, float inverse, unsigned levels)
{
	float level = x * inverse + (float)(levels / 2);
	if (!(level > 0))
		return 0;
	return level < (float)levels ? (unsigned)level : levels - 1;
}

static void put_detail(uint8_t *detail, unsigned row, uint32_t channel, unsigned code)
{
	unsigned within = channel % 16;
	detail[channel / 16 * 64 + 4 * row + within % 4] |= (uint8_t)(code << 2 * (within / 4));
}

static unsigned get_detail(const uint8_t *detail, unsigned row, uint32_t channel)
{
	unsigned within = channel % 16;
	return detail[channel / 16 * 64 + 4 * row + within % 4] >> 2 * (within / 4) & 3;
}

/* Sum of squares, in double: the order of the sum hardly matters, and is fixed. */
static double class_power(uint32_t head_dim, const row_class *class, float (*rows)[DIM_MAX])
{
	double sum = 0;
	for (unsigned row = class->first; row < class->end; row++)
		for (uint32_t i = 0; i < head_dim; i++)
			sum += (double)rows[row][i] * rows[row][i];
	return sum;
}

static void put_variance(uint8_t *bytes, double variance)
{
	float value = (float)variance;
	uint32_t bits;
	memcpy(&bits, &value, sizeof(bits));
	bits += 0x7fff + (bits >> 16 & 1);
	bytes[0] = (uint8_t)(bits >> 16);
	bytes[1] = (uint8_t)(bits >> 24);
}

/* A page's place in the means: its block, and where it is in that. */
static uint8_t *block_of(const kvt_codes *codes, uint32_t page)
{
	return codes->means + (size_t)(page / BLOCK) * BLOCK * kvt_code_mean_bytes(codes->head_dim);
}

static uint8_t *step_of(const kvt_codes *codes, uint32_t page, unsigned class)
{
	return block_of(codes, page) + 8 * codes->head_dim + BLOCK * class + page % BLOCK;
}

static uint8_t *variance_of(const kvt_codes *codes, uint32_t page)
{
	return block_of(codes, page) + 8 * codes->head_dim + BLOCK * CLASSES + page % BLOCK * 2;
}

/* The byte that holds row 0 of channel i < head_dim / 2, and that of head_dim / 2 + i. */
static uint8_t *mean_of(const kvt_codes *codes, uint32_t page, uint32_t i)
{
	return block_of(codes, page) + i / 4 * LINE + page % BLOCK * 4 + i % 4;
}

static void put_mean(const kvt_codes *codes, uint32_t page, uint32_t channel, unsigned code)
{
	uint32_t half = codes->head_dim / 2;
	uint8_t *byte = mean_of(codes, page, channel % half);
	*byte = (uint8_t)(channel < half ? (*byte & 0xf0) | code : (*byte & 0x0f) | code << 4);
}

static unsigned get_mean(const kvt_codes *codes, uint32_t page, uint32_t channel)
{
	uint32_t half = codes->head_dim / 2;
	return *mean_of(codes, page, channel % half) >> (channel < half ? 0 : 4) & 15;
}

static uint8_t *detail_of(const kvt_codes *codes, uint32_t page)
{
	return codes->details + page * kvt_code_detail_bytes(codes->head_dim);
}

int kvt_code_build(const kvt_codes *codes, uint32_t page, kvt_element element, const void *keys,
	size_t stride, const float *centre)
{
	uint32_t head_dim = codes->head_dim;
	if (!allowed(head_dim))
		return -EINVAL;
	float rows[TOKENS][DIM_MAX], signs[DIM_MAX];
	uint8_t *detail = detail_of(codes, page);
	fill_signs(head_dim, signs);
	int odd = read_keys(head_dim, element, keys, stride, centre, rows);
	for (unsigned row = 0; row < TOKENS; row++)
		rotate(head_dim, signs, rows[row]);
	transform(head_dim, rows);
	memset(detail, 0, kvt_code_detail_bytes(head_dim));
	double spread = 0;
	for (unsigned c = 0; c < CLASSES; c++) {
		const row_class *class = &classes[c];
		double power = class_power(head_dim, class, rows);
		double rms = sqrt(power / (head_dim * (class->end - class->first)));
		uint8_t e = encode_step((float)rms * class->step);
		spread += c ? power : 0;
		float inverse = e ? 1.0f / kvt_code_step(e) : 0;
		*step_of(codes, page, c) = e;
		for (unsigned row = class->first; row < class->end; row++)
			for (uint32_t i = 0; i < head_dim; i++) {
				unsigned code = quantise(rows[row][i], inverse, class->levels);
				if (row == 0)
					put_mean(codes, page, i, code);
				else
					put_detail(detail, row, i, code & 3);
				if (row == 1)
					put_detail(detail, 0, i, code >> 2);
			}
	}
	put_variance(variance_of(codes, page), spread / (TOKENS * head_dim));
	return odd;
}

int kvt_code_decode(const kvt_codes *codes, uint32_t page, float *out)
{
	uint32_t head_dim = codes->head_dim;
	if (!allowed(head_dim))
		return -EINVAL;
	float rows[TOKENS][DIM_MAX], signs[DIM_MAX];
	const uint8_t *detail = detail_of(codes, page);
	fill_signs(head_dim, signs);
	for (unsigned c = 0; c < CLASSES; c++) {
		float step = kvt_code_step(*step_of(codes, page, c));
		float middle = (float)(classes[c].levels - 1) / 2;
		for (unsigned row = classes[c].first; row < classes[c].end; row++)
			for (uint32_t i = 0; i < head_dim; i++) {
				unsigned code =
					row ? get_detail(detail, row, i) : get_mean(codes, page, i);
				if (row == 1)
					code += 4 * get_detail(detail, 0, i);
				rows[row][i] = ((float)code - middle) * step;
			}
	}
	transform(head_dim, rows);
	for (unsigned row = 0; row < TOKENS; row++) {
		rotate_back(head_dim, signs, rows[row]);
		memcpy(out + (size_t)token_of(row) * head_dim, rows[row], head_dim * sizeof(float));
	}
	return 0;
}

/* Heads are scored four at a time. */
static uint32_t padded(uint32_t n_heads)
{
	return (n_heads + 3) & ~(uint32_t)3;
}

size_t kvt_code_query_bytes(uint32_t head_dim, uint32_t n_heads)
{
	return (size_t)padded(n_heads) * (head_dim + 3 * sizeof(float));
}

int kvt_code_query_init(kvt_code_query *query, uint32_t head_dim, uint32_t n_heads, void *memory)
{
	if (!allowed(head_dim) || n_heads == 0 || n_heads > KVT_CODE_HEADS_MAX)
		return -EINVAL;
	query->head_dim = head_dim;
	query->n_heads = n_heads;
	memset(memory, 0, kvt_code_query_bytes(head_dim, n_heads));
	query->q = memory;
	query->sum = (int32_t *)(query->q + (size_t)padded(n_heads) * head_dim);
	query->factor = (float *)(query->sum + padded(n_heads));
	query->noise = query->factor + padded(n_heads);
	return 0;
}

/* Rounds x[n] x inverse, of magnitude at most 127, so that the sum is even: what is subtracted for
 * the middle of the levels, 1.5 and 7.5 sums, is a whole number then. Returns the sum. */
static int32_t round_even(const float *x, uint32_t n, float inverse, int8_t *q)
{
	int32_t sum = 0;
	uint32_t worst = 0;
	float worst_error = -1;
	for (uint32_t i = 0; i < n; i++) {
		float exact = x[i] * inverse, rounded = nearbyintf(exact);
		q[i] = (int8_t)rounded;
		sum += q[i];
		if (fabsf(exact - rounded) > worst_error) {
			worst_error = fabsf(exact - rounded);
			worst = i;
		}
	}
	if (sum % 2) {
		int up = x[worst] * inverse > (float)q[worst];
		if (q[worst] == 127 || (q[worst] != -127 && !up))
			up = -1;
		else
			up = 1;
		q[worst] = (int8_t)(q[worst] + up);
		sum += up;
	}
	return sum;
}

void kvt_code_query_set(kvt_code_query *query, const float *queries, float scale)
{
	static const float log2_e = 0x1.715476p+0f;
	uint32_t head_dim = query->head_dim;
	float x[DIM_MAX], signs[DIM_MAX];
	fill_signs(head_dim, signs);
	for (uint32_t head = 0; head < query->n_heads; head++) {
		memcpy(x, queries + (size_t)head * head_dim, sizeof(float) * head_dim);
		rotate(head_dim, signs, x);
		float largest = 0, square = 0;
		for (uint32_t i = 0; i < head_dim; i++) {
			largest = fmaxf(largest, fabsf(x[i]));
			square += x[i] * x[i];
		}
		int8_t *q = query->q + (size_t)head * head_dim;
		query->sum[head] = 0;
		query->factor[head] = query->noise[head] = 0;
		memset(q, 0, head_dim);
		float octave = scale * log2_e * 0x1p23f;
		/* numbers so large or small that products leave the range of a float, and NaN */
		if (!(square < 0x1p60f) || !(largest > 0x1p-60f) || !(fabsf(scale) < 0x1p20f))
			continue;
		query->sum[head] = round_even(x, head_dim, 127 / largest, q);
		/* 1/4: the norm of the transform over tokens */
		query->factor[head] = largest / 127 * octave * 0.25f;
		query->noise[head] = square * scale * octave * 0.5f;
	}
}

/* Pages of a list that are scored at once, and room to bring their means together. */
typedef struct chunk {
	kvt_code_block block;
	uint32_t first, n; /* of the block */
	uint32_t together[BLOCK * (DIM_MAX / 2 + 8) / 4] __attribute__((aligned(64)));
} chunk;

static void copy_mean(const kvt_codes *codes, uint32_t page, chunk *c, uint32_t place)
{
	const uint8_t *from = block_of(codes, page) + page % BLOCK * 4;
	for (uint32_t v = 0; v < codes->head_dim / 8; v++)
		memcpy(&c->together[v * LINE / 4 + place], from + v * LINE, 4);
	uint8_t *steps = (uint8_t *)c->together + 8 * codes->head_dim;
	for (unsigned class = 0; class < CLASSES; class ++)
		steps[BLOCK * class + place] = *step_of(codes, page, class);
	memcpy(steps + BLOCK * CLASSES + 2 * place, variance_of(codes, page), 2);
}

/* The next pages of a list from its i-th on, which come from all over the codes. */
static void gather(const kvt_codes *codes, const kvt_page_list *pages, uint32_t i, chunk *c)
{
	c->first = 0;
	c->n = pages->n - i < BLOCK ? pages->n - i : BLOCK;
	c->block.means = (const uint8_t *)c->together;
	for (uint32_t k = 0; k < BLOCK; k++) {
		uint32_t page = pages->ids[i + (k < c->n ? k : 0)];
		copy_mean(codes, page, c, k);
		c->block.details[k] = detail_of(codes, page);
	}
}

/* The same of a range: what it has of a block, in place. */
static void take(const kvt_codes *codes, const kvt_page_list *pages, uint32_t i, chunk *c)
{
	uint32_t left = pages->n - i, page = pages->first + i;
	size_t bytes = kvt_code_detail_bytes(codes->head_dim);
	c->first = page % BLOCK;
	c->n = left < BLOCK - c->first ? left : BLOCK - c->first;
	c->block.means = block_of(codes, page);
	const uint8_t *detail = detail_of(codes, page);
	for (uint32_t k = 0; k < BLOCK; k++) {
		int within = k >= c->first && k < c->first + c->n;
		c->block.details[k] = within ? detail + (k - c->first) * bytes : detail;
	}
}

/* Asks for what a list will come to soon, which no hardware foresees: into the second cache, which
 * has room for more requests under way. */
static void ask_ahead(const kvt_codes *codes, const kvt_page_list *pages, uint32_t i, int details)
{
	for (uint32_t k = i; k < i + BLOCK && k < pages->n; k++) {
		const uint8_t *detail = detail_of(codes, pages->ids[k]);
		const uint8_t *mean = mean_of(codes, pages->ids[k], 0);
		for (uint32_t at = 0; details && at < 4 * codes->head_dim; at += LINE)
			__builtin_prefetch(detail + at, 0, 2);
		for (uint32_t v = 0; v < codes->head_dim / 8 + 2; v++)
			__builtin_prefetch(mean + v * LINE, 0, 2);
	}
}

static int check(kvt_isa isa, const kvt_codes *codes, const kvt_code_query *query)
{
	if (!allowed(codes->head_dim) || codes->head_dim != query->head_dim)
		return -EINVAL;
	return kvt_isa_supported(isa) ? 0 : -ENOTSUP;
}

/* A group that is no multiple of 4 ends with heads that nobody reads, and a chunk may be a part of
 * a block: what is left of four heads' sums of a block. */
static void copy_sums(
	const chunk *c, const float *four, uint32_t n_heads, float *sums, size_t pitch)
{
	for (uint32_t h = 0; h < 4 && h < n_heads; h++)
		memcpy(sums + h * pitch, four + h * BLOCK + c->first, c->n * sizeof(float));
}

static void (*const score_variants[KVT_ISA_COUNT])(const kvt_code_block *block,
	const kvt_code_query *query, uint32_t head, float *sums, size_t pitch) = {
	[KVT_ISA_SCALAR] = kvt_code_score_scalar,
#ifdef __x86_64__
	[KVT_ISA_AVX2] = kvt_code_score_avx2,
	[KVT_ISA_AVX512] = kvt_code_score_avx512,
#endif
};

/* All heads score a block before the next one is read. */
int kvt_code_score(kvt_isa isa, const kvt_codes *codes, const kvt_code_query *query,
	const kvt_page_list *pages, float *sums, size_t pitch)
{
	int status = check(isa, codes, query);
	chunk c;
	c.block.head_dim = codes->head_dim;
	for (uint32_t i = 0; status == 0 && i < pages->n; i += c.n) {
		if (pages->ids) {
			gather(codes, pages, i, &c);
			ask_ahead(codes, pages, i + BLOCK, 1);
		} else {
			take(codes, pages, i, &c);
		}
		for (uint32_t head = 0; head < query->n_heads; head += 4) {
			float four[4 * BLOCK] __attribute__((aligned(64)));
			score_variants[isa](&c.block, query, head, four, BLOCK);
			copy_sums(&c, four, query->n_heads - head, sums + head * pitch + i, pitch);
		}
	}
	return status;
}

static void (*const means_variants[KVT_ISA_COUNT])(const uint8_t *means, uint32_t n,
	const kvt_code_query *query, uint32_t head, float *sums, size_t pitch) = {
	[KVT_ISA_SCALAR] = kvt_code_score_means_scalar,
#ifdef __x86_64__
	[KVT_ISA_AVX2] = kvt_code_score_means_avx2,
	[KVT_ISA_AVX512] = kvt_code_score_means_avx512,
#endif
};

/* Whole blocks of a range that begins with one, as many as are scored in place; 0 if there are none
 * or the group's last heads would have no place. */
static uint32_t whole_blocks(const kvt_page_list *pages, uint32_t i, const kvt_code_query *query)
{
	uint32_t n = (pages->n - i) / BLOCK;
	if (pages->ids || (pages->first + i) % BLOCK || query->n_heads % 4)
		return 0;
	return n < RUN ? n : RUN;
}

int kvt_code_score_means(kvt_isa isa, const kvt_codes *codes, const kvt_code_query *query,
	const kvt_page_list *pages, float *sums, size_t pitch)
{
	int status = check(isa, codes, query);
	chunk c;
	for (uint32_t i = 0; status == 0 && i < pages->n; i += c.n) {
		uint32_t whole = whole_blocks(pages, i, query);
		if (pages->ids) {
			gather(codes, pages, i, &c);
			ask_ahead(codes, pages, i + BLOCK, 0);
		} else {
			take(codes, pages, i, &c);
		}
		for (uint32_t head = 0; head < query->n_heads; head += 4) {
			float four[4 * BLOCK] __attribute__((aligned(64)));
			float *to = sums + head * pitch + i;
			if (whole > 0) {
				means_variants[isa](c.block.means, whole, query, head, to, pitch);
				continue;
			}
			means_variants[isa](c.block.means, 1, query, head, four, BLOCK);
			copy_sums(&c, four, query->n_heads - head, to, pitch);
		}
		c.n = whole > 0 ? whole * BLOCK : c.n;
	}
	return status;
}

void kvt_group_shares(
	const float *sums, size_t pitch, uint32_t n_heads, uint32_t n_pages, uint32_t *share)
{
	double weight[KVT_CODE_HEADS_MAX];
	for (uint32_t head = 0; head < n_heads; head++) {
		const float *row = sums + head * pitch;
		double total = 0;
		for (uint32_t i = 0; i < n_pages; i++)
			total += row[i];
		weight[head] = total > 0 && total <= 0x1p200 ? 0x1p31 / (total * n_heads) : 0;
	}
	for (uint32_t i = 0; i < n_pages; i++) {
		double sum = 0;
		for (uint32_t head = 0; head < n_heads; head++)
			sum += weight[head] > 0 ? sums[head * pitch + i] * weight[head] : 0;
		share[i] = sum >= 0x1p31 ? UINT32_C(1) << 31 : (uint32_t)(sum + 0.5);
	}
}
