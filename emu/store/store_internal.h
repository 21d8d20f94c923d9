/*
 * store_internal.h: what the files of the page store share: its index of layers and records, its
 * segments and journal. Not for users of the store (store.h). All of it is under the store's lock.
 */
#ifndef KVT_STORE_INTERNAL_H
#define KVT_STORE_INTERNAL_H

#include <pthread.h>

#include "emu/store/store.h"
#include "emu/store/store_device.h"
#include "emu/store/store_format.h"
#include "emu/store/store_spans.h"

/* Blocks of KVT_STORE_FILE: the superblock twice, then the mark. */
enum { KVT_STORE_SUPER_BLOCKS = 2, KVT_STORE_FILE_BLOCKS = 3 };

/* What a file is called while it is being made. */
#define KVT_STORE_NEW ".new"

typedef struct kvt_store_file kvt_store_file; /* a segment: below */

/* A layer of a context: whose pages are looked up together. It is there as long as a record of it
 * is on disk, dead or alive: until then its floors are needed. */
typedef struct kvt_store_stream {
	/* the key: no bytes between */
	uint64_t model;
	uint32_t tenant, context, layer, padding;
	kvt_store_spans live;   /* page -> record */
	kvt_store_spans floors; /* page -> older generations of it are void */
	kvt_store_spans kept;   /* while floors are pruned */
	uint64_t page_bytes;    /* of live pages and of writes in flight */
	uint64_t live_pages;
	unsigned records, writers;
} kvt_store_stream;

/* Bytes of a stream that are its key. */
#define KVT_STORE_STREAM_KEY offsetof(kvt_store_stream, live)

/* A run as it lies in a segment; there as long as the segment is. */
typedef struct kvt_store_record {
	kvt_store_stream *stream;
	kvt_store_file *file;
	uint64_t offset, header_bytes;
	uint64_t first_page, n_pages, page_bytes;
	uint64_t generation;
	uint64_t live_pages;
	bool published;
	uint64_t checksums[];
} kvt_store_record;

/* A segment. One takes records until it is full; it is sealed when its writers are done. */
struct kvt_store_file {
	uint64_t number;
	uint32_t slot;
	int fd;
	uint64_t base;        /* where it begins for users of fd */
	uint64_t bytes;       /* of the file, as counted against the capacity */
	uint64_t used;        /* where the next record goes */
	uint64_t index_bytes; /* that its records' parts of the index take */
	GPtrArray *records;   /* in order of their offsets */
	uint64_t pages, page_bytes, live_pages, live_page_bytes;
	uint64_t newest_use;
	unsigned readers, writers;
	bool closed;    /* takes no more records */
	bool sealed;    /* closed, and its index is written */
	bool sealing;   /* its index is being written by the store's thread, which reads it */
	bool draining;  /* nothing of it can be found; goes with its readers */
	bool condemned; /* to be evicted when its writers are done */
	bool untold;    /* the journal does not say that it has been removed */
	bool damaged;
};

/* Of store_ahead.c. */
typedef struct kvt_store_ahead kvt_store_ahead;

typedef struct kvt_store_journal_file {
	int fd;
	uint64_t bytes;    /* written; blocks come in pairs */
	uint64_t sequence; /* of the next pair */
} kvt_store_journal_file;

struct kvt_store {
	pthread_mutex_t lock; /* not a GMutex, which ThreadSanitizer does not see */
	char *path;
	kvt_store_device *device; /* what it is on; NULL: a directory */
	int dir, file; /* the directory, and KVT_STORE_FILE, whose lock keeps others out */
	kvt_store_shape shape;
	kvt_store_settings settings;
	const kvt_store_io *io;
	char boot[KVT_STORE_BOOT_LENGTH];
	bool read_only, direct;
	GHashTable *streams;
	GPtrArray *segments; /* kvt_store_file, by number; draining ones too */
	kvt_store_file **slots;
	uint32_t n_slots;
	kvt_store_file *active;    /* takes records; or NULL */
	kvt_store_file *resumable; /* sealed with much room, may be opened again; or NULL */
	kvt_store_journal_file journal;
	uint64_t next_number, generation;
	uint64_t finds; /* a clock */
	uint64_t used;  /* bytes of the segments' files, and of those that could not be removed */
	bool gathering; /* a gc is on its way */
	bool unsettled; /* segments are to be settled, which the store's thread left to others */
	kvt_store_ahead *ahead; /* the store's thread; or NULL */
	uint64_t floors;        /* of all streams */
	bool records_went;      /* since floors were pruned */
	kvt_store_info count;   /* counters alone */
};

static inline uint64_t kvt_store_end(const kvt_store_record *record)
{
	return record->first_page + record->n_pages;
}

/* A buffer of whole blocks, fit for O_DIRECT; free frees it, g_free does not. The other one is
 * zeroed. */
