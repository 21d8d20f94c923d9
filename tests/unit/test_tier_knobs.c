/*
 * test_tier_knobs.c: more of anything is never slower, and every option of every tier changes what
 * some run of reads and writes takes.
 */
#include <string.h>

#include "sim/base/rng.h"
#include "sim/tier/fault_tier.h"
#include "tests/unit/tier_fixture.h"
#include "tests/unit/tier_test_io.h"

enum { IOS = 80, RUNS = 4 };

typedef struct timed_io {
	test_io test;
	kvt_tier *tier;
	kvt_extent runs[RUNS];
	kvt_time when;
} timed_io;

typedef struct outcome {
	kvt_time makespan;
	uint64_t hash; /* of times, statuses and statistics */
} outcome;

static void submit_timed(void *arg)
{
	timed_io *io = arg;
	/* a refused I/O stays at its first status, which is none that a tier gives */
	kvt_tier_submit(io->tier, &io->test.io);
}

static void mix(uint64_t *hash, uint64_t value)
{
	*hash = (*hash ^ value) * 0x9e3779b97f4a7c15u;
	*hash ^= *hash >> 29;
}

/* Runs on the tier a workload that the seed decides: pages of 64 KiB, scattered and in long runs,
 * read and written, some together and some apart. Closes the tier. */
static outcome run_workload(tier_machine *m, kvt_tier *tier, uint64_t seed)
{
	kvt_rng rng = kvt_rng_init(seed, 99);
	g_autofree timed_io *ios = g_new0(timed_io, IOS);
	kvt_time when = 0;
	kvt_extent all = { 1, 0, 0, 1 << 20, 64 << 10 };
	tier->ops->preload(tier, 0, &all);
	for (unsigned i = 0; i < IOS; i++) {
		timed_io *io = &ios[i];
		unsigned n = 1 + (unsigned)kvt_rng_below(&rng, RUNS);
		bool small = kvt_rng_below(&rng, 2);
		for (unsigned j = 0; j < n; j++)
			io->runs[j] = (kvt_extent){ 1, 0, kvt_rng_below(&rng, 1 << 18),
				1 + kvt_rng_below(&rng, small ? 2 : 20000), 64 << 10 };
		test_io_init_many(&io->test, kvt_rng_below(&rng, 3) ? KVT_IO_READ : KVT_IO_WRITE,
			io->runs, n);
		io->tier = tier;
		when += kvt_time_from_seconds(kvt_rng_exponential(&rng, small ? 1e-5 : 5e-3));
		kvt_loop_at(m->loop, when, submit_timed, io);
	}
	kvt_loop_run(m->loop);
	outcome result = { .hash = 1 };
	for (unsigned i = 0; i < IOS; i++) {
		const kvt_io *io = &ios[i].test.io;
		result.makespan = MAX(result.makespan, io->completed);
		mix(&result.hash, (uint64_t)io->completed);
		mix(&result.hash, (uint64_t)io->status);
	}
	kvt_tier_stats stats;
	tier->ops->stats(tier, &stats);
	mix(&result.hash, stats.capacity);
	mix(&result.hash, stats.device_ios);
	kvt_tier_close(tier);
	return result;
}

static outcome run_kind(
	const kvt_topology_spec *spec, const char *kind, const char *options, uint64_t seed)
{
	tier_machine *m = tier_machine_new(spec, 5);
	outcome result = run_workload(m, tier_machine_open(m, kind, options), seed);
	tier_machine_free(m);
	return result;
}

enum { STEPS_MAX = 8, SEEDS = 12 };

