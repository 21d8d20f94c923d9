/* test_tier_model.c: the times of modelled tiers against arithmetic on what they are made of. */
#include <errno.h>
#include <glib/gstdio.h>
#include <math.h>
#include <stdlib.h>

#include "models/hardware.h"
#include "sim/base/rng.h"
#include "tests/unit/tier_fixture.h"
#include "tests/unit/tier_test_io.h"

enum { KB = 1000, MB = 1000 * KB };
static const uint64_t GB = 1000 * MB;

/* A drive of round numbers, on a link that is faster. */
static const char round_drive[] = "[drive]\n"
				  "title = round numbers\n"
				  "source = assumed: for tests\n"
				  "capacity = 10TB\n"
				  "read_bandwidth = 10GB/s\n"
				  "write_bandwidth = 5GB/s\n"
				  "read_iops = 1M/s\n"
				  "write_iops = 500K/s\n"
				  "read_latency = 100us\n"
				  "read_latency_p99 = 100us\n"
				  "write_latency = 20us\n"
				  "write_latency_p99 = 20us\n"
				  "queue_depth = 1024\n"
				  "transfer_max = 128KiB\n"
				  "pcie_generation = 6\n"
				  "pcie_lanes = 4\n"
				  "mixed_efficiency = 50%\n"
				  "compression = yes\n"
				  "compression_max = 4\n"
				  "endurance = 1\n"
				  "power = 10W\n"
				  "power_idle = 5W\n";

typedef struct bench {
	tier_machine *machine;
	kvt_tier *tier;
} bench;

/* A tier on a machine of which only the links that `spec` has limit it. */
static bench bench_new(const kvt_topology_spec *spec, const char *kind, const char *options)
{
	bench b = { .machine = tier_machine_new(spec, 11) };
	b.tier = tier_machine_open(b.machine, kind, options);
	return b;
}

static void bench_free(bench *b)
{
	kvt_tier_close(b->tier);
	tier_machine_free(b->machine);
}

/* The path of a file with the round drive, made once; freed with the folder at the end. */
static char *drive_folder, *drive_path;

static bench round_drives(const char *more)
{
	kvt_topology_spec spec = { .ranks = 1 };
	g_autofree char *options = g_strdup_printf("drive = %s\n%s", drive_path, more);
	return bench_new(&spec, "nvme", options);
}

static kvt_extent run_of(uint32_t context, uint64_t pages, uint64_t page_bytes)
{
	return (kvt_extent){ context, 0, 0, pages, page_bytes };
}

static void preload(bench *b, kvt_extent extent)
{
	g_assert_true(b->tier->ops->preload(b->tier, 0, &extent));
}

/* Seconds of one I/O on an idle tier; a read's pages are put there first. */
static double seconds_of(bench *b, kvt_io_op op, kvt_extent extent)
{
	if (op == KVT_IO_READ)
		preload(b, extent);
	kvt_time begun = kvt_loop_now(b->machine->loop);
	g_assert_cmpint(test_io_run(b->machine->loop, b->tier, op, extent), ==, 0);
	return kvt_time_to_seconds(kvt_loop_now(b->machine->loop) - begun);
}

static void check_close(double value, double expected, double share)
{
	if (fabs(value / expected - 1) > share)
		g_error("%.9g is not within %g%% of %.9g", value, share * 100, expected);
}

