/*
 * calibrate_grid.h: a device by size and depth: a load of every point, again and again, round by
 * round, so that a bad minute of the machine spoils none. What the loads are of is the caller's.
 * For the files of calibration alone.
 */
#ifndef KVT_CALIBRATE_GRID_H
#define KVT_CALIBRATE_GRID_H

#include "emu/calibration.h"
#include "sim/base/histogram.h"

/* What a steady load showed. */
typedef struct kvt_load_result {
	double rate;   /* bytes/s while all of depth were in flight */
	double cpu;    /* of the loop's thread, an I/O */
	double busy;   /* of all processors of this machine, an I/O; NAN: not measured */
	double waited; /* share of the time that this thread was ready but had no core */
	uint64_t ios;
} kvt_load_result;

enum { KVT_GRID_ROUNDS = 5 };

typedef struct kvt_grid {
	const kvt_calibrate_settings *settings;
	const char *names[2]; /* of reads and writes, for progress */
	unsigned rounds;      /* at most KVT_GRID_ROUNDS */
	/* One load of the point; latencies, in ps, are added. */
	gboolean (*run)(void *arg, const kvt_drive_point *point, unsigned round,
		kvt_load_result *result, kvt_histogram *latencies, GError **error);
	void *arg;
} kvt_grid;

/* Measures `points` (kvt_drive_point: write, size, depth) and appends them to `to`. */
gboolean kvt_grid_measure(const kvt_grid *grid, GArray *points, GArray *to, GError **error);

#endif
