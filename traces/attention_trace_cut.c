/* attention_trace_cut.c: cuts a trace down. A cut of the context is done in two stages: queries and
 * keys of what stays go to a trace without rows, whose masses then make the rows of the result. */
#include "traces/attention_trace_cut.h"

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "sim/base/error.h"
#include "traces/attention_mass.h"
#include "traces/attention_trace_writer.h"

enum { TOKENS_A_COPY = 4096, STEPS_A_COPY = 256 };

typedef enum row_source { COPY_ROWS, NO_ROWS, RECOMPUTE_ROWS } row_source;

/* A cut with its defaults filled in, and what follows from it. */
typedef struct plan {
	kvt_attention_trace *trace;
	const kvt_attention_header *from;
	const kvt_attention_step *from_steps;
	uint64_t first_step, step_stride, step_count;
	const uint32_t *layers;
	uint32_t layer_count;
	unsigned without;
	row_source rows;
	GArray *kept; /* kvt_page_range of pages of `from` that stay, rising, all of them */

	kvt_attention_header header; /* of the result */
	kvt_attention_step *steps;   /* of the result */
	kvt_progress *progress;
	uint64_t rows_done;
} plan;

static bool refuse(const plan *p, GError **error, const char *format, ...) G_GNUC_PRINTF(3, 4);

static bool refuse(const plan *p, GError **error, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	g_autofree char *text = g_strdup_vprintf(format, args);
	va_end(args);
	return kvt_error_at(error, kvt_attention_trace_path(p->trace), 0, "%s", text);
}

static bool plan_steps(plan *p, const kvt_attention_cut *cut, GError **error)
{
	uint64_t count;
	p->from_steps = kvt_attention_trace_steps(p->trace, &count);
	uint64_t end = cut->end_step != 0 ? cut->end_step : count;
	if (cut->first_step >= end || end > count)
		return refuse(p, error,
			"steps %" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT
			", expected a range within 0:%" G_GUINT64_FORMAT,
			cut->first_step, end, count);
	p->first_step = cut->first_step;
	p->step_stride = MAX(cut->step_stride, 1);
	p->step_count = (end - cut->first_step + p->step_stride - 1) / p->step_stride;
	return true;
}

static bool plan_layers(plan *p, const kvt_attention_cut *cut, GError **error)
{
	p->layers = cut->layers;
	p->layer_count = cut->layer_count;
	if (cut->layer_count == 0) {
		p->layers = kvt_attention_trace_layers(p->trace, &p->layer_count);
		return true;
	}
	for (uint32_t i = 1; i < cut->layer_count; i++)
		if (cut->layers[i] <= cut->layers[i - 1])
			return refuse(p, error, "layer %u after %u, expected rising layers",
				cut->layers[i], cut->layers[i - 1]);
	return true;
}

/* The page ranges of the trace that stay: the given ones of the context, then all from the page of
 * the first step on. */
static bool plan_pages(plan *p, const kvt_attention_cut *cut, GError **error)
{
	uint32_t block_tokens = p->from->block_tokens;
	uint64_t last_step = p->first_step + (p->step_count - 1) * p->step_stride;
	uint64_t tail = p->from_steps[p->first_step].position / block_tokens;
	uint64_t end = p->from_steps[last_step].position / block_tokens + 1;
	uint64_t reached = 0;
	for (size_t i = 0; i < cut->range_count; i++) {
		kvt_page_range range = cut->ranges[i];
		if (range.first < reached || range.first >= range.end || range.end > tail)
			return refuse(p, error,
				"pages %" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT
				", expected rising ranges within %" G_GUINT64_FORMAT
				":%" G_GUINT64_FORMAT " (before the page of the first step)",
				range.first, range.end, reached, tail);
		g_array_append_val(p->kept, range);
		reached = range.end;
	}
	kvt_page_range rest = { cut->range_count > 0 ? tail : 0, end };
	g_array_append_val(p->kept, rest);
	return true;
}

