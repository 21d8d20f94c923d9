/* error.c: the error domain, one-line messages, and the "did you mean" distance. */
#include "sim/base/error.h"

#include <string.h>

GQuark kvt_error_quark(void)
{
	return g_quark_from_static_string("kvt-error");
}

static gboolean set_error(
	GError **error, int code, const char *prefix, const char *format, va_list args)
{
	g_autofree char *text = g_strdup_vprintf(format, args);
	g_set_error(error, KVT_ERROR, code, "%s%s", prefix, text);
	return FALSE;
}

gboolean kvt_error_usage(GError **error, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	set_error(error, KVT_ERROR_USAGE, "", format, args);
	va_end(args);
	return FALSE;
}

gboolean kvt_error_failed(GError **error, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	set_error(error, KVT_ERROR_FAILED, "", format, args);
	va_end(args);
	return FALSE;
}

gboolean kvt_error_at(GError **error, const char *file, unsigned line, const char *format, ...)
{
	g_autofree char *prefix =
		line > 0 ? g_strdup_printf("%s:%u: ", file, line) : g_strdup_printf("%s: ", file);
	va_list args;
	va_start(args, format);
	set_error(error, KVT_ERROR_USAGE, prefix, format, args);
	va_end(args);
	return FALSE;
}

/* Levenshtein distance with two rows; words are short. */
static unsigned edit_distance(const char *a, const char *b)
{
	size_t n = strlen(b);
	g_autofree unsigned *row = g_new(unsigned, n + 1);
	for (size_t j = 0; j <= n; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; a[i - 1] != '\0'; i++) {
		unsigned diagonal = row[0];
		row[0] = (unsigned)i;
		for (size_t j = 1; j <= n; j++) {
			unsigned substitute = diagonal + (a[i - 1] != b[j - 1]);
			diagonal = row[j];
			row[j] = MIN(substitute, MIN(row[j], row[j - 1]) + 1);
		}
	}
	return row[n];
}

const char *kvt_error_suggest(const char *word, const char *const *names)
{
	const char *best = NULL;
	/* A word shares something with what it was meant to be, so short ones allow less. */
	size_t length = strlen(word);
	unsigned best_distance = (unsigned)MIN(MAX(length / 3, 2) + 1, MAX(length, 1));
	for (size_t i = 0; names[i] != NULL; i++) {
		unsigned distance = edit_distance(word, names[i]);
		if (distance < best_distance) {
			best_distance = distance;
			best = names[i];
		}
	}
	return best;
}

char *kvt_error_quote(const char *text)
{
	enum { LONGEST = 60 };
	GString *quoted = g_string_new("\"");
	const char *at = text;
	while (*at != '\0' && at - text < LONGEST) {
		gunichar c = g_utf8_get_char_validated(at, -1);
		if (c == (gunichar)-1 || c == (gunichar)-2) {
			g_string_append_printf(quoted, "\\x%02x", (unsigned char)*at);
			at++;
			continue;
		}
		const char *next = g_utf8_next_char(at);
		if (*at == '\t')
			g_string_append(quoted, "\\t");
		else if (c < 0x20 || c == 0x7f)
			g_string_append_printf(quoted, "\\x%02x", (unsigned)c);
		else if (!g_unichar_isprint(c))
			g_string_append_printf(quoted, "\\u%04x", (unsigned)c);
		else
			g_string_append_len(quoted, at, next - at);
		at = next;
	}
	g_string_append(quoted, *at != '\0' ? "...\"" : "\"");
	return g_string_free(quoted, FALSE);
}
