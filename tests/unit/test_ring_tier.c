/*
 * test_ring_tier.c: stripes spread evenly and stay where they are when parts come and go; parts
 * that fail, come back, forget or hold what is old never make a page wrong, and with replicas never
 * lose one.
 */
#include "sim/tier/ring_tier.h"

#include <errno.h>
#include <string.h>

#include "emu/tier/pinned_tier.h"
#include "emu/loop/real_loop.h"
#include "sim/base/rng.h"
#include "sim/tier/fault_tier.h"
#include "tests/unit/tier_fixture.h"
#include "tests/unit/tier_test_io.h"

enum { PAGE = 4096, PARTS = 4 };

static const char *const names[] = { "a:1", "b:1", "c:1", "d:1", "e:1", "f:1", "g:1", "h:1" };

static unsigned home(const kvt_ring_places *places, uint64_t stripe)
{
	return kvt_ring_places_of(places, 3, (uint32_t)(stripe / 1000), stripe % 1000)[0];
}

/* Every part has about its share, every order is one of all parts. */
static void test_places(void)
{
	enum { STRIPES = 100000 };
	for (unsigned n = 1; n <= G_N_ELEMENTS(names); n++) {
		kvt_ring_places *places = kvt_ring_places_new(names, n, 128);
		unsigned count[G_N_ELEMENTS(names)] = { 0 };
		for (uint64_t stripe = 0; stripe < STRIPES; stripe++) {
			const uint8_t *order = kvt_ring_places_of(places, 0, 1, stripe);
			unsigned seen = 0;
			for (unsigned i = 0; i < n; i++)
				seen |= 1u << order[i];
			g_assert_cmpuint(seen, ==, (1u << n) - 1);
			count[order[0]]++;
		}
		for (unsigned i = 0; i < n; i++) {
			g_assert_cmpuint(count[i], >, STRIPES / n * 7 / 10);
			g_assert_cmpuint(count[i], <, STRIPES / n * 14 / 10);
		}
		kvt_ring_places_free(places);
	}
}

/* Without one of n parts its own stripes move, and no others; so do tenants' and contexts'. */
static void test_one_less(void)
{
	enum { STRIPES = 40000 };
	for (unsigned n = 2; n <= G_N_ELEMENTS(names); n++)
		for (unsigned gone = 0; gone < n; gone++) {
			const char *left[G_N_ELEMENTS(names)];
			for (unsigned i = 0, j = 0; i < n; i++)
				if (i != gone)
					left[j++] = names[i];
			kvt_ring_places *all = kvt_ring_places_new(names, n, 128);
			kvt_ring_places *fewer = kvt_ring_places_new(left, n - 1, 128);
			unsigned moved = 0;
			for (uint64_t stripe = 0; stripe < STRIPES; stripe++) {
				unsigned before = home(all, stripe), after = home(fewer, stripe);
				bool same = names[before] == left[after];
				g_assert_true(same == (before != gone));
				moved += !same;
			}
			g_assert_cmpuint(moved, >, STRIPES / n * 7 / 10);
			g_assert_cmpuint(moved, <, STRIPES / n * 14 / 10);
			kvt_ring_places_free(all);
			kvt_ring_places_free(fewer);
		}
}

/* A tier around another that can be cut off: I/Os fail then, and leave what was there. */
typedef struct cut_tier {
	kvt_tier base;
	kvt_tier_ops ops;
	kvt_tier *inner;
	kvt_loop *loop;
	bool cut;
	uint64_t asked;
} cut_tier;

static void cut_done(void *arg)
{
	kvt_io *io = arg;
	io->status = -EIO;
	io->bytes = 0;
	io->done(io);
}

static int cut_submit(kvt_tier *base, kvt_io *io)
{
	cut_tier *tier = (cut_tier *)base;
	tier->asked++;
	if (!tier->cut)
		return kvt_tier_submit(tier->inner, io);
	kvt_loop_after(tier->loop, 0, cut_done, io);
	return 0;
}

