/* test_config.c: option tables, inheritance, includes, overrides, and the text of every refusal. */
#include <glib.h>
#include <glib/gstdio.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "sim/base/config.h"
#include "sim/base/error.h"
#include "sim/base/sim_time.h"

typedef struct fabric {
	double rate, share;
	kvt_time latency;
	uint64_t page;
	int64_t ports, offset;
	bool lossless;
	int kind;
	char *source;
} fabric;

static const char *const kinds[] = { "rdma", "tcp", NULL };

static const kvt_option fabric_options[] = {
	{ .name = "rate",
		.type = KVT_OPTION_QUANTITY,
		.unit = KVT_UNIT_RATE,
		.offset = offsetof(fabric, rate),
		.low = 1,
		.high = INFINITY,
		.help = "rate of one port" },
	{ .name = "share",
		.type = KVT_OPTION_QUANTITY,
		.unit = KVT_UNIT_SHARE,
		.offset = offsetof(fabric, share),
		.fallback = "90%",
		.help = "share of the rate that data can use" },
	{ .name = "latency",
		.type = KVT_OPTION_TIME,
		.offset = offsetof(fabric, latency),
		.fallback = "2us",
		.low = 0,
		.high = 1,
		.help = "time to the first byte" },
	{ .name = "page",
		.type = KVT_OPTION_BYTES,
		.offset = offsetof(fabric, page),
		.fallback = "64KiB",
		.help = "bytes of a page" },
	{ .name = "ports",
		.type = KVT_OPTION_INTEGER,
		.offset = offsetof(fabric, ports),
		.fallback = "1",
		.low = 1,
		.high = 64,
		.help = "ports a node" },
	{ .name = "offset",
		.type = KVT_OPTION_INTEGER,
		.offset = offsetof(fabric, offset),
		.fallback = "0",
		.low = -INFINITY,
		.high = INFINITY,
		.help = "first port" },
	{ .name = "lossless",
		.type = KVT_OPTION_BOOL,
		.offset = offsetof(fabric, lossless),
		.fallback = "yes",
		.help = "whether the fabric loses no packet" },
	{ .name = "kind",
		.type = KVT_OPTION_CHOICE,
		.choices = kinds,
		.offset = offsetof(fabric, kind),
		.fallback = "rdma",
		.help = "transport" },
	{ .name = "source",
		.type = KVT_OPTION_STRING,
		.offset = offsetof(fabric, source),
		.fallback = "",
		.help = "where the figures are from" },
	{ 0 },
};

/* Reads [fabric] of a text and returns the error's message; NULL when there was none. */
static char *message_of(const char *text, const char *set)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_config) config = kvt_config_parse("run.ini", text, &error);
	static const char *const known[] = { "fabric", "run", NULL };
	fabric target;
	bool good = config != NULL && (set == NULL || kvt_config_set(config, set, &error));
	if (good) {
		good = kvt_section_read(kvt_config_section_or_empty(config, "fabric"),
			fabric_options, &target, TRUE, &error);
		if (good)
			kvt_option_clear(fabric_options, &target);
		good = good && kvt_config_check_used(config, known, &error);
	}
	if (good) {
		g_assert_no_error(error);
		return NULL;
	}
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
	return g_strdup(error->message);
}

static void test_values(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_config) config = kvt_config_parse("run.ini",
		"\xef\xbb\xbf# a comment\r\n"
		"\t[ fabric ]   ; another\r\n"
		"rate=400Gb/s # line rate\r\n"
		"  latency\t= 350ns\r\n"
		"page = 16 KiB\r\n"
		"ports = 2\r\n"
		"offset = -9007199254740993\r\n"
		"lossless = off\r\n"
		"kind = tcp\r\n"
		"source = a = b#c;d \"quoted\" \u00b5\r\n"
		"\r\n"
		"[drive csd5000]",
		&error);
	g_assert_no_error(error);
	fabric target;
	g_assert_true(kvt_section_read(
		kvt_config_section(config, "fabric"), fabric_options, &target, TRUE, &error));
	g_assert_no_error(error);
	g_assert_cmpfloat(target.rate, ==, 50e9);
	g_assert_cmpfloat(target.share, ==, 0.9);
	g_assert_cmpint(target.latency, ==, 350 * KVT_NANOSECOND);
	g_assert_cmpuint(target.page, ==, 16384);
	g_assert_cmpint(target.ports, ==, 2);
	g_assert_cmpint(target.offset, ==, -9007199254740993);
	g_assert_false(target.lossless);
	g_assert_cmpint(target.kind, ==, 1);
	g_assert_cmpstr(target.source, ==, "a = b#c;d \"quoted\" \u00b5");
	kvt_option_clear(fabric_options, &target);
	g_assert_null(target.source);

	g_assert_null(kvt_config_section(config, "drive"));
	g_assert_nonnull(kvt_config_section(config, "drive csd5000"));
	g_assert_true(kvt_config_check_used(config, NULL, &error));
	g_assert_no_error(error);
	g_assert_cmpstr(kvt_config_path(config), ==, "run.ini");
}

