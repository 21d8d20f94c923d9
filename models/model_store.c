/* model_store.c: one table of what was read, by kind and name, under one lock. It is held while a
 * file is read, so that no file is read twice. */
#include "models/model_store.h"

typedef enum stored_kind {
	STORED_GPU,
	STORED_HOST,
	STORED_NIC,
	STORED_DRIVE,
	STORED_LLM,
	STORED_ATTENTION,
	STORED_GEMM,
	STORED_COLLECTIVE,
	STORED_KINDS,
} stored_kind;

struct kvt_model_store {
	gatomicrefcount references;
	GMutex lock;
	GHashTable *read[STORED_KINDS]; /* name -> model */
};

#define LOADER(kind)                                                                               \
	static void *load_##kind(const char *name, GError **error)                                 \
	{                                                                                          \
		return kvt_##kind##_load(name, error);                                             \
	}                                                                                          \
	static void free_##kind(void *model)                                                       \
	{                                                                                          \
		kvt_##kind##_free(model);                                                          \
	}

LOADER(gpu)
LOADER(host)
LOADER(nic)
LOADER(drive)
LOADER(llm)
LOADER(attention_model)
LOADER(gemm_model)
LOADER(collective_model)

static const struct {
	void *(*load)(const char *name, GError **error);
	GDestroyNotify free;
} loaders[STORED_KINDS] = {
	[STORED_GPU] = { load_gpu, free_gpu },
	[STORED_HOST] = { load_host, free_host },
	[STORED_NIC] = { load_nic, free_nic },
	[STORED_DRIVE] = { load_drive, free_drive },
	[STORED_LLM] = { load_llm, free_llm },
	[STORED_ATTENTION] = { load_attention_model, free_attention_model },
	[STORED_GEMM] = { load_gemm_model, free_gemm_model },
	[STORED_COLLECTIVE] = { load_collective_model, free_collective_model },
};

kvt_model_store *kvt_model_store_new(void)
{
	kvt_model_store *store = g_new0(kvt_model_store, 1);
	g_atomic_ref_count_init(&store->references);
	g_mutex_init(&store->lock);
	for (unsigned kind = 0; kind < STORED_KINDS; kind++)
		store->read[kind] =
			g_hash_table_new_full(g_str_hash, g_str_equal, g_free, loaders[kind].free);
	return store;
}

kvt_model_store *kvt_model_store_ref(kvt_model_store *store)
{
	g_atomic_ref_count_inc(&store->references);
	return store;
}

void kvt_model_store_unref(kvt_model_store *store)
{
	if (!store || !g_atomic_ref_count_dec(&store->references))
		return;
	for (unsigned kind = 0; kind < STORED_KINDS; kind++)
		g_hash_table_destroy(store->read[kind]);
	g_mutex_clear(&store->lock);
	g_free(store);
}

/* Called with the lock held. */
static void *find(kvt_model_store *store, stored_kind kind, const char *name, GError **error)
{
	void *model = g_hash_table_lookup(store->read[kind], name);
	if (!model && (model = loaders[kind].load(name, error)) != NULL)
		g_hash_table_insert(store->read[kind], g_strdup(name), model);
	return model;
}

static const void *find_locked(
	kvt_model_store *store, stored_kind kind, const char *name, GError **error)
{
	g_mutex_lock(&store->lock);
	const void *model = find(store, kind, name, error);
	g_mutex_unlock(&store->lock);
	return model;
}

const kvt_gpu *kvt_model_store_gpu(kvt_model_store *store, const char *name, GError **error)
{
	return find_locked(store, STORED_GPU, name, error);
}

const kvt_host *kvt_model_store_host(kvt_model_store *store, const char *name, GError **error)
{
	return find_locked(store, STORED_HOST, name, error);
}

const kvt_nic *kvt_model_store_nic(kvt_model_store *store, const char *name, GError **error)
{
	return find_locked(store, STORED_NIC, name, error);
}

const kvt_drive *kvt_model_store_drive(kvt_model_store *store, const char *name, GError **error)
{
	return find_locked(store, STORED_DRIVE, name, error);
}

const kvt_llm *kvt_model_store_llm(
	kvt_model_store *store, const char *name, const kvt_dtype *kv, GError **error)
{
	if (!kv)
		return find_locked(store, STORED_LLM, name, error);
	/* no file's name has a newline */
	g_autofree char *key = g_strdup_printf("%s\nkv %d", name, (int)*kv);
	g_mutex_lock(&store->lock);
	kvt_llm *llm = g_hash_table_lookup(store->read[STORED_LLM], key);
	if (!llm && (llm = kvt_llm_load(name, error)) != NULL) {
		llm->kv.format = *kv;
		llm->kv.scale = KVT_KV_SCALE_NONE;
		g_hash_table_insert(store->read[STORED_LLM], g_strdup(key), llm);
	}
	g_mutex_unlock(&store->lock);
	return llm;
}

const kvt_attention_model *kvt_model_store_attention(
	kvt_model_store *store, const char *path, GError **error)
{
	return find_locked(store, STORED_ATTENTION, path, error);
}

const kvt_gemm_model *kvt_model_store_gemm(kvt_model_store *store, const char *path, GError **error)
{
	return find_locked(store, STORED_GEMM, path, error);
}

const kvt_collective_model *kvt_model_store_collective(
	kvt_model_store *store, const char *path, GError **error)
{
	return find_locked(store, STORED_COLLECTIVE, path, error);
}
