/* test_hardware.c: GPU, drive, NIC and host files, their sources, and the figures derived from
 * them. */
#include <glib.h>
#include <glib/gstdio.h>
#include <math.h>
#include <string.h>

#include "models/hardware.h"
#include "models/model_file.h"
#include "sim/base/error.h"

static void assert_near(double value, double expected, double share)
{
	g_assert_cmpfloat_with_epsilon(value, expected, fabs(expected) * share);
}

/* Every shipped file loads, and each of its constants says where it is from. */
static void test_sources(void)
{
	unsigned files = 0, constants = 0;
	for (int kind = 0; kind < KVT_MODEL_KINDS; kind++) {
		GError *error = NULL;
		g_auto(GStrv) names = kvt_model_names((kvt_model_kind)kind, &error);
		g_assert_no_error(error);
		g_assert_nonnull(names[0]);
		for (char **name = names; *name != NULL; name++) {
			g_autofree char *path = kvt_model_path((kvt_model_kind)kind, *name, &error);
			g_assert_no_error(error);
			g_autoptr(kvt_config) config = kvt_config_load(path, &error);
			g_assert_no_error(error);
			g_autoptr(GPtrArray) list = kvt_model_constants(config, &error);
			g_assert_no_error(error);
			g_assert_cmpuint(list->len, >, 8);
			for (guint i = 0; i < list->len; i++) {
				const kvt_constant *constant = g_ptr_array_index(list, i);
				g_assert_cmpuint(strlen(constant->source), >, 15);
				g_assert_true(
					constant->uncertainty >= 0 && constant->uncertainty < 1);
				constants++;
			}
			files++;
		}
	}
	g_assert_cmpuint(files, >=, 6 + 5 + 4 + 3 + 4);
	g_assert_cmpuint(constants, >, 300);
}

static void test_gpus(void)
{
	static const struct {
		const char *name;
		double nominal, bandwidth, bf16, fp8;
		int64_t sms;
	} known[] = {
		{ "l40s", 48e9, 864e9, 362.05e12, 733e12, 142 },
		{ "a100-80g", 80e9, 2039e9, 312e12, 0, 108 },
		{ "h100-sxm", 80e9, 3350e9, 989.5e12, 1979e12, 132 },
		{ "h200", 141e9, 4800e9, 989.5e12, 1979e12, 132 },
		{ "b200", 180e9, 8000e9, 2250e12, 4500e12, 148 },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(known); i++) {
		GError *error = NULL;
		g_autoptr(kvt_gpu) gpu = kvt_gpu_load(known[i].name, &error);
		g_assert_no_error(error);
		assert_near(gpu->memory_bandwidth, known[i].bandwidth, 1e-9);
		assert_near((double)gpu->memory_nominal, known[i].nominal, 1e-9);
		/* What can be allocated differs from what is sold by the unit and by ECC. */
		assert_near((double)gpu->memory, known[i].nominal, 0.08);
		assert_near(kvt_gpu_flops(gpu, KVT_DTYPE_BF16), known[i].bf16, 1e-9);
		/* Without a unit for a format, it is computed as BF16. */
		assert_near(kvt_gpu_flops(gpu, KVT_DTYPE_FP8),
			known[i].fp8 > 0 ? known[i].fp8 : known[i].bf16, 1e-9);
		assert_near(kvt_gpu_flops(gpu, KVT_DTYPE_INT4), known[i].bf16, 1e-9);
		g_assert_cmpint(gpu->sms, ==, known[i].sms);
		g_autofree char *folder = g_path_get_dirname(gpu->gemm_table);
		g_assert_true(g_str_has_suffix(folder, "models/gpu/kernels"));
	}
}

