/*
 * config_file.c: reads INI text, files and --set overrides into a kvt_config. It gives no meaning
 * to a value; its lines may come from anywhere, so every byte is checked here.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sim/base/config_internal.h"
#include "sim/base/error.h"

enum { FILE_LARGEST = 16 << 20, INCLUDE_DEEPEST = 16 };

/* What the readings of a file and of all that it includes share. */
typedef struct kvt_readings {
	kvt_config *config;
	GPtrArray *done;   /* canonical paths, owned; read or being read */
	unsigned count;    /* of files read so far, the number of the last reading */
	GPtrArray *nested; /* canonical paths being read, outermost first; borrowed from done */
} kvt_readings;

/* One reading of one file. */
typedef struct kvt_reading {
	kvt_readings *all; /* NULL when from memory */
	kvt_config *config;
	kvt_origin at;
	kvt_section *section; /* NULL before the first */
} kvt_reading;

static gboolean load_file(kvt_readings *all, const char *path, GError **error);

gboolean kvt_config_key_check(const char *key, GError **error)
{
	if (*key == '\0')
		return kvt_error_usage(error, "there is no key before \"=\"");
	size_t length = strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789_.-");
	if (key[length] == '\0' && length <= KVT_KEY_LONGEST)
		return TRUE;
	g_autofree char *quoted = kvt_error_quote(key);
	if (key[length] == '\0')
		return kvt_error_usage(
			error, "key %s is longer than %d characters", quoted, KVT_KEY_LONGEST);
	return kvt_error_usage(
		error, "%s is not a key, expected lower-case letters, digits, _ . and -", quoted);
}

char *kvt_config_section_name_check(const char *name, GError **error)
{
	g_autofree char *quoted = kvt_error_quote(name);
	GString *clean = g_string_new(NULL);
	gboolean good = TRUE;
	for (const char *at = name; *at != '\0' && good; at++) {
		if (*at == ' ' || *at == '\t') {
			if (clean->len > 0 && clean->str[clean->len - 1] != ' ')
				g_string_append_c(clean, ' ');
			continue;
		}
		good = g_ascii_isalnum(*at) || strchr("_.+-", *at) != NULL;
		g_string_append_c(clean, *at);
	}
	if (clean->len > 0 && clean->str[clean->len - 1] == ' ')
		g_string_truncate(clean, clean->len - 1);
	if (!good)
		kvt_error_usage(error,
			"%s is not a section name, expected letters, digits and _ . + - with "
			"spaces between words",
			quoted);
	else if (clean->len == 0)
		kvt_error_usage(error, "the section has no name");
	else if (clean->len > KVT_SECTION_NAME_LONGEST)
		kvt_error_usage(error, "section name %s is longer than %d characters", quoted,
			KVT_SECTION_NAME_LONGEST);
	else
		return g_string_free(clean, FALSE);
	g_string_free(clean, TRUE);
	return NULL;
}

/* Puts the place of the line, and the section if there is one, before what went wrong on it. */
static gboolean fail(const kvt_reading *reading, const char *what, GError **error)
{
	const char *file = reading->at.file;
	if (reading->section == NULL)
		return kvt_error_at(error, file, reading->at.line, "%s", what);
	return kvt_error_at(error, file, reading->at.line, "[%s] %s", reading->section->name, what);
}

static gboolean check_bytes(
	const kvt_reading *reading, const char *line, size_t length, GError **error)
{
	for (size_t i = 0; i < length; i++) {
		unsigned char byte = (unsigned char)line[i];
		if ((byte >= 0x20 || byte == '\t') && byte != 0x7f)
			continue;
		g_autofree char *what =
			byte == 0 ? g_strdup("the line has a NUL byte, expected text")
				  : g_strdup_printf(
					    "the line has the control character 0x%02x, expected "
					    "text",
					    byte);
		return fail(reading, what, error);
	}
	if (!g_utf8_validate_len(line, length, NULL))
		return fail(reading, "the line is not UTF-8 text", error);
	return TRUE;
}

/* Ends the text where a comment begins, and takes the white space off both ends. */
static char *strip_line(char *line)
{
	for (char *at = line; *at != '\0'; at++)
		if ((*at == '#' || *at == ';') && (at == line || g_ascii_isspace(at[-1]))) {
			*at = '\0';
			break;
		}
	return g_strstrip(line);
}