static void cut_commit(kvt_tier *base)
{
	kvt_tier_commit(((cut_tier *)base)->inner);
}

static uint64_t cut_discard(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	kvt_tier *inner = ((cut_tier *)base)->inner;
	return inner->ops->discard(inner, tenant, extent);
}

static bool cut_holds(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	kvt_tier *inner = ((cut_tier *)base)->inner;
	return inner->ops->holds(inner, tenant, extent);
}

static void cut_stats(kvt_tier *base, kvt_tier_stats *stats)
{
	kvt_tier *inner = ((cut_tier *)base)->inner;
	inner->ops->stats(inner, stats);
}

static void cut_close(kvt_tier *base)
{
	kvt_tier_close(((cut_tier *)base)->inner);
	g_free(base);
}

/* A ring of parts in real memory, each of which can be cut off. */
typedef struct ring {
	kvt_loop *loop;
	cut_tier *parts[PARTS];
	kvt_tier *tier;
	uint8_t *memory;
} ring;

static kvt_tier *open_part(ring *r, unsigned i)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_config) config = kvt_config_parse(
		"memory", "[memory]\ncapacity = 8MiB\nhelpers = 0\nhuge = no\n", &error);
	g_assert_no_error(error);
	const kvt_tier_env env = { .loop = r->loop, .instance = i };
	cut_tier *tier = g_new0(cut_tier, 1);
	tier->inner = kvt_tier_open_kind(
		&kvt_tier_memory, &env, kvt_config_section(config, "memory"), &error);
	g_assert_no_error(error);
	tier->ops = *tier->inner->ops;
	tier->ops.submit = cut_submit;
	tier->ops.commit = cut_commit;
	tier->ops.discard = cut_discard;
	tier->ops.holds = cut_holds;
	tier->ops.preload = NULL;
	tier->ops.stats = cut_stats;
	tier->ops.close = cut_close;
	tier->base.ops = &tier->ops;
	tier->loop = r->loop;
	r->parts[i] = tier;
	return &tier->base;
}

static ring ring_new(unsigned replicas)
{
	ring r = { .loop = kvt_real_loop_new(NULL), .memory = g_malloc0(1 << 20) };
	kvt_tier *parts[PARTS];
	for (unsigned i = 0; i < PARTS; i++)
		parts[i] = open_part(&r, i);
	const kvt_tier_env env = { .loop = r.loop };
	const kvt_ring_settings settings = {
		.replicas = replicas, .stripe_pages = 4, .retry = 10 * KVT_MILLISECOND
	};
	r.tier = kvt_ring_tier_new(&env, parts, names, PARTS, &settings);
	return r;
}

static void ring_free(ring *r)
{
	kvt_tier_close(r->tier);
	kvt_loop_free(r->loop);
	g_free(r->memory);
}

static kvt_extent run_of(uint64_t first, uint64_t n)
{
	return (kvt_extent){ 1, 0, first, n, PAGE };
}

static void stamp(uint8_t *at, uint64_t page, uint32_t version)
{
	const uint64_t words[] = { page, version };
	for (unsigned i = 0; i < PAGE; i += sizeof(words))
		memcpy(at + i, words, sizeof(words));
}

static int move(ring *r, kvt_io_op op, kvt_extent run)
{
	test_io io;
	void *const where[] = { r->memory };
	test_io_init(&io, op, run);
	io.io.memory = where;
	test_io_submit(r->tier, &io);
	kvt_loop_run(r->loop);
	g_assert_cmpuint(io.done, ==, 1);
	g_assert_cmpuint(io.io.bytes, ==, io.io.status == 0 ? kvt_extent_bytes(&run) : 0);
	return io.io.status;
}

static int write_version(ring *r, kvt_extent run, uint32_t version)
{
	for (uint64_t i = 0; i < run.n_pages; i++)
		stamp(r->memory + i * PAGE, run.first_page + i, version);
	return move(r, KVT_IO_WRITE, run);
}

