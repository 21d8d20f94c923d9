/* test_fault_tier.c: what each kind of fault does, how often, and that nothing else changes. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "sim/base/rng.h"
#include "sim/tier/fault_tier.h"
#include "sim/tier/striped_tier.h"
#include "tests/unit/tier_fixture.h"
#include "tests/unit/tier_test_io.h"

enum { PAGE = 64 << 10 };

typedef struct faulty {
	tier_machine *machine;
	kvt_loop *loop;
	kvt_tier *tier;
} faulty;

static faulty faulty_new(const kvt_fault_settings *settings, uint64_t seed)
{
	kvt_topology_spec spec = tier_machine_spec();
	faulty f = { .machine = tier_machine_new(&spec, seed) };
	f.loop = f.machine->loop;
	f.tier = tier_machine_open(f.machine, "nvme", "capacity = 1GiB");
	if (settings)
		f.tier = kvt_fault_tier_new(&f.machine->env, f.tier, settings);
	return f;
}

static void faulty_free(faulty *f)
{
	kvt_tier_close(f->tier);
	tier_machine_free(f->machine);
}

static kvt_extent pages(uint64_t first, uint64_t n)
{
	return (kvt_extent){ 1, 0, first, n, PAGE };
}

static int write_run(faulty *f, uint64_t first, uint64_t n)
{
	return test_io_run(f->loop, f->tier, KVT_IO_WRITE, pages(first, n));
}

static int read_run(faulty *f, uint64_t first, uint64_t n)
{
	return test_io_run(f->loop, f->tier, KVT_IO_READ, pages(first, n));
}

static bool holds(faulty *f, uint64_t first, uint64_t n)
{
	kvt_extent run = pages(first, n);
	return f->tier->ops->holds(f->tier, 0, &run);
}

static void preload(faulty *f, uint64_t first, uint64_t n)
{
	kvt_extent run = pages(first, n);
	g_assert_true(f->tier->ops->preload(f->tier, 0, &run));
}

static kvt_tier_stats stats_of(faulty *f)
{
	kvt_tier_stats stats;
	f->tier->ops->stats(f->tier, &stats);
	return stats;
}

/* Time that a read or write takes of a tier without faults, and of one with these. */
static kvt_time time_of(const kvt_fault_settings *settings, kvt_io_op op, int status)
{
	faulty f = faulty_new(settings, 3);
	preload(&f, 0, 1000);
	g_assert_cmpint(test_io_run(f.loop, f.tier, op, pages(0, 1000)), ==, status);
	kvt_time took = kvt_loop_now(f.loop);
	faulty_free(&f);
	return took;
}

static void test_read_error(void)
{
	const kvt_fault_settings always = { .read_error_rate = 1 };
	kvt_time plain = time_of(NULL, KVT_IO_READ, 0);
	g_assert_cmpint(time_of(&always, KVT_IO_READ, -EIO), ==, plain);
	faulty f = faulty_new(&always, 1);
	g_assert_cmpint(write_run(&f, 0, 10), ==, 0);
	g_assert_cmpint(read_run(&f, 0, 10), ==, -EIO);
	g_assert_cmpint(read_run(&f, 10, 1), ==, -ENOENT); /* not there is not a fault */
	g_assert_true(holds(&f, 0, 10));
	kvt_tier_stats stats = stats_of(&f);
	g_assert_cmpuint(stats.read_errors, ==, 2);
	g_assert_cmpuint(stats.read_bytes, ==, 0);
	g_assert_cmpuint(stats.written_bytes, ==, 10 * PAGE);
	g_assert_cmpuint(kvt_fault_tier_counts(f.tier).read_errors, ==, 1);
	faulty_free(&f);
}

static void test_short(void)
{
	const kvt_fault_settings always = { .short_rate = 1 };
	kvt_time plain = time_of(NULL, KVT_IO_READ, 0);
	kvt_time part = time_of(&always, KVT_IO_READ, -EIO);
	g_assert_cmpint(part, <, plain);
	g_assert_cmpint(part, >, 0);
	faulty f = faulty_new(&always, 1);
	for (uint64_t n = 1; n < 40; n++) {
		g_assert_cmpint(write_run(&f, 100, n), ==, -EIO);
		for (uint64_t page = 100; page < 100 + n; page++)
			g_assert_false(holds(&f, page, 1));
		preload(&f, 0, n);
		g_assert_cmpint(read_run(&f, 0, n), ==, -EIO);
		g_assert_true(holds(&f, 0, n));
	}
	/* what a failed write was to replace is gone as a whole, never half */
	g_assert_cmpint(write_run(&f, 0, 39), ==, -EIO);
	for (uint64_t page = 0; page < 39; page++)
		g_assert_false(holds(&f, page, 1));
	g_assert_cmpuint(stats_of(&f).used, ==, 0);
	g_assert_cmpuint(stats_of(&f).read_bytes + stats_of(&f).written_bytes, ==, 0);
	g_assert_cmpuint(kvt_fault_tier_counts(f.tier).short_ios, ==, 2 * 39 + 1);
	faulty_free(&f);
}