/* Options of a tier, each better than the one before. */
static const struct {
	const char *kind;
	const char *steps[STEPS_MAX];
} option_series[] = {
	{ "nvme", { "drives = 1", "drives = 2", "drives = 4", "drives = 8", "drives = 9",
			  "drives = 100" } },
	{ "remote-nvme", { "drives = 1", "drives = 2", "drives = 4", "drives = 8", "drives = 9",
				 "drives = 100" } },
	{ "nvme", { "queue_depth = 1", "queue_depth = 2", "queue_depth = 8", "queue_depth = 64",
			  "queue_depth = 0", "queue_depth = 10000" } },
	{ "nvme", { "drives = 1\nqueue_depth = 1", "drives = 1\nqueue_depth = 16",
			  "drives = 1\nqueue_depth = 200" } },
	{ "nvme",
		{ "compression = 1", "compression = 1.5", "compression = 2", "compression = 4" } },
	{ "nvme", { "drive = samsung-pm9a3", "drive = micron-9550", "drive = micron-9650" } },
	{ "nvme", { "max_transfer = 4KiB", "max_transfer = 16KiB", "max_transfer = 128KiB" } },
	{ "nvme", { "coalesce = no", "coalesce = yes" } },
	{ "dram", { "coalesce = no", "coalesce = yes" } },
	{ "dram", { "max_transfer = 4KiB", "max_transfer = 64KiB", "max_transfer = 1GiB" } },
	{ "dram", { "latency = 1ms", "latency = 10us", "latency = 0us" } },
	{ "hbm", { "latency = 1ms\nlatency_p99 = 2ms", "latency = 10us\nlatency_p99 = 20us" } },
	{ "remote-dram", { "latency_p99 = 1ms", "latency_p99 = 100us", "latency_p99 = 1us" } },
	{ "remote-dram", { "processor_rate = 100MB/s", "processor_rate = 1GB/s",
				 "processor_rate = 0GB/s" } },
	{ "remote-dram",
		{ "processor_time = 10ms", "processor_time = 1ms", "processor_time = 0s" } },
};

static void test_better_options(void)
{
	const kvt_topology_spec spec = tier_machine_spec();
	for (unsigned i = 0; i < G_N_ELEMENTS(option_series); i++) {
		bool faster = false;
		for (uint64_t seed = 1; seed <= SEEDS; seed++) {
			kvt_time last = KVT_TIME_NEVER, first = 0;
			for (unsigned j = 0; j < STEPS_MAX && option_series[i].steps[j]; j++) {
				kvt_time now = run_kind(&spec, option_series[i].kind,
					option_series[i].steps[j], seed)
						       .makespan;
				if (now > last)
					g_error("%s: %s is slower than %s: %.9g s, %.9g s",
						option_series[i].kind, option_series[i].steps[j],
						option_series[i].steps[j - 1],
						kvt_time_to_seconds(now),
						kvt_time_to_seconds(last));
				first = j == 0 ? now : first;
				last = now;
			}
			faster |= last < first;
		}
		g_assert_true(faster);
	}
}

#define FIELD(name) #name, offsetof(kvt_topology_spec, name)

/* Fields of the topology (doubles), a kind that meets them, and factors on them, each better. */
static const struct {
	const char *name;
	size_t offset;
	const char *kind, *options;
	double factors[STEPS_MAX];
} field_series[] = {
	{ FIELD(hbm_rate), "hbm", "", { 0.01, 0.1, 1, 10 } },
	{ FIELD(gpu_link_rate), "dram", "", { 0.1, 0.5, 1, 2, 4 } },
	{ FIELD(gpu_link_rate), "nvme", "", { 0.1, 0.5, 1, 2, 4 } },
	{ FIELD(gpu_copy_cost), "dram", "coalesce = no", { 10, 2, 1, 0.1, 0.001 } },
	{ FIELD(gpu_copy_cost), "remote-nvme", "coalesce = no", { 10, 2, 1, 0.1, 0.001 } },
	{ FIELD(dram_rate), "dram", "", { 0.02, 0.1, 1, 10 } },
	{ FIELD(dram_rate), "nvme", "", { 0.02, 0.1, 1, 10 } },
	{ FIELD(checksum_rate), "remote-dram", "", { 0.02, 0.1, 1, 10 } },
	{ FIELD(nic_rate), "remote-dram", "", { 0.1, 0.5, 1, 1.5, 2, 10 } },
	{ FIELD(nic_rate), "remote-nvme", "", { 0.1, 0.5, 1, 1.5, 2, 10 } },
	{ FIELD(fabric_efficiency), "remote-nvme", "", { 0.5, 0.8, 0.9, 1 } },
	{ FIELD(nic_message_rate), "remote-nvme", "max_transfer = 4KiB", { 0.001, 0.01, 1, 10 } },
	{ FIELD(client_io_rate), "remote-nvme", "", { 0.001, 0.01, 1, 10 } },
	{ FIELD(client_io_rate), "nvme", "", { 0.001, 0.01, 1, 10 } },
	{ FIELD(client_io_rate), "remote-dram", "", { 0.001, 0.01, 1, 10 } },
	{ FIELD(processors), "remote-dram", "processor_rate = 1GB/s\nprocessor_time = 1ms",
		{ 0.1, 1, 10 } },
	{ FIELD(target_nic_rate), "remote-nvme", "", { 0.1, 0.4, 1, 10 } },
	{ FIELD(target_dram_rate), "remote-dram", "", { 0.01, 0.1, 1, 10 } },
	{ FIELD(target_dram_rate), "remote-nvme", "", { 0.01, 0.1, 1, 10 } },
};

