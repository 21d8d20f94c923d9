/*
 * store_recovery.c: what a page store holds, found again at opening: the journal says which
 * segments there are and what is void, the segments say the rest. What is doubtful is given up, and
 * said.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "emu/store/store_internal.h"
#include "sim/base/error.h"

typedef struct recovery {
	kvt_store *store;
	GHashTable *numbers; /* of segments that there should be: uint64_t * */
	GArray *floors;      /* kvt_store_entry */
	GArray *present;     /* uint64_t: numbers of the files that there are, ascending */
} recovery;

static void take_entry(void *arg, const kvt_store_entry *entry)
{
	recovery *r = arg;
	switch (entry->kind) {
	case KVT_STORE_ENTRY_FLOOR:
		g_array_append_val(r->floors, *entry);
		r->store->generation = MAX(r->store->generation, entry->generation);
		break;
	case KVT_STORE_ENTRY_ADDED:
		g_hash_table_add(r->numbers, g_memdup2(&entry->number, sizeof(entry->number)));
		break;
	case KVT_STORE_ENTRY_REMOVED:
		g_hash_table_remove(r->numbers, &entry->number);
		break;
	}
}

static int compare_numbers(gconstpointer a, gconstpointer b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static void take_name(void *arg, const char *name)
{
	recovery *r = arg;
	uint64_t number = g_ascii_strtoull(name, NULL, 16);
	g_autofree char *whole = kvt_store_segment_name(number);
	if (strcmp(name, whole) != 0)
		return;
	g_array_append_val(r->present, number);
	if (number < UINT64_MAX / 2)
		r->store->next_number = MAX(r->store->next_number, number + 1);
}

static gboolean list_files(recovery *r, GError **error)
{
	const kvt_store *store = r->store;
	int status = store->io->list(store->io->arg, store->dir, take_name, r);
	if (status < 0)
		return kvt_error_failed(
			error, "%s: cannot be listed: %s", store->path, g_strerror(-status));
	g_array_sort(r->present, compare_numbers);
	return TRUE;
}

static void remove_number(kvt_store *store, uint64_t number)
{
	g_autofree char *name = kvt_store_segment_name(number);
	if (!store->read_only)
		store->io->unlink(store->io->arg, store->dir, name);
}

/* Files that the journal does not know were being made or removed; segments that have no file are
 * lost. What remains of the numbers is there. */
static void compare_with_journal(recovery *r)
{
	kvt_store *store = r->store;
	guint kept = 0;
	for (guint i = 0; i < r->present->len; i++) {
		uint64_t number = g_array_index(r->present, uint64_t, i);
		if (g_hash_table_remove(r->numbers, &number))
			g_array_index(r->present, uint64_t, kept++) = number;
		else
			remove_number(store, number);
	}
	g_array_set_size(r->present, kept);
	store->count.lost_segments += g_hash_table_size(r->numbers);
	if (g_hash_table_size(r->numbers) > 0)
		kvt_store_notice(store, "%s: %u segments are missing; their pages are lost",
			store->path, g_hash_table_size(r->numbers));
}

static void check_segment_block(kvt_store *store, kvt_store_file *file, uint64_t size)
{
	uint64_t number = UINT64_MAX;
	uint8_t *block = kvt_store_buffer_new(KVT_STORE_BLOCK);
	if (size < KVT_STORE_BLOCK ||
		kvt_store_read_all(store->io, file->fd, block, KVT_STORE_BLOCK, 0) < 0 ||
		!kvt_store_segment_decode(store->shape.key, block, &number) ||
		number != file->number) {
		file->damaged = true;
		kvt_store_notice(store, "%s: the first block of segment %" PRIu64 " is damaged",
			store->path, file->number);
	}
	free(block);
}

/* Whether the last block was one of a sealed segment: then a wrong index is damage, and otherwise
 * the segment was still being written. */
static bool was_sealed(const kvt_store *store, const kvt_store_file *file, uint64_t size)
{
	return size < store->shape.segment_bytes && size > 0;
}

static void read_segment(kvt_store *store, kvt_store_file *file, uint64_t size)
{
	file->bytes = kvt_store_segment_charge(store, size);
	store->used += file->bytes;
	file->closed = true;
	check_segment_block(store, file, size);
	if (kvt_store_read_index(store, file, size)) {
		file->sealed = true;
		store->count.indexed_segments++;
		return;
	}
	uint64_t rejected = store->count.rejected_records;
	store->count.scanned_segments++;
	kvt_store_scan(store, file, size);
	rejected = store->count.rejected_records - rejected;
	file->damaged |= was_sealed(store, file, size);
	if (file->damaged)
		kvt_store_notice(store,
			"%s: the index of segment %" PRIu64
			" is damaged; %u records were found by reading it, %" PRIu64
			" were not whole",
			store->path, file->number, file->records->len, rejected);
}

/* False with an error where going on would take what is there for lost. */
static gboolean open_segment(kvt_store *store, uint64_t number, GError **error)
{
	g_autofree char *name = kvt_store_segment_name(number);
	if (store->segments->len == store->n_slots)
		return kvt_error_failed(error, "%s: more than %u segments, expected at most that",
			store->path, store->n_slots);
	int fd = kvt_store_segment_open_file(store, name, store->read_only ? O_RDONLY : O_RDWR);
	int64_t size = fd < 0 ? fd : store->io->size(store->io->arg, fd);
	int status = (int)MIN(size, 0);
	if (status == -EMFILE || status == -ENFILE)
		return kvt_error_failed(error,
			"%s: too many open files, expected a limit of %u or more (ulimit -n)",
			store->path, store->n_slots + 64);
	if (status < 0) {
		if (fd >= 0)
			store->io->close(store->io->arg, fd);
		store->count.lost_segments++;
		kvt_store_notice(store, "%s: %s: %s; its pages are lost", store->path, name,
			g_strerror(-status));
		return TRUE;
	}
	read_segment(store, kvt_store_segment_new(store, number, fd), (uint64_t)size);
	return TRUE;
}

/* Makes findable what is newest and not void. */
static void build_index(recovery *r)
{
	kvt_store *store = r->store;
	g_autoptr(GArray) entries = g_array_new(FALSE, FALSE, sizeof(kvt_store_entry));
	kvt_store_index_apply(store, (const kvt_store_entry *)r->floors->data, r->floors->len);
	for (guint i = 0; i < store->segments->len; i++) {
		kvt_store_file *file = g_ptr_array_index(store->segments, i);
		for (guint k = 0; k < file->records->len; k++) {
			kvt_store_record *record = g_ptr_array_index(file->records, k);
			g_array_set_size(entries, 0);
			kvt_store_index_floors(record, entries);
			kvt_store_index_apply(
				store, (const kvt_store_entry *)entries->data, entries->len);
			kvt_store_index_add(store, record);
			store->generation = MAX(store->generation, record->generation + 1);
			store->count.recovered_records++;
		}
	}
}

/* Everything goes: what is void is not known. */
static void give_all_up(recovery *r, const char *why)
{
	kvt_store *store = r->store;
	kvt_store_notice(store,
		"%s: %s; %u segments are given up, since pages that were replaced "
		"could come back",
		store->path, why, r->present->len);
	store->count.lost_segments += r->present->len;
	for (guint i = 0; i < r->present->len; i++)
		remove_number(store, g_array_index(r->present, uint64_t, i));
	g_array_set_size(r->present, 0);
	g_array_set_size(r->floors, 0);
	g_hash_table_remove_all(r->numbers);
}

/* With sync = none: whether the machine has been off since the store was last open. */
static bool power_was_cut(kvt_store *store)
{
	char boot[KVT_STORE_BOOT_LENGTH];
	uint8_t *block = kvt_store_buffer_new(KVT_STORE_BLOCK);
	bool known = kvt_store_read_all(store->io, store->file, block, KVT_STORE_BLOCK,
			     KVT_STORE_SUPER_BLOCKS * KVT_STORE_BLOCK) == 0 &&
		     kvt_store_mark_decode(store->shape.key, block, boot);
	free(block);
	return store->shape.sync == KVT_STORE_SYNC_NONE &&
	       (!known || (boot[0] != '\0' && (boot[0] == '?' || strcmp(boot, store->boot) != 0)));
}

/* The new journal and the indexes of segments that were not sealed. */
static void write_down(kvt_store *store)
{
	int status = kvt_store_write_mark(store, store->boot);
	if (status == 0)
		status = kvt_store_journal_renew(store);
	if (status == -ENOSPC && store->journal.fd >= 0)
		status = store->io->sync(store->io->arg, store->journal.fd);
	if (status < 0) {
		kvt_store_make_read_only(store, "the store cannot be written", status);
		return;
	}
	kvt_store_sweep(store);
	for (guint i = 0; i < store->segments->len; i++) {
		kvt_store_file *file = g_ptr_array_index(store->segments, i);
		if (!file->damaged && file->used < store->shape.segment_bytes / 4 * 3)
			store->resumable = file;
	}
}

static gboolean recover(recovery *r, GError **error)
{
	kvt_store *store = r->store;
	if (!list_files(r, error))
		return FALSE;
	int status = kvt_store_journal_read(store, take_entry, r);
	if (power_was_cut(store))
		give_all_up(r, "the machine was restarted while it was open with sync = none");
	else if (status == -EBADMSG)
		give_all_up(r, "its journal is damaged or missing");
	else if (status < 0)
		return kvt_error_failed(
			error, "%s: " KVT_STORE_JOURNAL ": %s", store->path, g_strerror(-status));
	else
		compare_with_journal(r);
	for (guint i = 0; i < r->present->len; i++)
		if (!open_segment(store, g_array_index(r->present, uint64_t, i), error))
			return FALSE;
	build_index(r);
	if (!store->read_only)
		write_down(store);
	return TRUE;
}

gboolean kvt_store_recover(kvt_store *store, GError **error)
{
	recovery r = { .store = store,
		.numbers = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL),
		.floors = g_array_new(FALSE, FALSE, sizeof(kvt_store_entry)),
		.present = g_array_new(FALSE, FALSE, sizeof(uint64_t)) };
	gboolean good = recover(&r, error);
	g_hash_table_destroy(r.numbers);
	g_array_free(r.floors, TRUE);
	g_array_free(r.present, TRUE);
	return good;
}
