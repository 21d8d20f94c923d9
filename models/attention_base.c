/* attention_base.c: attention kernels from bytes, FLOPs and thread blocks. No measured data. */
#include "models/attention_base.h"

#include <math.h>

static const char *const COMMON[] = { "floor", "per-head", "memory", "cache", "capacity",
	"steepness", "overlap" };
static const char *const DECODE[] = { "serial", "serial-group", "splits", "splits-group",
	"split-tokens", "combine" };
static const char *const PREFILL[] = { "rate", "tile-keys", "late", "store", "tail", "slower",
	"burst" };

unsigned kvt_attention_base_count(const kvt_attention_base *base)
{
	return base->decode ? KVT_BASE_DECODE_COUNT : KVT_BASE_PREFILL_COUNT;
}

const char *kvt_attention_base_name(const kvt_attention_base *base, unsigned i)
{
	if (i < KVT_BASE_COMMON)
		return COMMON[i];
	return (base->decode ? DECODE : PREFILL)[i - KVT_BASE_COMMON];
}

void kvt_attention_base_guess(kvt_attention_base *base, const kvt_attention_gpu *gpu)
{
	double *c = base->constants;
	c[KVT_BASE_FLOOR] = 10e-6;
	c[KVT_BASE_PER_HEAD] = 2e-9;
	c[KVT_BASE_MEMORY] = 0.8 * gpu->bandwidth;
	c[KVT_BASE_CACHE] = 2.5 * gpu->bandwidth;
	c[KVT_BASE_CAPACITY] = 0.9;
	c[KVT_BASE_STEEPNESS] = 6;
	c[KVT_BASE_OVERLAP] = 3;
	if (base->decode) {
		c[KVT_BASE_SERIAL] = 20e-9;
		c[KVT_BASE_SERIAL_GROUP] = 20e-9;
		c[KVT_BASE_SPLITS] = 16;
		c[KVT_BASE_SPLITS_GROUP] = 128;
		c[KVT_BASE_SPLIT_TOKENS] = 256;
		c[KVT_BASE_COMBINE] = 0.1e-6;
	} else {
		c[KVT_BASE_RATE] = 0.6 * gpu->flops;
		c[KVT_BASE_TILE_KEYS] = 200;
		c[KVT_BASE_LATE] = 0.5;
		c[KVT_BASE_STORE] = 2;
		c[KVT_BASE_TAIL] = 1;
		c[KVT_BASE_SLOWER] = 0.03;
		c[KVT_BASE_BURST] = 8e-3;
	}
}

static double together(double a, double b, double p)
{
	double larger = fmax(a, b), smaller = fmin(a, b);
	if (!(larger > 0))
		return 0;
	return larger * pow(1 + pow(smaller / larger, p), 1 / p);
}

/* Bytes that a kernel moves at least once, which is what has to fit L2. */
static double footprint(const kvt_attention_base *base, const kvt_attention_work *w)
{
	double kv = w->batch * w->kv_heads * w->tokens * 2 * w->head_dim;
	if (base->decode)
		return kv * w->kv_bytes;
	double rows = w->batch * w->heads * w->tokens * 2 * w->head_dim;
	return 2 * rows + 2 * kv * base->constants[KVT_BASE_STORE];
}

double kvt_attention_base_misses(const kvt_attention_base *base, const kvt_attention_gpu *gpu,
	const kvt_attention_work *work)
{
	const double *c = base->constants;
	if (work->cold)
		return 1;
	double share = c[KVT_BASE_CAPACITY] * gpu->l2 / footprint(base, work);
	return 1 / (1 + pow(share, c[KVT_BASE_STEEPNESS]));
}

/* What work of `burst` seconds takes as the clocks fall under it: a power limit, as a rule. */
static double sustained(const double *c, double burst)
{
	double square = burst * burst, half = c[KVT_BASE_BURST] * c[KVT_BASE_BURST];
	return burst * (1 + c[KVT_BASE_SLOWER] * square / (square + half));
}

static double decode_seconds(const kvt_attention_base *base, const kvt_attention_gpu *gpu,
	const kvt_attention_work *w, double moved)
{
	const double *c = base->constants;
	bool group = w->heads > w->kv_heads;
	/* Two blocks of a decode kernel run on an SM at a time. */
	double slots = 2 * (double)gpu->sms, blocks = w->batch * w->kv_heads;
	double most = c[group ? KVT_BASE_SPLITS_GROUP : KVT_BASE_SPLITS];
	double splits = fmin(most, fmin(slots / blocks, w->tokens / c[KVT_BASE_SPLIT_TOKENS]));
	splits = fmax(splits, 1);
	double waves = fmax(1, blocks * splits / slots);
	double serial = c[group ? KVT_BASE_SERIAL_GROUP : KVT_BASE_SERIAL] * w->tokens *
			(w->head_dim / 128) * waves / splits;
	return together(serial, moved, 1 + c[KVT_BASE_OVERLAP]) +
	       (splits - 1) * c[KVT_BASE_COMBINE];
}

static double prefill_seconds(const kvt_attention_base *base, const kvt_attention_gpu *gpu,
	const kvt_attention_work *w, double moved)
{
	const double *c = base->constants;
	double group = w->heads / w->kv_heads, tile = base->tile;
	/* Query rows of one row of tiles: a head's tokens, or those of all heads of a KV head. */
	double rows = base->packed ? w->tokens * group : w->tokens;
	double columns = w->batch * (base->packed ? w->kv_heads : w->heads);
	double tiles = ceil(rows / tile);
	/* Tile i sees the keys up to its last row: (i + 1) / tiles of all, rounded up to 64. */
	double keys = 64 * ceil(w->tokens / 64);
	double all = columns * (keys * (tiles + 1) / 2 + tiles * c[KVT_BASE_TILE_KEYS]);
	double longest = keys + c[KVT_BASE_TILE_KEYS];
	double key_seconds = 4 * w->head_dim * tile / c[KVT_BASE_RATE];
	double sms = (double)gpu->sms;
	/* Greedy scheduling: the mean load of an SM, and part of one tile that ends late. */
	double mean = all * key_seconds, late = longest * key_seconds * sms;
	double burst = together(mean, late * c[KVT_BASE_LATE], 1 + c[KVT_BASE_TAIL]);
	double computed = sustained(c, burst);
	return together(computed, moved, 1 + c[KVT_BASE_OVERLAP]);
}

double kvt_attention_base_seconds(const kvt_attention_base *base, const kvt_attention_gpu *gpu,
	const kvt_attention_work *work)
{
	const double *c = base->constants;
	double bytes = footprint(base, work), misses = kvt_attention_base_misses(base, gpu, work);
	double moved = bytes * (misses / c[KVT_BASE_MEMORY] + (1 - misses) / c[KVT_BASE_CACHE]);
	double floor = c[KVT_BASE_FLOOR] + c[KVT_BASE_PER_HEAD] * work->batch * work->heads;
	return floor + (base->decode ? decode_seconds(base, gpu, work, moved)
				     : prefill_seconds(base, gpu, work, moved));
}
