/*
 * upload_internal.h: what the files of the upload tier share: upload_tier.c (operations, I/Os),
 * upload_direct.c (from where pages lie), upload_staged.c (by way of staging), upload_batch.c
 * (copies that the GPU is given) and upload_write.c (pages out of its memory). For these alone.
 */
#ifndef KVT_UPLOAD_INTERNAL_H
#define KVT_UPLOAD_INTERNAL_H

#include "emu/gpu/gpu_watch.h"
#include "emu/gpu/upload_tier.h"
#include "emu/io/class_turns.h"
#include "emu/tier/memory_arena.h"

typedef struct upload_tier upload_tier;
typedef struct upload_io upload_io;

/* Streams: what waits for the first class must not stand behind the copies of others. */
enum {
	UPLOAD_URGENT,
	UPLOAD_PATIENT,
	UPLOAD_STREAMS,
};

/* Batches take the lanes of a stream in turn, so that the end of one, when less than all that
 * copies still does, goes beside the beginning of the next; what they brought is summed beside
 * both. */
enum { UPLOAD_LANES = 2 };
typedef struct upload_stream {
	kvt_gpu_stream *lanes[UPLOAD_LANES], *checks;
	unsigned lane;    /* the next batch's */
	unsigned batches; /* under way */
} upload_stream;

/* Pages of one I/O on their way through staging; pooled. */
typedef struct upload_piece {
	kvt_io read; /* of the inner tier */
	upload_io *io;
	GArray *extents;           /* kvt_extent */
	GArray *staged;            /* void *: where each is read to */
	GArray *homes;             /* void *: and where it goes */
	uint64_t offset, bytes;    /* of the staging area */
	struct upload_piece *next; /* free, or read and to be copied */
} upload_piece;

/* An I/O whose pages come by the GPU; pooled. */
struct upload_io {
	upload_tier *tier;
	kvt_io *io;
	uint64_t bytes;
	unsigned pending; /* pieces or shares of batches under way */
	bool queued;      /* a part of it has not begun */
	bool stale;       /* pages of it were discarded; of one that is staged */
	int status;
	/* the first page that has not begun, in its extent; of one that is staged */
	unsigned extent;
	uint64_t page;
	/* runs (kvt_pinned_run), and the first byte that has not begun, in its run; of others */
	GArray *runs;
	guint run;
	uint64_t byte;
	/* pages to be verified (kvt_pinned_check), the first one that no batch has, in its check,
	 * and bytes before its end; and bytes that batches have */
	GArray *checks;
	guint check;
	uint64_t checked, check_end, begun;
	upload_io *next;          /* in its class's queue, or free */
	upload_io *newer, *older; /* of all that are staged */
};

/* What a page that the GPU sums is compared with. */
typedef struct upload_expected {
	const uint64_t *sum;
	upload_io *io;
} upload_expected;

/* Copies that the GPU was given in one call, and pages that were complete with them; pooled. */
typedef struct upload_batch {
	upload_tier *tier;
	unsigned stream;
	kvt_gpu_event *copied, *event; /* the latter: all of it is over */
	GArray *copies;                /* kvt_gpu_copy */
	GArray *pages, *expected;      /* kvt_cuda_page, upload_expected */
	uint64_t *sums;                /* pinned, of the pages; NULL: the GPU sums nothing */
	uint64_t bytes;
	bool aligned;      /* a kernel can do it */
	int refused;       /* what the call came to */
	GPtrArray *shares; /* upload_io, or with staging upload_piece */
	struct upload_batch *next_free;
} upload_batch;

typedef struct upload_queue {
	upload_io *first, *last;
} upload_queue;

