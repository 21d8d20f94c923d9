/* test_calibration.c: curves of drives whose truth is known give that truth back; records and model
 * files survive a round trip; bad records are refused by one line; a modelled drive with the fitted
 * figures is as fast as the curve. Nothing here is measured. */
#include "emu/calibrate/calibration.h"

#include <glib/gstdio.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "models/attention_model.h"
#include "models/hardware.h"
#include "sim/base/error.h"
#include "sim/base/rng.h"
#include "tests/unit/calibration_fixture.h"

typedef struct truth {
	double bandwidth, iops, latency, command_rate;
	bool serial;
} truth;

static double true_rate(const truth *t, uint64_t size, unsigned depth)
{
	double s = (double)size;
	double queued = depth * s / (t->latency + s / MIN(t->command_rate, t->bandwidth));
	if (t->serial)
		return MIN(s / (1 / t->iops + (s - 4096) / t->bandwidth), queued);
	return MIN(MIN(t->bandwidth, t->iops * s), queued);
}

/* The points that a drive would show, each off by up to `noise`. */
static void add_points(GArray *points, const truth *t, bool write, double noise)
{
	kvt_rng rng = kvt_rng_init(9, write);
	for (uint64_t size = 4096; size <= 4 << 20; size *= 4)
		for (unsigned depth = 1; depth <= 64; depth *= 2) {
			double off = 1 + noise * (2 * kvt_rng_uniform(&rng) - 1);
			double rate = true_rate(t, size, depth) * off;
			kvt_drive_point p = { .write = write,
				.size = size,
				.depth = depth,
				.rate = { rate, rate * 0.97, rate * 1.03 },
				.latency = t->latency * 0.9,
				.latency_p99 = t->latency * 2.7,
				.cpu = 4e-6,
				.ios = 1000 };
			g_array_append_val(points, p);
		}
}

static const kvt_drive_point *first(const GArray *points)
{
	return (const kvt_drive_point *)(const void *)points->data;
}

static void assert_near(double value, double expected, double share)
{
	g_assert_cmpfloat_with_epsilon(value, expected, expected * share);
}

static const truth drives[] = {
	{ 7e9, 500e3, 80e-6, 3e9, false },   /* an NVMe drive */
	{ 1.2e9, 40e3, 400e-6, 3e8, false }, /* a virtual disk, one command slow */
	{ 2e8, 3000, 500e-6, 2e8, false },   /* throttled: commands are as fast as the drive */
	{ 1.7e9, 65e3, 55e-6, 1.7e9, true }, /* a virtual disk that one thread serves */
};

static void test_known_drives(void)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(drives); i++) {
		g_autoptr(GArray) points = g_array_new(FALSE, FALSE, sizeof(kvt_drive_point));
		GError *error = NULL;
		kvt_drive_fit fit;
		add_points(points, &drives[i], false, 0);
		g_assert_true(
			kvt_drive_fit_points(first(points), points->len, false, &fit, &error));
		g_assert_no_error(error);
		g_assert_true(fit.serial == drives[i].serial);
		assert_near(fit.bandwidth, drives[i].bandwidth, 0.03);
		assert_near(fit.iops, drives[i].iops, 0.05);
		assert_near(fit.latency, drives[i].latency, 0.05);
		assert_near(fit.command_rate, drives[i].command_rate, 0.1);
		g_assert_cmpfloat(fit.error, <, 0.02);
		g_assert_cmpfloat(fit.worst, <, 0.1);
		assert_near(fit.spread, 0.03, 1e-6);
		/* a lognormal of the fitted mean with three times the median at the 99th */
		assert_near(fit.latency_p99 / fit.latency_median, 3, 1e-9);
		g_assert_cmpfloat(fit.latency_median, <, fit.latency);
		g_assert_cmpfloat(fit.latency_median, >, 0.85 * fit.latency);
	}
}

