/*
 * error.h: how kvtier reports what went wrong. Set-up, config and trace code returns false (or
 * NULL) and fills a GError; the command prints its message as it is and exits with its code.
 * A message is one line: `file:line: [section] key: reason, expected what`.
 */
#ifndef KVT_ERROR_H
#define KVT_ERROR_H

#include <glib.h>

#define KVT_ERROR (kvt_error_quark())

/* The value is the exit code of the command. */
typedef enum kvt_error_code {
	KVT_ERROR_FAILED = 1, /* the run failed: I/O, corrupt data, a limit of this machine */
	KVT_ERROR_USAGE = 2,  /* the input was wrong: a flag, a config key, a malformed file */
} kvt_error_code;

GQuark kvt_error_quark(void);

/* Sets *error (when not NULL) to a usage error and returns false, so callers can return it. */
gboolean kvt_error_usage(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* The same for a failed run. */
gboolean kvt_error_failed(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* The same for a place in a file: "file:line: message"; line 0 leaves the number out. */
gboolean kvt_error_at(GError **error, const char *file, unsigned line, const char *format, ...)
	G_GNUC_PRINTF(4, 5);

/*
 * The entry of `names` (NULL-terminated) closest to `word` by edit distance, or NULL when none is
 * close enough to suggest. The result points into `names`.
 */
const char *kvt_error_suggest(const char *word, const char *const *names);

/*
 * `text` in double quotes as it may stand in a one-line message, whatever it holds: control
 * characters and bytes that are not UTF-8 are escaped, and what is longer than 60 bytes is cut
 * with an ellipsis. Returns a new string.
 */
char *kvt_error_quote(const char *text);

#endif
