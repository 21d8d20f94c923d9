/* replay_fixture.h: what tests of the replay share: attention that is made up, a world to replay it
 * in, and a tier that misbehaves on purpose. */
#ifndef KVT_REPLAY_FIXTURE_H
#define KVT_REPLAY_FIXTURE_H

#include "sim/engine/replay.h"
#include "sim/tier/topology.h"

/*
 * Made-up attention: every head has a few pages that it likes for a while, the last pages and
 * noise. The first step's token is number `context`; `stride` tokens lie between steps.
 */
typedef struct kvt_fake_spec {
	uint64_t seed;
	uint32_t n_steps, n_layers, n_heads;
	uint32_t context, stride, block_tokens;
	uint32_t chunk;  /* tokens of a local chunk; 0: everything earlier is present */
	uint32_t listed; /* pages a row lists at most; 0: all */
	uint32_t prompt; /* of every 20 steps, so many begin with a token that was given */
	/* Keys and queries, and masses that are their softmax: query heads a KV head, and numbers a
	 * key, 0 for none; the shapes are the source's then. */
	uint32_t group, head_dim;
	/* What may not be known yet comes as garbage: keys of pages that are not complete, queries
	 * after the newest step that was asked for (or, with `previous`, after the one before). */
	bool poison, previous;
} kvt_fake_spec;

extern const kvt_fake_spec kvt_fake_default;

kvt_replay_source *kvt_fake_source_new(const kvt_fake_spec *spec);
void kvt_fake_source_free(kvt_replay_source *source);

/* Pages of keys, and queries, that were asked for too early. */
uint64_t kvt_fake_source_leaks(const kvt_replay_source *source);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_replay_source, kvt_fake_source_free)

/* A tier in front of another one. Counts are of kvt_ios. */
typedef struct kvt_odd_spec {
	unsigned refuse_above;    /* says -EAGAIN with so many in flight; 0: never */
	unsigned refuse_every;    /* every n-th submit says -EAGAIN; 1: all of them */
	unsigned fail_read_every; /* every n-th read fails with -EIO; 0: none */
	unsigned fail_write_every;
	int write_status;     /* what every write ends with, when not 0 */
	kvt_time write_delay; /* a write ends so much later */
} kvt_odd_spec;

/* What a run is in; a description, so that two runs can be compared. */
typedef struct kvt_fake_world {
	const char *tier;
	double link_rate; /* bytes/s of PCIe; 0: the link stands still */
	const kvt_odd_spec *odd;
	uint64_t seed, capacity; /* capacity 0: the tier's own */
	kvt_timeline *timeline;
} kvt_fake_world;

extern const kvt_fake_world kvt_fake_world_default;

/* 2% of the pages, last-step, LRU, 4 KiB pages. */
kvt_replay_settings kvt_fake_settings(void);

/* One run from beginning to end. */
gboolean kvt_fake_replay(const kvt_fake_spec *spec, const kvt_replay_settings *settings,
	const kvt_fake_world *world, kvt_replay_result *result, GError **error);

/* The same, of a source the caller has. */
gboolean kvt_fake_replay_source(kvt_replay_source *source, const kvt_replay_settings *settings,
	const kvt_fake_world *world, kvt_replay_result *result, GError **error);

#endif
