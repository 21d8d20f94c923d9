/* test_block_tier.c: one tier's index and the allocator beside it: names that keep tenants apart,
 * quotas, pins, every policy, copies of shared partial blocks and the exact count of waste. */
#include <glib.h>
#include <string.h>

#include "sim/base/rng.h"
#include "sim/fleet/block_allocator.h"
#include "sim/fleet/block_tier.h"

enum { TENANTS = 3, IDS = 60, PIECE = 100 };

static kvt_block_names *names_of(gboolean shared)
{
	kvt_block_names *names = kvt_block_names_new(IDS, TENANTS, shared);
	uint32_t ids[IDS];
	for (uint32_t id = 0; id < IDS; id++)
		ids[id] = id;
	for (uint32_t tenant = 0; tenant < TENANTS; tenant++)
		kvt_block_names_add(names, tenant, ids + 10 * tenant, IDS - 10 * tenant);
	kvt_block_names_add(names, 0, ids, IDS);
	kvt_block_names_seal(names);
	return names;
}

static kvt_block_tier *tier_of(const kvt_block_names *names, const char *policy, uint64_t capacity,
	const uint64_t *quotas, gboolean hides_pinned)
{
	kvt_block_tier_settings settings = { .name = "dram",
		.policy = kvt_policy_find(policy, NULL),
		.capacity = capacity,
		.n_kinds = 1,
		.piece_bytes = { PIECE },
		.names = names,
		.quotas = quotas,
		.hides_pinned = hides_pinned };
	return kvt_block_tier_new(&settings);
}

/* What a manager does for a block that is new to the tier; true when it went in. */
static gboolean bring(kvt_block_tier *tier, uint32_t tenant, uint32_t piece)
{
	kvt_block_tier_announce(tier, tenant, piece);
	while (!kvt_block_tier_has_room(tier, PIECE)) {
		uint32_t victim = kvt_block_tier_victim(tier, tenant, PIECE);
		if (victim == KVT_NO_PIECE)
			return FALSE;
		kvt_block_tier_remove(tier, victim, true);
	}
	kvt_block_tier_enter(tier, tenant, piece, KVT_PIECE_THERE);
	return TRUE;
}

static void test_names(void)
{
	g_autoptr(kvt_block_names) names = names_of(FALSE);
	g_assert_cmpuint(names->n_names, ==, 60 + 50 + 40);
	uint8_t seen[60 + 50 + 40] = { 0 };
	for (uint32_t tenant = 0; tenant < TENANTS; tenant++)
		for (uint32_t id = 10 * tenant; id < IDS; id++) {
			uint32_t name = kvt_block_names_get(names, tenant, id);
			g_assert_cmpuint(name, >=, names->start[tenant]);
			g_assert_cmpuint(name, <, names->start[tenant + 1]);
			g_assert_cmpint(seen[name]++, ==, 0);
		}
	g_autoptr(kvt_block_names) shared = names_of(TRUE);
	g_assert_cmpuint(shared->n_names, ==, IDS);
	g_assert_cmpuint(
		kvt_block_names_get(shared, 0, 30), ==, kvt_block_names_get(shared, 2, 30));
}

/* Tenants with the same prefixes, taking turns at random: each hits what it has brought, and only
 * that; what others bring makes no difference but to its room. */
static void test_isolation(void)
{
	g_autoptr(kvt_block_names) names = names_of(FALSE);
	g_autoptr(kvt_block_tier) tier = tier_of(names, "lru", 30 * PIECE, NULL, FALSE);
	uint8_t brought[TENANTS][IDS] = { 0 };
	kvt_rng rng = kvt_rng_init(1, 1);
	unsigned hits = 0;
	for (unsigned i = 0; i < 4000; i++) {
		uint32_t tenant = (uint32_t)kvt_rng_below(&rng, TENANTS);
		uint32_t id = 20 + (uint32_t)kvt_rng_below(&rng, 20);
		uint32_t piece = kvt_block_names_get(names, tenant, id);
		gboolean hit = kvt_block_tier_has(tier, piece);
		g_assert_true(!hit || brought[tenant][id]);
		hits += hit;
		if (hit)
			kvt_block_tier_touch(tier, piece);
		else
			g_assert_true(bring(tier, tenant, piece));
		brought[tenant][id] = 1;
		kvt_block_tier_check(tier);
	}
	g_assert_cmpuint(hits, >, 1000);
}

