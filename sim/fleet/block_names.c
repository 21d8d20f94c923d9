/* block_names.c: pairs of (tenant, id) numbered tenant by tenant. */
#include "sim/fleet/block_names.h"

kvt_block_names *kvt_block_names_new(uint32_t n_ids, uint32_t n_tenants, gboolean shared)
{
	g_assert(n_tenants > 0 && n_tenants < UINT16_MAX);
	kvt_block_names *names = g_new0(kvt_block_names, 1);
	names->n_ids = n_ids;
	names->n_tenants = n_tenants;
	names->shared = shared || n_tenants == 1;
	names->start = g_new0(uint32_t, n_tenants + 1);
	if (names->shared)
		return names;
	names->scope = g_new(uint16_t, n_tenants);
	for (uint32_t tenant = 0; tenant < n_tenants; tenant++)
		names->scope[tenant] = (uint16_t)tenant;
	names->first = g_new(uint32_t, MAX(n_ids, 1));
	for (uint32_t id = 0; id < n_ids; id++)
		names->first[id] = UINT32_MAX;
	return names;
}

void kvt_block_names_free(kvt_block_names *names)
{
	if (!names)
		return;
	g_free(names->first);
	g_free(names->next);
	g_free(names->tenant);
	g_free(names->start);
	g_free(names->scope);
	g_free(names);
}

void kvt_block_names_share(kvt_block_names *names, uint32_t first, uint32_t second)
{
	g_assert(!names->sealed && names->n_names == 0 && first < names->n_tenants &&
		 second < names->n_tenants);
	if (names->shared)
		return;
	uint16_t to = names->scope[first], from = names->scope[second];
	for (uint32_t tenant = 0; tenant < names->n_tenants; tenant++)
		if (names->scope[tenant] == from)
			names->scope[tenant] = to;
}

static void add(kvt_block_names *names, uint32_t tenant, uint32_t id)
{
	uint32_t *place = &names->first[id];
	while (*place != UINT32_MAX) {
		if (names->tenant[*place] == tenant)
			return;
		place = &names->next[*place];
	}
	*place = names->n_names;
	if (names->n_names == names->room) {
		g_assert(names->room < UINT32_MAX / 2);
		names->room = MAX(1024, names->room * 2);
		names->next = g_renew(uint32_t, names->next, names->room);
		names->tenant = g_renew(uint16_t, names->tenant, names->room);
	}
	names->next[names->n_names] = UINT32_MAX;
	names->tenant[names->n_names++] = (uint16_t)tenant;
}

void kvt_block_names_add(
	kvt_block_names *names, uint32_t tenant, const uint32_t *ids, uint64_t n_ids)
{
	g_assert(!names->sealed && tenant < names->n_tenants);
	if (names->shared)
		return;
	for (uint64_t i = 0; i < n_ids; i++) {
		g_assert(ids[i] < names->n_ids);
		add(names, names->scope[tenant], ids[i]);
	}
}

void kvt_block_names_seal(kvt_block_names *names)
{
	g_assert(!names->sealed);
	names->sealed = TRUE;
	if (names->shared) {
		names->n_names = names->n_ids;
		return;
	}
	uint32_t n = names->n_names;
	for (uint32_t name = 0; name < n; name++)
		names->start[names->tenant[name] + 1]++;
	for (uint32_t tenant = 0; tenant < names->n_tenants; tenant++)
		names->start[tenant + 1] += names->start[tenant];
	g_autofree uint32_t *place = g_memdup2(names->start, names->n_tenants * sizeof(*place));
	g_autofree uint32_t *renamed = g_new(uint32_t, MAX(n, 1));
	for (uint32_t name = 0; name < n; name++)
		renamed[name] = place[names->tenant[name]]++;
	uint32_t *next = g_new(uint32_t, MAX(n, 1));
	uint16_t *tenants = g_new(uint16_t, MAX(n, 1));
	for (uint32_t name = 0; name < n; name++) {
		uint32_t after = names->next[name];
		next[renamed[name]] = after == UINT32_MAX ? UINT32_MAX : renamed[after];
		tenants[renamed[name]] = names->tenant[name];
	}
	for (uint32_t id = 0; id < names->n_ids; id++)
		if (names->first[id] != UINT32_MAX)
			names->first[id] = renamed[names->first[id]];
	g_free(names->next);
	g_free(names->tenant);
	names->next = next;
	names->tenant = tenants;
	names->room = n;
}
