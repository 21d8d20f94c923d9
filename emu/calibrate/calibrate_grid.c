/* calibrate_grid.c: rounds over points, and the medians of what they showed. */
#include "emu/calibrate/calibrate_grid.h"

#include "emu/loop/processor_use.h"
#include "emu/loop/real_loop.h"

/* No I/O takes less of a processor, s. */
static const double LEAST_CPU = 1e-7;

static uint64_t spun_so_far(kvt_loop *loop)
{
	kvt_real_loop_stats stats;
	kvt_real_loop_get_stats(loop, &stats);
	return (uint64_t)stats.spinning;
}

void kvt_meter_begin(kvt_meter *meter, kvt_loop *loop)
{
	meter->cpu = kvt_thread_seconds();
	meter->waited = kvt_processor_waited();
	meter->busy = kvt_processors_busy();
	meter->spun = spun_so_far(loop);
	meter->begun = kvt_loop_now(loop);
}

bool kvt_meter_count(kvt_meter *meter, kvt_time now, kvt_time submitted)
{
	meter->done++;
	if (meter->stopping)
		return false;
	kvt_histogram_add(meter->latencies, (uint64_t)(now - submitted));
	if (meter->done == meter->depth)
		meter->first = now;
	else if (meter->done > meter->depth) {
		meter->counted++;
		meter->last = now;
	}
	double lasted = kvt_time_to_seconds(now - meter->begun);
	bool enough = meter->done >= meter->least;
	meter->stopping = (lasted >= meter->seconds && enough) || lasted >= meter->longest;
	return !meter->stopping;
}

void kvt_meter_end(const kvt_meter *meter, kvt_loop *loop, uint64_t size, kvt_load_result *result)
{
	/* spinning is by the clock: where the thread had no core meanwhile it is too much */
	double spun = (double)(spun_so_far(loop) - meter->spun) * 1e-12;
	double lasted = kvt_time_to_seconds(MAX(kvt_loop_now(loop) - meter->begun, 1));
	double n = (double)MAX(meter->done, 1);
	*result = (kvt_load_result){ .ios = meter->done,
		.cpu = MAX((kvt_thread_seconds() - meter->cpu - spun) / n, LEAST_CPU),
		.busy = (kvt_processors_busy() - meter->busy - spun) / n,
		.waited = MIN((kvt_processor_waited() - meter->waited) / lasted, 1) };
	result->rate = (double)meter->counted * (double)size /
		       kvt_time_to_seconds(MAX(meter->last - meter->first, 1));
}

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
