/*
 * store.h: the page store, a directory or a block device of append-only segments that keeps KV
 * pages over restarts, kill -9 and power cuts. It knows which page lies where, gives out room,
 * recovers, evicts and checks; the page data is moved by its users (io_uring, pread) at the places
 * it names.
 *
 * A record is one run of pages: a header of whole 4 KiB blocks with the run's identity, generation
 * and a checksum for each page, and after it the pages one after another, padded to 4 KiB. So
 * neighbours written together are read with one aligned read.
 *
 *   write: kvt_store_reserve -> the caller fills ticket->checksums, makes the header with
 *          kvt_store_ticket_header, writes header and pages, syncs if it wants durability ->
 *          kvt_store_publish (all pages of the run can be found, at once) or kvt_store_abandon
 *   read:  kvt_store_find -> pieces; the caller reads them, compares kvt_store_checksum of each
 *          page with piece->checksums -> kvt_store_corrupt for a page that is wrong ->
 *          kvt_store_release
 *
 * Promises, whatever the moment of a kill -9 or (with sync = data) of a power cut:
 * - What is found was written whole, and is the newest version that was published. A page that was
 *   discarded or overwritten does not come back.
 * - What was published after a sync is still there, until it is evicted or discarded.
 * - With sync = none nothing survives a power cut: the store notices and begins empty, since older
 *   pages could otherwise stand in for lost newer ones. kill -9 loses nothing published even so.
 *   A drive that goes away while the machine goes on, as one over a fabric may, takes with it what
 *   was not synced, and nothing tells: such a store is created with sync = data.
 * - A reserve that does not fit is -ENOSPC and changes nothing; files never take more than
 * capacity.
 *
 * Every function may be called from any thread; what a ticket or a piece points at belongs to the
 * store. Errors of set-up are GErrors, the others negative errnos.
 */
#ifndef KVT_STORE_H
#define KVT_STORE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "emu/store/store_io.h"
#include "sim/tier/tier.h"

/* Files, records and pages are read and written in multiples of this, at multiples of this. */
#define KVT_STORE_BLOCK 4096u

/* Longest run of one record, pages. */
#define KVT_STORE_RUN_PAGES (1u << 20)

typedef struct kvt_store kvt_store;

/* Whose pages, and which: `pages` is a run of one layer of one context. */
typedef struct kvt_store_run {
	uint64_t model; /* what the bytes mean: a hash of model, precision and layout */
	uint32_t tenant;
	kvt_extent pages;
} kvt_store_run;

typedef enum kvt_store_sync {
	KVT_STORE_SYNC_NONE, /* survives kill -9 */
	KVT_STORE_SYNC_DATA, /* survives a power cut: users sync what they write before they publish
			      */
} kvt_store_sync;

/* "none", "data", NULL: a word's index is its kvt_store_sync. */
extern const char *const kvt_store_sync_names[];

/* What a store is created with. */
typedef struct kvt_store_shape {
	uint64_t capacity;      /* bytes that the files may take together; 0: all of the device */
	uint64_t segment_bytes; /* of one file, rounded down to blocks; 0: capacity / 256, within
				   1 MiB to 16 GiB. What is evicted is evicted by segments. The
				   capacity must hold at least four. */
	kvt_store_sync sync;
	uint64_t key; /* seeds all checksums of the store's own blocks; 0: a random one */
} kvt_store_shape;

/* One segment, for eviction and for people. */
typedef struct kvt_store_segment {
	uint64_t number;                      /* in order of creation; never used twice */
	uint32_t slot;                        /* below kvt_store_slots(); see kvt_store_piece */
	uint64_t bytes;                       /* that its file takes */
	uint64_t pages, page_bytes;           /* that were published in it, in all */
	uint64_t live_pages, live_page_bytes; /* of these, that can be found */
	uint64_t newest_use;                  /* the store's count of finds when one last met it */
	unsigned readers, writers;            /* pieces and tickets that hold it */
	bool sealed;                          /* takes no more records */
	bool draining;                        /* evicted; goes when its readers do */
	bool damaged;                         /* its index was wrong: records were read instead */
} kvt_store_segment;

