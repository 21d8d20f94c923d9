/* models_check.c: `kvtier models check` and `fit`: kernel tables against measured kernel times, and
 * new tables from them. */
#include <glib/gstdio.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#include "models/kernel_models.h"
#include "sim/base/error.h"
#include "sim/base/output.h"
#include "sim/cmd/command_options.h"
#include "sim/cmd/models_command.h"

static const kvt_command check_action = {
	.name = "models check",
	.summary = "Compare predicted kernel times with measured ones.",
	.help = "Errors are |predicted / measured - 1| over the rows of at least --min; rows of\n"
		"kernels that the tables do not know are counted and left out. By itself it "
		"checks\nthe GPU's tables. --leave-out fits the rows anew without a random share "
		"of "
		"their\nshapes and checks on that share; --train-below fits to the small ones and "
		"checks on\nthe largest. The columns of a CSV are those of models/kernel_csv.h.\n\n"
		"  kvtier models check --gpu l40s --kernels l40s-gemm.csv --leave-out 30%",
};

static const kvt_command fit_action = {
	.name = "models fit",
	.summary = "Fit a GPU's kernel tables to measured kernel times.",
	.help = "Writes a table for each kind of kernel among the rows: DIR/GPU-attention.table,\n"
		"-gemm.table and -collective.table, named as in the GPU's file.\n\n"
		"  kvtier models fit --gpu l40s --kernels l40s-prefill-attention.csv \\\n"
		"      --kernels l40s-decode-attention.csv -o models/gpu/kernels",
};

/* All measured rows of some files, in order. The files own the strings. */
typedef struct kvt_measured {
	GPtrArray *files;
	GArray *rows;
} kvt_measured;

