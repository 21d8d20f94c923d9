/* result_diff.c: walks two results side by side. Reading them is result_load.c's. */
#include "sim/cmd/result_diff.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/cmd/result_rows.h"

typedef struct walker {
	result_diff *diff;
	double tolerance;
	GString *path;
} walker;

/* What an object says of the spread of its figures. */
typedef struct spread {
	const char *value; /* the member that it is of; NULL: none is stated */
	double low, high;
} spread;

static void compare_values(walker *w, const json_t *a, const json_t *b, const spread *of_a,
	const spread *of_b, int follows);

static double number_of(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	return json_is_number(value) ? json_number_value(value) : NAN;
}

/* The widest of the percentiles below and above p50. */
static spread percentile_spread(const json_t *object)
{
	spread s = { .low = NAN, .high = NAN };
	const char *key;
	json_t *value;
	double lowest = 50, highest = 50;
	json_object_foreach((json_t *)object, key, value)
	{
		if (key[0] != 'p' || !g_ascii_isdigit(key[1]) || !json_is_number(value))
			continue;
		double percent = g_ascii_strtod(key + 1, NULL);
		/* p999 is 99.9 */
		while (percent > 100)
			percent /= 10;
		if (percent < lowest) {
			lowest = percent;
			s.low = json_number_value(value);
		} else if (percent > highest) {
			highest = percent;
			s.high = json_number_value(value);
		}
	}
	if (isfinite(s.low) && isfinite(s.high) && json_object_get(object, "p50"))
		s.value = "p50";
	return s;
}

static spread spread_of(const json_t *object)
{
	static const struct {
		const char *value, *low, *high;
	} forms[] = { { "simulated", "low", "high" }, { "value", "low", "high" },
		{ "median", "low", "high" }, { "median_s", "low_s", "high_s" } };
	for (unsigned i = 0; i < G_N_ELEMENTS(forms); i++) {
		double low = number_of(object, forms[i].low),
		       high = number_of(object, forms[i].high);
		if (isfinite(low) && isfinite(high) && json_object_get(object, forms[i].value))
			return (spread){ forms[i].value, low, high };
	}
	return percentile_spread(object);
}

/* The ends of a spread are told with the figure that they are of. */
static bool is_end(const spread *s, const char *key)
{
	return s->value && (g_str_equal(key, "low") || g_str_equal(key, "high") ||
				   g_str_equal(key, "low_s") || g_str_equal(key, "high_s"));
}

static bool outside(const spread *s, double value)
{
	return !s->value || value < s->low || value > s->high;
}

/* Whether two values of a figure differ by more than what is stated of either. */
static bool numbers_beyond(
	const walker *w, double a, double b, const spread *of_a, const spread *of_b)
{
	if (fabs(b - a) <= w->tolerance * MAX(fabs(a), fabs(b)))
		return false;
	return outside(of_a, b) && outside(of_b, a);
}

static void add(walker *w, difference_kind kind, const json_t *a, const json_t *b,
	const spread *of_a, const spread *of_b, bool beyond)
{
	result_difference d = { .path = g_strdup(w->path->str),
		.kind = kind,
		.a = a,
		.b = b,
		.low = { of_a->value ? of_a->low : NAN, of_b->value ? of_b->low : NAN },
		.high = { of_a->value ? of_a->high : NAN, of_b->value ? of_b->high : NAN },
		.beyond = beyond };
	g_array_append_val(w->diff->differences, d);
	w->diff->beyond += beyond;
}

static const spread no_spread = { NULL, NAN, NAN };

/* Appends ".key" for as long as the member is looked at. */
static size_t enter(walker *w, const char *key)
{
	size_t length = w->path->len;
	if (length > 0)
		g_string_append_c(w->path, '.');
	g_string_append(w->path, key);
	return length;
}

static void lone(walker *w, const json_t *value, bool added)
{
	add(w, added ? DIFFERENCE_ADDED : DIFFERENCE_REMOVED, added ? NULL : value,
		added ? value : NULL, &no_spread, &no_spread, true);
}

/* Whether a figure with a spread, of an object or of an object in it, is beyond it: 1 or 0; -1
 * where there is none. */
