/* gpu_profile.c: a GPU's figures with their sources. */
#include "emu/calibrate/gpu_profile.h"

#include "emu/calibrate/profile_text.h"
#include "models/hardware.h"

/* "the card, the day, the versions", of a source. */
static char *where(const kvt_gpu_calibration *gpu)
{
	return g_strdup_printf("%s, %s, %s, kvtier calibrate --device cuda", gpu->device, gpu->date,
		gpu->versions);
}

static void put_figure(GString *text, const kvt_gpu_calibration *gpu, kvt_gpu_figure figure,
	const char *key, const char *what)
{
	const kvt_measured *m = &gpu->figures[figure];
	g_autofree char *place = where(gpu);
	g_autofree char *how = g_strdup_printf("%s; %s", what, place);
	if (kvt_gpu_figures[figure].unit == KVT_UNIT_RATE)
		kvt_put_rate(text, key, CLAMP(m->value, 1e8, 9.9e13));
	else
		kvt_put_time(text, key, MIN(m->value, 0.5));
	kvt_put_measured(text, key, how, kvt_measured_spread(m));
}

static void put_sheet(
	GString *text, const char *key, double value, const char *format, const char *unit)
{
	kvt_put(text, key, value, format);
	g_string_append_printf(text, "%s\n", unit);
}

/* What a card does not say of itself. */
static void put_sheet_figures(GString *text, const kvt_gpu *sheet)
{
	put_sheet(text, "flops_fp32", sheet->flops_fp32 / 1e12, "%.6f", "TFLOP/s");
	put_sheet(text, "flops_bf16", sheet->flops_bf16 / 1e12, "%.6f", "TFLOP/s");
	put_sheet(text, "flops_fp8", sheet->flops_fp8 / 1e12, "%.6f", "TFLOP/s");
	put_sheet(text, "flops_int8", sheet->flops_int8 / 1e12, "%.6f", "TFLOP/s");
	put_sheet(text, "flops_fp4", sheet->flops_fp4 / 1e12, "%.6f", "TFLOP/s");
	put_sheet(text, "nvlink", sheet->nvlink / 1e9, "%.6f", "GB/s");
	put_sheet(text, "power", sheet->power, "%.1f", "W");
	put_sheet(text, "power_idle", sheet->power_idle, "%.1f", "W");
	kvt_put_bytes(text, "l2", sheet->l2);
}

/* A table of the datasheet's file, by its full path. */
static void put_table(GString *text, const char *key, const char *path, const char *whose)
{
	if (!path)
		return;
	g_autofree char *full = g_canonicalize_filename(path, NULL);
	g_string_append_printf(
		text, "%s = %s\n%s.source = assumed: as those of %s\n", key, full, key, whose);
}

static double raw_rate(
	const kvt_gpu_calibration *gpu, const kvt_gpu *sheet, int64_t *generation, int64_t *lanes)
{
	const kvt_gpu_copy_point *points[KVT_COPY_POINTS_MAX];
	unsigned n = kvt_gpu_calibration_copies(gpu, true, points, KVT_COPY_POINTS_MAX);
	double measured = n > 0 ? points[n - 1]->rate.value : 0;
	*generation = gpu->pcie_generation;
	*lanes = gpu->pcie_lanes;
	/* in a virtual machine the system may say anything */
	if (kvt_pcie_raw_rate(*generation, *lanes) < measured) {
		*generation = sheet->pcie_generation;
		*lanes = sheet->pcie_lanes;
	}
	return kvt_pcie_raw_rate(*generation, *lanes);
}

