/* attention_trace_writer.c: writes attention traces; see attention_trace_writer.h. The layout is
 * that of traces/FORMAT.md: chunked, shuffled, deflated, without time stamps. */
#include "traces/attention_trace_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim/base/error.h"
#include "traces/attention_rules.h"
#include "traces/attention_trace_private.h"
#include "traces/half_float.h"
#include "traces/trace_hdf5.h"

enum {
	DEFLATE_LEVEL = 6,
	PAIRS_A_CHUNK = 1 << 14, /* and pairs held back before they are written */
	TOKENS_A_CHUNK = 1 << 12,
	STEPS_A_CHUNK = 64,
};

/* A tensor that is filled from front to back along one dimension of its last head. */
typedef struct tensor {
	hid_t dataset;                   /* 0: the layer has none */
	uint64_t heads, length, written; /* rows of all heads written so far */
	hsize_t row[2];                  /* dimensions behind the length; row[1] may be 1 */
	const char *name;
} tensor;

struct kvt_attention_writer {
	char *path, *temporary;
	hid_t file, layers;
	kvt_attention_header header;
	kvt_attention_step *steps;
	uint64_t step_count;
	bool *written; /* [layers] */

	bool in_layer;
	uint32_t layer;
	hid_t group, access, block, mass;
	kvt_attention_row_checker *checker;
	uint64_t *offsets; /* [steps x kv_heads + 1] */
	uint64_t rows;     /* of the layer so far */
	uint32_t *blocks;  /* pairs held back */
	uint16_t *masses;
	uint64_t held, held_room, stored;
	tensor queries, keys, values;
	GArray *order; /* of row_of_masses */
};

static bool cannot_write(const kvt_attention_writer *writer, GError **error)
{
	g_autofree char *reason = kvt_h5_reason();
	return kvt_error_failed(
		error, "%s: cannot be written (%s), expected room for it", writer->path, reason);
}

/* A dataset's creation list: chunked and deflated when it has chunk dimensions. */
static hid_t creation_list(unsigned rank, const hsize_t *chunk)
{
	hid_t list = H5Pcreate(H5P_DATASET_CREATE);
	/* Time stamps would make equal traces differ. */
	H5Pset_obj_track_times(list, false);
	if (chunk != NULL &&
		(H5Pset_chunk(list, (int)rank, chunk) < 0 || H5Pset_shuffle(list) < 0 ||
			H5Pset_deflate(list, DEFLATE_LEVEL) < 0)) {
		kvt_h5_close(list);
		return -1;
	}
	return list;
}

