/*
 * rng.h: counter-based random numbers (Philox 4x32-10, Random123; Salmon et al., SC'11). A stream
 * is (seed, stream id); its n-th number depends on nothing else, so adding a user of randomness
 * never changes another's numbers.
 */
#ifndef KVT_RNG_H
#define KVT_RNG_H

#include <stdint.h>

typedef struct kvt_rng {
	uint64_t seed, stream, counter;
	uint64_t spare; /* second half of the last block */
	int has_spare;
} kvt_rng;

/* A stream by number; use kvt_rng_stream_id for named ones. */
kvt_rng kvt_rng_init(uint64_t seed, uint64_t stream);

/* A stable stream id from a name and an index (xxh3), such as ("nvme.latency", 3). */
uint64_t kvt_rng_stream_id(const char *name, uint64_t index);

uint64_t kvt_rng_next(kvt_rng *rng);              /* uniform 64 bits */
double kvt_rng_uniform(kvt_rng *rng);             /* [0, 1), 53 bits */
uint64_t kvt_rng_below(kvt_rng *rng, uint64_t n); /* [0, n), unbiased; n > 0 */
double kvt_rng_exponential(kvt_rng *rng, double mean);
double kvt_rng_normal(kvt_rng *rng); /* mean 0, variance 1 */
/* Lognormal with the given median and 99th percentile (p99 >= median > 0). */
double kvt_rng_lognormal(kvt_rng *rng, double median, double p99);

#endif