/* A large transfer takes its bytes at the slowest link's rate, and a latency. */
static void test_large(void)
{
	kvt_topology_spec spec = tier_machine_spec();
	spec.fabric_latency_p99 = spec.fabric_latency;
	spec.gpu_copy_cost = 0; /* test_copy_curve's */
	g_autofree char *nvme = g_strdup_printf("drive = %s\ndrives = 8\n", drive_path);
	g_autofree char *few = g_strdup_printf("drive = %s\ndrives = 2\n", drive_path);
	const char *memory = "latency = 5us\nlatency_p99 = 5us\n";
	const struct {
		const char *kind, *options;
		kvt_io_op op;
		double rate, latency;
	} cases[] = {
		{ "hbm", memory, KVT_IO_READ, spec.hbm_rate, 5e-6 },
		{ "hbm", memory, KVT_IO_WRITE, spec.hbm_rate, 5e-6 },
		{ "dram", memory, KVT_IO_READ, spec.gpu_link_rate, 5e-6 },
		{ "dram", memory, KVT_IO_WRITE, spec.gpu_link_rate, 5e-6 },
		{ "remote-dram", memory, KVT_IO_READ, 0.95 * spec.nic_rate, 7e-6 },
		{ "remote-dram", memory, KVT_IO_WRITE, 0.95 * spec.nic_rate, 7e-6 },
		{ "nvme", nvme, KVT_IO_READ, 80e9, 100e-6 },
		{ "nvme", nvme, KVT_IO_WRITE, 40e9, 20e-6 },
		{ "remote-nvme", nvme, KVT_IO_READ, 0.95 * spec.nic_rate, 102e-6 },
		{ "remote-nvme", nvme, KVT_IO_WRITE, 40e9, 22e-6 },
		{ "remote-nvme", few, KVT_IO_READ, 20e9, 102e-6 },
		{ "remote-nvme", few, KVT_IO_WRITE, 10e9, 22e-6 },
	};
	/* from where the latency is most of it to where it is nothing */
	const uint64_t sizes[] = { 16 * MB, 256 * MB, 20 * GB };
	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++)
		for (unsigned j = 0; j < G_N_ELEMENTS(sizes); j++) {
			bench b = bench_new(&spec, cases[i].kind, cases[i].options);
			double took = seconds_of(&b, cases[i].op, run_of(1, sizes[j] / MB, MB));
			double bytes = (double)sizes[j];
			check_close(took, bytes / cases[i].rate + cases[i].latency, 0.01);
			bench_free(&b);
		}
}

/* What limits a path can be any of its links. */
static void test_every_link_limits(void)
{
	const kvt_topology_spec base = tier_machine_spec();
	struct {
		kvt_topology_spec spec;
		const char *kind;
		kvt_io_op op;
		double rate;
	} cases[] = {
		{ base, "dram", KVT_IO_READ, 10e9 },
		{ base, "nvme", KVT_IO_READ, 5e9 }, /* staged: in and out of DRAM */
		{ base, "nvme", KVT_IO_READ, 10e9 },
		{ base, "remote-dram", KVT_IO_WRITE, 10e9 },
		{ base, "remote-nvme", KVT_IO_READ, 5e9 },
		{ base, "remote-nvme", KVT_IO_READ, 9.5e9 },
		{ base, "remote-nvme", KVT_IO_WRITE, 9.5e9 },
		{ base, "dram", KVT_IO_WRITE, 10e9 },
		{ base, "dram", KVT_IO_READ, 104e9 },
	};
	cases[0].spec.dram_rate = 10e9;
	cases[1].spec.dram_rate = 10e9;
	cases[2].spec.checksum_rate = 10e9;
	cases[3].spec.target_dram_rate = 10e9;
	cases[4].spec.target_dram_rate = 10e9; /* in from the drive, out to the NIC */
	cases[5].spec.target_nic_rate = 10e9;
	cases[6].spec.nic_rate = 10e9;
	cases[7].spec.gpu_store_rate = 10e9;
	cases[8].spec.gpu_store_rate = 10e9; /* the other direction */
	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		bench b = bench_new(&cases[i].spec, cases[i].kind, "");
		double took = seconds_of(&b, cases[i].op, run_of(1, 20000, MB));
		check_close(took, 20e9 / cases[i].rate, 0.01);
		bench_free(&b);
	}
	/* the client's software, where pages are small */
	kvt_topology_spec slow = base;
	slow.client_io_rate = 1e6;
	const char *kinds[] = { "nvme", "remote-nvme", "remote-dram" };
	for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
		bench small = bench_new(&slow, kinds[i], "coalesce = no");
		/* a share of a page for each of four ranks */
		double took = seconds_of(&small, KVT_IO_READ, run_of(1, 100000, 4096));
		check_close(took, 0.4, 0.01);
		bench_free(&small);
	}
	/* drives and NICs that reach the GPU by themselves leave client DRAM alone */
	kvt_topology_spec direct = base;
	direct.dram_rate = 10e9;
	direct.gpu_direct = TRUE;
	bench b = bench_new(&direct, "remote-nvme", "");
	check_close(seconds_of(&b, KVT_IO_READ, run_of(1, 20000, MB)), 20e9 / 47.5e9, 0.01);
	bench_free(&b);
}