static hid_t create_dataset(hid_t parent, const char *name, hid_t type, unsigned rank,
	const hsize_t *dims, const hsize_t *limit, const hsize_t *chunk)
{
	g_auto(kvt_h5_id) space = H5Screate_simple((int)rank, dims, limit);
	g_auto(kvt_h5_id) list = creation_list(rank, chunk);
	if (space < 0 || list < 0)
		return -1;
	return H5Dcreate2(parent, name, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
}

static bool write_whole(hid_t parent, const char *name, hid_t type, hid_t memory_type,
	uint64_t count, bool deflate, const void *values)
{
	hsize_t dims = count, chunk = MIN(count, PAIRS_A_CHUNK);
	g_auto(kvt_h5_id) dataset =
		create_dataset(parent, name, type, 1, &dims, NULL, deflate ? &chunk : NULL);
	return dataset >= 0 &&
	       H5Dwrite(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0;
}

static hid_t create_group(hid_t parent, const char *name)
{
	g_auto(kvt_h5_id) list = H5Pcreate(H5P_GROUP_CREATE);
	H5Pset_obj_track_times(list, false);
	return H5Gcreate2(parent, name, H5P_DEFAULT, list, H5P_DEFAULT);
}

static bool write_attribute(
	hid_t object, const char *name, hid_t type, hid_t memory_type, const void *value)
{
	g_auto(kvt_h5_id) space = H5Screate(H5S_SCALAR);
	g_auto(kvt_h5_id) attribute =
		H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
	return attribute >= 0 && H5Awrite(attribute, memory_type, value) >= 0;
}

static bool write_text(hid_t object, const char *name, const char *text)
{
	if (text == NULL)
		return true;
	g_auto(kvt_h5_id) type = H5Tcopy(H5T_C_S1);
	H5Tset_size(type, H5T_VARIABLE);
	H5Tset_cset(type, H5T_CSET_UTF8);
	return write_attribute(object, name, type, type, &text);
}

static bool write_text_at(hid_t parent, const char *child, const char *name, const char *text)
{
	g_auto(kvt_h5_id) object = H5Oopen(parent, child, H5P_DEFAULT);
	return object >= 0 && write_text(object, name, text);
}

static bool write_header(const kvt_attention_writer *writer)
{
	const kvt_attention_header *header = &writer->header;
	hid_t file = writer->file;
	uint32_t version = 1, synthetic = 1;
	const struct {
		const char *name;
		const uint32_t *value;
	} numbers[] = {
		{ "version", &version },
		{ "n_layers", &header->layers },
		{ "n_q_heads", &header->query_heads },
		{ "n_kv_heads", &header->kv_heads },
		{ "head_dim", &header->head_dim },
		{ "block_tokens", &header->block_tokens },
		{ "local_chunk_tokens", &header->local_chunk_tokens },
		{ "synthetic", &synthetic },
	};
	bool ok = write_text(file, "format", "attention-trace") &&
		  write_text(file, "model", header->model) &&
		  write_text(file, "source", header->source) &&
		  write_text(file, "license", header->license) &&
		  write_text(file, "derived", header->derived);
	for (size_t i = 0; ok && i < G_N_ELEMENTS(numbers) - !header->synthetic; i++)
		ok = write_attribute(
			file, numbers[i].name, H5T_STD_U32LE, H5T_NATIVE_UINT32, numbers[i].value);
	return ok &&
	       write_attribute(file, "context_tokens", H5T_STD_U64LE, H5T_NATIVE_UINT64,
		       &header->context_tokens) &&
	       write_attribute(file, "total_tokens", H5T_STD_U64LE, H5T_NATIVE_UINT64,
		       &header->total_tokens) &&
	       write_attribute(file, "softmax_scale", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT,
		       &header->softmax_scale) &&
	       write_whole(file, "layer_kind", H5T_STD_U8LE, H5T_NATIVE_UINT8, header->layers,
		       false, header->layer_kind) &&
	       write_text_at(file, "layer_kind", "enum", "0=chunked RoPE 1=global NoPE");
}

/* The narrowest type of the format that holds all token ids. */
static hid_t token_type(const uint32_t *tokens, uint64_t count)
{
	uint32_t most = 0;
	for (uint64_t i = 0; i < count; i++)
		most = MAX(most, tokens[i]);
	return most <= UINT16_MAX ? H5T_STD_U16LE : H5T_STD_U32LE;
}

static bool write_steps(const kvt_attention_writer *writer)
{
	uint64_t count = writer->step_count;
	g_autofree uint64_t *position = g_new(uint64_t, count);
	g_autofree uint16_t *turn = g_new(uint16_t, count);
	g_autofree uint8_t *kind = g_new(uint8_t, count);
	g_autofree uint32_t *token = g_new(uint32_t, count);
	g_autofree float *nll = g_new(float, count);
	bool has_token = false, has_nll = false;
	for (uint64_t i = 0; i < count; i++) {
		position[i] = writer->steps[i].position;
		turn[i] = writer->steps[i].turn;
		kind[i] = writer->steps[i].kind;
		token[i] = writer->steps[i].token;
		nll[i] = writer->steps[i].nll;
		has_token |= token[i] != UINT32_MAX;
		has_nll |= !isnan(nll[i]);
	}
	g_auto(kvt_h5_id) group = create_group(writer->file, "steps");
	return group >= 0 &&
	       write_whole(group, "position", H5T_STD_U64LE, H5T_NATIVE_UINT64, count, false,
		       position) &&
	       write_whole(group, "turn", H5T_STD_U16LE, H5T_NATIVE_UINT16, count, false, turn) &&
	       write_whole(group, "kind", H5T_STD_U8LE, H5T_NATIVE_UINT8, count, false, kind) &&
	       write_text_at(
		       group, "kind", "enum", "0=prompt (teacher-forced) 1=decode (sampled)") &&
	       (!has_token || write_whole(group, "token", token_type(token, count),
				      H5T_NATIVE_UINT32, count, false, token)) &&
	       (!has_nll || write_whole(group, "nll", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, count,
				    false, nll));
}

static void copy_header(kvt_attention_writer *writer, const kvt_attention_header *header)
{
	writer->header = *header;
	writer->header.model = g_strdup(header->model);
	writer->header.source = g_strdup(header->source);
	writer->header.license = g_strdup(header->license);
	writer->header.derived = g_strdup(header->derived);
	writer->header.layer_kind = g_memdup2(header->layer_kind, header->layers);
}

static bool check_input(const char *path, const kvt_attention_header *header,
	const kvt_attention_step *steps, uint64_t count, GError **error)
{
	g_autofree char *problem = kvt_attention_header_check(header);
	if (problem == NULL)
		problem = kvt_attention_steps_check(header, steps, count);
	if (problem == NULL && header->model == NULL)
		problem = g_strdup("attribute model: missing, expected a text");
	return problem == NULL || kvt_error_at(error, path, 0, "%s", problem);
}

static bool create_file(kvt_attention_writer *writer, GError **error)
{
	writer->temporary = g_strdup_printf("%s.XXXXXX", writer->path);
	int fd = g_mkstemp_full(writer->temporary, O_RDWR | O_CLOEXEC, 0666);
	if (fd < 0) {
		int reason = errno;
		g_clear_pointer(&writer->temporary, g_free);
		return kvt_error_failed(error,
			"%s: cannot be created (%s), expected a writable folder", writer->path,
			g_strerror(reason));
	}
	close(fd);
	KVT_H5_GUARDED;
	g_auto(kvt_h5_id) creation = H5Pcreate(H5P_FILE_CREATE);
	H5Pset_obj_track_times(creation, false);
	writer->file = H5Fcreate(writer->temporary, H5F_ACC_TRUNC, creation, H5P_DEFAULT);
	if (writer->file < 0 || !write_header(writer) || !write_steps(writer) ||
		(writer->layers = create_group(writer->file, "layers")) < 0)
		return cannot_write(writer, error);
	return true;
}

kvt_attention_writer *kvt_attention_writer_new(const char *path, const kvt_attention_header *header,
	const kvt_attention_step *steps, uint64_t step_count, GError **error)
{
	if (!check_input(path, header, steps, step_count, error))
		return NULL;
	g_autoptr(kvt_attention_writer) writer = g_new0(kvt_attention_writer, 1);
	writer->path = g_strdup(path);
	copy_header(writer, header);
	writer->steps = g_memdup2(steps, step_count * sizeof *steps);
	writer->step_count = step_count;
	writer->written = g_new0(bool, header->layers);
	writer->offsets = g_new(uint64_t, step_count * header->kv_heads + 1);
	writer->order = g_array_new(FALSE, FALSE, sizeof(uint32_t));
	if (!create_file(writer, error))
		return NULL;
	return g_steal_pointer(&writer);
}

bool kvt_attention_writer_tokens(
	kvt_attention_writer *writer, const uint32_t *tokens, GError **error)
{
	KVT_H5_GUARDED;
	uint64_t count = writer->header.total_tokens;
	return write_whole(writer->file, "tokens", token_type(tokens, count), H5T_NATIVE_UINT32,
		       count, true, tokens) ||
	       cannot_write(writer, error);
}

static bool create_tensor(kvt_attention_writer *writer, const char *name, bool by_step,
	const char *shape, tensor *out)
{
	const kvt_attention_header *header = &writer->header;
	hsize_t steps[] = { writer->step_count, header->query_heads, header->head_dim };
	hsize_t tokens[] = { header->kv_heads, header->total_tokens, header->head_dim };
	hsize_t step_chunk[] = { MIN(steps[0], STEPS_A_CHUNK), 1, header->head_dim };
	hsize_t token_chunk[] = { 1, MIN(tokens[1], TOKENS_A_CHUNK), header->head_dim };
	*out = (tensor){
		.heads = by_step ? 1 : header->kv_heads,
		.length = by_step ? writer->step_count : header->total_tokens,
		.row = { by_step ? header->query_heads : 1, header->head_dim },
		.name = name,
	};
	g_auto(kvt_h5_id) half = kvt_h5_half_type();
	out->dataset = create_dataset(writer->group, name, half, 3, by_step ? steps : tokens, NULL,
		by_step ? step_chunk : token_chunk);
	return out->dataset >= 0 && write_text(out->dataset, "shape", shape);
}

static bool create_layer(kvt_attention_writer *writer, unsigned tensors)
{
	hsize_t none = 0, unlimited = H5S_UNLIMITED, chunk = PAIRS_A_CHUNK;
	g_autofree char *name = g_strdup_printf("%u", writer->layer);
	g_auto(kvt_h5_id) half = kvt_h5_half_type();
	const char *as_cached = "kv_head, token, head_dim; as cached";
	return (writer->group = create_group(writer->layers, name)) >= 0 &&
	       (writer->access = create_group(writer->group, "access")) >= 0 &&
	       write_text(writer->access, "row",
		       "step * n_kv_heads + kv_head; blocks by falling attention mass (mean over "
		       "the query heads of the group) until the row covers 0.99 of the mass or "
		       "1024 blocks") &&
	       (writer->block = create_dataset(writer->access, "block", H5T_STD_U32LE, 1, &none,
			&unlimited, &chunk)) >= 0 &&
	       (writer->mass = create_dataset(
			writer->access, "mass", half, 1, &none, &unlimited, &chunk)) >= 0 &&
	       (!(tensors & KVT_ATTENTION_QUERIES) ||
		       create_tensor(writer, "queries", true, "step, q_head, head_dim",
			       &writer->queries)) &&
	       (!(tensors & KVT_ATTENTION_KEYS) ||
		       create_tensor(writer, "keys", false, as_cached, &writer->keys)) &&
	       (!(tensors & KVT_ATTENTION_VALUES) ||
		       create_tensor(writer, "values", false, as_cached, &writer->values));
}

/* Appends count values behind the `stored` ones of an extendible dataset. */
static bool append(
	hid_t dataset, hid_t memory_type, uint64_t stored, uint64_t count, const void *values)
{
	hsize_t extent = stored + count, start = stored, n = count;
	if (H5Dset_extent(dataset, &extent) < 0)
		return false;
	g_auto(kvt_h5_id) space = H5Dget_space(dataset);
	g_auto(kvt_h5_id) memory = H5Screate_simple(1, &n, NULL);
	return H5Sselect_hyperslab(space, H5S_SELECT_SET, &start, NULL, &n, NULL) >= 0 &&
	       H5Dwrite(dataset, memory_type, memory, space, H5P_DEFAULT, values) >= 0;
}

static bool flush_pairs(kvt_attention_writer *writer, GError **error)
{
	if (writer->held == 0)
		return true;
	KVT_H5_GUARDED;
	g_auto(kvt_h5_id) half = kvt_h5_half_type();
	if (!append(writer->block, H5T_NATIVE_UINT32, writer->stored, writer->held,
		    writer->blocks) ||
		!append(writer->mass, half, writer->stored, writer->held, writer->masses))
		return cannot_write(writer, error);
	writer->stored += writer->held;
	writer->held = 0;
	return true;
}

static void close_layer(kvt_attention_writer *writer)
{
	hid_t *ids[] = { &writer->queries.dataset, &writer->keys.dataset, &writer->values.dataset,
		&writer->mass, &writer->block, &writer->access, &writer->group };
	for (size_t i = 0; i < G_N_ELEMENTS(ids); i++) {
		kvt_h5_close(*ids[i]);
		*ids[i] = 0;
	}
	g_clear_pointer(&writer->checker, kvt_attention_row_checker_free);
	writer->in_layer = false;
}

static bool check_complete(const kvt_attention_writer *writer, const tensor *t, GError **error)
{
	uint64_t expected = t->heads * t->length;
	if (t->dataset <= 0 || t->written == expected)
		return true;
	return kvt_error_at(error, writer->path, 0,
		"layers/%u/%s: %" G_GUINT64_FORMAT " rows written, expected %" G_GUINT64_FORMAT,
		writer->layer, t->name, t->written, expected);
}

static bool end_layer(kvt_attention_writer *writer, GError **error)
{
	if (!writer->in_layer)
		return true;
	uint64_t rows = writer->step_count * writer->header.kv_heads;
	if (writer->rows != rows)
		return kvt_error_at(error, writer->path, 0,
			"layers/%u/access: %" G_GUINT64_FORMAT
			" rows written, expected %" G_GUINT64_FORMAT,
			writer->layer, writer->rows, rows);
	if (!check_complete(writer, &writer->queries, error) ||
		!check_complete(writer, &writer->keys, error) ||
		!check_complete(writer, &writer->values, error) || !flush_pairs(writer, error))
		return false;
	KVT_H5_GUARDED;
	if (!write_whole(writer->access, "offsets", H5T_STD_U64LE, H5T_NATIVE_UINT64, rows + 1,
		    true, writer->offsets))
		return cannot_write(writer, error);
	close_layer(writer);
	return true;
}

bool kvt_attention_writer_layer(
	kvt_attention_writer *writer, uint32_t layer, unsigned tensors, GError **error)
{
	if (!end_layer(writer, error))
		return false;
	if (layer >= writer->header.layers || writer->written[layer])
		return kvt_error_at(error, writer->path, 0,
			"layers/%u: written twice or too high, expected each layer below %u once",
			layer, writer->header.layers);
	KVT_H5_GUARDED;
	writer->layer = layer;
	writer->written[layer] = true;
	writer->in_layer = true;
	writer->rows = writer->stored = writer->held = 0;
	writer->offsets[0] = 0;
	writer->checker =
		kvt_attention_row_checker_new(&writer->header, writer->header.layer_kind[layer]);
	writer->queries = writer->keys = writer->values = (tensor){ 0 };
	return create_layer(writer, tensors) || cannot_write(writer, error);
}

bool kvt_attention_writer_row(
	kvt_attention_writer *writer, const kvt_attention_row *row, GError **error)
{
	g_assert(writer->in_layer);
	uint64_t rows = writer->step_count * writer->header.kv_heads;
	if (writer->rows == rows)
		return kvt_error_at(error, writer->path, 0,
			"layers/%u/access: more rows, expected %" G_GUINT64_FORMAT, writer->layer,
			rows);
	g_autofree char *problem = kvt_attention_row_check(writer->checker,
		writer->steps[writer->rows / writer->header.kv_heads].position, row);
	if (problem != NULL)
		return kvt_error_at(error, writer->path, 0,
			"layers/%u/access: row %" G_GUINT64_FORMAT ": %s", writer->layer,
			writer->rows, problem);
	if (writer->held + row->count > writer->held_room) {
		writer->held_room = PAIRS_A_CHUNK + writer->held + row->count;
		writer->blocks = g_renew(uint32_t, writer->blocks, writer->held_room);
		writer->masses = g_renew(uint16_t, writer->masses, writer->held_room);
	}
	if (row->count > 0)
		memcpy(writer->blocks + writer->held, row->block, row->count * sizeof *row->block);
	kvt_half_from_float(row->mass, writer->masses + writer->held, row->count);
	writer->held += row->count;
	writer->rows++;
	writer->offsets[writer->rows] = writer->stored + writer->held;
	return writer->held < PAIRS_A_CHUNK || flush_pairs(writer, error);
}

static int by_falling_mass(const void *a, const void *b, void *masses)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	const float *mass = masses;
	if (mass[x] != mass[y])
		return mass[x] > mass[y] ? -1 : 1;
	return (x > y) - (x < y);
}

static uint32_t upper_bits(float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof bits);
	return bits >> 19;
}

