/* calibrate_grid.c: rounds over points, and the medians of what they showed. */
#include "emu/calibrate_grid.h"

/* What one size and depth showed, a load a round. */
typedef struct samples {
	double rates[KVT_GRID_ROUNDS], cpu[KVT_GRID_ROUNDS], busy[KVT_GRID_ROUNDS];
	double middle[KVT_GRID_ROUNDS], tail[KVT_GRID_ROUNDS], waited[KVT_GRID_ROUNDS];
} samples;

static gboolean measure_once(
	const kvt_grid *grid, kvt_drive_point *point, samples *out, unsigned round, GError **error)
{
	g_autofree kvt_histogram *latencies = g_new(kvt_histogram, 1);
	kvt_load_result result;
	kvt_histogram_init(latencies);
	if (!grid->run(grid->arg, point, round, &result, latencies, error))
		return FALSE;
	out->middle[round] = (double)kvt_histogram_quantile(latencies, 0.5) * 1e-12;
	out->tail[round] = (double)kvt_histogram_quantile(latencies, 0.99) * 1e-12;
	out->rates[round] = result.rate;
	out->cpu[round] = result.cpu;
	out->busy[round] = result.busy * (double)result.ios;
	out->waited[round] = result.waited;
	point->ios += result.ios;
	return TRUE;
}

static void add_point(const kvt_grid *grid, kvt_drive_point *point, samples *in, GArray *to)
{
	unsigned n = grid->rounds;
	double busy = 0;
	/* told in steps that are long beside a load: the sum, and no median */
	for (unsigned i = 0; i < n; i++)
		busy += in->busy[i];
	point->busy = busy / (double)MAX(point->ios, 1);
	point->rate = kvt_measured_of(in->rates, n);
	point->waited = kvt_measured_of(in->waited, n).value;
	point->cpu = kvt_measured_of(in->cpu, n).value;
	point->latency = kvt_measured_of(in->middle, n).value;
	point->latency_p99 = kvt_measured_of(in->tail, n).value;
	g_array_append_val(to, *point);
}

gboolean kvt_grid_measure(const kvt_grid *grid, GArray *points, GArray *to, GError **error)
{
	const kvt_calibrate_settings *settings = grid->settings;
	g_autofree samples *all = g_new0(samples, points->len);
	g_assert(grid->rounds > 0 && grid->rounds <= KVT_GRID_ROUNDS);
	for (unsigned round = 0; round < grid->rounds; round++)
		for (unsigned i = 0; i < points->len; i++) {
			kvt_drive_point *point = &g_array_index(points, kvt_drive_point, i);
			if (settings->progress)
				settings->progress(settings->progress_arg,
					grid->names[point->write], round * points->len + i,
					grid->rounds * points->len);
			if (!measure_once(grid, point, &all[i], round, error))
				return FALSE;
		}
	for (unsigned i = 0; i < points->len; i++)
		add_point(grid, &g_array_index(points, kvt_drive_point, i), &all[i], to);
	return TRUE;
}