/* Seconds until a read and a write that start together are both done, and of the first alone. */
static double both(bench *b, uint64_t read_bytes, uint64_t write_bytes, double *first)
{
	kvt_extent from = run_of(1, read_bytes / MB, MB), to = run_of(2, write_bytes / MB, MB);
	test_io read, write;
	preload(b, from);
	test_io_init(&read, KVT_IO_READ, from);
	test_io_init(&write, KVT_IO_WRITE, to);
	kvt_time begun = kvt_loop_now(b->machine->loop);
	test_io_submit(b->tier, &read);
	test_io_submit(b->tier, &write);
	kvt_loop_run(b->machine->loop);
	g_assert_cmpint(read.io.status, ==, 0);
	g_assert_cmpint(write.io.status, ==, 0);
	*first = kvt_time_to_seconds(MIN(read.io.completed, write.io.completed) - begun);
	return kvt_time_to_seconds(kvt_loop_now(b->machine->loop) - begun);
}

static void test_sharing(void)
{
	double first;
	/* a mix takes 1 / mixed_efficiency times as long as one after the other: 1 s and 2 s */
	bench b = round_drives("drives = 1");
	check_close(both(&b, 10 * GB, 10 * GB, &first), 3 / 0.5, 0.001);
	check_close(first, 3 / 0.5, 0.001);
	bench_free(&b);
	/* and only while there is one */
	b = round_drives("drives = 1");
	check_close(both(&b, 30 * GB, 10 * GB, &first), 6 + 2, 0.001);
	check_close(first, 6, 0.001);
	check_close(seconds_of(&b, KVT_IO_READ, run_of(3, 10000, MB)), 1, 0.001);
	check_close(seconds_of(&b, KVT_IO_WRITE, run_of(4, 10000, MB)), 2, 0.001);
	bench_free(&b);

	/* PCIe and NICs carry both directions at once, DRAM does not */
	kvt_topology_spec spec = tier_machine_spec();
	spec.checksum_rate = 0;
	bench dram = bench_new(&spec, "dram", "");
	check_close(both(&dram, 10400 * (uint64_t)MB, 10400 * (uint64_t)MB, &first), 0.1, 0.01);
	bench_free(&dram);
	bench remote = bench_new(&spec, "remote-dram", "");
	check_close(both(&remote, 4750 * (uint64_t)MB, 4750 * (uint64_t)MB, &first), 0.1, 0.01);
	bench_free(&remote);
	spec.dram_rate = 100e9;
	dram = bench_new(&spec, "dram", "");
	check_close(both(&dram, 10 * GB, 10 * GB, &first), 0.2, 0.01);
	bench_free(&dram);
}

/* Scattered 4 KiB pages: as many a second as the drives do, or as their queues allow. */
static void test_small_ios(void)
{
	const struct {
		const char *options;
		kvt_io_op op;
		double per_second;
	} cases[] = {
		{ "drives = 1\ncoalesce = no", KVT_IO_READ, 1e6 },
		{ "drives = 3\ncoalesce = no", KVT_IO_READ, 3e6 },
		{ "drives = 1\ncoalesce = no", KVT_IO_WRITE, 0.5e6 },
		{ "drives = 1\ncoalesce = no\nqueue_depth = 4", KVT_IO_READ, 4 / 100.4096e-6 },
		{ "drives = 3\ncoalesce = no\nqueue_depth = 4", KVT_IO_READ, 12 / 100.4096e-6 },
		{ "drives = 1\ncoalesce = no\nqueue_depth = 4", KVT_IO_WRITE, 4 / 20.8192e-6 },
		/* neighbours in one command: bytes count again */
		{ "drives = 1", KVT_IO_READ, 10e9 / 4096 },
		{ "drives = 1\nmax_transfer = 8KiB", KVT_IO_READ, 2 * 1e6 },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		const unsigned n = 100000;
		bench b = round_drives(cases[i].options);
		double took = seconds_of(&b, cases[i].op, run_of(1, n, 4096));
		check_close(took, n / cases[i].per_second, 0.01);
		bench_free(&b);
	}
}