static void test_names(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_config) config = kvt_config_parse("run.ini",
		"[drive b]\nz=1\na=2\n[drives]\n[drive\t  a.1]\n[drive]\n[run]\n", &error);
	g_assert_no_error(error);
	g_autofree const char **drives = kvt_config_section_names(config, "drive");
	g_assert_cmpstrv(drives, ((const char *[]){ "drive b", "drive a.1", "drive", NULL }));
	g_autofree const char **all = kvt_config_section_names(config, "");
	g_assert_cmpuint(g_strv_length((char **)all), ==, 5);
	kvt_section *section = kvt_config_section(config, "drive b");
	g_assert_cmpstr(kvt_section_name(section), ==, "drive b");
	g_autofree const char **keys = kvt_section_keys(section);
	g_assert_cmpstrv(keys, ((const char *[]){ "z", "a", NULL }));
}

static void test_inheritance(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_config) config = kvt_config_parse(
		"run.ini", "[global]\nrate = 1GB/s\nports = 3\n[fabric]\nports = 4\n", &error);
	g_assert_no_error(error);
	fabric target;
	g_assert_true(kvt_section_read(
		kvt_config_section(config, "fabric"), fabric_options, &target, TRUE, &error));
	g_assert_cmpfloat(target.rate, ==, 1e9);
	g_assert_cmpint(target.ports, ==, 4);
	kvt_option_clear(fabric_options, &target);

	kvt_section *absent = kvt_config_section_or_empty(config, "fabric second");
	g_assert_true(kvt_section_read(absent, fabric_options, &target, TRUE, &error));
	g_assert_cmpint(target.ports, ==, 3);
	kvt_option_clear(fabric_options, &target);
	g_assert_cmpstr(kvt_section_text(absent, "rate"), ==, "1GB/s");
	g_assert_null(kvt_section_text(absent, "latency"));
	g_assert_true(kvt_config_check_used(config, NULL, &error));
	g_assert_no_error(error);
}

/* A NULL section is an empty one: defaults, or the first required key's error. */
static void test_null_section(void)
{
	g_autoptr(GError) error = NULL;
	fabric target;
	g_assert_false(kvt_section_read(NULL, fabric_options, &target, TRUE, &error));
	g_assert_cmpstr(error->message, ==,
		"rate: the key is missing, expected a rate with a unit, like 45GB/s or 400Gb/s");
	g_assert_null(target.source);
	g_clear_error(&error);
	g_assert_true(kvt_section_read(NULL, fabric_options + 1, &target, TRUE, &error));
	g_assert_no_error(error);
	g_assert_cmpuint(target.page, ==, 65536);
	kvt_option_clear(fabric_options, &target);
}

/* A text that was read before another option failed is freed and gone. */
static void test_failed_read(void)
{
	static const kvt_option text_first[] = {
		{ .name = "source", .type = KVT_OPTION_STRING, .offset = offsetof(fabric, source) },
		{ .name = "page", .type = KVT_OPTION_BYTES, .offset = offsetof(fabric, page) },
		{ 0 },
	};
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_config) config =
		kvt_config_parse("run.ini", "[fabric]\nsource = x\npage = 3\n", &error);
	fabric target;
	g_assert_false(kvt_section_read(
		kvt_config_section(config, "fabric"), text_first, &target, TRUE, &error));
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
	g_assert_null(target.source);
}

typedef struct refusal {
	const char *text, *set, *message;
} refusal;

static void check_refusals(const refusal *refusals, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		g_autofree char *message = message_of(refusals[i].text, refusals[i].set);
		g_assert_cmpstr(message, ==, refusals[i].message);
	}
}

