/* kriging.c: one Cholesky factorisation and two solves. */
#include "models/kriging.h"

#include <math.h>

static double distance(unsigned dims, const double *a, const double *b)
{
	double sum = 0;
	for (unsigned d = 0; d < dims; d++)
		sum += (a[d] - b[d]) * (a[d] - b[d]);
	return sqrt(sum);
}

/* Four running sums, because one alone would wait for every addition. */
static double dot(unsigned count, const double *a, const double *b)
{
	double sum[4] = { 0, 0, 0, 0 };
	unsigned i = 0;
	for (; i + 4 <= count; i += 4)
		for (unsigned j = 0; j < 4; j++)
			sum[j] += a[i + j] * b[i + j];
	for (; i < count; i++)
		sum[0] += a[i] * b[i];
	return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* In place, lower triangle; a nugget > 0 keeps the matrix positive definite. */
static void factorise(unsigned count, double *a)
{
	for (unsigned j = 0; j < count; j++) {
		double *row = a + (size_t)j * count;
		for (unsigned i = 0; i < j; i++) {
			const double *other = a + (size_t)i * count;
			row[i] = (row[i] - dot(i, row, other)) / other[i];
		}
		row[j] = sqrt(fmax(row[j] - dot(j, row, row), 1e-12));
	}
}

/* x := A^-1 x by the factor. */
static void solve(unsigned count, const double *a, double *x)
{
	for (unsigned i = 0; i < count; i++) {
		const double *row = a + (size_t)i * count;
		x[i] = (x[i] - dot(i, row, x)) / row[i];
	}
	for (unsigned i = count; i-- > 0;) {
		const double *row = a + (size_t)i * count;
		x[i] /= row[i];
		for (unsigned l = 0; l < i; l++)
			x[l] -= row[l] * x[i];
	}
}

double kvt_kriging_estimate(unsigned dims, unsigned count, const double *points,
	const double *values, const double *nugget, const double *target, double *scratch)
{
	double *matrix = scratch, *weights = scratch + (size_t)count * count;
	double *ones = weights + count, *to_target = ones + count;
	for (unsigned i = 0; i < count; i++) {
		const double *a = points + (size_t)i * dims;
		for (unsigned j = 0; j < i; j++)
			matrix[(size_t)i * count + j] =
				exp(-distance(dims, a, points + (size_t)j * dims));
		matrix[(size_t)i * count + i] = 1 + nugget[i];
		to_target[i] = exp(-distance(dims, a, target));
		weights[i] = values[i];
		ones[i] = 1;
	}
	factorise(count, matrix);
	solve(count, matrix, weights);
	solve(count, matrix, ones);
	double of_values = 0, of_ones = 0;
	for (unsigned i = 0; i < count; i++) {
		of_values += weights[i];
		of_ones += ones[i];
	}
	double mean = of_values / of_ones, estimate = mean;
	for (unsigned i = 0; i < count; i++)
		estimate += to_target[i] * (weights[i] - mean * ones[i]);
	return estimate;
}
