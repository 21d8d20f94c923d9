/*
 * tier.h: where KV pages live and how they move. A tier (HBM, DRAM, an NVMe array, remote NVMe or
 * DRAM over RDMA) takes I/Os, lists of page runs, and reports their completion on the loop. The
 * modelled tiers are in this folder; real ones implement the same operations.
 *
 * Contract of every tier, held by one conformance suite (tests/unit/tier_conformance.h):
 * - submit never completes inline; `done` runs on the loop, once, whatever happens to the I/O. It
 *   may submit, also the I/O that has just ended. An I/O that submit refuses is not touched.
 * - An I/O that ends with status 0 moved all its bytes, one with another status counts as none.
 * - A read of a page that was not completely written completes with -ENOENT and moves nothing.
 * - Pages become readable when their write completes, all of an I/O or none.
 * - A write that does not fit completes with -ENOSPC, stores nothing and changes nothing. What is
 *   written again needs room for both versions until the write completes. A write that fails
 *   otherwise (-EIO) leaves no page newly readable; pages that it was to replace may be lost.
 * - A discard takes effect at once: reads submitted later find nothing, and a read that is in
 *   flight completes with -ENOENT, never with pages that may have been given away. Pages of a write
 *   in flight are not there yet: a discard leaves them be.
 * - Capacity, writes in flight included, is never exceeded.
 * - Tenants do not see each other's pages.
 * - The same seed and the same calls give the same completions (modelled tiers).
 * Other errors that an I/O may end with: -EIO, and -EBADMSG for a page whose checksum is wrong.
 */
#ifndef KVT_TIER_H
#define KVT_TIER_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "models/model_store.h"
#include "sim/base/config.h"
#include "sim/base/histogram.h"
#include "sim/base/sim_time.h"
#include "sim/core/bandwidth.h"
#include "sim/core/loop.h"

typedef struct kvt_tier kvt_tier;
typedef struct kvt_tier_ops kvt_tier_ops;
typedef struct kvt_io kvt_io;
typedef struct kvt_timeline kvt_timeline;

typedef enum kvt_io_op {
	KVT_IO_READ,
	KVT_IO_WRITE,
} kvt_io_op;

/* A run of consecutive pages of one layer of one context: [first_page, first_page + n_pages). */
typedef struct kvt_extent {
	uint32_t context; /* whose pages: a conversation, or a KV head of one in a replay */
	uint32_t layer;
	uint64_t first_page, n_pages;
	uint64_t page_bytes; /* of one page, all ranks; the same for all pages of a layer */
} kvt_extent;

static inline uint64_t kvt_extent_bytes(const kvt_extent *extent)
{
	return extent->n_pages * extent->page_bytes;
}

struct kvt_io {
	kvt_io_op op;
	uint32_t tenant;
	unsigned priority;         /* a class of bandwidth.h: 0 is served first */
	const kvt_extent *extents; /* must outlive the I/O */
	unsigned n_extents;
	/* [n_extents]: where each run's pages lie or go, one after another; must outlive the I/O.
	 * Modelled tiers ignore it. NULL: a real tier moves scratch memory of its own, checks what
	 * it reads and drops it. */
	void *const *memory;
	void (*done)(kvt_io *io);
	void *arg;
	/* set by the tier before done */
	int status; /* 0 or a negative errno; see the contract */
	uint64_t bytes;
	kvt_time submitted, completed;
	/* the tier's own while the I/O is in flight */
	kvt_io *next;
	void *tier_state;
};

/* Whether a run is one: some pages of some bytes, none beyond the last page number. */
bool kvt_extent_valid(const kvt_extent *extent);

/* Whether two valid runs of one tenant have a page in common. */
bool kvt_extent_overlaps(const kvt_extent *a, const kvt_extent *b);

/* What submit must refuse: 0, or -EINVAL for an I/O without extents or done, of a priority that is
 * none, or with a run that is not valid. *bytes is set to the bytes of all runs. */
int kvt_io_check(const kvt_io *io, uint64_t *bytes);

typedef struct kvt_tier_stats {
	uint64_t capacity; /* bytes; UINT64_MAX: unbounded */
	uint64_t used, peak_used;
	/* kvt_ios that completed, the bytes of those that succeeded, those that failed */
	uint64_t reads, read_bytes, read_errors;
	uint64_t writes, written_bytes, write_errors;
	uint64_t device_ios;        /* descriptors or commands the I/Os were cut into */
	kvt_histogram read_latency; /* submission to completion of a kvt_io, failed ones too, ps */
	kvt_histogram write_latency;
} kvt_tier_stats;

void kvt_tier_stats_init(kvt_tier_stats *stats, uint64_t capacity);