static void test_write_error(void)
{
	const kvt_fault_settings always = { .write_error_rate = 1 };
	kvt_time plain = time_of(NULL, KVT_IO_WRITE, 0);
	g_assert_cmpint(time_of(&always, KVT_IO_WRITE, -EIO), ==, plain);
	faulty f = faulty_new(&always, 1);
	g_assert_cmpint(write_run(&f, 0, 10), ==, -EIO);
	g_assert_cmpint(read_run(&f, 0, 1), ==, -ENOENT);
	g_assert_cmpuint(stats_of(&f).used, ==, 0);
	g_assert_cmpuint(stats_of(&f).write_errors, ==, 1);
	g_assert_cmpuint(kvt_fault_tier_counts(f.tier).write_errors, ==, 1);
	faulty_free(&f);
}

static void test_full(void)
{
	const kvt_fault_settings always = {
		.full_rate = 1, .write_error_rate = 1, .short_rate = 1
	};
	g_assert_cmpint(time_of(&always, KVT_IO_WRITE, -ENOSPC), ==, 0);
	faulty f = faulty_new(&always, 1);
	preload(&f, 0, 10);
	g_assert_cmpint(write_run(&f, 0, 20), ==, -ENOSPC);
	g_assert_true(holds(&f, 0, 10)); /* changes nothing */
	g_assert_false(holds(&f, 10, 1));
	kvt_fault_counts counts = kvt_fault_tier_counts(f.tier);
	g_assert_cmpuint(counts.full, ==, 1);
	g_assert_cmpuint(counts.write_errors + counts.short_ios, ==, 0);
	faulty_free(&f);
}

/* Only while something is in flight, whose completion is what to wait for. */
static void test_busy(void)
{
	const kvt_fault_settings always = { .busy_rate = 1 };
	faulty f = faulty_new(&always, 1);
	test_io taken, io;
	for (unsigned round = 1; round <= 3; round++) {
		test_io_init(&taken, KVT_IO_WRITE, pages(0, 1));
		test_io_submit(f.tier, &taken);
		test_io_init(&io, KVT_IO_WRITE, pages(1, 1));
		test_io before = io;
		for (unsigned i = 0; i < 100; i++)
			g_assert_cmpint(kvt_tier_submit(f.tier, &io.io), ==, -EAGAIN);
		g_assert_cmpmem(&io, sizeof(io), &before, sizeof(before));
		io.extent.n_pages = 0;
		g_assert_cmpint(kvt_tier_submit(f.tier, &io.io), ==, -EINVAL);
		kvt_loop_run(f.loop);
		g_assert_cmpint(taken.io.status, ==, 0);
		g_assert_cmpuint(io.done, ==, 0);
		g_assert_cmpuint(kvt_fault_tier_counts(f.tier).busy, ==, 100 * round);
	}
	faulty_free(&f);
}

static void test_busy_rate(void)
{
	enum { N = 500, BATCHES = 10 };
	const kvt_fault_settings some = { .busy_rate = 0.03 };
	faulty f = faulty_new(&some, 1);
	preload(&f, 0, 1);
	g_autofree test_io *reads = g_new(test_io, N);
	unsigned busy = 0;
	for (unsigned batch = 0; batch < BATCHES; batch++) {
		for (unsigned i = 0; i < N; i++) {
			test_io_init(&reads[i], KVT_IO_READ, pages(0, 1));
			int error = kvt_tier_submit(f.tier, &reads[i].io);
			g_assert_true(error == 0 || (error == -EAGAIN && i > 0));
			busy += error != 0;
		}
		kvt_loop_run(f.loop);
	}
	g_assert_cmpuint(kvt_fault_tier_counts(f.tier).busy, ==, busy);
	/* 150 expected, standard deviation 12 */
	g_assert_cmpuint(busy, >, 90);
	g_assert_cmpuint(busy, <, 210);
	faulty_free(&f);
}