/* Lists all pages but most of those that are smaller than the KVT_ATTENTION_ROW_PAGES largest. */
static uint32_t list_largest(const float *mass, uint64_t pages, uint32_t *order)
{
	enum { BINS = 1 << 13 };
	uint32_t count[BINS] = { 0 }, listed = 0, least = BINS, above = 0;
	/* The upper bits of floats that are not negative rise with them. */
	for (uint64_t i = 0; i < pages; i++)
		count[upper_bits(mass[i])]++;
	while (least > 0 && above < KVT_ATTENTION_ROW_PAGES)
		above += count[--least];
	for (uint32_t i = 0; i < pages; i++)
		if (upper_bits(mass[i]) >= least)
			order[listed++] = i;
	return listed;
}

bool kvt_attention_writer_row_of_masses(kvt_attention_writer *writer, const float *mass,
	uint64_t first, uint64_t pages, GError **error)
{
	g_array_set_size(writer->order, (guint)pages);
	uint32_t *order = (uint32_t *)writer->order->data;
	uint32_t listed = list_largest(mass, pages, order);
	g_qsort_with_data(order, (int)listed, sizeof *order, by_falling_mass, (void *)mass);
	float falling[KVT_ATTENTION_ROW_PAGES];
	uint32_t count = 0;
	double covered = 0;
	while (count < listed && count < KVT_ATTENTION_ROW_PAGES &&
		covered < KVT_ATTENTION_ROW_COVER) {
		falling[count] = mass[order[count]];
		covered += falling[count];
		order[count] += (uint32_t)first;
		count++;
	}
	kvt_attention_row row = { .block = order, .mass = falling, .count = count };
	return kvt_attention_writer_row(writer, &row, error);
}

