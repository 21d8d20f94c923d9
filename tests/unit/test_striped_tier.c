/* test_striped_tier.c: which share of the pages lies where, and that both tiers work at once. */
#include <math.h>

#include "sim/base/rng.h"
#include "sim/tier/striped_tier.h"
#include "tests/unit/tier_fixture.h"
#include "tests/unit/tier_test_io.h"

enum { PAGE = 64 << 10 };

typedef struct pair {
	tier_machine *machine;
	kvt_tier *parts[2], *tier;
} pair;

static pair pair_new(const char *first, const char *second, double share)
{
	kvt_topology_spec spec = tier_machine_spec();
	pair p = { .machine = tier_machine_new(&spec, 2) };
	p.parts[0] = tier_machine_open(p.machine, first, "");
	p.parts[1] = tier_machine_open(p.machine, second, "");
	p.tier = kvt_striped_tier_new(&p.machine->env, p.parts[0], p.parts[1], share);
	return p;
}

static void pair_free(pair *p)
{
	kvt_tier_close(p->tier);
	kvt_tier_close(p->parts[0]);
	kvt_tier_close(p->parts[1]);
	tier_machine_free(p->machine);
}

static uint64_t used(kvt_tier *tier)
{
	kvt_tier_stats stats;
	tier->ops->stats(tier, &stats);
	return stats.used;
}

/* Of any run, the share of the second tier is what was asked for, to a stripe. */
static void test_shares(void)
{
	const double shares[] = { 0, 0.001, 0.1, 1.0 / 3, 0.5, 0.64, 0.9, 0.999999, 1 };
	kvt_rng rng = kvt_rng_init(3, 3);
	for (unsigned i = 0; i < G_N_ELEMENTS(shares); i++) {
		pair p = pair_new("null", "null", shares[i]);
		for (unsigned j = 0; j < 200; j++) {
			uint64_t first = kvt_rng_below(&rng, j % 2 ? 1000 : UINT64_C(1) << 40);
			uint64_t n = 1 + kvt_rng_below(&rng, j % 3 ? 100 : 100000);
			kvt_extent run = { 1, 0, first, n, PAGE };
			g_assert_true(p.tier->ops->preload(p.tier, 0, &run));
			double second = (double)used(p.parts[1]) / PAGE;
			g_assert_cmpuint(used(p.parts[0]) + used(p.parts[1]), ==, n * PAGE);
			g_assert_cmpfloat(
				fabs(second - shares[i] * (double)n), <=, 2 * KVT_STRIPE_PAGES);
			/* all of it is found again, by any of its pages */
			kvt_extent page = { 1, 0, first + kvt_rng_below(&rng, n), 1, PAGE };
			g_assert_true(p.tier->ops->holds(p.tier, 0, &page));
			g_assert_cmpuint(p.tier->ops->discard(p.tier, 0, &page), ==, PAGE);
			g_assert_false(p.tier->ops->holds(p.tier, 0, &page));
			g_assert_cmpuint(p.tier->ops->discard(p.tier, 0, &run), ==, (n - 1) * PAGE);
			g_assert_cmpuint(used(p.parts[0]) + used(p.parts[1]), ==, 0);
		}
		pair_free(&p);
	}
}

static double read_seconds(double share)
{
	pair p = pair_new("remote-dram", "nvme", share);
	kvt_extent run = { 1, 0, 0, 100000, PAGE };
	g_assert_true(p.tier->ops->preload(p.tier, 0, &run));
	g_assert_cmpint(test_io_run(p.machine->loop, p.tier, KVT_IO_READ, run), ==, 0);
	double took = kvt_time_to_seconds(kvt_loop_now(p.machine->loop));
	pair_free(&p);
	return took;
}

/* Both work at once: a fabric at 47.5 GB/s and drives that have what is left of PCIe's 104. */
static void test_both_at_once(void)
{
	const double bytes = 100000.0 * PAGE;
	g_assert_cmpfloat(fabs(read_seconds(0) / (bytes / 47.5e9) - 1), <, 0.01);
	g_assert_cmpfloat(fabs(read_seconds(0.25) / (0.75 * bytes / 47.5e9) - 1), <, 0.01);
	g_assert_cmpfloat(fabs(read_seconds(0.5) / (0.5 * bytes / 47.5e9) - 1), <, 0.01);
}

/* A long run is one run in each tier, not one a stripe: drives read it in their largest commands.
 */
static void test_long_runs(void)
{
	pair p = pair_new("nvme", "nvme", 0.5);
	kvt_extent run = { 1, 0, 7, 1 << 20, 4096 };
	g_assert_cmpint(test_io_run(p.machine->loop, p.tier, KVT_IO_WRITE, run), ==, 0);
	kvt_tier_stats stats;
	p.tier->ops->stats(p.tier, &stats);
	/* of 128 KiB, and a last one for each of four ranks in each tier */
	g_assert_cmpuint(stats.device_ios, <=, (UINT64_C(4096) << 20) / (128 << 10) + 8);
	pair_free(&p);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/striped-tier/shares", test_shares);
	g_test_add_func("/striped-tier/both-at-once", test_both_at_once);
	g_test_add_func("/striped-tier/long-runs", test_long_runs);
	return g_test_run();
}
