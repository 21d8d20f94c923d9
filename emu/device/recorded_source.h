/*
 * recorded_source.h: a recording as what a replay reads, all of it in memory, so that no file is
 * read while time counts: keys and queries of kv_recording.h, rows of masses of the trace
 * (sim/engine/replay_trace.h).
 */
#ifndef KVT_RECORDED_SOURCE_H
#define KVT_RECORDED_SOURCE_H

#include "emu/device/kv_recording.h"
#include "sim/engine/replay_source.h"

/* Of steps first .. end - 1; rows list at least the pages that a share `budget` of those present
 * grants. The recording must outlive it. NULL with an error when the trace cannot be read. */
kvt_replay_source *kvt_recorded_source_new(const kvt_kv_recording *recording, uint64_t first,
	uint64_t end, double budget, GError **error);
void kvt_recorded_source_free(kvt_replay_source *source);

#endif