/* How many of the tokens before `token` stay. */
static uint64_t tokens_before(const plan *p, uint64_t token)
{
	uint64_t tokens = 0, block_tokens = p->from->block_tokens;
	for (guint i = 0; i < p->kept->len; i++) {
		kvt_page_range range = g_array_index(p->kept, kvt_page_range, i);
		uint64_t first = range.first * block_tokens;
		if (token > first)
			tokens += MIN(token, range.end * block_tokens) - first;
	}
	return tokens;
}

static void describe_part(GString *text, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void describe_part(GString *text, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	g_string_append(text, text->len == 0 ? "cut to " : ", ");
	g_string_append_vprintf(text, format, args);
	va_end(args);
}

/* What the result says of how it came about; NULL when it is all of an original. */
static char *describe(const plan *p, const kvt_attention_cut *cut)
{
	static const char *const tensors[] = { "queries", "keys", "values" };
	g_autoptr(GString) text = g_string_new(NULL);
	uint64_t count;
	kvt_attention_trace_steps(p->trace, &count);
	if (p->step_count < count)
		describe_part(text,
			"steps %" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT,
			p->first_step, p->first_step + (p->step_count - 1) * p->step_stride + 1,
			count);
	if (p->step_stride > 1)
		describe_part(text, "one of %" G_GUINT64_FORMAT, p->step_stride);
	for (uint32_t i = 0; i < cut->layer_count; i++)
		describe_part(text, "layer %u", cut->layers[i]);
	for (size_t i = 0; i < G_N_ELEMENTS(tensors); i++)
		if (cut->without & (unsigned)KVT_ATTENTION_QUERIES << i)
			describe_part(text, "no %s", tensors[i]);
	for (size_t i = 0; i < cut->range_count; i++)
		describe_part(text, "pages %" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT,
			cut->ranges[i].first, cut->ranges[i].end);
	if (cut->range_count > 0)
		g_string_append(text, " of the context, numbered anew, masses recomputed over what "
				      "stayed");
	if (p->from->derived == NULL)
		return text->len > 0 ? g_strdup(text->str) : NULL;
	return g_strconcat(p->from->derived, text->len > 0 ? "; then " : "", text->str, NULL);
}

static void plan_result(plan *p, const kvt_attention_cut *cut)
{
	p->steps = g_new(kvt_attention_step, p->step_count);
	for (uint64_t i = 0; i < p->step_count; i++) {
		p->steps[i] = p->from_steps[p->first_step + i * p->step_stride];
		p->steps[i].position = tokens_before(p, p->steps[i].position);
	}
	p->header = *p->from;
	p->header.derived = describe(p, cut);
	p->header.total_tokens = p->steps[p->step_count - 1].position + 1;
	p->header.context_tokens =
		MIN(tokens_before(p, p->from->context_tokens), p->header.total_tokens);
	if (cut->source != NULL)
		p->header.source = cut->source;
	if (cut->license != NULL)
		p->header.license = cut->license;
}

static void plan_clear(plan *p)
{
	g_free(p->steps);
	if (p->steps != NULL)
		g_free((char *)p->header.derived);
	g_array_free(p->kept, TRUE);
}

static bool copy_tokens(plan *p, kvt_attention_writer *writer, GError **error)
{
	const uint32_t *all;
	if (!kvt_attention_trace_tokens(p->trace, &all, error))
		return false;
	if (all == NULL)
		return true;
	g_autofree uint32_t *tokens = g_new(uint32_t, p->header.total_tokens);
	uint64_t count = 0, block_tokens = p->from->block_tokens;
	for (guint i = 0; i < p->kept->len; i++) {
		kvt_page_range range = g_array_index(p->kept, kvt_page_range, i);
		uint64_t first = range.first * block_tokens;
		uint64_t n = MIN(
			(range.end - range.first) * block_tokens, p->header.total_tokens - count);
		memcpy(tokens + count, all + first, n * sizeof *tokens);
		count += n;
	}
	return kvt_attention_writer_tokens(writer, tokens, error);
}

static bool copy_queries(
	plan *p, kvt_attention_layer *layer, kvt_attention_writer *writer, GError **error)
{
	size_t values = (size_t)p->from->query_heads * p->from->head_dim;
	uint64_t room = p->step_stride == 1 ? STEPS_A_COPY : 1;
	g_autofree uint16_t *halves = g_new(uint16_t, room * values);
	for (uint64_t i = 0; i < p->step_count; i += room) {
		uint64_t n = MIN(room, p->step_count - i);
		if (!kvt_attention_layer_queries_half(
			    layer, p->first_step + i * p->step_stride, n, halves, error) ||
			!kvt_attention_writer_queries(writer, halves, n, error))
			return false;
	}
	return true;
}

typedef bool (*read_tensor)(kvt_attention_layer *layer, uint32_t kv_head, uint64_t first,
	uint64_t count, uint16_t *out, GError **error);
typedef bool (*write_tensor)(
	kvt_attention_writer *writer, const uint16_t *halves, uint64_t count, GError **error);

/* Keys or values of the tokens that stay, head by head. */
static bool copy_cache(plan *p, kvt_attention_layer *layer, kvt_attention_writer *writer,
	read_tensor read, write_tensor write, GError **error)
{
	g_autofree uint16_t *halves = g_new(uint16_t, (size_t)TOKENS_A_COPY * p->from->head_dim);
	for (uint32_t head = 0; head < p->from->kv_heads; head++) {
		uint64_t left = p->header.total_tokens;
		for (guint i = 0; i < p->kept->len; i++) {
			kvt_page_range range = g_array_index(p->kept, kvt_page_range, i);
			uint64_t at = range.first * p->from->block_tokens;
			uint64_t end = MIN(range.end * p->from->block_tokens, at + left);
			left -= end - at;
			for (uint64_t n; at < end; at += n) {
				n = MIN(TOKENS_A_COPY, end - at);
				if (!read(layer, head, at, n, halves, error) ||
					!write(writer, halves, n, error))
					return false;
			}
		}
	}
	return true;
}

static bool write_rows(
	plan *p, kvt_attention_layer *layer, kvt_attention_writer *writer, GError **error)
{
	kvt_attention_layer_kind kind = kvt_attention_layer_get_kind(layer);
	g_autoptr(kvt_attention_mass_stream) stream = NULL;
	if (p->rows == RECOMPUTE_ROWS)
		stream = kvt_attention_mass_stream_new(layer, 1, 0);
	for (uint64_t i = 0; i < p->step_count; i++) {
		uint64_t step = p->first_step + i * p->step_stride, first;
		uint64_t pages =
			kvt_attention_pages_present(&p->header, kind, p->steps[i].position, &first);
		for (uint32_t head = 0; head < p->from->kv_heads; head++) {
			kvt_attention_row row = { 0 };
			const float *mass = NULL;
			if (p->rows == RECOMPUTE_ROWS)
				mass = kvt_attention_mass_stream_get(stream, step, head, error);
			else if (p->rows == COPY_ROWS &&
				 !kvt_attention_layer_row(layer, step, head, &row, error))
				return false;
			if (p->rows == RECOMPUTE_ROWS && mass == NULL)
				return false;
			if (mass != NULL ? !kvt_attention_writer_row_of_masses(
						   writer, mass, first, pages, error)
					 : !kvt_attention_writer_row(writer, &row, error))
				return false;
		}
		if (p->progress != NULL)
			kvt_progress_update(p->progress, ++p->rows_done);
	}
	return true;
}

static bool write_layer(plan *p, uint32_t number, kvt_attention_writer *writer, GError **error)
{
	g_autoptr(kvt_attention_layer) layer = kvt_attention_layer_open(p->trace, number, 0, error);
	if (layer == NULL)
		return false;
	unsigned tensors = (kvt_attention_layer_has_queries(layer) ? KVT_ATTENTION_QUERIES : 0) |
			   (kvt_attention_layer_has_keys(layer) ? KVT_ATTENTION_KEYS : 0) |
			   (kvt_attention_layer_has_values(layer) ? KVT_ATTENTION_VALUES : 0);
	unsigned needed = KVT_ATTENTION_QUERIES | KVT_ATTENTION_KEYS;
	if (p->rows == NO_ROWS &&
		((tensors & needed) != needed ||
			kvt_attention_layer_get_kind(layer) != KVT_TRACE_LAYER_GLOBAL))
		return refuse(p, error,
			"layers/%u: its context cannot be cut, expected a global layer with "
			"queries and keys",
			number);
	tensors &= ~p->without;
	return kvt_attention_writer_layer(writer, number, tensors, error) &&
	       write_rows(p, layer, writer, error) &&
	       (!(tensors & KVT_ATTENTION_QUERIES) || copy_queries(p, layer, writer, error)) &&
	       (!(tensors & KVT_ATTENTION_KEYS) ||
		       copy_cache(p, layer, writer, kvt_attention_layer_keys_half,
			       kvt_attention_writer_keys, error)) &&
	       (!(tensors & KVT_ATTENTION_VALUES) ||
		       copy_cache(p, layer, writer, kvt_attention_layer_values_half,
			       kvt_attention_writer_values, error));
}

static bool plan_make(plan *p, kvt_attention_trace *trace, const kvt_attention_cut *cut,
	row_source rows, kvt_progress *progress, GError **error)
{
	*p = (plan){
		.trace = trace,
		.from = kvt_attention_trace_header(trace),
		.without = cut->without,
		.rows = rows,
		.kept = g_array_new(FALSE, FALSE, sizeof(kvt_page_range)),
		.progress = progress,
	};
	if (!plan_steps(p, cut, error) || !plan_layers(p, cut, error) || !plan_pages(p, cut, error))
		return false;
	plan_result(p, cut);
	return true;
}

/* Writes what `cut` says with rows from `rows`. */
static bool write_cut(kvt_attention_trace *trace, const char *path, const kvt_attention_cut *cut,
	row_source rows, kvt_progress *progress, GError **error)
{
	plan p;
	bool ok = plan_make(&p, trace, cut, rows, progress, error);
	g_autoptr(kvt_attention_writer) writer = NULL;
	if (ok) {
		writer = kvt_attention_writer_new(path, &p.header, p.steps, p.step_count, error);
		ok = writer != NULL && copy_tokens(&p, writer, error);
	}
	for (uint32_t i = 0; ok && i < p.layer_count; i++)
		ok = write_layer(&p, p.layers[i], writer, error);
	ok = ok && kvt_attention_writer_finish(writer, error);
	plan_clear(&p);
	return ok;
}

static bool cut_context(kvt_attention_trace *trace, const char *path, const kvt_attention_cut *cut,
	kvt_progress *progress, GError **error)
{
	g_autofree char *stage = g_strdup_printf("%s.stage-XXXXXX", path);
	int fd = g_mkstemp(stage);
	if (fd < 0)
		return kvt_error_failed(
			error, "%s: cannot be created, expected a writable folder", path);
	close(fd);
	kvt_attention_cut first = *cut;
	first.without = cut->without & KVT_ATTENTION_VALUES;
	bool ok = write_cut(trace, stage, &first, NO_ROWS, NULL, error);
	if (ok) {
		kvt_attention_cut second = { .without = cut->without &
							~(unsigned)KVT_ATTENTION_VALUES };
		g_autoptr(kvt_attention_trace) staged = kvt_attention_trace_open(stage, error);
		ok = staged != NULL &&
		     write_cut(staged, path, &second, RECOMPUTE_ROWS, progress, error);
	}
	g_unlink(stage);
	return ok;
}

static bool same_file(const char *a, const char *b)
{
	GStatBuf x, y;
	return g_stat(a, &x) == 0 && g_stat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

bool kvt_attention_trace_cut(kvt_attention_trace *trace, const char *path,
	const kvt_attention_cut *cut, kvt_progress *progress, GError **error)
{
	if (same_file(kvt_attention_trace_path(trace), path))
		return kvt_error_usage(
			error, "%s: is the trace itself, expected another file to write", path);
	if (cut->range_count > 0)
		return cut_context(trace, path, cut, progress, error);
	return write_cut(trace, path, cut, COPY_ROWS, progress, error);
}
