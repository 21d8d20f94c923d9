/* test_calibrated_network.c: a calibration of a way to a storage node that never was: what its
 * points were made from comes back, records survive, and a turn by its profile shares one processor
 * between attention and the network's software. Nothing here is measured. */
#include <glib.h>
#include <glib/gstdio.h>
#include <math.h>
#include <string.h>

#include "emu/calibrate/calibration.h"
#include "models/hardware.h"
#include "sim/engine/turn.h"
#include "tests/unit/calibration_fixture.h"

/* A network whose software is one processor's: bytes/s, s a message, s a part of 1 MiB. */
static const double RATE = 20e6, MESSAGE = 300e-6, PART = 1e-3, PER_BYTE = 1 / 16e6, IDLE = 50e-6;
static const double DECODE = 2e7, PREFILL = 1e9; /* bytes of KV/s; FLOP/s */

static kvt_measured exactly(double value)
{
	return (kvt_measured){ value, value, value };
}

static kvt_drive_point point_of(bool write, uint64_t size, unsigned depth, double seconds)
{
	return (kvt_drive_point){ .write = write,
		.size = size,
		.depth = depth,
		.rate = exactly((double)size / seconds),
		.latency = depth * seconds,
		.latency_p99 = depth * seconds,
		.cpu = 4e-5,
		.busy = seconds,
		.ios = 100 };
}

static void add_network(kvt_calibration *c)
{
	static const unsigned depths[] = { 1, 4, 16 };
	for (int write = 0; write < 2; write++)
		for (uint64_t size = 4096; size <= 1 << 20; size *= 16)
			for (unsigned d = 0; d < G_N_ELEMENTS(depths); d++) {
				double seconds = MESSAGE + (double)(size - 4096) / RATE;
				kvt_drive_point p = point_of(write, size, depths[d], seconds);
				g_array_append_val(c->network, p);
			}
	for (uint64_t size = 65536; size <= 4 << 20; size *= 4)
		for (unsigned depth = 1; depth <= 4; depth *= 4) {
			double parts = (double)((size - 1) / (1 << 20) + 1);
			double work = parts * PART + (double)size * PER_BYTE;
			kvt_drive_point p = point_of(false, size, depth, work);
			p.rate = exactly((double)size / (work + (depth == 1 ? IDLE : 0)));
			g_array_append_val(c->remote, p);
		}
	kvt_drive_point question = point_of(false, 65536, 1, 6e-4);
	g_array_append_val(c->fetches, question);
	const kvt_perftest_point beside[] = { { 4096, 1, 4.4e-4, 4e-4 },
		{ 65536, 16, 19e6, 20e6 } };
	g_array_append_vals(c->perftest, beside, G_N_ELEMENTS(beside));
}

static kvt_calibration *invented(void)
{
	static const double host[KVT_HOST_FIGURES] = { 2e9, 2e9, 1e9, 4e8, 1e9, 1e-7, 3e-5, 2e-5,
		4e-6, 1.2e-5, 1e8, 1e7, 1e7 };
	kvt_calibration *c = kvt_calibration_new("invented");
	c->cpu = g_strdup("A CPU");
	c->kernel = g_strdup("Linux 6");
	c->isa = g_strdup("avx2");
	c->node = g_strdup("10.0.0.1:7471");
	c->device = g_strdup("rxe0");
	c->dense = g_strdup("l40s");
	c->cores = c->threads = 1;
	c->memory = UINT64_C(64) << 30;
	c->cache = 32 << 20;
	for (unsigned i = 0; i < KVT_HOST_FIGURES; i++)
		c->host[i] = exactly(host[i]);
	add_network(c);
	for (uint64_t tokens = 64; tokens <= 4096; tokens *= 4) {
		double decode = (double)tokens * 4 * 128 * 2 * 2 / DECODE;
		double prefill = 2.0 * (double)tokens * (double)tokens * 28 * 128 / PREFILL;
		const kvt_attention_point points[] = {
			{ 28, 4, 128, tokens, 0, false, exactly(decode), exactly(decode) },
			{ 28, 4, 128, tokens, 0, true, exactly(prefill), exactly(prefill) },
		};
		g_array_append_vals(c->attention, points, G_N_ELEMENTS(points));
	}
	return c;
}

