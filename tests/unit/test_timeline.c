/* test_timeline.c: timelines are read back with jansson: names, nesting, times, limits, errors. */
#include <glib.h>
#include <glib/gstdio.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "sim/base/error.h"
#include "sim/base/rng.h"
#include "sim/core/timeline.h"

static char *temporary(void)
{
	g_autoptr(GError) error = NULL;
	char *path = NULL;
	int file = g_file_open_tmp("kvt-timeline-XXXXXX.json", &path, &error);
	g_assert_no_error(error);
	close(file);
	return path;
}

static char *write_text(const kvt_timeline *t)
{
	g_autofree char *path = temporary();
	g_autoptr(GError) error = NULL;
	char *text = NULL;
	g_assert_true(kvt_timeline_write(t, path, &error));
	g_assert_no_error(error);
	g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
	g_remove(path);
	return text;
}

static json_t *parse(const char *text)
{
	json_error_t error;
	json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
	if (root == NULL)
		g_error("line %d: %s", error.line, error.text);
	return root;
}

static json_t *events(json_t *root)
{
	json_t *array = json_object_get(root, "traceEvents");
	g_assert_true(json_is_array(array));
	return array;
}

static const char *text_of(json_t *event, const char *key)
{
	return json_string_value(json_object_get(event, key));
}

/* Picoseconds of a time in microseconds; exact for what the tests use. */
static int64_t ps_of(json_t *event, const char *key)
{
	json_t *number = json_object_get(event, key);
	g_assert_true(json_is_real(number));
	return llround(json_real_value(number) * 1e6);
}

/* The n-th event of a type whose name, or args.name of metadata, is `name`. */
static json_t *find(json_t *array, const char *type, const char *name, unsigned n)
{
	size_t i;
	json_t *event;
	json_array_foreach(array, i, event)
	{
		if (strcmp(text_of(event, "ph"), type) != 0)
			continue;
		const char *found = strcmp(type, "M") == 0
					    ? text_of(json_object_get(event, "args"), "name")
					    : text_of(event, "name");
		if (found != NULL && strcmp(found, name) == 0 && n-- == 0)
			return event;
	}
	return NULL;
}

static int64_t integer(json_t *event, const char *key)
{
	g_assert_nonnull(event);
	json_t *value = json_object_get(event, key);
	g_assert_true(json_is_integer(value));
	return json_integer_value(value);
}

static void test_tracks_and_times(void)
{
	g_autoptr(kvt_timeline) t = kvt_timeline_new(KVT_TIMELINE_DEFAULT_LIMIT);
	kvt_track node = kvt_timeline_track(t, "node 0", 0);
	kvt_track other = kvt_timeline_track(t, "node 1", 0);
	kvt_track gpu = kvt_timeline_track(t, "gpu 0", node);
	kvt_track copy = kvt_timeline_track(t, "copy", gpu);
	kvt_timeline_span(t, gpu, "layer 0", 1000001, 5000000);
	kvt_timeline_span_bytes(t, copy, "load", 0, 1, 1ull << 52);
	kvt_timeline_span(t, other, "wait", 3, 3);
	kvt_timeline_counter(t, node, "pages", 1500000, 12.5);
	kvt_timeline_counter(t, gpu, "pages", 1500000, 1e-300);
	kvt_timeline_counter(t, gpu, "ratio", 1500000, NAN);
	g_autofree char *text = write_text(t);
	json_t *root = parse(text), *all = events(root);

	int64_t pid = integer(find(all, "M", "node 0", 0), "pid");
	json_t *layer = find(all, "X", "layer 0", 0), *load = find(all, "X", "load", 0);
	g_assert_cmpint(ps_of(layer, "ts"), ==, 1000001);
	g_assert_cmpint(ps_of(layer, "dur"), ==, 3999999);
	g_assert_cmpint(integer(layer, "pid"), ==, pid);
	g_assert_null(json_object_get(layer, "args"));
	g_assert_cmpint(ps_of(load, "ts"), ==, 0);
	g_assert_cmpint(ps_of(load, "dur"), ==, 1);
	g_assert_cmpint(integer(json_object_get(load, "args"), "bytes"), ==, 1ll << 52);
	g_assert_cmpint(integer(load, "pid"), ==, pid);
	g_assert_cmpint(integer(load, "tid"), !=, integer(layer, "tid"));
	json_t *thread = find(all, "M", "gpu 0 / copy", 0);
	g_assert_cmpstr(text_of(thread, "name"), ==, "thread_name");
	g_assert_cmpint(integer(thread, "tid"), ==, integer(load, "tid"));
	json_t *wait = find(all, "X", "wait", 0);
	g_assert_cmpint(integer(wait, "pid"), ==, integer(find(all, "M", "node 1", 0), "pid"));
	g_assert_cmpint(integer(wait, "pid"), !=, pid);
	g_assert_cmpint(ps_of(wait, "dur"), ==, 0);
	json_t *pages = find(all, "C", "pages", 0);
	g_assert_cmpint(ps_of(pages, "ts"), ==, 1500000);
	g_assert_cmpfloat(
		json_number_value(json_object_get(json_object_get(pages, "args"), "value")), ==,
		12.5);
	pages = find(all, "C", "gpu 0 / pages", 0);
	g_assert_cmpfloat(
		json_number_value(json_object_get(json_object_get(pages, "args"), "value")), ==,
		1e-300);
	g_assert_null(find(all, "C", "gpu 0 / ratio", 0));
	json_decref(root);
	/* The text has every picosecond, which a double need not. */
	g_assert_nonnull(strstr(text, "\"ts\":1.000001,\"dur\":3.999999"));
}

