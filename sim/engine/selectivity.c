/* selectivity.c: curves of pages by context length, from CSV. No quoting: no such file needs it. */
#include "sim/engine/selectivity.h"

#include <math.h>
#include <string.h>

#include "sim/base/error.h"

enum { CHOOSER, LAYER, SCOPE, MASS, KIND, TOKENS, SHARE, RUN_PAGES, MASS_KEPT, TRACE, COLUMNS };

static const char *const column_names[] = { "chooser", "layer", "scope", "mass", "kind", "tokens",
	"share", "run_pages", "mass_kept", "trace", NULL };

static const char *const kind_names[] = { "recorded", "grown", NULL };

const char *const kvt_choice_scope_names[] = { "token", "question", NULL };

/* One layer's recordings, by rising length; those of one length are summed up. */
typedef struct layer_curve {
	int64_t layer;
	GArray *points; /* of kvt_selectivity_point */
	GArray *counts; /* of unsigned: recordings summed up in the point */
	GArray *grown;  /* of kvt_selectivity_point, as they come */
	double recorded_to;
} layer_curve;

struct kvt_selectivity {
	layer_curve *layers;
	unsigned n_layers;
};

typedef struct reader {
	const char *name;
	unsigned line;
	int at[COLUMNS]; /* the file's column of each of ours */
	unsigned n_columns;
	const kvt_selectivity_key *key;
	kvt_selectivity *curves;
	GHashTable *others; /* "slap 7 token", of curves that are not asked for */
} reader;

static void free_layers(kvt_selectivity *curves)
{
	for (unsigned i = 0; i < curves->n_layers; i++) {
		g_array_unref(curves->layers[i].points);
		g_array_unref(curves->layers[i].counts);
		g_array_unref(curves->layers[i].grown);
	}
	g_free(curves->layers);
}

void kvt_selectivity_free(kvt_selectivity *selectivity)
{
	if (!selectivity)
		return;
	free_layers(selectivity);
	g_free(selectivity);
}

static bool read_header(reader *r, char **fields, GError **error)
{
	r->n_columns = g_strv_length(fields);
	for (unsigned i = 0; i < COLUMNS; i++) {
		r->at[i] = -1;
		for (unsigned f = 0; f < r->n_columns; f++) {
			if (!g_str_equal(fields[f], column_names[i]))
				continue;
			if (r->at[i] >= 0)
				return kvt_error_at(error, r->name, r->line,
					"%s: the column is there twice, expected it once",
					column_names[i]);
			r->at[i] = (int)f;
		}
		if (r->at[i] < 0)
			return kvt_error_at(error, r->name, r->line,
				"%s: there is no such column, expected a header with it",
				column_names[i]);
	}
	return true;
}

/* A number of a column from `low` to `high`. */
static bool read_number(const reader *r, char **fields, unsigned column, double low, double high,
	double *value, GError **error)
{
	const char *text = fields[r->at[column]];
	char *end;
	*value = g_ascii_strtod(text, &end);
	/* neither blanks nor names of infinities begin a number here */
	if (g_ascii_isdigit(*text) && *end == '\0' && *value >= low && *value <= high)
		return true;
	g_autofree char *quoted = kvt_error_quote(text);
	return kvt_error_at(error, r->name, r->line, "%s: %s, expected a number from %g to %g",
		column_names[column], quoted, low, high);
}

static layer_curve *find_layer(const kvt_selectivity *curves, double number)
{
	for (unsigned i = 0; i < curves->n_layers; i++)
		if ((double)curves->layers[i].layer == number)
			return &curves->layers[i];
	return NULL;
}

static void add_point(layer_curve *curve, const kvt_selectivity_point *point)
{
	unsigned i = 0, one = 1;
	while (i < curve->points->len &&
		g_array_index(curve->points, kvt_selectivity_point, i).tokens < point->tokens)
		i++;
	kvt_selectivity_point *there = &g_array_index(curve->points, kvt_selectivity_point, i);
	if (i == curve->points->len || there->tokens > point->tokens) {
		g_array_insert_val(curve->points, i, *point);
		g_array_insert_val(curve->counts, i, one);
		return;
	}
	there->share += point->share;
	there->run_pages += point->run_pages;
	there->mass_kept += point->mass_kept;
	g_array_index(curve->counts, unsigned, i)++;
}

