/*
 * slab_pool.h: memory that a storage node keeps pages in for others to read: slabs, each of one
 * tenant, filled from the front and given up as a whole. It knows which page lies where, which
 * slabs somebody needs as they are, and which of the others was not used for longest. It knows no
 * network, no drives and no time; its user is told when a slab changes hands.
 *
 * A slab that is held, by a lease, a write that is under way or a transfer, stays as it is: what
 * lies in it stays readable where it lies, even when it has been overwritten or forgotten. Room is
 * given out once until the slab has changed hands, so a page that was written stays what it is.
 */
#ifndef KVT_SLAB_POOL_H
#define KVT_SLAB_POOL_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "emu/tier/memory_arena.h"
#include "emu/store/store.h"

typedef struct kvt_slab_pool kvt_slab_pool;
typedef struct kvt_slab kvt_slab;

/* What a slab is filled with; a tenant fills one slab of each at a time. */
typedef enum kvt_slab_use {
	KVT_SLAB_STAGED,  /* pages that this side puts there */
	KVT_SLAB_WRITTEN, /* pages that the tenant puts there */
	KVT_SLAB_USES,
} kvt_slab_use;

/* For others to read, but for `state`. */
struct kvt_slab {
	uint8_t *memory;
	uint32_t tenant;
	kvt_slab_use use;
	bool taken;   /* it is some tenant's */
	bool filling; /* and takes more pages */
	unsigned holds;
	uint64_t filled;     /* bytes given out */
	uint64_t live_pages; /* that can be found in it */
	void *state;         /* the user's */
	/* the pool's */
	void *blocks;
	kvt_slab *previous, *next;
	bool listed;
};

typedef struct kvt_slab_pool_settings {
	uint64_t bytes, slab_bytes; /* multiples of 4 KiB; at least one slab */
	kvt_huge_pages huge;
	bool pinned;
	int node;   /* NUMA; -1: any */
	bool evict; /* whether pages may be forgotten to make room */
	/* A slab has become a tenant's: 0, or a negative errno, and it has not. */
	int (*opened)(void *arg, kvt_slab *slab);
	/* It takes no more pages; and: it is nobody's, and may soon be another's. After a refusal
	 * of opened neither is called. sealed comes first, once; closed last. */
	void (*sealed)(void *arg, kvt_slab *slab);
	void (*closed)(void *arg, kvt_slab *slab);
	void *arg;
} kvt_slab_pool_settings;

/* NULL with an error without memory. */
kvt_slab_pool *kvt_slab_pool_new(const kvt_slab_pool_settings *settings, GError **error);

/* Closes every slab, held or not. */
void kvt_slab_pool_free(kvt_slab_pool *pool);

/* All of the memory, for registering it. */
uint8_t *kvt_slab_pool_memory(const kvt_slab_pool *pool, uint64_t *bytes);

/* Room for pages of one run, one after another from `memory`, which lies at a multiple of 4 KiB. */
typedef struct kvt_slab_block {
	kvt_slab *slab;
	uint8_t *memory;
	kvt_store_run run;
	struct kvt_slab_block *next; /* the pool's */
	uint64_t checksums[]; /* [run.pages.n_pages], the user's to fill before others see it */
} kvt_slab_block;

/*
 * Takes room for the run's first pages: as many as fit into the slab that is being filled, or into
 * a new one; `most` is the number of slabs that the tenant may have. The block's slab is held once
 * for the caller. NULL with *status: -EAGAIN when every slab that could go is held or, without
 * evict, has pages; -E2BIG for pages that are larger than a slab; or what `opened` said. A block is
 * the pool's and goes with its slab.
 */
kvt_slab_block *kvt_slab_pool_take(kvt_slab_pool *pool, const kvt_store_run *run, kvt_slab_use use,
	unsigned most, int *status);

/* Gives up a block that nobody was told of, and its hold; room that was taken last can be taken
 * again. */
void kvt_slab_pool_untake(kvt_slab_pool *pool, kvt_slab_block *block);

/* Makes the block's pages those that are found. Its slab must be held. */
void kvt_slab_pool_publish(kvt_slab_pool *pool, kvt_slab_block *block);

/* The same for those pages of it alone that are not found. */
void kvt_slab_pool_fill(kvt_slab_pool *pool, kvt_slab_block *block);

void kvt_slab_hold(kvt_slab_pool *pool, kvt_slab *slab);
void kvt_slab_drop(kvt_slab_pool *pool, kvt_slab *slab);

/* Pages one after another in memory. */
typedef struct kvt_slab_piece {
	kvt_slab *slab;
	uint8_t *memory;
	uint64_t first_page, n_pages;
	const uint64_t *checksums;
} kvt_slab_piece;

/*
 * The first pages of the run: true when *piece has them, which counts as a use of its slab; false
 * when the first page is not there, or of another size: then piece->n_pages is how many are not
 * before the next that is, or the end. Holds nothing.
 */
bool kvt_slab_pool_find(kvt_slab_pool *pool, const kvt_store_run *run, kvt_slab_piece *piece);

/* Forgets what is there of the run, whatever its size. Returns how many pages. */
uint64_t kvt_slab_pool_forget(kvt_slab_pool *pool, const kvt_store_run *run);

/* Calls `each` for each run of pages of a tenant's and model's that is found, of a layer in page
 * order. */
void kvt_slab_pool_each(const kvt_slab_pool *pool, uint32_t tenant, uint64_t model,
	void (*each)(void *arg, const kvt_store_run *run), void *arg);

typedef struct kvt_slab_pool_info {
	uint64_t slabs, slab_bytes;
	uint64_t taken, held; /* slabs */
	uint64_t pages, page_bytes;
	uint64_t opened, evicted, evicted_pages, refused; /* since it was made */
} kvt_slab_pool_info;

kvt_slab_pool_info kvt_slab_pool_get_info(const kvt_slab_pool *pool);

/* Slabs that the tenant has, and of these held ones. */
unsigned kvt_slab_pool_taken(const kvt_slab_pool *pool, uint32_t tenant);
unsigned kvt_slab_pool_held(const kvt_slab_pool *pool, uint32_t tenant);

#endif
