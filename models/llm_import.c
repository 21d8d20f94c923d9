/*
 * llm_import.c: reads a config.json, finds the family of the model, and sees to it that nothing of
 * weight was passed over. What the keys of a family mean is in llm_import_family.c.
 */
#include "models/llm_import.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "models/llm_import_internal.h"
#include "sim/base/error.h"

enum { FILE_LARGEST = 4 << 20, TITLE_LONGEST = 200 };

/* Parts of names that speak of the shape of a model. */
static const char *const weighty[] = { "attn", "attention", "kv", "cache", "window", "layer",
	"head", "expert", "moe", "lora", "rank", "sparse", "share", "hidden", "intermediate",
	"chunk", "index", "mamba", "ssm", "conv", "state", "embed", "dim", "width", "size", "block",
	"memory", "cross", "bias", NULL };

/* Keys with such a part that change neither KV nor weights. */
static const char *const harmless[] = { "attention_dropout", "attn_dropout", "attn_pdrop",
	"attn_implementation", "attn_logit_softcapping", "attn_scale", "attn_temperature_tuning",
	"query_pre_attn_scalar", "no_rope_layer_interval", "cache_implementation",
	"dual_chunk_attention_config", "embd_pdrop", "embedding_dropout", "hidden_act",
	"hidden_activation", "hidden_dropout", "hidden_dropout_prob", "layer_norm_eps",
	"num_nextn_predict_layers", "output_attentions", "output_hidden_states", "use_cache",
	"moe_router_aux_loss_coef", "use_bidirectional_attention", "boi_token_index",
	"eoi_token_index", "image_token_index", "mm_tokens_per_image", "layer_norm_epsilon",
	"rope_interleave", "ep_size", NULL };

void kvt_hf_init(kvt_hf *hf, const char *file, const char *prefix, const json_t *object)
{
	hf->file = file;
	hf->prefix = prefix;
	hf->object = object;
	hf->used = g_hash_table_new(g_str_hash, g_str_equal);
	hf->defaults = g_string_new(NULL);
}

void kvt_hf_clear(kvt_hf *hf)
{
	g_hash_table_destroy(hf->used);
	g_string_free(hf->defaults, TRUE);
}

gboolean kvt_hf_error(const kvt_hf *hf, const char *key, GError **error, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	g_autofree char *message = g_strdup_vprintf(format, args);
	va_end(args);
	g_autofree char *name = g_strconcat(hf->prefix, key, NULL);
	/* A key from the file may hold anything; one of ours reads best without quotes. */
	g_autofree char *quoted = kvt_error_quote(name);
	bool plain = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_.") == strlen(name);
	return kvt_error_at(error, hf->file, 0, "%s: %s", plain ? name : quoted, message);
}

const json_t *kvt_hf_get(kvt_hf *hf, const char *key)
{
	g_hash_table_add(hf->used, (gpointer)key);
	const json_t *value = json_object_get(hf->object, key);
	return json_is_null(value) ? NULL : value;
}

static const char *type_name(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "a number";
	case JSON_REAL:
		return "a number with a fraction";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a truth value";
	default:
		return "null";
	}
}

gboolean kvt_hf_integer_or(kvt_hf *hf, const char *key, int64_t low, int64_t high, int64_t fallback,
	int64_t *value, GError **error)
{
	const json_t *found = kvt_hf_get(hf, key);
	if (found == NULL) {
		g_string_append_printf(
			hf->defaults, "%s%s", hf->defaults->len > 0 ? ", " : "", key);
		*value = fallback;
		return TRUE;
	}
	if (!json_is_integer(found))
		return kvt_hf_error(hf, key, error,
			"is %s, expected a whole number from %" G_GINT64_FORMAT
			" to %" G_GINT64_FORMAT,
			type_name(found), low, high);
	*value = json_integer_value(found);
	if (*value < low || *value > high)
		return kvt_hf_error(hf, key, error,
			"is %" G_GINT64_FORMAT ", expected %" G_GINT64_FORMAT
			" to %" G_GINT64_FORMAT,
			*value, low, high);
	return TRUE;
}

gboolean kvt_hf_integer(
	kvt_hf *hf, const char *key, int64_t low, int64_t high, int64_t *value, GError **error)
{
	if (kvt_hf_get(hf, key) == NULL)
		return kvt_hf_error(hf, key, error,
			"is missing, expected a whole number from %" G_GINT64_FORMAT
			" to %" G_GINT64_FORMAT,
			low, high);
	return kvt_hf_integer_or(hf, key, low, high, 0, value, error);
}

gboolean kvt_hf_bool(kvt_hf *hf, const char *key, bool fallback, bool *value, GError **error)
{
	const json_t *found = kvt_hf_get(hf, key);
	if (found != NULL && !json_is_boolean(found))
		return kvt_hf_error(
			hf, key, error, "is %s, expected true or false", type_name(found));
	*value = found != NULL ? json_is_true(found) : fallback;
	return TRUE;
}

