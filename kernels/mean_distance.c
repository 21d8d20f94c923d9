/*
 * mean_distance.c: how far apart the means of coded pages are. It reads mean records alone, and
 * does the same everywhere: sums of integers, then a few roundings in one order.
 */
#include "kernels/kernels.h"

#include <errno.h>
#include <string.h>

enum { DIM_MAX = KVT_CODE_HEAD_DIM_MAX, LINE = 64, LANES = 8 };

typedef uint8_t bytes __attribute__((vector_size(LANES)));
typedef int16_t lanes __attribute__((vector_size(2 * LANES)));

/* Row 0 of a page, a byte two channels: a number is 2 code - 15, and stands for itself x step / 2.
 */
typedef struct mean {
	float step;
	uint8_t packed[DIM_MAX / 2];
} mean;

static void fetch(const kvt_codes *codes, uint32_t page, mean *out)
{
	uint32_t half = codes->head_dim / 2;
	size_t block_bytes = KVT_CODE_BLOCK * kvt_code_mean_bytes(codes->head_dim);
	const uint8_t *block = codes->means + page / KVT_CODE_BLOCK * block_bytes;
	const uint8_t *place = block + (size_t)4 * (page % KVT_CODE_BLOCK);
	for (uint32_t v = 0; v < half / 4; v++)
		memcpy(out->packed + (size_t)4 * v, place + (size_t)LINE * v, 4);
	out->step = kvt_code_step(block[(size_t)half / 4 * LINE + page % KVT_CODE_BLOCK]);
}

/* The two numbers of each of 8 bytes. */
static void unpack(const uint8_t *packed, lanes *low, lanes *high)
{
	bytes codes;
	memcpy(&codes, packed, sizeof(codes));
	*low = __builtin_convertvector(codes & 15, lanes) * 2 - 15;
	*high = __builtin_convertvector(codes >> 4, lanes) * 2 - 15;
}

static int32_t sum_of(lanes x)
{
	int32_t sum = 0;
	for (unsigned i = 0; i < LANES; i++)
		sum += x[i];
	return sum;
}

/* Sums of squares of b's numbers and of products with a's: a lane holds 64 products of at most 15 x
 * 15. */
static void multiply(
	const mean *a, const mean *b, uint32_t head_dim, int32_t *square, int32_t *product)
{
	lanes squares = { 0 }, products = { 0 }, a_low, a_high, b_low, b_high;
	for (uint32_t i = 0; i < head_dim / 2; i += LANES) {
		unpack(a->packed + i, &a_low, &a_high);
		unpack(b->packed + i, &b_low, &b_high);
		squares += b_low * b_low + b_high * b_high;
		products += a_low * b_low + a_high * b_high;
	}
	*square = sum_of(squares);
	*product = sum_of(products);
}

int kvt_code_mean_distances(
	const kvt_codes *codes, uint32_t page, const uint32_t *others, uint32_t n, float *distances)
{
	uint32_t head_dim = codes->head_dim;
	if (head_dim == 0 || head_dim % 16 != 0 || head_dim > DIM_MAX)
		return -EINVAL;
	mean from, to;
	int32_t square, product;
	fetch(codes, page, &from);
	multiply(&from, &from, head_dim, &square, &product);
	float own = from.step * from.step * (float)square;
	for (uint32_t i = 0; i < n; i++) {
		fetch(codes, others[i], &to);
		multiply(&from, &to, head_dim, &square, &product);
		float other = to.step * to.step * (float)square;
		float both = from.step * to.step * (float)product;
		/* row 0 is 4 times the mean, and numbers are twice theirs */
		float distance = (own + other - 2 * both) * (1.0f / 64);
		distances[i] = distance > 0 ? distance : 0;
	}
	return 0;
}