typedef struct kvt_store_settings {
	bool read_only;
	bool direct; /* O_DIRECT, where the file system has it */
	/* To create: what is on the device may go. */
	bool overwrite;
	/* Whether a reserve that finds the store full evicts: no (-ENOSPC; kvt_store_gc makes room
	 * of what was discarded), or a segment without readers and writers. */
	bool evict;
	/* A thread of the store's makes the next segment before it is needed, and writes the
	 * indexes of full ones: reserve and publish wait for neither. It calls nothing of what is
	 * below but `io`. */
	bool ahead;
	/* Chooses among `n` segments that could go, oldest first; n or more: none. NULL: oldest. */
	unsigned (*choose)(void *arg, const kvt_store_segment *segments, unsigned n);
	/* A file descriptor has come into use, or goes out of use (fd -1): for io_uring's table of
	 * files. Called with the store locked. May be NULL. */
	void (*slot_changed)(void *arg, uint32_t slot, int fd);
	/* Lines for people, without an end of line: what was lost, why it is read-only. May be
	 * NULL. */
	void (*notice)(void *arg, const char *line);
	void *arg;
	const kvt_store_io *io; /* NULL: the system's */
	const char *boot;       /* which boot of the machine this is; NULL: ask the system */
} kvt_store_settings;

/*
 * Makes `path` a store: a directory that is new or empty, or a block device (or a file that stands
 * for one) that nobody has open. A device with anything but zeros in its first or last MiB is an
 * error, unless settings->overwrite says that it may go.
 */
gboolean kvt_store_create(const char *path, const kvt_store_shape *shape,
	const kvt_store_settings *settings, GError **error);

/* Whether there is a store at `path`, damaged or not. */
bool kvt_store_exists(const char *path);

/*
 * Opens the store and recovers its index: sealed segments by their index (pages are verified when
 * they are read), others by reading them whole. `settings` may be NULL. A store that another
 * process has open is an error. A directory that cannot be written is opened read-only, with a
 * notice; so is a store whose files begin to fail while it is open.
 */
kvt_store *kvt_store_open(const char *path, const kvt_store_settings *settings, GError **error);

/* Makes everything durable, marks the store as closed well, and frees it. No ticket or piece may be
 * held. False when that could not be written: the store then recovers as after a kill -9. */
gboolean kvt_store_close(kvt_store *store, GError **error);

/* Frees the store and closes its files without another write, as a kill would. */
void kvt_store_drop(kvt_store *store);

/* --- Writing --- */

/* Room for one record, from reserve to publish or abandon. */
typedef struct kvt_store_ticket {
	int fd;
	uint32_t slot;
	uint64_t offset;       /* of the header in the file; the pages follow it */
	uint64_t header_bytes; /* multiples of KVT_STORE_BLOCK */
	uint64_t payload_bytes;
	uint64_t generation;
	uint64_t *checksums; /* [n_pages], for the caller to fill */
	void *record;        /* the store's own */
} kvt_store_ticket;

/* xxh3 of one page. */
uint64_t kvt_store_checksum(const void *page, uint64_t page_bytes);

/* The same for n pages one after another. */
void kvt_store_checksums(const void *pages, uint64_t page_bytes, uint64_t n, uint64_t *checksums);

/* Longest run with pages of that size that one record can hold; 0: not even one page. */
uint64_t kvt_store_run_limit(const kvt_store *store, uint64_t page_bytes);

/* Bytes of a file that a record of the run takes, the index of its segment included. */
uint64_t kvt_store_run_cost(const kvt_store_run *run);

