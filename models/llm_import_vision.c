/*
 * llm_import_vision.c: how many parameters the vision encoder and projector of a model have that
 * also reads images. They take memory beside the decoder and have no part in its KV.
 */
#include <string.h>

#include "models/llm_import_internal.h"
#include "sim/base/error.h"

enum { WIDEST = 1 << 17, MOST_LAYERS = 1 << 12 };

typedef struct kvt_vision {
	int64_t hidden, width, layers, image, patch, channels;
} kvt_vision;

/* Attention with four biased square matrices, a biased two-matrix MLP, two norms with bias. */
static int64_t encoder_layer(const kvt_vision *vision)
{
	int64_t hidden = vision->hidden, width = vision->width;
	return 4 * (hidden * hidden + hidden) + 2 * hidden * width + width + hidden + 4 * hidden;
}

static int64_t patches(const kvt_vision *vision)
{
	int64_t side = vision->image / vision->patch;
	return side * side;
}

/* Llama 4: patch embedding, class token, positions, encoder, norms before and after; the
 * pixel-shuffle adapter of two matrices; the projector. */
static gboolean llama4(
	kvt_hf *hf, const kvt_vision *vision, int64_t hidden, int64_t *parameters, GError **error)
{
	int64_t in, out, projected;
	if (!kvt_hf_integer(hf, "projector_input_dim", 1, WIDEST, &in, error) ||
		!kvt_hf_integer(hf, "projector_output_dim", 1, WIDEST, &out, error) ||
		!kvt_hf_integer(hf, "vision_output_dim", 1, WIDEST, &projected, error))
		return FALSE;
	*parameters = vision->patch * vision->patch * vision->channels * vision->hidden +
		      vision->hidden * (1 + patches(vision) + 1 + 4) +
		      vision->layers * encoder_layer(vision) + vision->width * in + out * out +
		      projected * hidden;
	return TRUE;
}

/* SigLIP in Gemma 3: biased patch embedding, positions, encoder, a norm; projector and its norm. */
static int64_t siglip(const kvt_vision *vision, int64_t hidden)
{
	return vision->patch * vision->patch * vision->channels * vision->hidden +
	       vision->hidden * (1 + patches(vision) + 2) + vision->layers * encoder_layer(vision) +
	       vision->hidden * (hidden + 1);
}

static gboolean read_vision(kvt_hf *hf, kvt_llm *llm, GError **error)
{
	kvt_vision vision;
	const char *type = NULL;
	if (!kvt_hf_text(hf, "model_type", &type, error) ||
		!kvt_hf_integer(hf, "hidden_size", 1, WIDEST, &vision.hidden, error) ||
		!kvt_hf_integer(hf, "intermediate_size", 1, WIDEST, &vision.width, error) ||
		!kvt_hf_integer(hf, "num_hidden_layers", 1, MOST_LAYERS, &vision.layers, error) ||
		!kvt_hf_integer(hf, "image_size", 1, 1 << 16, &vision.image, error) ||
		!kvt_hf_integer(hf, "patch_size", 1, vision.image, &vision.patch, error) ||
		!kvt_hf_integer_or(hf, "num_channels", 1, 1024, 3, &vision.channels, error))
		return FALSE;
	if (type != NULL && strcmp(type, "llama4_vision_model") == 0)
		return llama4(hf, &vision, llm->hidden, &llm->extra_parameters, error);
	if (type != NULL && strcmp(type, "siglip_vision_model") == 0) {
		llm->extra_parameters = siglip(&vision, llm->hidden);
		return TRUE;
	}
	g_autofree char *quoted = kvt_error_quote(type != NULL ? type : "");
	return kvt_hf_error(hf, "model_type", error,
		"%s is not known, expected llama4_vision_model or siglip_vision_model", quoted);
}

gboolean kvt_hf_vision(kvt_hf *root, kvt_llm *llm, GError **error)
{
	const json_t *object;
	if (!kvt_hf_object(root, "vision_config", &object, error))
		return FALSE;
	if (object == NULL)
		return TRUE;
	kvt_hf hf;
	kvt_hf_init(&hf, root->file, "vision_config.", object);
	gboolean good = read_vision(&hf, llm, error);
	kvt_hf_clear(&hf);
	return good;
}