/* Points that are 10% off give figures that are hardly more so; an odd one decides nothing. */
static void test_noise(void)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(drives); i++) {
		g_autoptr(GArray) points = g_array_new(FALSE, FALSE, sizeof(kvt_drive_point));
		GError *error = NULL;
		kvt_drive_fit fit;
		add_points(points, &drives[i], true, 0.1);
		g_array_index(points, kvt_drive_point, 9).rate.value *= 0.1;
		g_assert_true(kvt_drive_fit_points(first(points), points->len, true, &fit, &error));
		g_assert_no_error(error);
		assert_near(fit.bandwidth, drives[i].bandwidth, 0.12);
		assert_near(fit.iops, drives[i].iops, 0.15);
		assert_near(fit.latency, drives[i].latency, 0.15);
		g_assert_cmpfloat(fit.error, <, 0.1);
		g_assert_cmpfloat(fit.worst, >, 1);
	}
}

static void test_depth_and_transfer(void)
{
	g_autoptr(GArray) points = g_array_new(FALSE, FALSE, sizeof(kvt_drive_point));
	GError *error = NULL;
	kvt_drive_fit fit;
	/* latency x IOPS is 24 in flight */
	truth t = { 1e9, 80e3, 300e-6, 1e9, false };
	add_points(points, &t, false, 0);
	g_assert_true(kvt_drive_fit_points(first(points), points->len, false, &fit, &error));
	g_assert_cmpuint(fit.depth, ==, 32);
	g_assert_cmpuint(fit.transfer, ==, 1 << 20);
	for (unsigned i = 0; i < points->len; i++) {
		const kvt_drive_point *p = &g_array_index(points, kvt_drive_point, i);
		assert_near(kvt_drive_fit_rate(&fit, p->size, p->depth), p->rate.value, 0.1);
	}
}

static void test_too_little(void)
{
	g_autoptr(GArray) points = g_array_new(FALSE, FALSE, sizeof(kvt_drive_point));
	kvt_drive_fit fit;
	GError *error = NULL;
	add_points(points, &drives[0], false, 0);
	g_assert_false(kvt_drive_fit_points(first(points), points->len, true, &fit, &error));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
	g_assert_cmpstr(error->message, ==,
		"0 points of writes, expected four or more, of several sizes and depths");
	g_clear_error(&error);
	/* seven depths of one size say nothing of sizes */
	g_assert_false(kvt_drive_fit_points(first(points), 7, false, &fit, &error));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
	g_clear_error(&error);
}

static void test_measured(void)
{
	double five[] = { 5, 1, 4, 2, 3 }, four[] = { 4, 1, 3, 2 };
	kvt_measured m = kvt_measured_of(five, 5), n = kvt_measured_of(four, 4);
	g_assert_cmpfloat(m.value, ==, 3);
	g_assert_cmpfloat(m.low, ==, 1);
	g_assert_cmpfloat(m.high, ==, 5);
	g_assert_cmpfloat(n.value, ==, 2.5);
}

/* A machine that never was: attention at 10 GB/s of KV, prefill at 50 GFLOP/s. */
static kvt_calibration *invented(void)
{
	static const double host[KVT_HOST_FIGURES] = { 12e9, 20e9, 6e9, 15e9, 1e11, 1.2e-7, 3e-5,
		2e-5, 4e-6, 1.2e-5, 3e10, 9e9, 1e10 };
	kvt_calibration *c = kvt_calibration_new("invented");
	c->cpu = g_strdup("A CPU");
	c->kernel = g_strdup("Linux 6");
	c->store = g_strdup("/mnt/kv");
	c->filesystem = g_strdup("ext4 on /dev/x");
	c->method = g_strdup("uring");
	c->isa = g_strdup("avx2");
	c->direct = true;
	c->cores = c->threads = 4;
	c->memory = UINT64_C(64) << 30;
	c->cache = 32 << 20;
	c->capacity = 1000000000000;
	c->file_bytes = 512 << 20;
	c->mixed = 0.8;
	for (unsigned i = 0; i < KVT_HOST_FIGURES; i++)
		c->host[i] = (kvt_measured){ host[i], 0.9 * host[i], 1.05 * host[i] };
	add_points(c->drive, &drives[0], false, 0);
	add_points(c->drive, &drives[1], true, 0);
	for (uint64_t tokens = 64; tokens <= 65536; tokens *= 4) {
		double decode = 5e-6 + (double)tokens * 4 * 128 * 2 * 2 / 1e10;
		double prefill = 5e-6 + 2.0 * (double)tokens * (double)tokens * 28 * 128 / 5e10;
		kvt_attention_point p = { 28, 4, 128, tokens, 0, false, { decode, decode, decode },
			{ decode, decode, decode } };
		g_array_append_val(c->attention, p);
		if (tokens > 1024)
			continue;
		p = (kvt_attention_point){ 28, 4, 128, tokens, 0, true,
			{ prefill, prefill, prefill }, { prefill, prefill, prefill } };
		g_array_append_val(c->attention, p);
	}
	return c;
}

