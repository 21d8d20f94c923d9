/*
 * decision_log.h: what an engine asks of its world, request by request, and in which order the
 * world answers: timers, I/Os, the device's notifications. A log is recorded in one world and
 * followed in another, where answers are held back until their turn has come and every request is
 * compared with the recorded one: so a run in real time, with completions in whatever order the
 * drives had, is decided again in virtual time. It knows no experiment, and times are not in it.
 *
 * A log is text: "kvtier.decisions/1", then a line for each request, in order:
 *   read|write TENANT PRIORITY RUN...    RUN is context:layer:first+pages*bytes
 *   discard TENANT RUN                   ("refused" at the end of a read or write: -EAGAIN)
 *   work STREAM KIND LAYER TOKENS ...    of the device: the other members of kvt_work
 *   notify, timer, cancel LINE
 * and, where a read, write, timer or notification is answered, "> LINE STATUS", the number of the
 * request's line and of a read or write 0 or a negative errno.
 */
#ifndef KVT_DECISION_LOG_H
#define KVT_DECISION_LOG_H

#include <glib.h>

#include "sim/engine/device.h"

typedef struct kvt_decision_log kvt_decision_log;

/* Begins a record. */
kvt_decision_log *kvt_decision_log_new(void);

/* Takes a record to be followed; `name` stands for it in messages. NULL with an error when it is
 * none, or of another version. */
kvt_decision_log *kvt_decision_log_parse(const char *name, const char *text, GError **error);
kvt_decision_log *kvt_decision_log_load(const char *path, GError **error);

void kvt_decision_log_free(kvt_decision_log *log);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_decision_log, kvt_decision_log_free)

/*
 * What an engine is to be given in the place of its world's: once each, the loop first. They belong
 * to the log (freeing or closing them does nothing), which must outlive the engine's run; what is
 * behind them stays its owner's. An engine may not use what is behind them meanwhile. When a tier
 * that is followed to refuses what the recorded one took, the I/O is kept and offered again.
 */
kvt_loop *kvt_decision_log_loop(kvt_decision_log *log, kvt_loop *loop);
kvt_tier *kvt_decision_log_tier(kvt_decision_log *log, kvt_tier *tier);
kvt_device *kvt_decision_log_device(kvt_decision_log *log, kvt_device *device);

/* When the run is over: whether it decided as the record says, all of it. False with an error that
 * names the first line that differs; from there on answers came as they came. Of a record: true. */
gboolean kvt_decision_log_end(const kvt_decision_log *log, GError **error);

/* The text, whose end is behind the last request and answer so far; of a log that is followed, all
 * of it. It stays the log's. */
const char *kvt_decision_log_text(const kvt_decision_log *log);
gboolean kvt_decision_log_write(const kvt_decision_log *log, const char *path, GError **error);

/* Requests, and answers, that were recorded or followed so far. */
typedef struct kvt_decision_counts {
	uint64_t requests, answers, ios;
} kvt_decision_counts;

kvt_decision_counts kvt_decision_log_counts(const kvt_decision_log *log);

#endif