static bool write_tensor(kvt_attention_writer *writer, tensor *t, const uint16_t *halves,
	uint64_t count, GError **error)
{
	g_assert(writer->in_layer && t->dataset > 0);
	uint64_t head = t->written / t->length, at = t->written % t->length;
	if (head >= t->heads || count > t->length - at)
		return kvt_error_at(error, writer->path, 0,
			"layers/%u/%s: more rows, expected %" G_GUINT64_FORMAT
			" in each of %" G_GUINT64_FORMAT " parts",
			writer->layer, t->name, t->length, t->heads);
	KVT_H5_GUARDED;
	bool by_step = t == &writer->queries;
	hsize_t start[] = { by_step ? at : head, by_step ? 0 : at, 0 };
	hsize_t n[] = { by_step ? count : 1, by_step ? t->row[0] : count, t->row[1] };
	g_auto(kvt_h5_id) half = kvt_h5_half_type();
	g_auto(kvt_h5_id) space = H5Dget_space(t->dataset);
	g_auto(kvt_h5_id) memory = H5Screate_simple(3, n, NULL);
	if (H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, n, NULL) < 0 ||
		H5Dwrite(t->dataset, half, memory, space, H5P_DEFAULT, halves) < 0)
		return cannot_write(writer, error);
	t->written += count;
	return true;
}

