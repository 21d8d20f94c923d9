/* latency.c: quantiles of the lognormal distribution. */
#include "sim/tier/latency.h"

#include <glib.h>
#include <math.h>

static const double NORMAL_P99 = 2.3263478740408408;
static const double LONGEST_SECONDS = 3600;

/* Inverse of the standard normal distribution (P. J. Acklam's rational approximation, relative
 * error below 1.2e-9), 0 < p < 1. */
static double normal_quantile(double p)
{
	static const double a[] = { -39.69683028665376, 220.9460984245205, -275.9285104469687,
		138.3577518672690, -30.66479806614716, 2.506628277459239 };
	static const double b[] = { -54.47609879822406, 161.5858368580409, -155.6989798598866,
		66.80131188771972, -13.28068155288572 };
	static const double c[] = { -0.007784894002430293, -0.3223964580411365, -2.400758277161838,
		-2.549732539343734, 4.374664141464968, 2.938163982698783 };
	static const double d[] = { 0.007784695709041462, 0.3224671290700398, 2.445134137142996,
		3.754408661907416 };
	const double tail = 0.02425;
	if (p < tail || p > 1 - tail) {
		double q = sqrt(-2 * log(p < tail ? p : 1 - p));
		double x = (((((c[0] * q + c[1]) * q + c[2]) * q + c[3]) * q + c[4]) * q + c[5]) /
			   ((((d[0] * q + d[1]) * q + d[2]) * q + d[3]) * q + 1);
		return p < tail ? x : -x;
	}
	double q = p - 0.5, r = q * q;
	return (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r + a[5]) * q /
	       (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r + b[4]) * r + 1);
}

/* Of the logarithm; 0 without a tail. */
static double sigma_of(const kvt_latency *latency)
{
	if (latency->median <= 0 || latency->p99 <= latency->median)
		return 0;
	return log(latency->p99 / latency->median) / NORMAL_P99;
}

double kvt_latency_mean(const kvt_latency *latency)
{
	double sigma = sigma_of(latency);
	return latency->median * exp(sigma * sigma / 2);
}

kvt_time kvt_latency_sample(const kvt_latency *latency, uint64_t n, kvt_rng *rng)
{
	double u = kvt_rng_uniform(rng);
	if (latency->median <= 0)
		return 0;
	/* the maximum of n samples is the quantile of U^(1/n) */
	double p = CLAMP(n > 1 ? pow(u, 1.0 / (double)n) : u, 1e-12, 1 - 1e-12);
	double sigma = sigma_of(latency);
	double seconds = latency->median * (sigma > 0 ? exp(sigma * normal_quantile(p)) : 1);
	return kvt_time_from_seconds(MIN(seconds, LONGEST_SECONDS));
}
