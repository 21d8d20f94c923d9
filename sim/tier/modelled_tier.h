/*
 * modelled_tier.h: the one service model behind every modelled tier. What differs between HBM,
 * DRAM, drives and remote memory is in the spec: capacity, path, latency, I/O size, commands. An
 * I/O is cut into device I/Os. It waits a first-byte latency, then its bytes flow over all links of
 * the path at once; beside that its device I/Os flow over the links of the command path. It is
 * complete when both are. I/Os that are under way at once share what they cross; where the spec
 * says so, reads are served one by one at the first link of either path, and so are writes. A fluid
 * model: device I/Os are counted and paid for, not simulated one by one.
 */
#ifndef KVT_MODELLED_TIER_H
#define KVT_MODELLED_TIER_H

#include "sim/tier/latency.h"
#include "sim/tier/tier.h"
#include "sim/tier/topology.h"

typedef struct kvt_direction_spec {
	kvt_path path;
	/* What limits device I/Os whatever their bytes: IOPS, queue slots. Empty: nothing. */
	kvt_path command_path;
	kvt_latency latency; /* of one device I/O, its data not counted */
	/* bytes/s that one device moves: the most for an I/O of one piece. 0: no limit */
	double device_rate;
	double command_rate; /* bytes/s that one device I/O moves at most; 0: as device_rate */
} kvt_direction_spec;

/* A link whose rate falls while reads and writes are in flight at once. */
typedef struct kvt_mixed_link {
	kvt_link link;
	double rate; /* for reads or writes alone */
} kvt_mixed_link;

enum { KVT_MIXED_LINKS_MAX = 2 };

typedef struct kvt_modelled_spec {
	uint64_t capacity; /* bytes; UINT64_MAX: unbounded */
	kvt_direction_spec direction[KVT_DIRECTIONS];
	uint64_t max_io_bytes; /* neighbouring pages move in one device I/O up to this; 0: any */
	gboolean in_turn;  /* reads, or writes, of a class are served in order of submission, up to
			      the places of the first link together */
	gboolean page_ios; /* every page is a device I/O, and a copy, of its own */
	gboolean copy_whole; /* copies to and from the GPU are not cut by max_io_bytes */
	unsigned io_ranks;   /* an extent is cut into this many shares first (one a rank); 0: 1 */
	unsigned devices;    /* that device I/Os are spread over; 0: 1 */
	kvt_mixed_link mixed[KVT_MIXED_LINKS_MAX];
	unsigned n_mixed;
	double mixed_efficiency; /* share of their rate that these have while there is a mix */
	unsigned max_ios;        /* kvt_ios in flight before submit says -EAGAIN; 0: 1024 */
} kvt_modelled_spec;

/* Opens a modelled tier; `ops` is what the tier presents itself as. */
kvt_tier *kvt_modelled_tier_new(
	const kvt_tier_ops *ops, const kvt_tier_env *env, const kvt_modelled_spec *spec);

/* The operations every modelled tier shares, to be put in its kvt_tier_ops. */
int kvt_modelled_submit(kvt_tier *tier, kvt_io *io);
uint64_t kvt_modelled_discard(kvt_tier *tier, uint32_t tenant, const kvt_extent *extent);
bool kvt_modelled_holds(kvt_tier *tier, uint32_t tenant, const kvt_extent *extent);
bool kvt_modelled_preload(kvt_tier *tier, uint32_t tenant, const kvt_extent *extent);
void kvt_modelled_stats(kvt_tier *tier, kvt_tier_stats *stats);
void kvt_modelled_close(kvt_tier *tier);

/* The common members of a modelled tier's operations. */
#define KVT_MODELLED_OPS                                                                           \
	.submit = kvt_modelled_submit, .discard = kvt_modelled_discard,                            \
	.holds = kvt_modelled_holds, .preload = kvt_modelled_preload, .stats = kvt_modelled_stats, \
	.close = kvt_modelled_close

#endif
