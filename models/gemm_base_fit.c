/*
 * gemm_base_fit.c: finds the constants of a kvt_gemm_base that come closest to measured rows. It
 * starts from the fastest that any row went, and assumes nothing about the GPU but its SMs.
 */
#include <math.h>
#include <string.h>

#include "models/gemm_fit.h"
#include "models/minimize.h"

enum { ROWS = 6000, EVALUATIONS = 3000 };
static const double SHORT_WEIGHT = 0.2;

enum { PEAK, BANDWIDTH, FLOOR, OVERLAP, FILL, QUANTISED, TILE, PARAMETERS = TILE + KVT_GEMM_TILES };

typedef struct base_fit {
	const gemm_samples *samples;
	unsigned stride;
	bool split_k;
} base_fit;

/* Every parameter may take any value; these forms keep the constants in their ranges. */
static kvt_gemm_base base_from(const double *p, bool split_k)
{
	kvt_gemm_base base = { .split_k = split_k };
	base.peak = exp(p[PEAK]);
	base.bandwidth = exp(p[BANDWIDTH]);
	base.floor = exp(p[FLOOR]);
	base.overlap = 1 + fmin(p[OVERLAP] * p[OVERLAP], 15);
	base.fill = exp(p[FILL]);
	base.quantised = 1 / (1 + exp(-p[QUANTISED]));
	for (int i = 0; i < KVT_GEMM_TILES; i++)
		base.tile_efficiency[i] = exp(-fabs(p[TILE + i]));
	return base;
}

static double loss(const double *p, void *arg)
{
	const base_fit *fit = arg;
	const gemm_samples *samples = fit->samples;
	kvt_gemm_base base = base_from(p, fit->split_k);
	double sum = 0, weights = 0;
	for (unsigned i = 0; i < samples->count; i += fit->stride) {
		const gemm_sample *s = &samples->rows[i];
		double seconds = kvt_gemm_base_seconds(
			&base, samples->sms, samples->series->bytes, s->m, s->n, s->k);
		double weight = s->seconds < GEMM_SHORT_SECONDS ? SHORT_WEIGHT : 1;
		/* one wild row must not bend the constants */
		sum += weight * fmin(fabs(log(seconds / s->seconds)), 1);
		weights += weight;
	}
	/* holds the one parameter that may run away where nothing depends on it */
	return sum / weights + 1e-4 * p[QUANTISED] * p[QUANTISED];
}

static void first_guess(const gemm_samples *samples, double *p)
{
	double peak = 0, bandwidth = 0, floor = INFINITY;
	for (unsigned i = 0; i < samples->count; i++) {
		const gemm_sample *s = &samples->rows[i];
		double m = (double)s->m, n = (double)s->n, k = (double)s->k;
		double bytes = samples->series->bytes * k * (m + n) + 2 * m * n;
		peak = fmax(peak, 2 * m * n * k / s->seconds);
		bandwidth = fmax(bandwidth, bytes / s->seconds);
		floor = fmin(floor, s->seconds);
	}
	const double guess[PARAMETERS] = { log(peak), log(bandwidth), log(0.7 * floor), 0.7,
		log(100), 2, 0.3, 0.2, 0.2, 0.05, 0.05, 0.05 };
	memcpy(p, guess, sizeof guess);
}

void gemm_fit_base(const gemm_samples *samples)
{
	static const double STEP[PARAMETERS] = { 0.2, 0.2, 0.3, 0.5, 0.5, 1, 0.2, 0.2, 0.2, 0.2,
		0.2, 0.2 };
	kvt_gemm_base *base = &samples->series->base;
	double best = INFINITY;
	for (int split = 0; split < 2; split++) {
		base_fit fit = { samples, 1 + samples->count / ROWS, split != 0 };
		double p[PARAMETERS];
		first_guess(samples, p);
		double found = kvt_minimize(PARAMETERS, p, STEP, EVALUATIONS, loss, &fit);
		if (found < best) {
			best = found;
			*base = base_from(p, fit.split_k);
		}
	}
	base->peak = gemm_rounded(base->peak);
	base->bandwidth = gemm_rounded(base->bandwidth);
	base->floor = gemm_rounded(base->floor);
	base->overlap = gemm_rounded(base->overlap);
	base->fill = gemm_rounded(base->fill);
	base->quantised = gemm_rounded(base->quantised);
	for (int i = 0; i < KVT_GEMM_TILES; i++)
		base->tile_efficiency[i] = gemm_rounded(base->tile_efficiency[i]);
}