/* Text that can stand in an .ini file as it is. */
static gboolean is_plain(const char *text)
{
	size_t length = strlen(text);
	if (length == 0 || length > TITLE_LONGEST || !g_utf8_validate(text, -1, NULL) ||
		g_ascii_isspace(text[0]) || g_ascii_isspace(text[length - 1]))
		return FALSE;
	for (const char *at = text; *at != '\0'; at++) {
		if (g_ascii_iscntrl(*at) || *at == '#' || *at == ';')
			return FALSE;
	}
	return TRUE;
}

gboolean kvt_hf_text(kvt_hf *hf, const char *key, const char **value, GError **error)
{
	const json_t *found = kvt_hf_get(hf, key);
	*value = NULL;
	if (found == NULL)
		return TRUE;
	if (!json_is_string(found))
		return kvt_hf_error(hf, key, error, "is %s, expected a string", type_name(found));
	if (!is_plain(json_string_value(found)))
		return kvt_hf_error(hf, key, error,
			"is no plain text, expected at most %d characters without # and ;",
			TITLE_LONGEST);
	*value = json_string_value(found);
	return TRUE;
}

gboolean kvt_hf_object(kvt_hf *hf, const char *key, const json_t **value, GError **error)
{
	*value = kvt_hf_get(hf, key);
	if (*value != NULL && !json_is_object(*value))
		return kvt_hf_error(hf, key, error, "is %s, expected an object", type_name(*value));
	return TRUE;
}

gboolean kvt_hf_array(kvt_hf *hf, const char *key, const json_t **value, GError **error)
{
	*value = kvt_hf_get(hf, key);
	if (*value != NULL && !json_is_array(*value))
		return kvt_hf_error(hf, key, error, "is %s, expected an array", type_name(*value));
	return TRUE;
}

/* Null, false, 0, or an empty string, array or object: nothing was asked for. */
static bool is_nothing(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_INTEGER:
		return json_integer_value(value) == 0;
	case JSON_REAL:
		return json_real_value(value) == 0;
	case JSON_STRING:
		return json_string_length(value) == 0;
	case JSON_ARRAY:
		return json_array_size(value) == 0;
	case JSON_OBJECT:
		return json_object_size(value) == 0;
	case JSON_TRUE:
		return false;
	default:
		return true;
	}
}

gboolean kvt_hf_check_understood(const kvt_hf *hf, GError **error)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)hf->object, key, value)
	{
		/* What begins with _ is the library's own book-keeping. */
		if (key[0] == '_' || g_hash_table_contains(hf->used, key) || is_nothing(value) ||
			g_strv_contains(harmless, key))
			continue;
		for (size_t i = 0; weighty[i] != NULL; i++) {
			if (strstr(key, weighty[i]) != NULL)
				return kvt_hf_error(hf, key, error,
					"is not understood for this kind of model and may change "
					"its size");
		}
	}
	return TRUE;
}

/* The family by architectures and model_type, which must agree. */
static const kvt_hf_family *find_family(kvt_hf *root, GError **error)
{
	const char *type = NULL, *architecture = NULL;
	const json_t *list = NULL;
	if (!kvt_hf_text(root, "model_type", &type, error) ||
		!kvt_hf_array(root, "architectures", &list, error))
		return NULL;
	if (list != NULL && json_array_size(list) > 0) {
		if (json_array_size(list) != 1 || !json_is_string(json_array_get(list, 0))) {
			kvt_hf_error(root, "architectures", error,
				"names several or none, expected one architecture");
			return NULL;
		}
		architecture = json_string_value(json_array_get(list, 0));
	}
	if (type == NULL && architecture == NULL) {
		kvt_hf_error(root, "model_type", error, "is missing, expected such as \"llama\"");
		return NULL;
	}
	g_autoptr(GPtrArray) known = g_ptr_array_new();
	for (const kvt_hf_family *family = kvt_hf_families; family->model_type != NULL; family++) {
		bool same_type = type == NULL || strcmp(type, family->model_type) == 0;
		bool same = architecture == NULL || strcmp(architecture, family->architecture) == 0;
		if (same_type && same)
			return family;
		g_ptr_array_add(
			known, (gpointer)(type != NULL && !same_type ? family->model_type
								     : family->architecture));
		if (type != NULL && same_type) {
			g_autofree char *quoted = kvt_error_quote(architecture);
			kvt_hf_error(root, "architectures", error,
				"has %s, expected %s for model_type %s", quoted,
				family->architecture, type);
			return NULL;
		}
	}
	g_ptr_array_add(known, NULL);
	g_autofree char *quoted = kvt_error_quote(type != NULL ? type : architecture);
	g_autofree char *all = g_strjoinv(", ", (char **)known->pdata);
	kvt_hf_error(root, type != NULL ? "model_type" : "architectures", error,
		"%s is not known, expected one of %s", quoted, all);
	return NULL;
}

