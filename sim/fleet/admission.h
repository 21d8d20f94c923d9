/*
 * admission.h: whether a tenant's request is taken at all: token buckets, bounds on queues, and
 * deadlines that it would miss. It looks at replicas and changes nothing there.
 */
#ifndef KVT_ADMISSION_H
#define KVT_ADMISSION_H

#include "sim/fleet/replica.h"

/* So many may be taken at once, and so many more each second. */
typedef struct kvt_token_bucket {
	double rate, burst; /* 1/s; rate 0: no limit */
	double tokens;
	kvt_time since;
} kvt_token_bucket;

void kvt_token_bucket_init(kvt_token_bucket *bucket, double rate, double burst);
/* Takes one token at a time that never decreases; false, and takes none, when there is none. */
bool kvt_token_bucket_take(kvt_token_bucket *bucket, kvt_time now);

typedef struct kvt_admission {
	const kvt_tenant_settings *const *tenants; /* borrowed; NULL: all are taken */
	kvt_token_bucket *buckets;
} kvt_admission;

void kvt_admission_init(
	kvt_admission *admission, const kvt_tenant_settings *const *tenants, unsigned n_tenants);
void kvt_admission_clear(kvt_admission *admission);

/* Why a tenant's request that would go to this replica is refused, or KVT_REFUSED_NOT. */
kvt_refusal kvt_admission_check(kvt_admission *admission, kvt_replica *replica, uint32_t tenant,
	uint32_t request, kvt_time now);

#endif
