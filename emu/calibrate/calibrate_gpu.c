/* calibrate_gpu.c: everything of a GPU, in order; what it is, and whose datasheet it has. */
#include <stdio.h>
#include <string.h>

#include "emu/calibrate/gpu_bench.h"
#include "models/hardware.h"
#include "models/model_file.h"
#include "sim/base/error.h"
#include "sim/base/units.h"

const kvt_host_figure_info kvt_gpu_figures[KVT_GPU_FIGURES] = {
	[KVT_GPU_LAUNCH] = { "launch", KVT_UNIT_TIME, "a call, until the loop hears, beside it" },
	[KVT_GPU_COPY_LATENCY] = { "copy_latency", KVT_UNIT_TIME, "a small copy, the same way" },
	[KVT_GPU_SUBMIT] = { "submit", KVT_UNIT_TIME, "the host's thread, a call" },
	[KVT_GPU_GAP] = { "gap", KVT_UNIT_TIME, "between two timed waits" },
	[KVT_GPU_APPEND] = { "append", KVT_UNIT_TIME, "a token's keys and values to their page" },
	[KVT_GPU_STREAM] = { "stream", KVT_UNIT_TIME, "from one stream to another" },
	[KVT_GPU_START] = { "start", KVT_UNIT_TIME, "a merge of one token" },
	[KVT_GPU_MERGE] = { "merge", KVT_UNIT_RATE, "merging partial results" },
	[KVT_GPU_VERIFY] = { "verify", KVT_UNIT_RATE, "checksums of pages, by the card" },
};

kvt_gpu_calibration *kvt_gpu_calibration_new(void)
{
	kvt_gpu_calibration *gpu = g_new0(kvt_gpu_calibration, 1);
	gpu->copies = g_array_new(FALSE, TRUE, sizeof(kvt_gpu_copy_point));
	gpu->attention = g_array_new(FALSE, TRUE, sizeof(kvt_gpu_attention_point));
	gpu->products = g_array_new(FALSE, TRUE, sizeof(kvt_gpu_product_point));
	return gpu;
}

void kvt_gpu_calibration_free(kvt_gpu_calibration *gpu)
{
	if (!gpu)
		return;
	char *texts[] = { gpu->device, gpu->versions, gpu->date, gpu->datasheet, gpu->why };
	for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++)
		g_free(texts[i]);
	g_array_unref(gpu->copies);
	g_array_unref(gpu->attention);
	g_array_unref(gpu->products);
	g_free(gpu);
}

void kvt_gpu_calibration_missing(kvt_gpu_calibration *gpu, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	g_autofree char *text = g_strdup_vprintf(format, args), *before = gpu->why;
	va_end(args);
	gpu->why = before ? g_strconcat(before, "; ", text, NULL) : g_steal_pointer(&text);
}

/* The file whose title a card's name is the beginning of: "NVIDIA H200", "NVIDIA H200 SXM 141 GB".
 */
static char *find_datasheet(const char *device, GError **error)
{
	g_auto(GStrv) names = kvt_model_names(KVT_MODEL_GPU, error);
	for (char **name = names; name && *name; name++) {
		g_autoptr(kvt_gpu) gpu = kvt_gpu_load(*name, error);
		if (!gpu)
			return NULL;
		if (g_str_has_prefix(gpu->title, device) || g_str_has_prefix(device, gpu->title))
			return g_strdup(*name);
	}
	if (names)
		kvt_error_usage(error,
			"calibrate: %s: no file in models/gpu is called so, expected --dense GPU: "
			"whose datasheet it has",
			device);
	return NULL;
}

