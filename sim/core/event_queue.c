/*
 * event_queue.c: a ladder of buckets (after Tang, Goh and Thng, "Ladder queue", ACM TOMACS 15(3),
 * 2005) with chunked buckets, power-of-two widths and cancellation.
 *
 * Level 0 is one bucket for all of time. When the front is empty, the deepest level's next bucket
 * becomes the front: sorted, when it is at most a chunk; as it is, when it is one instant wide;
 * otherwise its entries are spread over a new, deeper level of narrower buckets first. A push goes
 * to the first level whose `from` is not after it, or else into the front; `from` of a level is
 * where the level below it (or the front) ends, so every time has one place, and since buckets
 * keep the order of submission and sorting is stable, equal times stay first in, first out without
 * sequence numbers. An entry moves down at most once a level and widths shrink at least eightfold,
 * so an event costs O(1) moves (in practice two), whatever the times.
 *
 * A cancelled event's slot is free at once. Its entry stays until it comes up, or until such
 * entries outnumber the pending ones and all are dropped.
 */
#include "sim/core/event_queue.h"

#include <glib.h>
#include <string.h>

enum {
	WANTED_PER_BUCKET = 8,
	MIN_BUCKETS = 8,
	MAX_BUCKETS = 1024,
	MIN_CANCELLED = 4096, /* before a sweep is worth its while */
	MAX_BLOCK_CHUNKS = 2048,
};

/* Chunks that were allocated together. */
typedef struct kvt_event_block {
	struct kvt_event_block *next;
	kvt_event_chunk *chunks;
} kvt_event_block;

void kvt_event_queue_init(kvt_event_queue *queue)
{
	memset(queue, 0, sizeof *queue);
	queue->head = queue->tail = queue->front_entries;
	queue->n_levels = 1;
	queue->levels[0] = (kvt_event_level){
		.shift = 63, .n_buckets = 1, .capacity = 1, .buckets = g_new0(kvt_event_bucket, 1)
	};
	/* Slot 0 stands for none, and is never pending. */
	queue->slots = g_new0(kvt_event_slot, 16);
	queue->n_slots = 1;
	queue->slot_capacity = 16;
}

void kvt_event_queue_clear(kvt_event_queue *queue)
{
	for (unsigned l = 0; l < KVT_EVENT_MAX_LEVELS; l++)
		g_free(queue->levels[l].buckets);
	for (kvt_event_block *block = queue->blocks, *next; block; block = next) {
		next = block->next;
		g_aligned_free(block->chunks);
		g_free(block);
	}
	g_free(queue->slots);
}

/* Puts a slot on the empty free list. */
void kvt_event_queue_add_slot(kvt_event_queue *queue)
{
	if (queue->n_slots == queue->slot_capacity) {
		g_assert(queue->slot_capacity <= UINT32_MAX / 2);
		queue->slot_capacity *= 2;
		queue->slots = g_renew(kvt_event_slot, queue->slots, queue->slot_capacity);
	}
	queue->free_slot = queue->n_slots++;
	queue->slots[queue->free_slot] = (kvt_event_slot){ 0 };
}

static void free_chunk(kvt_event_queue *queue, kvt_event_chunk *chunk)
{
	chunk->next = queue->free_chunks;
	queue->free_chunks = chunk;
}

static void add_block(kvt_event_queue *queue)
{
	size_t n = CLAMP(queue->n_chunks / 4, 8, MAX_BLOCK_CHUNKS);
	kvt_event_block *block = g_new(kvt_event_block, 1);
	block->chunks = g_aligned_alloc(n, sizeof(kvt_event_chunk), KVT_EVENT_CHUNK_BYTES);
	block->next = queue->blocks;
	queue->blocks = block;
	queue->n_chunks += n;
	while (n-- > 0)
		free_chunk(queue, &block->chunks[n]);
}

static kvt_event_chunk *last_chunk(const kvt_event_bucket *bucket)
{
	uintptr_t last_entry = (uintptr_t)(bucket->end - 1);
	return (kvt_event_chunk *)(last_entry - last_entry % KVT_EVENT_CHUNK_BYTES);
}