/* Reads a run, and holds every page against what it has to be. */
static int read_versions(ring *r, kvt_extent run, const uint32_t *versions)
{
	uint8_t expected[PAGE];
	memset(r->memory, 0xee, kvt_extent_bytes(&run));
	int status = move(r, KVT_IO_READ, run);
	for (uint64_t i = 0; status == 0 && i < run.n_pages; i++) {
		stamp(expected, run.first_page + i, versions[run.first_page + i]);
		g_assert_cmpmem(r->memory + i * PAGE, PAGE, expected, PAGE);
	}
	return status;
}

static void pause_real(ring *r, kvt_time time)
{
	kvt_time until = kvt_loop_now(r->loop) + time;
	while (kvt_loop_now(r->loop) < until)
		g_usleep(200);
}

/* One part at a time is cut off, for a while; with two replicas nothing that was acknowledged is
 * ever gone, nor old. */
static void test_random(void)
{
	enum { PAGES = 200, ROUNDS = 3000 };
	ring r = ring_new(2);
	kvt_rng rng = kvt_rng_init(4, 0);
	uint32_t versions[PAGES] = { 0 }; /* 0: not there */
	unsigned read = 0, dead = PARTS;
	for (uint32_t round = 1; round <= ROUNDS; round++) {
		uint64_t first = kvt_rng_below(&rng, PAGES);
		kvt_extent run = run_of(first, 1 + kvt_rng_below(&rng, MIN(PAGES - first, 30)));
		if (kvt_rng_below(&rng, 30) == 0) {
			/* what a part missed is stored anew before another one goes */
			if (dead < PARTS)
				r.parts[dead]->cut = false;
			pause_real(&r, 11 * KVT_MILLISECOND);
			for (unsigned i = 0; dead < PARTS && i < PAGES; i++)
				if (versions[i] > 0)
					g_assert_cmpint(
						write_version(&r, run_of(i, 1), versions[i]), ==,
						0);
			dead = (unsigned)kvt_rng_below(&rng, PARTS + 1);
			if (dead < PARTS)
				r.parts[dead]->cut = true;
		}
		uint64_t what = kvt_rng_below(&rng, 10);
		bool there = true;
		for (uint64_t i = 0; i < run.n_pages; i++)
			there &= versions[first + i] > 0;
		if (what < 4) {
			g_assert_cmpint(write_version(&r, run, round), ==, 0);
			for (uint64_t i = 0; i < run.n_pages; i++)
				versions[first + i] = round;
		} else if (what < 5) {
			uint64_t bytes = 0;
			for (uint64_t i = 0; i < run.n_pages; i++) {
				bytes += versions[first + i] > 0 ? PAGE : 0;
				versions[first + i] = 0;
			}
			g_assert_cmpuint(r.tier->ops->discard(r.tier, 0, &run), ==, bytes);
		} else {
			g_assert_true(r.tier->ops->holds(r.tier, 0, &run) == there);
			g_assert_cmpint(read_versions(&r, run, versions), ==, there ? 0 : -ENOENT);
			read += there;
		}
	}
	kvt_ring_counts counts = kvt_ring_tier_counts(r.tier);
	g_assert_cmpuint(read, >, 100);
	g_assert_cmpuint(counts.fallbacks, >, 10);
	g_assert_cmpuint(counts.thin_writes, >, 10);
	g_assert_cmpuint(counts.left_out, >, 5);
	g_assert_cmpuint(counts.taken, >, 5);
	g_assert_cmpuint(counts.no_part + counts.failed + counts.corrupt, ==, 0);
	ring_free(&r);
}