struct upload_tier {
	kvt_tier base;
	kvt_tier_ops ops; /* its own copy: name and flags are the inner tier's */
	kvt_loop *loop;
	kvt_real_gpu *gpu;
	kvt_gpu_watch *watch;
	kvt_tier *inner;
	kvt_upload_settings settings;
	bool direct;
	void *pinned;    /* region of the inner tier or of staging; NULL: none */
	GArray *regions; /* of device memory */
	upload_stream streams[UPLOAD_STREAMS];
	uint64_t *sums; /* pinned, of batches that are summed; NULL: none is */
	upload_queue classes[KVT_PRIORITY_CLASSES];
	kvt_class_turns turns;
	unsigned turn; /* the class whose turn it is, and that staging has no room for;
			  KVT_PRIORITY_CLASSES: none */
	kvt_event pump;
	/* staging */
	kvt_arena *staging;
	uint64_t piece_bytes, staged, staged_low; /* the latter: of all classes but the first */
	upload_piece *ready[UPLOAD_STREAMS];      /* read and to be copied, last one first */
	kvt_event flush;
	upload_io *newest; /* of all that are staged */
	unsigned in_flight;
	kvt_tier_stats stats;
	kvt_upload_counts counts;
	GString *notice, *own_notice;
	upload_io *free_ios;
	upload_piece *free_pieces;
	upload_batch *free_batches;
	GPtrArray *ios, *pieces, *all_batches, *all_passed; /* every one ever made */
	struct passed_io *free_passed;
	GPtrArray *writes; /* of pages in device memory, in flight */
};

static inline unsigned kvt_upload_stream_of(const upload_io *io)
{
	return io->io->priority == 0 ? UPLOAD_URGENT : UPLOAD_PATIENT;
}

/* --- upload_tier.c --- */

/* Back to those that are free. */
void kvt_upload_give_io(upload_io *io);

/* Puts an I/O at the end of its class's queue; takes the first off: all of it has begun. */
void kvt_upload_enqueue(upload_io *io);
void kvt_upload_dequeue(upload_tier *tier, unsigned class);

/* The class whose I/Os come next, of those that may go; KVT_PRIORITY_CLASSES: none. */
unsigned kvt_upload_next_class(upload_tier *tier, unsigned may_go);

/* A piece or a batch's share of an I/O is over. May call its done. */
void kvt_upload_end_part(upload_io *io, int status);

/* Begins what waits: from the loop, not within. */
void kvt_upload_pump_soon(upload_tier *tier);

/* Whether it is device memory that the tier was told of. */
bool kvt_upload_is_device(const upload_tier *tier, const void *memory);

/* --- upload_write.c --- */

/* Submits a write of pages that are, some of them, in device memory. Waits until they are in the
 * host's: they are few, pages that were lost and made again, and written when nobody waits. */
int kvt_upload_write(upload_tier *tier, kvt_io *io, uint64_t bytes);
void kvt_upload_write_free(gpointer write);

/* --- upload_batch.c --- */

upload_batch *kvt_upload_batch_take(upload_tier *tier, unsigned stream);
void kvt_upload_batch_add(upload_batch *batch, void *to, const void *from, uint64_t bytes);
/* A page that is there when the batch's copies are, or was before, to be compared. */
void kvt_upload_batch_check(
	upload_batch *batch, upload_io *io, const void *page, uint64_t bytes, const uint64_t *sum);
/* Bytes that should still go in; 0: it is full. And whether a page may that is to be compared. */
uint64_t kvt_upload_batch_room(const upload_batch *batch);
bool kvt_upload_batch_room_for_page(const upload_batch *batch);
/* Bytes of sums of all batches that may be under way at once. */
uint64_t kvt_upload_sums_bytes(void);
/* Whether the GPU has enough to do with what that stream was given. */
bool kvt_upload_stream_busy(const upload_tier *tier, unsigned stream);
/* Gives the batch to the GPU; its shares end on the loop, not within. */
void kvt_upload_batch_send(upload_batch *batch);
void kvt_upload_batch_free(gpointer batch);

/* --- upload_direct.c and upload_staged.c --- */

/* 0: the I/O is on its way. Else as submit. */
int kvt_upload_direct_begin(upload_io *io);
int kvt_upload_staged_begin(upload_io *io);

/* Begins as much as may be under way. */
void kvt_upload_direct_pump(upload_tier *tier);
void kvt_upload_staged_pump(upload_tier *tier);

/* All parts of the I/O are over: sees to its done. */
void kvt_upload_direct_end(upload_io *io);
void kvt_upload_staged_end(upload_io *io);

/* A piece was copied, or failed: gives back its part of staging. */
void kvt_upload_piece_end(upload_piece *piece, int status);
void kvt_upload_piece_free(gpointer piece);

#endif
