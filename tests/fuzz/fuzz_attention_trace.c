/*
 * fuzz_attention_trace.c: any edits of a sound attention trace. An input is a list of edits, eight
 * bytes each, made through the HDF5 library: values, attributes, datasets of other sizes and types.
 * What is refused must have one line of UTF-8 for a message; what is opened must keep the promises
 * of attention_trace.h. Bytes of the file itself are not changed: that finds faults of the HDF5
 * library, which sim/cmd/trace_open.h keeps from users.
 */
#include <glib.h>
#include <glib/gstdio.h>
#include <hdf5.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "sim/base/error.h"
#include "traces/attention_mass.h"
#include "traces/attention_trace.h"
#include "traces/attention_trace_writer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What one input may take to read; larger traces are right but slow. */
enum { VALUES_MAX = 1 << 20 };

static void check_error(const GError *error)
{
	g_assert(error != NULL && error->domain == KVT_ERROR);
	g_assert(strpbrk(error->message, "\n\r") == NULL);
	g_assert(g_utf8_validate(error->message, -1, NULL));
	g_assert(strlen(error->message) < 1000);
}

static void check_steps(const kvt_attention_trace *trace)
{
	const kvt_attention_header *header = kvt_attention_trace_header(trace);
	uint64_t count;
	const kvt_attention_step *steps = kvt_attention_trace_steps(trace, &count);
	g_assert(count > 0 && header->kv_heads > 0 && header->model != NULL);
	g_assert(header->query_heads % header->kv_heads == 0);
	for (uint64_t i = 0; i < count; i++) {
		g_assert(steps[i].position < header->total_tokens);
		g_assert(i == 0 || steps[i].position > steps[i - 1].position);
		g_assert(steps[i].kind <= KVT_TRACE_STEP_DECODE);
	}
}

static void check_row(
	kvt_attention_layer *layer, const kvt_attention_step *step, const kvt_attention_row *row)
{
	uint64_t first;
	uint64_t pages = kvt_attention_pages_present(
		kvt_attention_trace_header(kvt_attention_layer_trace(layer)),
		kvt_attention_layer_get_kind(layer), step->position, &first);
	double sum = 0;
	g_assert(row->count <= pages);
	for (uint32_t i = 0; i < row->count; i++) {
		g_assert(row->block[i] >= first && row->block[i] - first < pages);
		g_assert(row->mass[i] >= 0 && row->mass[i] <= 1);
		g_assert(i == 0 || row->mass[i] <= row->mass[i - 1]);
		sum += row->mass[i];
	}
	g_assert(sum < 1.01);
}

/* All rows in small windows, or until one is refused. */
static bool check_rows(kvt_attention_layer *layer, GError **error)
{
	kvt_attention_trace *trace = kvt_attention_layer_trace(layer);
	uint64_t count;
	const kvt_attention_step *steps = kvt_attention_trace_steps(trace, &count);
	for (uint64_t i = 0; i < count; i++) {
		for (uint32_t h = 0; h < kvt_attention_trace_header(trace)->kv_heads; h++) {
			kvt_attention_row row;
			if (!kvt_attention_layer_row(layer, i, h, &row, error))
				return false;
			check_row(layer, &steps[i], &row);
		}
	}
	return true;
}

static void check_masses(kvt_attention_layer *layer)
{
	kvt_attention_trace *trace = kvt_attention_layer_trace(layer);
	const kvt_attention_header *header = kvt_attention_trace_header(trace);
	uint64_t count;
	const kvt_attention_step *steps = kvt_attention_trace_steps(trace, &count);
	if (header->total_tokens * header->head_dim * count > VALUES_MAX)
		return;
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_attention_mass_stream) stream = kvt_attention_mass_stream_new(layer, 1, 4096);
	for (uint64_t i = 0; i < count; i++) {
		uint64_t first;
		uint64_t pages = kvt_attention_pages_present(
			header, kvt_attention_layer_get_kind(layer), steps[i].position, &first);
		const float *mass = kvt_attention_mass_stream_get(stream, i, 0, &error);
		if (mass == NULL) {
			check_error(error);
			return;
		}
		double sum = 0;
		for (uint64_t p = 0; p < pages; p++)
			sum += mass[p];
		g_assert(fabs(sum - 1) < 1e-4);
	}
}