/* Large times keep their order to the picosecond in the text. */
static void test_long_times(void)
{
	g_autoptr(kvt_timeline) t = kvt_timeline_new(10);
	kvt_track node = kvt_timeline_track(t, "node", 0);
	kvt_timeline_span(t, node, "late", INT64_MAX - 1, INT64_MAX);
	g_autofree char *text = write_text(t);
	g_assert_nonnull(strstr(text, "\"ts\":9223372036854.775806,\"dur\":0.000001"));
	json_decref(parse(text));
}

/* Random spans that overlap as they like: none is lost, and in a lane any two nest or are apart. */
static void test_lanes(void)
{
	enum { SPANS = 400 };
	g_autoptr(kvt_timeline) t = kvt_timeline_new(SPANS);
	kvt_track node = kvt_timeline_track(t, "node", 0);
	kvt_track link = kvt_timeline_track(t, "link", node);
	kvt_rng rng = kvt_rng_init(1, 1);
	for (unsigned i = 0; i < SPANS; i++) {
		kvt_time start = (kvt_time)kvt_rng_below(&rng, 1000);
		kvt_timeline_span_bytes(
			t, link, "transfer", start, start + (kvt_time)kvt_rng_below(&rng, 60), i);
	}
	g_autofree char *text = write_text(t);
	json_t *root = parse(text), *all = events(root);
	int64_t start[SPANS], end[SPANS], lane[SPANS], lanes = 0;
	bool seen[SPANS] = { false };
	for (unsigned i = 0; i < SPANS; i++) {
		json_t *span = find(all, "X", "transfer", i);
		g_assert_nonnull(span);
		start[i] = ps_of(span, "ts");
		end[i] = start[i] + ps_of(span, "dur");
		lane[i] = integer(span, "tid");
		lanes = MAX(lanes, lane[i]);
		int64_t bytes = integer(json_object_get(span, "args"), "bytes");
		g_assert_false(seen[bytes]);
		seen[bytes] = true;
	}
	g_assert_null(find(all, "X", "transfer", SPANS));
	for (unsigned i = 0; i < SPANS; i++)
		for (unsigned j = 0; j < i; j++) {
			bool apart = start[i] >= end[j] || start[j] >= end[i];
			bool nest = (start[i] >= start[j] && end[i] <= end[j]) ||
				    (start[j] >= start[i] && end[j] <= end[i]);
			g_assert_true(lane[i] != lane[j] || apart || nest);
		}
	g_assert_cmpint(lanes, >, 1);
	g_assert_cmpint(lanes, <, 40);
	g_assert_nonnull(find(all, "M", "link", 0));
	g_assert_nonnull(find(all, "M", "link #2", 0));
	json_decref(root);
}

/* Spans that nest share a row, and one that only touches its neighbour does too. */
static void test_nesting(void)
{
	g_autoptr(kvt_timeline) t = kvt_timeline_new(10);
	kvt_track node = kvt_timeline_track(t, "node", 0);
	kvt_timeline_span(t, node, "inner", 10, 20);
	kvt_timeline_span(t, node, "outer", 10, 30);
	kvt_timeline_span(t, node, "next", 30, 40);
	kvt_timeline_span(t, node, "across", 25, 35);
	g_autofree char *text = write_text(t);
	json_t *root = parse(text), *all = events(root);
	int64_t row = integer(find(all, "X", "outer", 0), "tid");
	g_assert_cmpint(integer(find(all, "X", "inner", 0), "tid"), ==, row);
	g_assert_cmpint(integer(find(all, "X", "next", 0), "tid"), ==, row);
	g_assert_cmpint(integer(find(all, "X", "across", 0), "tid"), !=, row);
	/* The holder comes first, as viewers want it. */
	g_assert_true(strstr(text, "\"outer\"") < strstr(text, "\"inner\""));
	json_decref(root);
}

