/* calibrate_fit.c: curves of a drive as the few figures that the modelled tier has. Pure
 * arithmetic: nothing is measured here. */
#include <math.h>
#include <stdlib.h>

#include "emu/calibrate/calibration.h"
#include "models/least_squares.h"
#include "sim/base/error.h"

static const double NORMAL_P99 = 2.3263478740408408;
/* Errors beyond this count less and less: odd points must not decide. */
static const double ROBUST = 0.1;
/* Rates within this of the best count as the best. */
static const double ENOUGH = 0.95;
/* A longer tail, 99th percentile over median, is other programs', and no lognormal. */
static const double LONGEST_TAIL = 20;
/* Attention shorter than this shows what waking threads takes, s. */
static const double SHORT_CALL = 5e-4;
enum { BANDWIDTH, IOPS, LATENCY, COMMAND, CONSTANTS };
enum { TRANSFER_MAX = 1 << 20, SMALL = 16384 };
/* Commands a second are those of so many bytes. */
static const double SECTOR = 4096;

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

kvt_measured kvt_measured_of(double *values, unsigned n)
{
	qsort(values, n, sizeof(*values), compare_doubles);
	double middle = n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
	return (kvt_measured){ middle, values[0], values[n - 1] };
}

/* Bytes/s of a drive that takes commands of s bytes and moves them in turn. */
static double serial_rate(const kvt_drive_fit *fit, double s)
{
	return s / (fmax(1 / fit->iops - SECTOR / fit->bandwidth, 0) + s / fit->bandwidth);
}

double kvt_drive_fit_rate(const kvt_drive_fit *fit, uint64_t size, unsigned depth)
{
	double s = (double)size, command = MIN(fit->command_rate, fit->bandwidth);
	double queued = depth * s / (fit->latency + s / command);
	double busy = fit->serial ? serial_rate(fit, s) : fit->bandwidth;
	return fmin(fmin(busy, fit->iops * s), queued);
}

typedef struct fitting {
	const kvt_drive_point **points;
	unsigned n;
	kvt_drive_fit guess;
	double large;     /* bytes/s of the largest size, median over depths */
	double sharpness; /* of the corners between the limits */
} fitting;

/* Not the least of the limits but their p-norm: rounded corners let a fit see the others, too. */
static double smooth_rate(const kvt_drive_fit *fit, const kvt_drive_point *point, double p)
{
	double s = (double)point->size, command = fit->command_rate / fit->bandwidth;
	command = fit->bandwidth * pow(1 + pow(command, -p), -1 / p);
	double queued = point->depth * s / (fit->latency + s / command);
	double busy = fit->serial ? serial_rate(fit, s) : fit->bandwidth;
	double least = fmin(fmin(busy, fit->iops * s), queued);
	double all =
		pow(least / busy, p) + pow(least / (fit->iops * s), p) + pow(least / queued, p);
	return least * pow(all, -1 / p);
}

static kvt_drive_fit moved(const kvt_drive_fit *guess, const double *x)
{
	kvt_drive_fit fit = *guess;
	fit.bandwidth *= exp(x[BANDWIDTH]);
	fit.iops *= exp(x[IOPS]);
	fit.latency *= exp(x[LATENCY]);
	fit.command_rate *= exp(x[COMMAND]);
	return fit;
}

/* Log errors; how far the constants that no point depends on are from the guess; and what would
 * contradict the points: fewer commands, or fewer bytes of the largest, than were mostly seen. */
static void residuals(const double *x, double *out, void *arg)
{
	const fitting *f = arg;
	kvt_drive_fit fit = moved(&f->guess, x);
	for (unsigned i = 0; i < f->n; i++) {
		double error = log(smooth_rate(&fit, f->points[i], f->sharpness) /
				       f->points[i]->rate.value) /
			       ROBUST;
		out[i] = copysign(sqrt(2 * (sqrt(1 + error * error) - 1)), error);
	}
	for (unsigned i = 0; i < CONSTANTS; i++)
		out[f->n + i] = 0.01 * x[i];
	out[f->n + CONSTANTS] = 100 * fmax(0, -x[IOPS]);
	out[f->n + CONSTANTS + 1] =
		100 * fmax(0, log(ENOUGH * f->large / f->guess.bandwidth) - x[BANDWIDTH]);
}

/* From the extremes: the fastest point, the most commands, and the slowest size at depth 1. */
static kvt_drive_fit guess(const fitting *f)
{
	kvt_drive_fit g = { .latency = INFINITY };
	for (unsigned i = 0; i < f->n; i++) {
		const kvt_drive_point *p = f->points[i];
		g.bandwidth = fmax(g.bandwidth, p->rate.value);
		g.iops = fmax(g.iops, p->rate.value / (double)p->size);
		g.latency = fmin(g.latency, p->depth * (double)p->size / p->rate.value);
		if (p->depth == f->points[0]->depth)
			g.command_rate = fmax(g.command_rate, p->rate.value / p->depth);
	}
	g.command_rate = fmin(1.2 * g.command_rate, g.bandwidth);
	return g;
}

