/*
 * modelled_tier.h: the one service model behind every modelled tier. What differs between HBM,
 * DRAM, drives and remote memory is in the spec: capacity, path, latency, I/O size. An I/O waits a
 * first-byte latency, then its bytes flow over all links of the path at once.
 */
#ifndef KVT_MODELLED_TIER_H
#define KVT_MODELLED_TIER_H

#include "sim/base/rng.h"
#include "sim/tier/tier.h"
#include "sim/tier/topology.h"

/* A lognormal latency by its median and 99th percentile, seconds; p99 < median means none. */
typedef struct kvt_latency {
	double median, p99;
} kvt_latency;

typedef struct kvt_direction_spec {
	kvt_path path;
	kvt_latency latency; /* of one device I/O */
} kvt_direction_spec;

typedef struct kvt_modelled_spec {
	uint64_t capacity; /* bytes; UINT64_MAX: unbounded */
	kvt_direction_spec read, write;
	uint64_t max_io_bytes; /* neighbouring pages are moved in one device I/O up to this; 0: any
				*/
	gboolean page_ios;     /* every page is a device I/O of its own */
	unsigned io_ranks;     /* an extent is cut into this many shares first (one a rank) */
	unsigned queue_depth;  /* device I/Os in flight; how many latencies overlap; 0: no limit */
	unsigned max_ios;      /* kvt_ios in flight before submit says -EAGAIN; 0: 4096 */
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

/*
 * A sample of the longest of `n` independent latencies (n >= 1), in picoseconds: an I/O that is cut
 * into n device I/Os is complete when its slowest is.
 */
kvt_time kvt_latency_sample(const kvt_latency *latency, uint64_t n, kvt_rng *rng);

#endif
