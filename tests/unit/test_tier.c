/* test_tier.c: the conformance suite over every kind of modelled tier, alone and composed. */
#include "sim/tier/fault_tier.h"
#include "sim/tier/ring_tier.h"
#include "sim/tier/striped_tier.h"
#include "tests/unit/tier_conformance.h"
#include "tests/unit/tier_fixture.h"

/* What the kinds keep in tier_under_test.more. */
typedef struct parts {
	tier_machine *machine;
	kvt_tier *inner[2]; /* of a composed tier: closed after it */
} parts;

static parts *new_machine(tier_under_test *t, uint64_t seed)
{
	kvt_topology_spec spec = tier_machine_spec();
	parts *p = g_new0(parts, 1);
	p->machine = tier_machine_new(&spec, seed);
	t->loop = p->machine->loop;
	t->more = p;
	return p;
}

static kvt_tier *open_sized(tier_machine *machine, const char *kind, uint64_t capacity)
{
	g_autofree char *options = g_strdup_printf("capacity = %" G_GUINT64_FORMAT "B", capacity);
	return tier_machine_open(machine, kind, options);
}

static void make_kind(tier_under_test *t, const char *kind, uint64_t capacity, uint64_t seed)
{
	t->tier = open_sized(new_machine(t, seed)->machine, kind, capacity);
}

static void free_kind(tier_under_test *t)
{
	parts *p = t->more;
	kvt_tier_close(t->tier);
	for (unsigned i = 0; i < G_N_ELEMENTS(p->inner); i++)
		kvt_tier_close(p->inner[i]);
	tier_machine_free(p->machine);
	g_free(p);
}

static void make_hbm(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	make_kind(t, "hbm", capacity, seed);
}

static void make_dram(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	make_kind(t, "dram", capacity, seed);
}

static void make_remote_dram(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	make_kind(t, "remote-dram", capacity, seed);
}

static void make_nvme(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	make_kind(t, "nvme", capacity, seed);
}

static void make_remote_nvme(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	make_kind(t, "remote-nvme", capacity, seed);
}

static void make_null(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	make_kind(t, "null", capacity, seed);
}

static void make_striped(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	parts *p = new_machine(t, seed);
	p->inner[0] = open_sized(p->machine, "remote-nvme", capacity / 2);
	p->inner[1] = open_sized(p->machine, "nvme", capacity / 2);
	t->tier = kvt_striped_tier_new(&p->machine->env, p->inner[0], p->inner[1], 0.5);
}

/* All in the second tier. */
static void make_striped_one(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	parts *p = new_machine(t, seed);
	p->inner[0] = open_sized(p->machine, "remote-dram", 0);
	p->inner[1] = open_sized(p->machine, "dram", capacity);
	t->tier = kvt_striped_tier_new(&p->machine->env, p->inner[0], p->inner[1], 1);
}

/* With all rates 0 the wrapper is the tier within. */
static void make_fault(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	const kvt_fault_settings none = { .delay = KVT_SECOND };
	parts *p = new_machine(t, seed);
	kvt_tier *inner = open_sized(p->machine, "nvme", capacity);
	t->tier = kvt_fault_tier_new(&p->machine->env, inner, &none);
}

static void make_fault_striped(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	const kvt_fault_settings none = { 0 };
	make_striped(t, capacity, seed);
	parts *p = t->more;
	t->tier = kvt_fault_tier_new(&p->machine->env, t->tier, &none);
}

/* Three parts that could each take all. */
static void make_ring_of(
	tier_under_test *t, uint64_t capacity, uint64_t seed, const kvt_ring_settings *settings)
{
	static const char *const kind[] = { "nvme", "remote-dram", "null" };
	parts *p = new_machine(t, seed);
	kvt_tier *inner[G_N_ELEMENTS(kind)];
	for (unsigned i = 0; i < G_N_ELEMENTS(kind); i++)
		inner[i] = open_sized(p->machine, kind[i], capacity);
	t->tier = kvt_ring_tier_new(&p->machine->env, inner, kind, G_N_ELEMENTS(kind), settings);
}

static void make_ring(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	const kvt_ring_settings settings = { .capacity = capacity };
	make_ring_of(t, capacity, seed, &settings);
}

static void make_ring_replicas(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	const kvt_ring_settings settings = {
		.capacity = capacity, .replicas = 2, .stripe_pages = 3
	};
	make_ring_of(t, capacity, seed, &settings);
}

static void make_ring_all(tier_under_test *t, uint64_t capacity, uint64_t seed)
{
	const kvt_ring_settings settings = { .replicas = 9 };
	make_ring_of(t, capacity, seed, &settings);
}

static const tier_kind kinds[] = {
	{ "hbm", make_hbm, free_kind },
	{ "dram", make_dram, free_kind },
	{ "remote-dram", make_remote_dram, free_kind },
	{ "nvme", make_nvme, free_kind },
	{ "remote-nvme", make_remote_nvme, free_kind },
	{ "null", make_null, free_kind },
	{ "striped", make_striped, free_kind },
	{ "striped-one", make_striped_one, free_kind },
	{ "fault", make_fault, free_kind },
	{ "fault-striped", make_fault_striped, free_kind },
	{ "ring", make_ring, free_kind },
	{ "ring-replicas", make_ring_replicas, free_kind },
	{ "ring-all", make_ring_all, free_kind },
};

/* A kind that is registered and not in the list above would go untested. */
static void test_every_kind(void)
{
	for (const kvt_tier_ops *const *ops = kvt_tier_registry(); *ops; ops++) {
		bool listed = false;
		for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
			listed |= g_str_equal(kinds[i].name, (*ops)->name);
		g_assert_true(listed);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/tier/every-kind", test_every_kind);
	for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
		tier_conformance_add(&kinds[i]);
	return g_test_run();
}