static double large_rate(const fitting *f)
{
	g_autofree double *rates = g_new(double, f->n);
	uint64_t largest = 0;
	unsigned n = 0;
	for (unsigned i = 0; i < f->n; i++)
		largest = MAX(largest, f->points[i]->size);
	for (unsigned i = 0; i < f->n; i++)
		if (f->points[i]->size == largest)
			rates[n++] = f->points[i]->rate.value;
	return kvt_measured_of(rates, n).value;
}

/* Fits one of the two laws; how far off it is. */
static double solve(fitting *f, bool serial, kvt_drive_fit *fit)
{
	double x[CONSTANTS] = { 0 }, error = 0;
	f->guess.serial = serial;
	for (f->sharpness = 6; f->sharpness < 400; f->sharpness *= 8)
		error = kvt_least_squares(CONSTANTS, x, f->n + CONSTANTS + 2, 200, residuals, f);
	*fit = moved(&f->guess, x);
	fit->command_rate = fmin(fit->command_rate, fit->bandwidth);
	return error;
}

static double best_rate(const fitting *f, uint64_t size, unsigned depth)
{
	double best = 0;
	for (unsigned i = 0; i < f->n; i++)
		if (f->points[i]->size == size && f->points[i]->depth <= depth)
			best = fmax(best, f->points[i]->rate.value);
	return best;
}

/* The least depth at which every size is about as fast as at any. */
static unsigned useful_depth(const fitting *f)
{
	unsigned depth = 1;
	for (unsigned i = 0; i < f->n; i++) {
		const kvt_drive_point *p = f->points[i];
		double most = best_rate(f, p->size, G_MAXUINT);
		if (p->depth > depth && best_rate(f, p->size, p->depth - 1) < ENOUGH * most)
			depth = p->depth;
	}
	return depth;
}

static uint64_t useful_transfer(const fitting *f, double bandwidth)
{
	uint64_t transfer = 4096;
	for (unsigned i = 0; i < f->n; i++) {
		const kvt_drive_point *p = f->points[i];
		if (p->size <= TRANSFER_MAX && p->size > transfer &&
			best_rate(f, p->size, G_MAXUINT) >= 0.9 * ENOUGH * bandwidth)
			transfer = p->size;
	}
	return transfer;
}

/* A lognormal whose mean is the fitted latency and whose tail is as the smallest, alone, showed. */
static void set_tail(const fitting *f, kvt_drive_fit *fit)
{
	const kvt_drive_point *least = f->points[0];
	for (unsigned i = 1; i < f->n; i++) {
		const kvt_drive_point *p = f->points[i];
		if (p->depth < least->depth || (p->depth == least->depth && p->size < least->size))
			least = p;
	}
	double tail = least->latency > 0 ? least->latency_p99 / least->latency : 1;
	double sigma = log(CLAMP(tail, 1, LONGEST_TAIL)) / NORMAL_P99;
	fit->latency_median = fit->latency * exp(-sigma * sigma / 2);
	fit->latency_p99 = fit->latency_median * exp(sigma * NORMAL_P99);
}

static void set_errors(const fitting *f, kvt_drive_fit *fit)
{
	g_autofree double *errors = g_new(double, f->n), *spreads = g_new(double, f->n);
	for (unsigned i = 0; i < f->n; i++) {
		const kvt_drive_point *p = f->points[i];
		errors[i] = fabs(kvt_drive_fit_rate(fit, p->size, p->depth) / p->rate.value - 1);
		spreads[i] = (p->rate.high - p->rate.low) / (2 * p->rate.value);
	}
	kvt_measured error = kvt_measured_of(errors, f->n);
	fit->error = error.value;
	fit->worst = error.high;
	fit->spread = kvt_measured_of(spreads, f->n).value;
	fit->points = f->n;
}

static bool varied(const fitting *f)
{
	bool sizes = false, depths = false;
	for (unsigned i = 1; i < f->n; i++) {
		sizes |= f->points[i]->size != f->points[0]->size;
		depths |= f->points[i]->depth != f->points[0]->depth;
	}
	return f->n >= CONSTANTS && sizes && depths;
}

gboolean kvt_drive_fit_points(
	const kvt_drive_point *points, unsigned n, bool write, kvt_drive_fit *fit, GError **error)
{
	g_autofree const kvt_drive_point **own = g_new(const kvt_drive_point *, n + 1);
	fitting f = { .points = own };
	for (unsigned i = 0; i < n; i++)
		if (points[i].write == write)
			own[f.n++] = &points[i];
	if (!varied(&f))
		return kvt_error_usage(error,
			"%u points of %s, expected four or more, of several sizes and depths", f.n,
			write ? "writes" : "reads");
	f.guess = guess(&f);
	f.large = large_rate(&f);
	kvt_drive_fit serial;
	double beside = solve(&f, false, fit), in_turn = solve(&f, true, &serial);
	if (in_turn < beside)
		*fit = serial;
	fit->depth = useful_depth(&f);
	fit->transfer = useful_transfer(&f, fit->bandwidth);
	set_tail(&f, fit);
	set_errors(&f, fit);
	return TRUE;
}

