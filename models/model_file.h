/*
 * model_file.h: what all files under models/ share: where they are found by kind and name, and the
 * rule that every constant says where it comes from. It knows nothing of what a constant means;
 * llm.h and hardware.h do.
 *
 *   [gpu]
 *   title = NVIDIA L40S                     # titles and notes need no source
 *   source = datasheet: NVIDIA L40S         # covers the section
 *   l2 = 96MB
 *   l2.source = published: NVIDIA Ada GPU architecture whitepaper v2.1     # covers one key
 *   power_idle = 35W
 *   power_idle.source = assumed: no figure is published
 *   power_idle.uncertainty = 30%            # either way; for the low and high of predictions
 *
 * A source is `kind: text`, the kind one of
 *   datasheet  the maker's data sheet or product page
 *   published  another document, named
 *   measured   where and how
 *   derived    from what, by which arithmetic
 *   fitted     to which measurements
 *   imported   from which file, by `kvtier models import`
 *   assumed    no document gives it; the text says why this value
 */
#ifndef KVT_MODEL_FILE_H
#define KVT_MODEL_FILE_H

#include <glib.h>

#include "sim/base/config.h"

typedef enum kvt_model_kind {
	KVT_MODEL_LLM,
	KVT_MODEL_GPU,
	KVT_MODEL_DRIVE,
	KVT_MODEL_NIC,
	KVT_MODEL_HOST,
	KVT_MODEL_KINDS,
} kvt_model_kind;

/* "llm", "gpu", "drive", "nic", "host", NULL. */
extern const char *const kvt_model_kind_names[KVT_MODEL_KINDS + 1];

/*
 * The path of a model's file, to be freed. `name` is a path when it has a '/' or ends in ".ini",
 * and otherwise stands for models/<kind>/<name>.ini in the data directory. NULL with an error,
 * which suggests the nearest name, when there is no such file.
 */
char *kvt_model_path(kvt_model_kind kind, const char *name, GError **error);

/* Names of all shipped models of a kind, sorted; free with g_strfreev. */
char **kvt_model_names(kvt_model_kind kind, GError **error);

/* The name a file goes by: its last path component without ".ini"; to be freed. */
char *kvt_model_name_of(const char *path);

/* One constant of a model file. Strings belong to the list. */
typedef struct kvt_constant {
	char *section, *key, *value, *source;
	double uncertainty; /* share either way; 0 when none is stated */
} kvt_constant;

/* Every constant of the file in file order, as kvt_constant; free with g_ptr_array_unref. NULL with
 * an error when one has no source or a malformed one. */
GPtrArray *kvt_model_constants(kvt_config *config, GError **error);

/*
 * Reads one section by its table as kvt_section_read does, but lets `title`, `note`, `source`,
 * KEY.source and KEY.uncertainty stand beside the table's keys, and refuses any constant without a
 * source. A missing section is an error when `required` and otherwise gives every default.
 */
gboolean kvt_model_read_section(kvt_config *config, const char *section, gboolean required,
	const kvt_option *options, void *target, GError **error);

#endif
