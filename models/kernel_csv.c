/*
 * kernel_csv.c: reads CSV files of measured kernel times into typed rows. Not a general CSV reader:
 * no quoting, because no such file needs it, and a quote is refused rather than guessed at.
 */
#include "models/kernel_csv.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

#include "sim/base/error.h"

enum { MAX_COLUMNS = 64, MAX_TEXT = 256 };
static const int64_t MAX_COUNT = (int64_t)1 << 40;
static const double MAX_MILLISECONDS = 1e9;

typedef enum shape { SHAPE_ATTENTION, SHAPE_GEMM, SHAPE_COLLECTIVE, SHAPES } shape;

enum { BATCH, ISL, HEADS, KV_HEADS, HEAD_DIM, STEP, M, N, K, GPUS, MESSAGE, INTEGERS };
enum { SOURCE, OP, DTYPE, KV_DTYPE, TEXTS };
enum { LATENCY = INTEGERS + TEXTS, FIELDS };

typedef struct column {
	const char *name;
	int field; /* an integer, INTEGERS + a text, or LATENCY */
	unsigned shapes;
	int64_t low; /* least value of an integer */
} column;

#define IN(s) (1u << SHAPE_##s)
static const column COLUMNS[] = {
	{ "kernel_source", INTEGERS + SOURCE, IN(ATTENTION) | IN(GEMM) | IN(COLLECTIVE), 0 },
	{ "op_name", INTEGERS + OP, IN(ATTENTION) | IN(GEMM) | IN(COLLECTIVE), 0 },
	{ "latency_ms", LATENCY, IN(ATTENTION) | IN(GEMM) | IN(COLLECTIVE), 0 },
	{ "batch_size", BATCH, IN(ATTENTION), 1 },
	{ "isl", ISL, IN(ATTENTION), 1 },
	{ "num_heads", HEADS, IN(ATTENTION), 1 },
	{ "num_key_value_heads", KV_HEADS, IN(ATTENTION), 1 },
	{ "head_dim", HEAD_DIM, IN(ATTENTION), 1 },
	{ "attn_dtype", INTEGERS + DTYPE, IN(ATTENTION), 0 },
	{ "kv_cache_dtype", INTEGERS + KV_DTYPE, IN(ATTENTION), 0 },
	{ "step", STEP, IN(ATTENTION), 0 },
	{ "gemm_dtype", INTEGERS + DTYPE, IN(GEMM), 0 },
	{ "m", M, IN(GEMM), 1 },
	{ "n", N, IN(GEMM), 1 },
	{ "k", K, IN(GEMM), 1 },
	{ "nccl_dtype", INTEGERS + DTYPE, IN(COLLECTIVE), 0 },
	{ "allreduce_dtype", INTEGERS + DTYPE, IN(COLLECTIVE), 0 },
	{ "num_gpus", GPUS, IN(COLLECTIVE), 1 },
	{ "message_size", MESSAGE, IN(COLLECTIVE), 1 },
};

/* The column whose presence decides the shape. */
static const char *const SHAPE_KEY[SHAPES] = { "head_dim", "m", "message_size" };
static const char *const SHAPE_NAME[SHAPES] = { "attention", "gemm", "collectives" };

typedef struct reader {
	const char *name;
	unsigned line;
	shape kind;
	size_t columns;
	const column *at[MAX_COLUMNS]; /* what each column of the file is; NULL: ignored */
	GArray *rows;
	kvt_kernel_csv *csv;
} reader;

typedef struct field {
	const char *text;
	size_t length;
} field;

const char *kvt_kernel_kind_name(kvt_kernel_kind kind)
{
	static const char *const names[KVT_KERNEL_KINDS] = { "prefill attention",
		"decode attention", "gemm", "collective" };
	return kind < KVT_KERNEL_KINDS ? names[kind] : "unknown kernel";
}