const GArray *kvt_calibration_points(const kvt_calibration *c)
{
	return c->drive->len > 0 ? c->drive : c->network;
}

double kvt_calibration_io_cpu(const kvt_calibration *c)
{
	const GArray *points = kvt_calibration_points(c);
	g_autofree double *costs = g_new(double, points->len + 1);
	unsigned n = 0;
	for (unsigned i = 0; i < points->len; i++) {
		const kvt_drive_point *p = &g_array_index(points, kvt_drive_point, i);
		if (!p->write && p->size <= SMALL && p->depth >= 8 && p->cpu > 0)
			costs[n++] = p->cpu;
	}
	return n > 0 ? kvt_measured_of(costs, n).value : 0;
}

double kvt_calibration_waited(const kvt_calibration *c)
{
	const GArray *points = kvt_calibration_points(c);
	g_autofree double *waited = g_new(double, points->len + 1);
	for (unsigned i = 0; i < points->len; i++)
		waited[i] = g_array_index(points, kvt_drive_point, i).waited;
	return points->len > 0 ? kvt_measured_of(waited, points->len).value : 0;
}

double kvt_calibration_dispatch(const kvt_calibration *c)
{
	g_autofree double *beyond = g_new(double, c->attention->len + 1);
	unsigned n = 0;
	for (unsigned i = 0; i < c->attention->len; i++) {
		const kvt_attention_point *p = &g_array_index(c->attention, kvt_attention_point, i);
		if (p->cpu.value < SHORT_CALL)
			beyond[n++] = fmax(p->seconds.low - p->cpu.low, 0);
	}
	return n > 0 ? kvt_measured_of(beyond, n).value : 0;
}

double kvt_calibration_attention_seconds(const kvt_calibration *c, const kvt_attention_point *point)
{
	return point->cpu.value + kvt_calibration_dispatch(c);
}

static double descriptors(const kvt_drive_point *p)
{
	return (double)((p->size - 1) / TRANSFER_MAX + 1);
}

/* Seconds that a read of the tier is waited for, of which nobody works: beyond its processors' work
 * and the network's own time. */
static double idle_time(
	const kvt_calibration *c, const kvt_drive_fit *read, const kvt_remote_fit *f)
{
	g_autofree double *idle = g_new(double, c->remote->len + 1);
	unsigned n = 0;
	for (unsigned i = 0; i < c->remote->len; i++) {
		const kvt_drive_point *p = &g_array_index(c->remote, kvt_drive_point, i);
		if (p->depth > 1)
			continue;
		double s = (double)p->size, work = f->seconds * descriptors(p) + f->per_byte * s;
		double network = s / kvt_drive_fit_rate(read, p->size, 1);
		idle[n++] = s / p->rate.value - fmax(work / c->cores, network);
	}
	return n > 0 ? fmax(kvt_measured_of(idle, n).value, 0) : 0;
}

kvt_remote_fit kvt_remote_fit_points(const kvt_calibration *c, const kvt_drive_fit *read)
{
	kvt_remote_fit fit = { .transfer = TRANSFER_MAX };
	double xx = 0, xy = 0, yy = 0, x1 = 0, y1 = 0;
	g_autofree double *errors = g_new(double, c->remote->len + 1);
	/* least squares of shares: what two terms of the work are of it */
	for (unsigned i = 0; i < c->remote->len; i++) {
		const kvt_drive_point *p = &g_array_index(c->remote, kvt_drive_point, i);
		double x = descriptors(p) / p->busy, y = (double)p->size / p->busy;
		if (!(p->busy > 0))
			continue;
		xx += x * x;
		xy += x * y;
		yy += y * y;
		x1 += x;
		y1 += y;
		fit.points++;
	}
	double determinant = xx * yy - xy * xy;
	if (fit.points < 3 || !(determinant > 0))
		return (kvt_remote_fit){ .transfer = TRANSFER_MAX };
	fit.seconds = fmax((x1 * yy - y1 * xy) / determinant, 0);
	fit.per_byte = fmax((y1 - fit.seconds * xy) / yy, 0);
	for (unsigned i = 0, n = 0; i < c->remote->len; i++) {
		const kvt_drive_point *p = &g_array_index(c->remote, kvt_drive_point, i);
		double work = fit.seconds * descriptors(p) + fit.per_byte * (double)p->size;
		if (p->busy > 0)
			errors[n++] = fabs(work / p->busy - 1);
	}
	kvt_measured error = kvt_measured_of(errors, fit.points);
	fit.error = error.value;
	fit.worst = error.high;
	fit.latency = idle_time(c, read, &fit);
	return fit;
}