static gboolean read_header(kvt_reading *reading, char *line, GError **error)
{
	reading->section = NULL;
	char *end = strchr(line, ']');
	if (end == NULL)
		return fail(reading, "the section has no closing \"]\"", error);
	if (end[1] != '\0')
		return fail(reading, "there is text after the section's \"]\"", error);
	*end = '\0';
	g_autoptr(GError) reason = NULL;
	g_autofree char *name = kvt_config_section_name_check(line + 1, &reason);
	if (name == NULL)
		return fail(reading, reason->message, error);
	kvt_section *section = kvt_config_peek(reading->config, name);
	if (section == NULL) {
		section = kvt_config_add_section(reading->config, name, reading->at);
	} else if (section->origin.reading == reading->at.reading) {
		return kvt_error_at(error, reading->at.file, reading->at.line,
			"[%s]: the section is there already, at line %u", name,
			section->origin.line);
	}
	section->origin = reading->at;
	reading->section = section;
	return TRUE;
}

static gboolean read_include(const kvt_reading *reading, const char *value, GError **error)
{
	if (reading->all == NULL)
		return fail(reading, "include: text that is not a file cannot include one", error);
	if (*value == '\0')
		return fail(reading, "include: expected the path of a file", error);
	g_autofree char *folder = g_path_get_dirname(reading->at.file);
	g_autofree char *path = NULL;
	if (g_path_is_absolute(value) || strcmp(folder, ".") == 0)
		path = g_strdup(value);
	else
		path = g_build_filename(folder, value, NULL);

	const GPtrArray *nested = reading->all->nested;
	g_autofree char *canonical = realpath(path, NULL);
	for (guint i = 0; canonical != NULL && i < nested->len; i++)
		if (strcmp(canonical, g_ptr_array_index(nested, i)) == 0) {
			g_autofree char *what =
				g_strdup_printf("include: %s includes itself", path);
			return fail(reading, what, error);
		}
	if (nested->len >= INCLUDE_DEEPEST)
		return fail(reading, "include: too many files include one another", error);

	g_autoptr(GError) reason = NULL;
	if (load_file(reading->all, path, &reason))
		return TRUE;
	/* A file that could not be opened is this line's mistake; a bad line in it is its own. */
	if (canonical != NULL) {
		g_propagate_error(error, g_steal_pointer(&reason));
		return FALSE;
	}
	g_autofree char *what = g_strdup_printf("include: %s", reason->message);
	return fail(reading, what, error);
}

static gboolean read_key(kvt_reading *reading, char *line, GError **error)
{
	char *equals = strchr(line, '=');
	if (equals == NULL) {
		g_autofree char *quoted = kvt_error_quote(line);
		g_autofree char *what = g_strdup_printf(
			"%s has no \"=\", expected \"key = value\" or \"[section]\"", quoted);
		return fail(reading, what, error);
	}
	*equals = '\0';
	const char *key = g_strstrip(line), *value = g_strstrip(equals + 1);
	g_autoptr(GError) reason = NULL;
	if (!kvt_config_key_check(key, &reason))
		return fail(reading, reason->message, error);
	if (reading->section == NULL) {
		if (strcmp(key, "include") == 0)
			return read_include(reading, value, error);
		return kvt_error_at(error, reading->at.file, reading->at.line,
			"%s: the key stands before the first [section]", key);
	}
	const kvt_entry *entry = kvt_section_peek(reading->section, key);
	if (entry != NULL && entry->origin.reading == reading->at.reading)
		return kvt_error_at(error, reading->at.file, reading->at.line,
			"[%s] %s: the key is there already, at line %u", reading->section->name,
			key, entry->origin.line);
	kvt_section_put(reading->section, key, value, reading->at);
	return TRUE;
}

static gboolean read_text(kvt_reading *reading, const char *text, size_t length, GError **error)
{
	const char *end = text + length;
	if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		text += 3;
	while (text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		const char *next = newline != NULL ? newline + 1 : end;
		size_t line_length = (size_t)((newline != NULL ? newline : end) - text);
		if (line_length > 0 && text[line_length - 1] == '\r')
			line_length--;
		reading->at.line++;
		if (!check_bytes(reading, text, line_length, error))
			return FALSE;
		g_autofree char *copy = g_strndup(text, line_length);
		char *line = strip_line(copy);
		text = next;
		if (*line == '\0')
			continue;
		if (*line == '[' ? !read_header(reading, line, error)
				 : !read_key(reading, line, error))
			return FALSE;
	}
	return TRUE;
}