/*
 * 0: the ticket's room is the caller's. -ENOSPC: no room, by capacity, by the file system, or in
 * the journal, when very many single pages were overwritten or discarded (kvt_store_gc helps here
 * too); -E2BIG: longer than kvt_store_run_limit; -EINVAL: no run, or the layer has other page
 * sizes; -EROFS: read-only; others: a new segment could not be made. On error nothing has changed,
 * but that a full store may have evicted where settings.evict says so. Of two versions of a page
 * the one reserved later wins, whichever is published first.
 */
int kvt_store_reserve(kvt_store *store, const kvt_store_run *run, kvt_store_ticket *ticket);

/* Writes the record's header to `header` (header_bytes): the checksums must be there. */
void kvt_store_ticket_header(const kvt_store *store, const kvt_store_ticket *ticket, void *header);

/*
 * Makes the run's pages findable; header and pages must have been written and, where it is to be
 * durable, synced (kvt_store_sync_ticket, or the caller's own fdatasync of ticket->fd). Pages of
 * which a version that was reserved later is there already stay as they are; -ESTALE: all of them.
 * Other errors: an older version could not be revoked on disk, which comes first; nothing of the
 * run is published, and the older version may be lost at the next opening. Whatever it returns, the
 * ticket has ended.
 */
int kvt_store_publish(kvt_store *store, kvt_store_ticket *ticket);

/* Gives the room up: for writes that failed. No write to it may be in flight. */
void kvt_store_abandon(kvt_store *store, kvt_store_ticket *ticket);

/* fdatasync of the file that the ticket is in. */
int kvt_store_sync_ticket(kvt_store *store, const kvt_store_ticket *ticket);

/* All of it, with pwrite: reserve, checksums, header, pages (page_bytes each, one after another, at
 * any address), sync when the store's shape says so, publish. */
int kvt_store_put(kvt_store *store, const kvt_store_run *run, const void *pages);

/* --- Reading --- */

/* Pages of one record that lie one after another; holds its segment until it is released. */
typedef struct kvt_store_piece {
	int fd;
	uint32_t slot;   /* small number of the file, the same as long as the file is open */
	uint64_t offset; /* of the first page in the file: a multiple of KVT_STORE_BLOCK only when
			    page_bytes and first_page make it one. Pages of one record have
			    no gap between them, so that reads may be widened to blocks. */
	uint64_t first_page, n_pages, page_bytes;
	uint64_t generation;
	const uint64_t *checksums; /* [n_pages] */
	void *record;              /* the store's own */
} kvt_store_piece;

/* The pieces that the run lies in, in page order. 0: all of the run is there and *n pieces are
 * held. -ENOENT: a page is missing, or pages are of another size; -E2BIG: more than `max` pieces.
 * On error nothing is held. */
int kvt_store_find(kvt_store *store, const kvt_store_run *run, kvt_store_piece *pieces,
	unsigned max, unsigned *n);

/* Ends the hold. Evicted segments go when nothing holds them. */
void kvt_store_release(kvt_store *store, const kvt_store_piece *pieces, unsigned n);

/* Whether every page of the pieces is what a find would still give: false after a discard, an
 * eviction or a newer version. */
bool kvt_store_current(kvt_store *store, const kvt_store_piece *pieces, unsigned n);

/* Counts a page that was not what its checksum says and forgets it for good: -EBADMSG. */
int kvt_store_corrupt(kvt_store *store, const kvt_store_piece *piece, uint64_t page);

/* Whether all of the run is there; how many of its pages are there one after another from the
 * first; and how many in all. */
bool kvt_store_holds(kvt_store *store, const kvt_store_run *run);
uint64_t kvt_store_prefix(kvt_store *store, const kvt_store_run *run);
uint64_t kvt_store_count(kvt_store *store, const kvt_store_run *run);

/* find, pread, verify: the run's pages one after another. -ENOENT as find, -EBADMSG for a page
 * whose checksum is wrong (it has been forgotten), -EIO and others as pread. */