static void test_names(void)
{
	static const char *const names[] = { "quote \" backslash \\ slash /", "tab\t newline\n",
		"\x01\x1f\x7f", "K\xc3\xb6ln \xe2\x82\xac", "" };
	g_autoptr(kvt_timeline) t = kvt_timeline_new(10);
	kvt_track node = kvt_timeline_track(t, names[0], 0);
	for (unsigned i = 0; i < G_N_ELEMENTS(names); i++)
		kvt_timeline_span(t, node, names[i], 0, 1);
	kvt_timeline_span(t, node, "broken \xff\xfe", 0, 1);
	g_autofree char *text = write_text(t);
	json_t *root = parse(text), *all = events(root);
	for (unsigned i = 0; i < G_N_ELEMENTS(names); i++)
		g_assert_nonnull(find(all, "X", names[i], 0));
	g_assert_nonnull(find(all, "X", "broken \xef\xbf\xbd\xef\xbf\xbd", 0));
	g_assert_nonnull(find(all, "M", names[0], 0));
	json_decref(root);
}

static void test_limit(void)
{
	g_autoptr(kvt_timeline) t = kvt_timeline_new(3);
	kvt_track node = kvt_timeline_track(t, "node", 0);
	for (unsigned i = 0; i < 5; i++)
		kvt_timeline_span(t, node, "span", i, i + 1);
	kvt_timeline_counter(t, node, "value", 9, 1);
	g_assert_cmpuint(kvt_timeline_dropped(t), ==, 3);
	g_autofree char *text = write_text(t);
	json_t *root = parse(text);
	json_t *other = json_object_get(root, "otherData");
	g_assert_cmpint(integer(other, "dropped"), ==, 3);
	g_assert_cmpint(integer(other, "limit"), ==, 3);
	g_assert_nonnull(find(events(root), "X", "span", 2));
	g_assert_null(find(events(root), "X", "span", 3));
	json_decref(root);
}

static void test_off(void)
{
	g_autoptr(GError) error = NULL;
	g_assert_cmpuint(kvt_timeline_track(NULL, "node", 0), ==, 0);
	kvt_timeline_span(NULL, 0, "span", 0, 1);
	kvt_timeline_span_bytes(NULL, 0, "span", 0, 1, 2);
	kvt_timeline_counter(NULL, 0, "value", 0, 1);
	g_assert_cmpuint(kvt_timeline_dropped(NULL), ==, 0);
	g_assert_true(kvt_timeline_write(NULL, "/nonexistent/timeline.json", &error));
	g_assert_no_error(error);
	kvt_timeline_free(NULL);
}

static void test_empty_and_repeated(void)
{
	g_autoptr(kvt_timeline) t = kvt_timeline_new(10);
	g_autofree char *empty = write_text(t);
	json_t *root = parse(empty);
	g_assert_cmpuint(json_array_size(events(root)), ==, 0);
	json_decref(root);
	kvt_track node = kvt_timeline_track(t, "node", 0);
	kvt_timeline_span(t, node, "span", 0, 1);
	g_autofree char *first = write_text(t), *second = write_text(t);
	g_assert_cmpstr(first, ==, second);
}

static void test_errors(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_timeline) t = kvt_timeline_new(100000);
	kvt_track node = kvt_timeline_track(t, "node", 0);
	kvt_timeline_span(t, node, "span", 0, 1);
	g_assert_false(kvt_timeline_write(t, "/nonexistent/timeline.json", &error));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_FAILED);
	g_assert_true(g_str_has_prefix(error->message, "/nonexistent/timeline.json: "));
	g_clear_error(&error);
	if (g_access("/dev/full", W_OK) != 0) {
		g_test_skip("no /dev/full here");
		return;
	}
	/* Both when the last flush fails, and when a write long before it does. */
	for (unsigned round = 0; round < 2; round++) {
		g_assert_false(kvt_timeline_write(t, "/dev/full", &error));
		g_assert_error(error, KVT_ERROR, KVT_ERROR_FAILED);
		g_assert_nonnull(strstr(error->message, g_strerror(ENOSPC)));
		g_clear_error(&error);
		for (unsigned i = 0; i < 5000; i++)
			kvt_timeline_span(t, node, "span", i, i + 1);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/timeline/tracks-and-times", test_tracks_and_times);
	g_test_add_func("/timeline/long-times", test_long_times);
	g_test_add_func("/timeline/lanes", test_lanes);
	g_test_add_func("/timeline/nesting", test_nesting);
	g_test_add_func("/timeline/names", test_names);
	g_test_add_func("/timeline/limit", test_limit);
	g_test_add_func("/timeline/off", test_off);
	g_test_add_func("/timeline/empty-and-repeated", test_empty_and_repeated);
	g_test_add_func("/timeline/errors", test_errors);
	return g_test_run();
}
