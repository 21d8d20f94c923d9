/* minimize.c: Nelder-Mead with dimension-dependent coefficients. */
#include "models/minimize.h"

#include <glib.h>
#include <math.h>
#include <string.h>

typedef struct simplex {
	unsigned n;
	double *points; /* (n + 1) x n, best first once sorted */
	double *values;
	double *centre, *trial, *second;
	kvt_minimize_fn f;
	void *arg;
	unsigned evaluations, limit;
} simplex;

static double *point(simplex *s, unsigned i)
{
	return s->points + (size_t)i * s->n;
}

static double evaluate(simplex *s, const double *x)
{
	s->evaluations++;
	double value = s->f(x, s->arg);
	return isnan(value) ? INFINITY : value;
}

/* Insertion sort: between two rounds only one value is out of place. */
static void sort(simplex *s)
{
	for (unsigned i = 1; i <= s->n; i++) {
		for (unsigned j = i; j > 0 && s->values[j] < s->values[j - 1]; j--) {
			double value = s->values[j];
			s->values[j] = s->values[j - 1];
			s->values[j - 1] = value;
			for (unsigned d = 0; d < s->n; d++) {
				double x = point(s, j)[d];
				point(s, j)[d] = point(s, j - 1)[d];
				point(s, j - 1)[d] = x;
			}
		}
	}
}

/* x = centre + factor (centre - worst) */
static double try_point(simplex *s, double factor, double *x)
{
	for (unsigned d = 0; d < s->n; d++)
		x[d] = s->centre[d] + factor * (s->centre[d] - point(s, s->n)[d]);
	return evaluate(s, x);
}

static void replace_worst(simplex *s, const double *x, double value)
{
	memcpy(point(s, s->n), x, s->n * sizeof *x);
	s->values[s->n] = value;
}

static void shrink(simplex *s, double factor)
{
	for (unsigned i = 1; i <= s->n; i++) {
		for (unsigned d = 0; d < s->n; d++)
			point(s, i)[d] =
				point(s, 0)[d] + factor * (point(s, i)[d] - point(s, 0)[d]);
		s->values[i] = evaluate(s, point(s, i));
	}
}

static void step_once(simplex *s)
{
	unsigned n = s->n;
	double expand = 1 + 2.0 / n, contract = 0.75 - 0.5 / n;
	for (unsigned d = 0; d < n; d++) {
		s->centre[d] = 0;
		for (unsigned i = 0; i < n; i++)
			s->centre[d] += point(s, i)[d] / n;
	}
	double reflected = try_point(s, 1, s->trial);
	if (reflected < s->values[0]) {
		double expanded = try_point(s, expand, s->second);
		if (expanded < reflected)
			replace_worst(s, s->second, expanded);
		else
			replace_worst(s, s->trial, reflected);
	} else if (reflected < s->values[n - 1]) {
		replace_worst(s, s->trial, reflected);
	} else {
		int outside = reflected < s->values[n];
		double contracted = try_point(s, outside ? contract : -contract, s->second);
		if (contracted < (outside ? reflected : s->values[n]))
			replace_worst(s, s->second, contracted);
		else
			shrink(s, n > 1 ? 1 - 1.0 / n : 0.5);
	}
}

double kvt_minimize(unsigned n, double *x, const double *step, unsigned evaluations,
	kvt_minimize_fn f, void *arg)
{
	simplex s = { .n = n, .f = f, .arg = arg, .limit = evaluations };
	s.points = g_new(double, (size_t)(n + 1) * n);
	s.values = g_new(double, n + 1);
	s.centre = g_new(double, 3 * (size_t)n);
	s.trial = s.centre + n;
	s.second = s.trial + n;
	for (unsigned i = 0; i <= n; i++) {
		memcpy(point(&s, i), x, n * sizeof *x);
		if (i > 0)
			point(&s, i)[i - 1] += step[i - 1];
		s.values[i] = evaluate(&s, point(&s, i));
	}
	sort(&s);
	while (s.evaluations < s.limit && !(s.values[n] - s.values[0] < 1e-7)) {
		step_once(&s);
		sort(&s);
	}
	memcpy(x, point(&s, 0), n * sizeof *x);
	double best = s.values[0];
	g_free(s.points);
	g_free(s.values);
	g_free(s.centre);
	return best;
}