static void test_refused_lines(void)
{
	static const refusal refusals[] = {
		{ "[fabric]\nrate\n", NULL,
			"run.ini:2: [fabric] \"rate\" has no \"=\", expected \"key = value\" or "
			"\"[section]\"" },
		{ "rate = 3GB/s\n", NULL,
			"run.ini:1: rate: the key stands before the first [section]" },
		{ "[fabric]\n = 3\n", NULL, "run.ini:2: [fabric] there is no key before \"=\"" },
		{ "[fabric]\nRate = 3\n", NULL,
			"run.ini:2: [fabric] \"Rate\" is not a key, expected lower-case letters, "
			"digits, _ . and -" },
		{ "\n[fabric\n", NULL, "run.ini:2: the section has no closing \"]\"" },
		{ "[fabric] x\n", NULL, "run.ini:1: there is text after the section's \"]\"" },
		{ "[ ]\n", NULL, "run.ini:1: the section has no name" },
		{ "[a=b]\n", NULL,
			"run.ini:1: \"a=b\" is not a section name, expected letters, digits and _ "
			". + - with spaces between words" },
		{ "[fabric]\nrate=1GB/s\n[run]\n[fabric]\n", NULL,
			"run.ini:4: [fabric]: the section is there already, at line 1" },
		{ "[fabric]\nrate=1GB/s\nrate = 2GB/s", NULL,
			"run.ini:3: [fabric] rate: the key is there already, at line 2" },
		{ "[fabric]\nrate=\x01\n", NULL,
			"run.ini:2: [fabric] the line has the control character 0x01, expected "
			"text" },
		{ "[fabric]\nrate=1\r2\n", NULL,
			"run.ini:2: [fabric] the line has the control character 0x0d, expected "
			"text" },
		{ "[fabric]\nrate=\xff\n", NULL, "run.ini:2: [fabric] the line is not UTF-8 text" },
		{ "include = a.ini\n", NULL,
			"run.ini:1: include: text that is not a file cannot include one" },
	};
	check_refusals(refusals, G_N_ELEMENTS(refusals));
}

static void test_refused_values(void)
{
	static const refusal refusals[] = {
		{ "[fabric]\nrate = 45\n", NULL,
			"run.ini:2: [fabric] rate: \"45\" has no unit, expected a rate with a "
			"unit, like 45GB/s or 400Gb/s" },
		{ "[global]\nrate = 45\n[fabric]\n", NULL,
			"run.ini:2: [global] rate: \"45\" has no unit, expected a rate with a "
			"unit, like 45GB/s or 400Gb/s" },
		{ "[fabric]\nshare = 90%\n", NULL,
			"run.ini:1: [fabric] rate: the key is missing, expected a rate with a "
			"unit, like 45GB/s or 400Gb/s" },
		{ "[fabric]\nrate =\n", NULL,
			"run.ini:2: [fabric] rate: \"\" is empty, expected a rate with a unit, "
			"like 45GB/s or 400Gb/s" },
		{ "[fabric]\nrate = 0GB/s\n", NULL,
			"run.ini:2: [fabric] rate: \"0GB/s\" is out of range, expected at least 1 "
			"B/s" },
		{ "[fabric]\nrate = 1GB/s\nports = 65\n", NULL,
			"run.ini:3: [fabric] ports: \"65\" is out of range, expected between 1 and "
			"64" },
		{ "[fabric]\nrate = 1GB/s\nports = -1\n", NULL,
			"run.ini:3: [fabric] ports: \"-1\" is negative, expected a whole number, "
			"like 4, 128 or 400K" },
		{ "[fabric]\nrate = 1GB/s\noffset = 99999999999999999999\n", NULL,
			"run.ini:3: [fabric] offset: \"99999999999999999999\" is too large, "
			"expected at most 9.2e18" },
		{ "[fabric]\nrate = 1GB/s\npage = 20000PB\n", NULL,
			"run.ini:3: [fabric] page: \"20000PB\" is too large, expected at most "
			"9.2e18B" },
		{ "[fabric]\nrate = 1GB/s\nlatency = 2s\n", NULL,
			"run.ini:3: [fabric] latency: \"2s\" is out of range, expected between 0 s "
			"and 1 s" },
		{ "[fabric]\nrate = 1GB/s\nlossless = maybe\n", NULL,
			"run.ini:3: [fabric] lossless: \"maybe\" is neither, expected yes or no" },
		{ "[fabric]\nrate = 1GB/s\nkind = rmda\n", NULL,
			"run.ini:3: [fabric] kind: \"rmda\" is not known, did you mean \"rdma\"? "
			"(one of rdma, tcp)" },
		{ "[fabric]\nrate = 1GB/s\nkind = infiniband\n", NULL,
			"run.ini:3: [fabric] kind: \"infiniband\" is not known, expected one of "
			"rdma, tcp" },
	};
	check_refusals(refusals, G_N_ELEMENTS(refusals));
}