/* Makes room in a bucket that has none. */
void kvt_event_queue_add_chunk(kvt_event_queue *queue, kvt_event_bucket *bucket)
{
	if (!queue->free_chunks)
		add_block(queue);
	kvt_event_chunk *chunk = queue->free_chunks;
	queue->free_chunks = chunk->next;
	if (bucket->end)
		last_chunk(bucket)->next = chunk;
	else
		bucket->first = chunk;
	bucket->end = chunk->entries;
}

/* A walk over the chunks of a bucket that may free each chunk it has been given. */
typedef struct chunk_walk {
	kvt_event_chunk *next, *last;
	kvt_event_entry *end;
} chunk_walk;

static chunk_walk walk_chunks(const kvt_event_bucket *bucket)
{
	return (chunk_walk){ bucket->first, last_chunk(bucket), bucket->end };
}

/* The next chunk and the end of its entries, or NULL. */
static kvt_event_chunk *walk_next(chunk_walk *walk, kvt_event_entry **end)
{
	kvt_event_chunk *chunk = walk->next;
	if (!chunk)
		return NULL;
	if (chunk == walk->last) {
		*end = walk->end;
		walk->next = NULL;
		return chunk;
	}
	*end = chunk->entries + KVT_EVENT_CHUNK_ENTRIES;
	walk->next = chunk->next;
	/* A big bucket's chunks lie anywhere in memory; fetch one while the other is read. */
	for (unsigned line = 0; line < KVT_EVENT_CHUNK_BYTES; line += 64)
		__builtin_prefetch((const char *)walk->next + line);
	return chunk;
}

static uint64_t current_bucket_end(const kvt_event_level *level)
{
	return level->start + ((uint64_t)(level->current + 1) << level->shift);
}

/*
 * Adds a level below the deepest for n events from `low` to `high`, `mean` being the mean distance
 * from low: where times are skewed, that tells the density near the front better than the range.
 * The level above keeps what is beyond.
 */
static kvt_event_level *add_level(
	kvt_event_queue *queue, uint64_t low, uint64_t high, size_t n, double mean)
{
	unsigned l = queue->n_levels++;
	g_assert(l < KVT_EVENT_MAX_LEVELS);
	kvt_event_level *level = &queue->levels[l];
	uint64_t range = high - low;
	double ideal = (double)n / WANTED_PER_BUCKET * ((double)range / MAX(mean, 1.0));
	uint64_t wanted = (uint64_t)CLAMP(ideal, MIN_BUCKETS, (double)MIN(n, MAX_BUCKETS));
	level->start = low;
	level->shift = range < wanted ? 0 : 64 - (unsigned)__builtin_clzll(range / wanted);
	level->n_buckets = (uint32_t)(range >> level->shift) + 1;
	level->current = 0;
	if (level->n_buckets > level->capacity) {
		g_free(level->buckets);
		level->capacity = level->n_buckets;
		level->buckets = g_new0(kvt_event_bucket, level->capacity);
	}
	uint64_t end = low + ((uint64_t)level->n_buckets << level->shift);
	queue->from[l - 1] = MIN(queue->from[l - 1], end);
	queue->from[l] = low;
	queue->from[l + 1] = 0;
	return level;
}

/* Spreads the current bucket of the deepest level over a new one. */
static void spread(kvt_event_queue *queue, kvt_event_level *parent)
{
	kvt_event_bucket *bucket = &parent->buckets[parent->current];
	kvt_event_entry *end;
	uint64_t low = UINT64_MAX, high = 0, some = bucket->first->entries[0].when;
	double sum = 0.0;
	size_t n = 0;
	chunk_walk walk = walk_chunks(bucket);
	for (kvt_event_chunk *c; (c = walk_next(&walk, &end));) {
		for (const kvt_event_entry *e = c->entries; e < end; e++) {
			low = MIN(low, e->when);
			high = MAX(high, e->when);
			sum += (double)(int64_t)(e->when - some);
		}
		n += (size_t)(end - c->entries);
	}
	queue->from[queue->n_levels - 1] = current_bucket_end(parent);
	kvt_event_level *level =
		add_level(queue, low, high, n, sum / (double)n + (double)(some - low));
	if (low == high) {
		level->buckets[0] = *bucket;
	} else {
		walk = walk_chunks(bucket);
		for (kvt_event_chunk *c; (c = walk_next(&walk, &end));) {
			for (const kvt_event_entry *e = c->entries; e < end; e++)
				kvt_event_queue_append(queue, level, *e);
			free_chunk(queue, c);
		}
	}
	*bucket = (kvt_event_bucket){ NULL, NULL };
}

