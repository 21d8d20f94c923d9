/* attention_synthetic.c: the compact keys of a grown layer in the file: read, checked, and written.
 * What they expand to is synthetic_keys.c. */
#include "sim/base/error.h"
#include "traces/attention_trace_private.h"

static bool open_one(const kvt_attention_trace *trace, hid_t group, const char *prefix,
	const char *name, kvt_h5_type type, unsigned rank, kvt_h5_dataset *dataset, GError **error)
{
	g_autofree char *place = g_strdup_printf("%s/%s", prefix, name);
	return kvt_h5_dataset_open(&trace->file, group, place, name, type, rank, dataset, error);
}

/* The two sizes that the header does not decide: base tokens, and partners of each. */
static bool check_sizes(
	const kvt_attention_trace *trace, const kvt_synthetic_datasets *datasets, GError **error)
{
	uint64_t tokens = datasets->base.dims[1], partners = datasets->partner.dims[2];
	if (tokens == 0 || tokens % trace->header.block_tokens != 0 ||
		tokens > KVT_ATTENTION_TOKENS_MAX)
		return kvt_h5_error(&trace->file, datasets->base.place, error,
			"%" G_GUINT64_FORMAT " base tokens, expected whole pages of %u", tokens,
			trace->header.block_tokens);
	if (partners == 0 || partners > KVT_SYNTHETIC_PARTNERS_MAX)
		return kvt_h5_error(&trace->file, datasets->partner.place, error,
			"%" G_GUINT64_FORMAT " partners, expected 1 to %d", partners,
			KVT_SYNTHETIC_PARTNERS_MAX);
	return true;
}

static bool check_shapes(
	const kvt_attention_trace *trace, const kvt_synthetic_datasets *datasets, GError **error)
{
	const kvt_attention_header *header = &trace->header;
	const kvt_h5_file *file = &trace->file;
	if (!check_sizes(trace, datasets, error))
		return false;
	uint64_t tokens = datasets->base.dims[1], partners = datasets->partner.dims[2];
	uint64_t pages = (header->total_tokens - 1) / header->block_tokens + 1;
	uint64_t base[] = { header->kv_heads, tokens, header->head_dim };
	uint64_t partner[] = { header->kv_heads, tokens, partners };
	uint64_t weight[] = { pages, partners };
	return kvt_h5_dataset_expect(file, &datasets->base, base,
		       "[n_kv_heads, base tokens, head_dim] =", error) &&
	       kvt_h5_dataset_expect(file, &datasets->partner, partner,
		       "[n_kv_heads, base tokens, partners] =", error) &&
	       kvt_h5_dataset_expect(
		       file, &datasets->page, &pages, "as many as pages of total_tokens,", error) &&
	       kvt_h5_dataset_expect(file, &datasets->weight, weight, "[pages, partners] =", error);
}

bool kvt_synthetic_datasets_open(const kvt_attention_trace *trace, hid_t group, const char *prefix,
	kvt_synthetic_datasets *datasets, GError **error)
{
	*datasets = (kvt_synthetic_datasets){ 0 };
	if (!kvt_h5_has(group, "synthetic_keys"))
		return true;
	g_autofree char *place = g_strdup_printf("%s/synthetic_keys", prefix);
	g_auto(kvt_h5_id) keys = -1;
	if (!trace->header.synthetic)
		return kvt_h5_error(&trace->file, place, error,
			"in a recorded trace, expected attribute synthetic to be 1");
	return kvt_h5_group_open(&trace->file, group, place, "synthetic_keys", &keys, error) &&
	       open_one(trace, keys, place, "base", KVT_H5_HALF, 3, &datasets->base, error) &&
	       open_one(trace, keys, place, "partner", KVT_H5_UINT32, 3, &datasets->partner,
		       error) &&
	       open_one(trace, keys, place, "page", KVT_H5_UINT32, 1, &datasets->page, error) &&
	       open_one(trace, keys, place, "weight", KVT_H5_HALF, 2, &datasets->weight, error) &&
	       check_shapes(trace, datasets, error);
}

void kvt_synthetic_datasets_close(kvt_synthetic_datasets *datasets)
{
	kvt_h5_dataset_close(&datasets->base);
	kvt_h5_dataset_close(&datasets->partner);
	kvt_h5_dataset_close(&datasets->page);
	kvt_h5_dataset_close(&datasets->weight);
}