/* The trace that is edited: 2 of 4 layers, 2 KV heads, 6 steps, 40 tokens. */
static void write_template(const char *path)
{
	const uint8_t kinds[] = { 0, 0, 0, 1 };
	const kvt_attention_header header = {
		.model = "template",
		.layers = 4,
		.query_heads = 4,
		.kv_heads = 2,
		.head_dim = 8,
		.block_tokens = 4,
		.local_chunk_tokens = 10,
		.context_tokens = 34,
		.total_tokens = 40,
		.softmax_scale = 0.5f,
		.layer_kind = kinds,
	};
	kvt_attention_step steps[6];
	uint32_t tokens[40];
	uint16_t halves[40 * 8];
	float mass[10];
	for (unsigned i = 0; i < 6; i++)
		steps[i] = (kvt_attention_step){ .position = 34 + i, .token = 34 + i, .kind = 1 };
	for (unsigned i = 0; i < 40; i++)
		tokens[i] = i;
	for (unsigned i = 0; i < 40 * 8; i++)
		halves[i] = (uint16_t)(0x3800 + i * 37 % 1024);
	g_autoptr(kvt_attention_writer) writer =
		kvt_attention_writer_new(path, &header, steps, 6, NULL);
	g_assert(kvt_attention_writer_tokens(writer, tokens, NULL));
	for (uint32_t layer = 1; layer <= 3; layer += 2) {
		g_assert(kvt_attention_writer_layer(writer, layer, 7, NULL));
		for (unsigned row = 0; row < 12; row++) {
			uint64_t first;
			uint64_t pages = kvt_attention_pages_present(
				&header, kinds[layer], 34 + row / 2, &first);
			for (unsigned p = 0; p < pages; p++)
				mass[p] = 0.99f / (float)pages;
			g_assert(kvt_attention_writer_row_of_masses(
				writer, mass, first, pages, NULL));
		}
		g_assert(kvt_attention_writer_queries(writer, halves, 6, NULL));
		for (unsigned head_tensor = 0; head_tensor < 4; head_tensor++)
			g_assert(head_tensor < 2
					 ? kvt_attention_writer_keys(writer, halves, 40, NULL)
					 : kvt_attention_writer_values(writer, halves, 40, NULL));
	}
	g_assert(kvt_attention_writer_finish(writer, NULL));
}

/* The template's bytes, made on first use. */
static const char *template_bytes(gsize *size)
{
	static char *bytes;
	static gsize length;
	if (bytes == NULL) {
		g_autofree char *folder = g_dir_make_tmp("kvtier-fuzz-XXXXXX", NULL);
		g_autofree char *path = g_build_filename(folder, "template.h5", NULL);
		write_template(path);
		g_assert(g_file_get_contents(path, &bytes, &length, NULL));
		g_unlink(path);
		g_rmdir(folder);
		H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
	}
	*size = length;
	return bytes;
}

static const char *const datasets[] = { "layer_kind", "tokens", "steps/position", "steps/turn",
	"steps/kind", "steps/token", "steps/nll", "layers/1/access/offsets",
	"layers/1/access/block", "layers/1/access/mass", "layers/3/access/offsets",
	"layers/3/access/block", "layers/3/access/mass", "layers/3/queries", "layers/3/keys",
	"layers/1/values" };

static const char *const attributes[] = { "version", "n_layers", "n_q_heads", "n_kv_heads",
	"head_dim", "block_tokens", "local_chunk_tokens", "context_tokens", "total_tokens",
	"softmax_scale", "synthetic", "model", "format", "license" };

static const char *const objects[] = { "steps", "layers", "layers/1", "layers/3", "layers/3/access",
	"layers/1/queries" };

/* One edit: op, which, where, and a value of 32 bits that may count or be bits. */
typedef struct edit {
	uint8_t op, which;
	uint16_t at;
	uint32_t value;
} edit;

/* Changes one element, in the dataset's own type; 64-bit ones get the value in both halves. */
static void poke(hid_t file, const char *path, const edit *e)
{
	hid_t dataset = H5Dopen2(file, path, H5P_DEFAULT);
	if (dataset < 0)
		return;
	hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
	hssize_t n = H5Sget_simple_extent_npoints(space);
	size_t size = H5Tget_size(type);
	if (n > 0 && n < 100000 && size <= 8) {
		g_autofree char *all = g_malloc0((size_t)n * size);
		const uint32_t twice[2] = { e->value, e->op & 0x80 ? e->value : 0 };
		if (H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, all) >= 0) {
			memcpy(all + e->at % (size_t)n * size, twice, size);
			H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, all);
		}
	}
	H5Sclose(space);
	H5Tclose(type);
	H5Dclose(dataset);
}