/* All of a file, which may be a pipe; NULL with an error. */
static GString *read_file(const char *path, GError **error)
{
	FILE *file = fopen(path, "re");
	struct stat status;
	if (file == NULL || fstat(fileno(file), &status) != 0) {
		kvt_error_at(error, path, 0, "cannot read the file: %s", g_strerror(errno));
		if (file != NULL)
			fclose(file);
		return NULL;
	}
	if (S_ISDIR(status.st_mode)) {
		kvt_error_at(error, path, 0, "cannot read the file: it is a folder");
		fclose(file);
		return NULL;
	}
	GString *text = g_string_new(NULL);
	char block[16384];
	size_t got;
	while (text->len <= FILE_LARGEST && (got = fread(block, 1, sizeof(block), file)) > 0)
		g_string_append_len(text, block, (gssize)got);
	int failed = ferror(file) ? errno : 0;
	fclose(file);
	if (failed == 0 && text->len <= FILE_LARGEST)
		return text;
	if (failed != 0)
		kvt_error_at(error, path, 0, "cannot read the file: %s", g_strerror(failed));
	else
		kvt_error_at(error, path, 0, "the file is larger than %d MiB", FILE_LARGEST >> 20);
	g_string_free(text, TRUE);
	return NULL;
}

static gboolean load_file(kvt_readings *all, const char *path, GError **error)
{
	char *canonical = realpath(path, NULL);
	/* A pipe, /dev/stdin say, may be readable and have no name. */
	if (canonical == NULL)
		canonical = strdup(path);
	if (g_ptr_array_find_with_equal_func(all->done, canonical, g_str_equal, NULL)) {
		free(canonical);
		return TRUE;
	}
	g_ptr_array_add(all->done, canonical);
	GString *text = read_file(path, error);
	if (text == NULL)
		return FALSE;
	kvt_reading reading = { .all = all, .config = all->config };
	reading.at.file = g_string_chunk_insert_const(all->config->strings, path);
	reading.at.reading = ++all->count;
	g_ptr_array_add(all->nested, canonical);
	gboolean good = read_text(&reading, text->str, text->len, error);
	g_ptr_array_set_size(all->nested, (int)all->nested->len - 1);
	g_string_free(text, TRUE);
	return good;
}

kvt_config *kvt_config_load(const char *path, GError **error)
{
	g_autoptr(kvt_config) config = kvt_config_new(path);
	kvt_readings all = { .config = config };
	all.done = g_ptr_array_new_with_free_func(free);
	all.nested = g_ptr_array_new();
	gboolean good = load_file(&all, path, error);
	g_ptr_array_free(all.nested, TRUE);
	g_ptr_array_free(all.done, TRUE);
	return good ? g_steal_pointer(&config) : NULL;
}

kvt_config *kvt_config_parse(const char *name, const char *text, GError **error)
{
	g_autoptr(kvt_config) config = kvt_config_new(name);
	kvt_reading reading = { .config = config };
	reading.at.file = g_string_chunk_insert_const(config->strings, name);
	reading.at.reading = 1;
	return read_text(&reading, text, strlen(text), error) ? g_steal_pointer(&config) : NULL;
}

gboolean kvt_config_set(kvt_config *config, const char *assignment, GError **error)
{
	g_autofree char *quoted = kvt_error_quote(assignment);
	const char *equals = strchr(assignment, '=');
	if (equals == NULL)
		return kvt_error_usage(
			error, "--set %s: there is no \"=\", expected section.key=value", quoted);
	g_autofree char *left = g_strndup(assignment, (size_t)(equals - assignment));
	char *dot = strrchr(left, '.');
	if (dot == NULL)
		return kvt_error_usage(error,
			"--set %s: there is no \".\" before the \"=\", expected section.key=value",
			quoted);
	*dot = '\0';
	g_autoptr(GError) reason = NULL;
	g_autofree char *name = kvt_config_section_name_check(left, &reason);
	const char *key = g_strstrip(dot + 1);
	if (name == NULL || !kvt_config_key_check(key, &reason))
		return kvt_error_usage(error, "--set %s: %s", quoted, reason->message);
	g_autofree char *value = g_strstrip(g_strdup(equals + 1));
	if (!g_utf8_validate(value, -1, NULL) || strpbrk(value, "\n\r") != NULL)
		return kvt_error_usage(
			error, "--set %s: the value is not one line of UTF-8 text", quoted);

	kvt_section *section = kvt_config_peek(config, name);
	if (section == NULL)
		section = kvt_config_add_section(config, name, (kvt_origin){ 0 });
	kvt_section_put(section, key, value, (kvt_origin){ 0 });
	return TRUE;
}