static bool read_whole(const kvt_attention_trace *trace, const kvt_h5_dataset *dataset, void **out,
	uint64_t *bytes, GError **error)
{
	const uint64_t start[KVT_H5_RANK_MAX] = { 0 };
	uint64_t count[KVT_H5_RANK_MAX], elements = 1;
	for (unsigned i = 0; i < dataset->rank; i++) {
		count[i] = dataset->dims[i];
		elements *= count[i];
	}
	*out = g_malloc_n(elements, dataset->element);
	*bytes += elements * dataset->element;
	return kvt_h5_dataset_read(&trace->file, dataset, start, count, *out, error);
}

bool kvt_synthetic_datasets_read(const kvt_attention_trace *trace,
	const kvt_synthetic_datasets *datasets, kvt_synthetic_keys *keys, uint64_t *bytes,
	GError **error)
{
	const kvt_attention_header *header = &trace->header;
	*keys = (kvt_synthetic_keys){
		.kv_heads = header->kv_heads,
		.head_dim = header->head_dim,
		.block_tokens = header->block_tokens,
		.partners = (uint32_t)datasets->partner.dims[2],
		.base_tokens = datasets->base.dims[1],
		.pages = datasets->page.dims[0],
	};
	g_autofree char *problem = NULL;
	if (read_whole(trace, &datasets->base, (void **)&keys->base, bytes, error) &&
		read_whole(trace, &datasets->partner, (void **)&keys->partner, bytes, error) &&
		read_whole(trace, &datasets->page, (void **)&keys->page, bytes, error) &&
		read_whole(trace, &datasets->weight, (void **)&keys->weight, bytes, error)) {
		problem = kvt_synthetic_keys_check(keys);
		if (problem == NULL) {
			kvt_synthetic_keys_prepare(keys);
			g_clear_pointer(&keys->base, g_free);
			return true;
		}
		kvt_h5_error(&trace->file, datasets->page.place, error, "%s", problem);
	}
	kvt_synthetic_keys_clear(keys);
	return false;
}

enum {
	DEFLATE_LEVEL = 6,
	CHUNK_BYTES = 1 << 20,
};

/* Chunked along the dimension before the last; deflated, without time stamps. */
static bool write_one(hid_t parent, const char *name, hid_t type, hid_t memory_type, unsigned rank,
	const hsize_t *dims, const void *values)
{
	hsize_t chunk[KVT_H5_RANK_MAX], row = H5Tget_size(type);
	unsigned along = rank > 1 ? rank - 2 : 0;
	for (unsigned i = 0; i < rank; i++) {
		chunk[i] = i < along ? 1 : dims[i];
		row *= i > along ? dims[i] : 1;
	}
	chunk[along] = CLAMP(CHUNK_BYTES / row, 1, dims[along]);
	g_auto(kvt_h5_id) space = H5Screate_simple((int)rank, dims, NULL);
	g_auto(kvt_h5_id) list = H5Pcreate(H5P_DATASET_CREATE);
	H5Pset_obj_track_times(list, false);
	if (H5Pset_chunk(list, (int)rank, chunk) < 0 || H5Pset_shuffle(list) < 0 ||
		H5Pset_deflate(list, DEFLATE_LEVEL) < 0)
		return false;
	g_auto(kvt_h5_id) dataset =
		H5Dcreate2(parent, name, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
	return dataset >= 0 &&
	       H5Dwrite(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0;
}

bool kvt_synthetic_datasets_write(hid_t group, const kvt_synthetic_keys *keys)
{
	g_auto(kvt_h5_id) list = H5Pcreate(H5P_GROUP_CREATE);
	H5Pset_obj_track_times(list, false);
	g_auto(kvt_h5_id) own = H5Gcreate2(group, "synthetic_keys", H5P_DEFAULT, list, H5P_DEFAULT);
	g_auto(kvt_h5_id) half = kvt_h5_half_type();
	hsize_t base[] = { keys->kv_heads, keys->base_tokens, keys->head_dim };
	hsize_t partner[] = { keys->kv_heads, keys->base_tokens, keys->partners };
	hsize_t weight[] = { keys->pages, keys->partners };
	return own >= 0 && write_one(own, "base", half, half, 3, base, keys->base) &&
	       write_one(own, "partner", H5T_STD_U32LE, H5T_NATIVE_UINT32, 3, partner,
		       keys->partner) &&
	       write_one(own, "page", H5T_STD_U32LE, H5T_NATIVE_UINT32, 1, weight, keys->page) &&
	       write_one(own, "weight", half, half, 2, weight, keys->weight);
}