static void test_refused_names(void)
{
	static const refusal refusals[] = {
		{ "[fabric]\nrat = 45GB/s\n", NULL,
			"run.ini:2: [fabric] rat: unknown key, did you mean \"rate\"?" },
		{ "[fabric]\nrate = 45GB/s\ncolour = red\n", NULL,
			"run.ini:3: [fabric] colour: unknown key, expected one of rate, share, "
			"latency, page, ports, offset, lossless, kind, source" },
		{ "[fabric]\nrate = 45GB/s\n[fabrik]\n", NULL,
			"run.ini:3: [fabrik]: unknown section, did you mean [fabric]?" },
		{ "[fabric]\nrate = 45GB/s\n[fabrik one]\n", NULL,
			"run.ini:3: [fabrik one]: unknown section, did you mean [fabric]?" },
		{ "[fabric]\nrate = 45GB/s\n[zebra]\n", NULL,
			"run.ini:3: [zebra]: unknown section, nothing here reads it" },
		{ "[global]\nlatncy = 1us\n[fabric]\nrate = 45GB/s\n", NULL,
			"run.ini:2: [global] latncy: unknown key, did you mean \"latency\"?" },
		{ "[global]\ncolour = red\n[fabric]\nrate = 45GB/s\n", NULL,
			"run.ini:2: [global] colour: unknown key, nothing here reads it" },
	};
	check_refusals(refusals, G_N_ELEMENTS(refusals));
}

static void test_set(void)
{
	static const refusal refusals[] = {
		{ "[global]\nrate = 1GB/s\n[fabric]\nrate = 2GB/s\n", NULL, NULL },
		{ "[fabric]\nrate = 45\n", "fabric.rate=46GB/s", NULL },
		{ "", "fabric.rate = 46 GB/s ", NULL },
		{ "[fabric]\nshare = 3%\n", "global.rate=46GB/s", NULL },
		{ "[fabric]\nrate = 45GB/s\n", "fabric.rate=46",
			"--set fabric.rate: \"46\" has no unit, expected a rate with a unit, like "
			"45GB/s or 400Gb/s" },
		{ "[fabric]\nrate = 45GB/s\n", "fabric.rat=46",
			"--set fabric.rat: unknown key, did you mean \"rate\"?" },
		{ "[fabric]\nrate = 45GB/s\n", "fabrik.rate=46",
			"--set fabrik.rate: unknown section, did you mean [fabric]?" },
		{ "[fabric]\nrate = 45GB/s\n", "global.rte=46",
			"--set global.rte: unknown key, did you mean \"rate\"?" },
		{ "[fabric]\nrate = 45GB/s\n", "fabric.rate",
			"--set \"fabric.rate\": there is no \"=\", expected section.key=value" },
		{ "[fabric]\nrate = 45GB/s\n", "rate=1.5GB/s",
			"--set \"rate=1.5GB/s\": there is no \".\" before the \"=\", expected "
			"section.key=value" },
		{ "[fabric]\nrate = 45GB/s\n", ".rate=1GB/s",
			"--set \".rate=1GB/s\": the section has no name" },
		{ "[fabric]\nrate = 45GB/s\n", "fabric.=1GB/s",
			"--set \"fabric.=1GB/s\": there is no key before \"=\"" },
		{ "[fabric]\nrate = 45GB/s\n", "fabric.rate=\xff",
			"--set \"fabric.rate=\\xff\": the value is not one line of UTF-8 text" },
	};
	check_refusals(refusals, G_N_ELEMENTS(refusals));

	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_config) config =
		kvt_config_parse("run.ini", "[llm qwen2.5-7b]\nlayers = 28\n", &error);
	g_assert_true(kvt_config_set(config, "llm qwen2.5-7b.layers=30", &error));
	g_assert_true(kvt_config_set(config, "llm qwen2.5-7b.layers=31", &error));
	g_assert_cmpstr(
		kvt_section_text(kvt_config_section(config, "llm qwen2.5-7b"), "layers"), ==, "31");
}