static kvt_time run_scaled(unsigned series, double factor, uint64_t seed)
{
	kvt_topology_spec spec = tier_machine_spec();
	*(double *)((char *)&spec + field_series[series].offset) *= factor;
	return run_kind(&spec, field_series[series].kind, field_series[series].options, seed)
		.makespan;
}

static void test_better_machine(void)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(field_series); i++) {
		const double *factors = field_series[i].factors;
		bool faster = false;
		for (uint64_t seed = 1; seed <= SEEDS; seed++) {
			kvt_time first = run_scaled(i, factors[0], seed), last = first;
			for (unsigned j = 1; j < STEPS_MAX && factors[j] > 0; j++) {
				kvt_time now = run_scaled(i, factors[j], seed);
				if (now > last)
					g_error("%s: %s x %g is slower: %.9g s, %.9g s",
						field_series[i].kind, field_series[i].name,
						factors[j], kvt_time_to_seconds(now),
						kvt_time_to_seconds(last));
				last = now;
			}
			faster |= last < first;
		}
		g_assert_true(faster);
	}
	/* a larger group: each rank brings a copy engine and a link */
	kvt_time last = KVT_TIME_NEVER;
	for (unsigned ranks = 1; ranks <= 8; ranks *= 2) {
		kvt_topology_spec spec = tier_machine_spec();
		spec.ranks = ranks;
		spec.gpu_link_rate = ranks * 26e9;
		kvt_time now = run_kind(&spec, "dram", "", 1).makespan;
		g_assert_cmpint(now, <, last);
		last = now;
	}
}

/* Another value of an option than its default, as text; a new string. */
static char *other_value(const kvt_option *option)
{
	switch (option->type) {
	case KVT_OPTION_BOOL:
		return g_strdup(g_str_equal(option->fallback, "yes") ? "no" : "yes");
	case KVT_OPTION_INTEGER:
		return g_strdup(g_str_equal(option->fallback, "2") ? "4" : "2");
	case KVT_OPTION_BYTES:
		return g_strdup(g_str_equal(option->fallback, "100KiB") ? "64KiB" : "100KiB");
	case KVT_OPTION_TIME:
		return g_strdup(g_str_equal(option->fallback, "3ms") ? "4ms" : "3ms");
	case KVT_OPTION_QUANTITY:
		if (option->unit == KVT_UNIT_RATE)
			return g_strdup("1GB/s");
		return g_strdup(option->unit == KVT_UNIT_SHARE ? "37%" : "1.5");
	case KVT_OPTION_STRING:
		g_assert_cmpstr(option->name, ==, "drive");
		return g_strdup("micron-9550");
	default:
		g_assert_not_reached();
	}
}

/* Every option of every registered tier, with no exceptions. */
static void test_every_option(void)
{
	const kvt_topology_spec spec = tier_machine_spec();
	for (const kvt_tier_ops *const *kind = kvt_tier_registry(); *kind; kind++) {
		uint64_t plain = run_kind(&spec, (*kind)->name, "", 1).hash;
		g_assert_cmpuint(plain, ==, run_kind(&spec, (*kind)->name, "", 1).hash);
		g_assert_cmpuint(plain, !=, run_kind(&spec, (*kind)->name, "", 2).hash);
		for (const kvt_option *option = (*kind)->options; option->name; option++) {
			g_autofree char *value = other_value(option);
			g_autofree char *line = g_strdup_printf("%s = %s", option->name, value);
			if (run_kind(&spec, (*kind)->name, line, 1).hash == plain)
				g_error("tier %s: %s changes nothing", (*kind)->name, line);
		}
	}
}