typedef struct closed_loop {
	bench *b;
	unsigned left;
} closed_loop;

static void read_again(test_io *io)
{
	closed_loop *loop = io->hook_arg;
	g_assert_cmpint(io->io.status, ==, 0);
	if (loop->left == 0)
		return;
	loop->left--;
	test_io_submit(loop->b->tier, io);
}

/* Reads a second of `workers` that each have one 4 KiB read in flight. */
static double closed_rate(const char *options, unsigned workers)
{
	const unsigned reads = 400 * workers;
	bench b = round_drives(options);
	closed_loop loop = { &b, reads - workers };
	g_autofree test_io *ios = g_new(test_io, workers);
	kvt_extent page = run_of(1, 1, 4096);
	preload(&b, page);
	for (unsigned i = 0; i < workers; i++) {
		test_io_init(&ios[i], KVT_IO_READ, page);
		ios[i].hook = read_again;
		ios[i].hook_arg = &loop;
		test_io_submit(b.tier, &ios[i]);
	}
	kvt_loop_run(b.machine->loop);
	double rate = reads / kvt_time_to_seconds(kvt_loop_now(b.machine->loop));
	bench_free(&b);
	return rate;
}

/* Little's law: what is in flight over the latency, up to the queue depth. Served in turn, the
 * workers are soon out of step, and none waits for another. */
static void test_queue_depth(void)
{
	for (unsigned workers = 1; workers <= 64; workers *= 4) {
		double one = 100e-6 + 4096 / 10e9;
		check_close(closed_rate("drives = 1", workers), workers / one, 0.01);
		check_close(closed_rate("drives = 1\nqueue_depth = 8", workers),
			MIN(workers, 8) / one, 0.01);
	}
	/* one read alone takes one latency whatever the depth */
	bench b = round_drives("drives = 1\nqueue_depth = 1");
	check_close(seconds_of(&b, KVT_IO_READ, run_of(1, 1, 4096)), 100.41e-6, 0.001);
	bench_free(&b);
}

/* A single command is one drive's, however many there are. */
static void test_one_command(void)
{
	bench b = round_drives("drives = 16");
	double one = 131072 / 10e9;
	check_close(seconds_of(&b, KVT_IO_READ, run_of(1, 1, 131072)), 100e-6 + one, 0.001);
	check_close(seconds_of(&b, KVT_IO_READ, run_of(2, 4, 131072)), 100e-6 + one, 0.001);
	check_close(seconds_of(&b, KVT_IO_READ, run_of(3, 16, 131072)), 100e-6 + one, 0.001);
	check_close(seconds_of(&b, KVT_IO_READ, run_of(4, 32, 131072)), 100e-6 + 2 * one, 0.001);
	check_close(seconds_of(&b, KVT_IO_WRITE, run_of(5, 1, 131072)), 20e-6 + 2 * one, 0.001);
	bench_free(&b);
}

/* Compression stretches the media and the capacity, up to what the PCIe link carries. */
static void test_compression(void)
{
	const double link6 = kvt_pcie_raw_rate(6, 4) * 512 / 536;
	const double link4 = kvt_pcie_raw_rate(4, 4) * 512 / 536;
	kvt_topology_spec spec = { .ranks = 1 };
	g_autofree char *options =
		g_strdup_printf("drive = %s\ndrives = 1\ncompression = 4", drive_path);
	bench b = bench_new(&spec, "nvme", options);
	check_close(seconds_of(&b, KVT_IO_READ, run_of(1, 10000, MB)), 10e9 / link6, 0.01);
	check_close(seconds_of(&b, KVT_IO_WRITE, run_of(2, 10000, MB)), 10e9 / 20e9, 0.01);
	kvt_tier_stats stats;
	b.tier->ops->stats(b.tier, &stats);
	g_assert_cmpuint(stats.capacity, ==, 40000 * GB);
	bench_free(&b);
	/* a slot of an older generation, or a narrower one, is the limit before the drive is */
	spec.client_slot = (kvt_drive_slot){ 4, 0 };
	b = bench_new(&spec, "nvme", options);
	check_close(seconds_of(&b, KVT_IO_READ, run_of(1, 10000, MB)), 10e9 / link4, 0.01);
	bench_free(&b);
	spec.client_slot = (kvt_drive_slot){ 6, 1 };
	b = bench_new(&spec, "nvme", options);
	check_close(seconds_of(&b, KVT_IO_READ, run_of(1, 10000, MB)), 4 * 10e9 / link6, 0.01);
	bench_free(&b);
}

