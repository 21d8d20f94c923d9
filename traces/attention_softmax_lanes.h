/*
 * attention_softmax_lanes.h: the vector loops of attention_softmax.c, which includes this once for
 * each vector width after defining LANE_BYTES, LANE_TARGET and LANE_NAME(x). Not for anyone else.
 *
 * Every lane does the same multiplications and additions in the same order whatever the width, and
 * none is fused, so results do not depend on the machine.
 */
typedef float LANE_NAME(lanes) __attribute__((vector_size(LANE_BYTES), aligned(4)));
typedef int32_t LANE_NAME(integers) __attribute__((vector_size(LANE_BYTES), aligned(4)));

/* Four queries against one tile; a register holds WIDTH tokens of one query. */
LANE_TARGET static void LANE_NAME(logits)(
	const float *tiles, size_t count, size_t dim, const float *queries, float *logits)
{
	enum { WIDTH = LANE_BYTES / sizeof(float), SPAN = 2 * WIDTH };
	typedef LANE_NAME(lanes) vector;
	for (size_t i = 0; i < count * LANES; i += SPAN) {
		const float *tile = tiles + i / LANES * dim * LANES + i % LANES;
		vector a0 = { 0 }, a1 = { 0 }, b0 = { 0 }, b1 = { 0 };
		vector c0 = { 0 }, c1 = { 0 }, d0 = { 0 }, d1 = { 0 };
		for (size_t k = 0; k < dim; k++) {
			vector key0 = *(const vector *)(tile + k * LANES);
			vector key1 = *(const vector *)(tile + k * LANES + WIDTH);
			const float *query = queries + k * QUERIES;
			a0 += key0 * query[0];
			a1 += key1 * query[0];
			b0 += key0 * query[1];
			b1 += key1 * query[1];
			c0 += key0 * query[2];
			c1 += key1 * query[2];
			d0 += key0 * query[3];
			d1 += key1 * query[3];
		}
		float *out = logits + i;
		*(vector *)out = a0, *(vector *)(out + WIDTH) = a1;
		out += count * LANES;
		*(vector *)out = b0, *(vector *)(out + WIDTH) = b1;
		out += count * LANES;
		*(vector *)out = c0, *(vector *)(out + WIDTH) = c1;
		out += count * LANES;
		*(vector *)out = d0, *(vector *)(out + WIDTH) = d1;
	}
}

/* The largest of n values, a multiple of 16; n > 0. */
LANE_TARGET static float LANE_NAME(largest)(const float *values, size_t n)
{
	enum { WIDTH = LANE_BYTES / sizeof(float) };
	typedef LANE_NAME(lanes) vector;
	typedef LANE_NAME(integers) integers;
	vector most = *(const vector *)values;
	for (size_t i = WIDTH; i < n; i += WIDTH) {
		vector v = *(const vector *)(values + i);
		integers more = v > most;
		most = (vector)(((integers)v & more) | ((integers)most & ~more));
	}
	float max = most[0];
	for (int j = 1; j < WIDTH; j++)
		max = most[j] > max ? most[j] : max;
	return max;
}

/* values[i] = exp(values[i] - max), n a multiple of 16: range reduction by ln 2 in two parts,
 * Taylor polynomial of degree 7 on |r| <= ln 2 / 2. Relative error below 3e-7 down to exponents of
 * -86, and something below 1e-37 beyond. */
LANE_TARGET static void LANE_NAME(exponentials)(float *values, size_t n, float max)
{
	enum { WIDTH = LANE_BYTES / sizeof(float) };
	typedef LANE_NAME(lanes) vector;
	typedef LANE_NAME(integers) integers;
	const float shift = 0x1.8p23f; /* adding it rounds to an integer in the low bits */
	for (size_t i = 0; i < n; i += WIDTH) {
		vector v = *(const vector *)(values + i) - max;
		integers low = v < -86.0f;
		v = (vector)(((integers)v & ~low) | (low & 0xc2ac0000 /* -86.0f */));
		vector rounded = v * 1.44269504f + shift;
		integers exponent = (integers)rounded << 23;
		rounded -= shift;
		vector r = v - rounded * 0.693359375f;
		r = r - rounded * -2.12194440e-4f;
		vector p = r * (1 / 5040.0f) + 1 / 720.0f;
		p = p * r + 1 / 120.0f;
		p = p * r + 1 / 24.0f;
		p = p * r + 1 / 6.0f;
		p = p * r + 0.5f;
		p = p * r + 1.0f;
		p = p * r + 1.0f;
		*(vector *)(values + i) = (vector)((integers)p + exponent);
	}
}

#undef LANE_BYTES
#undef LANE_TARGET
#undef LANE_NAME
