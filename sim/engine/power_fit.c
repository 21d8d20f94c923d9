/* power_fit.c: a straight line through logarithms. */
#include "sim/engine/power_fit.h"

#include <glib.h>
#include <math.h>

bool kvt_power_fit_make(
	kvt_power_fit *fit, const double *x, const double *y, unsigned n, double low, double high)
{
	*fit = (kvt_power_fit){ .low = low, .high = high };
	double mean_x = 0, mean_y = 0, across = 0, along = 0;
	for (unsigned i = 0; i < n; i++) {
		if (x[i] < low || x[i] > high)
			continue;
		g_assert(x[i] > 0 && y[i] > 0);
		mean_x += log(x[i]);
		mean_y += log(y[i]);
		fit->points++;
	}
	if (fit->points < 2)
		return false;
	mean_x /= fit->points;
	mean_y /= fit->points;
	for (unsigned i = 0; i < n; i++) {
		if (x[i] < low || x[i] > high)
			continue;
		along += (log(x[i]) - mean_x) * (log(x[i]) - mean_x);
		across += (log(x[i]) - mean_x) * (log(y[i]) - mean_y);
	}
	if (!(along > 0))
		return false;
	fit->exponent = across / along;
	fit->factor = exp(mean_y - fit->exponent * mean_x);
	for (unsigned i = 0; i < n; i++)
		if (x[i] >= low && x[i] <= high)
			fit->worst = MAX(fit->worst,
				fabs(y[i] / (fit->factor * pow(x[i], fit->exponent)) - 1));
	return true;
}