/* What a file must satisfy beyond its ranges. */
static void test_plausible(void)
{
	g_auto(GStrv) drives = kvt_model_names(KVT_MODEL_DRIVE, NULL);
	for (char **name = drives; *name != NULL; name++) {
		g_autoptr(kvt_drive) drive = kvt_drive_load(*name, NULL);
		g_assert_nonnull(drive);
		double link = kvt_pcie_raw_rate(drive->pcie_generation, drive->pcie_lanes);
		g_assert_cmpfloat(drive->read_bandwidth, <, link);
		g_assert_cmpfloat(drive->read_iops * 4096, <, link);
		g_assert_cmpfloat(drive->write_bandwidth, <=, drive->read_bandwidth);
		/* The queue is deep enough for the rates, by Little's law. */
		double waiting = drive->read_iops * kvt_time_to_seconds(drive->read_latency);
		g_assert_cmpfloat(waiting, <=, (double)drive->queue_depth);
		g_assert_cmpint(drive->compression, ==, drive->compression_max > 1);
	}
	g_auto(GStrv) nics = kvt_model_names(KVT_MODEL_NIC, NULL);
	for (char **name = nics; *name != NULL; name++) {
		g_autoptr(kvt_nic) nic = kvt_nic_load(*name, NULL);
		g_assert_nonnull(nic);
		g_assert_cmpfloat(nic->line_rate * (double)nic->ports, <,
			kvt_pcie_raw_rate(nic->pcie_generation, nic->pcie_lanes));
	}
}

static void test_pcie(void)
{
	assert_near(kvt_pcie_raw_rate(4, 16), 31.5e9, 0.001);
	assert_near(kvt_pcie_raw_rate(5, 16), 63.0e9, 0.001);
	assert_near(kvt_pcie_raw_rate(6, 16), 118e9, 0.001);
	g_assert_cmpfloat(kvt_pcie_raw_rate(2, 16), ==, 0);

	g_autoptr(kvt_host) host = kvt_host_load("h200-pcie5", NULL);
	assert_near(kvt_host_link_rate(host, 16, 5, 16), 54.7e9, 0.002);
	/* A newer or wider device is held to the slot, an older one to itself. */
	g_assert_cmpfloat(
		kvt_host_link_rate(host, 16, 6, 32), ==, kvt_host_link_rate(host, 16, 5, 16));
	g_assert_cmpfloat(
		kvt_host_link_rate(host, 16, 4, 16), <, kvt_host_link_rate(host, 16, 5, 16));
	g_autoptr(kvt_host) testbed = kvt_host_load("l40s-testbed", NULL);
	assert_near(kvt_host_link_rate(testbed, 16, 4, 16), 26e9, 0.02);
	assert_near(kvt_host_dram_bandwidth(testbed), 24 * 38.4e9 * 0.86, 1e-9);
}

static void test_copy_curve(void)
{
	static const struct {
		uint64_t size;
		double rate;
	} measured[] = { { 16 << 10, 5.9e9 }, { 64 << 10, 17.5e9 }, { 256 << 10, 34.1e9 },
		{ 1 << 20, 47.7e9 }, { 16 << 20, 54.4e9 }, { 1 << 30, 54.7e9 } };
	g_autoptr(kvt_host) host = kvt_host_load("h200-pcie5", NULL);
	g_assert_cmpuint(host->n_copy_points, ==, G_N_ELEMENTS(measured));
	for (unsigned i = 0; i < G_N_ELEMENTS(measured); i++) {
		double size = (double)measured[i].size;
		assert_near(size / kvt_host_copy_seconds(host, measured[i].size, 54.7e9),
			measured[i].rate, 1e-9);
		/* The two-constant form that other hosts borrow comes close to each point. */
		double fitted = kvt_time_to_seconds(host->copy_setup) + size / host->copy_to_gpu;
		assert_near(size / fitted, measured[i].rate, 0.06);
	}
	/* More bytes never take less time, and a copy is never free. */
	double last = 0;
	for (uint64_t size = 1; size < (1ull << 34); size += size / 3 + 1) {
		double seconds = kvt_host_copy_seconds(host, size, 54.7e9);
		g_assert_cmpfloat(seconds, >, last);
		last = seconds;
	}
	g_assert_cmpfloat(kvt_host_copy_seconds(host, 0, 54.7e9), ==, 0);
	g_assert_cmpfloat(kvt_host_copy_seconds(host, 1, 54.7e9), >, 1e-6);

	g_autoptr(kvt_host) other = kvt_host_load("pcie4-ddr4", NULL);
	assert_near(kvt_host_copy_seconds(other, 26000000, 26e9), 1e-3 + 2.5e-6, 1e-9);
}