/* Keys that no table refused are still caught, with the nearest key that was looked for. */
static void test_unused(void)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_config) config =
		kvt_config_parse("run.ini", "[fabric]\nrate = 1GB/s\nextr = 3\n", &error);
	fabric target;
	kvt_section *section = kvt_config_section_required(config, "fabric", &error);
	g_assert_true(kvt_section_read(section, fabric_options, &target, FALSE, &error));
	kvt_option_clear(fabric_options, &target);
	g_assert_null(kvt_section_text(section, "extra"));
	g_assert_false(kvt_config_check_used(config, NULL, &error));
	g_assert_cmpstr(error->message, ==,
		"run.ini:3: [fabric] extr: unknown key, did you mean \"extra\"?");
	g_clear_error(&error);
	g_assert_cmpstr(kvt_section_text(section, "extr"), ==, "3");
	g_assert_true(kvt_config_check_used(config, NULL, &error));

	g_assert_null(kvt_config_section_required(config, "fabrics", &error));
	g_assert_cmpstr(error->message, ==,
		"run.ini:1: [fabric]: unknown section, did you mean [fabrics]?");
	g_clear_error(&error);
	g_assert_null(kvt_config_section_required(config, "engine", &error));
	g_assert_cmpstr(error->message, ==, "run.ini: section [engine] is missing");
	g_clear_error(&error);
	g_assert_false(kvt_section_error(section, NULL, &error, "no %s", "link"));
	g_assert_cmpstr(error->message, ==, "run.ini:1: [fabric]: no link");
}

static void write_file(const char *folder, const char *name, const char *text, gssize length)
{
	g_autofree char *path = g_build_filename(folder, name, NULL);
	g_assert_true(g_file_set_contents(path, text, length, NULL));
}

/* What loading a file in the folder says, with the folder's path taken out of it. */
static char *load_message(const char *folder, const char *name)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *path = g_build_filename(folder, name, NULL);
	g_autoptr(kvt_config) config = kvt_config_load(path, &error);
	if (config != NULL)
		return NULL;
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
	g_autofree char *prefix = g_strconcat(folder, "/", NULL);
	g_auto(GStrv) parts = g_strsplit(error->message, prefix, -1);
	return g_strjoinv("", parts);
}

static void remove_folder(const char *folder)
{
	GDir *dir = g_dir_open(folder, 0, NULL);
	for (const char *name; (name = g_dir_read_name(dir)) != NULL;) {
		g_autofree char *path = g_build_filename(folder, name, NULL);
		g_remove(path);
	}
	g_dir_close(dir);
	g_rmdir(folder);
}

static void test_include(void)
{
	g_autofree char *folder = g_dir_make_tmp("kvtier-config-XXXXXX", NULL);
	write_file(folder, "base.ini", "[fabric]\nrate = 1GB/s\nports = 2\n[run]\nseed = 1\n", -1);
	write_file(folder, "more.ini", "include = base.ini\n[run]\nseed = 2\n", -1);
	write_file(folder, "top.ini",
		"include = base.ini\ninclude = more.ini\n[fabric]\nports = 4\n", -1);
	g_autoptr(GError) error = NULL;
	g_autofree char *top = g_build_filename(folder, "top.ini", NULL);
	g_autoptr(kvt_config) config = kvt_config_load(top, &error);
	g_assert_no_error(error);
	kvt_section *section = kvt_config_section(config, "fabric");
	g_assert_cmpstr(kvt_section_text(section, "rate"), ==, "1GB/s");
	g_assert_cmpstr(kvt_section_text(section, "ports"), ==, "4");
	g_assert_cmpstr(kvt_section_text(kvt_config_section(config, "run"), "seed"), ==, "2");
	g_assert_false(kvt_section_error(section, "rate", &error, "too slow"));
	g_assert_true(g_str_has_suffix(error->message, "/base.ini:2: [fabric] rate: too slow"));

	write_file(folder, "loop.ini", "include = pool.ini\n", -1);
	write_file(folder, "pool.ini", "include = loop.ini\n", -1);
	write_file(folder, "lost.ini", "# x\ninclude = none.ini\n", -1);
	write_file(folder, "bad.ini", "include = worse.ini\n", -1);
	write_file(folder, "worse.ini", "[fabric\n", -1);
	write_file(folder, "self.ini", "include = self.ini\n", -1);
	static const char *const cases[][2] = {
		{ "loop.ini", "pool.ini:1: include: loop.ini includes itself" },
		{ "self.ini", "self.ini:1: include: self.ini includes itself" },
		{ "lost.ini",
			"lost.ini:2: include: none.ini: cannot read the file: No such file or "
			"directory" },
		{ "bad.ini", "worse.ini:1: the section has no closing \"]\"" },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *message = load_message(folder, cases[i][0]);
		g_assert_cmpstr(message, ==, cases[i][1]);
	}

	/* A chain of files, each including the next, ends at the depth limit. */
	for (unsigned i = 0; i < 40; i++) {
		g_autofree char *name = g_strdup_printf("chain%u.ini", i);
		g_autofree char *text = g_strdup_printf("include = chain%u.ini\n", i + 1);
		write_file(folder, name, text, -1);
	}
	g_autofree char *deep = load_message(folder, "chain0.ini");
	g_assert_cmpstr(deep, ==, "chain15.ini:1: include: too many files include one another");
	remove_folder(folder);
}

