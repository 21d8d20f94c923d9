/*
 * page_checksum_plain.c: XXH3 without vectors, its eight sums in registers. <xxhash.h>'s own way
 * without them keeps the sums in memory, which costs twice the time.
 */
#include <stddef.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "emu/store/page_checksum.h"

enum {
	LANES = 8,
	STRIPE = 8 * LANES,
	STEP = 8, /* of the secret, between stripes */
	SECRET = 192,
	STRIPES = (SECRET - STRIPE) / STEP, /* between scramblings */
	SHORT = 240,                        /* bytes up to which it is another function */
	LAST = 7, /* how far before the secret's end the last stripe's lies, and STRIPE */
	MERGE = 11,
};

typedef struct sums {
	uint64_t at[LANES];
} sums;

static inline uint64_t word(const uint8_t *at)
{
	uint64_t value;
	memcpy(&value, at, sizeof(value));
	return value;
}

static inline void add(uint64_t *own, uint64_t *other, uint64_t value, uint64_t secret)
{
	uint64_t key = value ^ secret;
	*other += value;
	*own += (uint64_t)(uint32_t)key * (key >> 32);
}

/* Written out: a loop would keep the sums in memory. */
static inline void add_stripe(sums *s, const uint8_t *at, const uint8_t *secret)
{
	uint64_t *a = s->at;
	add(&a[0], &a[1], word(at), word(secret));
	add(&a[1], &a[0], word(at + 8), word(secret + 8));
	add(&a[2], &a[3], word(at + 16), word(secret + 16));
	add(&a[3], &a[2], word(at + 24), word(secret + 24));
	add(&a[4], &a[5], word(at + 32), word(secret + 32));
	add(&a[5], &a[4], word(at + 40), word(secret + 40));
	add(&a[6], &a[7], word(at + 48), word(secret + 48));
	add(&a[7], &a[6], word(at + 56), word(secret + 56));
}

static inline void scramble(uint64_t *sum, uint64_t secret)
{
	*sum = (*sum ^ *sum >> 47 ^ secret) * XXH_PRIME32_1;
}

static inline void scramble_all(sums *s, const uint8_t *secret)
{
	uint64_t *a = s->at;
	scramble(&a[0], word(secret));
	scramble(&a[1], word(secret + 8));
	scramble(&a[2], word(secret + 16));
	scramble(&a[3], word(secret + 24));
	scramble(&a[4], word(secret + 32));
	scramble(&a[5], word(secret + 40));
	scramble(&a[6], word(secret + 48));
	scramble(&a[7], word(secret + 56));
}

uint64_t kvt_page_checksum_plain(const void *page, uint64_t bytes)
{
	if (bytes <= SHORT || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__)
		return XXH3_64bits(page, bytes);
	sums s = { { XXH_PRIME32_3, XXH_PRIME64_1, XXH_PRIME64_2, XXH_PRIME64_3, XXH_PRIME64_4,
		XXH_PRIME32_2, XXH_PRIME64_5, XXH_PRIME32_1 } };
	const uint8_t *at = page, *secret = XXH3_kSecret, *last = at + bytes - STRIPE;
	/* the last stripe is added apart, and may overlap the one before */
	uint64_t stripes = (bytes - 1) / STRIPE;
	for (; stripes >= STRIPES; stripes -= STRIPES) {
		for (unsigned i = 0; i < STRIPES; i++, at += STRIPE)
			add_stripe(&s, at, secret + (size_t)i * STEP);
		scramble_all(&s, secret + SECRET - STRIPE);
	}
	for (unsigned i = 0; i < stripes; i++, at += STRIPE)
		add_stripe(&s, at, secret + (size_t)i * STEP);
	add_stripe(&s, last, secret + SECRET - STRIPE - LAST);
	return XXH3_mergeAccs(s.at, secret + MERGE, bytes * XXH_PRIME64_1);
}
