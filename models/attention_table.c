/*
 * attention_table.c: the text form of a fitted attention model, both ways.
 *
 *   kvtier-table attention 1
 *   gpu NAME SMS L2 BANDWIDTH FLOPS
 *   kernel prefill|decode SOURCE DTYPE KV_DTYPE HEAD_DIM     begins a kernel
 *   tile ROWS head|packed                                    prefill only
 *   constant NAME VALUE                                      of attention_base.h
 *   batches B ...
 *   tokens T ...
 *   heads HEADS KV_HEADS                                     and for each batch:
 *   t REACH CODES                                            two characters a T
 *   behind HEADS KV_HEADS TOKENS PREFIX FACTOR               prefill only; any number
 *
 * REACH counts the leading T that lie within what was measured. A code is ln(seconds) in steps of
 * 0.35%, two digits of base 86. FACTOR is what one sequence's prefill behind a prefix took over
 * what is made of the times without one.
 */
#include "models/attention_internal.h"

#include <math.h>
#include <string.h>

#include "models/table_text.h"
#include "sim/base/error.h"

/* Digits '(' .. '~' except '\\', in ASCII order; two of them count steps above LOWEST. */
enum { FIRST = '(', LAST = '~', SKIPPED = '\\', DIGITS = LAST - FIRST, CODES = DIGITS * DIGITS };
static const double LOWEST = -16.2; /* ln(92 ns) */
static const double STEP = 1.0 / 288;
static const char KIND[] = "attention";
enum { VERSION = 1 };

static char digit(int value)
{
	char c = (char)(FIRST + value);
	return c >= SKIPPED ? (char)(c + 1) : c;
}

static int digit_value(char c)
{
	if (c < FIRST || c > LAST || c == SKIPPED)
		return -1;
	return c - FIRST - (c > SKIPPED);
}

static int code(double log_seconds)
{
	double steps = round((log_seconds - LOWEST) / STEP);
	return (int)fmin(fmax(steps, 0), CODES - 1);
}

double kvt_attention_quantise(double log_seconds)
{
	return LOWEST + STEP * code(log_seconds);
}

static void write_axis(GString *text, const char *keyword, const GArray *values)
{
	g_string_append(text, keyword);
	for (unsigned i = 0; i < values->len; i++)
		g_string_append_printf(
			text, " %" G_GINT64_FORMAT, g_array_index(values, int64_t, i));
	g_string_append_c(text, '\n');
}

static void write_grid(GString *text, const kvt_attention_grid *grid)
{
	static const char *const phases[] = { "prefill", "decode" };
	g_string_append_printf(text, "kernel %s %s %s %s %" G_GINT64_FORMAT "\n",
		phases[grid->phase], grid->source, grid->dtype, grid->kv_dtype, grid->head_dim);
	if (grid->phase == KVT_ATTENTION_PREFILL)
		g_string_append_printf(text, "tile %d %s\n", grid->base.tile,
			grid->base.packed ? "packed" : "head");
	for (unsigned i = 0; i < kvt_attention_base_count(&grid->base); i++)
		g_string_append_printf(text, "constant %s %.6g\n",
			kvt_attention_base_name(&grid->base, i), grid->base.constants[i]);
	write_axis(text, "batches", grid->batches);
	write_axis(text, "tokens", grid->tokens);
	for (unsigned p = 0; p < grid->pairs->len; p++) {
		kvt_attention_pair pair = kvt_grid_pair(grid, p);
		g_string_append_printf(text, "heads %" G_GINT64_FORMAT " %" G_GINT64_FORMAT "\n",
			pair.heads, pair.kv_heads);
		for (unsigned b = 0; b < grid->batches->len; b++) {
			g_string_append_printf(
				text, "t %d ", grid->reach[p * grid->batches->len + b]);
			for (unsigned t = 0; t < grid->tokens->len; t++) {
				int value = code(grid->times[kvt_grid_cell(grid, p, b, t)]);
				g_string_append_c(text, digit(value / DIGITS));
				g_string_append_c(text, digit(value % DIGITS));
			}
			g_string_append_c(text, '\n');
		}
	}
	for (unsigned i = 0; i < grid->behind->len; i++) {
		const kvt_attention_behind *b =
			&g_array_index(grid->behind, kvt_attention_behind, i);
		g_string_append_printf(text,
			"behind %" G_GINT64_FORMAT " %" G_GINT64_FORMAT " %" G_GINT64_FORMAT
			" %" G_GINT64_FORMAT " %.4f\n",
			b->pair.heads, b->pair.kv_heads, b->tokens, b->prefix, b->factor);
	}
}

