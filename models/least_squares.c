/* least_squares.c: damped normal equations, a Cholesky factorisation a step. */
#include "models/least_squares.h"

#include <glib.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

static const double DIFFERENCE = 1e-5;

typedef struct problem {
	unsigned n, count;
	kvt_residuals_fn f;
	void *arg;
	double *at, *moved;      /* residuals at x and beside it */
	double *jacobian;        /* count x n */
	double *normal, *factor; /* n x n */
	double *gradient, *step; /* n */
	double *trial;           /* n */
} problem;

static double sum_of_squares(const problem *p, const double *residuals)
{
	double sum = 0;
	for (unsigned i = 0; i < p->count; i++)
		sum += residuals[i] * residuals[i];
	return isfinite(sum) ? sum : INFINITY;
}

/* Normal matrix and gradient at x, where the residuals are p->at. */
static void linearise(problem *p, const double *x)
{
	unsigned n = p->n;
	memcpy(p->trial, x, n * sizeof(*x));
	for (unsigned j = 0; j < n; j++) {
		p->trial[j] = x[j] + DIFFERENCE;
		p->f(p->trial, p->moved, p->arg);
		p->trial[j] = x[j];
		for (unsigned i = 0; i < p->count; i++) {
			double slope = (p->moved[i] - p->at[i]) / DIFFERENCE;
			p->jacobian[(size_t)i * n + j] = isfinite(slope) ? slope : 0;
		}
	}
	memset(p->normal, 0, (size_t)n * n * sizeof(double));
	memset(p->gradient, 0, n * sizeof(double));
	for (unsigned i = 0; i < p->count; i++) {
		const double *row = p->jacobian + (size_t)i * n;
		for (unsigned j = 0; j < n; j++) {
			p->gradient[j] += row[j] * p->at[i];
			for (unsigned k = 0; k <= j; k++)
				p->normal[j * n + k] += row[j] * row[k];
		}
	}
}

/* Solves (N + damping diag(N)) step = -gradient. */
static void solve_step(problem *p, double damping)
{
	unsigned n = p->n;
	memcpy(p->factor, p->normal, (size_t)n * n * sizeof(double));
	for (unsigned j = 0; j < n; j++) {
		double *row = p->factor + j * n;
		row[j] += damping * row[j] + 1e-12;
		for (unsigned k = 0; k <= j; k++) {
			double sum = row[k];
			for (unsigned l = 0; l < k; l++)
				sum -= row[l] * p->factor[k * n + l];
			row[k] = k < j ? sum / p->factor[k * n + k] : sqrt(fmax(sum, 1e-30));
		}
	}
	for (unsigned j = 0; j < n; j++) {
		double sum = -p->gradient[j];
		for (unsigned k = 0; k < j; k++)
			sum -= p->factor[j * n + k] * p->step[k];
		p->step[j] = sum / p->factor[j * n + j];
	}
	for (unsigned j = n; j-- > 0;) {
		for (unsigned k = j + 1; k < n; k++)
			p->step[j] -= p->factor[k * n + j] * p->step[k];
		p->step[j] /= p->factor[j * n + j];
	}
}

static double descend(problem *p, double *x, unsigned iterations)
{
	double damping = 1e-2;
	p->f(x, p->at, p->arg);
	double sum = sum_of_squares(p, p->at);
	linearise(p, x);
	for (unsigned i = 0; i < iterations && damping < 1e12; i++) {
		solve_step(p, damping);
		for (unsigned j = 0; j < p->n; j++)
			p->trial[j] = x[j] + fmin(fmax(p->step[j], -2), 2);
		p->f(p->trial, p->moved, p->arg);
		double next = sum_of_squares(p, p->moved);
		if (!(next < sum)) {
			damping *= 5;
			continue;
		}
		bool done = sum - next < 1e-7 * sum;
		memcpy(x, p->trial, p->n * sizeof(*x));
		memcpy(p->at, p->moved, p->count * sizeof(double));
		sum = next;
		damping = fmax(damping / 5, 1e-9);
		if (done)
			break;
		linearise(p, x);
	}
	return sum;
}

double kvt_least_squares(
	unsigned n, double *x, unsigned count, unsigned iterations, kvt_residuals_fn f, void *arg)
{
	problem p = { .n = n, .count = count, .f = f, .arg = arg };
	double *memory = g_new0(double, (size_t)count *(n + 2) + 2 * (size_t)n * n + 3 * (size_t)n);
	p.at = memory;
	p.moved = p.at + count;
	p.jacobian = p.moved + count;
	p.normal = p.jacobian + (size_t)count * n;
	p.factor = p.normal + (size_t)n * n;
	p.gradient = p.factor + (size_t)n * n;
	p.step = p.gradient + n;
	p.trial = p.step + n;
	double sum = descend(&p, x, iterations);
	g_free(memory);
	return sum;
}