static void test_record(void)
{
	g_autoptr(kvt_calibration) c = invented();
	kvt_calibration_free(calibration_read_again(c));
}

static char *read_all(const char *folder, const char *name)
{
	g_autofree char *path = g_build_filename(folder, name, NULL);
	char *text = NULL;
	g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
	return text;
}

static void remove_all(const char *folder, const GPtrArray *written)
{
	for (unsigned i = 0; i < written->len; i++)
		g_unlink(g_ptr_array_index(written, i));
	g_rmdir(folder);
}

/* The files load as models and say what the calibration says; a record read back gives the same. */
static void test_files(void)
{
	g_autoptr(kvt_calibration) c = invented();
	g_autofree char *folder = g_dir_make_tmp("kvtier-calibration-XXXXXX", NULL);
	g_autoptr(GPtrArray) written = g_ptr_array_new_with_free_func(g_free);
	GError *error = NULL;
	g_assert_true(kvt_calibration_write(c, folder, written, &error));
	g_assert_no_error(error);
	g_assert_cmpuint(written->len, ==, 7);

	g_autofree char *drive_path = g_build_filename(folder, "invented-drive.ini", NULL);
	g_autoptr(kvt_drive) drive = kvt_drive_load(drive_path, &error);
	g_assert_no_error(error);
	assert_near(drive->read_bandwidth, drives[0].bandwidth, 0.03);
	assert_near(drive->write_iops, drives[1].iops, 0.05);
	assert_near(drive->write_command_bandwidth, drives[1].command_rate, 0.1);
	g_assert_cmpfloat(drive->mixed_efficiency, ==, 0.8);
	g_assert_cmpuint(drive->capacity, ==, c->capacity);

	g_autofree char *host_path = g_build_filename(folder, "invented-host.ini", NULL);
	g_autoptr(kvt_host) host = kvt_host_load(host_path, &error);
	g_assert_no_error(error);
	assert_near(host->io_rate, 250e3, 1e-6);
	assert_near(host->checksum_rate, 15e9, 1e-6);
	assert_near(kvt_host_dram_bandwidth(host), 20e9, 1e-6);
	g_assert_cmpint(host->call_overhead, ==, 4 * KVT_MICROSECOND);

	g_autofree char *gpu_path = g_build_filename(folder, "invented-gpu.ini", NULL);
	g_autoptr(kvt_gpu) gpu = kvt_gpu_load(gpu_path, &error);
	g_assert_no_error(error);
	g_assert_cmpint(gpu->call_latency, ==, 12 * KVT_MICROSECOND);
	assert_near(gpu->merge_bandwidth, 30e9, 1e-6);
	g_autoptr(kvt_attention_model) model =
		kvt_attention_model_load(gpu->attention_table, &error);
	g_assert_no_error(error);
	kvt_attention_query query = { .phase = KVT_ATTENTION_DECODE,
		.dtype = "bfloat16",
		.kv_dtype = "bfloat16",
		.batch = 1,
		.heads = 28,
		.kv_heads = 4,
		.head_dim = 128,
		.tokens = 16384 };
	kvt_attention_time time;
	g_assert_cmpint(kvt_attention_predict(model, &query, &time), ==, 0);
	assert_near(time.seconds, 5e-6 + 16384.0 * 2048 / 1e10, 0.05);
	g_assert_false(time.extrapolated);

	g_autofree char *record_path = g_build_filename(folder, "invented.json", NULL);
	g_autoptr(kvt_calibration) again = kvt_calibration_load(record_path, &error);
	g_assert_no_error(error);
	g_autofree char *drive_text = read_all(folder, "invented-drive.ini");
	g_autofree char *gpu_table = read_all(folder, "invented-attention.table");
	g_autoptr(GPtrArray) rewritten = g_ptr_array_new_with_free_func(g_free);
	g_assert_true(kvt_calibration_write(again, folder, rewritten, &error));
	g_autofree char *drive_again = read_all(folder, "invented-drive.ini");
	g_autofree char *table_again = read_all(folder, "invented-attention.table");
	g_assert_cmpstr(drive_again, ==, drive_text);
	g_assert_cmpstr(table_again, ==, gpu_table);
	remove_all(folder, written);
}

