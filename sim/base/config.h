/*
 * config.h: INI files with file:line errors. `kvt_config` is a parsed file (with the command
 * line's --set overrides); a section is read through an option table, so that what is parsed, what
 * is refused and what `kvtier help` prints come from one place.
 *
 *   [section]            or [kind name]
 *   key = value          # a comment begins with # or ; at the line's start or after white space
 *
 * Keys are lower-case letters, digits, _ . and -; section names are words of letters, digits and
 * any of _ . + - with one space between them. A value is the rest of the line without white space
 * around it; it may be empty. Files are UTF-8 with LF or CRLF, at most 16 MiB.
 *
 * `include = other.ini` before the first section merges another file (relative to this one), whose
 * keys this file may override; it may be repeated, a later file overriding an earlier one, and a
 * file that several include is read once. `[global]` holds defaults: a key that a section lacks is
 * looked up there if [global] has it. Duplicate sections, duplicate keys and keys that nothing has
 * read are errors with a suggestion.
 */
#ifndef KVT_CONFIG_H
#define KVT_CONFIG_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim/base/units.h"

typedef struct kvt_config kvt_config;
typedef struct kvt_section kvt_section;

typedef enum kvt_option_type {
	KVT_OPTION_STRING,   /* char *, owned by the target: free with g_free; never NULL */
	KVT_OPTION_BOOL,     /* bool: yes/no, true/false, on/off, 1/0 */
	KVT_OPTION_INTEGER,  /* int64_t; a plain integer or a count with K/M/G; below 0 only where
				`low` is */
	KVT_OPTION_QUANTITY, /* double in base units of `unit` */
	KVT_OPTION_BYTES,    /* uint64_t, a KVT_UNIT_BYTES quantity */
	KVT_OPTION_TIME,     /* kvt_time (int64_t picoseconds), a KVT_UNIT_TIME quantity */
	KVT_OPTION_CHOICE,   /* int, index into `choices` */
} kvt_option_type;

/* One key: name, where it goes, what it may be, and what help says of it. */
typedef struct kvt_option {
	const char *name; /* NULL ends a table */
	kvt_option_type type;
	kvt_unit unit;              /* of a QUANTITY */
	size_t offset;              /* in the target struct */
	const char *fallback;       /* default, as it would be written; NULL: the key is required */
	double low, high;           /* allowed range in base units (seconds for a TIME), high may be
				       INFINITY; both 0: none stated */
	const char *const *choices; /* of a CHOICE, NULL-terminated */
	const char *help;           /* one line, says the unit of work */
} kvt_option;

/*
 * Help on a table for people: each option's name, what it does, what is expected, its range and
 * its default, two lines an option. Returns a new string, which ends in a newline.
 */
char *kvt_option_help(const kvt_option *options);

/* Reads a file. NULL with an error at the first bad line. */
kvt_config *kvt_config_load(const char *path, GError **error);

/* The same from memory; `name` stands for the file in messages, and `include` is refused. */
kvt_config *kvt_config_parse(const char *name, const char *text, GError **error);

/* A copy that nothing has been read of yet, with the same places in its messages. Several threads
 * may copy one config at once while nobody reads or changes it. */
kvt_config *kvt_config_copy(const kvt_config *config);

/* Forgets the sections of a kind ("sweep": [sweep] and [sweep gpu]), as if no file had them. */
void kvt_config_remove(kvt_config *config, const char *kind);

/* All sections and keys as one INI text, included files and overrides among them: reads back the
 * same but for the places in messages. A new string. */
char *kvt_config_text(const kvt_config *config);

void kvt_config_free(kvt_config *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_config, kvt_config_free)

/* Applies one override "section.key=value" (the section may be a "kind name", even with dots); the
 * section is created when it is not there, so that an unknown one is caught by
 * kvt_config_check_used. Errors about the value, here and later, name "--set section.key". */
gboolean kvt_config_set(kvt_config *config, const char *assignment, GError **error);

/* The section of that name, or NULL. Marks it as used. The config owns it. */
kvt_section *kvt_config_section(kvt_config *config, const char *name);

/* The same, never NULL: a section that is not there is an empty one that still inherits. */
kvt_section *kvt_config_section_or_empty(kvt_config *config, const char *name);

/* The same; a section that is not there is an error. */
kvt_section *kvt_config_section_required(kvt_config *config, const char *name, GError **error);

/* Names of sections whose first words are `prefix` (a kind; "" for all), in file order; a
 * NULL-terminated array that the caller frees with g_free; the strings belong to the config. */
const char **kvt_config_section_names(kvt_config *config, const char *prefix);

/* Path of the file the config was read from, as given. */
const char *kvt_config_path(const kvt_config *config);

const char *kvt_section_name(const kvt_section *section);

/*
 * Fills `target` from the section by the table: every option gets its value, its inherited value
 * or its default; a missing required key, a bad value, a value out of range and, when
 * `refuse_unknown`, any key of the section that is not in the table are errors. A NULL section is
 * an empty one. On error nothing in target needs freeing. Strings already in target are not freed.
 * [global] is never refused a key here: kvt_config_check_used says which ones nothing looked for.
 */
gboolean kvt_section_read(kvt_section *section, const kvt_option *options, void *target,
	gboolean refuse_unknown, GError **error);

/* What a text is to an option: a number in base units of its unit (seconds for a TIME), the index
 * of a CHOICE, 0 or 1 for a BOOL, NaN for a STRING. False with an error as kvt_section_read's,
 * without a place, when the option refuses it. */
gboolean kvt_option_value(
	const kvt_option *option, const char *text, double *value, GError **error);

/* The unit that an option's numbers are written in; KVT_UNIT_NONE where they are none. */
kvt_unit kvt_option_unit(const kvt_option *option);

/* Frees the strings that kvt_section_read put into target, and sets them to NULL. */
void kvt_option_clear(const kvt_option *options, void *target);

/* The raw text of a key (inherited too), or NULL; marks it used. */
const char *kvt_section_text(kvt_section *section, const char *key);

/* Whether the key's value is from kvt_config_set rather than from a file; marks it used. */
bool kvt_section_overridden(kvt_section *section, const char *key);

/* The keys of the section itself, in file order; NULL-terminated, free with g_free. */
const char **kvt_section_keys(kvt_section *section);

/* An error at the line of `key` in this section: "file:line: [section] key: message". Where the key
 * is inherited or from --set the message says so; where it is missing, or NULL, the line is the
 * section's. */
gboolean kvt_section_error(const kvt_section *section, const char *key, GError **error,
	const char *format, ...) G_GNUC_PRINTF(4, 5);

/* Errors when a section or key was never read, naming the nearest known one where `known` (a
 * NULL-terminated list of section names) has one. Call after everything has been read. */
gboolean kvt_config_check_used(kvt_config *config, const char *const *known, GError **error);

#endif
