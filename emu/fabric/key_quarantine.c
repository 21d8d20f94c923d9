/*
 * key_quarantine.c: a ring of keys in the order they went out of use, and how often each is in it.
 */
#include "emu/fabric/key_quarantine.h"

#include <glib.h>

typedef struct old_key {
	uint32_t key;
	kvt_time since;
} old_key;

struct kvt_key_quarantine {
	kvt_time period;
	unsigned most;
	uint64_t begin, end; /* of the ring, counting on */
	old_key *ring;
	GHashTable *times; /* key: how often it is in the ring */
};

kvt_key_quarantine *kvt_key_quarantine_new(kvt_time period, unsigned most)
{
	kvt_key_quarantine *q = g_new0(kvt_key_quarantine, 1);
	g_assert(most > 0);
	q->period = period;
	q->most = most;
	q->ring = g_new0(old_key, most);
	q->times = g_hash_table_new(NULL, NULL);
	return q;
}

void kvt_key_quarantine_free(kvt_key_quarantine *q)
{
	if (!q)
		return;
	g_hash_table_unref(q->times);
	g_free(q->ring);
	g_free(q);
}

static void release_first(kvt_key_quarantine *q)
{
	gpointer key = GUINT_TO_POINTER(q->ring[q->begin++ % q->most].key);
	unsigned times = GPOINTER_TO_UINT(g_hash_table_lookup(q->times, key));
	if (times > 1)
		g_hash_table_insert(q->times, key, GUINT_TO_POINTER(times - 1));
	else
		g_hash_table_remove(q->times, key);
}

static void release_old(kvt_key_quarantine *q, kvt_time now)
{
	while (q->begin < q->end && now - q->ring[q->begin % q->most].since >= q->period)
		release_first(q);
}

void kvt_key_quarantine_add(kvt_key_quarantine *q, uint32_t key, kvt_time now)
{
	release_old(q, now);
	if (q->end - q->begin == q->most)
		release_first(q);
	q->ring[q->end++ % q->most] = (old_key){ key, now };
	unsigned times = GPOINTER_TO_UINT(g_hash_table_lookup(q->times, GUINT_TO_POINTER(key)));
	g_hash_table_insert(q->times, GUINT_TO_POINTER(key), GUINT_TO_POINTER(times + 1));
}

bool kvt_key_quarantine_has(kvt_key_quarantine *q, uint32_t key, kvt_time now)
{
	release_old(q, now);
	return g_hash_table_contains(q->times, GUINT_TO_POINTER(key));
}