static void test_fit(void)
{
	g_autoptr(kvt_calibration) c = invented();
	kvt_drive_fit read;
	GError *error = NULL;
	const kvt_drive_point *points = (const kvt_drive_point *)(const void *)c->network->data;
	g_assert_true(kvt_drive_fit_points(points, c->network->len, false, &read, &error));
	g_assert_no_error(error);
	g_assert_true(read.serial);
	kvt_remote_fit fit = kvt_remote_fit_points(c, &read);
	g_assert_cmpfloat_with_epsilon(fit.seconds, PART, 0.01 * PART);
	g_assert_cmpfloat_with_epsilon(fit.per_byte, PER_BYTE, 0.01 * PER_BYTE);
	g_assert_cmpfloat_with_epsilon(fit.latency, IDLE, 0.05 * IDLE);
	g_assert_cmpfloat(fit.worst, <, 0.01);
	/* nothing is made of nothing */
	for (unsigned i = 0; i < c->remote->len; i++)
		g_array_index(c->remote, kvt_drive_point, i).busy = NAN;
	fit = kvt_remote_fit_points(c, &read);
	g_assert_cmpfloat(fit.seconds, ==, 0);
	g_assert_cmpfloat(fit.per_byte, ==, 0);
	g_assert_cmpfloat(fit.latency, ==, 0);
}

static void test_record(void)
{
	g_autoptr(kvt_calibration) c = invented();
	/* one that could not be told is none again */
	g_array_index(c->remote, kvt_drive_point, 0).busy = NAN;
	g_autoptr(kvt_calibration) again = calibration_read_again(c);
	g_assert_true(isnan(g_array_index(again->remote, kvt_drive_point, 0).busy));
}

/* Seconds to the first token by the profile in `folder`. */
static kvt_turn turn_by(const char *folder, const char *set)
{
	g_autofree char *text = g_strdup_printf(
		"include = %s/invented.ini\n[model]\nname = qwen2.5-7b-instruct-1m\n"
		"[gpu]\nmemory_share = 100%%\n[context]\ntokens = 256\nprompt_tokens = 1\n"
		"output_tokens = 1\n[decode]\nsamples = 0\n",
		folder);
	GError *error = NULL;
	g_autofree char *path = g_build_filename(folder, "turn.ini", NULL);
	g_assert_true(g_file_set_contents(path, text, -1, &error));
	const char *const sets[] = { set, NULL };
	kvt_experiment *experiment = kvt_experiment_load(path, sets, &error);
	g_assert_no_error(error);
	kvt_turn turn;
	kvt_turn_run(experiment, KVT_RUN_RESUME, NULL, &turn, &error);
	g_assert_no_error(error);
	kvt_experiment_free(experiment);
	g_unlink(path);
	return turn;
}

/* One processor reads, verifies and attends: what that takes is added up, and hardly anything else.
 * Where software takes no processor, loads and attention go on at once. */
static void test_turn(void)
{
	g_autoptr(kvt_calibration) c = invented();
	g_autofree char *folder = g_dir_make_tmp("kvtier-calibration-XXXXXX", NULL);
	g_autoptr(GPtrArray) written = g_ptr_array_new_with_free_func(g_free);
	GError *error = NULL;
	g_assert_true(kvt_calibration_write(c, folder, written, &error));
	g_assert_no_error(error);
	g_autofree char *nic_path = g_build_filename(folder, "invented-nic.ini", NULL);
	g_autoptr(kvt_nic) nic = kvt_nic_load(nic_path, &error);
	g_assert_no_error(error);
	g_assert_true(nic->serial);
	g_assert_cmpfloat_with_epsilon(nic->line_rate, RATE, 0.02 * RATE);
	g_assert_cmpfloat_with_epsilon(nic->message_rate, 1 / MESSAGE, 0.02 / MESSAGE);

	g_autofree char *text = NULL;
	g_assert_true(g_file_get_contents(nic_path, &text, NULL, NULL));
	g_assert_nonnull(strstr(text, "ib_read_lat in the same run: 1.10 of its latency at 4096"));
	g_assert_nonnull(strstr(text, "ib_read_bw in the same run: 0.95 of its rate at 65536"));

	kvt_turn shared = turn_by(folder, "remote-dram.in_turn=yes");
	double bytes = (double)shared.read_bytes[0];
	g_assert_cmpfloat(bytes, ==, 256.0 * 57344);
	double loads = 28 * PART + bytes * PER_BYTE;
	kvt_turn free_of_charge = turn_by(folder, "remote-dram.processor_rate=1000GB/s");
	double attention = free_of_charge.work[KVT_WORK_ATTENTION];
	g_assert_cmpfloat(attention, >, 0.5 * loads);
	g_assert_cmpfloat(shared.ttft, >, loads + attention);
	g_assert_cmpfloat(shared.ttft, <, 1.05 * (loads + attention));
	g_assert_cmpfloat(free_of_charge.ttft, >, attention);
	g_assert_cmpfloat(free_of_charge.ttft, <, 0.8 * shared.ttft);
	for (unsigned i = 0; i < written->len; i++)
		g_unlink(g_ptr_array_index(written, i));
	g_rmdir(folder);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/calibrated-network/fit", test_fit);
	g_test_add_func("/calibrated-network/record", test_record);
	g_test_add_func("/calibrated-network/turn", test_turn);
	return g_test_run();
}
