/* test_command_options.c: the options that subcommands share, on a command of the test's own. */
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>

#include "sim/base/error.h"
#include "sim/cmd/command_options.h"

static const kvt_command sample = {
	.name = "sample",
	.summary = "A command of this test",
	.arguments = "FILE.ini",
};

typedef struct parsed {
	kvt_command_options options;
	char *policy;
	gboolean good;
	GError *error;
} parsed;

static void parsed_clear(parsed *result)
{
	kvt_command_options_clear(&result->options);
	g_free(result->policy);
	g_clear_error(&result->error);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(parsed, parsed_clear)

/* Parses the words of a line; an argument of one file is expected. */
static void parse(parsed *result, unsigned takes, const char *line)
{
	const GOptionEntry own[] = {
		{ "policy", 0, 0, G_OPTION_ARG_FILENAME, &result->policy, "eviction", "NAME" },
		{ 0 },
	};
	const kvt_command_syntax syntax = { &sample, takes, 1, 1, own };
	g_auto(GStrv) words = g_strsplit(line, " ", -1);
	memset(result, 0, sizeof(*result));
	result->good = kvt_command_parse(
		&syntax, (int)g_strv_length(words), words, &result->options, &result->error);
}

static void test_accepts(void)
{
	g_auto(parsed) all;
	parse(&all, KVT_TAKES_ALL,
		"sample --set a.b=1 run.ini --format=csv -o out.csv --set a.c=\u00b5\xff --policy "
		"lru");
	g_assert_no_error(all.error);
	g_assert_true(all.good);
	g_assert_cmpint(all.options.format, ==, KVT_FORMAT_CSV);
	g_assert_cmpstr(all.options.output, ==, "out.csv");
	g_assert_cmpstrv(all.options.sets, ((const char *[]){ "a.b=1", "a.c=\u00b5\xff", NULL }));
	g_assert_cmpstrv(all.options.arguments, ((const char *[]){ "run.ini", NULL }));
	g_assert_cmpstr(all.policy, ==, "lru");

	g_auto(parsed) least;
	parse(&least, KVT_TAKES_ALL, "sample -- --format");
	g_assert_true(least.good);
	g_assert_cmpint(least.options.format, ==, KVT_FORMAT_TABLE);
	g_assert_null(least.options.output);
	g_assert_cmpuint(g_strv_length(least.options.sets), ==, 0);
	g_assert_cmpstr(least.options.arguments[0], ==, "--format");
}

static void test_refuses(void)
{
	static const struct {
		unsigned takes;
		const char *line, *message;
	} cases[] = {
		{ KVT_TAKES_ALL, "sample x --fromat json",
			"\"--fromat\" is not an option, did you mean \"--format\"?" },
		{ KVT_TAKES_ALL, "sample x --polic=lru",
			"\"--polic\" is not an option, did you mean \"--policy\"?" },
		{ KVT_TAKES_SET, "sample x --format json",
			"\"--format\" is not an option, see \"kvtier sample --help\"" },
		{ KVT_TAKES_ALL, "sample x -z", "Unknown option -z, see \"kvtier sample --help\"" },
		{ KVT_TAKES_ALL, "sample x --format",
			"Missing argument for --format, see \"kvtier sample --help\"" },
		{ KVT_TAKES_ALL, "sample x --format yaml",
			"--format: \"yaml\" is not known, expected one of table, json, csv" },
		{ KVT_TAKES_ALL, "sample x --format jsno",
			"--format: \"jsno\" is not known, did you mean \"json\"? (one of table, "
			"json, csv)" },
		{ KVT_TAKES_ALL, "sample",
			"sample: expected FILE.ini, see \"kvtier sample --help\"" },
		{ KVT_TAKES_ALL, "sample x y",
			"\"y\" is one argument too many, see \"kvtier sample --help\"" },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_auto(parsed) result;
		parse(&result, cases[i].takes, cases[i].line);
		g_assert_false(result.good);
		g_assert_error(result.error, KVT_ERROR, KVT_ERROR_USAGE);
		g_assert_cmpstr(result.error->message, ==, cases[i].message);
	}
}

static void test_values(void)
{
	static const char *const names[] = { "lru", "belady", NULL };
	g_autoptr(GError) error = NULL;
	double budget;
	int policy;
	g_assert_true(kvt_command_quantity("--budget", "2%", KVT_UNIT_SHARE, &budget, &error));
	g_assert_cmpfloat(budget, ==, 0.02);
	g_assert_true(kvt_command_choice("--policy", "belady", names, &policy, &error));
	g_assert_cmpint(policy, ==, 1);
	g_assert_false(kvt_command_quantity("--budget", "3", KVT_UNIT_SHARE, &budget, &error));
	g_assert_cmpstr(error->message, ==,
		"--budget: \"3\" is more than the whole, expected a share between 0 and 1, like 2% "
		"or 0.02");
}

/* A result in a file comes out. */
static void test_files(void)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *folder = g_dir_make_tmp("kvtier-command-XXXXXX", NULL);
	g_autofree char *output = g_build_filename(folder, "out.json", NULL);
	g_autofree char *line =
		g_strdup_printf("sample run.ini --set run.seed=2 -o %s --format json", output);
	g_auto(parsed) result;
	parse(&result, KVT_TAKES_ALL, line);
	g_assert_no_error(result.error);
	g_assert_cmpstr(result.options.sets[0], ==, "run.seed=2");
	g_assert_null(result.options.sets[1]);

	json_t *value = kvt_json_result("sample", 1);
	json_object_set_new(value, "ttft_s", kvt_json_real(0.1));
	g_assert_true(kvt_command_print_json(&result.options, value, &error));
	g_assert_no_error(error);
	g_autofree char *json = NULL, *csv = NULL;
	g_assert_true(g_file_get_contents(output, &json, NULL, NULL));
	g_assert_cmpstr(json, ==, "{\n  \"schema\": \"kvtier.sample/1\",\n  \"ttft_s\": 0.1\n}\n");
	result.options.format = KVT_FORMAT_CSV;
	g_assert_true(kvt_command_print_json(&result.options, value, &error));
	g_assert_true(g_file_get_contents(output, &csv, NULL, NULL));
	g_assert_cmpstr(csv, ==, "name,value\nschema,kvtier.sample/1\nttft_s,0.1\n");

	g_free(result.options.output);
	result.options.output = g_strdup("/dev/full");
	if (g_file_test("/dev/full", G_FILE_TEST_EXISTS)) {
		g_assert_false(kvt_command_print_json(&result.options, value, &error));
		g_assert_error(error, KVT_ERROR, KVT_ERROR_FAILED);
		g_assert_cmpstr(error->message, ==,
			"/dev/full: cannot write the file: No space left on device");
		g_clear_error(&error);
	}
	g_free(result.options.output);
	result.options.output = g_build_filename(folder, "none", "out.json", NULL);
	g_assert_false(kvt_command_print_json(&result.options, value, &error));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_FAILED);
	g_assert_true(g_str_has_suffix(error->message,
		"/none/out.json: cannot write the file: No such file or directory"));
	json_decref(value);
	g_remove(output);
	g_rmdir(folder);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/command-options/accepts", test_accepts);
	g_test_add_func("/command-options/refuses", test_refuses);
	g_test_add_func("/command-options/values", test_values);
	g_test_add_func("/command-options/files", test_files);
	return g_test_run();
}