static const char COMMENT[] =
	"# Times of attention kernels, fitted to measured kernel times.\n"
	"# Source of the measurements and licence: ATTRIBUTION.md. Layout: "
	"models/attention_table.c.\n"
	"# A kernel's name is the one it was measured under; days and versions are as published "
	"there.\n"
	"# Fitted: the constants of models/attention_base.c; then, at each pair of query and KV "
	"heads,\n"
	"# batch (a line) and tokens (two characters), the measured time where there is one and "
	"what its\n"
	"# neighbours say where there is none, made to rise with batch and tokens.\n";

char *kvt_attention_model_text(const kvt_attention_model *model)
{
	GString *text = g_string_new(COMMENT);
	g_string_append_printf(text, "kvtier-table %s %d\n", KIND, VERSION);
	g_string_append_printf(text, "gpu %s %" G_GINT64_FORMAT " %.12g %.12g %.12g\n", model->name,
		model->gpu.sms, model->gpu.l2, model->gpu.bandwidth, model->gpu.flops);
	for (unsigned i = 0; i < model->grids->len; i++)
		write_grid(text, model->grids->pdata[i]);
	return g_string_free(text, FALSE);
}

gboolean kvt_attention_model_save(
	const kvt_attention_model *model, const char *path, GError **error)
{
	g_autofree char *text = kvt_attention_model_text(model);
	g_autoptr(GError) why = NULL;
	if (g_file_set_contents(path, text, -1, &why))
		return TRUE;
	return kvt_error_failed(error, "%s", why->message);
}

static gboolean read_gpu(kvt_table_text *table, kvt_attention_model *model, GError **error)
{
	if (!kvt_table_text_expect(table, 5, error) ||
		!kvt_table_text_integer(table, 2, "gpu: SMs", 1, 100000, &model->gpu.sms, error) ||
		!kvt_table_text_number(table, 3, "gpu: L2", 1, 1e12, &model->gpu.l2, error) ||
		!kvt_table_text_number(
			table, 4, "gpu: memory", 1, 1e18, &model->gpu.bandwidth, error) ||
		!kvt_table_text_number(table, 5, "gpu: FLOP/s", 1, 1e21, &model->gpu.flops, error))
		return FALSE;
	g_free(model->name);
	model->name = g_strdup(kvt_table_text_field(table, 1));
	return TRUE;
}

/* "kernel PHASE SOURCE DTYPE KV_DTYPE HEAD_DIM" */
static gboolean read_kernel(kvt_table_text *table, kvt_attention_model *model,
	kvt_attention_grid **grid, GError **error)
{
	int64_t head_dim = 0;
	if (!kvt_table_text_expect(table, 5, error) ||
		!kvt_table_text_integer(table, 5, "kernel: head_dim", 1, 65536, &head_dim, error))
		return FALSE;
	const char *phase = kvt_table_text_field(table, 1);
	bool decode = strcmp(phase, "decode") == 0;
	if (!decode && strcmp(phase, "prefill") != 0)
		return kvt_table_text_error(
			table, error, "kernel: '%.40s', expected prefill or decode", phase);
	for (unsigned i = 3; i <= 4; i++)
		if (!(kvt_attention_dtype_bytes(kvt_table_text_field(table, i)) > 0))
			return kvt_table_text_error(table, error,
				"kernel: '%.40s', expected a number format such as bfloat16 or fp8",
				kvt_table_text_field(table, i));
	if (model->grids->len == KVT_GRIDS_MAX)
		return kvt_table_text_error(table, error, "more than %d kernels", KVT_GRIDS_MAX);
	*grid = kvt_attention_grid_new(decode ? KVT_ATTENTION_DECODE : KVT_ATTENTION_PREFILL,
		kvt_table_text_field(table, 2), kvt_table_text_field(table, 3),
		kvt_table_text_field(table, 4), head_dim);
	g_ptr_array_add(model->grids, *grid);
	return TRUE;
}

static gboolean read_tile(kvt_table_text *table, kvt_attention_grid *grid, GError **error)
{
	int64_t tile = 0;
	if (!kvt_table_text_expect(table, 2, error) ||
		!kvt_table_text_integer(table, 1, "tile", 1, 4096, &tile, error))
		return FALSE;
	const char *rows = kvt_table_text_field(table, 2);
	grid->base.tile = (int)tile;
	grid->base.packed = strcmp(rows, "packed") == 0;
	if (!grid->base.packed && strcmp(rows, "head") != 0)
		return kvt_table_text_error(
			table, error, "tile: '%.40s', expected head or packed", rows);
	return TRUE;
}

static gboolean read_constant(kvt_table_text *table, kvt_attention_grid *grid, GError **error)
{
	if (!kvt_table_text_expect(table, 2, error))
		return FALSE;
	const char *name = kvt_table_text_field(table, 1);
	for (unsigned i = 0; i < kvt_attention_base_count(&grid->base); i++)
		if (strcmp(kvt_attention_base_name(&grid->base, i), name) == 0)
			return kvt_table_text_number(
				table, 2, name, 1e-30, 1e30, &grid->base.constants[i], error);
	return kvt_table_text_error(table, error, "constant: unknown name '%.40s'", name);
}

