/*
 * store_ahead.c: a thread of the page store's that makes the next segment before it is needed and
 * writes the indexes of full ones, so that those who write pages wait for neither. It touches files
 * alone: what there is of segments changes in the calls of the store's users.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "emu/store/store_internal.h"

typedef enum ahead_state {
	AHEAD_NONE,
	AHEAD_WANTED,
	AHEAD_BUSY,
	AHEAD_READY,
} ahead_state;

struct kvt_store_ahead {
	pthread_t thread;
	pthread_cond_t work, done;
	bool stopping;
	ahead_state state;
	bool failed; /* making one did: it is left to those who need it, who say why */
	uint64_t number;
	int fd;
	GPtrArray *full; /* segments to be sealed, held */
	bool sealing;    /* one that was in it */
};

/* With the lock held, as all of this but for the time that files are written. */
static void make_next(kvt_store *store)
{
	kvt_store_ahead *ahead = store->ahead;
	int flags = O_RDWR | O_CREAT | O_EXCL | (store->direct ? O_DIRECT : 0);
	ahead->state = AHEAD_BUSY;
	ahead->number = store->next_number++;
	store->used += store->shape.segment_bytes;
	pthread_mutex_unlock(&store->lock);
	int fd = kvt_store_segment_make_file(store, ahead->number, flags);
	pthread_mutex_lock(&store->lock);
	ahead->fd = fd;
	ahead->state = fd >= 0 ? AHEAD_READY : AHEAD_NONE;
	ahead->failed = fd < 0;
	if (fd < 0)
		store->used -= store->shape.segment_bytes;
	pthread_cond_broadcast(&ahead->done);
}

static void seal_one(kvt_store *store)
{
	kvt_store_file *file = g_ptr_array_remove_index(store->ahead->full, 0);
	kvt_store_seal_work work = { 0 };
	int status = store->read_only ? -EROFS : 0;
	store->ahead->sealing = true;
	if (status == 0) {
		kvt_store_seal_begin(store, file, &work);
		pthread_mutex_unlock(&store->lock);
		status = kvt_store_seal_write(store, &work);
		pthread_mutex_lock(&store->lock);
	}
	store->ahead->sealing = file->sealing = false;
	file->readers--;
	if (status == 0)
		kvt_store_seal_end(store, file, &work);
	/* one that failed is tried again by those who can say so; one that was evicted goes */
	store->unsettled |= status < 0 || file->draining || file->live_pages == 0;
	pthread_cond_broadcast(&store->ahead->done);
}

static void *run(void *arg)
{
	kvt_store *store = arg;
	kvt_store_ahead *ahead = store->ahead;
	pthread_mutex_lock(&store->lock);
	for (;;) {
		if (ahead->full->len > 0)
			seal_one(store);
		else if (ahead->state == AHEAD_WANTED && !ahead->stopping)
			make_next(store);
		else if (ahead->stopping)
			break;
		else
			pthread_cond_wait(&ahead->work, &store->lock);
	}
	pthread_mutex_unlock(&store->lock);
	return NULL;
}

void kvt_store_ahead_start(kvt_store *store)
{
	kvt_store_ahead *ahead = g_new0(kvt_store_ahead, 1);
	ahead->full = g_ptr_array_new();
	pthread_cond_init(&ahead->work, NULL);
	pthread_cond_init(&ahead->done, NULL);
	store->ahead = ahead;
	if (pthread_create(&ahead->thread, NULL, run, store) == 0)
		return;
	/* then those who need segments make them */
	store->ahead = NULL;
	pthread_cond_destroy(&ahead->work);
	pthread_cond_destroy(&ahead->done);
	g_ptr_array_free(ahead->full, TRUE);
	g_free(ahead);
}

void kvt_store_ahead_stop(kvt_store *store, bool keep)
{
	kvt_store_ahead *ahead = store->ahead;
	if (!ahead)
		return;
	pthread_mutex_lock(&store->lock);
	ahead->stopping = true;
	for (guint i = 0; i < ahead->full->len && !keep; i++) {
		kvt_store_file *file = g_ptr_array_index(ahead->full, i);
		file->readers--;
		file->sealing = false;
	}
	if (!keep)
		g_ptr_array_set_size(ahead->full, 0);
	pthread_cond_broadcast(&ahead->work);
	pthread_mutex_unlock(&store->lock);
	pthread_join(ahead->thread, NULL);
	store->ahead = NULL;
	if (ahead->state == AHEAD_READY) {
		store->io->close(store->io->arg, ahead->fd);
		store->used -= store->shape.segment_bytes;
		/* the journal does not know it: it is removed at the next opening if not here */
		if (keep && !store->read_only)
			kvt_store_segment_remove_file(store, ahead->number);
	}
	pthread_cond_destroy(&ahead->work);
	pthread_cond_destroy(&ahead->done);
	g_ptr_array_free(ahead->full, TRUE);
	g_free(ahead);
}

void kvt_store_ahead_want(kvt_store *store)
{
	kvt_store_ahead *ahead = store->ahead;
	const kvt_store_file *active = store->active;
	/* not from the first record on: a store may never fill its first segment */
	if (!ahead || ahead->state != AHEAD_NONE || ahead->failed || store->read_only || !active ||
		active->used < active->bytes / 4 || kvt_store_segment_room(store) == 0)
		return;
	ahead->state = AHEAD_WANTED;
	pthread_cond_signal(&ahead->work);
}

bool kvt_store_ahead_take(kvt_store *store, uint64_t *number, int *fd)
{
	kvt_store_ahead *ahead = store->ahead;
	if (!ahead)
		return false;
	if (ahead->state == AHEAD_WANTED)
		ahead->state = AHEAD_NONE;
	while (ahead->state == AHEAD_BUSY)
		pthread_cond_wait(&ahead->done, &store->lock);
	if (ahead->state != AHEAD_READY) {
		ahead->failed = false;
		return false;
	}
	ahead->state = AHEAD_NONE;
	*number = ahead->number;
	*fd = ahead->fd;
	return true;
}

uint64_t kvt_store_ahead_bytes(const kvt_store *store)
{
	const kvt_store_ahead *ahead = store->ahead;
	bool there = ahead && (ahead->state == AHEAD_BUSY || ahead->state == AHEAD_READY);
	return there ? store->shape.segment_bytes : 0;
}

void kvt_store_ahead_flush(kvt_store *store)
{
	kvt_store_ahead *ahead = store->ahead;
	while (ahead && (ahead->full->len > 0 || ahead->sealing))
		pthread_cond_wait(&ahead->done, &store->lock);
	kvt_store_tidy(store);
}

bool kvt_store_ahead_seal(kvt_store *store, kvt_store_file *file)
{
	kvt_store_ahead *ahead = store->ahead;
	if (!ahead || ahead->stopping || store->unsettled)
		return false;
	file->sealing = true;
	file->readers++;
	g_ptr_array_add(ahead->full, file);
	pthread_cond_signal(&ahead->work);
	return true;
}