int kvt_store_get(kvt_store *store, const kvt_store_run *run, void *pages);

/* --- Room --- */

/*
 * Forgets what is there of the runs, for good: with sync = data that is durable on return. *pages
 * (may be NULL) is the number forgotten. 0, or the errno for which that could not be written down;
 * the pages cannot be found even so, and the segments that hold them are given up, so that they do
 * not come back. -EROFS: forgotten until the store is opened again.
 */
int kvt_store_discard(kvt_store *store, const kvt_store_run *runs, unsigned n, uint64_t *pages);

/* Forgets every page of a segment and removes its file once nothing holds it. Returns false when
 * there is no such segment or it has writers. */
bool kvt_store_evict(kvt_store *store, uint64_t number);

/*
 * Makes room of what was discarded or overwritten: moves what lives in the emptiest sealed segments
 * together and removes their files, until `wanted` bytes can be reserved (0: as long as it frees a
 * tenth of what it moves). *freed (may be NULL) gets the bytes. 0 or a negative errno; -ENOSPC when
 * that is not to be had.
 */
int kvt_store_gc(kvt_store *store, uint64_t wanted, uint64_t *freed);

/* Seals the segment that takes records, so that the next opening need not read it. */
int kvt_store_seal(kvt_store *store);

/* --- What it is --- */

typedef struct kvt_store_info {
	kvt_store_shape shape;
	bool read_only, direct;
	uint64_t used; /* bytes that the files take */
	uint64_t free; /* bytes that reserves can have without eviction or gc, at least */
	uint64_t segments, sealed, draining, damaged;
	uint64_t streams;           /* layers of contexts */
	uint64_t records, runs;     /* on disk; findable pieces */
	uint64_t pages, page_bytes; /* findable */
	uint64_t dead_page_bytes;   /* published, and overwritten or discarded since */
	uint64_t generation;        /* of the next record */
	uint64_t memory;            /* bytes of the index, about */
	uint64_t readers, writers;  /* pieces and tickets held now */
	/* since it was opened */
	uint64_t published_pages, published_bytes, found_pages, missed_finds, corrupt_pages;
	uint64_t discarded_pages, evicted_segments, evicted_pages, moved_pages, abandoned;
	/* by the recovery at opening */
	uint64_t recovered_records, rejected_records, scanned_bytes, indexed_segments;
	uint64_t scanned_segments, lost_segments;
} kvt_store_info;

void kvt_store_info_get(kvt_store *store, kvt_store_info *info);

/* Calls `run` for each run of findable pages of a model, of each layer in page order; the store is
 * locked meanwhile. */
void kvt_store_each(kvt_store *store, uint64_t model,
	void (*run)(void *arg, const kvt_store_run *run), void *arg);

/* Models that pages are there of, ascending: fills at most `max` and returns how many there are. */
unsigned kvt_store_models(kvt_store *store, uint64_t *models, unsigned max);

/* Segments in order of creation: fills at most `max` and returns how many there are. */
unsigned kvt_store_segments(kvt_store *store, kvt_store_segment *segments, unsigned max);

/* Slots are numbered below this. */
uint32_t kvt_store_slots(const kvt_store *store);

/* What a check found. */
typedef struct kvt_store_report {
	uint64_t segments, records, pages, bytes;
	uint64_t bad_segments; /* index or header is wrong, or the file is missing or short */
	uint64_t bad_records;  /* header is wrong or not the one in the index */
	uint64_t bad_pages;    /* checksum is wrong, or they cannot be read */
	uint64_t torn_records; /* that were being written when the store was last left */
} kvt_store_report;

/* Reads everything and compares; `problem` (may be NULL) gets a line for each thing that is wrong.
 * Nothing is changed. False with an error only when it could not go on. */
gboolean kvt_store_check(kvt_store *store, kvt_store_report *report,
	void (*problem)(void *arg, const char *line), void *arg, GError **error);

#endif