/* Puts a dataset of another size, and maybe type, in the place of one. */
static void resize(hid_t file, const char *path, const edit *e)
{
	hid_t old = H5Dopen2(file, path, H5P_DEFAULT);
	if (old < 0)
		return;
	const hid_t types[] = { H5T_STD_U8LE, H5T_STD_U32BE, H5T_STD_I64LE, H5T_IEEE_F32BE };
	hid_t type = e->op & 0x80 ? H5Tcopy(types[e->at % 4]) : H5Dget_type(old);
	hsize_t dims[] = { e->value & 63, (e->value >> 8 & 63), (e->value >> 16 & 63) };
	hsize_t chunk[] = { 8, 8, 8 };
	int rank = 1 + (int)(e->value >> 24 & 3) % 3;
	hid_t list = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(rank, dims, NULL);
	if (e->value & 1u << 30) {
		H5Pset_chunk(list, rank, chunk);
		H5Pset_deflate(list, 1);
	}
	H5Dclose(old);
	H5Ldelete(file, path, H5P_DEFAULT);
	hid_t dataset = H5Dcreate2(file, path, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
	hssize_t n = H5Sget_simple_extent_npoints(space);
	if (dataset >= 0 && !(e->value & 1u << 31)) {
		g_autofree char *all = g_malloc0((size_t)n * 8 + 8);
		H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, all);
	}
	if (dataset >= 0)
		H5Dclose(dataset);
	H5Sclose(space);
	H5Pclose(list);
	H5Tclose(type);
}

static void set_attribute(hid_t file, const char *name, const edit *e)
{
	double real = e->value == 0 ? NAN : 1e3 / (double)(int32_t)e->value;
	int64_t integer = (int64_t)(int32_t)e->value * (INT64_C(1) << (e->at & 31));
	hid_t space = H5Screate(H5S_SCALAR), text = H5Tcopy(H5T_C_S1);
	H5Tset_size(text, 4);
	bool is_text = e->op & 0x80, is_real = strcmp(name, "softmax_scale") == 0;
	hid_t type = is_text ? text : is_real ? H5T_NATIVE_DOUBLE : H5T_NATIVE_INT64;
	H5Adelete(file, name);
	hid_t attribute = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
	if (attribute >= 0) {
		H5Awrite(attribute, type,
			is_text   ? (void *)&e->value
			: is_real ? (void *)&real
				  : (void *)&integer);
		H5Aclose(attribute);
	}
	H5Tclose(text);
	H5Sclose(space);
}

static void apply(hid_t file, const edit *e)
{
	switch (e->op & 7) {
	case 0:
	case 1:
	case 2:
		poke(file, datasets[e->which % G_N_ELEMENTS(datasets)], e);
		break;
	case 3:
		resize(file, datasets[e->which % G_N_ELEMENTS(datasets)], e);
		break;
	case 4:
	case 5:
		set_attribute(file, attributes[e->which % G_N_ELEMENTS(attributes)], e);
		break;
	case 6:
		H5Ldelete(file, datasets[e->which % G_N_ELEMENTS(datasets)], H5P_DEFAULT);
		break;
	case 7:
		H5Lmove(file, objects[e->which % G_N_ELEMENTS(objects)], file,
			objects[e->at % G_N_ELEMENTS(objects)], H5P_DEFAULT, H5P_DEFAULT);
		break;
	}
}

/* The template with the edits, as the bytes of a file. */
static char *edited(const uint8_t *data, size_t size, size_t *length)
{
	gsize template_size;
	const char *bytes = template_bytes(&template_size);
	hid_t access_list = H5Pcreate(H5P_FILE_ACCESS);
	H5Pset_fapl_core(access_list, 1 << 16, 0);
	H5Pset_file_image(access_list, (void *)bytes, template_size);
	hid_t file = H5Fopen("edited", H5F_ACC_RDWR, access_list);
	g_assert(file >= 0);
	for (size_t at = 0; at + sizeof(edit) <= size && at < 64 * sizeof(edit);
		at += sizeof(edit)) {
		edit e;
		memcpy(&e, data + at, sizeof e);
		apply(file, &e);
	}
	H5Fflush(file, H5F_SCOPE_GLOBAL);
	ssize_t n = H5Fget_file_image(file, NULL, 0);
	char *image = g_malloc((size_t)n);
	g_assert(H5Fget_file_image(file, image, (size_t)n) == n);
	H5Fclose(file);
	H5Pclose(access_list);
	*length = (size_t)n;
	return image;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t length;
	g_autofree char *bytes = edited(data, size, &length);
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_attention_trace) trace =
		kvt_attention_trace_open_memory("input", bytes, length, &error);
	if (trace == NULL) {
		check_error(error);
		return 0;
	}
	check_steps(trace);
	const uint32_t *tokens;
	if (!kvt_attention_trace_tokens(trace, &tokens, &error)) {
		check_error(error);
		g_clear_error(&error);
	}
	uint32_t count;
	const uint32_t *numbers = kvt_attention_trace_layers(trace, &count);
	for (uint32_t i = 0; i < count; i++) {
		g_autoptr(GError) refused = NULL;
		g_autoptr(kvt_attention_layer) layer =
			kvt_attention_layer_open(trace, numbers[i], 100, &refused);
		if (layer == NULL || !check_rows(layer, &refused))
			check_error(refused);
		else
			check_masses(layer);
	}
	return 0;
}