static int judge(const walker *w, const json_t *a, const json_t *b, bool deeper)
{
	int verdict = -1;
	spread of_a = spread_of(a), of_b = spread_of(b);
	const char *value = of_a.value ? of_a.value : of_b.value;
	if (value && json_object_get(a, value) && json_object_get(b, value))
		verdict = numbers_beyond(w, number_of(a, value), number_of(b, value), &of_a, &of_b);
	const char *key;
	json_t *member;
	json_object_foreach((json_t *)a, key, member)
	{
		const json_t *other = json_object_get(b, key);
		if (deeper && json_is_object(member) && json_is_object(other))
			verdict = MAX(verdict, judge(w, member, other, false));
	}
	return verdict;
}

static void compare_objects(walker *w, const json_t *a, const json_t *b)
{
	spread of_a = spread_of(a), of_b = spread_of(b);
	const int follows = judge(w, a, b, true);
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)a, key, value)
	{
		const json_t *other = json_object_get(b, key);
		size_t length = enter(w, key);
		bool has_spread = (of_a.value && g_str_equal(key, of_a.value)) ||
				  (of_b.value && g_str_equal(key, of_b.value));
		if (!other)
			lone(w, value, false);
		else if (!is_end(&of_a, key) || !of_b.value)
			compare_values(w, value, other, has_spread ? &of_a : &no_spread,
				has_spread ? &of_b : &no_spread, has_spread ? -1 : follows);
		g_string_truncate(w->path, length);
	}
	json_object_foreach((json_t *)b, key, value)
	{
		if (json_object_get(a, key))
			continue;
		size_t length = enter(w, key);
		lone(w, value, true);
		g_string_truncate(w->path, length);
	}
}

/* The rows of a list by their names. */
static GHashTable *index_rows(const json_t *array, const result_row_key *names)
{
	GHashTable *rows = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	for (size_t i = 0; i < json_array_size(array); i++) {
		json_t *row = json_array_get(array, i);
		g_hash_table_insert(rows, result_row_name(names, row, i), row);
	}
	return rows;
}

static void compare_arrays(walker *w, const json_t *a, const json_t *b)
{
	const result_row_key names = result_row_key_of(a, b);
	const json_t *arrays[] = { a, b };
	for (unsigned side = 0; side < 2; side++) {
		g_autoptr(GHashTable) others = index_rows(arrays[!side], &names);
		for (size_t i = 0; i < json_array_size(arrays[side]); i++) {
			const json_t *row = json_array_get(arrays[side], i);
			g_autofree char *name = result_row_name(&names, row, i);
			const json_t *other = g_hash_table_lookup(others, name);
			size_t length = w->path->len;
			g_string_append_printf(w->path, "[%s]", name);
			if (!other)
				lone(w, row, side == 1);
			else if (side == 0)
				compare_values(w, row, other, &no_spread, &no_spread, -1);
			g_string_truncate(w->path, length);
		}
	}
}

/* `follows`: what was found of the figure that these follow from; -1: they follow from none. */
static void compare_values(walker *w, const json_t *a, const json_t *b, const spread *of_a,
	const spread *of_b, int follows)
{
	if (json_is_object(a) && json_is_object(b)) {
		compare_objects(w, a, b);
		return;
	}
	if (json_is_array(a) && json_is_array(b)) {
		compare_arrays(w, a, b);
		return;
	}
	w->diff->compared++;
	if (!json_is_number(a) || !json_is_number(b)) {
		if (!json_equal(a, b))
			add(w, DIFFERENCE_CHANGED, a, b, &no_spread, &no_spread, true);
		return;
	}
	double x = json_number_value(a), y = json_number_value(b);
	bool same_spread = of_a->value == of_b->value &&
			   (!of_a->value || (of_a->low == of_b->low && of_a->high == of_b->high));
	if (x == y && same_spread)
		return;
	bool beyond = follows != 0 && numbers_beyond(w, x, y, of_a, of_b);
	add(w, DIFFERENCE_CHANGED, a, b, of_a, of_b, beyond);
}

void result_diff_make(result_diff *diff, const json_t *a, const json_t *b, double tolerance)
{
	*diff = (result_diff){ .differences =
				       g_array_new(FALSE, FALSE, sizeof(result_difference)) };
	walker w = { diff, tolerance, g_string_new(NULL) };
	compare_values(&w, a, b, &no_spread, &no_spread, -1);
	g_string_free(w.path, TRUE);
}

void result_diff_clear(result_diff *diff)
{
	for (guint i = 0; diff->differences && i < diff->differences->len; i++)
		g_free(g_array_index(diff->differences, result_difference, i).path);
	g_clear_pointer(&diff->differences, g_array_unref);
}
