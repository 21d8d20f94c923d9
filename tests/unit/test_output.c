/* test_output.c: the three forms of a table, and JSON that reads back as what was written. */
#include <glib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/base/error.h"
#include "sim/base/output.h"
#include "sim/base/rng.h"

static const kvt_column columns[] = {
	{ .key = "id", .header = "row", .type = KVT_CELL_TEXT },
	{ .key = "ttft_s", .header = "TTFT", .type = KVT_CELL_NUMBER, .unit = KVT_UNIT_TIME },
	{ .key = "error",
		.header = "error",
		.type = KVT_CELL_NUMBER,
		.format = "%+.1f%%",
		.scale = 100 },
	{ .key = "tokens", .header = "tokens", .type = KVT_CELL_INTEGER },
	{ .key = "fitted", .header = "fitted", .type = KVT_CELL_BOOL },
	{ .key = "hidden", .type = KVT_CELL_NUMBER },
	{ .key = "note", .header = "note", .type = KVT_CELL_TEXT },
	{ 0 },
};

static kvt_table *sample(void)
{
	kvt_table *table = kvt_table_new(columns);
	kvt_table_add_row(table);
	kvt_table_add_text(table, "qwen");
	kvt_table_add_number(table, 1.3);
	kvt_table_add_number(table, 0.021);
	kvt_table_add_integer(table, 1000000);
	kvt_table_add_bool(table, true);
	kvt_table_add_number(table, 0.1);
	kvt_table_add_text(table, "a \"b\",\nc");
	kvt_table_add_row(table);
	kvt_table_add_text(table, "scout \u00e9\u754c");
	kvt_table_add_number(table, NAN);
	kvt_table_add_number(table, -0.5);
	kvt_table_add_none(table);
	kvt_table_add_bool(table, false);
	kvt_table_add_row(table);
	return table;
}

static char *written(const kvt_table *table, kvt_format format)
{
	char *text = NULL;
	size_t length;
	FILE *stream = open_memstream(&text, &length);
	g_autoptr(GError) error = NULL;
	g_assert_true(kvt_table_write(table, format, stream, &error));
	g_assert_no_error(error);
	fclose(stream);
	return text;
}

static void test_table(void)
{
	g_autoptr(kvt_table) table = sample();
	char *text = written(table, KVT_FORMAT_TABLE);
	g_assert_cmpstr(text, ==,
		"row          TTFT   error   tokens  fitted  note\n"
		"---------  ------  ------  -------  ------  --------\n"
		"qwen       1.30 s   +2.1%  1000000     yes  a \"b\", c\n"
		"scout \u00e9\u754c       -  -50.0%        -      no  -\n"
		"-               -       -        -       -  -\n");
	free(text);
	g_assert_cmpuint(kvt_table_rows(table), ==, 3);
}

static void test_csv(void)
{
	g_autoptr(kvt_table) table = sample();
	char *text = written(table, KVT_FORMAT_CSV);
	g_assert_cmpstr(text, ==,
		"id,ttft_s,error,tokens,fitted,hidden,note\n"
		"qwen,1.3,0.021,1000000,true,0.1,\"a \"\"b\"\",\nc\"\n"
		"scout \u00e9\u754c,,-0.5,,false,,\n"
		",,,,,,\n");
	free(text);
}

static void test_json(void)
{
	g_autoptr(kvt_table) table = sample();
	char *text = written(table, KVT_FORMAT_JSON);
	g_assert_true(g_str_has_prefix(text, "[\n"
					     "  {\n"
					     "    \"id\": \"qwen\",\n"
					     "    \"ttft_s\": 1.3,\n"
					     "    \"error\": 0.021,\n"
					     "    \"tokens\": 1000000,\n"
					     "    \"fitted\": true,\n"
					     "    \"hidden\": 0.1,\n"
					     "    \"note\": \"a \\\"b\\\",\\nc\"\n"
					     "  },\n"));
	json_t *read = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	json_t *same = kvt_table_to_json(table);
	g_assert_true(json_equal(read, same));
	g_assert_true(json_is_null(json_object_get(json_array_get(read, 1), "ttft_s")));
	json_decref(read);
	json_decref(same);
	free(text);
}

