/*
 * page_hashes.h: hash tables over the pages of one KV head. A page's mean key falls into a bucket
 * of every table by the signs of random projections (SimHash): in one table of K bits two vectors
 * at an angle theta meet with probability (1 - theta / pi)^K (Charikar 2002). It keeps ids alone,
 * and scores nothing.
 */
#ifndef KVT_PAGE_HASHES_H
#define KVT_PAGE_HASHES_H

#include <stdbool.h>
#include <stdint.h>

enum { KVT_PAGE_HASHES_TABLES_MAX = 64, KVT_PAGE_HASHES_BITS_MAX = 24 };

typedef struct kvt_page_hashes kvt_page_hashes;

/* Tables of n_bits bits each; ids are below max_pages. The projections are the seed's alone. */
kvt_page_hashes *kvt_page_hashes_new(
	uint32_t head_dim, uint32_t max_pages, uint32_t n_tables, uint32_t n_bits, uint64_t seed);
void kvt_page_hashes_free(kvt_page_hashes *hashes);

/* Bits a table for buckets of about 16 pages. */
uint32_t kvt_page_hashes_bits_for(uint32_t n_pages);

/* Puts a page into a bucket of every table; mean[head_dim]. Once a page. */
void kvt_page_hashes_add(kvt_page_hashes *hashes, uint32_t page, const float *mean);

/* Bytes that it holds, for the pages that are in it. */
uint64_t kvt_page_hashes_bytes(const kvt_page_hashes *hashes);

/* The bucket of a vector in a table, and whether a page's is the same. */
uint32_t kvt_page_hashes_bucket(const kvt_page_hashes *hashes, uint32_t table, const float *x);

/*
 * Walks over what a vector meets: first its own bucket in every table, then those that differ by
 * the bit it was least sure of, then by the next one, and so on to every single bit (multi-probe,
 * Lv et al. 2007). Within a bucket the newest page comes first. A page may come several times.
 */
typedef struct kvt_page_probe {
	const kvt_page_hashes *hashes;
	uint32_t round, table; /* where it is: `round` bits have been flipped in turn */
	uint32_t page;         /* next of the bucket, UINT32_MAX: it is over */
	uint32_t bucket[KVT_PAGE_HASHES_TABLES_MAX];
	/* bits of a table, the least sure first */
	uint8_t order[KVT_PAGE_HASHES_TABLES_MAX][KVT_PAGE_HASHES_BITS_MAX];
} kvt_page_probe;

void kvt_page_probe_begin(kvt_page_probe *probe, const kvt_page_hashes *hashes, const float *x);

/* The next page; false: there is none. *buckets counts the buckets that were opened. */
bool kvt_page_probe_next(kvt_page_probe *probe, uint32_t *page, uint64_t *buckets);

#endif