static void measured_clear(kvt_measured *measured)
{
	if (measured->rows != NULL)
		g_array_free(measured->rows, TRUE);
	if (measured->files != NULL)
		g_ptr_array_free(measured->files, TRUE);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(kvt_measured, measured_clear)

static void free_csv(void *csv)
{
	kvt_kernel_csv_free(csv);
}

static gboolean read_measured(char **paths, kvt_measured *measured, GError **error)
{
	measured->files = g_ptr_array_new_with_free_func(free_csv);
	measured->rows = g_array_new(FALSE, FALSE, sizeof(kvt_kernel_row));
	for (char **path = paths; *path != NULL; path++) {
		kvt_kernel_csv *csv = kvt_kernel_csv_load(*path, error);
		if (csv == NULL)
			return FALSE;
		g_ptr_array_add(measured->files, csv);
		g_array_append_vals(measured->rows, csv->rows, (guint)csv->count);
	}
	return TRUE;
}

/* What both actions take. */
typedef struct kvt_kernel_options {
	char *gpu, **kernels, *least, *leave_out, *train_below, *seed;
} kvt_kernel_options;

static void kernel_options_clear(kvt_kernel_options *given)
{
	g_free(given->gpu);
	g_strfreev(given->kernels);
	g_free(given->least);
	g_free(given->leave_out);
	g_free(given->train_below);
	g_free(given->seed);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(kvt_kernel_options, kernel_options_clear)

/* The GPU and the rows that the options name. */
static kvt_gpu *read_inputs(
	const char *action, const kvt_kernel_options *given, kvt_measured *measured, GError **error)
{
	if (given->gpu == NULL || given->kernels == NULL) {
		kvt_error_usage(error, "%s: expected %s, see \"kvtier %s --help\"", action,
			given->gpu == NULL ? "--gpu NAME" : "--kernels FILE.csv", action);
		return NULL;
	}
	g_autoptr(kvt_gpu) gpu = kvt_gpu_load(given->gpu, error);
	if (gpu == NULL || !read_measured(given->kernels, measured, error))
		return NULL;
	return g_steal_pointer(&gpu);
}

/* A share as 25%, 0.25 or 1/4, above 0 and below 1. */
static gboolean read_share(const char *option, const char *text, double *share, GError **error)
{
	const char *slash = strchr(text, '/');
	guint64 over, under;
	if (slash != NULL) {
		g_autofree char *top = g_strndup(text, (gsize)(slash - text));
		if (g_ascii_string_to_unsigned(top, 10, 1, 1000000, &over, NULL) &&
			g_ascii_string_to_unsigned(slash + 1, 10, 1, 1000000, &under, NULL))
			*share = (double)over / (double)under;
		else
			*share = 0;
	} else if (!kvt_command_quantity(option, text, KVT_UNIT_SHARE, share, error)) {
		return FALSE;
	}
	if (*share > 0 && *share < 1)
		return TRUE;
	g_autofree char *quoted = kvt_error_quote(text);
	return kvt_error_usage(
		error, "%s: %s, expected a share such as 30%% or 1/4", option, quoted);
}

/* How a check is to be done. */
typedef struct kvt_check_plan {
	double least, leave_out, train_below; /* shares 0 where they were not asked for */
	uint64_t seed;
} kvt_check_plan;

static gboolean read_plan(const kvt_kernel_options *given, kvt_check_plan *plan, GError **error)
{
	guint64 seed = 1;
	*plan = (kvt_check_plan){ .least = KVT_KERNEL_CHECK_SECONDS };
	if (given->least != NULL &&
		!kvt_command_quantity("--min", given->least, KVT_UNIT_TIME, &plan->least, error))
		return FALSE;
	if (given->leave_out != NULL && given->train_below != NULL)
		return kvt_error_usage(error, "expected --leave-out or --train-below, not both");
	if (given->leave_out != NULL &&
		!read_share("--leave-out", given->leave_out, &plan->leave_out, error))
		return FALSE;
	if (given->train_below != NULL &&
		!read_share("--train-below", given->train_below, &plan->train_below, error))
		return FALSE;
	if (given->seed != NULL &&
		!g_ascii_string_to_unsigned(given->seed, 10, 0, G_MAXUINT64, &seed, NULL)) {
		g_autofree char *quoted = kvt_error_quote(given->seed);
		return kvt_error_usage(error, "--seed: %s, expected a whole number", quoted);
	}
	if (given->seed != NULL && given->leave_out == NULL)
		return kvt_error_usage(error, "--seed: expected with --leave-out only");
	plan->seed = seed;
	return TRUE;
}

static gboolean check_rows(const kvt_gpu *gpu, const kvt_kernel_models *models,
	const kvt_check_plan *plan, const kvt_kernel_row *rows, size_t count, kvt_kernel_check *out,
	GError **error)
{
	if (plan->leave_out > 0)
		return kvt_kernel_check_leave_out(&kvt_gpu_fitter, gpu, rows, count,
			plan->leave_out, plan->seed, plan->least, out, error);
	if (plan->train_below > 0)
		return kvt_kernel_check_train_below(&kvt_gpu_fitter, gpu, rows, count,
			plan->train_below, plan->least, out, error);
	kvt_kernel_check_rows(&kvt_gpu_fitter, models, rows, count, plan->least, out);
	return TRUE;
}

/* "m 8, n 4096, k 512" and so on: the shape of the row that is predicted worst. */
static char *describe(const kvt_kernel_row *row)
{
	if (row->kind == KVT_KERNEL_GEMM)
		return g_strdup_printf("%s %s, m %" G_GINT64_FORMAT ", n %" G_GINT64_FORMAT
				       ", k %" G_GINT64_FORMAT,
			row->source, row->dtype, row->gemm.m, row->gemm.n, row->gemm.k);
	if (row->kind == KVT_KERNEL_COLLECTIVE)
		return g_strdup_printf("%s %s %s, %" G_GINT64_FORMAT " GPUs, %" G_GINT64_FORMAT
				       " elements",
			row->source, row->op, row->dtype, row->collective.gpus,
			row->collective.elements);
	return g_strdup_printf("%s %s, batch %" G_GINT64_FORMAT ", heads %" G_GINT64_FORMAT
			       "/%" G_GINT64_FORMAT ", head_dim %" G_GINT64_FORMAT
			       ", %" G_GINT64_FORMAT " tokens after %" G_GINT64_FORMAT,
		row->source, row->kv_dtype, row->attention.batch, row->attention.heads,
		row->attention.kv_heads, row->attention.head_dim, row->attention.isl,
		row->attention.step);
}

static const kvt_column check_columns[] = {
	{ "kind", "kernels", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "rows", "rows", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "mape", "mean error", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.2f%%", 100 },
	{ "p50", "median", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.2f%%", 100 },
	{ "p90", "p90", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.2f%%", 100 },
	{ "worst", "worst", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%.1f%%", 100 },
	{ "bias", "bias", KVT_CELL_NUMBER, KVT_UNIT_SHARE, "%+.2f%%", 100 },
	{ "small", "below --min", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "unknown", "unknown", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "fitted", "fitted to", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ "worst_kernel", "worst kernel", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ 0 },
};

static void add_check(kvt_table *table, const char *kind, const kvt_kernel_check *check)
{
	bool judged = check->rows > 0;
	g_autofree char *worst = judged ? describe(&check->worst_row) : NULL;
	kvt_table_add_row(table);
	kvt_table_add_text(table, kind);
	kvt_table_add_integer(table, (int64_t)check->rows);
	const double figures[] = { check->mape, check->p50, check->p90, check->worst, check->bias };
	for (size_t i = 0; i < G_N_ELEMENTS(figures); i++) {
		/* No rows have no error, not an error of 0. */
		kvt_table_add_number(table, judged ? figures[i] : (double)NAN);
	}
	kvt_table_add_integer(table, (int64_t)check->small);
	kvt_table_add_integer(table, (int64_t)check->unknown);
	kvt_table_add_integer(table, (int64_t)check->fitted);
	kvt_table_add_text(table, worst);
}

static void print_check(const kvt_command_options *options, const kvt_gpu *gpu,
	const kvt_table *kinds, const kvt_table *all, GError **error)
{
	if (options->format != KVT_FORMAT_JSON) {
		kvt_command_print_table(options, kvt_table_rows(kinds) > 1 ? kinds : all, error);
		return;
	}
	json_t *result = kvt_json_result("models-check", 1);
	json_t *rows = kvt_table_to_json(all), *of_kinds = kvt_table_to_json(kinds);
	json_object_set_new(result, "gpu", kvt_json_text(gpu->name));
	json_object_update(result, json_array_get(rows, 0));
	json_object_set_new(result, "kinds", of_kinds);
	kvt_command_print_json(options, result, error);
	json_decref(rows);
	json_decref(result);
}

/* Checks each kind of kernel apart and all together. */
static void check_kinds(const kvt_command_options *options, const kvt_gpu *gpu,
	const kvt_check_plan *plan, const GArray *rows, GError **error)
{
	const kvt_kernel_row *first = (const kvt_kernel_row *)(const void *)rows->data;
	bool fresh = plan->leave_out > 0 || plan->train_below > 0;
	g_autoptr(kvt_kernel_models) models = fresh ? NULL : kvt_kernel_models_load(gpu, error);
	if (!fresh && models == NULL)
		return;
	kvt_kernel_check check;
	g_autoptr(kvt_table) all = kvt_table_new(check_columns);
	g_autoptr(kvt_table) kinds = kvt_table_new(check_columns);
	if (!check_rows(gpu, models, plan, first, rows->len, &check, error))
		return;
	unsigned present = 0, last = 0;
	for (unsigned kind = 0; kind < KVT_KERNEL_KINDS; kind++) {
		g_autoptr(GArray) some = g_array_new(FALSE, FALSE, sizeof(kvt_kernel_row));
		for (guint i = 0; i < rows->len; i++) {
			if (first[i].kind == kind)
				g_array_append_val(some, first[i]);
		}
		if (some->len == 0)
			continue;
		present++;
		last = kind;
		kvt_kernel_check of_kind = check;
		if (some->len < rows->len &&
			!check_rows(gpu, models, plan,
				(const kvt_kernel_row *)(const void *)some->data, some->len,
				&of_kind, error))
			return;
		add_check(kinds, kvt_kernel_kind_name((kvt_kernel_kind)kind), &of_kind);
	}
	add_check(all, present > 1 ? "all" : kvt_kernel_kind_name((kvt_kernel_kind)last), &check);
	print_check(options, gpu, kinds, all, error);
}

int kvt_models_check_run(int argc, char **argv, GError **error)
{
	g_auto(kvt_kernel_options) given = { 0 };
	const GOptionEntry own[] = {
		{ "gpu", 0, 0, G_OPTION_ARG_FILENAME, &given.gpu, "whose kernels they are",
			"NAME" },
		{ "kernels", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &given.kernels,
			"measured times; repeatable", "FILE.csv" },
		{ "leave-out", 0, 0, G_OPTION_ARG_FILENAME, &given.leave_out,
			"fit without this share of the shapes, check on it", "SHARE" },
		{ "seed", 0, 0, G_OPTION_ARG_FILENAME, &given.seed, "which shapes are left out (1)",
			"N" },
		{ "train-below", 0, 0, G_OPTION_ARG_FILENAME, &given.train_below,
			"fit to sizes up to this share of the largest, check on the largest",
			"SHARE" },
		{ "min", 0, 0, G_OPTION_ARG_FILENAME, &given.least,
			"leave out shorter rows (0.1ms)", "TIME" },
		{ 0 },
	};
	const kvt_command_syntax syntax = { &check_action, KVT_TAKES_FORMAT | KVT_TAKES_OUTPUT, 0,
		0, own };
	g_auto(kvt_command_options) options = { 0 };
	g_auto(kvt_measured) measured = { 0 };
	kvt_check_plan plan;
	if (!kvt_command_parse(&syntax, argc, argv, &options, error) ||
		!read_plan(&given, &plan, error))
		return 0;
	g_autoptr(kvt_gpu) gpu = read_inputs(check_action.name, &given, &measured, error);
	if (gpu != NULL)
		check_kinds(&options, gpu, &plan, measured.rows, error);
	return 0;
}

static const kvt_column fit_columns[] = {
	{ "file", "file", KVT_CELL_TEXT, KVT_UNIT_NONE, NULL, 0 },
	{ "bytes", "size", KVT_CELL_INTEGER, KVT_UNIT_NONE, NULL, 0 },
	{ 0 },
};

/* The tables that were written and how large they are. */
static gboolean print_written(const GPtrArray *written, GError **error)
{
	const kvt_command_options plain = { .format = KVT_FORMAT_TABLE };
	g_autoptr(kvt_table) table = kvt_table_new(fit_columns);
	for (guint i = 0; i < written->len; i++) {
		GStatBuf status;
		const char *path = g_ptr_array_index(written, i);
		if (g_stat(path, &status) != 0)
			return kvt_error_failed(error, "%s: %s", path, g_strerror(errno));
		kvt_table_add_row(table);
		kvt_table_add_text(table, path);
		kvt_table_add_integer(table, (int64_t)status.st_size);
	}
	return kvt_command_print_table(&plain, table, error);
}

int kvt_models_fit_run(int argc, char **argv, GError **error)
{
	g_auto(kvt_kernel_options) given = { 0 };
	const GOptionEntry own[] = {
		{ "gpu", 0, 0, G_OPTION_ARG_FILENAME, &given.gpu, "whose kernels they are",
			"NAME" },
		{ "kernels", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &given.kernels,
			"measured times; repeatable", "FILE.csv" },
		{ 0 },
	};
	const kvt_command_syntax syntax = { &fit_action, KVT_TAKES_OUTPUT, 0, 0, own };
	g_auto(kvt_command_options) options = { 0 };
	g_auto(kvt_measured) measured = { 0 };
	if (!kvt_command_parse(&syntax, argc, argv, &options, error))
		return 0;
	g_autoptr(kvt_gpu) gpu = read_inputs(fit_action.name, &given, &measured, error);
	if (gpu == NULL)
		return 0;
	if (options.output == NULL)
		return kvt_error_usage(error, "models fit: expected -o DIR");
	if (g_mkdir_with_parents(options.output, 0777) != 0)
		return kvt_error_failed(
			error, "%s: cannot make the folder: %s", options.output, g_strerror(errno));
	const kvt_kernel_row *rows = (const kvt_kernel_row *)(const void *)measured.rows->data;
	g_autoptr(kvt_kernel_models) models =
		kvt_kernel_models_fit(gpu, rows, measured.rows->len, error);
	g_autoptr(GPtrArray) written = g_ptr_array_new_with_free_func(g_free);
	if (models != NULL && kvt_kernel_models_save(models, gpu, options.output, written, error))
		print_written(written, error);
	return 0;
}