static gboolean set_title(kvt_llm *llm, kvt_hf *root, const char *title, GError **error)
{
	if (title != NULL && !is_plain(title)) {
		g_autofree char *quoted = kvt_error_quote(title);
		return kvt_error_usage(error,
			"%s is no title, expected at most %d characters of text without # and ;",
			quoted, TITLE_LONGEST);
	}
	const json_t *named = kvt_hf_get(root, "_name_or_path");
	const char *stem = llm->name;
	if (title == NULL && json_is_string(named) && is_plain(json_string_value(named)))
		title = json_string_value(named);
	if (title == NULL)
		title = is_plain(stem) ? stem : "imported model";
	llm->title = g_strdup(title);
	return TRUE;
}

static char *source_text(const kvt_hf *decoder, const char *architecture)
{
	g_autofree char *base = g_path_get_basename(decoder->file);
	GString *text = g_string_new("imported: ");
	g_string_append_printf(text, "%s (%s)", is_plain(base) ? base : "a file", architecture);
	if (decoder->defaults->len > 0)
		g_string_append_printf(
			text, ", with the transformers defaults of %s", decoder->defaults->str);
	return g_string_free(text, FALSE);
}

/* Reads all of the model from the family's decoder object. */
static gboolean read_model(
	kvt_hf *root, kvt_hf *decoder, const kvt_hf_family *family, kvt_llm *llm, GError **error)
{
	/* The library's top level repeats some keys of the decoder; they are the decoder's. */
	kvt_hf_get(decoder, "model_type");
	kvt_hf_get(decoder, "architectures");
	g_autoptr(GError) why = NULL;
	if (!family->read(decoder, llm, error) ||
		!kvt_hf_bool(root, "tie_word_embeddings", llm->tied_embeddings,
			&llm->tied_embeddings, error) ||
		(family->nested && !kvt_hf_vision(root, llm, error)) ||
		!kvt_hf_precision(root, decoder, llm, error) ||
		!kvt_hf_check_understood(decoder, error) ||
		(family->nested && !kvt_hf_check_understood(root, error)))
		return FALSE;
	if (!kvt_llm_check(llm, &why))
		return kvt_error_at(error, root->file, 0, "%s", why->message);
	return TRUE;
}

static kvt_llm *import_object(
	const char *path, const json_t *object, const char *title, char **source, GError **error)
{
	kvt_hf root, nested;
	kvt_hf_init(&root, path, "", object);
	g_autoptr(kvt_llm) llm = g_new0(kvt_llm, 1);
	llm->path = g_strdup(path);
	llm->name = g_path_get_basename(path);
	if (g_str_has_suffix(llm->name, ".json"))
		llm->name[strlen(llm->name) - strlen(".json")] = '\0';
	llm->norms = 2;
	const kvt_hf_family *family = find_family(&root, error);
	const json_t *text = NULL;
	gboolean good = family != NULL && set_title(llm, &root, title, error) &&
			kvt_hf_object(&root, "text_config", &text, error);
	if (good && family->nested && text == NULL)
		good = kvt_hf_error(
			&root, "text_config", error, "is missing, expected the decoder's object");
	if (good && !family->nested && text != NULL)
		good = kvt_hf_error(&root, "text_config", error,
			"is not understood for model_type %s", family->model_type);
	kvt_hf_init(&nested, path, "text_config.", text);
	kvt_hf *decoder = text != NULL ? &nested : &root;
	good = good && read_model(&root, decoder, family, llm, error);
	if (good && source != NULL)
		*source = source_text(decoder, family->architecture);
	kvt_hf_clear(&nested);
	kvt_hf_clear(&root);
	return good ? g_steal_pointer(&llm) : NULL;
}

kvt_llm *kvt_llm_import_text(const char *path, const char *text, size_t length, const char *title,
	char **source, GError **error)
{
	json_error_t why;
	json_t *object = json_loadb(text, length, JSON_REJECT_DUPLICATES, &why);
	if (object == NULL) {
		/* jansson quotes what it found; that may be any text but is cut at one line. */
		g_autofree char *quoted = kvt_error_quote(why.text);
		kvt_error_at(
			error, path, why.line > 0 ? (unsigned)why.line : 0, "not JSON: %s", quoted);
		return NULL;
	}
	kvt_llm *llm = NULL;
	if (json_is_object(object))
		llm = import_object(path, object, title, source, error);
	else
		kvt_error_at(error, path, 0, "is %s, expected a JSON object", type_name(object));
	json_decref(object);
	return llm;
}

kvt_llm *kvt_llm_import(const char *path, const char *title, char **source, GError **error)
{
	FILE *file = fopen(path, "re");
	if (file == NULL) {
		kvt_error_at(error, path, 0, "cannot read the file: %s", g_strerror(errno));
		return NULL;
	}
	g_autofree char *text = g_malloc(FILE_LARGEST + 1);
	errno = 0;
	size_t length = fread(text, 1, FILE_LARGEST + 1, file);
	int failed = ferror(file) ? errno : 0;
	fclose(file);
	if (failed != 0) {
		kvt_error_at(error, path, 0, "cannot read the file: %s", g_strerror(failed));
		return NULL;
	}
	if (length > FILE_LARGEST) {
		kvt_error_at(error, path, 0,
			"the file is larger than %d MiB, expected a config.json",
			FILE_LARGEST >> 20);
		return NULL;
	}
	return kvt_llm_import_text(path, text, length, title, source, error);
}
