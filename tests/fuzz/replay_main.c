/*
 * replay_main.c: runs a libFuzzer entry, LLVMFuzzerTestOneInput, over a corpus without libFuzzer,
 * so that every compiler and CI can. It takes files and folders; --mutations N adds N changed
 * copies of each, the same ones every time. It measures no coverage: `make fuzz` looks for new
 * inputs.
 */
#include <glib.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim/base/rng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In a sanitized build, called before the process dies. */
extern void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

/* No input may take this many seconds; an endless loop is a finding too. */
enum { LONGEST_SECONDS = 120 };

/* The input that is running, for the report on the way down. */
static struct {
	char name[512], path[512];
	const uint8_t *data;
	size_t size;
} current;

static void report_death(void)
{
	if (current.data == NULL)
		return;
	fprintf(stderr, "the input was %s\n", current.name);
	FILE *file = fopen(current.path, "w");
	if (file != NULL) {
		fwrite(current.data, 1, current.size, file);
		fclose(file);
		fprintf(stderr, "it has been saved as %s\n", current.path);
	}
	current.data = NULL;
}

static void on_signal(int number)
{
	report_death();
	signal(number, SIG_DFL);
	raise(number);
}

/* The entry gets a copy of exactly its size, so that reading past the end is caught. */
static void run_input(const char *name, unsigned mutation, const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size > 0 ? size : 1);
	memcpy(copy, data, size);
	snprintf(current.name, sizeof(current.name), "%s, mutation %u", name, mutation);
	current.data = copy;
	current.size = size;
	alarm(LONGEST_SECONDS);
	LLVMFuzzerTestOneInput(copy, size);
	alarm(0);
	current.data = NULL;
	free(copy);
}

static const char *const splices[] = { "\n", "=", "[", "]", "\0", "-1", "nan", "1e999", "\xff",
	"99999999999999999999", "\r\n", " # ", "include = x\n", "\"", "{", "," };

/* Changes the bytes in a few places: flips, cuts, copies and splices of likely trouble. */
static void mutate(GByteArray *bytes, kvt_rng *rng)
{
	unsigned changes = 1 + (unsigned)kvt_rng_below(rng, 4);
	for (unsigned i = 0; i < changes; i++) {
		guint at = (guint)kvt_rng_below(rng, bytes->len + 1);
		guint length = (guint)kvt_rng_below(rng, MIN(bytes->len - at, 64) + 1);
		const char *splice = splices[kvt_rng_below(rng, G_N_ELEMENTS(splices))];
		guint8 block[64];
		switch (kvt_rng_below(rng, 5)) {
		case 0:
			if (at < bytes->len)
				bytes->data[at] ^= (guint8)(1u << kvt_rng_below(rng, 8));
			break;
		case 1:
			if (at < bytes->len)
				bytes->data[at] = (guint8)kvt_rng_below(rng, 256);
			break;
		case 2:
			g_byte_array_remove_range(bytes, at, length);
			break;
		case 3:
			memcpy(block, bytes->data + at, length);
			g_byte_array_append(bytes, block, length);
			break;
		case 4:
			length = (guint)MAX(strlen(splice), 1);
			g_byte_array_set_size(bytes, bytes->len + length);
			memmove(bytes->data + at + length, bytes->data + at,
				bytes->len - length - at);
			memcpy(bytes->data + at, splice, length);
			break;
		}
	}
}

static gboolean run_file(const char *path, unsigned mutations)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *data = NULL;
	gsize size;
	if (!g_file_get_contents(path, &data, &size, &error)) {
		fprintf(stderr, "%s\n", error->message);
		return FALSE;
	}
	run_input(path, 0, (const uint8_t *)data, size);
	g_autofree char *name = g_path_get_basename(path);
	for (unsigned i = 1; i <= mutations; i++) {
		kvt_rng rng = kvt_rng_init(1, kvt_rng_stream_id(name, i));
		GByteArray *bytes = g_byte_array_sized_new((guint)size + 256);
		g_byte_array_append(bytes, (const guint8 *)data, (guint)size);
		mutate(bytes, &rng);
		run_input(path, i, bytes->data, bytes->len);
		g_byte_array_free(bytes, TRUE);
	}
	return TRUE;
}

static int compare_paths(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Adds a file, or the files of a folder in the order of their names. */
static void add_paths(GPtrArray *paths, const char *path)
{
	GDir *dir = g_dir_open(path, 0, NULL);
	if (dir == NULL) {
		g_ptr_array_add(paths, g_strdup(path));
		return;
	}
	guint first = paths->len;
	for (const char *name; (name = g_dir_read_name(dir)) != NULL;)
		g_ptr_array_add(paths, g_build_filename(path, name, NULL));
	g_dir_close(dir);
	qsort(paths->pdata + first, paths->len - first, sizeof(*paths->pdata), compare_paths);
}

int main(int argc, char **argv)
{
	int mutations = 0;
	g_auto(GStrv) inputs = NULL;
	const GOptionEntry entries[] = {
		{ "mutations", 0, 0, G_OPTION_ARG_INT, &mutations, "changed copies of each input",
			"N" },
		{ G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &inputs, NULL, NULL },
		{ 0 },
	};
	g_autoptr(GOptionContext) context = g_option_context_new("FILE|FOLDER...");
	g_autoptr(GError) error = NULL;
	g_option_context_add_main_entries(context, entries, NULL);
	if (!g_option_context_parse(context, &argc, &argv, &error) || inputs == NULL) {
		fprintf(stderr, "%s\n", error != NULL ? error->message : "expected FILE or FOLDER");
		return 2;
	}
	g_autofree char *program = g_path_get_basename(argv[0]);
	snprintf(current.path, sizeof(current.path), "%s/%s-crash", g_get_tmp_dir(), program);
	if (__sanitizer_set_death_callback != NULL)
		__sanitizer_set_death_callback(report_death);
	signal(SIGABRT, on_signal);
	signal(SIGALRM, on_signal);

	GPtrArray *paths = g_ptr_array_new_with_free_func(g_free);
	for (char **input = inputs; *input != NULL; input++)
		add_paths(paths, *input);
	gboolean good = paths->len > 0;
	for (guint i = 0; i < paths->len && good; i++)
		good = run_file(g_ptr_array_index(paths, i), (unsigned)MAX(mutations, 0));
	printf("%s: %u inputs, %d mutations of each: %s\n", program, paths->len, mutations,
		good ? "ok" : "FAILED");
	g_ptr_array_free(paths, TRUE);
	return good ? 0 : 1;
}
