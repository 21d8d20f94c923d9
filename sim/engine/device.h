/*
 * device.h: what the engine asks of the GPUs of one tensor-parallel group: matrix products,
 * attention over windows of KV, all-reduce. Calls are asynchronous; order within a stream and
 * tokens between streams say what waits for what, as CUDA streams and events do. The modelled
 * device (modelled_device.c) computes when each call would end; a real one launches it.
 */
#ifndef KVT_DEVICE_H
#define KVT_DEVICE_H

#include <stdint.h>

#include "sim/core/loop.h"
#include "sim/tier/tier.h"

typedef struct kvt_device kvt_device;

typedef enum kvt_stream {
	KVT_STREAM_COMPUTE,
	KVT_STREAM_COMMUNICATION,
	KVT_STREAMS,
} kvt_stream;

typedef enum kvt_work_kind {
	KVT_WORK_QKV,        /* projections before attention */
	KVT_WORK_ATTENTION,  /* query tokens against KV tokens: partial results with log-sum-exp */
	KVT_WORK_MERGE,      /* of partial results */
	KVT_WORK_OUTPUT,     /* projection after attention */
	KVT_WORK_MLP,        /* dense, or router and experts */
	KVT_WORK_ALL_REDUCE, /* of the tokens' hidden state */
	KVT_WORK_HEAD,       /* the LM head, and the sample */
	KVT_WORK_KINDS,
} kvt_work_kind;

/* "qkv", "attention", ... in that order. */
extern const char *const kvt_work_names[KVT_WORK_KINDS];

typedef struct kvt_work {
	kvt_work_kind kind;
	unsigned layer;
	uint64_t tokens; /* query tokens, all of one sequence */
	/* of KVT_WORK_ATTENTION: KV tokens that every query token sees, and whether the query
	 * tokens also see each other causally (each itself and the earlier ones) */
	uint64_t kv_tokens;
	int causal;
	unsigned batch; /* equal pieces of `tokens` query tokens each, in one launch; 0 is 1 */
	/* which they are: the first query token's position; of KVT_WORK_ATTENTION also the KV
	 * tokens, kv_tokens from `first` on without the `gap` ones from gap_first on, and where
	 * they lie, KVT_PLACE_HOME or a staging buffer. A model of time needs none of it. */
	uint64_t position, first, gap_first, gap;
	unsigned place;
	int again; /* of tokens whose KV was lost: nobody but KV of higher layers needs it */
} kvt_work;

/* Places of KV in a device's memory: KVT_PLACE_HOME, where a token stays, and KVT_PLACE_STAGING + i
 * for the i-th staging buffer, whose first page is the first of what was loaded into it. */
enum { KVT_PLACE_HOME, KVT_PLACE_STAGING };

/* Stands for the end of a call; opaque, 0 is "already over". */
typedef int64_t kvt_token;

typedef struct kvt_device_ops {
	const char *name;
	/* Queues the work behind what the stream already has and behind every token. */
	kvt_token (*submit)(kvt_device *device, kvt_stream stream, const kvt_work *work,
		const kvt_token *after, unsigned n_after);
	/* Calls callback(arg) on the loop, never inline, when the token is over. */
	void (*notify)(kvt_device *device, kvt_token token, kvt_callback callback, void *arg);
	/* Where the pages of a run lie at a place, one after another; stays valid. NULL where there
	 * is no memory. May be NULL: no device has any. */
	void *(*memory)(kvt_device *device, unsigned place, const kvt_extent *extent);
	/* Work of `again` has made the run's keys and values: its pages are at KVT_PLACE_HOME from
	 * now on. May be NULL, as `memory`. */
	void (*remake)(kvt_device *device, const kvt_extent *extent);
	/* Time the streams were busy with a kind of work so far. */
	kvt_time (*busy)(kvt_device *device, kvt_work_kind kind);
	void (*free)(kvt_device *device);
} kvt_device_ops;

/* A device begins with its operations; an implementation embeds this first. */
struct kvt_device {
	const kvt_device_ops *ops;
};

static inline kvt_token kvt_device_submit(kvt_device *device, kvt_stream stream,
	const kvt_work *work, const kvt_token *after, unsigned n_after)
{
	return device->ops->submit(device, stream, work, after, n_after);
}

static inline void kvt_device_notify(
	kvt_device *device, kvt_token token, kvt_callback callback, void *arg)
{
	device->ops->notify(device, token, callback, arg);
}

static inline void *kvt_device_memory(kvt_device *device, unsigned place, const kvt_extent *extent)
{
	return device->ops->memory ? device->ops->memory(device, place, extent) : NULL;
}

static inline void kvt_device_remake(kvt_device *device, const kvt_extent *extent)
{
	if (device->ops->remake)
		device->ops->remake(device, extent);
}

static inline void kvt_device_free(kvt_device *device)
{
	if (device)
		device->ops->free(device);
}

#endif
