/* admission.c: the reasons to refuse a request, the cheapest to find first. */
#include "sim/fleet/admission.h"

void kvt_token_bucket_init(kvt_token_bucket *bucket, double rate, double burst)
{
	*bucket = (kvt_token_bucket){ .rate = rate, .burst = burst, .tokens = burst };
}

bool kvt_token_bucket_take(kvt_token_bucket *b, kvt_time now)
{
	if (b->rate <= 0)
		return true;
	b->tokens = MIN(b->burst, b->tokens + kvt_time_to_seconds(now - b->since) * b->rate);
	b->since = now;
	/* a token that is there but for rounding is there */
	if (b->tokens < 1 - 1e-9)
		return false;
	b->tokens = MAX(b->tokens - 1, 0);
	return true;
}

void kvt_admission_init(
	kvt_admission *a, const kvt_tenant_settings *const *tenants, unsigned n_tenants)
{
	*a = (kvt_admission){ .tenants = tenants };
	if (!tenants)
		return;
	a->buckets = g_new0(kvt_token_bucket, n_tenants);
	for (unsigned i = 0; i < n_tenants; i++)
		kvt_token_bucket_init(&a->buckets[i], tenants[i]->rate, tenants[i]->burst);
}

void kvt_admission_clear(kvt_admission *a)
{
	g_free(a->buckets);
	*a = (kvt_admission){ 0 };
}

kvt_refusal kvt_admission_check(
	kvt_admission *a, kvt_replica *replica, uint32_t tenant, uint32_t request, kvt_time now)
{
	if (!a->tenants)
		return KVT_REFUSED_NOT;
	const kvt_tenant_settings *t = a->tenants[tenant];
	if (!kvt_token_bucket_take(&a->buckets[tenant], now))
		return KVT_REFUSED_RATE;
	if (t->queue > 0 && kvt_replica_queued(replica, tenant) >= t->queue)
		return KVT_REFUSED_QUEUE;
	if (t->deadline > 0 && kvt_replica_predict(replica, request) > t->deadline)
		return KVT_REFUSED_DEADLINE;
	return KVT_REFUSED_NOT;
}
