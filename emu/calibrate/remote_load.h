/*
 * remote_load.h: a steady load of reads on the remote tier itself: where pages lie is asked for,
 * they are read one-sided, and every one is verified, as in a turn. For the files of calibration
 * alone.
 */
#ifndef KVT_REMOTE_LOAD_H
#define KVT_REMOTE_LOAD_H

#include "emu/calibrate/calibrate_grid.h"
#include "emu/fabric/fabric.h"
#include "emu/remote/remote_tier.h"

typedef struct kvt_remote_load kvt_remote_load;

/* Opens a tier and stores pages in it; runs the loop, a real one, not from a callback. `settings`:
 * of the tier. NULL with an error. */
kvt_remote_load *kvt_remote_load_new(
	kvt_loop *loop, kvt_fabric *fabric, const kvt_remote_settings *settings, GError **error);
void kvt_remote_load_free(kvt_remote_load *load);

/* Share of the pages read so far that the node had to bring from its drives. */
double kvt_remote_load_from_drives(const kvt_remote_load *load);

/* Bytes that all in flight may be of together. */
uint64_t kvt_remote_load_memory(const kvt_remote_load *load);

/* Reads of point->size, so many in flight, for `seconds` and `least` of them; `latencies`, in ps,
 * is added to.
 */
gboolean kvt_remote_load_run(kvt_remote_load *load, const kvt_drive_point *point, unsigned least,
	double seconds, kvt_load_result *result, kvt_histogram *latencies, GError **error);

#endif