gboolean kvt_gpu_profile_text(const kvt_calibration *c, GString *text, GError **error)
{
	const kvt_gpu_calibration *gpu = c->gpu;
	g_autoptr(kvt_gpu) sheet = kvt_gpu_load(gpu->datasheet, error);
	if (!sheet)
		return FALSE;
	g_autofree char *place = where(gpu);
	int64_t generation, lanes;
	raw_rate(gpu, sheet, &generation, &lanes);
	g_string_append_printf(text,
		"# A GPU, measured by `kvtier calibrate --device cuda`; %s.json has the points.\n"
		"%s%s%s[gpu]\ntitle = %s, measured\nsource = datasheet: as %s.ini\n",
		c->name, gpu->why ? "# Not measured: " : "", gpu->why ? gpu->why : "",
		gpu->why ? "\n" : "", gpu->device, sheet->name);
	kvt_put_bytes(text, "memory", MAX(gpu->memory, 1000000000));
	g_string_append_printf(text, "memory.source = measured: %s\n", place);
	kvt_put_bytes(text, "memory_nominal", sheet->memory_nominal);
	put_sheet(text, "memory_bandwidth", sheet->memory_bandwidth / 1e9, "%.6f", "GB/s");
	double share = kvt_gpu_calibration_read_rate(gpu) / sheet->memory_bandwidth;
	kvt_put_share(text, "memory_efficiency", CLAMP(share, 0.1, 1));
	g_string_append_printf(text,
		"memory_efficiency.source = measured: the fastest decode attention; %s\n", place);
	put_figure(text, gpu, KVT_GPU_START, "call_latency", "a merge of one token");
	put_figure(text, gpu, KVT_GPU_MERGE, "merge_bandwidth",
		"partial results of 2,048 tokens of 28 heads");
	put_figure(text, gpu, KVT_GPU_LAUNCH, "launch_latency",
		"from a call on an idle stream to its callback on the loop, less the call");
	put_figure(text, gpu, KVT_GPU_SUBMIT, "submit_time",
		"the host's time of a call with its events, the stream being busy");
	put_figure(text, gpu, KVT_GPU_GAP, "call_gap",
		"timed waits with their events, one behind the other, less their time");
	put_figure(text, gpu, KVT_GPU_APPEND, "append_time",
		"eight copies of 256 bytes within the card's memory, in one call");
	put_figure(text, gpu, KVT_GPU_STREAM, "stream_latency",
		"timed waits of two streams in turn, less their time and gaps");
	put_sheet_figures(text, sheet);
	g_string_append_printf(
		text, "sms = %u\nsms.source = measured: %s\n", gpu->processors, place);
	g_string_append_printf(text,
		"pcie_generation = %" G_GINT64_FORMAT "\npcie_lanes = %" G_GINT64_FORMAT "\n",
		generation, lanes);
	g_string_append_printf(text,
		"attention_table = %s-attention.table\n"
		"attention_table.source = fitted: the times in %s-attention.csv\n",
		c->name, c->name);
	if (gpu->products->len > 0)
		g_string_append_printf(text,
			"gemm_table = %s-gemm.table\n"
			"gemm_table.source = fitted: the times in %s-products.csv\n",
			c->name, c->name);
	else
		put_table(text, "gemm_table", sheet->gemm_table, sheet->name);
	put_table(text, "collective_table", sheet->collective_table, sheet->name);
	return TRUE;
}

static void put_copies(GString *text, const kvt_gpu_calibration *gpu)
{
	const kvt_gpu_copy_point *points[KVT_COPY_POINTS_MAX];
	unsigned n = kvt_gpu_calibration_copies(gpu, true, points, KVT_COPY_POINTS_MAX);
	g_string_append(text, "copy_points = ");
	for (unsigned i = 0; i < n; i++) {
		char rate[64];
		g_ascii_formatd(rate, sizeof(rate), "%.2f", points[i]->rate.value / 1e6);
		g_string_append_printf(text, "%s%" G_GUINT64_FORMAT "B %sMB/s", i > 0 ? ", " : "",
			points[i]->size, rate);
	}
	g_string_append_c(text, '\n');
}

