/*
 * sweep_record.h: what is known of a point once it has run, as bytes: the same ones in the journal
 * of a sweep and in the messages between ranks. A frame is
 *
 *   uint32 bytes of payload (a multiple of 8), uint32 kind, uint64 checksum (XXH3 of kind, payload)
 *   payload
 *
 * all little-endian. The names of figures are a frame of their own, and are sent once.
 */
#ifndef KVT_SWEEP_RECORD_H
#define KVT_SWEEP_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/sweep/sweep_metrics.h"

typedef enum kvt_sweep_frame_kind {
	KVT_SWEEP_FRAME_HEADER = 1, /* of a journal: which sweep it is of */
	KVT_SWEEP_FRAME_NAMES,      /* of figures: text */
	KVT_SWEEP_FRAME_DONE,       /* a point that ran: its figures */
	KVT_SWEEP_FRAME_FAILED,     /* one that failed: why */
} kvt_sweep_frame_kind;

enum { KVT_SWEEP_FRAME_OVERHEAD = 16 };

/* One frame that was read; pointers go into the bytes it was read from. */
typedef struct kvt_sweep_frame {
	kvt_sweep_frame_kind kind;
	uint64_t bytes; /* with its overhead */
	/* of NAMES (id is that of its text), DONE (the names' id) and FAILED */
	uint64_t id;
	const char *text;
	uint64_t text_bytes;
	/* of DONE and FAILED */
	uint64_t point;
	double seconds; /* that it took */
	uint32_t worker;
	const double *values;
	uint64_t n_values;
} kvt_sweep_frame;

/* The id of a list of names. */
uint64_t kvt_sweep_names_id(const char *names, size_t length);

/* Append a frame. The text of a header is what identifies the sweep. */
void kvt_sweep_append_text(
	GByteArray *out, kvt_sweep_frame_kind kind, const char *text, size_t length);
void kvt_sweep_append_done(GByteArray *out, uint64_t point, double seconds, uint32_t worker,
	const kvt_sweep_metrics *metrics);
void kvt_sweep_append_failed(
	GByteArray *out, uint64_t point, double seconds, uint32_t worker, const char *message);

/* Reads the frame at the beginning of `size` bytes, which are 8-byte aligned. False when there is
 * no whole and undamaged one. */
bool kvt_sweep_frame_read(const void *bytes, uint64_t size, kvt_sweep_frame *frame);

#endif