bool kvt_attention_writer_queries(
	kvt_attention_writer *writer, const uint16_t *halves, uint64_t count, GError **error)
{
	return write_tensor(writer, &writer->queries, halves, count, error);
}

bool kvt_attention_writer_keys(
	kvt_attention_writer *writer, const uint16_t *halves, uint64_t count, GError **error)
{
	return write_tensor(writer, &writer->keys, halves, count, error);
}

bool kvt_attention_writer_values(
	kvt_attention_writer *writer, const uint16_t *halves, uint64_t count, GError **error)
{
	return write_tensor(writer, &writer->values, halves, count, error);
}

bool kvt_attention_writer_synthetic_keys(
	kvt_attention_writer *writer, const kvt_synthetic_keys *keys, GError **error)
{
	g_assert(writer->in_layer && writer->keys.dataset <= 0 && writer->header.synthetic);
	KVT_H5_GUARDED;
	return kvt_synthetic_datasets_write(writer->group, keys) || cannot_write(writer, error);
}

bool kvt_attention_writer_finish(kvt_attention_writer *writer, GError **error)
{
	if (!end_layer(writer, error))
		return false;
	{
		KVT_H5_GUARDED;
		kvt_h5_close(writer->layers);
		writer->layers = 0;
		hid_t file = writer->file;
		writer->file = 0;
		if (H5Fclose(file) < 0)
			return cannot_write(writer, error);
	}
	g_autoptr(kvt_attention_trace) trace = kvt_attention_trace_open(writer->temporary, error);
	if (trace == NULL)
		return false;
	if (g_rename(writer->temporary, writer->path) != 0)
		return kvt_error_failed(error, "%s: cannot be renamed to (%s), expected a file",
			writer->path, g_strerror(errno));
	g_clear_pointer(&writer->temporary, g_free);
	return true;
}

void kvt_attention_writer_free(kvt_attention_writer *writer)
{
	if (writer == NULL)
		return;
	{
		KVT_H5_GUARDED;
		close_layer(writer);
		kvt_h5_close(writer->layers);
		kvt_h5_close(writer->file);
	}
	if (writer->temporary != NULL)
		g_unlink(writer->temporary);
	g_free((char *)writer->header.model);
	g_free((char *)writer->header.source);
	g_free((char *)writer->header.license);
	g_free((char *)writer->header.derived);
	g_free((uint8_t *)writer->header.layer_kind);
	g_free(writer->path);
	g_free(writer->temporary);
	g_free(writer->steps);
	g_free(writer->written);
	g_free(writer->offsets);
	g_free(writer->blocks);
	g_free(writer->masses);
	if (writer->order != NULL)
		g_array_free(writer->order, TRUE);
	g_free(writer);
}