/* A part that fails is asked `failures` times, not again before its time has come, and then is. */
static void test_left_out(void)
{
	uint32_t versions[64];
	for (unsigned i = 0; i < 64; i++)
		versions[i] = 1;
	ring r = ring_new(1);
	g_assert_cmpint(write_version(&r, run_of(0, 64), 1), ==, 0);
	unsigned part = 0;
	kvt_extent run = run_of(0, 4);
	while (!r.parts[part]->inner->ops->holds(r.parts[part]->inner, 0, &run))
		part++;
	r.parts[part]->cut = true;
	r.parts[part]->asked = 0;
	for (unsigned i = 0; i < 3; i++)
		g_assert_cmpint(read_versions(&r, run, versions), ==, -EIO);
	g_assert_true(kvt_ring_tier_leaves_out(r.tier, part));
	g_assert_cmpint(read_versions(&r, run, versions), ==, -ENOENT);
	g_assert_cmpuint(r.parts[part]->asked, ==, 3);
	g_assert_cmpuint(kvt_ring_tier_counts(r.tier).no_part, ==, 1);
	g_assert_cmpuint(kvt_ring_tier_counts(r.tier).failed, ==, 3);
	r.parts[part]->cut = false;
	pause_real(&r, 11 * KVT_MILLISECOND);
	g_assert_cmpint(read_versions(&r, run, versions), ==, 0);
	g_assert_false(kvt_ring_tier_leaves_out(r.tier, part));
	g_assert_cmpuint(kvt_ring_tier_counts(r.tier).taken, ==, 1);
	/* its stripes go elsewhere while it is away, and what it has of them is not served again */
	r.parts[part]->cut = true;
	for (unsigned i = 0; i < 3; i++)
		g_assert_cmpint(read_versions(&r, run, versions), ==, -EIO);
	g_assert_cmpint(write_version(&r, run, 2), ==, 0);
	for (unsigned i = 0; i < 4; i++)
		versions[i] = 2;
	g_assert_cmpint(read_versions(&r, run, versions), ==, 0);
	r.parts[part]->cut = false;
	pause_real(&r, 11 * KVT_MILLISECOND);
	g_assert_cmpint(read_versions(&r, run_of(0, 64), versions), ==, 0);
	g_assert_cmpuint(r.tier->ops->discard(r.tier, 0, &run), ==, 4 * PAGE);
	g_assert_cmpint(read_versions(&r, run, versions), ==, -ENOENT);
	/* no part at all: nothing is stored */
	for (unsigned i = 0; i < PARTS; i++)
		r.parts[i]->cut = true;
	for (unsigned i = 0; i < 8; i++)
		g_assert_cmpint(write_version(&r, run, 3), ==, -EIO);
	ring_free(&r);
}

/* A page that goes bad or is forgotten in one part comes from another; in all, it is a miss. */
static void test_bad_pages(void)
{
	for (int drop = 0; drop < 2; drop++) {
		uint32_t versions[16];
		for (unsigned i = 0; i < 16; i++)
			versions[i] = 1;
		ring r = ring_new(2);
		g_assert_cmpint(write_version(&r, run_of(0, 16), 1), ==, 0);
		kvt_extent page = run_of(5, 1);
		unsigned spoiled = 0;
		for (unsigned i = 0; i < PARTS; i++) {
			kvt_tier *inner = r.parts[i]->inner;
			if (!inner->ops->holds(inner, 0, &page))
				continue;
			if (drop)
				inner->ops->discard(inner, 0, &page);
			else
				((uint8_t *)kvt_pinned_tier_page(inner, 0, &page))[100] ^= 1;
			spoiled++;
			int status = read_versions(&r, run_of(0, 16), versions);
			g_assert_cmpint(status, ==, spoiled == 1 ? 0 : drop ? -ENOENT : -EBADMSG);
		}
		g_assert_cmpuint(spoiled, ==, 2);
		g_assert_false(r.tier->ops->holds(r.tier, 0, &page));
		g_assert_cmpuint(kvt_ring_tier_counts(r.tier).fallbacks, >=, 1);
		/* the pages beside it are still there, and it can be written again */
		g_assert_cmpint(read_versions(&r, run_of(0, 5), versions), ==, 0);
		g_assert_cmpint(read_versions(&r, run_of(6, 10), versions), ==, 0);
		g_assert_cmpint(write_version(&r, page, 1), ==, 0);
		g_assert_cmpint(read_versions(&r, run_of(0, 16), versions), ==, 0);
		ring_free(&r);
	}
}

