/* calibrate_command.c: `kvtier calibrate`: measures this machine and writes its model files, or
 * makes them anew from a record. The measuring is in emu/. */
#include <math.h>
#include <string.h>

#include "emu/calibrate/cublas_gemm.h"
#include "emu/calibrate/gpu_calibration.h"
#include "emu/gpu/cuda_gpu.h"
#include "sim/base/error.h"
#include "sim/base/progress.h"
#include "sim/cmd/calibrate_rows.h"
#include "sim/cmd/command.h"
#include "sim/cmd/command_options.h"

/* Waiting longer than this for a core shows in what is measured by the clock. */
static const double BUSY = 0.05;

typedef struct calibrate_options {
	char *device, *tier, *store, *node, *keys, *out, *name, *from, *dense;
	gboolean quick, no_products, say;
	int threads;
} calibrate_options;

static void options_clear(calibrate_options *given)
{
	g_free(given->device);
	g_free(given->tier);
	g_free(given->store);
	g_free(given->node);
	g_free(given->keys);
	g_free(given->out);
	g_free(given->name);
	g_free(given->from);
	g_free(given->dense);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(calibrate_options, options_clear)

static const kvt_column columns[] = {
	{ "part", "part", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "what", "what", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "value", NULL, KVT_CELL_NUMBER, KVT_UNIT_NONE, NULL, 0 },
	{ "text", "value", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "spread", "spread", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.1f%%", 100 },
	{ "source", "source", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ 0 },
};

static void add_fit(kvt_table *table, const char *part, const kvt_drive_fit *fit)
{
	g_autofree char *source = g_strdup_printf(
		"fitted: %u points, median error %.1f%%, largest %.0f%%; commands %s "
		"bytes",
		fit->points, 100 * fit->error, 100 * fit->worst,
		fit->serial ? "in turn with" : "beside");
	double off = MAX(fit->error, fit->spread);
	kvt_calibrate_row(table, part, "bandwidth", fit->bandwidth, KVT_UNIT_RATE, off, source);
	kvt_calibrate_row(
		table, part, "of one command", fit->command_rate, KVT_UNIT_RATE, off, source);
	kvt_calibrate_row(table, part, "small I/Os", fit->iops, KVT_UNIT_FREQUENCY, off, source);
	kvt_calibrate_row(table, part, "latency, mean", fit->latency, KVT_UNIT_TIME, off, source);
	kvt_calibrate_row(table, part, "latency, p99", fit->latency_p99, KVT_UNIT_TIME, off,
		"derived: the measured tail");
	kvt_calibrate_row(table, part, "useful depth", fit->depth, KVT_UNIT_COUNT, NAN,
		"measured: no more is 5% faster");
}

static void add_curve(
	kvt_table *table, const GArray *points, const char *const *parts, const kvt_drive_fit *fits)
{
	for (unsigned i = 0; i < points->len; i++) {
		const kvt_drive_point *p = &g_array_index(points, kvt_drive_point, i);
		g_autofree char *size = kvt_unit_format((double)p->size, KVT_UNIT_BYTES);
		g_autofree char *what = g_strdup_printf("%s, %u in flight", size, p->depth);
		double model = kvt_drive_fit_rate(&fits[p->write], p->size, p->depth);
		g_autofree char *latency = kvt_unit_format(p->latency, KVT_UNIT_TIME);
		g_autofree char *tail = kvt_unit_format(p->latency_p99, KVT_UNIT_TIME);
		g_autofree char *source =
			g_strdup_printf("measured: latency %s, p99 %s; the model says %+.0f%%",
				latency, tail, 100 * (model / p->rate.value - 1));
		kvt_calibrate_row(table, parts[p->write], what, p->rate.value, KVT_UNIT_RATE,
			kvt_calibrate_spread(&p->rate), source);
	}
}

static void add_fetches(kvt_table *table, const GArray *points)
{
	for (unsigned i = 0; i < points->len; i++) {
		const kvt_drive_point *p = &g_array_index(points, kvt_drive_point, i);
		g_autofree char *size = kvt_unit_format((double)p->size, KVT_UNIT_BYTES);
		g_autofree char *what = g_strdup_printf("of %s, %u in flight", size, p->depth);
		g_autofree char *rate =
			kvt_unit_format(p->rate.value / (double)p->size, KVT_UNIT_FREQUENCY);
		g_autofree char *source = g_strdup_printf("measured: %s", rate);
		kvt_calibrate_row(table, "where pages lie", what, p->latency, KVT_UNIT_TIME,
			kvt_calibrate_spread(&p->rate), source);
	}
}

/* What reads of the remote tier take, as fitted and by size and depth. */
static void add_remote(kvt_table *table, const kvt_calibration *c, const kvt_drive_fit *read)
{
	kvt_remote_fit fit = kvt_remote_fit_points(c, read);
	g_autofree char *how =
		g_strdup_printf("fitted: %u points, median error %.1f%%, largest %.0f%%",
			fit.points, 100 * fit.error, 100 * fit.worst);
	if (c->remote->len == 0)
		return;
	kvt_calibrate_row(table, "remote tier", "processors, a request", fit.seconds, KVT_UNIT_TIME,
		fit.error, how);
	if (fit.per_byte > 0)
		kvt_calibrate_row(table, "remote tier", "bytes a processor moves", 1 / fit.per_byte,
			KVT_UNIT_RATE, fit.error, how);
	kvt_calibrate_row(table, "remote tier", "waiting, a request", fit.latency, KVT_UNIT_TIME,
		NAN, "derived: beyond processors' and the network's time");
	kvt_calibrate_row(table, "remote tier", "from the node's drives", c->from_drives,
		KVT_UNIT_SHARE, NAN, "measured: of the pages that were read");
	for (unsigned i = 0; i < c->remote->len; i++) {
		const kvt_drive_point *p = &g_array_index(c->remote, kvt_drive_point, i);
		g_autofree char *size = kvt_unit_format((double)p->size, KVT_UNIT_BYTES);
		g_autofree char *what = g_strdup_printf("%s, %u in flight", size, p->depth);
		g_autofree char *latency = kvt_unit_format(p->latency, KVT_UNIT_TIME);
		g_autofree char *busy = kvt_unit_format(p->busy, KVT_UNIT_TIME);
		g_autofree char *source =
			g_strdup_printf("measured: latency %s, processors %s", latency, busy);
		kvt_calibrate_row(table, "remote tier", what, p->rate.value, KVT_UNIT_RATE,
			kvt_calibrate_spread(&p->rate), source);
	}
}

static void add_host(kvt_table *table, const kvt_calibration *c)
{
	for (unsigned i = 0; i < KVT_HOST_FIGURES; i++) {
		const kvt_host_figure_info *info = &kvt_host_figures[i];
		if (!(c->host[i].value > 0))
			continue;
		bool clock = i >= KVT_HOST_TIMER && i <= KVT_HOST_MERGE;
		kvt_calibrate_row(table, "host", info->what, c->host[i].value, (kvt_unit)info->unit,
			kvt_calibrate_spread(&c->host[i]),
			clock ? "measured: by the clock" : "measured: CPU time, median of 5");
	}
	if (c->gpu)
		return;
	kvt_calibrate_row(table, "host", "waiting for a core", kvt_calibration_waited(c),
		KVT_UNIT_SHARE, NAN,
		"measured: of the loop's thread, while the drive was measured");
	kvt_calibrate_row(table, "host", "dispatch of attention", kvt_calibration_dispatch(c),
		KVT_UNIT_TIME, NAN, "measured: by the clock less CPU time, of short calls");
	double cpu = kvt_calibration_io_cpu(c);
	if (cpu > 0)
		kvt_calibrate_row(table, "host", "CPU an I/O", cpu, KVT_UNIT_TIME, NAN,
			"measured: CPU time, reads of up to 16 KiB");
}

static void add_attention(kvt_table *table, const kvt_calibration *c)
{
	for (unsigned i = 0; i < c->attention->len; i++) {
		const kvt_attention_point *p = &g_array_index(c->attention, kvt_attention_point, i);
		g_autofree char *prefix =
			p->prefix > 0 ? g_strdup_printf(" after %" G_GUINT64_FORMAT, p->prefix)
				      : g_strdup("");
		g_autofree char *what = g_strdup_printf("%u/%u heads, %" G_GUINT64_FORMAT "%s",
			p->heads, p->kv_heads, p->tokens, prefix);
		g_autofree char *clock = kvt_unit_format(p->seconds.value, KVT_UNIT_TIME);
		g_autofree char *source =
			g_strdup_printf("measured: CPU time and dispatch; by the clock %s", clock);
		kvt_calibrate_row(table, p->prefill ? "prefill attention" : "decode attention",
			what, kvt_calibration_attention_seconds(c, p), KVT_UNIT_TIME,
			kvt_calibrate_spread(&p->cpu), source);
	}
}

static void add_fio(kvt_table *table, const calibrate_options *given)
{
	kvt_calibrate_settings settings = { .store = given->store, .quick = given->quick };
	g_autofree char *why = NULL;
	GArray *points = kvt_calibrate_against_fio(&settings, &why);
	for (unsigned i = 0; i < points->len; i++) {
		const kvt_fio_point *p = &g_array_index(points, kvt_fio_point, i);
		g_autofree char *size = kvt_unit_format((double)p->size, KVT_UNIT_BYTES);
		g_autofree char *what = g_strdup_printf("%s, %u in flight", size, p->depth);
		g_autofree char *ours = kvt_unit_format(p->rate, KVT_UNIT_RATE);
		g_autofree char *theirs = kvt_unit_format(p->fio_rate, KVT_UNIT_RATE);
		g_autofree char *source =
			g_strdup_printf("measured: %s over %s in one run", ours, theirs);
		kvt_calibrate_row(table, "beside fio", what, p->rate / p->fio_rate, KVT_UNIT_SHARE,
			NAN, source);
	}
	if (why)
		g_printerr("kvtier: calibrate: not compared with fio: %s\n", why);
	g_array_unref(points);
}

static void add_perftest(kvt_table *table, const kvt_calibration *c)
{
	for (unsigned i = 0; i < c->perftest->len; i++) {
		const kvt_perftest_point *p = &g_array_index(c->perftest, kvt_perftest_point, i);
		kvt_unit unit = p->depth == 1 ? KVT_UNIT_TIME : KVT_UNIT_RATE;
		g_autofree char *size = kvt_unit_format((double)p->size, KVT_UNIT_BYTES);
		g_autofree char *what = g_strdup_printf("%s, %u in flight", size, p->depth);
		g_autofree char *ours = kvt_unit_format(p->ours, unit);
		g_autofree char *theirs = kvt_unit_format(p->theirs, unit);
		g_autofree char *source =
			g_strdup_printf("measured: %s over %s in one run", ours, theirs);
		kvt_calibrate_row(table, p->depth == 1 ? "beside ib_read_lat" : "beside ib_read_bw",
			what, p->ours / p->theirs, KVT_UNIT_SHARE, NAN, source);
	}
	if (c->why)
		g_printerr("kvtier: calibrate: not compared with perftest: %s\n", c->why);
}

/* What was said last, for a log. */
typedef struct said {
	bool wanted;
	const char *what;
	gint64 begun;
} said;

static void show_progress(void *arg, const char *what, unsigned done, unsigned total)
{
	said *s = arg;
	if (s->wanted && g_strcmp0(s->what, what) != 0)
		g_printerr("kvtier: calibrate: %s, after %.1f s\n", what,
			(double)(g_get_monotonic_time() - s->begun) * 1e-6);
	else if (!s->wanted && kvt_progress_wanted())
		g_printerr("\r\033[Kcalibrate: %s %u/%u", what, done, total);
	s->what = what;
}

static kvt_calibration *measure_with(
	const calibrate_options *given, const kvt_gpu_calibrate_settings *gpu, GError **error)
{
	said so_far = { given->say, NULL, g_get_monotonic_time() };
	kvt_calibrate_settings settings = { .gpu = gpu,
		.store = given->store,
		.node = given->node,
		.keys = given->keys,
		.quick = given->quick,
		.threads = (unsigned)given->threads,
		.progress = show_progress,
		.progress_arg = &so_far };
	kvt_calibration *c = kvt_calibrate(given->name ? given->name : "local", &settings, error);
	if (!given->say && kvt_progress_wanted())
		g_printerr("\r\033[K");
	return c;
}

static kvt_calibration *measure(const calibrate_options *given, GError **error)
{
	if (g_strcmp0(given->device, "cuda") != 0)
		return measure_with(given, NULL, error);
	kvt_gpu_calibrate_settings gpu = { .gpu = kvt_cuda_gpu_new(NULL, error),
		.datasheet = given->dense };
	if (!gpu.gpu)
		return NULL;
	g_autofree char *why = NULL;
	if (given->say && !given->no_products)
		g_printerr("kvtier: calibrate: looking for cuBLAS\n");
	kvt_cublas *cublas = given->no_products ? NULL : kvt_cublas_new(&why);
	gpu.products = cublas ? kvt_cublas_products(cublas) : NULL;
	gpu.why_no_products = given->no_products ? "--no-products" : why;
	kvt_calibration *c = measure_with(given, &gpu, error);
	kvt_cublas_free(cublas);
	gpu.gpu->ops->free(gpu.gpu);
	return c;
}

static kvt_calibration *read_record(const calibrate_options *given, GError **error)
{
	kvt_calibration *c = kvt_calibration_load(given->from, error);
	if (c && given->name) {
		g_free(c->name);
		c->name = g_strdup(given->name);
	}
	return c;
}

static void print(const kvt_command_options *options, const calibrate_options *given,
	const kvt_calibration *c, const kvt_drive_fit *fits, GError **error)
{
	if (options->format == KVT_FORMAT_JSON) {
		json_t *record = kvt_calibration_to_json(c);
		kvt_command_print_json(options, record, error);
		json_decref(record);
		return;
	}
	g_autoptr(kvt_table) table = kvt_table_new(columns);
	bool drive = c->drive->len > 0;
	static const char *const ways[2][2] = { { "network reads", "network writes" },
		{ "drive reads", "drive writes" } };
	static const char *const curves[2][2] = { { "one-sided read", "one-sided write" },
		{ "read curve", "write curve" } };
	bool points = kvt_calibration_points(c)->len > 0;
	for (int write = 0; points && write < 2; write++)
		add_fit(table, ways[drive][write], &fits[write]);
	if (drive)
		kvt_calibrate_row(table, "drive", "reads and writes at once", c->mixed,
			KVT_UNIT_SHARE, NAN, "measured: over the one after the other");
	add_host(table, c);
	add_curve(table, kvt_calibration_points(c), curves[drive], fits);
	add_fetches(table, c->fetches);
	add_remote(table, c, &fits[0]);
	add_attention(table, c);
	if (c->gpu)
		kvt_calibrate_gpu_rows(table, c->gpu);
	if (!given->from && drive)
		add_fio(table, given);
	add_perftest(table, c);
	kvt_command_print_table(options, table, error);
}

static void calibrate(
	const kvt_command_options *options, const calibrate_options *given, GError **error)
{
	g_autoptr(kvt_calibration) c =
		given->from ? read_record(given, error) : measure(given, error);
	if (!c)
		return;
	c->dense = g_strdup(given->dense);
	if (c->gpu && c->gpu->why)
		g_printerr("kvtier: calibrate: not measured: %s\n", c->gpu->why);
	double waited = kvt_calibration_waited(c);
	if (waited > BUSY && !given->from)
		g_printerr("kvtier: calibrate: other programs were running (the loop waited %.0f%% "
			   "of the time for a core): rates and latencies are theirs, too\n",
			100 * waited);
	kvt_drive_fit fits[2];
	const GArray *measured = kvt_calibration_points(c);
	const kvt_drive_point *points = (const kvt_drive_point *)(const void *)measured->data;
	for (int write = 0; measured->len > 0 && write < 2; write++)
		if (!kvt_drive_fit_points(points, measured->len, write, &fits[write], error))
			return;
	if (given->out) {
		g_autoptr(GPtrArray) written = g_ptr_array_new_with_free_func(g_free);
		if (!kvt_calibration_write(c, given->out, written, error))
			return;
		const char *last = g_ptr_array_index(written, written->len - 1);
		g_printerr("kvtier: calibrate: wrote %u files; experiments say: include = %s\n",
			written->len, last);
	}
	print(options, given, c, fits, error);
}

static gboolean check_options(const calibrate_options *given, GError **error)
{
	if (given->from && (given->quick || given->store || given->tier || given->device))
		return kvt_error_usage(error,
			"calibrate: --from reads a record, expected no --device, no --store, no "
			"--tier and no --quick beside it");
	if (given->device && g_strcmp0(given->device, "cuda") != 0 &&
		g_strcmp0(given->device, "cpu") != 0) {
		g_autofree char *quoted = kvt_error_quote(given->device);
		return kvt_error_usage(
			error, "calibrate: --device %s: expected cpu or cuda", quoted);
	}
	bool rdma = g_strcmp0(given->tier, "rdma") == 0;
	if (given->tier && !rdma && g_strcmp0(given->tier, "store") != 0) {
		g_autofree char *quoted = kvt_error_quote(given->tier);
		return kvt_error_usage(
			error, "calibrate: --tier %s: expected store or rdma", quoted);
	}
	if (rdma && (given->store || !given->node || !given->keys))
		return kvt_error_usage(error,
			"calibrate: --tier rdma: expected --node HOST:PORT and --keys FILE, and no "
			"--store");
	if (!rdma && (given->node || given->keys))
		return kvt_error_usage(
			error, "calibrate: --node and --keys: expected --tier rdma beside them");
	if (given->name &&
		(!*given->name || *given->name == '.' ||
			strspn(given->name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					    "0123456789._-") != strlen(given->name))) {
		g_autofree char *quoted = kvt_error_quote(given->name);
		return kvt_error_usage(error,
			"calibrate: --name %s: expected letters, digits, . _ - and no path",
			quoted);
	}
	return TRUE;
}

static int run(int argc, char **argv, GError **error)
{
	g_auto(calibrate_options) given = { 0 };
	const GOptionEntry own[] = {
		{ "device", 0, 0, G_OPTION_ARG_STRING, &given.device,
			"what attends: cpu, this machine's processor, or cuda, a GPU (cpu)",
			"DEVICE" },
		{ "tier", 0, 0, G_OPTION_ARG_STRING, &given.tier,
			"what stores pages: store, a device, or rdma, a node (store)", "TIER" },
		{ "node", 0, 0, G_OPTION_ARG_STRING, &given.node,
			"a \"kvtier node\" that runs, for --tier rdma", "HOST:PORT" },
		{ "keys", 0, 0, G_OPTION_ARG_FILENAME, &given.keys,
			"its tenants' keys, as of [emulation remote]", "FILE" },
		{ "store", 0, 0, G_OPTION_ARG_FILENAME, &given.store,
			"folder on the device that stores pages (.)", "DIR" },
		{ "out", 0, 0, G_OPTION_ARG_FILENAME, &given.out,
			"write the model files and the record there", "DIR" },
		{ "name", 0, 0, G_OPTION_ARG_FILENAME, &given.name,
			"what the files are called (local)", "NAME" },
		{ "from", 0, 0, G_OPTION_ARG_FILENAME, &given.from,
			"measure nothing: take what this record says", "NAME.json" },
		{ "dense", 0, 0, G_OPTION_ARG_FILENAME, &given.dense,
			"whose matrix products the CPU is to have (its own); whose datasheet the "
			"GPU has (by its name)",
			"GPU" },
		{ "threads", 0, 0, G_OPTION_ARG_INT, &given.threads,
			"that attend (one a core but the engine's)", "N" },
		{ "no-products", 0, 0, G_OPTION_ARG_NONE, &given.no_products,
			"of a GPU: its datasheet's matrix products, no measured ones", NULL },
		{ "say", 0, 0, G_OPTION_ARG_NONE, &given.say,
			"say in lines what is being measured: for a log", NULL },
		{ "quick", 0, 0, G_OPTION_ARG_NONE, &given.quick,
			"few points and short: for a first look", NULL },
		{ 0 },
	};
	const kvt_command_syntax syntax = { &kvt_command_calibrate,
		KVT_TAKES_FORMAT | KVT_TAKES_OUTPUT, 0, 0, own };
	g_auto(kvt_command_options) options = { 0 };
	if (!kvt_command_parse(&syntax, argc, argv, &options, error) ||
		!check_options(&given, error))
		return 0;
	bool cuda = g_strcmp0(given.device, "cuda") == 0;
	if (!given.from && !given.store && !given.node && !cuda)
		given.store = g_strdup(".");
	calibrate(&options, &given, error);
	return 0;
}

const kvt_command kvt_command_calibrate = {
	.name = "calibrate",
	.summary = "Measure this machine: a profile that run accepts",
	.arguments = NULL,
	.help = "Measures the store's device by size and depth, memory, checksums, timers, and the "
		"kernels\nof attention and scoring, and fits the models to it. With --out DIR it "
		"writes\n"
		"  NAME.ini             for experiments: include = DIR/NAME.ini\n"
		"  NAME-drive.ini, NAME-host.ini, NAME-gpu.ini, NAME-attention.csv and .table\n"
		"  NAME-nic.ini         in the drive's place, after --tier rdma\n"
		"  NAME.json            the record: all points, for --from\n\n"
		"With --device cuda it measures a GPU instead of the processor: copies by size, "
		"attention,\nlaunches, merges, and matrix products by cuBLAS where that is found; "
		"--quick takes half\na minute. Pages are then those of memory, or of a device with "
		"--store DIR.\n\n"
		"The spread is half the distance of the least and the largest repeat. What the "
		"CPU does\nis in CPU time; the drive and wake-ups are by the clock, so that other "
		"programs show.\n\n"
		"  kvtier calibrate --store /mnt/kv --out profile --name node7\n"
		"  kvtier calibrate --tier rdma --node 10.0.0.1:7471 --keys keys.ini --out "
		"profile\n"
		"  kvtier calibrate --device cuda --out profile --name card\n"
		"  kvtier calibrate --from profile/node7.json --format csv",
	.run = run,
};