static gboolean read_axis(
	kvt_table_text *table, unsigned limit, bool again, GArray *values, GError **error)
{
	int64_t value = 0;
	if (again || values->len > 0)
		return kvt_table_text_error(table, error, "%s: given twice or after heads",
			kvt_table_text_field(table, 0));
	if (table->fields->len < 2 || table->fields->len > limit + 1)
		return kvt_table_text_error(table, error, "%s: %u values, expected 1 to %u",
			kvt_table_text_field(table, 0), table->fields->len - 1, limit);
	for (unsigned i = 1; i < table->fields->len; i++) {
		if (!kvt_table_text_integer(table, i, kvt_table_text_field(table, 0), value + 1,
			    (int64_t)1 << 40, &value, error))
			return FALSE;
		g_array_append_val(values, value);
	}
	return TRUE;
}

static gboolean read_heads(kvt_table_text *table, kvt_attention_grid *grid, GError **error)
{
	kvt_attention_pair pair;
	if (!kvt_table_text_expect(table, 2, error) ||
		!kvt_table_text_integer(table, 1, "heads", 1, 65536, &pair.heads, error) ||
		!kvt_table_text_integer(
			table, 2, "heads: KV heads", 1, pair.heads, &pair.kv_heads, error))
		return FALSE;
	if (grid->batches->len == 0 || grid->tokens->len == 0)
		return kvt_table_text_error(
			table, error, "heads: expected batches and tokens before it");
	if (grid->pairs->len == KVT_GRID_PAIRS_MAX)
		return kvt_table_text_error(
			table, error, "more than %d pairs of heads", KVT_GRID_PAIRS_MAX);
	if (grid->pairs->len > 0) {
		kvt_attention_pair last = kvt_grid_pair(grid, grid->pairs->len - 1);
		if (pair.kv_heads < last.kv_heads ||
			(pair.kv_heads == last.kv_heads && pair.heads <= last.heads))
			return kvt_table_text_error(
				table, error, "heads: expected them by KV heads, then heads");
	}
	g_array_append_val(grid->pairs, pair);
	kvt_attention_grid_allocate(grid);
	return TRUE;
}

/* "t REACH CODES": batch `batch` of the last pair. */
static gboolean read_times(
	kvt_table_text *table, kvt_attention_grid *grid, unsigned batch, GError **error)
{
	int64_t reach = 0;
	unsigned pair = grid->pairs->len - 1, count = grid->tokens->len;
	if (!kvt_table_text_expect(table, 2, error) ||
		!kvt_table_text_integer(table, 1, "t: reach", 0, count, &reach, error))
		return FALSE;
	const char *codes = kvt_table_text_field(table, 2);
	if (strlen(codes) != 2 * (size_t)count)
		return kvt_table_text_error(
			table, error, "t: %zu characters, expected %u", strlen(codes), 2 * count);
	grid->reach[pair * grid->batches->len + batch] = (uint8_t)reach;
	for (unsigned t = 0; t < count; t++) {
		int high = digit_value(codes[2 * t]), low = digit_value(codes[2 * t + 1]);
		if (high < 0 || low < 0)
			return kvt_table_text_error(
				table, error, "t: '%.2s' is no time", codes + 2 * t);
		double log_seconds = LOWEST + STEP * (high * DIGITS + low);
		grid->times[kvt_grid_cell(grid, pair, batch, t)] = log_seconds;
		if ((t > 0 && log_seconds < grid->times[kvt_grid_cell(grid, pair, batch, t - 1)]) ||
			(batch > 0 &&
				log_seconds < grid->times[kvt_grid_cell(grid, pair, batch - 1, t)]))
			return kvt_table_text_error(table, error,
				"t: '%.2s' falls, expected times that grow with batch and tokens",
				codes + 2 * t);
	}
	return TRUE;
}

/* "behind HEADS KV_HEADS TOKENS PREFIX FACTOR" */
static gboolean read_behind(kvt_table_text *table, kvt_attention_grid *grid, GError **error)
{
	kvt_attention_behind b = { { 0, 0 }, 0, 0, 0 };
	if (grid->phase != KVT_ATTENTION_PREFILL || grid->behind->len == KVT_GRID_BEHIND_MAX)
		return kvt_table_text_error(table, error,
			"behind: expected at most %d, of a prefill kernel", KVT_GRID_BEHIND_MAX);
	if (!kvt_table_text_expect(table, 5, error) ||
		!kvt_table_text_integer(
			table, 1, "behind: heads", 1, 65536, &b.pair.heads, error) ||
		!kvt_table_text_integer(
			table, 2, "behind: KV heads", 1, b.pair.heads, &b.pair.kv_heads, error) ||
		!kvt_table_text_integer(
			table, 3, "behind: tokens", 1, (int64_t)1 << 40, &b.tokens, error) ||
		!kvt_table_text_integer(
			table, 4, "behind: prefix", 1, (int64_t)1 << 40, &b.prefix, error) ||
		!kvt_table_text_number(table, 5, "behind: factor", 1e-2, 1e2, &b.factor, error))
		return FALSE;
	g_array_append_val(grid->behind, b);
	return TRUE;
}