/* Counts an I/O that is about to be reported by its done; its fields are set. */
void kvt_tier_stats_count(kvt_tier_stats *stats, const kvt_io *io);

enum {
	KVT_TIER_MODELLED = 1 << 0,
	KVT_TIER_REAL = 1 << 1,
	KVT_TIER_DEVICE_MEMORY = 1 << 2,
	KVT_TIER_LASTING = 1 << 3, /* its pages are there again when it is opened anew */
};

/* What a tier is opened in. `links` names the links of the machine the tier may put on its path. */
typedef struct kvt_tier_env {
	kvt_loop *loop;
	kvt_network *network;
	kvt_timeline *timeline; /* may be NULL */
	uint64_t seed;
	unsigned instance; /* which of several tiers of one kind: each has its own random numbers */
	kvt_model_store *models; /* that drives are looked up in; NULL: the tier reads its own */
	const struct kvt_topology *topology;
} kvt_tier_env;

struct kvt_tier_ops {
	const char *name;    /* as in `tier = NAME` and `kvtier help tier NAME` */
	const char *summary; /* one line */
	unsigned flags;
	const kvt_option *options; /* drives parsing, limits and help */
	size_t settings_size;      /* of the struct the options fill */
	/* `settings` was filled by `options` and stays the caller's. An error is of the form
	 * "key: reason, expected what"; kvt_tier_open says which tier and section. */
	kvt_tier *(*open)(const kvt_tier_env *env, const void *settings, GError **error);
	/* 0, -EAGAIN (too many I/Os in flight, and at least one: retry after a completion), or
	 * -EINVAL for what kvt_io_check refuses and for a write of another page size than the
	 * layer's. */
	int (*submit)(kvt_tier *tier, kvt_io *io);
	/* Pushes what was submitted to the device; modelled tiers need none. May be NULL. */
	void (*commit)(kvt_tier *tier);
	/* Forgets pages; unknown ones are ignored. Returns the bytes freed. */
	uint64_t (*discard)(kvt_tier *tier, uint32_t tenant, const kvt_extent *extent);
	/* Whether all of the run can be read now. */
	bool (*holds)(kvt_tier *tier, uint32_t tenant, const kvt_extent *extent);
	/* Declares pages as already stored (an experiment's starting state); costs no time.
	 * False, and nothing stored, when they do not fit. NULL for tiers that cannot. */
	bool (*preload)(kvt_tier *tier, uint32_t tenant, const kvt_extent *extent);
	/* Memory that I/Os will name, and that stays until the tier is closed: moving from and to
	 * it need not prepare it every time. 0 or a negative errno, which costs nothing but speed.
	 * NULL: it makes no difference. */
	int (*register_memory)(kvt_tier *tier, void *memory, uint64_t bytes);
	/* What should be told to a person (fall-backs, what was lost); NULL: nothing. Stays until
	 * the next call. May be NULL. */
	const char *(*notice)(kvt_tier *tier);
	/* Fills *stats with what has been since the tier was opened. */
	void (*stats)(kvt_tier *tier, kvt_tier_stats *stats);
	/* Frees the tier. What is in flight is dropped: the loop must not run on. */
	void (*close)(kvt_tier *tier);
};

/* A tier begins with its operations; an implementation embeds this first. */
struct kvt_tier {
	const kvt_tier_ops *ops;
};

/* Every tier kind, NULL-terminated, in the order help shows them (tier_registry.c). */
const kvt_tier_ops *const *kvt_tier_registry(void);

/* The kind of that name, or an error with a suggestion. */
const kvt_tier_ops *kvt_tier_find(const char *name, GError **error);

/* Opens a tier of kind `name` with the options of `section` (NULL: defaults). */
kvt_tier *kvt_tier_open(
	const char *name, const kvt_tier_env *env, kvt_section *section, GError **error);

/* The same of a kind that need not be registered here: of the emulation's, say. */
kvt_tier *kvt_tier_open_kind(
	const kvt_tier_ops *ops, const kvt_tier_env *env, kvt_section *section, GError **error);

/* Reads the section as kvt_tier_open would and opens nothing. */
gboolean kvt_tier_check(const char *name, kvt_section *section, GError **error);

static inline int kvt_tier_submit(kvt_tier *tier, kvt_io *io)
{
	return tier->ops->submit(tier, io);
}

static inline void kvt_tier_commit(kvt_tier *tier)
{
	if (tier->ops->commit)
		tier->ops->commit(tier);
}

static inline void kvt_tier_close(kvt_tier *tier)
{
	if (tier)
		tier->ops->close(tier);
}

#endif