/* The index in `names` of a column's word. */
static bool read_word(const reader *r, char **fields, unsigned column, const char *const *names,
	int *index, GError **error)
{
	const char *text = fields[r->at[column]];
	for (*index = 0; names[*index]; ++*index)
		if (g_str_equal(names[*index], text))
			return true;
	g_autofree char *quoted = kvt_error_quote(text);
	return kvt_error_at(error, r->name, r->line, "%s: %s, expected %s or %s",
		column_names[column], quoted, names[0], names[1]);
}

static bool read_row(reader *r, char **fields, GError **error)
{
	if (g_strv_length(fields) != r->n_columns)
		return kvt_error_at(error, r->name, r->line,
			"%u fields, expected %u as in the header", g_strv_length(fields),
			r->n_columns);
	double layer, mass;
	int scope, kind;
	kvt_selectivity_point point = { 0 };
	if (!read_number(r, fields, LAYER, 0, 1e6, &layer, error) ||
		!read_word(r, fields, SCOPE, kvt_choice_scope_names, &scope, error) ||
		!read_number(r, fields, MASS, 1e-6, 1, &mass, error) ||
		!read_word(r, fields, KIND, kind_names, &kind, error) ||
		!read_number(r, fields, TOKENS, 1, 1e12, &point.tokens, error) ||
		!read_number(r, fields, SHARE, 1e-9, 1, &point.share, error) ||
		!read_number(r, fields, RUN_PAGES, 1, 1e9, &point.run_pages, error) ||
		!read_number(r, fields, MASS_KEPT, 0, 1.001, &point.mass_kept, error))
		return false;
	const char *chooser = fields[r->at[CHOOSER]];
	layer_curve *curve = find_layer(r->curves, layer);
	if (!curve || !g_str_equal(chooser, r->key->chooser) || scope != r->key->scope ||
		fabs(mass - r->key->mass) >= 1e-9)
		g_hash_table_add(
			r->others, g_strdup_printf("%s of layer %g at %g%%, a %s", chooser, layer,
					   100 * mass, kvt_choice_scope_names[scope]));
	else if (kind == 1)
		g_array_append_val(curve->grown, point);
	else
		add_point(curve, &point);
	return true;
}

/* The layers asked for, as numbers. */
static bool read_layers(reader *r, GError **error)
{
	g_auto(GStrv) words = g_strsplit_set(r->key->layers, " ,", -1);
	r->curves->layers = g_new0(layer_curve, g_strv_length(words) + 1);
	for (char **word = words; *word; word++) {
		guint64 number;
		if (**word == '\0')
			continue;
		if (!g_ascii_string_to_unsigned(*word, 10, 0, 1000000, &number, NULL)) {
			g_autofree char *quoted = kvt_error_quote(r->key->layers);
			return kvt_error_usage(error,
				"[select] layers: %s, expected numbers of recorded layers such "
				"as 3 7",
				quoted);
		}
		r->curves->layers[r->curves->n_layers++] = (layer_curve){ .layer = (int64_t)number,
			.points = g_array_new(FALSE, FALSE, sizeof(kvt_selectivity_point)),
			.counts = g_array_new(FALSE, FALSE, sizeof(unsigned)),
			.grown = g_array_new(FALSE, FALSE, sizeof(kvt_selectivity_point)) };
	}
	if (r->curves->n_layers == 0)
		return kvt_error_usage(
			error, "[select] layers: there is none, expected numbers such as 3 7");
	return true;
}

static bool read_lines(reader *r, const char *text, GError **error)
{
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
	for (unsigned i = 0; lines[i]; i++) {
		g_strstrip(lines[i]);
		if (*lines[i] == '\0' || *lines[i] == '#')
			continue;
		g_auto(GStrv) fields = g_strsplit(lines[i], ",", -1);
		r->line = i + 1;
		if (!(r->n_columns ? read_row(r, fields, error) : read_header(r, fields, error)))
			return false;
	}
	return true;
}

static bool refuse_layer(const reader *r, const layer_curve *curve, GError **error)
{
	GList *names = g_list_sort(g_hash_table_get_keys(r->others), (GCompareFunc)strcmp);
	g_autofree char *other = names ? g_strconcat("such as ", names->data, NULL)
				       : g_strdup("but there is none at all");
	g_list_free(names);
	return kvt_error_at(error, r->name, 0,
		"no curve of %s of layer %" G_GINT64_FORMAT
		" at %g%%, a %s, expected one that is there, %s",
		r->key->chooser, curve->layer, 100 * r->key->mass,
		kvt_choice_scope_names[r->key->scope], other);
}