/* What PCIe the card sits on, as the system says: "32.0 GT/s PCIe", "16". */
static void find_link(kvt_gpu_calibration *gpu, const char *bus)
{
	static const double rates[] = { 2.5, 5, 8, 16, 32, 64 };
	g_autofree char *name = g_ascii_strdown(bus, -1);
	g_autofree char *folder = g_build_filename("/sys/bus/pci/devices", name, NULL);
	g_autofree char *speed_file = g_build_filename(folder, "max_link_speed", NULL);
	g_autofree char *width_file = g_build_filename(folder, "max_link_width", NULL);
	g_autofree char *speed = NULL, *width = NULL;
	if (!*bus || !g_file_get_contents(speed_file, &speed, NULL, NULL) ||
		!g_file_get_contents(width_file, &width, NULL, NULL))
		return;
	double rate = g_ascii_strtod(speed, NULL);
	uint64_t lanes = g_ascii_strtoull(width, NULL, 10);
	for (unsigned i = 2; i < G_N_ELEMENTS(rates); i++)
		if (rate == rates[i] && lanes >= 1 && lanes <= 32) {
			gpu->pcie_generation = i + 1;
			gpu->pcie_lanes = (unsigned)lanes;
		}
}

static gboolean describe(
	kvt_gpu_calibration *gpu, const kvt_gpu_calibrate_settings *given, GError **error)
{
	kvt_gpu_description is = { .name = "" };
	given->gpu->ops->describe(given->gpu, &is);
	g_autoptr(GDateTime) now = g_date_time_new_now_utc();
	gpu->device = g_strdup(is.name);
	gpu->versions = g_strdup(is.versions);
	gpu->date = g_date_time_format(now, "%Y-%m-%d");
	gpu->memory = is.memory;
	gpu->processors = MAX(is.processors, 1);
	find_link(gpu, is.bus);
	gpu->datasheet =
		given->datasheet ? g_strdup(given->datasheet) : find_datasheet(is.name, error);
	g_autoptr(kvt_gpu) sheet = gpu->datasheet ? kvt_gpu_load(gpu->datasheet, error) : NULL;
	return sheet != NULL;
}

gboolean kvt_gpu_calibration_measure(
	kvt_gpu_calibration *gpu, const kvt_calibrate_settings *settings, GError **error)
{
	kvt_gpu_bench bench;
	if (!describe(gpu, settings->gpu, error))
		return FALSE;
	gboolean good = kvt_gpu_bench_open(&bench, settings, error) &&
			kvt_calibrate_gpu_copies(&bench, gpu, error) &&
			kvt_calibrate_gpu_calls(&bench, gpu, error) &&
			kvt_calibrate_gpu_attention(&bench, gpu, error) &&
			kvt_calibrate_gpu_products(&bench, gpu, error);
	kvt_gpu_bench_close(&bench);
	return good;
}

double kvt_gpu_calibration_read_rate(const kvt_gpu_calibration *gpu)
{
	double most = 0;
	for (unsigned i = 0; i < gpu->attention->len; i++) {
		const kvt_gpu_attention_point *p =
			&g_array_index(gpu->attention, kvt_gpu_attention_point, i);
		double bytes = 2.0 * p->kv_heads * p->head_dim *
			       (double)kvt_element_bytes(p->element) * (double)p->tokens;
		if (!p->prefill)
			most = MAX(most, bytes / p->seconds.value);
	}
	return most;
}

unsigned kvt_gpu_calibration_copies(const kvt_gpu_calibration *gpu, bool to_gpu,
	const kvt_gpu_copy_point **points, unsigned most)
{
	unsigned n = 0;
	for (unsigned i = 0; i < gpu->copies->len; i++) {
		const kvt_gpu_copy_point *p = &g_array_index(gpu->copies, kvt_gpu_copy_point, i);
		if (p->to_gpu != to_gpu || p->way != KVT_GPU_COPY_AUTOMATIC)
			continue;
		unsigned at = n;
		while (at > 0 && points[at - 1]->size > p->size)
			at--;
		if (n == most)
			continue;
		memmove(points + at + 1, points + at, (n - at) * sizeof(*points));
		points[at] = p;
		n++;
	}
	return n;
}