/* Every double comes back as itself from at most 17 digits, and short ones stay short. */
static void test_numbers(void)
{
	static const struct {
		double number;
		const char *text;
	} cases[] = { { 0.1, "0.1" }, { 3, "3" }, { -0.0, "-0" }, { 1e22, "1e+22" },
		{ 5e-324, "4.94065645841247e-324" }, { 1.0 / 3, "0.3333333333333333" },
		{ NAN, "null" }, { -INFINITY, "null" }, { 45.7e9, "45700000000" } };
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *text = kvt_number_text(cases[i].number);
		g_assert_cmpstr(text, ==, cases[i].text);
	}
	kvt_rng rng = kvt_rng_init(1, 0);
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t bits = kvt_rng_next(&rng);
		double number;
		memcpy(&number, &bits, sizeof(number));
		if (!isfinite(number))
			continue;
		g_autofree char *text = kvt_number_text(number);
		g_assert_cmpfloat(g_ascii_strtod(text, NULL), ==, number);
	}
}

static void test_values(void)
{
	json_t *result = kvt_json_result("run", 2);
	json_object_set_new(result, "whole", kvt_json_real(3));
	json_object_set_new(result, "nan", kvt_json_real(NAN));
	json_object_set_new(result, "text", kvt_json_text("\xff\"\x01"));
	json_object_set_new(result, "none", kvt_json_text(NULL));
	json_object_set_new(result, "empty", json_array());
	json_object_set_new(result, "object", json_object());
	json_object_set_new(result, "list", json_pack("[i, f, b, n]", 1, 2.5, 1));
	json_object_set_new(result, "bytes", json_pack("{s: i, s: [s]}", "hbm", 7, "of", "x"));
	g_autofree char *text = kvt_json_dump(result);
	g_assert_cmpstr(text, ==,
		"{\n"
		"  \"schema\": \"kvtier.run/2\",\n"
		"  \"whole\": 3.0,\n"
		"  \"nan\": null,\n"
		"  \"text\": \"\ufffd\\\"\\u0001\",\n"
		"  \"none\": null,\n"
		"  \"empty\": [],\n"
		"  \"object\": {},\n"
		"  \"list\": [1, 2.5, true, null],\n"
		"  \"bytes\": {\n"
		"    \"hbm\": 7,\n"
		"    \"of\": [\n"
		"      \"x\"\n"
		"    ]\n"
		"  }\n"
		"}\n");
	json_t *read = json_loads(text, 0, NULL);
	g_assert_true(json_equal(read, result));
	json_decref(read);

	g_autoptr(kvt_table) table = kvt_table_from_json(result);
	char *csv = written(table, KVT_FORMAT_CSV);
	g_assert_cmpstr(csv, ==,
		"name,value\n"
		"schema,kvtier.run/2\n"
		"whole,3.0\n"
		"nan,\n"
		"text,\"\ufffd\"\"\x01\"\n"
		"none,\n"
		"list.0,1\n"
		"list.1,2.5\n"
		"list.2,true\n"
		"list.3,\n"
		"bytes.hbm,7\n"
		"bytes.of.0,x\n");
	free(csv);
	json_decref(result);
}

static void test_full_disk(void)
{
	FILE *stream = fopen("/dev/full", "w");
	if (stream == NULL) {
		g_test_skip("this system has no /dev/full");
		return;
	}
	setvbuf(stream, NULL, _IONBF, 0);
	g_autoptr(kvt_table) table = sample();
	for (kvt_format format = KVT_FORMAT_TABLE; format <= KVT_FORMAT_CSV; format++) {
		g_autoptr(GError) error = NULL;
		g_assert_false(kvt_table_write(table, format, stream, &error));
		g_assert_error(error, KVT_ERROR, KVT_ERROR_FAILED);
	}
	fclose(stream);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/output/table", test_table);
	g_test_add_func("/output/csv", test_csv);
	g_test_add_func("/output/json", test_json);
	g_test_add_func("/output/numbers", test_numbers);
	g_test_add_func("/output/values", test_values);
	g_test_add_func("/output/full-disk", test_full_disk);
	return g_test_run();
}