gboolean kvt_gpu_profile_links(const kvt_calibration *c, GString *text, GError **error)
{
	const kvt_gpu_calibration *gpu = c->gpu;
	g_autoptr(kvt_gpu) sheet = kvt_gpu_load(gpu->datasheet, error);
	if (!sheet)
		return FALSE;
	const kvt_gpu_copy_point *to[KVT_COPY_POINTS_MAX], *from[KVT_COPY_POINTS_MAX];
	unsigned n = kvt_gpu_calibration_copies(gpu, true, to, KVT_COPY_POINTS_MAX);
	unsigned n_from = kvt_gpu_calibration_copies(gpu, false, from, KVT_COPY_POINTS_MAX);
	const kvt_gpu_copy_point *most = to[n - 1], *back = from[n_from - 1];
	int64_t generation, lanes;
	double raw = raw_rate(gpu, sheet, &generation, &lanes);
	g_autofree char *place = where(gpu);
	g_autofree char *copies = g_strdup_printf(
		"copies of %" G_GUINT64_FORMAT " bytes from pinned memory; %s", most->size, place);
	g_autofree char *copies_back = g_strdup_printf(
		"copies of %" G_GUINT64_FORMAT " bytes to pinned memory; %s", back->size, place);
	/* what a small copy takes beyond its bytes, where no point is near */
	double setup =
		(double)to[0]->size / to[0]->rate.value - (double)to[0]->size / most->rate.value;
	g_string_append_printf(text,
		"root_complexes = 1\nroot_complexes.source = assumed: one GPU was measured\n"
		"gpu_slots = 1\ngpu_slots.source = assumed: one GPU was measured\n"
		"drive_slots = 8\ndrive_lanes = 4\nnic_slots = 1\nnic_lanes = 16\n"
		"drive_slots.source = assumed: none was measured\n"
		"drive_lanes.source = assumed: as drives have\n"
		"nic_slots.source = assumed: none was measured\n"
		"nic_lanes.source = assumed: as NICs have\n"
		"gpu_peer_to_peer = no\ngpu_peer_to_peer.source = assumed: one GPU was measured\n"
		"pcie_generation = %" G_GINT64_FORMAT "\ngpu_lanes = %" G_GINT64_FORMAT "\n",
		generation, lanes);
	kvt_put_share(text, "pcie_efficiency", CLAMP(most->rate.value / raw, 0.1, 1));
	g_string_append(
		text, "pcie_efficiency.source = derived: copy_to_gpu over the link's rate\n");
	kvt_put_time(text, "copy_setup", CLAMP(setup, 2e-9, 0.5));
	g_string_append_printf(text,
		"copy_setup.source = derived: time of %" G_GUINT64_FORMAT
		" bytes less bytes / copy_to_gpu\n",
		to[0]->size);
	kvt_put_rate(text, "copy_to_gpu", CLAMP(most->rate.value, 1e6, 9.9e12));
	kvt_put_measured(text, "copy_to_gpu", copies, kvt_measured_spread(&most->rate));
	kvt_put_rate(text, "copy_from_gpu", CLAMP(back->rate.value, 1e6, 9.9e12));
	kvt_put_measured(text, "copy_from_gpu", copies_back, kvt_measured_spread(&back->rate));
	if (gpu->figures[KVT_GPU_VERIFY].value > 0)
		put_figure(text, gpu, KVT_GPU_VERIFY, "checksum_rate",
			"xxh3 of 64 KiB pages by the GPU, which verifies pages of memory where "
			"they "
			"arrive");
	put_copies(text, gpu);
	g_string_append_printf(text,
		"copy_points.source = measured: pages of one size anywhere in pinned memory, "
		"windows of 32 MiB, two under way, by the engines or a kernel with their help as "
		"the run chooses; %s\n",
		place);
	return TRUE;
}

void kvt_gpu_profile_memory(const kvt_calibration *c, GString *text)
{
	const kvt_measured *m = &c->gpu->figures[KVT_GPU_COPY_LATENCY];
	kvt_put_time(text, "latency", MIN(m->value, 0.5));
	kvt_put_time(text, "latency_p99", MIN(MAX(m->high, m->value), 0.5));
	g_string_append(text, "in_turn = yes\n");
}
