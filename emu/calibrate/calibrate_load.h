/*
 * calibrate_load.h: a steady load on a file: so many I/Os of one size in flight at random places,
 * through the engine that the tiers use. For the files of calibration alone.
 */
#ifndef KVT_CALIBRATE_LOAD_H
#define KVT_CALIBRATE_LOAD_H

#include "emu/calibrate/calibrate_grid.h"
#include "emu/io/io_engine.h"
#include "emu/tier/memory_arena.h"
#include "sim/base/histogram.h"

typedef struct kvt_load_file {
	char *path; /* by which other programs may open it while it is open */
	int fd;
	bool direct;
	uint64_t bytes;
	kvt_arena *arena;
	unsigned char *memory; /* of it, KVT_LOAD_MEMORY: where I/Os read to and write from */
	uint64_t memory_bytes;
	const char *method; /* of the last load */
} kvt_load_file;

enum { KVT_LOAD_MEMORY = 256 << 20 };

/* Pages that compress no better than KV does: random bytes, whole words. */
void kvt_load_fill(unsigned char *memory, uint64_t bytes);

/* A file of that size in the folder, written through, which no listing shows and which is gone when
 * it is closed. */
gboolean kvt_load_open(kvt_load_file *file, const char *folder, uint64_t bytes, GError **error);
void kvt_load_close(kvt_load_file *file);

typedef struct kvt_load {
	uint64_t size; /* whole blocks of 4 KiB */
	unsigned depth;
	double writes;  /* share of the I/Os, 0 to 1 */
	double seconds; /* how long at least */
	uint64_t seed;
} kvt_load;

/* `latencies`, in ps, is added to. */
gboolean kvt_load_run(kvt_load_file *file, const kvt_load *load, kvt_load_result *result,
	kvt_histogram *latencies, GError **error);

#endif