static outcome run_faulty(const char *options, uint64_t seed)
{
	const kvt_topology_spec spec = tier_machine_spec();
	g_autoptr(GError) error = NULL;
	g_autofree char *text = g_strdup_printf("[fault]\n%s\n", options);
	g_autoptr(kvt_config) config = kvt_config_parse("fault", text, &error);
	g_assert_no_error(error);
	kvt_fault_settings settings;
	g_assert_true(kvt_section_read(
		kvt_config_section(config, "fault"), kvt_fault_options, &settings, TRUE, &error));
	tier_machine *m = tier_machine_new(&spec, 5);
	kvt_tier *tier = tier_machine_open(m, "nvme", "");
	outcome result = run_workload(m, kvt_fault_tier_new(&m->env, tier, &settings), seed);
	tier_machine_free(m);
	return result;
}

/* The same of faults; and without any, a run is the inner tier's to the last picosecond. */
static void test_every_fault(void)
{
	const kvt_topology_spec spec = tier_machine_spec();
	uint64_t plain = run_faulty("", 1).hash;
	g_assert_cmpuint(plain, ==, run_kind(&spec, "nvme", "", 1).hash);
	for (const kvt_option *option = kvt_fault_options; option->name; option++) {
		g_autofree char *value = other_value(option);
		g_autofree char *line = g_strdup_printf("%s = %s", option->name, value);
		/* how long a delay is shows where there are some */
		bool delay = g_str_equal(option->name, "delay");
		uint64_t base = delay ? run_faulty("delay_rate = 20%", 1).hash : plain;
		g_autofree char *options =
			g_strconcat(line, delay ? "\ndelay_rate = 20%" : "", NULL);
		if (run_faulty(options, 1).hash == base)
			g_error("[fault] %s changes nothing", line);
	}
}

static void test_refusals(void)
{
	static const struct {
		const char *kind, *options, *message;
	} cases[] = {
		{ "nvme", "compression = 2\ndrive = micron-9550",
			"t.ini:2: [nvme] compression: 2 is more than drive micron-9550 reaches, "
			"expected at most 1" },
		{ "nvme", "compression = 5",
			"t.ini:2: [nvme] compression: 5 is more than drive scaleflux-csd5000 "
			"reaches, expected at most 4" },
		{ "remote-nvme", "max_transfer = 1MiB",
			"t.ini:2: [remote-nvme] max_transfer: more than a command of drive "
			"scaleflux-csd5000 moves, expected at most 128 KiB" },
		{ "remote-nvme", "",
			"t.ini:1: [remote-nvme]: the system has no NIC, expected [fabric] nics >= "
			"1" },
		{ "remote-dram", "",
			"t.ini:1: [remote-dram]: the system has no NIC or no storage target, "
			"expected [fabric] nics >= 1 and targets >= 1" },
		{ "dram", "",
			"t.ini:1: [dram]: the host has no DRAM bandwidth, expected a [host] model "
			"with DRAM" },
		{ "nvm", "",
			"no tier \"nvm\" (did you mean nvme?), expected one of hbm, dram, "
			"remote-dram, nvme, remote-nvme, null" },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autoptr(GError) error = NULL;
		kvt_topology_spec spec = { .ranks = 1 };
		spec.nic_rate = strstr(cases[i].options, "max_transfer") ? 1e9 : 0;
		tier_machine *m = tier_machine_new(&spec, 1);
		g_autofree char *text =
			g_strdup_printf("[%s]\n%s\n", cases[i].kind, cases[i].options);
		g_autoptr(kvt_config) config = kvt_config_parse("t.ini", text, NULL);
		g_assert_null(kvt_tier_open(
			cases[i].kind, &m->env, kvt_config_section(config, cases[i].kind), &error));
		g_assert_cmpstr(error->message, ==, cases[i].message);
		tier_machine_free(m);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/tier-knobs/better-options", test_better_options);
	g_test_add_func("/tier-knobs/better-machine", test_better_machine);
	g_test_add_func("/tier-knobs/every-option", test_every_option);
	g_test_add_func("/tier-knobs/every-fault", test_every_fault);
	g_test_add_func("/tier-knobs/refusals", test_refusals);
	return g_test_run();
}
