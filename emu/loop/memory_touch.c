/* memory_touch.c: threads that ask the kernel for one part after the other. */
#include "emu/loop/memory_touch.h"

#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum { POPULATE_WRITE = 23 /* MADV_POPULATE_WRITE, since Linux 5.14 */, THREADS = 16 };

static const uint64_t PART_BYTES = UINT64_C(64) << 20;

typedef struct touching {
	uint8_t *memory;
	uint64_t bytes;
	atomic_uint_fast64_t next; /* the first byte that nobody has begun with */
} touching;

static void *touch(void *arg)
{
	touching *t = arg;
	for (;;) {
		uint64_t at = atomic_fetch_add(&t->next, PART_BYTES);
		if (at >= t->bytes ||
			madvise(t->memory + at, MIN(PART_BYTES, t->bytes - at), POPULATE_WRITE) < 0)
			return NULL;
	}
}

void kvt_memory_touch(void *memory, uint64_t bytes)
{
	touching t = { .memory = memory, .bytes = bytes };
	uint64_t parts = bytes / PART_BYTES;
	unsigned wanted = (unsigned)MIN(MIN(parts, THREADS), g_get_num_processors()), n = 0;
	pthread_t threads[THREADS];
	while (n + 1 < wanted && pthread_create(&threads[n], NULL, touch, &t) == 0)
		n++;
	touch(&t);
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
}