/* Splits a line at commas, trims blanks. The number of fields, or MAX_COLUMNS + 1 for too many. */
static size_t split_fields(const char *line, size_t length, field *fields)
{
	size_t count = 0;
	const char *end = line + length;
	for (const char *at = line;; at++) {
		const char *comma = memchr(at, ',', (size_t)(end - at));
		const char *stop = comma != NULL ? comma : end;
		if (count == MAX_COLUMNS)
			return MAX_COLUMNS + 1;
		const char *from = at;
		while (from < stop && (*from == ' ' || *from == '\t'))
			from++;
		const char *to = stop;
		while (to > from && (to[-1] == ' ' || to[-1] == '\t'))
			to--;
		fields[count++] = (field){ from, (size_t)(to - from) };
		if (comma == NULL)
			return count;
		at = comma;
	}
}

static const column *find_column(field name)
{
	for (size_t i = 0; i < G_N_ELEMENTS(COLUMNS); i++)
		if (strlen(COLUMNS[i].name) == name.length &&
			memcmp(COLUMNS[i].name, name.text, name.length) == 0)
			return &COLUMNS[i];
	return NULL;
}

static gboolean read_header(reader *r, const field *fields, size_t count, GError **error)
{
	shape kind = SHAPES;
	r->columns = count;
	for (size_t i = 0; i < count; i++) {
		r->at[i] = find_column(fields[i]);
		for (int s = 0; r->at[i] != NULL && s < SHAPES; s++)
			if (strcmp(r->at[i]->name, SHAPE_KEY[s]) == 0 && kind == SHAPES)
				kind = (shape)s;
	}
	if (kind == SHAPES)
		return kvt_error_at(error, r->name, r->line,
			"header: no column head_dim (attention), m (gemm) or message_size "
			"(collectives), expected the header of a measured kernel table");
	r->kind = kind;
	const char *seen[FIELDS] = { NULL };
	for (size_t i = 0; i < count; i++) {
		const column *c = r->at[i];
		if (c == NULL || (c->shapes & (1u << kind)) == 0) {
			r->at[i] = NULL;
			continue;
		}
		if (seen[c->field] != NULL)
			return kvt_error_at(error, r->name, r->line,
				"header: column %s after %s, expected it once", c->name,
				seen[c->field]);
		seen[c->field] = c->name;
	}
	for (size_t i = 0; i < G_N_ELEMENTS(COLUMNS); i++)
		if ((COLUMNS[i].shapes & (1u << kind)) != 0 && seen[COLUMNS[i].field] == NULL)
			return kvt_error_at(error, r->name, r->line,
				"header: no column %s, expected it in a table of %s",
				COLUMNS[i].name, SHAPE_NAME[kind]);
	return TRUE;
}

static gboolean read_integer(
	const reader *r, const column *c, field text, int64_t *value, GError **error)
{
	int64_t v = 0;
	bool good = text.length > 0;
	for (size_t i = 0; good && i < text.length; i++) {
		good = g_ascii_isdigit(text.text[i]) && v <= MAX_COUNT;
		if (good)
			v = v * 10 + (text.text[i] - '0');
	}
	if (!good || v < c->low || v > MAX_COUNT)
		return kvt_error_at(error, r->name, r->line,
			"%s: '%.*s', expected a whole number of at least %" G_GINT64_FORMAT,
			c->name, (int)MIN(text.length, 40), text.text, c->low);
	*value = v;
	return TRUE;
}

static gboolean read_latency(const reader *r, field text, double *seconds, GError **error)
{
	char number[64];
	char *end = number;
	double ms = 0;
	if (text.length < sizeof(number)) {
		memcpy(number, text.text, text.length);
		number[text.length] = '\0';
		ms = g_ascii_strtod(number, &end);
	}
	if (end == number || *end != '\0' || !isfinite(ms) || ms <= 0 || ms > MAX_MILLISECONDS)
		return kvt_error_at(error, r->name, r->line,
			"latency_ms: '%.*s', expected a positive finite number of milliseconds",
			(int)MIN(text.length, 40), text.text);
	*seconds = ms * 1e-3;
	return TRUE;
}

