/*
 * policy_attention.c: evicts the page of least attention mass, where what a page got counts half
 * after every HALF_LIFE steps; of equal ones that which was not used for longest. A page's mass is
 * remembered while it is away. It sees masses of pages that were attended, nothing else; sinks and
 * the window of recent pages are safe because every selection pins them.
 *
 * Instead of letting all masses decay, later ones weigh more: by 2^(step / HALF_LIFE). Sums of such
 * weights keep their order as time goes by. They are kept as an exponent and a mantissa, in
 * integers, so that the order is the same on any machine.
 */
#include <math.h>

#include "sim/cache/page_heap.h"
#include "sim/cache/policy.h"

enum {
	HALF_LIFE_BITS = 3, /* half-life in steps, a power of two */
	HALF_LIFE = 1 << HALF_LIFE_BITS,
	MANTISSA_BITS = 40,
};

/* An attended page has some worth, however little mass it got: an eighth of all. */
#define USE_WORTH (UINT32_C(1) << 28)

typedef struct attention {
	kvt_policy base;
	kvt_page_heap heap;         /* resident pages, by worth, then by the last use */
	uint64_t *worth;            /* [universe], exponent << MANTISSA_BITS | mantissa; 0: none */
	uint64_t now;               /* accesses so far */
	uint64_t growth[HALF_LIFE]; /* 2^(i / HALF_LIFE) in units of 2^-31 */
} attention;

static kvt_policy *attention_create(uint32_t universe, uint32_t capacity)
{
	attention *policy = g_new0(attention, 1);
	kvt_page_heap_init(&policy->heap, universe);
	policy->worth = g_new0(uint64_t, universe);
	/* square roots and products, which every machine rounds the same way */
	for (unsigned i = 0; i < HALF_LIFE; i++) {
		double growth = 1, root = 2;
		for (unsigned bit = HALF_LIFE_BITS; bit-- > 0;) {
			root = sqrt(root);
			growth *= i >> bit & 1 ? root : 1;
		}
		policy->growth[i] = (uint64_t)(growth * 0x1p31 + 0.5);
	}
	return &policy->base;
}

static void attention_free(kvt_policy *base)
{
	attention *policy = (attention *)base;
	kvt_page_heap_clear(&policy->heap);
	g_free(policy->worth);
	g_free(policy);
}

/* mantissa x 2^exponent, with the mantissa's highest bit at MANTISSA_BITS - 1. */
static uint64_t pack(uint64_t mantissa, uint64_t exponent)
{
	if (mantissa == 0)
		return 0;
	int shift = MANTISSA_BITS - 64 + __builtin_clzll(mantissa);
	mantissa = shift >= 0 ? mantissa << shift : mantissa >> -shift;
	return (exponent + 64 - (uint64_t)shift) << MANTISSA_BITS | mantissa;
}

static uint64_t add(uint64_t a, uint64_t b)
{
	uint64_t larger = MAX(a, b), smaller = MIN(a, b);
	const uint64_t mask = (UINT64_C(1) << MANTISSA_BITS) - 1;
	uint64_t gap = (larger >> MANTISSA_BITS) - (smaller >> MANTISSA_BITS);
	uint64_t mantissa = (larger & mask) + (gap < MANTISSA_BITS ? (smaller & mask) >> gap : 0);
	uint64_t exponent = larger >> MANTISSA_BITS;
	if (mantissa > mask) {
		mantissa >>= 1;
		exponent++;
	}
	return exponent << MANTISSA_BITS | mantissa;
}

static void attention_admit(kvt_policy *base, uint32_t page)
{
	attention *policy = (attention *)base;
	kvt_page_heap_add(
		&policy->heap, page, (kvt_page_key){ policy->worth[page], policy->now++ });
}

static void attention_touch(kvt_policy *base, uint32_t page)
{
	attention *policy = (attention *)base;
	kvt_page_heap_set(
		&policy->heap, page, (kvt_page_key){ policy->worth[page], policy->now++ });
}

static void attention_remove(kvt_policy *base, uint32_t page)
{
	kvt_page_heap_remove(&((attention *)base)->heap, page);
}

static uint32_t attention_victim(kvt_policy *base, const uint8_t *pinned)
{
	return kvt_page_heap_least_free(&((attention *)base)->heap, pinned);
}

static void attention_mass(
	kvt_policy *base, uint32_t page, gboolean resident, uint32_t step, uint32_t mass)
{
	attention *policy = (attention *)base;
	uint64_t weight = ((uint64_t)mass + USE_WORTH) * policy->growth[step % HALF_LIFE] >> 8;
	policy->worth[page] = add(policy->worth[page], pack(weight, step / HALF_LIFE));
	if (resident)
		kvt_page_heap_set(&policy->heap, page,
			(kvt_page_key){ policy->worth[page], policy->heap.key[page].minor });
}

const kvt_policy_ops kvt_policy_attention = {
	.name = "attention",
	.summary = "evicts the page of least attention mass, smoothed over steps",
	.create = attention_create,
	.free = attention_free,
	.admit = attention_admit,
	.touch = attention_touch,
	.remove = attention_remove,
	.victim = attention_victim,
	.first_use = attention_touch,
	.mass = attention_mass,
};