static void test_delay(void)
{
	const kvt_fault_settings always = { .delay_rate = 1, .delay = 7 * KVT_MILLISECOND };
	kvt_time plain = time_of(NULL, KVT_IO_READ, 0);
	g_assert_cmpint(time_of(&always, KVT_IO_READ, 0), ==, plain + always.delay);
	plain = time_of(NULL, KVT_IO_WRITE, 0);
	g_assert_cmpint(time_of(&always, KVT_IO_WRITE, 0), ==, plain + always.delay);

	/* more than the tier takes at a time, all at once: none is lost */
	enum { N = 3000 };
	faulty f = faulty_new(&always, 1);
	preload(&f, 0, 1);
	g_autofree test_io *reads = g_new(test_io, N);
	for (unsigned i = 0; i < N; i++) {
		test_io_init(&reads[i], KVT_IO_READ, pages(0, 1));
		test_io_submit(f.tier, &reads[i]);
	}
	kvt_loop_run(f.loop);
	for (unsigned i = 0; i < N; i++) {
		g_assert_cmpuint(reads[i].done, ==, 1);
		g_assert_cmpint(reads[i].io.status, ==, 0);
	}
	/* a write that turns out to be invalid after its delay says so when it completes */
	kvt_extent wrong = pages(5, 1);
	wrong.page_bytes = 2 * PAGE;
	g_assert_cmpint(test_io_run(f.loop, f.tier, KVT_IO_WRITE, wrong), ==, -EINVAL);
	g_assert_cmpuint(kvt_fault_tier_counts(f.tier).delayed, ==, N + 1);
	faulty_free(&f);
}

static void test_corrupt(void)
{
	enum { PAGES = 400 };
	const kvt_fault_settings some = { .corrupt_rate = 0.1 };
	faulty f = faulty_new(&some, 1);
	preload(&f, 0, PAGES);
	unsigned bad = 0, healed[2] = { 0 };
	for (unsigned page = 0; page < PAGES; page++) {
		int status = read_run(&f, page, 1);
		if (status == 0)
			continue;
		bad++;
		for (unsigned i = 0; i < 20; i++)
			g_assert_cmpint(read_run(&f, page, 1), ==, -EBADMSG);
		g_assert_cmpint(read_run(&f, 0, PAGES), ==, -EBADMSG);
		if (page % 2 == 0) {
			g_assert_cmpint(write_run(&f, page, 1), ==, 0);
		} else {
			kvt_extent run = pages(page, 1);
			g_assert_cmpuint(f.tier->ops->discard(f.tier, 0, &run), ==, PAGE);
			preload(&f, page, 1);
		}
		healed[page % 2] += read_run(&f, page, 1) == 0;
	}
	/* 40 expected, standard deviation 6; pages that other reads spoilt come on top */
	g_assert_cmpuint(bad, >, 15);
	g_assert_cmpuint(bad, <, 100);
	g_assert_cmpuint(healed[0], >, 0);
	g_assert_cmpuint(healed[1], >, 0);
	kvt_fault_counts counts = kvt_fault_tier_counts(f.tier);
	g_assert_cmpuint(counts.bad_reads, ==, stats_of(&f).read_errors);
	g_assert_cmpuint(counts.corrupted, >=, bad);
	g_assert_cmpuint(counts.corrupted, <, counts.bad_reads);
	faulty_free(&f);
}

/* The statuses of `n` single-page I/Os, one after the other: a letter each. */
static char *statuses(const kvt_fault_settings *settings, uint64_t seed, kvt_io_op op, unsigned n)
{
	faulty f = faulty_new(settings, seed);
	GString *log = g_string_new(NULL);
	preload(&f, 0, n);
	for (unsigned i = 0; i < n; i++) {
		test_io io;
		test_io_init(&io, op, pages(i, 1));
		kvt_time begun = kvt_loop_now(f.loop);
		test_io_submit(f.tier, &io);
		kvt_loop_run(f.loop);
		int status = io.io.status;
		bool late = kvt_loop_now(f.loop) - begun > KVT_MILLISECOND;
		char letter = status == 0          ? '.'
			      : status == -EIO     ? 'e'
			      : status == -ENOSPC  ? 'f'
			      : status == -EBADMSG ? 'c'
						   : '?';
		g_string_append_c(
			log, late ? g_ascii_toupper(letter == '.' ? 'd' : letter) : letter);
	}
	faulty_free(&f);
	return g_string_free(log, FALSE);
}

static unsigned count(const char *log, const char *letters)
{
	unsigned n = 0;
	for (; *log; log++)
		n += strchr(letters, *log) != NULL;
	return n;
}

/* `n` of `of` is what a rate gives, within five standard deviations. */
static void check_rate(unsigned n, unsigned of, double rate)
{
	double expected = rate * of, deviation = sqrt(expected * (1 - rate));
	g_assert_cmpfloat(fabs(n - expected), <, 5 * deviation);
}