/* Makes a bucket of one chunk the front, sorted. */
static void take_sorted(kvt_event_queue *queue, kvt_event_bucket *bucket)
{
	kvt_event_chunk *chunk = bucket->first;
	const kvt_event_entry *entries = chunk->entries;
	unsigned n = (unsigned)(bucket->end - entries);
	/* Ranks by comparing all pairs have no branch to mispredict, which for a few entries is
	 * faster than any sort that has. */
	unsigned rank[KVT_EVENT_CHUNK_ENTRIES];
	for (unsigned i = 0; i < n; i++) {
		unsigned not_after = 0;
		__builtin_prefetch(&queue->slots[(uint32_t)entries[i].event]);
		for (unsigned j = 0; j < i; j++) {
			unsigned after = entries[j].when > entries[i].when;
			rank[j] += after;
			not_after += !after;
		}
		rank[i] = not_after;
	}
	for (unsigned i = 0; i < n; i++)
		queue->front_entries[rank[i]] = entries[i];
	queue->head = queue->front_entries;
	queue->tail = queue->front_entries + n;
	free_chunk(queue, chunk);
	*bucket = (kvt_event_bucket){ NULL, NULL };
}

/* Makes the first chunk of a bucket of one instant the front: it is in order as it is. */
static void take_instant(kvt_event_queue *queue, kvt_event_bucket *bucket)
{
	chunk_walk walk = walk_chunks(bucket);
	queue->open_chunk = walk_next(&walk, &queue->tail);
	queue->head = queue->open_chunk->entries;
	bucket->first = walk.next;
	if (!walk.next)
		bucket->end = NULL;
	for (const kvt_event_entry *e = queue->head; e < queue->tail; e++)
		__builtin_prefetch(&queue->slots[(uint32_t)e->event]);
}

/* Fills the empty front; false when nothing is left. */
bool kvt_event_queue_refill(kvt_event_queue *queue)
{
	if (queue->open_chunk)
		free_chunk(queue, queue->open_chunk);
	queue->open_chunk = NULL;
	queue->head = queue->tail = queue->front_entries;
	for (;;) {
		unsigned l = queue->n_levels - 1;
		kvt_event_level *level = &queue->levels[l];
		while (level->current < level->n_buckets && !level->buckets[level->current].end)
			level->current++;
		if (level->current == level->n_buckets) {
			queue->from[l] = 0;
			if (l == 0) {
				level->current = 0;
				return false;
			}
			queue->n_levels--;
			continue;
		}
		kvt_event_bucket *bucket = &level->buckets[level->current];
		if (level->shift == 0) {
			/* The bucket stays open for what is pushed at this instant. */
			queue->from[l] = level->start + level->current;
			take_instant(queue, bucket);
			return true;
		}
		if (bucket->first == last_chunk(bucket)) {
			take_sorted(queue, bucket);
			queue->from[l] =
				l > 0 ? current_bucket_end(level) : queue->tail[-1].when + 1;
			return true;
		}
		spread(queue, level);
	}
}

/* Drops levels below all others that have given out all they had. */
static void drop_exhausted(kvt_event_queue *queue)
{
	while (queue->n_levels > 1) {
		const kvt_event_level *level = &queue->levels[queue->n_levels - 1];
		for (uint32_t b = level->current; b < level->n_buckets; b++)
			if (level->buckets[b].end)
				return;
		queue->from[--queue->n_levels] = 0;
	}
}

/*
 * Turns a front that has grown too long and one more entry into a level. It begins now, so that
 * whatever is pushed next falls into it and not in front of it, and into another level, and so on.
 */