static gboolean read_text(
	const reader *r, const column *c, field text, const char **value, GError **error)
{
	bool good = text.length > 0 && text.length < MAX_TEXT;
	for (size_t i = 0; good && i < text.length; i++)
		good = text.text[i] > ' ' && text.text[i] < 127 && text.text[i] != '"';
	if (!good)
		return kvt_error_at(error, r->name, r->line,
			"%s: not a name, expected printable characters without blanks or quotes",
			c->name);
	char *copy = g_strndup(text.text, text.length);
	*value = g_string_chunk_insert_const(r->csv->names, copy);
	g_free(copy);
	return TRUE;
}

/* What op_name says the row is, within the shape of its file. */
static gboolean row_kind(const reader *r, const char *op, kvt_kernel_kind *kind, GError **error)
{
	if (r->kind == SHAPE_ATTENTION) {
		if (strcmp(op, "context_attention") == 0)
			*kind = KVT_KERNEL_PREFILL;
		else if (strcmp(op, "generation_attention") == 0)
			*kind = KVT_KERNEL_DECODE;
		else
			return kvt_error_at(error, r->name, r->line,
				"op_name: '%s', expected context_attention or "
				"generation_attention",
				op);
	} else if (r->kind == SHAPE_GEMM) {
		if (strcmp(op, "gemm") != 0)
			return kvt_error_at(
				error, r->name, r->line, "op_name: '%s', expected gemm", op);
		*kind = KVT_KERNEL_GEMM;
	} else {
		*kind = KVT_KERNEL_COLLECTIVE;
	}
	return TRUE;
}

static gboolean check_attention(const reader *r, const kvt_kernel_row *row, GError **error)
{
	const kvt_kernel_attention *a = &row->attention;
	if (a->kv_heads > a->heads || a->heads % a->kv_heads != 0)
		return kvt_error_at(error, r->name, r->line,
			"num_key_value_heads: %" G_GINT64_FORMAT " for %" G_GINT64_FORMAT
			" heads, expected a divisor of num_heads",
			a->kv_heads, a->heads);
	return TRUE;
}

static gboolean read_row(reader *r, const field *fields, size_t count, GError **error)
{
	if (count != r->columns)
		return kvt_error_at(error, r->name, r->line, "row: %zu fields, expected %zu", count,
			r->columns);
	int64_t v[INTEGERS] = { 0 };
	const char *text[TEXTS] = { NULL };
	kvt_kernel_row row = { .line = r->line };
	for (size_t i = 0; i < count; i++) {
		const column *c = r->at[i];
		gboolean good = TRUE;
		if (c == NULL)
			continue;
		if (c->field < INTEGERS)
			good = read_integer(r, c, fields[i], &v[c->field], error);
		else if (c->field == LATENCY)
			good = read_latency(r, fields[i], &row.seconds, error);
		else
			good = read_text(r, c, fields[i], &text[c->field - INTEGERS], error);
		if (!good)
			return FALSE;
	}
	if (!row_kind(r, text[OP], &row.kind, error))
		return FALSE;
	row.source = text[SOURCE];
	row.op = text[OP];
	row.dtype = text[DTYPE];
	row.kv_dtype = text[KV_DTYPE];
	if (r->kind == SHAPE_ATTENTION) {
		row.attention = (kvt_kernel_attention){ .batch = v[BATCH],
			.heads = v[HEADS],
			.kv_heads = v[KV_HEADS],
			.head_dim = v[HEAD_DIM],
			.isl = v[ISL],
			.step = v[STEP] };
		if (!check_attention(r, &row, error))
			return FALSE;
	} else if (r->kind == SHAPE_GEMM) {
		row.gemm = (kvt_kernel_gemm){ v[M], v[N], v[K] };
	} else {
		row.collective = (kvt_kernel_collective){ v[GPUS], v[MESSAGE] };
	}
	g_array_append_val(r->rows, row);
	return TRUE;
}