static void test_rates(void)
{
	enum { N = 4000 };
	const kvt_fault_settings reads = { .read_error_rate = 0.05 }, writes = { .full_rate = 0.2 };
	g_autofree char *errors = statuses(&reads, 1, KVT_IO_READ, N);
	check_rate(count(errors, "e"), N, 0.05);
	g_assert_cmpuint(count(errors, ".e"), ==, N);
	g_autofree char *full = statuses(&writes, 1, KVT_IO_WRITE, N);
	check_rate(count(full, "f"), N, 0.2);
	const kvt_fault_settings all = {
		.delay_rate = 0.1,
		.delay = 5 * KVT_MILLISECOND,
		.read_error_rate = 0.05,
		.short_rate = 0.05,
		.corrupt_rate = 0.05,
	};
	g_autofree char *mixed = statuses(&all, 1, KVT_IO_READ, N);
	g_assert_cmpuint(count(mixed, "?"), ==, 0);
	check_rate(count(mixed, "DEC"), N, 0.1);
	check_rate(count(mixed, "eE"), N, 1 - 0.95 * 0.95);
	check_rate(count(mixed, "cC"), N, 0.95 * 0.95 * 0.05);
}

/* The same seed strikes the same I/Os, another one others, and a rate leaves the other kinds be. */
static void test_reproducible(void)
{
	enum { N = 2000 };
	kvt_fault_settings some = {
		.read_error_rate = 0.1, .delay_rate = 0.1, .delay = 5 * KVT_MILLISECOND
	};
	g_autofree char *one = statuses(&some, 1, KVT_IO_READ, N);
	g_autofree char *again = statuses(&some, 1, KVT_IO_READ, N);
	g_autofree char *other = statuses(&some, 2, KVT_IO_READ, N);
	g_assert_cmpstr(one, ==, again);
	g_assert_cmpstr(one, !=, other);
	some.read_error_rate = 0;
	some.corrupt_rate = 0.3;
	g_autofree char *changed = statuses(&some, 1, KVT_IO_READ, N);
	for (unsigned i = 0; i < N; i++)
		g_assert_true(
			(strchr("DEC", one[i]) != NULL) == (strchr("DEC", changed[i]) != NULL));
}

typedef struct storm {
	faulty *f;
	kvt_rng rng;
	unsigned submitted, done, succeeded;
	GPtrArray *ios;
	bool written[64]; /* runs of 16 pages that a write has completed for */
} storm;

static void on_storm_done(test_io *io)
{
	storm *s = io->hook_arg;
	unsigned run = (unsigned)(io->extent.first_page / 16);
	g_assert_cmpuint(io->done, ==, 1);
	s->done++;
	s->succeeded += io->io.status == 0;
	if (io->io.op == KVT_IO_READ && io->io.status == 0)
		g_assert_true(s->written[run]);
	if (io->io.op == KVT_IO_WRITE && io->io.status == 0)
		s->written[run] = true;
	kvt_tier_stats stats = stats_of(s->f);
	g_assert_cmpuint(stats.peak_used, <=, stats.capacity);
}

static void blow(void *arg)
{
	storm *s = arg;
	test_io *io = g_new(test_io, 1);
	kvt_io_op op = kvt_rng_below(&s->rng, 2) ? KVT_IO_READ : KVT_IO_WRITE;
	test_io_init(io, op, pages(kvt_rng_below(&s->rng, 64) * 16, 16));
	io->hook = on_storm_done;
	io->hook_arg = s;
	int error = kvt_tier_submit(s->f->tier, &io->io);
	if (error == 0) {
		g_ptr_array_add(s->ios, io);
		s->submitted++;
	} else {
		g_assert_cmpint(error, ==, -EAGAIN);
		g_free(io);
	}
	if (s->submitted < 3000)
		kvt_loop_after(s->f->loop,
			kvt_time_from_seconds(kvt_rng_exponential(&s->rng, 1e-4)), blow, s);
}

