/*
 * attention_base.h: the time of an attention kernel from first principles: bytes through memory and
 * L2, thread blocks dealt to the SMs, a launch floor. It knows no measured table; the constants it
 * takes are fitted by attention_fit.c, and what is left over is the table's part.
 *
 * A decode kernel reads B x Hk x T x 2 D elements of KV once. A prefill kernel computes, for each
 * tile of query rows of each head, a row of keys that grows with the tile's place (causal).
 */
#ifndef KVT_ATTENTION_BASE_H
#define KVT_ATTENTION_BASE_H

#include <stdbool.h>
#include <stdint.h>

/* What of the GPU the formulas need; from its datasheet. */
typedef struct kvt_attention_gpu {
	int64_t sms;      /* streaming multiprocessors */
	double l2;        /* bytes */
	double bandwidth; /* peak of device memory, bytes/s */
	double flops;     /* peak dense BF16, FLOP/s: only where a fit begins */
} kvt_attention_gpu;

/* One kernel: head_dim, batch... as in kvt_attention_query; elements' sizes in bytes. */
typedef struct kvt_attention_work {
	double batch, heads, kv_heads, head_dim;
	double tokens;   /* decode: KV length; prefill: prompt length */
	double kv_bytes; /* of one KV element: 2, 1, 0.5 */
	bool cold;       /* decode: none of the KV is in L2 */
} kvt_attention_work;

/* Fitted constants of a kernel; all > 0, so that a fit can move their logarithms. */
enum {
	KVT_BASE_FLOOR,     /* s, launch */
	KVT_BASE_PER_HEAD,  /* s a sequence and query head: queries, outputs, reduction */
	KVT_BASE_MEMORY,    /* bytes/s of device memory */
	KVT_BASE_CACHE,     /* bytes/s of L2 */
	KVT_BASE_CAPACITY,  /* share of L2 that holds the working set at half hits */
	KVT_BASE_STEEPNESS, /* of the cliff there */
	KVT_BASE_OVERLAP,   /* exponent p of (a^p + b^p)^(1/p): 1 adds, infinity takes the larger */
	KVT_BASE_COMMON,
	/* decode */
	KVT_BASE_SERIAL = KVT_BASE_COMMON, /* s a key token in one thread block, one query head */
	KVT_BASE_SERIAL_GROUP,             /* the same where query heads share a KV head */
	KVT_BASE_SPLITS,                   /* most thread blocks that share a KV head's tokens */
	KVT_BASE_SPLITS_GROUP,
	KVT_BASE_SPLIT_TOKENS, /* tokens below which it is not worth another one */
	KVT_BASE_COMBINE,      /* s to merge the result of one more */
	KVT_BASE_DECODE_COUNT,
	/* prefill */
	KVT_BASE_RATE = KVT_BASE_COMMON, /* FLOP/s of all SMs, long rows */
	KVT_BASE_TILE_KEYS,              /* keys whose time a tile spends beside its own */
	KVT_BASE_LATE,                   /* share of the longest tile that the last wave shows */
	KVT_BASE_STORE,                  /* times that each KV element is moved */
	KVT_BASE_TAIL,                   /* exponent p of how the mean load and that tile add */
	KVT_BASE_SLOWER,                 /* share by which long work runs longer: clocks fall */
	KVT_BASE_BURST,                  /* s of work at which half of that shows */
	KVT_BASE_PREFILL_COUNT,
	KVT_BASE_MAX = 16,
};

typedef struct kvt_attention_base {
	bool decode;
	int tile;    /* query rows of a prefill tile */
	bool packed; /* prefill tiles hold the query heads of one KV head together */
	double constants[KVT_BASE_MAX];
} kvt_attention_base;

/* How many constants the phase has. */
unsigned kvt_attention_base_count(const kvt_attention_base *base);

/* Their names, in order. */
const char *kvt_attention_base_name(const kvt_attention_base *base, unsigned i);

/* Where a fit begins, from the datasheet. */
void kvt_attention_base_guess(kvt_attention_base *base, const kvt_attention_gpu *gpu);

/* Seconds; > 0 and never falling in tokens. */
double kvt_attention_base_seconds(const kvt_attention_base *base, const kvt_attention_gpu *gpu,
	const kvt_attention_work *work);

/* Share of the kernel's bytes that come from device memory, 0 (all in L2) to 1. */
double kvt_attention_base_misses(const kvt_attention_base *base, const kvt_attention_gpu *gpu,
	const kvt_attention_work *work);

#endif
