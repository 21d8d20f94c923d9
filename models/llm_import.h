/*
 * llm_import.h: a language model's file from the config.json that Hugging Face publishes beside its
 * weights. It understands the usual decoder families and refuses what it does not, above all what
 * might change the size of the KV cache or of the weights; it reads no weights.
 *
 *   llama                 Llama 1 to 3, Yi, DeepSeek-R1-Distill-Llama
 *   mistral, mixtral
 *   qwen2, qwen2_moe, qwen3, qwen3_moe
 *   gemma, gemma2, gemma3, gemma3_text
 *   llama4, llama4_text
 *   deepseek_v2, deepseek_v3
 *
 * Weights may be plain or quantised by fp8, compressed-tensors (8-bit float; 4 or 8-bit integer),
 * gptq or awq. The KV cache is taken to be in the model's own format unless the file says
 * otherwise.
 */
#ifndef KVT_LLM_IMPORT_H
#define KVT_LLM_IMPORT_H

#include "models/llm.h"

/*
 * Reads a config.json. `title` is what the model is to be called (NULL: what the file says, else
 * the file's name). NULL with a one-line error "file: key: reason, expected what", or "file:line:
 * ..." for what is not JSON. On success *source (when not NULL) is the text for the model's
 * `source` keys, with the keys that were taken from the library's defaults; a new string.
 */
kvt_llm *kvt_llm_import(const char *path, const char *title, char **source, GError **error);

/* The same from memory; `path` stands for the file. Any bytes are allowed as input. */
kvt_llm *kvt_llm_import_text(const char *path, const char *text, size_t length, const char *title,
	char **source, GError **error);

#endif