/* Beyond the longest recording grown traces go on, where they are wanted. */
static void add_grown(layer_curve *curve, bool wanted)
{
	for (unsigned i = 0; wanted && i < curve->grown->len; i++) {
		const kvt_selectivity_point *point =
			&g_array_index(curve->grown, kvt_selectivity_point, i);
		if (point->tokens > curve->recorded_to)
			add_point(curve, point);
	}
}

/* Every layer has a point; sums become means. */
static bool finish_layers(reader *r, GError **error)
{
	for (unsigned i = 0; i < r->curves->n_layers; i++) {
		layer_curve *curve = &r->curves->layers[i];
		if (curve->points->len == 0)
			return refuse_layer(r, curve, error);
		curve->recorded_to =
			g_array_index(curve->points, kvt_selectivity_point, curve->points->len - 1)
				.tokens;
		add_grown(curve, r->key->grown);
		for (unsigned p = 0; p < curve->points->len; p++) {
			kvt_selectivity_point *point =
				&g_array_index(curve->points, kvt_selectivity_point, p);
			unsigned n = g_array_index(curve->counts, unsigned, p);
			point->share /= n;
			point->run_pages /= n;
			point->mass_kept /= n;
		}
	}
	return true;
}

kvt_selectivity *kvt_selectivity_parse(
	const char *name, const char *text, const kvt_selectivity_key *key, GError **error)
{
	g_autoptr(kvt_selectivity) curves = g_new0(kvt_selectivity, 1);
	g_autoptr(GHashTable) others = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	reader r = { .name = name, .key = key, .curves = curves, .others = others };
	if (!read_layers(&r, error) || !read_lines(&r, text, error) || !finish_layers(&r, error))
		return NULL;
	return g_steal_pointer(&curves);
}

kvt_selectivity *kvt_selectivity_load(
	const char *path, const kvt_selectivity_key *key, GError **error)
{
	g_autofree char *text = NULL;
	g_autoptr(GError) why = NULL;
	if (!g_file_get_contents(path, &text, NULL, &why)) {
		kvt_error_at(error, path, 0, "cannot be read (%s), expected a CSV file of curves",
			why->message);
		return NULL;
	}
	return kvt_selectivity_parse(path, text, key, error);
}

static kvt_selectivity_point layer_at(const layer_curve *curve, double tokens)
{
	const kvt_selectivity_point *points =
		&g_array_index(curve->points, kvt_selectivity_point, 0);
	unsigned n = curve->points->len, i = 0;
	while (i < n && points[i].tokens < tokens)
		i++;
	kvt_selectivity_point at = points[MIN(i, n - 1)];
	at.recorded_to = curve->recorded_to;
	at.extrapolated = tokens > curve->recorded_to || tokens < points[0].tokens;
	if (i == n || i == 0)
		return at;
	const kvt_selectivity_point *low = &points[i - 1], *high = &points[i];
	double part = log(tokens / low->tokens) / log(high->tokens / low->tokens);
	at.share = low->share + part * (high->share - low->share);
	at.run_pages = low->run_pages + part * (high->run_pages - low->run_pages);
	at.mass_kept = low->mass_kept + part * (high->mass_kept - low->mass_kept);
	return at;
}

kvt_selectivity_point kvt_selectivity_at(const kvt_selectivity *selectivity, double tokens)
{
	kvt_selectivity_point mean = { .tokens = tokens, .recorded_to = INFINITY };
	double runs = 0;
	for (unsigned i = 0; i < selectivity->n_layers; i++) {
		kvt_selectivity_point at = layer_at(&selectivity->layers[i], tokens);
		mean.share += at.share / selectivity->n_layers;
		mean.mass_kept += at.mass_kept / selectivity->n_layers;
		runs += at.share / at.run_pages / selectivity->n_layers;
		mean.extrapolated |= at.extrapolated;
		mean.recorded_to = MIN(mean.recorded_to, at.recorded_to);
	}
	/* runs add up, not their lengths */
	mean.run_pages = mean.share / runs;
	return mean;
}
