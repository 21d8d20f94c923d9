/*
 * config_internal.h: what config_file.c (reading files) and config_option.c (option tables) share
 * with config.c (sections and look-ups). Nothing else includes it.
 */
#ifndef KVT_CONFIG_INTERNAL_H
#define KVT_CONFIG_INTERNAL_H

#include <stdbool.h>

#include "sim/base/config.h"

enum { KVT_KEY_LONGEST = 64, KVT_SECTION_NAME_LONGEST = 128 };

/* Where a section or key was written. Reading n is the n-th file read, from 1; 0 is --set. */
typedef struct kvt_origin {
	const char *file;
	unsigned line, reading;
} kvt_origin;

typedef struct kvt_entry {
	const char *key, *text;
	kvt_origin origin;
	bool used;
} kvt_entry;

struct kvt_section {
	kvt_config *config;
	const char *name;
	kvt_origin origin;
	GPtrArray *entries; /* kvt_entry, in file order */
	GHashTable *by_key;
	GPtrArray *wanted; /* names looked up here, for suggestions; each once, see wanted_set */
	GHashTable *wanted_set;
	bool used;
};

struct kvt_config {
	char *path;
	GPtrArray *sections; /* kvt_section, in file order */
	GHashTable *by_name;
	GStringChunk *strings; /* owns every name, key and text */
	kvt_section *global;   /* NULL when the file has none */
};

kvt_config *kvt_config_new(const char *path);

/* Looks up without marking as used; NULL when it is not there. */
kvt_section *kvt_config_peek(const kvt_config *config, const char *name);
kvt_entry *kvt_section_peek(const kvt_section *section, const char *key);

/* Adds an empty section that is not there yet. */
kvt_section *kvt_config_add_section(kvt_config *config, const char *name, kvt_origin origin);

/* Sets a key, over an older value. */
void kvt_section_put(kvt_section *section, const char *key, const char *text, kvt_origin origin);

/* The entry of a key, the section's own or [global]'s; both count as used from now on, and the
 * section wants the key. `section` may be NULL. */
kvt_entry *kvt_section_use(kvt_section *section, const char *key);

/* Whether the name may be a key, or a section's; an error's message says why not otherwise. */
gboolean kvt_config_key_check(const char *key, GError **error);
/* Returns the name with single spaces, a new string, or NULL. */
char *kvt_config_section_name_check(const char *name, GError **error);

#endif