static void assert_refused(const char *text, const char *message)
{
	json_t *value = json_loads(text, 0, NULL);
	g_assert_nonnull(value);
	GError *error = NULL;
	g_assert_null(kvt_calibration_from_json("r.json", value, &error));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
	g_assert_cmpstr(error->message, ==, message);
	g_clear_error(&error);
	json_decref(value);
}

/* `text` with the first `from` as `to`. */
static char *changed(const char *text, const char *from, const char *to)
{
	const char *at = strstr(text, from);
	g_assert_nonnull(at);
	return g_strdup_printf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

static void test_bad_records(void)
{
	static const struct {
		const char *from, *to, *message;
	} bad[] = {
		{ "kvtier.calibration/1", "kvtier.calibration/0",
			"r.json: schema \"kvtier.calibration/0\" is of another version, expected "
			"kvtier.calibration/1: measure again with \"kvtier calibrate\"" },
		{ "kvtier.calibration/1", "kvtier.run/1",
			"r.json: not a record of a calibration, expected schema "
			"kvtier.calibration/1" },
		{ "\"name\": \"invented\"", "\"name\": \"../x\"",
			"r.json: name: missing or impossible, expected letters, digits, . _ -" },
		{ "\"cores\": 4", "\"cores\": 0",
			"r.json: cores: missing or impossible, expected a whole number above 0" },
		{ "\"checksum\"", "\"sum\"",
			"r.json: host.checksum.value: missing or impossible, expected a number "
			"above 0" },
		{ "\"op\": \"read\"", "\"op\": \"erase\"",
			"r.json: drive[0].op: missing or impossible, expected read or write" },
		{ "\"cpu_s\": 4e-06", "\"cpu_s\": -1",
			"r.json: drive[0].cpu_s: missing or impossible, expected a number above "
			"0" },
		{ "\"attention\": [", "\"attentions\": [",
			"r.json: attention: missing or impossible, expected points" },
	};
	g_autoptr(kvt_calibration) c = invented();
	g_autofree char *text = calibration_text(c);
	for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autofree char *broken = changed(text, bad[i].from, bad[i].to);
		assert_refused(broken, bad[i].message);
	}
	GError *error = NULL;
	g_assert_null(kvt_calibration_load("/nonexistent/r.json", &error));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
	g_assert_null(strchr(error->message, '\n'));
	g_clear_error(&error);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/calibration/known-drives", test_known_drives);
	g_test_add_func("/calibration/noise", test_noise);
	g_test_add_func("/calibration/depth-and-transfer", test_depth_and_transfer);
	g_test_add_func("/calibration/too-little", test_too_little);
	g_test_add_func("/calibration/measured", test_measured);
	g_test_add_func("/calibration/record", test_record);
	g_test_add_func("/calibration/files", test_files);
	g_test_add_func("/calibration/bad-records", test_bad_records);
	return g_test_run();
}