/* What parts hold when the ring is made is found. */
static void test_found(void)
{
	kvt_topology_spec spec = tier_machine_spec();
	tier_machine *machine = tier_machine_new(&spec, 1);
	kvt_tier *parts[2];
	kvt_extent first = run_of(0, 10), second = run_of(10, 30), all = run_of(0, 40);
	for (unsigned i = 0; i < 2; i++)
		parts[i] = tier_machine_open(machine, "dram", "");
	g_assert_true(parts[0]->ops->preload(parts[0], 0, &first));
	g_assert_true(parts[1]->ops->preload(parts[1], 0, &second));
	const kvt_ring_settings settings = { 0 };
	kvt_tier *tier = kvt_ring_tier_new(&machine->env, parts, names, 2, &settings);
	g_assert_true(tier->ops->holds(tier, 0, &all));
	g_assert_cmpint(test_io_run(machine->loop, tier, KVT_IO_READ, all), ==, 0);
	g_assert_cmpuint(tier->ops->discard(tier, 0, &second), ==, 30 * PAGE);
	g_assert_cmpint(test_io_run(machine->loop, tier, KVT_IO_READ, all), ==, -ENOENT);
	g_assert_cmpint(test_io_run(machine->loop, tier, KVT_IO_READ, first), ==, 0);
	kvt_tier_close(tier);
	tier_machine_free(machine);
}

/* More replicas, fewer reads that end without their pages. */
static void test_replicas(void)
{
	double before = 1;
	for (unsigned replicas = 1; replicas <= 3; replicas++) {
		kvt_topology_spec spec = tier_machine_spec();
		tier_machine *machine = tier_machine_new(&spec, 1);
		const kvt_fault_settings faults = { .read_error_rate = 0.2,
			.corrupt_rate = 0.02,
			.delay_rate = 0.1,
			.delay = 1000 };
		kvt_tier *parts[PARTS];
		for (unsigned i = 0; i < PARTS; i++) {
			kvt_tier_env env = machine->env;
			env.instance = i;
			parts[i] = kvt_fault_tier_new(
				&env, tier_machine_open(machine, "null", ""), &faults);
		}
		const kvt_ring_settings settings = {
			.replicas = replicas, .failures = 1000, .stripe_pages = 8
		};
		kvt_tier *tier = kvt_ring_tier_new(&machine->env, parts, names, PARTS, &settings);
		kvt_extent all = run_of(0, 8000);
		g_assert_true(tier->ops->preload(tier, 0, &all));
		unsigned lost = 0, n = 1000;
		for (unsigned i = 0; i < n; i++)
			lost += test_io_run(machine->loop, tier, KVT_IO_READ, run_of(8 * i, 8)) !=
				0;
		g_test_message("%u replicas: %u of %u reads fail", replicas, lost, n);
		g_assert_cmpfloat(lost, <, 0.6 * before * n);
		before = (double)lost / n;
		kvt_tier_close(tier);
		tier_machine_free(machine);
	}
	g_assert_cmpfloat(before, <, 0.03);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/ring-tier/places", test_places);
	g_test_add_func("/ring-tier/one-less", test_one_less);
	g_test_add_func("/ring-tier/random", test_random);
	g_test_add_func("/ring-tier/left-out", test_left_out);
	g_test_add_func("/ring-tier/bad-pages", test_bad_pages);
	g_test_add_func("/ring-tier/found", test_found);
	g_test_add_func("/ring-tier/replicas", test_replicas);
	return g_test_run();
}
