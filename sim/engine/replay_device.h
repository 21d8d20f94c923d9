/*
 * replay_device.h: what a replay asks of the device whose memory HBM is: attention of a layer over
 * the pages that a step reads, in two parts, because some of them may still be on their way. The
 * modelled device (below) only takes the time; a real one attends to pages where they lie. Neither
 * decides which.
 */
#ifndef KVT_REPLAY_DEVICE_H
#define KVT_REPLAY_DEVICE_H

#include "sim/cache/extent_list.h"
#include "sim/core/loop.h"
#include "sim/engine/replay_selection.h"

typedef struct kvt_replay_settings kvt_replay_settings;
typedef struct kvt_replay_device kvt_replay_device;

/* What a KV head attends to. Pointers hold until the attention is over. */
typedef struct kvt_replay_reads {
	const kvt_selection *selection;
	bool all; /* everything present, not the selection */
	/* [n_pages] of the source, 1 for a page that is in HBM when this attention is over; what is
	 * read beside them only passes through */
	const uint8_t *resident;
} kvt_replay_reads;

typedef struct kvt_replay_call {
	uint32_t step, recorded, layer; /* layer: its number in extents; recorded: in the source */
	uint64_t pages;                 /* that are read, all KV heads */
	uint32_t n_heads;
	const kvt_replay_reads *heads; /* NULL for a further layer that a recorded one stands for */
	/* of the pages that are read, and of others, what is on its way; may be empty */
	const kvt_extent_list *late[2];
} kvt_replay_call;

typedef struct kvt_replay_device_ops {
	/* Where the run's pages lie or will lie, one after another. May be NULL: nowhere. */
	void *(*memory)(kvt_replay_device *device, const kvt_extent *extent);
	/* The run's keys and values were computed again: its pages are there from now on. May be
	 * NULL, as `memory`. */
	void (*remake)(kvt_replay_device *device, const kvt_extent *extent);
	/* Reading so many bytes of sketches takes. */
	kvt_time (*scan_time)(kvt_replay_device *device, uint64_t bytes);
	/* Attention begins, over what is not late. One layer's at a time. */
	void (*begin)(kvt_replay_device *device, const kvt_replay_call *call);
	/* All has arrived, `last` bytes of it just now, which are attended to last. done(arg) is
	 * called on the loop, not inline, when the attention is over. */
	void (*finish)(kvt_replay_device *device, uint64_t last, kvt_callback done, void *arg);
	/* How long the attention that is over would have taken with all pages in HBM. */
	kvt_time (*computed)(const kvt_replay_device *device);
	void (*free)(kvt_replay_device *device);
} kvt_replay_device_ops;

/* A device begins with its operations; an implementation embeds this first. */
struct kvt_replay_device {
	const kvt_replay_device_ops *ops;
};

/* Attention takes what the settings say of it; what came last is attended to at HBM's rate. */
kvt_replay_device *kvt_replay_modelled_device_new(
	kvt_loop *loop, const kvt_replay_settings *settings, uint32_t n_heads);

#endif