/* One tenant floods a full tier: without quotas all is his, with them nobody below his own loses
 * anything; and what he takes above his while there is room he gives back. */
static void test_quotas(void)
{
	for (unsigned with = 0; with < 2; with++)
		for (unsigned shared = 0; shared < 2; shared++) {
			g_autoptr(kvt_block_names) names = names_of(shared);
			const uint64_t quotas[TENANTS] = { 10 * PIECE, 10 * PIECE, 10 * PIECE };
			g_autoptr(kvt_block_tier) tier =
				tier_of(names, "lru", 30 * PIECE, with ? quotas : NULL, FALSE);
			for (uint32_t id = 50; id < 58; id++)
				bring(tier, 1, kvt_block_names_get(names, 1, id));
			for (unsigned round = 0; round < 5; round++)
				for (uint32_t id = 0; id < 45; id++) {
					uint32_t piece = kvt_block_names_get(names, 0, id);
					if (!kvt_block_tier_has(tier, piece))
						g_assert_true(bring(tier, 0, piece));
				}
			g_assert_cmpuint(tier->counts[0].pieces, ==, with ? 22 : 30);
			g_assert_cmpuint(tier->counts[1].pieces, ==, with ? 8 : 0);
			/* a third one comes: the first is above his quota, and pays */
			for (uint32_t id = 46; id < 49; id++)
				bring(tier, 2, kvt_block_names_get(names, 2, id));
			g_assert_cmpuint(tier->counts[0].pieces, ==, with ? 19 : 27);
			g_assert_cmpuint(tier->counts[1].pieces, ==, with ? 8 : 0);
			kvt_block_tier_check(tier);
		}
}

/* Pins count; a pinned piece does not leave whatever the policy; when all are pinned nothing does.
 */
static void test_pins(gconstpointer data)
{
	const gboolean hides_pinned = data != NULL;
	g_autoptr(kvt_block_names) names = names_of(TRUE);
	const uint64_t quotas[TENANTS] = { 3 * PIECE, 0, 3 * PIECE };
	for (size_t p = 0; kvt_policy_registry()[p]; p++) {
		g_autoptr(kvt_block_tier) tier = tier_of(names, kvt_policy_registry()[p]->name,
			8 * PIECE, p % 2 ? quotas : NULL, hides_pinned);
		kvt_rng rng = kvt_rng_init(2, p);
		unsigned pins[IDS] = { 0 }, refused = 0, evicted = 0;
		for (unsigned i = 0; i < 5000; i++) {
			uint32_t piece = (uint32_t)kvt_rng_below(&rng, 20);
			if (tier->next_use)
				tier->next_use[piece] = i + (uint32_t)kvt_rng_below(&rng, 50);
			if (!kvt_block_tier_has(tier, piece)) {
				uint64_t before = tier->counts[0].out_pieces +
						  tier->counts[1].out_pieces +
						  tier->counts[2].out_pieces;
				refused += !bring(tier, i % TENANTS, piece);
				evicted += tier->counts[0].out_pieces + tier->counts[1].out_pieces +
						   tier->counts[2].out_pieces >
					   before;
			} else if (kvt_rng_below(&rng, 2) == 0) {
				kvt_block_tier_pin(tier, piece);
				pins[piece]++;
			} else if (pins[piece] > 0) {
				kvt_block_tier_unpin(tier, piece);
				kvt_block_tier_renew(tier, piece);
				pins[piece]--;
			} else {
				kvt_block_tier_touch(tier, piece);
			}
			for (uint32_t other = 0; other < 20; other++) {
				g_assert_true(pins[other] == 0 || kvt_block_tier_has(tier, other));
				/* lest all stay pinned */
				if (i % 500 == 499)
					for (; pins[other] > 0; pins[other]--)
						kvt_block_tier_unpin(tier, other);
			}
			kvt_block_tier_check(tier);
		}
		g_assert_cmpuint(refused, >, 0);
		g_assert_cmpuint(evicted, >, 20);
	}
}

