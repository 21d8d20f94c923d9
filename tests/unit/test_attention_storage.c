/* test_attention_storage.c: files that are no trace, cut short, damaged, larger than they can be,
 * or made of pieces of other files: each is refused with one line. */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "sim/base/error.h"
#include "tests/unit/attention_victim.h"
#include "sim/base/rng.h"
#include "traces/attention_trace.h"

static void test_no_trace(void)
{
	g_autofree char *missing = g_build_filename(victim_folder, "missing.h5", NULL);
	victim_expect(missing, "No such file or directory, expected an attention trace (HDF5)");
	victim_expect(victim_folder, "not a regular file, expected an attention trace (HDF5)");
	g_assert_true(g_file_set_contents(victim_path, "", 0, NULL));
	victim_expect(victim_path, "not an HDF5 file, expected an attention trace");
	g_assert_true(g_file_set_contents(victim_path, "[model]\nlayers = 8\n", -1, NULL));
	victim_expect(victim_path, "not an HDF5 file, expected an attention trace");
	hid_t file = H5Fcreate(victim_path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
	victim_close_and_expect(file, "attribute format: missing, expected a text");
	g_autoptr(GError) error = NULL;
	g_assert_null(kvt_attention_trace_open_memory("nothing", "", 0, &error));
	g_assert_cmpstr(error->message, ==, "nothing: empty, expected an attention trace (HDF5)");
	g_clear_error(&error);
	g_assert_null(kvt_attention_trace_open_memory("text", "text", 4, &error));
	g_assert_true(g_str_has_prefix(error->message, "text: damaged HDF5 file ("));
}

/* Cut anywhere, it is refused or, when only slack at the end is gone, whole. */
static void test_truncated(void)
{
	g_autofree char *bytes = NULL;
	gsize size;
	g_assert_true(g_file_get_contents(victim_good, &bytes, &size, NULL));
	for (unsigned i = 0; i < 64; i++) {
		g_assert_true(
			g_file_set_contents(victim_path, bytes, (gssize)(size * i / 64), NULL));
		g_autofree char *complaint = victim_complaint(victim_path);
		g_assert_nonnull(complaint);
		g_assert_true(g_str_has_suffix(complaint, "expected an attention trace"));
	}
	g_assert_true(g_file_set_contents(victim_path, bytes, (gssize)size - 1, NULL));
	victim_expect(victim_path, "damaged HDF5 file (truncated file*");
}

/* Declares 2^60 elements in chunks of which none is stored. */
static void test_huge(void)
{
	hsize_t huge = UINT64_C(1) << 60, chunk = 1024;
	hid_t list = H5Pcreate(H5P_DATASET_CREATE);
	H5Pset_chunk(list, 1, &chunk);
	H5Pset_deflate(list, 1);
	hid_t space = H5Screate_simple(1, &huge, NULL);
	hid_t file = victim_open();
	victim_drop(file, "layers/3/access/block");
	H5Dclose(H5Dcreate2(file, "layers/3/access/block", H5T_STD_U32LE, space, H5P_DEFAULT, list,
		H5P_DEFAULT));
	victim_close_and_expect(file,
		"layers/3/access/block: declares 4611686018427387904 bytes but "
		"only 0 are stored, expected all of its data");
	file = victim_open();
	victim_drop(file, "steps/position");
	H5Dclose(H5Dcreate2(
		file, "steps/position", H5T_STD_U64LE, space, H5P_DEFAULT, list, H5P_DEFAULT));
	victim_close_and_expect(file,
		"steps/position: declares 9223372036854775808 bytes but only 0 are "
		"stored, expected all of its data");
	H5Sclose(space);
	H5Pclose(list);
	/* Never written, contiguous. */
	hsize_t n = 100000;
	file = victim_open();
	victim_replace(
		file, "layers/3/access/block", H5T_STD_U32LE, H5T_NATIVE_UINT32, 1, &n, NULL);
	victim_close_and_expect(file, "layers/3/access/block: declares 400000 bytes but only 0 are "
				      "stored, expected all of its data");
	/* Chunks that are larger than the memory that reading may take. */
	hsize_t large = UINT64_C(1) << 26;
	list = H5Pcreate(H5P_DATASET_CREATE);
	H5Pset_chunk(list, 1, &large);
	space = H5Screate_simple(1, &large, NULL);
	file = victim_open();
	victim_drop(file, "tokens");
	H5Dclose(H5Dcreate2(file, "tokens", H5T_STD_U32LE, space, H5P_DEFAULT, list, H5P_DEFAULT));
	victim_close_and_expect(
		file, "tokens: chunks of 268435456 bytes, expected from 1 to 67108864");
	H5Sclose(space);
	H5Pclose(list);
}

static void test_filters(void)
{
	hsize_t dims = 24, chunk = 24;
	uint32_t blocks[24] = { 0 };
	static const struct {
		int first, second;
		const char *message;
	} cases[] = {
		{ H5Z_FILTER_NBIT, 0, "compression filter 5, expected at most *" },
		{ H5Z_FILTER_SCALEOFFSET, 0, "compression filter 6, expected at most *" },
		{ H5Z_FILTER_DEFLATE, H5Z_FILTER_DEFLATE, "compression filter 1 twice, *" },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		hid_t list = H5Pcreate(H5P_DATASET_CREATE),
		      space = H5Screate_simple(1, &dims, NULL);
		H5Pset_chunk(list, 1, &chunk);
		for (unsigned j = 0; j < 2; j++) {
			int filter = j == 0 ? cases[i].first : cases[i].second;
			if (filter == H5Z_FILTER_NBIT)
				H5Pset_nbit(list);
			else if (filter == H5Z_FILTER_SCALEOFFSET)
				H5Pset_scaleoffset(list, H5Z_SO_INT, 0);
			else if (filter == H5Z_FILTER_DEFLATE)
				H5Pset_deflate(list, 9);
		}
		hid_t file = victim_open();
		victim_drop(file, "layers/3/access/block");
		hid_t dataset = H5Dcreate2(file, "layers/3/access/block", H5T_STD_U32LE, space,
			H5P_DEFAULT, list, H5P_DEFAULT);
		H5Dwrite(dataset, H5T_NATIVE_UINT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, blocks);
		H5Dclose(dataset);
		H5Sclose(space);
		H5Pclose(list);
		g_autofree char *message =
			g_strconcat("layers/3/access/block: ", cases[i].message, NULL);
		victim_close_and_expect(file, message);
	}
}

static void test_links(void)
{
	hid_t file = victim_open();
	victim_drop(file, "steps/kind");
	H5Lcreate_soft("/steps/turn", file, "steps/kind", H5P_DEFAULT, H5P_DEFAULT);
	victim_close_and_expect(file, "steps/kind: a soft link, expected a dataset in this file");
	file = victim_open();
	victim_drop(file, "layers/3/access/block");
	H5Lcreate_external(victim_good, "/layers/3/access/block", file, "layers/3/access/block",
		H5P_DEFAULT, H5P_DEFAULT);
	victim_close_and_expect(file,
		"layers/3/access/block: a link to another file, expected a dataset "
		"in this file");
	file = victim_open();
	victim_drop(file, "layers/3");
	H5Lcreate_external("nowhere.h5", "/", file, "layers/3", H5P_DEFAULT, H5P_DEFAULT);
	victim_close_and_expect(
		file, "layers/3: a link to another file, expected a group in this file");
	/* Data kept in another file, and a virtual dataset. */
	hsize_t dims = 4;
	hid_t space = H5Screate_simple(1, &dims, NULL), list = H5Pcreate(H5P_DATASET_CREATE);
	H5Pset_external(list, "/etc/hostname", 0, H5F_UNLIMITED);
	file = victim_open();
	victim_drop(file, "layer_kind");
	H5Dclose(H5Dcreate2(
		file, "layer_kind", H5T_STD_U8LE, space, H5P_DEFAULT, list, H5P_DEFAULT));
	victim_close_and_expect(
		file, "layer_kind: stored in another file, expected data in this file");
	H5Pclose(list);
	list = H5Pcreate(H5P_DATASET_CREATE);
	H5Pset_virtual(list, space, victim_good, "/layer_kind", space);
	file = victim_open();
	victim_drop(file, "layer_kind");
	H5Dclose(H5Dcreate2(
		file, "layer_kind", H5T_STD_U8LE, space, H5P_DEFAULT, list, H5P_DEFAULT));
	victim_close_and_expect(
		file, "layer_kind: virtual or unknown layout, expected data in this file");
	H5Pclose(list);
	H5Sclose(space);
}

/* Puts 24 blocks in two deflated chunks in place of those of layer 3. */
static hid_t open_with_chunks(hid_t *dataset)
{
	hsize_t dims = 24, chunk = 12;
	hid_t list = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(1, &dims, NULL);
	H5Pset_chunk(list, 1, &chunk);
	H5Pset_deflate(list, 1);
	hid_t file = victim_open();
	victim_drop(file, "layers/3/access/block");
	*dataset = H5Dcreate2(file, "layers/3/access/block", H5T_STD_U32LE, space, H5P_DEFAULT,
		list, H5P_DEFAULT);
	H5Sclose(space);
	H5Pclose(list);
	return file;
}

static void test_chunks(void)
{
	const hsize_t first = 0, second = 12;
	/* The bytes of a chunk as they are, marked as not deflated: all of them, and too few. */
	const uint32_t blocks[12] = { 1, 2, 3 };
	hid_t dataset, file = open_with_chunks(&dataset);
	H5Dwrite_chunk(dataset, H5P_DEFAULT, 1, &first, sizeof blocks, blocks);
	H5Dclose(dataset);
	victim_close_and_expect(file, "layers/3/access/block: the chunk at [0, 0, 0] is missing or "
				      "damaged, expected all of its data");
	file = open_with_chunks(&dataset);
	H5Dwrite_chunk(dataset, H5P_DEFAULT, 1, &first, 5, blocks);
	H5Dwrite_chunk(dataset, H5P_DEFAULT, 1, &second, 5, blocks);
	H5Dclose(dataset);
	victim_close_and_expect(file, "layers/3/access/block: the chunk at [0, 0, 0] is missing or "
				      "damaged, expected all of its data");
	/* One chunk of two, sound. */
	file = open_with_chunks(&dataset);
	hsize_t n = 12;
	hid_t space = H5Dget_space(dataset), memory = H5Screate_simple(1, &n, NULL);
	H5Sselect_hyperslab(space, H5S_SELECT_SET, &first, NULL, &n, NULL);
	H5Dwrite(dataset, H5T_NATIVE_UINT32, memory, space, H5P_DEFAULT, blocks);
	H5Sclose(memory);
	H5Sclose(space);
	H5Dclose(dataset);
	victim_close_and_expect(file,
		"layers/3/access/block: the chunk at [12, 0, 0] is missing or "
		"damaged, expected all of its data");
}

/* Bytes flipped inside the stored data: deflate or the row rules find most of it. */
static void test_flipped_bytes(void)
{
	static const char *const paths[] = { "layers/3/access/block", "layers/3/access/offsets",
		"layers/3/access/mass", "layers/3/keys", "tokens" };
	kvt_rng rng = kvt_rng_init(3, 0);
	unsigned refused = 0;
	g_autofree char *bytes = NULL;
	gsize size;
	g_assert_true(g_file_get_contents(victim_good, &bytes, &size, NULL));
	for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
		hid_t file = H5Fopen(victim_good, H5F_ACC_RDONLY, H5P_DEFAULT);
		hid_t dataset = H5Dopen2(file, paths[i], H5P_DEFAULT);
		hid_t space = H5Dget_space(dataset);
		haddr_t address;
		hsize_t length;
		g_assert_cmpint(
			H5Dget_chunk_info(dataset, space, 0, NULL, NULL, &address, &length), >=, 0);
		H5Sclose(space);
		H5Dclose(dataset);
		H5Fclose(file);
		for (unsigned j = 0; j < 20; j++) {
			size_t at = (size_t)(address + kvt_rng_below(&rng, length));
			char old = bytes[at];
			bytes[at] = (char)(bytes[at] ^ (1 + kvt_rng_below(&rng, 255)));
			g_assert_true(g_file_set_contents(victim_path, bytes, (gssize)size, NULL));
			g_autofree char *complaint = victim_complaint(victim_path);
			refused += complaint != NULL;
			bytes[at] = old;
		}
	}
	g_assert_cmpuint(refused, >, 80);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	victim_set_up();
	g_test_add_func("/attention-storage/no-trace", test_no_trace);
	g_test_add_func("/attention-storage/truncated", test_truncated);
	g_test_add_func("/attention-storage/huge", test_huge);
	g_test_add_func("/attention-storage/filters", test_filters);
	g_test_add_func("/attention-storage/links", test_links);
	g_test_add_func("/attention-storage/chunks", test_chunks);
	g_test_add_func("/attention-storage/flipped-bytes", test_flipped_bytes);
	int status = g_test_run();
	victim_tear_down();
	return status;
}