/* Everything at once, over two faulty tiers: each I/O ends once, and what is read was written. */
static void test_storm(void)
{
	const kvt_fault_settings all = {
		.busy_rate = 0.2,
		.delay_rate = 0.2,
		.delay = KVT_MILLISECOND,
		.read_error_rate = 0.05,
		.short_rate = 0.05,
		.corrupt_rate = 0.05,
		.write_error_rate = 0.05,
		.full_rate = 0.05,
	};
	kvt_topology_spec spec = tier_machine_spec();
	faulty f = { .machine = tier_machine_new(&spec, 5) };
	f.loop = f.machine->loop;
	kvt_tier *parts[2];
	for (unsigned i = 0; i < 2; i++) {
		parts[i] = tier_machine_open(
			f.machine, i == 0 ? "nvme" : "remote-nvme", "capacity = 40MiB");
		f.machine->env.instance = i;
		parts[i] = kvt_fault_tier_new(&f.machine->env, parts[i], &all);
	}
	f.tier = kvt_striped_tier_new(&f.machine->env, parts[0], parts[1], 0.4);
	storm s = {
		.f = &f, .rng = kvt_rng_init(9, 9), .ios = g_ptr_array_new_with_free_func(g_free)
	};
	kvt_loop_after(f.loop, 0, blow, &s);
	kvt_loop_run(f.loop);
	g_assert_cmpuint(s.done, ==, s.submitted);
	g_assert_cmpuint(s.succeeded, >, s.submitted / 10);
	for (unsigned i = 0; i < 2; i++) {
		kvt_fault_counts counts = kvt_fault_tier_counts(parts[i]);
		g_assert_cmpuint(counts.busy, >, 0);
		g_assert_cmpuint(counts.delayed, >, 0);
		g_assert_cmpuint(counts.read_errors, >, 0);
		g_assert_cmpuint(counts.short_ios, >, 0);
		g_assert_cmpuint(counts.write_errors, >, 0);
		g_assert_cmpuint(counts.full, >, 0);
		g_assert_cmpuint(counts.corrupted, >, 0);
		g_assert_cmpuint(counts.bad_reads, >, 0);
	}
	/* what the whole holds is what the parts hold */
	kvt_tier_stats whole = stats_of(&f), part[2];
	for (unsigned i = 0; i < 2; i++)
		parts[i]->ops->stats(parts[i], &part[i]);
	g_assert_cmpuint(whole.used, ==, part[0].used + part[1].used);
	kvt_tier_close(f.tier);
	kvt_tier_close(parts[0]);
	kvt_tier_close(parts[1]);
	g_ptr_array_unref(s.ios);
	tier_machine_free(f.machine);
}

static void test_options(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_config) config = kvt_config_parse(
		"f.ini", "[fault]\nread_error_rate = 2%\ndelay = 3ms\nfull_rate = 0.5\n", &error);
	g_assert_no_error(error);
	kvt_fault_settings settings;
	g_assert_true(kvt_section_read(
		kvt_config_section(config, "fault"), kvt_fault_options, &settings, TRUE, &error));
	g_assert_cmpfloat(settings.read_error_rate, ==, 0.02);
	g_assert_cmpfloat(settings.full_rate, ==, 0.5);
	g_assert_cmpfloat(settings.busy_rate + settings.delay_rate + settings.short_rate +
				  settings.corrupt_rate + settings.write_error_rate,
		==, 0);
	g_assert_cmpint(settings.delay, ==, 3 * KVT_MILLISECOND);
	g_assert_true(kvt_fault_settings_any(&settings));
	/* each rate alone is enough, and a delay is none */
	for (const kvt_option *option = kvt_fault_options; option->name; option++) {
		kvt_fault_settings one = { 0 };
		bool rate = option->type == KVT_OPTION_QUANTITY;
		if (rate)
			*(double *)((char *)&one + option->offset) = 1e-3;
		else
			one.delay = KVT_SECOND;
		g_assert_true(kvt_fault_settings_any(&one) == rate);
	}
	g_autoptr(kvt_config) bad = kvt_config_parse("f.ini", "[fault]\ndelay = 2h\n", NULL);
	g_assert_false(kvt_section_read(
		kvt_config_section(bad, "fault"), kvt_fault_options, &settings, TRUE, &error));
	g_assert_true(g_str_has_prefix(
		error->message, "f.ini:2: [fault] delay: \"2h\" is out of range, expected"));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/fault-tier/read-error", test_read_error);
	g_test_add_func("/fault-tier/short", test_short);
	g_test_add_func("/fault-tier/write-error", test_write_error);
	g_test_add_func("/fault-tier/full", test_full);
	g_test_add_func("/fault-tier/busy", test_busy);
	g_test_add_func("/fault-tier/busy-rate", test_busy_rate);
	g_test_add_func("/fault-tier/delay", test_delay);
	g_test_add_func("/fault-tier/corrupt", test_corrupt);
	g_test_add_func("/fault-tier/rates", test_rates);
	g_test_add_func("/fault-tier/reproducible", test_reproducible);
	g_test_add_func("/fault-tier/storm", test_storm);
	g_test_add_func("/fault-tier/options", test_options);
	return g_test_run();
}