/* What is hidden while it is pinned keeps its uses: what was pinned often outlives what was not,
 * where the policy counts. */
static void test_uses(void)
{
	g_autoptr(kvt_block_names) names = names_of(TRUE);
	static const char *const policies[] = { "lfu", "arc", "s3fifo", "clock" };
	for (size_t p = 0; p < G_N_ELEMENTS(policies); p++) {
		g_autoptr(kvt_block_tier) tier =
			tier_of(names, policies[p], 20 * PIECE, NULL, TRUE);
		for (uint32_t piece = 0; piece < 20; piece++)
			g_assert_true(bring(tier, 0, piece));
		for (unsigned use = 0; use < 4; use++) {
			kvt_block_tier_pin(tier, 3);
			kvt_block_tier_unpin(tier, 3);
		}
		for (uint32_t piece = 20; piece < 34; piece++)
			g_assert_true(bring(tier, 0, piece));
		g_assert_true(kvt_block_tier_has(tier, 3));
		/* a pinned one is out of the way: all others can leave */
		kvt_block_tier_pin(tier, 3);
		unsigned left = 0;
		for (uint32_t piece;
			(piece = kvt_block_tier_victim(tier, 0, PIECE)) != KVT_NO_PIECE; left++)
			kvt_block_tier_remove(tier, piece, true);
		g_assert_cmpuint(left, ==, 19);
		kvt_block_tier_unpin(tier, 3);
		g_assert_cmpuint(kvt_block_tier_victim(tier, 0, PIECE), ==, 3);
		kvt_block_tier_check(tier);
	}
}

/* What arrives is not there before it has, cannot leave, and is gone when it fails; what is
 * reserved takes room. */
static void test_arrivals(void)
{
	g_autoptr(kvt_block_names) names = names_of(TRUE);
	g_autoptr(kvt_block_tier) tier = tier_of(names, "lru", 3 * PIECE, NULL, FALSE);
	kvt_block_tier_enter(tier, 0, 1, KVT_PIECE_ARRIVING);
	kvt_block_tier_enter(tier, 0, 2, KVT_PIECE_ARRIVING);
	g_assert_false(kvt_block_tier_has(tier, 1));
	g_assert_cmpuint(kvt_block_tier_victim(tier, 0, PIECE), ==, KVT_NO_PIECE);
	kvt_block_tier_reserve(tier, 1, PIECE);
	g_assert_false(kvt_block_tier_has_room(tier, 1));
	g_assert_false(kvt_block_tier_can_have_room(tier, 1));
	kvt_block_tier_check(tier);
	kvt_block_tier_arrived(tier, 1, true);
	kvt_block_tier_arrived(tier, 2, false);
	g_assert_true(kvt_block_tier_has(tier, 1));
	g_assert_cmpint(kvt_block_tier_state(tier, 2), ==, KVT_PIECE_ABSENT);
	g_assert_cmpuint(tier->counts[0].failed_pieces, ==, 1);
	g_assert_cmpuint(tier->counts[0].in_pieces, ==, 2);
	g_assert_cmpuint(tier->bytes, ==, 2 * PIECE);
	kvt_block_tier_unreserve(tier, 1, PIECE);
	g_assert_cmpuint(tier->counts[1].bytes, ==, 0);
	g_assert_cmpuint(tier->counts[1].peak_bytes, ==, PIECE);
	kvt_block_tier_check(tier);
}

static const kvt_block_shape shape = { .block_tokens = 64,
	.page_tokens = 16,
	.n_kinds = 1,
	.kinds = { { KVT_ATTENTION_GLOBAL, 2, 0, 10, 10 } } };

