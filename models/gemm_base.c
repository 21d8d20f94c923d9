/* gemm_base.c: waves of tiles against bytes over memory. Fits nothing. */
#include "models/gemm_base.h"

#include <math.h>

const int KVT_GEMM_TILE_SHAPE[KVT_GEMM_TILES][2] = {
	{ 64, 64 },
	{ 64, 128 },
	{ 128, 64 },
	{ 128, 128 },
	{ 128, 256 },
	{ 256, 128 },
};

enum { SPLIT = 4, SPLIT_K_LEAST = 64, OUTPUT_BYTES = 2, PARTIAL_BYTES = 4 };
static const double SPLIT_SECONDS = 3e-6; /* the second pass that adds the partial sums */

static double tile_seconds(
	const kvt_gemm_base *base, int64_t sms, int tile, int split, double m, double n, double k)
{
	double rows = KVT_GEMM_TILE_SHAPE[tile][0], columns = KVT_GEMM_TILE_SHAPE[tile][1];
	double waves = ceil(m / rows) * ceil(n / columns) * split / (double)sms;
	double charged = base->quantised * ceil(waves) + (1 - base->quantised) * fmax(waves, 1);
	double part = fmax(k / split, SPLIT_K_LEAST);
	double rate = base->peak / (double)sms * base->tile_efficiency[tile];
	double seconds = charged * 2 * rows * columns * (part + base->fill) / rate;
	if (split > 1)
		seconds += SPLIT_SECONDS + PARTIAL_BYTES * m * n * split / base->bandwidth;
	return seconds;
}

double kvt_gemm_base_seconds(
	const kvt_gemm_base *base, int64_t sms, double bytes, int64_t m, int64_t n, int64_t k)
{
	double rows = (double)m, columns = (double)n, depth = (double)k;
	double compute = INFINITY;
	for (int tile = 0; tile < KVT_GEMM_TILES; tile++) {
		compute = fmin(compute, tile_seconds(base, sms, tile, 1, rows, columns, depth));
		if (base->split_k)
			compute = fmin(compute,
				tile_seconds(base, sms, tile, SPLIT, rows, columns, depth));
	}
	double memory = (bytes * depth * (columns + rows) + OUTPUT_BYTES * rows * columns) /
			base->bandwidth;
	/* a smooth maximum: near the ridge the two overlap, but not fully */
	double larger = fmax(compute, memory), ratio = fmin(compute, memory) / larger;
	double work = larger * sqrt(sqrt(1 + ratio * ratio * ratio * ratio));
	double longer = fmax(work, base->floor), share = fmin(work, base->floor) / longer;
	return longer * pow(1 + pow(share, base->overlap), 1 / base->overlap);
}
