/*
 * model_store.h: models and kernel tables that have been read once and are shared, read-only, by
 * the experiments of one process and their threads: a sweep runs thousands of experiments over the
 * same few files. It decides nothing; what a name means is model_file.h's, what is read is llm.h's,
 * hardware.h's and the kernel tables' own.
 */
#ifndef KVT_MODEL_STORE_H
#define KVT_MODEL_STORE_H

#include "models/attention_model.h"
#include "models/collective_model.h"
#include "models/gemm_model.h"
#include "models/hardware.h"
#include "models/llm.h"

typedef struct kvt_model_store kvt_model_store;

/* An empty store with one reference. It keeps what it read until the last one is gone: a file that
 * changes meanwhile is not read again. All calls may come from several threads at once. */
kvt_model_store *kvt_model_store_new(void);
kvt_model_store *kvt_model_store_ref(kvt_model_store *store);
void kvt_model_store_unref(kvt_model_store *store);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(kvt_model_store, kvt_model_store_unref)

/* A model by name or path, as kvt_..._load finds it; it belongs to the store. NULL with the
 * loader's error; what could not be read is tried again the next time. */
const kvt_gpu *kvt_model_store_gpu(kvt_model_store *store, const char *name, GError **error);
const kvt_host *kvt_model_store_host(kvt_model_store *store, const char *name, GError **error);
const kvt_nic *kvt_model_store_nic(kvt_model_store *store, const char *name, GError **error);
const kvt_drive *kvt_model_store_drive(kvt_model_store *store, const char *name, GError **error);

/* A language model whose KV is of that format, without scales; NULL: as its file says. */
const kvt_llm *kvt_model_store_llm(
	kvt_model_store *store, const char *name, const kvt_dtype *kv, GError **error);

/* A kernel table by its path. */
const kvt_attention_model *kvt_model_store_attention(
	kvt_model_store *store, const char *path, GError **error);
const kvt_gemm_model *kvt_model_store_gemm(
	kvt_model_store *store, const char *path, GError **error);
const kvt_collective_model *kvt_model_store_collective(
	kvt_model_store *store, const char *path, GError **error);

#endif