static void spill(kvt_event_queue *queue, kvt_event_entry entry)
{
	uint64_t low = (uint64_t)queue->now, high = MAX(entry.when, queue->tail[-1].when);
	size_t n = (size_t)(queue->tail - queue->head) + 1;
	/* where the front has the last of a level, that level would lie empty around the new one,
	 * and around the next, as often as a far event comes to the front and others before it */
	drop_exhausted(queue);
	kvt_event_level *level = add_level(queue, low, high, n, 0.5 * (double)(high - low));
	for (const kvt_event_entry *e = queue->head; e < queue->tail; e++)
		kvt_event_queue_append(queue, level, *e);
	kvt_event_queue_append(queue, level, entry);
	queue->head = queue->tail = queue->front_entries;
}

/* Moves a front that lies in a chunk to where it can be added to at both ends. */
static void leave_chunk(kvt_event_queue *queue)
{
	size_t n = (size_t)(queue->tail - queue->head);
	memcpy(queue->front_entries, queue->head, n * sizeof *queue->head);
	queue->head = queue->front_entries;
	queue->tail = queue->front_entries + n;
	free_chunk(queue, queue->open_chunk);
	queue->open_chunk = NULL;
}

/* Adds to the front an entry that belongs before all levels. */
void kvt_event_queue_insert(kvt_event_queue *queue, kvt_event_entry entry)
{
	/* only an instant that has been looked at and not yet reached has anything before it */
	if (queue->open_chunk)
		leave_chunk(queue);
	if (queue->head > queue->front_entries &&
		(queue->head == queue->tail || entry.when < queue->head->when)) {
		*--queue->head = entry;
		return;
	}
	if (queue->tail == queue->front_entries + KVT_EVENT_FRONT_ENTRIES) {
		size_t n = (size_t)(queue->tail - queue->head);
		if (n > KVT_EVENT_FRONT_ENTRIES / 2) {
			spill(queue, entry);
			return;
		}
		memmove(queue->front_entries, queue->head, n * sizeof *queue->head);
		queue->head = queue->front_entries;
		queue->tail = queue->front_entries + n;
	}
	kvt_event_entry *at = queue->tail++;
	for (; at > queue->head && at[-1].when > entry.when; at--)
		*at = at[-1];
	*at = entry;
}

static void sweep_bucket(kvt_event_queue *queue, kvt_event_level *level, kvt_event_bucket *bucket)
{
	kvt_event_entry *end;
	chunk_walk walk = walk_chunks(bucket);
	*bucket = (kvt_event_bucket){ NULL, NULL };
	for (kvt_event_chunk *c; (c = walk_next(&walk, &end));) {
		for (const kvt_event_entry *e = c->entries; e < end; e++) {
			if (kvt_event_queue_is_pending(queue, e->event))
				kvt_event_queue_append(queue, level, *e);
		}
		free_chunk(queue, c);
	}
}

/* Drops what cancelled events have left behind. */
static void sweep(kvt_event_queue *queue)
{
	for (unsigned l = 0; l < queue->n_levels; l++) {
		kvt_event_level *level = &queue->levels[l];
		for (uint32_t b = level->current; b < level->n_buckets; b++) {
			if (level->buckets[b].end)
				sweep_bucket(queue, level, &level->buckets[b]);
		}
	}
	kvt_event_entry *kept = queue->head;
	for (const kvt_event_entry *e = queue->head; e < queue->tail; e++) {
		if (kvt_event_queue_is_pending(queue, e->event))
			*kept++ = *e;
	}
	queue->tail = kept;
	queue->n_cancelled = 0;
}

bool kvt_event_queue_cancel(kvt_event_queue *queue, kvt_event event)
{
	uint32_t i = (uint32_t)event, generation = (uint32_t)(event >> 32);
	if (generation % 2 == 0 || i >= queue->n_slots || queue->slots[i].generation != generation)
		return false;
	kvt_event_queue_end_event(queue, event);
	if (++queue->n_cancelled > MIN_CANCELLED + queue->n_pending)
		sweep(queue);
	return true;
}

size_t kvt_event_queue_bytes(const kvt_event_queue *queue)
{
	size_t bytes = sizeof *queue + queue->slot_capacity * sizeof *queue->slots +
		       queue->n_chunks * sizeof(kvt_event_chunk);
	for (unsigned l = 0; l < KVT_EVENT_MAX_LEVELS; l++)
		bytes += queue->levels[l].capacity * sizeof(kvt_event_bucket);
	return bytes;
}
