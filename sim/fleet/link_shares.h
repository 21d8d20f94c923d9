/*
 * link_shares.h: each tenant's share of every link that its KV moves over. The network shares by
 * flow; so a tenant's weight and reserved rate are divided among the flows that it has on a link,
 * anew whenever one begins or ends. It starts no flows.
 */
#ifndef KVT_LINK_SHARES_H
#define KVT_LINK_SHARES_H

#include "sim/core/bandwidth.h"
#include "sim/fleet/tenant_settings.h"

typedef struct kvt_link_shares kvt_link_shares;

/* All links are there already. `tenants` and the network are borrowed. */
kvt_link_shares *kvt_link_shares_new(kvt_network *network,
	const kvt_tenant_settings *const *tenants, unsigned n_tenants, int sharing);
void kvt_link_shares_free(kvt_link_shares *shares);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_link_shares, kvt_link_shares_free)

/* The priority of a tenant's flows. */
unsigned kvt_link_shares_class(const kvt_link_shares *shares, uint32_t tenant);

/* A flow has begun; one has ended, which was of so many bytes. */
void kvt_link_shares_add(
	kvt_link_shares *shares, uint32_t tenant, kvt_flow flow, const kvt_flow_spec *spec);
void kvt_link_shares_remove(
	kvt_link_shares *shares, uint32_t tenant, kvt_flow flow, uint64_t bytes);

/* Bytes that the tenant has moved over the link. */
uint64_t kvt_link_shares_bytes(const kvt_link_shares *shares, uint32_t tenant, kvt_link link);

#endif
