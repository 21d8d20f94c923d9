/* sweep_journal.c: frames in a file, and where each point's is. */
#include "sim/sweep/sweep_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sim/base/error.h"

struct kvt_sweep_journal {
	char *path; /* NULL: without a name */
	int fd;
	uint64_t size;
	uint64_t n_points, done, failed;
	uint64_t *offsets; /* of each point's frame; 0: not there */
	GHashTable *ids;   /* id of names -> index + 1 */
	GPtrArray *names;
	GByteArray *pending; /* of one append, without what is there already */
	uint8_t *map;
	uint64_t mapped;
};

static gboolean fail(const kvt_sweep_journal *journal, const char *what, GError **error)
{
	return kvt_error_failed(error, "%s: cannot %s the journal of the sweep: %s",
		journal->path ? journal->path : g_get_tmp_dir(), what, g_strerror(errno));
}

static gboolean write_all(
	kvt_sweep_journal *journal, const uint8_t *bytes, uint64_t size, GError **error)
{
	while (size > 0) {
		ssize_t n = pwrite(journal->fd, bytes, size, (off_t)journal->size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fail(journal, "write", error);
		bytes += n;
		size -= (uint64_t)n;
		journal->size += (uint64_t)n;
	}
	return TRUE;
}

/* Takes note of a frame that lies, or will lie, at `offset`. False: it is there already, or is of
 * no point of this sweep. */
static bool note_frame(kvt_sweep_journal *journal, const kvt_sweep_frame *frame, uint64_t offset)
{
	if (frame->kind == KVT_SWEEP_FRAME_NAMES) {
		if (g_hash_table_contains(journal->ids, &frame->id))
			return false;
		g_ptr_array_add(journal->names, g_strndup(frame->text, frame->text_bytes));
		uint64_t *id = g_memdup2(&frame->id, sizeof frame->id);
		g_hash_table_insert(journal->ids, id, GUINT_TO_POINTER(journal->names->len));
		return true;
	}
	if (frame->kind != KVT_SWEEP_FRAME_DONE && frame->kind != KVT_SWEEP_FRAME_FAILED)
		return false;
	if (frame->point >= journal->n_points || journal->offsets[frame->point] != 0 ||
		(frame->kind == KVT_SWEEP_FRAME_DONE &&
			!g_hash_table_contains(journal->ids, &frame->id)))
		return false;
	journal->offsets[frame->point] = offset;
	journal->done++;
	journal->failed += frame->kind == KVT_SWEEP_FRAME_FAILED;
	return true;
}

/* What is there, up to the first frame that is not whole. */
static gboolean recover(kvt_sweep_journal *journal, const char *identity, GError **error)
{
	if (!kvt_sweep_journal_map(journal, error))
		return FALSE;
	kvt_sweep_frame frame;
	uint64_t at = 0;
	while (kvt_sweep_frame_read(journal->map + at, journal->mapped - at, &frame)) {
		if (at == 0 && (frame.kind != KVT_SWEEP_FRAME_HEADER ||
				       frame.text_bytes != strlen(identity) ||
				       memcmp(frame.text, identity, frame.text_bytes) != 0))
			break;
		if (at > 0)
			note_frame(journal, &frame, at);
		at += frame.bytes;
	}
	if (at == 0)
		return kvt_error_usage(error,
			"%s is the journal of another sweep, expected this one's, --overwrite, or "
			"another --out",
			journal->path);
	kvt_sweep_journal_unmap(journal);
	if (at < journal->size && ftruncate(journal->fd, (off_t)at) != 0)
		return fail(journal, "repair", error);
	journal->size = at;
	return TRUE;
}

static gboolean open_file(kvt_sweep_journal *journal, GError **error)
{
	if (journal->path) {
		journal->fd = open(journal->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	} else {
		g_autofree char *name =
			g_build_filename(g_get_tmp_dir(), "kvtier-sweep-XXXXXX", NULL);
		journal->fd = g_mkstemp_full(name, O_RDWR | O_CLOEXEC, 0600);
		if (journal->fd >= 0)
			unlink(name);
	}
	struct stat status;
	if (journal->fd < 0 || fstat(journal->fd, &status) != 0)
		return fail(journal, "open", error);
	if (flock(journal->fd, LOCK_EX | LOCK_NB) != 0) {
		if (errno != EWOULDBLOCK)
			return fail(journal, "lock", error);
		return kvt_error_failed(
			error, "%s: another kvtier is writing these results", journal->path);
	}
	journal->size = (uint64_t)status.st_size;
	return TRUE;
}

kvt_sweep_journal *kvt_sweep_journal_open(
	const char *path, const char *identity, uint64_t n_points, bool anew, GError **error)
{
	kvt_sweep_journal *journal = g_new0(kvt_sweep_journal, 1);
	journal->path = g_strdup(path);
	journal->n_points = n_points;
	journal->offsets = g_new0(uint64_t, n_points);
	journal->ids = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
	journal->names = g_ptr_array_new_with_free_func(g_free);
	journal->pending = g_byte_array_new();
	kvt_sweep_append_text(journal->pending, KVT_SWEEP_FRAME_HEADER, identity, strlen(identity));
	gboolean good = open_file(journal, error);
	if (good && anew && ftruncate(journal->fd, 0) != 0)
		good = fail(journal, "empty", error);
	else if (anew)
		journal->size = 0;
	/* less than its header is one that was being written */
	if (good && journal->size < journal->pending->len) {
		journal->size = 0;
		good = write_all(journal, journal->pending->data, journal->pending->len, error);
	} else if (good) {
		good = recover(journal, identity, error);
	}
	if (good)
		return journal;
	kvt_sweep_journal_close(journal, false);
	return NULL;
}

void kvt_sweep_journal_close(kvt_sweep_journal *journal, bool remove)
{
	if (!journal)
		return;
	kvt_sweep_journal_unmap(journal);
	/* while the lock is held: nobody else has begun to write it */
	if (remove && journal->path)
		unlink(journal->path);
	if (journal->fd >= 0)
		close(journal->fd);
	g_hash_table_destroy(journal->ids);
	g_ptr_array_unref(journal->names);
	g_byte_array_unref(journal->pending);
	g_free(journal->offsets);
	g_free(journal->path);
	g_free(journal);
}

gboolean kvt_sweep_journal_append(
	kvt_sweep_journal *journal, const void *frames, uint64_t size, GError **error)
{
	const uint8_t *bytes = frames;
	kvt_sweep_frame frame;
	g_byte_array_set_size(journal->pending, 0);
	for (uint64_t at = 0; at < size; at += frame.bytes) {
		if (!kvt_sweep_frame_read(bytes + at, size - at, &frame))
			return kvt_error_failed(error, "results of a sweep arrived damaged");
		if (note_frame(journal, &frame, journal->size + journal->pending->len))
			g_byte_array_append(journal->pending, bytes + at, (guint)frame.bytes);
	}
	return write_all(journal, journal->pending->data, journal->pending->len, error);
}

gboolean kvt_sweep_journal_sync(kvt_sweep_journal *journal, GError **error)
{
	return fdatasync(journal->fd) == 0 || fail(journal, "write", error);
}

uint64_t kvt_sweep_journal_points(const kvt_sweep_journal *journal)
{
	return journal->n_points;
}

uint64_t kvt_sweep_journal_done(const kvt_sweep_journal *journal)
{
	return journal->done;
}

uint64_t kvt_sweep_journal_failed(const kvt_sweep_journal *journal)
{
	return journal->failed;
}

bool kvt_sweep_journal_has(const kvt_sweep_journal *journal, uint64_t point)
{
	return journal->offsets[point] != 0;
}

unsigned kvt_sweep_journal_names_count(const kvt_sweep_journal *journal)
{
	return journal->names->len;
}

const char *kvt_sweep_journal_names(const kvt_sweep_journal *journal, unsigned index)
{
	return g_ptr_array_index(journal->names, index);
}

gboolean kvt_sweep_journal_map(kvt_sweep_journal *journal, GError **error)
{
	kvt_sweep_journal_unmap(journal);
	void *map = mmap(NULL, journal->size, PROT_READ, MAP_SHARED, journal->fd, 0);
	if (map == MAP_FAILED)
		return fail(journal, "read", error);
	journal->map = map;
	journal->mapped = journal->size;
	return TRUE;
}

void kvt_sweep_journal_unmap(kvt_sweep_journal *journal)
{
	if (journal->map)
		munmap(journal->map, journal->mapped);
	journal->map = NULL;
}

void kvt_sweep_journal_read(
	const kvt_sweep_journal *journal, uint64_t point, kvt_sweep_frame *frame, unsigned *names)
{
	uint64_t at = journal->offsets[point];
	g_assert(at > 0 && at < journal->mapped);
	bool whole = kvt_sweep_frame_read(journal->map + at, journal->mapped - at, frame);
	g_assert(whole && frame->point == point);
	*names = 0;
	if (frame->kind == KVT_SWEEP_FRAME_DONE)
		*names = GPOINTER_TO_UINT(g_hash_table_lookup(journal->ids, &frame->id)) - 1;
}

void kvt_sweep_journal_forget(const kvt_sweep_journal *journal)
{
	if (journal->map)
		madvise(journal->map, journal->mapped, MADV_DONTNEED);
}