/* What must be there before the next kernel begins or the file ends. */
static gboolean check_grid(
	const kvt_table_text *table, const kvt_attention_grid *grid, unsigned rows, GError **error)
{
	if (grid == NULL)
		return TRUE;
	if (grid->pairs->len == 0 || rows != grid->batches->len)
		return kvt_table_text_error(table, error,
			"kernel %s: cut short, expected %u lines of times for each pair of heads",
			grid->source, grid->batches->len);
	for (unsigned i = 0; i < kvt_attention_base_count(&grid->base); i++)
		if (!(grid->base.constants[i] > 0))
			return kvt_table_text_error(table, error, "kernel %s: no constant %s",
				grid->source, kvt_attention_base_name(&grid->base, i));
	if (grid->phase == KVT_ATTENTION_PREFILL && grid->base.tile == 0)
		return kvt_table_text_error(table, error, "kernel %s: no tile", grid->source);
	return TRUE;
}

typedef struct reader {
	kvt_table_text *table;
	kvt_attention_model *model;
	kvt_attention_grid *grid;
	unsigned rows; /* of times, read for the last pair */
} reader;

static gboolean read_line(reader *r, const char *keyword, GError **error)
{
	kvt_table_text *table = r->table;
	if (strcmp(keyword, "gpu") == 0)
		return read_gpu(table, r->model, error);
	if (strcmp(keyword, "kernel") == 0) {
		if (!check_grid(table, r->grid, r->rows, error))
			return FALSE;
		r->rows = 0;
		return read_kernel(table, r->model, &r->grid, error);
	}
	if (r->grid == NULL)
		return kvt_table_text_error(
			table, error, "%.40s: expected gpu or kernel before it", keyword);
	bool placed = r->grid->pairs->len > 0;
	if (strcmp(keyword, "tile") == 0)
		return read_tile(table, r->grid, error);
	if (strcmp(keyword, "constant") == 0)
		return read_constant(table, r->grid, error);
	if (strcmp(keyword, "batches") == 0)
		return read_axis(table, KVT_GRID_BATCHES_MAX, placed, r->grid->batches, error);
	if (strcmp(keyword, "tokens") == 0)
		return read_axis(table, KVT_GRID_TOKENS_MAX, placed, r->grid->tokens, error);
	if (strcmp(keyword, "heads") == 0) {
		if (placed && r->rows != r->grid->batches->len)
			return check_grid(table, r->grid, r->rows, error);
		r->rows = 0;
		return read_heads(table, r->grid, error);
	}
	if (strcmp(keyword, "t") == 0) {
		if (!placed || r->rows == r->grid->batches->len)
			return kvt_table_text_error(table, error,
				"t: one line too many, expected %u after each pair of heads",
				r->grid->batches->len);
		return read_times(table, r->grid, r->rows++, error);
	}
	if (strcmp(keyword, "behind") == 0)
		return read_behind(table, r->grid, error);
	return kvt_table_text_error(table, error, "unknown keyword '%.40s'", keyword);
}

static kvt_attention_model *read_model(kvt_table_text *text, GError **error)
{
	if (text == NULL)
		return NULL;
	g_autoptr(kvt_table_text) table = text;
	g_autoptr(kvt_attention_model) model =
		kvt_attention_model_new("", &(kvt_attention_gpu){ 0 });
	reader r = { .table = table, .model = model };
	const char *keyword;
	while ((keyword = kvt_table_text_next(table)) != NULL)
		if (!read_line(&r, keyword, error))
			return NULL;
	if (!check_grid(table, r.grid, r.rows, error))
		return NULL;
	if (model->gpu.sms == 0 || model->grids->len == 0) {
		kvt_table_text_error(
			table, error, "cut short, expected a gpu and at least one kernel");
		return NULL;
	}
	return g_steal_pointer(&model);
}

kvt_attention_model *kvt_attention_model_load(const char *path, GError **error)
{
	return read_model(kvt_table_text_load(path, KIND, VERSION, error), error);
}

kvt_attention_model *kvt_attention_model_parse(
	const char *name, const char *text, size_t length, GError **error)
{
	return read_model(kvt_table_text_parse(name, text, length, KIND, VERSION, error), error);
}