static void test_unknown(void)
{
	g_autoptr(GError) error = NULL;
	g_assert_null(kvt_gpu_load("l40", &error));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
	g_assert_nonnull(strstr(error->message, "did you mean \"l40s\""));
	g_clear_error(&error);
	g_assert_null(kvt_gpu_load("abacus", &error));
	g_assert_nonnull(strstr(error->message, "h100-sxm"));
	g_clear_error(&error);
	g_assert_null(kvt_gpu_load("../gpu/l40s", &error));
	g_clear_error(&error);
	g_assert_null(kvt_drive_load("missing.ini", &error));
	g_assert_nonnull(strstr(error->message, "missing.ini"));
}

static char *message_of(const char *text)
{
	g_autofree char *path = NULL;
	int file = g_file_open_tmp("kvt-host-XXXXXX.ini", &path, NULL);
	g_assert_cmpint(file, >=, 0);
	g_close(file, NULL);
	g_assert_true(g_file_set_contents(path, text, -1, NULL));
	GError *error = NULL;
	g_autoptr(kvt_nic) nic = kvt_nic_load(path, &error);
	g_unlink(path);
	char *message = error != NULL ? g_strdup(error->message) : NULL;
	g_assert_cmpint(nic != NULL, ==, error == NULL);
	g_clear_error(&error);
	return message;
}

#define NIC_REST                                                                                   \
	"ports = 1\nefficiency = 98%\nread_latency = 2us\nmessage_rate = 1M/s\nmtu = 4096B\n"      \
	"pcie_generation = 5\npcie_lanes = 16\npower = 25W\n"

static void test_refused(void)
{
	static const struct {
		const char *text, *message; /* NULL: it is good */
	} cases[] = {
		{ "[nic]\ntitle = x\nsource = assumed: a test\nline_rate = 400Gb/s\n"
		  "read_latency_p99 = 4us\n" NIC_REST,
			NULL },
		{ "[nic]\ntitle = x\nsource = assumed: a test\nline_rate = 400\n"
		  "read_latency_p99 = 4us\n" NIC_REST,
			"line_rate" },
		{ "[nic]\ntitle = x\nsource = assumed: a test\nline_rate = 400Gb/s\n"
		  "read_latency_p99 = 1us\n" NIC_REST,
			"below the median" },
		{ "[nic]\ntitle = x\nline_rate = 400Gb/s\nread_latency_p99 = 4us\n" NIC_REST,
			"no source" },
		{ "[nic]\ntitle = x\nsource = hearsay\nline_rate = 400Gb/s\n"
		  "read_latency_p99 = 4us\n" NIC_REST,
			"hearsay" },
		{ "[nic]\ntitle = x\nsource = assumed: a test\nline_rate = 400Gb/s\n"
		  "read_latency_p99 = 4us\nprots.source = assumed: x\n" NIC_REST,
			"prots" },
		{ "[nic]\ntitle = x\nsource = assumed: a test\nline_rate = 400Gb/s\n"
		  "read_latency_p99 = 4us\nports.uncertainty = lots\n" NIC_REST,
			"ports.uncertainty" },
		{ "[nick]\ntitle = x\n", "[nic]" },
		{ "[nic]\ntitle = x\nsource = assumed: a test\nline_rate = 400Gb/s\n"
		  "read_latency_p99 = 4us\n" NIC_REST "[gpu]\ntitle = y\n",
			"[gpu]" },
		{ "", "[nic]" },
	};
	for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *message = message_of(cases[i].text);
		if (cases[i].message == NULL)
			g_assert_cmpstr(message, ==, NULL);
		else if (message == NULL || strstr(message, cases[i].message) == NULL)
			g_error("case %u: '%s' does not name '%s'", i, message, cases[i].message);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/hardware/sources", test_sources);
	g_test_add_func("/hardware/gpus", test_gpus);
	g_test_add_func("/hardware/plausible", test_plausible);
	g_test_add_func("/hardware/pcie", test_pcie);
	g_test_add_func("/hardware/copy-curve", test_copy_curve);
	g_test_add_func("/hardware/unknown", test_unknown);
	g_test_add_func("/hardware/refused", test_refused);
	return g_test_run();
}