static gboolean read_line(reader *r, const char *line, size_t length, GError **error)
{
	field fields[MAX_COLUMNS];
	if (length > 0 && line[length - 1] == '\r')
		length--;
	if (length == 0 || line[0] == '#')
		return TRUE;
	if (memchr(line, '\0', length) != NULL)
		return kvt_error_at(error, r->name, r->line, "a NUL byte, expected text");
	size_t count = split_fields(line, length, fields);
	if (count > MAX_COLUMNS)
		return kvt_error_at(error, r->name, r->line, "more than %d columns", MAX_COLUMNS);
	if (r->columns == 0)
		return read_header(r, fields, count, error);
	return read_row(r, fields, count, error);
}

kvt_kernel_csv *kvt_kernel_csv_parse(
	const char *name, const char *text, size_t length, GError **error)
{
	kvt_kernel_csv *csv = g_new0(kvt_kernel_csv, 1);
	csv->path = g_strdup(name);
	csv->names = g_string_chunk_new(4096);
	reader r = { .name = name, .csv = csv };
	r.rows = g_array_new(FALSE, TRUE, sizeof(kvt_kernel_row));
	gboolean good = TRUE;
	size_t at = 0;
	if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		at = 3;
	while (good && at < length) {
		const char *newline = memchr(text + at, '\n', length - at);
		size_t n = newline != NULL ? (size_t)(newline - (text + at)) : length - at;
		r.line++;
		good = read_line(&r, text + at, n, error);
		at += n + 1;
	}
	csv->count = r.rows->len;
	csv->rows = (kvt_kernel_row *)(void *)g_array_free(r.rows, FALSE);
	if (good && csv->count == 0)
		good = kvt_error_at(error, name, r.line,
			"no rows, expected a header and at least one measured kernel");
	if (!good)
		g_clear_pointer(&csv, kvt_kernel_csv_free);
	return csv;
}

kvt_kernel_csv *kvt_kernel_csv_load(const char *path, GError **error)
{
	g_autofree char *text = NULL;
	g_autoptr(GError) cause = NULL;
	gsize length = 0;
	if (!g_file_get_contents(path, &text, &length, &cause)) {
		kvt_error_at(error, path, 0, "cannot be read: %s", cause->message);
		return NULL;
	}
	return kvt_kernel_csv_parse(path, text, length, error);
}

void kvt_kernel_csv_free(kvt_kernel_csv *csv)
{
	if (csv == NULL)
		return;
	g_string_chunk_free(csv->names);
	g_free(csv->rows);
	g_free(csv->path);
	g_free(csv);
}

bool kvt_kernel_row_left_out(const kvt_kernel_row *row, double share, uint64_t seed)
{
	const kvt_kernel_attention *a = &row->attention;
	int64_t v[8] = { (int64_t)row->kind };
	switch (row->kind) {
	case KVT_KERNEL_PREFILL:
	case KVT_KERNEL_DECODE:
		memcpy(v + 1,
			(int64_t[]){
				a->batch, a->heads, a->kv_heads, a->head_dim, a->isl, a->step },
			6 * sizeof(*v));
		break;
	case KVT_KERNEL_GEMM:
		memcpy(v + 1, (int64_t[]){ row->gemm.m, row->gemm.n, row->gemm.k }, 3 * sizeof(*v));
		break;
	default:
		memcpy(v + 1, (int64_t[]){ row->collective.gpus, row->collective.elements },
			2 * sizeof(*v));
	}
	XXH64_hash_t hash = XXH3_64bits_withSeed(v, sizeof(v), seed);
	const char *const texts[] = { row->source, row->op, row->dtype, row->kv_dtype };
	for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
		if (texts[i] != NULL)
			hash = XXH3_64bits_withSeed(texts[i], strlen(texts[i]), hash);
	return (double)(hash >> 11) * 0x1p-53 < share;
}
