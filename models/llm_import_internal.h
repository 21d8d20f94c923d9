/*
 * llm_import_internal.h: what the files of the import share: typed access to a config.json that
 * remembers which keys have been understood. Nothing else includes it.
 */
#ifndef KVT_LLM_IMPORT_INTERNAL_H
#define KVT_LLM_IMPORT_INTERNAL_H

#include <jansson.h>

#include "models/llm.h"

/* One object of the file: the whole, or a nested one such as text_config. */
typedef struct kvt_hf {
	const char *file;   /* for messages */
	const char *prefix; /* of keys in messages: "", "text_config." */
	const json_t *object;
	GHashTable *used;  /* keys that were asked for */
	GString *defaults; /* keys taken from the library's defaults, with commas */
} kvt_hf;

void kvt_hf_init(kvt_hf *hf, const char *file, const char *prefix, const json_t *object);
void kvt_hf_clear(kvt_hf *hf);

/* An error "file: prefix+key: ..."; returns false. */
gboolean kvt_hf_error(const kvt_hf *hf, const char *key, GError **error, const char *format, ...)
	G_GNUC_PRINTF(4, 5);

/* The value, or NULL when it is absent or null. Counts as understood. */
const json_t *kvt_hf_get(kvt_hf *hf, const char *key);

/* A whole number in [low, high]. A missing one is an error, or `fallback` in the second. */
gboolean kvt_hf_integer(
	kvt_hf *hf, const char *key, int64_t low, int64_t high, int64_t *value, GError **error);
gboolean kvt_hf_integer_or(kvt_hf *hf, const char *key, int64_t low, int64_t high, int64_t fallback,
	int64_t *value, GError **error);

/* true or false; missing: fallback. */
gboolean kvt_hf_bool(kvt_hf *hf, const char *key, bool fallback, bool *value, GError **error);

/* A string of 1 to 200 bytes of printable text; missing: NULL. It belongs to the file. */
gboolean kvt_hf_text(kvt_hf *hf, const char *key, const char **value, GError **error);

/* An object or an array; missing: NULL. */
gboolean kvt_hf_object(kvt_hf *hf, const char *key, const json_t **value, GError **error);
gboolean kvt_hf_array(kvt_hf *hf, const char *key, const json_t **value, GError **error);

/* Refuses a key that nothing has asked for, that holds something, and whose name speaks of what may
 * change the model's shape. */
gboolean kvt_hf_check_understood(const kvt_hf *hf, GError **error);

/* A family of models: fills everything but precision and kv from the decoder's object. */
typedef struct kvt_hf_family {
	const char *model_type;
	const char *architecture;
	bool nested; /* the decoder is in text_config */
	gboolean (*read)(kvt_hf *hf, kvt_llm *llm, GError **error);
} kvt_hf_family;

/* Ended by an entry without a model_type (llm_import_family.c). */
extern const kvt_hf_family kvt_hf_families[];

/* Parameters of the vision encoder that a model carries, 0 without one (llm_import_vision.c). */
gboolean kvt_hf_vision(kvt_hf *root, kvt_llm *llm, GError **error);

/* Formats of weights and KV: torch_dtype, quantization_config (llm_import_precision.c). `decoder`
 * may be the same object as root. */
gboolean kvt_hf_precision(kvt_hf *root, kvt_hf *decoder, kvt_llm *llm, GError **error);

#endif
