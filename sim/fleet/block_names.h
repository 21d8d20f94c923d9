/*
 * block_names.h: dense names of blocks that caches may compare. A trace's ids say which prefixes
 * are equal; two tenants with equal prefixes still get different names, so that no cache can hit
 * across them, unless sharing was asked for, by all or by some. Names of one tenant, or of those
 * who share with it, are consecutive.
 */
#ifndef KVT_BLOCK_NAMES_H
#define KVT_BLOCK_NAMES_H

#include <glib.h>
#include <stdint.h>

typedef struct kvt_block_names {
	uint32_t n_ids, n_tenants;
	gboolean shared; /* every id is its own name, for all tenants */
	gboolean sealed;
	uint32_t n_names; /* once sealed */
	uint32_t *first;  /* [n_ids], a name of the id, or UINT32_MAX; then along `next` */
	uint32_t *next;   /* [n_names] */
	uint16_t *tenant; /* [n_names] */
	uint16_t *scope;  /* [n_tenants], the tenant whose names it has: its own, mostly */
	uint32_t *start;  /* [n_tenants + 1], a tenant's names are start[t] .. start[t + 1] - 1 */
	uint32_t room;
} kvt_block_names;

/* Ids below n_ids, tenants below n_tenants (at most 65,535). */
kvt_block_names *kvt_block_names_new(uint32_t n_ids, uint32_t n_tenants, gboolean shared);
void kvt_block_names_free(kvt_block_names *names);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_block_names, kvt_block_names_free)

/* Before any is added: these two see each other's blocks, as if they were one tenant, the first of
 * them; and all whom either shares with already. */
void kvt_block_names_share(kvt_block_names *names, uint32_t first, uint32_t second);

/* Says that a tenant will use these ids; for all requests, before seal. Nothing when shared. */
void kvt_block_names_add(
	kvt_block_names *names, uint32_t tenant, const uint32_t *ids, uint64_t n_ids);
void kvt_block_names_seal(kvt_block_names *names);

/* The name of an id that was added for this tenant. */
static inline uint32_t kvt_block_names_get(
	const kvt_block_names *names, uint32_t tenant, uint32_t id)
{
	g_assert(id < names->n_ids);
	if (names->shared)
		return id;
	uint32_t name = names->first[id];
	tenant = names->scope[tenant];
	while (names->tenant[name] != tenant)
		name = names->next[name];
	return name;
}

#endif
