/*
 * calibrate_grid.h: a device by size and depth: a load of every point, again and again, round by
 * round, so that a bad minute of the machine spoils none. What the loads are of is the caller's.
 * For the files of calibration alone.
 */
#ifndef KVT_CALIBRATE_GRID_H
#define KVT_CALIBRATE_GRID_H

#include "emu/calibrate/calibration.h"
#include "sim/core/loop.h"
#include "sim/base/histogram.h"

/* What a steady load showed. */
typedef struct kvt_load_result {
	double rate;   /* bytes/s while all of depth were in flight */
	double cpu;    /* of the loop's thread, an I/O */
	double busy;   /* of all processors of this machine, an I/O; NAN: not measured */
	double waited; /* share of the time that this thread was ready but had no core */
	uint64_t ios;
} kvt_load_result;

/* Counts I/Os of a load: when it has been long enough, and the rate while all were in flight. */
typedef struct kvt_meter {
	unsigned depth;
	unsigned least;          /* I/Os at least */
	double seconds, longest; /* how long it lasts at least, and at most */
	kvt_histogram *latencies;
	uint64_t done, counted;
	kvt_time begun, first, last; /* the load; the first round's end; the last counted */
	bool stopping;
	double cpu, busy, waited; /* when it began */
	uint64_t spun;
} kvt_meter;

/* Begins; the loop is the one that the load runs on. */
void kvt_meter_begin(kvt_meter *meter, kvt_loop *loop);
/* An I/O has ended; true: there is to be another. */
bool kvt_meter_count(kvt_meter *meter, kvt_time now, kvt_time submitted);
/* All have ended. */
void kvt_meter_end(const kvt_meter *meter, kvt_loop *loop, uint64_t size, kvt_load_result *result);

/* I/Os that show a rate: three rounds, and some. */
#define KVT_METER_LEAST(depth) (3 * (depth) + 8)

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