/* Host-to-device copies by size, against the curve measured on the host. */
static void test_copy_curve(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_host) host = kvt_host_load("h200-pcie5", &error);
	g_assert_no_error(error);
	g_assert_cmpuint(host->n_copy_points, >=, 6);
	kvt_topology_spec spec = {
		.ranks = 1,
		.gpu_link_rate = host->copy_to_gpu,
		.copies = host,
		.dram_rate = kvt_host_dram_bandwidth(host),
	};
	for (unsigned i = 0; i < host->n_copy_points; i++) {
		const kvt_copy_point *point = &host->copy_points[i];
		/* scattered pages of that size, enough of them that the first latency is nothing */
		bench b = bench_new(
			&spec, "dram", "capacity = 16TB\ncoalesce = no\nmax_transfer = 1GiB");
		double pages = 4000;
		double took = seconds_of(&b, KVT_IO_READ, run_of(1, (uint64_t)pages, point->size));
		double rate = pages * (double)point->size / took;
		g_test_message("%" G_GUINT64_FORMAT " B: %.1f GB/s, measured %.1f GB/s",
			point->size, rate / 1e9, point->rate / 1e9);
		check_close(rate, point->rate, 0.01);
		bench_free(&b);
	}
	/* the same pages side by side are copied in large pieces */
	bench b = bench_new(&spec, "dram", "");
	double took = seconds_of(&b, KVT_IO_READ, run_of(1, 100000, 16384));
	check_close(100000 * 16384.0 / took, 54.4e9, 0.02);
	bench_free(&b);
}

/* What comes from drives is copied in as long pieces as it was read, or not at all where the drives
 * reach the GPU by themselves. */
static void test_staged_copies(void)
{
	kvt_topology_spec spec = { .ranks = 1, .gpu_link_rate = 10e9, .gpu_copy_cost = 10e-6 };
	const char *kinds[] = { "nvme", "remote-nvme", "remote-dram" };
	spec.nic_rate = spec.target_dram_rate = 1e15;
	for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
		bench b = bench_new(&spec, kinds[i], "");
		check_close(seconds_of(&b, KVT_IO_READ, run_of(1, 10000, MB)), 1, 0.01);
		bench_free(&b);
		b = bench_new(&spec, kinds[i], "coalesce = no");
		double copies = 10000 * (10e-6 + 65536 / 10e9);
		check_close(seconds_of(&b, KVT_IO_READ, run_of(1, 10000, 65536)), copies, 0.01);
		bench_free(&b);
		kvt_topology_spec direct = spec;
		direct.gpu_direct = TRUE;
		b = bench_new(&direct, kinds[i], "coalesce = no");
		double bytes = 10000 * 65536 / 10e9;
		check_close(seconds_of(&b, KVT_IO_READ, run_of(1, 10000, 65536)), bytes, 0.01);
		bench_free(&b);
	}
}