void *kvt_store_buffer_new(uint64_t size);
void *kvt_store_buffer_new0(uint64_t size);

/* A line for people. */
void kvt_store_notice(const kvt_store *store, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* From now on nothing is written; says why, once. */
void kvt_store_make_read_only(kvt_store *store, const char *what, int status);

/* Which boot of the machine has the store open, "": none; for a power cut to be known by. */
int kvt_store_write_mark(kvt_store *store, const char *boot);

/* --- store_index.c: layers and records --- */

GHashTable *kvt_store_streams_new(void);
kvt_store_stream *kvt_store_stream_find(kvt_store *store, const kvt_store_run *run);
kvt_store_stream *kvt_store_stream_get(kvt_store *store, const kvt_store_run *run);

/* A record of the stream in the segment, not published; takes part of their counts. */
kvt_store_record *kvt_store_record_new(kvt_store *store, kvt_store_file *file,
	const kvt_store_run *run, uint64_t offset, uint64_t generation);

/* Takes it from its stream, which goes with its last record, and frees it. */
void kvt_store_record_free(kvt_store *store, kvt_store_record *record);

/* What publishing the record would void: adds a KVT_STORE_ENTRY_FLOOR for each span of pages of
 * which there is another version. Returns the pages of the record that would become findable. */
uint64_t kvt_store_index_floors(const kvt_store_record *record, GArray *entries);

/* Makes findable what is newest of the record. */
void kvt_store_index_add(kvt_store *store, kvt_store_record *record);

/* Forgets what is findable of [first, end) of the stream, of one record (NULL: any). */
uint64_t kvt_store_index_remove(kvt_store *store, kvt_store_stream *stream, uint64_t first,
	uint64_t end, const kvt_store_record *only);

/* Raises the floors of streams that there are. */
void kvt_store_index_apply(kvt_store *store, const kvt_store_entry *entries, unsigned n);

void kvt_store_record_header(const kvt_store_record *record, kvt_store_header *header);
kvt_store_entry kvt_store_floor_entry(
	const kvt_store_stream *stream, uint64_t first, uint64_t end, uint64_t generation);

/* Bytes of memory that the index takes, about. */
uint64_t kvt_store_index_memory(const kvt_store *store);

/* --- store_journal.c: what is void and which segments there are, on disk --- */

/* Bytes that are set aside for it out of the capacity. */
uint64_t kvt_store_journal_room(const kvt_store_shape *shape);

/* Entries that a new journal may begin with. */
uint64_t kvt_store_journal_entries(const kvt_store_shape *shape);

/* Writes the entries; durable on return where the store's shape says so. */
int kvt_store_journal_append(kvt_store *store, const kvt_store_entry *entries, unsigned n);

/* Begins a new journal with what is needed of it, in place of the old one. */
int kvt_store_journal_renew(kvt_store *store);

/* Reads it: calls `entry` for each in order, and sets the store's next number and generation. 0;
 * -EBADMSG: damaged before its end, or not there. */
int kvt_store_journal_read(
	kvt_store *store, void (*entry)(void *arg, const kvt_store_entry *entry), void *arg);

/* --- store_floors.c --- */

/* Drops the floors that void no record on disk. */
void kvt_store_floors_prune(kvt_store *store);

/* Whether there are so many that only gc can help. */
bool kvt_store_floors_press(kvt_store *store);

/* Before a record is reserved: evicts where the settings allow it. 0 or -ENOSPC. */
int kvt_store_floors_make_room(kvt_store *store);

/* --- store_segment.c --- */

char *kvt_store_segment_name(uint64_t number);

/* A segment as an object, without a file; kvt_store_segment_free is its end. */
kvt_store_file *kvt_store_segment_new(kvt_store *store, uint64_t number, int fd);
void kvt_store_segment_free(kvt_store *store, kvt_store_file *file);

/* Opens a segment's file; falls back to no O_DIRECT for all where that is refused. */
int kvt_store_segment_open_file(kvt_store *store, const char *name, int flags);

/* What a segment of so many bytes counts against the capacity: on a device it has its place
 * whole. */
uint64_t kvt_store_segment_charge(const kvt_store *store, uint64_t bytes);

/* Whether a record of the run fits behind what is in the segment. */
bool kvt_store_segment_has_room(
	const kvt_store *store, const kvt_store_file *file, const kvt_store_run *run);

/* Bytes of the segments that could be made beside those that there are, and the one that is kept
 * for gc. */
uint64_t kvt_store_segment_room(const kvt_store *store);

/* Makes a segment with room for the run the active one; the old one is closed. `spare`: may take
 * the room that is kept for gc. On error nothing has changed. */
int kvt_store_segment_start(kvt_store *store, const kvt_store_run *run, bool spare);

/* The segment takes no more records: it is sealed as soon as it has no writers. */
void kvt_store_segment_close(kvt_store *store, kvt_store_file *file);

/* To be called when a writer or a reader is done with the segment, or pages of it died. */
void kvt_store_segment_settle(kvt_store *store, kvt_store_file *file);

/* Forgets its pages, and removes it when its readers are done. It has no writers. */
void kvt_store_segment_evict(kvt_store *store, kvt_store_file *file);

/* Evicts one by the settings' choice; false: none could go. */
bool kvt_store_segment_evict_one(kvt_store *store);

void kvt_store_segment_describe(const kvt_store_file *file, kvt_store_segment *to);

/* Opens, allocates and begins a segment's file, durably where the store is to be; the journal does
 * not know of it yet. Needs no lock. A descriptor, or a negative errno and no file. */
int kvt_store_segment_make_file(const kvt_store *store, uint64_t number, int flags);
int kvt_store_segment_remove_file(const kvt_store *store, uint64_t number);

/* The index of a closed segment and the trailer, to be written behind its records, where the file
 * is cut. */
typedef struct kvt_store_seal_work {
	int fd;
	uint64_t at, size;
	uint8_t *blocks;
} kvt_store_seal_work;

void kvt_store_seal_begin(
	const kvt_store *store, const kvt_store_file *file, kvt_store_seal_work *work);
/* Needs no lock, but a hold on the segment; ends the work. */
int kvt_store_seal_write(const kvt_store *store, kvt_store_seal_work *work);
/* That succeeded: the segment is sealed. */
void kvt_store_seal_end(kvt_store *store, kvt_store_file *file, const kvt_store_seal_work *work);

/* --- store_ahead.c: segments made before they are needed. With the lock held but for start, stop.
 */

void kvt_store_ahead_start(kvt_store *store);
/* Ends the thread. `keep`: after what it has to do, and without a segment that nobody needed. */
void kvt_store_ahead_stop(kvt_store *store, bool keep);
/* Something has been reserved: it may be time. */
void kvt_store_ahead_want(kvt_store *store);
/* The next segment's file, which has been counted as used; false: there is none. May wait. */
bool kvt_store_ahead_take(kvt_store *store, uint64_t *number, int *fd);
/* Bytes used by a segment that is there, or nearly, for the next take. */
uint64_t kvt_store_ahead_bytes(const kvt_store *store);
/* Waits until nothing is being sealed. */
void kvt_store_ahead_flush(kvt_store *store);
/* False: there is no thread, and the caller seals. */
bool kvt_store_ahead_seal(kvt_store *store, kvt_store_file *file);

/* --- store_write.c --- */

/* kvt_store_reserve and kvt_store_publish, with the lock held. `generation` 0: a new one; `spare`
 * as kvt_store_segment_start. */
int kvt_store_reserve_locked(kvt_store *store, const kvt_store_run *run, uint64_t generation,
	bool spare, kvt_store_ticket *ticket);
int kvt_store_publish_locked(kvt_store *store, kvt_store_ticket *ticket);
void kvt_store_abandon_locked(kvt_store *store, kvt_store_ticket *ticket);

/* Writes a reserved record, with pwrite; pages one after another at any address. */
int kvt_store_write_record(kvt_store *store, const kvt_store_ticket *ticket, const void *pages);

/* --- store_read.c --- */

int kvt_store_find_locked(kvt_store *store, const kvt_store_run *run, kvt_store_piece *pieces,
	unsigned max, unsigned *n);
void kvt_store_release_locked(kvt_store *store, const kvt_store_piece *pieces, unsigned n);

/* The pages of a piece, with pread; -EBADMSG and *bad: the first one that is wrong. */
int kvt_store_read_piece(
	kvt_store *store, const kvt_store_piece *piece, void *pages, uint64_t *bad);

/* --- store_room.c --- */

int kvt_store_discard_locked(
	kvt_store *store, const kvt_store_run *runs, unsigned n, uint64_t *pages);

/* Settles every segment: after pages have died. */
void kvt_store_sweep(kvt_store *store);

/* The same where the store's thread has left something to do. */
static inline void kvt_store_tidy(kvt_store *store)
{
	if (!store->unsettled)
		return;
	kvt_store_sweep(store);
	store->unsettled = false;
}

/* --- store_recovery.c, store_scan.c --- */

/* Journal, segments, index. False with an error: the store cannot be opened. */
gboolean kvt_store_recover(kvt_store *store, GError **error);

/* Records of a sealed segment from its index; false: there is none, or it is wrong. */
bool kvt_store_read_index(kvt_store *store, kvt_store_file *file, uint64_t size);

/* Records that lie whole in the segment, by reading all of it. */
void kvt_store_scan(kvt_store *store, kvt_store_file *file, uint64_t size);

/* Calls `page` for each page of a record at `offset` of a file with the hash of what is there. */
int kvt_store_hash_pages(kvt_store *store, int fd, uint64_t offset, uint64_t page_bytes,
	uint64_t n_pages, uint64_t *hashes);

#endif
