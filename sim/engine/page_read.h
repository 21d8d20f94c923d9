/*
 * page_read.h: reads a run of pages of one layer, and finds out which of them storage does not
 * deliver. A tier says of a whole I/O that it failed, so what failed is read again by halves until
 * the pages themselves are known. It makes no page again (recompute.h does) and decides nothing.
 */
#ifndef KVT_PAGE_READ_H
#define KVT_PAGE_READ_H

#include "sim/engine/forward_pass.h"

/* Why a page is lost. */
typedef enum kvt_loss {
	KVT_LOSS_MISSING, /* -ENOENT: the tier has forgotten it */
	KVT_LOSS_FAILED,  /* -EIO */
	KVT_LOSS_CORRUPT, /* -EBADMSG: its checksum is wrong */
	KVT_LOSSES,
} kvt_loss;

/* "missing", "failed", "corrupt", in that order. */
extern const char *const kvt_loss_names[KVT_LOSSES];

/* Why an I/O that ended so was; false: it is no loss. */
bool kvt_loss_of(int status, kvt_loss *loss);

/* Pages that were lost for one reason. */
typedef struct kvt_lost_run {
	uint64_t first_page, n_pages;
	kvt_loss loss;
} kvt_lost_run;

typedef struct kvt_page_read kvt_page_read;

/* A part of the run that is read; the read's own. */
typedef struct kvt_page_read_part {
	kvt_page_read *owner;
	kvt_extent extent;
	void *memory;
	kvt_extent_list chosen;
	kvt_io io;
} kvt_page_read_part;

/* One read; may be used again when it is over. Zero but for what the caller sets. */
struct kvt_page_read {
	/* the caller's */
	kvt_engine *engine;
	const kvt_page_choice *choice; /* the run is of held pages of a choice; NULL: of pages */
	kvt_extent extent;             /* the run */
	void *memory;                  /* of the run; NULL: nowhere */
	unsigned priority;
	unsigned patience; /* see below; 0: a failed read is not looked into */
	void (*done)(kvt_page_read *read);
	void *arg;
	/* how it ended. Status: 0 also when pages were lost, or the negative errno of what is no
	 * loss, or of any failure without patience. */
	int status;
	kvt_time submitted;
	uint64_t bytes;      /* that came */
	uint64_t rereads;    /* I/Os after the first */
	uint64_t lost_pages; /* of `lost`, all runs */
	GArray *lost;        /* kvt_lost_run, rising; NULL: none so far */
	/* the read's own */
	kvt_page_read_part parts[2];
	unsigned pending;
	bool split;
	/* runs that failed: to be looked into later; of the one that is, halves of this level and
	 * of the next one, and single pages */
	GArray *later, *level, *next, *pages;
	kvt_lost_run whole; /* the one that is */
	guint at;           /* in `level` */
	unsigned depth;     /* how often it was halved */
	bool came;          /* any part of it */
	kvt_loss loss;      /* of what is read again */
};

/*
 * Submits it, now or, when the tier is full, a little later; done is called on the loop.
 *
 * A run that fails is read as two halves, and each of them that fails again, so k bad pages of n
 * cost about 2 k log2 n reads. When that has been done `patience` times and nothing came of any
 * part, the run is taken for lost as it is, after 2^(patience + 1) - 1 reads; else what failed is
 * gone on with in the same way, each part by itself.
 */
void kvt_page_read_start(kvt_page_read *read);

/* Frees what it holds; not while it is under way. */
void kvt_page_read_clear(kvt_page_read *read);

#endif