/* Ranks work in parallel: each has a copy engine, and copies its share. */
static void test_ranks(void)
{
	kvt_topology_spec spec = tier_machine_spec();
	spec.dram_rate = spec.checksum_rate = 1e15;
	/* 4,000 pages of 64 KiB: 16 KiB a rank, at 2.5 us and 26 GB/s each */
	bench b = bench_new(&spec, "dram", "coalesce = no");
	double took = seconds_of(&b, KVT_IO_READ, run_of(1, 4000, 65536));
	check_close(took, 4000 * (2.5e-6 + 16384 / 26e9), 0.01);
	bench_free(&b);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

enum { SAMPLES = 20000 };

/* Latencies of single reads of `pages` pages, sorted. */
static void sample_reads(const char *drive, uint64_t pages, double *sorted)
{
	kvt_topology_spec spec = { .ranks = 1 };
	g_autofree char *options = g_strdup_printf("drive = %s\ncoalesce = no", drive);
	bench b = bench_new(&spec, "nvme", options);
	kvt_extent run = run_of(1, pages, 4096);
	preload(&b, run);
	for (unsigned i = 0; i < SAMPLES; i++) {
		kvt_time begun = kvt_loop_now(b.machine->loop);
		g_assert_cmpint(test_io_run(b.machine->loop, b.tier, KVT_IO_READ, run), ==, 0);
		sorted[i] = kvt_time_to_seconds(kvt_loop_now(b.machine->loop) - begun);
	}
	qsort(sorted, SAMPLES, sizeof(*sorted), by_value);
	bench_free(&b);
}

/* Single small reads have the drive's median and 99th percentile; reads that are cut into several
 * have those of the slowest. */
static void test_tail(void)
{
	const char *drives[] = { "micron-9550", "micron-9650", "samsung-pm9a3",
		"scaleflux-csd5000" };
	g_autofree double *sorted = g_new(double, SAMPLES), *slowest = g_new(double, SAMPLES);
	for (unsigned i = 0; i < G_N_ELEMENTS(drives); i++) {
		g_autoptr(GError) error = NULL;
		g_autoptr(kvt_drive) drive = kvt_drive_load(drives[i], &error);
		g_assert_no_error(error);
		double median = kvt_time_to_seconds(drive->read_latency);
		double p99 = kvt_time_to_seconds(drive->read_latency_p99);
		sample_reads(drives[i], 1, sorted);
		/* the transfer itself is under 1 us; three standard errors are 0.9% and 2.3% */
		check_close(sorted[SAMPLES / 2], median, 0.02);
		check_close(sorted[SAMPLES * 99 / 100], p99, 0.03);

		kvt_rng rng = kvt_rng_init(77, i);
		for (unsigned j = 0; j < SAMPLES; j++) {
			slowest[j] = 0;
			for (unsigned k = 0; k < 8; k++) {
				double sample = kvt_rng_lognormal(&rng, median, p99);
				slowest[j] = MAX(slowest[j], sample);
			}
		}
		qsort(slowest, SAMPLES, sizeof(*slowest), by_value);
		sample_reads(drives[i], 8, sorted);
		check_close(sorted[SAMPLES / 2], slowest[SAMPLES / 2], 0.02);
		check_close(sorted[SAMPLES * 99 / 100], slowest[SAMPLES * 99 / 100], 0.05);
	}
}

/* Two tiers of a kind have random numbers of their own. */
static void test_instances(void)
{
	kvt_topology_spec spec = { .ranks = 1 };
	kvt_time took[3];
	for (unsigned i = 0; i < 3; i++) {
		tier_machine *m = tier_machine_new(&spec, 1);
		m->env.instance = i / 2;
		kvt_tier *tier = tier_machine_open(m, "nvme", "");
		g_assert_cmpint(
			test_io_run(m->loop, tier, KVT_IO_WRITE, run_of(1, 1, 4096)), ==, 0);
		took[i] = kvt_loop_now(m->loop);
		kvt_tier_close(tier);
		tier_machine_free(m);
	}
	g_assert_cmpint(took[0], ==, took[1]);
	g_assert_cmpint(took[0], !=, took[2]);
}

/* Three reads of runs alike, one after the other: each takes `first`, and then `more`. */
static void check_in_turn(bench b, kvt_extent run, double first, double more)
{
	test_io reads[3];
	for (unsigned i = 0; i < 3; i++, run.context++) {
		preload(&b, run);
		test_io_init(&reads[i], KVT_IO_READ, run);
		test_io_submit(b.tier, &reads[i]);
	}
	kvt_loop_run(b.machine->loop);
	for (unsigned i = 0; i < 3; i++)
		check_close(kvt_time_to_seconds(reads[i].io.completed), first + i * more, 0.001);
	bench_free(&b);
}

/* The first of several ends as if it were alone; drives that are idle let others begin. */
static void test_in_turn(void)
{
	check_in_turn(round_drives("drives = 1"), run_of(1, 1000, MB), 100e-6 + 0.1, 0.1);
	check_in_turn(round_drives("drives = 8"), run_of(1, 1, 100 * KB), 100e-6 + 10e-6, 0);
	const kvt_topology_spec spec = { .ranks = 1, .gpu_link_rate = 10e9, .dram_rate = 100e9 };
	check_in_turn(bench_new(&spec, "dram", ""), run_of(1, 100, MB), 30e-3, 0);
	check_in_turn(bench_new(&spec, "dram", "in_turn = yes"), run_of(1, 100, MB), 10e-3, 10e-3);
}

/* A class that comes first takes as long as if it were alone. */
static void test_priority(void)
{
	kvt_topology_spec spec = tier_machine_spec();
	bench b = bench_new(&spec, "remote-dram", "latency_p99 = 1us");
	kvt_extent urgent = run_of(1, 1000, MB), patient = run_of(2, 9000, MB);
	double alone = seconds_of(&b, KVT_IO_READ, urgent);
	preload(&b, patient);
	test_io first, second;
	test_io_init(&second, KVT_IO_READ, patient);
	second.io.priority = 1;
	test_io_submit(b.tier, &second);
	test_io_init(&first, KVT_IO_READ, urgent);
	test_io_submit(b.tier, &first);
	kvt_time begun = kvt_loop_now(b.machine->loop);
	kvt_loop_run(b.machine->loop);
	check_close(kvt_time_to_seconds(first.io.completed - begun), alone, 0.001);
	check_close(kvt_time_to_seconds(second.io.completed - begun), 10e9 / 47.5e9, 0.01);
	bench_free(&b);
}

/* Commands in turn with bytes: page I/Os of s bytes take 1 / iops and what s is more than 4 KiB at
 * the bandwidth, many at once; beside them, the longer of the two. */
static void test_serial(void)
{
	g_autofree char *path = g_build_filename(drive_folder, "serial.ini", NULL);
	g_autofree char *text =
		g_strconcat(round_drive, "read_serial = yes\nwrite_serial = yes\n", NULL);
	g_assert_true(g_file_set_contents(path, text, -1, NULL));
	kvt_topology_spec spec = { .ranks = 1 };
	g_autofree char *options = g_strdup_printf("drive = %s\ndrives = 2\ncoalesce = no\n", path);
	static const uint64_t sizes[] = { 4096, 8192, 16384, 131072 };
	for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
		bench b = bench_new(&spec, "nvme", options);
		const uint64_t pages = 200000;
		double bytes = (double)sizes[i];
		double one = 1e-6 + (bytes - 4096) / 10e9;
		check_close(seconds_of(&b, KVT_IO_READ, run_of(1, pages, sizes[i])),
			one * (double)pages / 2, 0.01);
		one = 2e-6 + (bytes - 4096) / 5e9;
		check_close(seconds_of(&b, KVT_IO_WRITE, run_of(2, pages, sizes[i])),
			one * (double)pages / 2, 0.01);
		bench_free(&b);
	}
	g_unlink(path);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	drive_folder = g_dir_make_tmp("kvtier-drive-XXXXXX", NULL);
	drive_path = g_build_filename(drive_folder, "round.ini", NULL);
	g_assert_true(g_file_set_contents(drive_path, round_drive, -1, NULL));
	g_test_add_func("/tier-model/large", test_large);
	g_test_add_func("/tier-model/every-link-limits", test_every_link_limits);
	g_test_add_func("/tier-model/sharing", test_sharing);
	g_test_add_func("/tier-model/small-ios", test_small_ios);
	g_test_add_func("/tier-model/serial", test_serial);
	g_test_add_func("/tier-model/queue-depth", test_queue_depth);
	g_test_add_func("/tier-model/one-command", test_one_command);
	g_test_add_func("/tier-model/compression", test_compression);
	g_test_add_func("/tier-model/copy-curve", test_copy_curve);
	g_test_add_func("/tier-model/staged-copies", test_staged_copies);
	g_test_add_func("/tier-model/ranks", test_ranks);
	g_test_add_func("/tier-model/tail", test_tail);
	g_test_add_func("/tier-model/instances", test_instances);
	g_test_add_func("/tier-model/priority", test_priority);
	g_test_add_func("/tier-model/in-turn", test_in_turn);
	int status = g_test_run();
	g_unlink(drive_path);
	g_rmdir(drive_folder);
	g_free(drive_path);
	g_free(drive_folder);
	return status;
}