static void test_hostile_files(void)
{
	g_autofree char *folder = g_dir_make_tmp("kvtier-config-XXXXXX", NULL);
	write_file(folder, "nul.ini", "[fabric]\nra\0te = 1\n", 18);
	write_file(folder, "utf16.ini", "\xff\xfe[\0f\0]\0\n\0", 10);
	write_file(folder, "empty.ini", "", 0);
	g_autofree char *large = g_malloc(17 << 20);
	memset(large, '#', 17 << 20);
	write_file(folder, "large.ini", large, 17 << 20);
	static const char *const cases[][2] = {
		{ "nul.ini", "nul.ini:2: [fabric] the line has a NUL byte, expected text" },
		{ "utf16.ini", "utf16.ini:1: the line has a NUL byte, expected text" },
		{ "empty.ini", NULL },
		{ "large.ini", "large.ini: the file is larger than 16 MiB" },
		{ "absent.ini", "absent.ini: cannot read the file: No such file or directory" },
		{ ".", ".: cannot read the file: it is a folder" },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *message = load_message(folder, cases[i][0]);
		g_assert_cmpstr(message, ==, cases[i][1]);
	}

	/* Long lines are read; a long key, section or value makes a short message. */
	enum { LONG = 1 << 20 };
	g_autofree char *word = g_strnfill(LONG, 'a');
	static const char *const shapes[] = { "[%s]\n", "[a]\n%s = 1\n", "[a]\n%s\n",
		"[fabric]\nrate = %s\n", "[fabric]\nrate = 1GB/s # %s\n",
		"[fabric]\nrate = 1GB/s\nsource = %s\n" };
	for (size_t i = 0; i < G_N_ELEMENTS(shapes); i++) {
		g_auto(GStrv) parts = g_strsplit(shapes[i], "%s", 2);
		g_autofree char *text = g_strconcat(parts[0], word, parts[1], NULL);
		g_autofree char *message = message_of(text, NULL);
		g_assert_true((message == NULL) == (i >= 4));
		if (message != NULL)
			g_assert_cmpuint(strlen(message), <, 250);
	}
	remove_folder(folder);
}

static void test_help(void)
{
	g_autofree char *help = kvt_option_help(fabric_options);
	g_assert_true(g_str_has_prefix(help,
		"  rate      rate of one port\n"
		"            (a rate with a unit, like 45GB/s or 400Gb/s; at least 1 B/s; "
		"required)\n"
		"  share     share of the rate that data can use\n"
		"            (a share between 0 and 1, like 2% or 0.02; default 90%)\n"));
	g_assert_nonnull(strstr(help, "(one of rdma, tcp; default rdma)\n"));
	g_assert_nonnull(strstr(help, "(a whole number, like 4, 128 or 400K; between 1 and 64; "));
	g_assert_nonnull(strstr(help, "(text; empty by default)\n"));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/config/values", test_values);
	g_test_add_func("/config/names", test_names);
	g_test_add_func("/config/inheritance", test_inheritance);
	g_test_add_func("/config/null-section", test_null_section);
	g_test_add_func("/config/failed-read", test_failed_read);
	g_test_add_func("/config/refused-lines", test_refused_lines);
	g_test_add_func("/config/refused-values", test_refused_values);
	g_test_add_func("/config/refused-names", test_refused_names);
	g_test_add_func("/config/set", test_set);
	g_test_add_func("/config/unused", test_unused);
	g_test_add_func("/config/include", test_include);
	g_test_add_func("/config/hostile-files", test_hostile_files);
	g_test_add_func("/config/help", test_help);
	return g_test_run();
}