/* A sequence wastes less than a page, however it grows; the count is exact at every token. */
static void test_waste(void)
{
	g_autoptr(kvt_block_allocator) allocator =
		kvt_block_allocator_new(&shape, 1000 * 160 + 7, NULL);
	kvt_page_owner owner;
	kvt_page_owner_init(&owner, 1);
	uint64_t peak = 0;
	uint32_t block = kvt_block_allocate(allocator, 0, 1, &owner);
	for (uint32_t tokens = 1; tokens <= 64; tokens++) {
		g_assert_true(kvt_block_grow(allocator, 0, block, tokens, &owner));
		kvt_block_waste waste = kvt_block_allocator_waste(allocator);
		uint64_t pages = (tokens + 15) / 16;
		g_assert_cmpuint(waste.waste_bytes, ==, (pages * 16 - tokens) * 10);
		g_assert_cmpuint(waste.waste_bytes, <, 160);
		g_assert_cmpuint(waste.free_bytes, ==, (1000 - pages) * 160);
		g_assert_cmpuint(waste.left_over_bytes, ==, 7);
		peak = MAX(peak, waste.waste_bytes);
		g_assert_cmpuint(waste.peak_waste_bytes, ==, peak);
	}
	kvt_block_release(allocator, block);
	kvt_block_free(allocator, 0, block);
	g_assert_cmpuint(kvt_block_allocator_waste(allocator).waste_bytes, ==, 0);
	g_assert_cmpuint(kvt_block_allocator_waste(allocator).peak_allocated_bytes, ==, 640);
}

static void test_copy_on_write(void)
{
	g_autoptr(kvt_block_allocator) allocator = kvt_block_allocator_new(&shape, 6 * 160, NULL);
	kvt_page_owner owner;
	kvt_page_owner_init(&owner, 1);
	uint32_t block = kvt_block_allocate(allocator, 0, 40, &owner);
	g_assert_cmpuint(kvt_block_write(allocator, 0, block, 40, &owner), ==, block);
	kvt_block_hold(allocator, block);
	uint32_t copy = kvt_block_write(allocator, 0, block, 40, &owner);
	g_assert_cmpuint(copy, !=, block);
	g_assert_cmpuint(allocator->copied_bytes, ==, 400);
	g_assert_false(kvt_block_release(allocator, block));
	/* alone now: the first one writes in place */
	g_assert_cmpuint(kvt_block_write(allocator, 0, block, 40, &owner), ==, block);
	/* all six pages are taken: no copy, and nothing has changed */
	kvt_block_hold(allocator, block);
	g_assert_cmpuint(kvt_block_write(allocator, 0, block, 40, &owner), ==, KVT_NO_BLOCK);
	g_assert_cmpuint(allocator->copies, ==, 1);
	g_assert_false(kvt_block_grow(allocator, 0, copy, 64, &owner));
	g_assert_true(kvt_block_grow(allocator, 0, copy, 48, &owner));
	g_assert_cmpuint(kvt_block_allocate(allocator, 0, 1, &owner), ==, KVT_NO_BLOCK);
	/* one who holds the first tokens alone of a longer block does not write over the rest */
	kvt_block_release(allocator, copy);
	kvt_block_free(allocator, 0, copy);
	g_assert_false(kvt_block_release(allocator, block));
	g_assert_cmpuint(kvt_block_write(allocator, 0, block, 20, &owner), !=, block);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/block-tier/names", test_names);
	g_test_add_func("/block-tier/isolation", test_isolation);
	g_test_add_func("/block-tier/quotas", test_quotas);
	g_test_add_data_func("/block-tier/pins", NULL, test_pins);
	g_test_add_data_func("/block-tier/pins-hidden", "", test_pins);
	g_test_add_func("/block-tier/uses", test_uses);
	g_test_add_func("/block-tier/arrivals", test_arrivals);
	g_test_add_func("/block-allocator/waste", test_waste);
	g_test_add_func("/block-allocator/copy-on-write", test_copy_on_write);
	return g_test_run();
}
