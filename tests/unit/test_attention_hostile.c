/* test_attention_hostile.c: files that are damaged or made to hurt: each is refused with one line
 * that names the place, and HDF5 itself stays silent and keeps nothing open. */
#include <glib.h>
#include <glib/gstdio.h>
#include <hdf5.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "sim/base/error.h"
#include "sim/base/rng.h"
#include "tests/unit/attention_fixture.h"
#include "traces/attention_mass.h"

static char *folder, *good, *victim;

/* Opens and reads all; the error's message without the file's name, or NULL when all is well. */
static char *complaint_of(const char *path)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(kvt_attention_trace) trace = kvt_attention_trace_open(path, &error);
	bool ok = trace != NULL && attention_read_all(trace, &error);
	g_assert_cmpint(ok, ==, error == NULL);
	if (ok)
		return NULL;
	g_assert_error(error, KVT_ERROR, KVT_ERROR_USAGE);
	g_assert_null(strchr(error->message, '\n'));
	g_assert_true(g_str_has_prefix(error->message, path));
	g_assert_true(g_str_has_prefix(error->message + strlen(path), ": "));
	return g_strdup(error->message + strlen(path) + 2);
}

/* The same with an eye on what goes to stderr and on what HDF5 keeps open. */
static char *quiet_complaint_of(const char *path)
{
	g_autofree char *log = g_build_filename(folder, "stderr", NULL);
	fflush(stderr);
	int saved = dup(STDERR_FILENO);
	g_assert_nonnull(freopen(log, "w", stderr));
	ssize_t open_before = H5Fget_obj_count(H5F_OBJ_ALL, H5F_OBJ_ALL);
	/* As loud as HDF5 is by default: the reader must silence it, and leave it so again. */
	H5Eset_auto2(H5E_DEFAULT, (H5E_auto2_t)H5Eprint2, stderr);
	char *complaint = complaint_of(path);
	H5E_auto2_t function;
	void *data;
	H5Eget_auto2(H5E_DEFAULT, &function, &data);
	g_assert_true(function == (H5E_auto2_t)H5Eprint2 && data == stderr);
	H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	close(saved);
	g_autofree char *noise = NULL;
	g_assert_true(g_file_get_contents(log, &noise, NULL, NULL));
	g_assert_cmpstr(noise, ==, "");
	g_assert_cmpint(H5Fget_obj_count(H5F_OBJ_ALL, H5F_OBJ_ALL), ==, open_before);
	return complaint;
}

static void expect(const char *path, const char *message)
{
	g_autofree char *complaint = quiet_complaint_of(path);
	g_assert_nonnull(complaint);
	/* A star at the end stands for what HDF5 says, which differs between versions. */
	size_t length = strlen(message);
	bool matches = message[length - 1] == '*' ? strncmp(complaint, message, length - 1) == 0
						  : strcmp(complaint, message) == 0;
	if (!matches)
		g_error("got      \"%s\"\nexpected \"%s\"", complaint, message);
}

static void copy_good(void)
{
	g_autofree char *bytes = NULL;
	gsize size;
	g_assert_true(g_file_get_contents(good, &bytes, &size, NULL));
	g_assert_true(g_file_set_contents(victim, bytes, (gssize)size, NULL));
}

/* A copy of the good file, open for mutilation. */
static hid_t open_victim(void)
{
	copy_good();
	hid_t file = H5Fopen(victim, H5F_ACC_RDWR, H5P_DEFAULT);
	g_assert_cmpint(file, >, 0);
	return file;
}

static void close_and_expect(hid_t file, const char *message)
{
	g_assert_cmpint(H5Fclose(file), >=, 0);
	expect(victim, message);
}

static void drop(hid_t file, const char *path)
{
	g_assert_cmpint(H5Ldelete(file, path, H5P_DEFAULT), >=, 0);
}

/* Puts another dataset in place of the one at `path`. */
static void replace(hid_t file, const char *path, hid_t type, hid_t memory_type, unsigned rank,
	const hsize_t *dims, const void *values)
{
	drop(file, path);
	hid_t space = H5Screate_simple((int)rank, dims, NULL);
	hid_t dataset = H5Dcreate2(file, path, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
	g_assert_cmpint(dataset, >, 0);
	if (values != NULL)
		g_assert_cmpint(
			H5Dwrite(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), >=,
			0);
	H5Dclose(dataset);
	H5Sclose(space);
}

/* Overwrites one value of a dataset of any rank, counted in file order. */
static void poke(
	hid_t file, const char *path, hid_t memory_type, size_t size, size_t at, const void *value)
{
	hid_t dataset = H5Dopen2(file, path, H5P_DEFAULT);
	hid_t space = H5Dget_space(dataset);
	size_t n = (size_t)H5Sget_simple_extent_npoints(space);
	g_assert_cmpuint(at, <, n);
	g_autofree char *all = g_malloc(n * size);
	g_assert_cmpint(H5Dread(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, all), >=, 0);
	memcpy(all + at * size, value, size);
	g_assert_cmpint(H5Dwrite(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, all), >=, 0);
	H5Sclose(space);
	H5Dclose(dataset);
}

static void poke_integer(hid_t file, const char *path, size_t at, uint64_t value)
{
	poke(file, path, H5T_NATIVE_UINT64, sizeof value, at, &value);
}

/* Half bits: the dataset's own type on both sides leaves them alone. */
static void poke_half(hid_t file, const char *path, size_t at, uint16_t bits)
{
	hid_t dataset = H5Dopen2(file, path, H5P_DEFAULT);
	hid_t type = H5Dget_type(dataset);
	poke(file, path, type, sizeof bits, at, &bits);
	H5Tclose(type);
	H5Dclose(dataset);
}

static void set_attribute(
	hid_t file, const char *name, hid_t type, hid_t memory_type, const void *value)
{
	if (H5Aexists(file, name) > 0)
		H5Adelete(file, name);
	hid_t space = H5Screate(H5S_SCALAR);
	hid_t attribute = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
	g_assert_cmpint(attribute, >, 0);
	if (value != NULL)
		g_assert_cmpint(H5Awrite(attribute, memory_type, value), >=, 0);
	H5Aclose(attribute);
	H5Sclose(space);
}

static void test_no_trace(void)
{
	g_autofree char *missing = g_build_filename(folder, "missing.h5", NULL);
	expect(missing, "No such file or directory, expected an attention trace (HDF5)");
	expect(folder, "not a regular file, expected an attention trace (HDF5)");
	g_assert_true(g_file_set_contents(victim, "", 0, NULL));
	expect(victim, "not an HDF5 file, expected an attention trace");
	g_assert_true(g_file_set_contents(victim, "[model]\nlayers = 8\n", -1, NULL));
	expect(victim, "not an HDF5 file, expected an attention trace");
	hid_t file = H5Fcreate(victim, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
	close_and_expect(file, "attribute format: missing, expected a text");
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
	g_assert_true(g_file_get_contents(good, &bytes, &size, NULL));
	for (unsigned i = 0; i < 64; i++) {
		g_assert_true(g_file_set_contents(victim, bytes, (gssize)(size * i / 64), NULL));
		g_autofree char *complaint = quiet_complaint_of(victim);
		g_assert_nonnull(complaint);
		g_assert_true(g_str_has_suffix(complaint, "expected an attention trace"));
	}
	g_assert_true(g_file_set_contents(victim, bytes, (gssize)size - 1, NULL));
	expect(victim, "damaged HDF5 file (truncated file*");
}

static void test_integer_attributes(void)
{
	static const struct {
		const char *name;
		int64_t value;
		const char *message;
	} cases[] = {
		{ "version", 2, "2, expected 1" },
		{ "n_layers", 0, "0, expected an integer from 1 to 4096" },
		{ "n_layers", INT64_MAX,
			"9223372036854775807, expected an integer from 1 to 4096" },
		{ "n_q_heads", 0, "0, expected an integer from 1 to 4096" },
		{ "n_q_heads", 3, "3, expected a multiple of n_kv_heads (2)" },
		{ "n_kv_heads", 0, "0, expected an integer from 1 to 4096" },
		{ "n_kv_heads", -2, "-2, expected an integer from 1 to 4096" },
		{ "head_dim", 0, "0, expected an integer from 1 to 4096" },
		{ "block_tokens", 0, "0, expected an integer from 1 to 65536" },
		{ "total_tokens", 0, "0, expected an integer from 1 to 268435456" },
		{ "total_tokens", INT64_C(1) << 60,
			"1152921504606846976, expected an integer from 1 to 268435456" },
		{ "context_tokens", 41, "41, expected an integer from 0 to 40" },
		{ "local_chunk_tokens", 0, "0, expected at least 1 because layer 0 is chunked" },
		{ "synthetic", 2, "2, expected an integer from 0 to 1" },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		hid_t file = open_victim();
		set_attribute(
			file, cases[i].name, H5T_STD_I64LE, H5T_NATIVE_INT64, &cases[i].value);
		g_autofree char *message =
			g_strdup_printf("attribute %s: %s", cases[i].name, cases[i].message);
		close_and_expect(file, message);
	}
}

static void test_attribute_kinds(void)
{
	static const char *const names[] = { "format", "version", "model", "n_layers", "n_q_heads",
		"n_kv_heads", "head_dim", "block_tokens", "local_chunk_tokens", "context_tokens",
		"total_tokens", "softmax_scale" };
	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		hid_t file = open_victim();
		H5Adelete(file, names[i]);
		g_autofree char *missing =
			g_strdup_printf("attribute %s: missing, expected *", names[i]);
		close_and_expect(file, missing);
		/* An array instead of a scalar, then a compound. */
		file = open_victim();
		H5Adelete(file, names[i]);
		hsize_t two = 2;
		hid_t space = H5Screate_simple(1, &two, NULL);
		hid_t attribute =
			H5Acreate2(file, names[i], H5T_STD_U32LE, space, H5P_DEFAULT, H5P_DEFAULT);
		H5Aclose(attribute);
		H5Sclose(space);
		g_autofree char *array = g_strdup_printf(
			"attribute %s: an array or empty, expected one scalar, *", names[i]);
		close_and_expect(file, array);
		file = open_victim();
		hid_t compound = H5Tcreate(H5T_COMPOUND, 8);
		H5Tinsert(compound, "x", 0, H5T_NATIVE_INT);
		char zeros[8] = { 0 };
		set_attribute(file, names[i], compound, compound, zeros);
		H5Tclose(compound);
		g_autofree char *wrong =
			g_strdup_printf("attribute %s: wrong type, expected *", names[i]);
		close_and_expect(file, wrong);
	}
}

static void test_texts_and_scale(void)
{
	hid_t variable = H5Tcopy(H5T_C_S1), fixed = H5Tcopy(H5T_C_S1);
	H5Tset_size(variable, H5T_VARIABLE);
	H5Tset_size(fixed, 8);
	const char *null = NULL, *other = "kernel\ntrace", *latin = "caf\xe9";
	hid_t file = open_victim();
	set_attribute(file, "model", variable, variable, &null);
	close_and_expect(file, "attribute model: no text in it, expected a UTF-8 text");
	file = open_victim();
	set_attribute(file, "model", variable, variable, NULL); /* never written */
	close_and_expect(file, "attribute model: no text in it, expected a UTF-8 text");
	file = open_victim();
	set_attribute(file, "license", variable, variable, &latin);
	close_and_expect(file, "attribute license: no text in it, expected a UTF-8 text");
	file = open_victim();
	set_attribute(file, "format", variable, variable, &other);
	close_and_expect(
		file, "attribute format: \"kernel\\x0atrace\", expected \"attention-trace\"");
	file = open_victim();
	set_attribute(file, "format", fixed, fixed, "attentio");
	close_and_expect(file, "attribute format: \"attentio\", expected \"attention-trace\"");
	static const double scales[] = { 0, -1, NAN, INFINITY };
	static const char *const shown[] = { "0", "-1", "nan", "inf" };
	for (unsigned i = 0; i < 4; i++) {
		file = open_victim();
		set_attribute(file, "softmax_scale", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &scales[i]);
		g_autofree char *message = g_strdup_printf(
			"attribute softmax_scale: %s, expected a number above 0", shown[i]);
		close_and_expect(file, message);
	}
	H5Tclose(variable);
	H5Tclose(fixed);
}

static void test_steps(void)
{
	static const char *const columns[] = { "position", "turn", "kind", "token", "nll" };
	hid_t file = open_victim();
	drop(file, "steps");
	close_and_expect(file, "steps: missing, expected a group");
	for (unsigned i = 0; i < 3; i++) {
		g_autofree char *path = g_strconcat("steps/", columns[i], NULL);
		g_autofree char *message = g_strconcat(path, ": missing, expected a dataset", NULL);
		file = open_victim();
		drop(file, path);
		close_and_expect(file, message);
	}
	for (unsigned i = 1; i < 5; i++) {
		g_autofree char *path = g_strconcat("steps/", columns[i], NULL);
		g_autofree char *message =
			g_strconcat(path, ": shape [5], expected as many as positions, [6]", NULL);
		hsize_t five = 5;
		double zeros[5] = { 0 };
		file = open_victim();
		replace(file, path, i == 4 ? H5T_IEEE_F32LE : H5T_STD_U8LE, H5T_NATIVE_DOUBLE, 1,
			&five, zeros);
		close_and_expect(file, message);
	}
	file = open_victim();
	poke_integer(file, "steps/position", 3, 36);
	close_and_expect(file, "steps/position: step 3: 36 after 36, expected rising positions");
	file = open_victim();
	poke_integer(file, "steps/position", 5, 40);
	close_and_expect(file, "steps/position: step 5: 40, expected below total_tokens (40)");
	file = open_victim();
	poke_integer(file, "steps/position", 0, UINT64_MAX);
	close_and_expect(file,
		"steps/position: step 0: 18446744073709551615, expected below total_tokens (40)");
	file = open_victim();
	poke_integer(file, "steps/kind", 1, 2);
	close_and_expect(file, "steps/kind: step 1: 2, expected 0 (prompt) or 1 (decode)");
	hsize_t none = 0;
	file = open_victim();
	replace(file, "steps/position", H5T_STD_U64LE, H5T_NATIVE_UINT64, 1, &none, NULL);
	close_and_expect(file, "steps/position: no steps, expected at least one");
}

static void test_layers(void)
{
	hsize_t four = 4, five = 5;
	uint8_t kinds[5] = { 0, 0, 7, 1, 1 };
	hid_t file = open_victim();
	replace(file, "layer_kind", H5T_STD_U8LE, H5T_NATIVE_UINT8, 1, &four, kinds);
	close_and_expect(
		file, "layer_kind: layer 2 is of kind 7, expected 0 (chunked) or 1 (global)");
	file = open_victim();
	replace(file, "layer_kind", H5T_STD_U8LE, H5T_NATIVE_UINT8, 1, &five, kinds);
	close_and_expect(file, "layer_kind: shape [5], expected [n_layers] = [4]");
	file = open_victim();
	drop(file, "layers/1");
	drop(file, "layers/3");
	close_and_expect(file, "layers: empty, expected at least one layer");
	static const char *const names[] = { "4", "07", "+3", "-1", "x", "18446744073709551616" };
	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		file = open_victim();
		hid_t layers = H5Gopen2(file, "layers", H5P_DEFAULT);
		H5Gclose(H5Gcreate2(layers, names[i], H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
		H5Gclose(layers);
		g_autofree char *message = g_strdup_printf(
			"layers: \"%s\", expected layer numbers from 0 to 3", names[i]);
		close_and_expect(file, message);
	}
	file = open_victim();
	drop(file, "layers/3/access");
	close_and_expect(file, "layers/3/access: missing, expected a group");
	file = open_victim();
	drop(file, "layers/3");
	hid_t space = H5Screate_simple(1, &four, NULL);
	H5Dclose(H5Dcreate2(
		file, "layers/3", H5T_STD_U8LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
	H5Sclose(space);
	close_and_expect(file, "layers/3: another kind of object, expected a group");
	hsize_t wrong[] = { 2, 39, 8 };
	file = open_victim();
	hid_t half = H5Dopen2(file, "layers/3/keys", H5P_DEFAULT), type = H5Dget_type(half);
	H5Dclose(half);
	g_autofree uint16_t *values = g_new0(uint16_t, 2 * 39 * 8);
	replace(file, "layers/3/keys", type, type, 3, wrong, values);
	H5Tclose(type);
	close_and_expect(file, "layers/3/keys: shape [2, 39, 8], expected [n_kv_heads, "
			       "total_tokens, head_dim] = [2, 40, 8]");
}

static void test_rows(void)
{
	static const struct {
		size_t at;
		uint64_t value;
		const char *message;
	} offsets[] = {
		{ 0, 1, "first offset 1, expected 0" },
		{ 12, 500, "row 11: ends at 500*" },
		{ 1, 1000000, "row 0: ends at 1000000 with 1000000 blocks, expected at most *" },
		{ 2, 1, "row 1: ends at 1 before its start *" },
		{ 6, UINT64_MAX, "row 5: ends at 18446744073709551615 *" },
		{ 5, 0, "row 4: ends at 0 before its start *" },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(offsets); i++) {
		hid_t file = open_victim();
		poke_integer(file, "layers/3/access/offsets", offsets[i].at, offsets[i].value);
		g_autofree char *message =
			g_strconcat("layers/3/access/offsets: ", offsets[i].message, NULL);
		close_and_expect(file, message);
	}
	hid_t file = open_victim();
	poke_integer(file, "layers/3/access/block", 0, 9);
	close_and_expect(file, "layers/3/access: row 0: entry 0: block 9 at position 34, expected "
			       "a page present, 0 to 8");
	file = open_victim();
	poke_integer(file, "layers/3/access/block", 1, UINT32_MAX);
	close_and_expect(file, "layers/3/access: row 0: entry 1: block 4294967295 at position 34, "
			       "expected a page present, 0 to 8");
	/* The chunk of position 34 begins at token 30, in page 7. */
	file = open_victim();
	poke_integer(file, "layers/1/access/block", 0, 6);
	close_and_expect(file, "layers/1/access: row 0: entry 0: block 6 at position 34, expected "
			       "a page present, 7 to 8");
}

/* A row as the only thing wrong: 12 rows of 2 pages, and one changed. */
static void write_pairs(hid_t file, const uint32_t *block, const float *mass)
{
	uint64_t offsets[13];
	uint32_t blocks[24];
	float masses[24];
	for (unsigned i = 0; i < 13; i++)
		offsets[i] = 2 * i;
	for (unsigned i = 0; i < 24; i++) {
		blocks[i] = i / 2 == 7 ? block[i % 2] : i % 2;
		masses[i] = i / 2 == 7 ? mass[i % 2] : 0.5f;
	}
	hid_t dataset = H5Dopen2(file, "layers/3/access/mass", H5P_DEFAULT);
	hid_t half = H5Dget_type(dataset);
	H5Dclose(dataset);
	hsize_t pairs = 24, rows = 13;
	replace(file, "layers/3/access/offsets", H5T_STD_U64LE, H5T_NATIVE_UINT64, 1, &rows,
		offsets);
	replace(file, "layers/3/access/block", H5T_STD_U32LE, H5T_NATIVE_UINT32, 1, &pairs, blocks);
	replace(file, "layers/3/access/mass", half, H5T_NATIVE_FLOAT, 1, &pairs, masses);
	H5Tclose(half);
}

/* Row 7 is step 3, at position 37: page 9 is being written, page 10 does not exist yet. */
static void test_pairs(void)
{
	static const struct {
		uint32_t block[2];
		float mass[2];
		const char *message;
	} cases[] = {
		{ { 0, 1 }, { 0.5f, 0.5f }, NULL },
		{ { 1, 1 }, { 0.5f, 0.25f }, "block 1 twice, expected every block once" },
		{ { 0, 1 }, { 0.25f, 0.5f },
			"entry 1 (block 1): mass 0.5 after 0.25, expected falling masses" },
		{ { 0, 1 }, { 0.75f, 0.5f }, "masses sum to 1.2500, expected at most 1" },
		{ { 0, 1 }, { NAN, 0.5f },
			"entry 0 (block 0): mass nan, expected a number from 0 to 1" },
		{ { 0, 1 }, { 0.5f, -NAN }, "entry 1 (block 1): mass *" },
		{ { 0, 1 }, { 0.5f, -0.25f },
			"entry 1 (block 1): mass -0.25, expected a number from 0 to 1" },
		{ { 0, 1 }, { INFINITY, 0.5f },
			"entry 0 (block 0): mass inf, expected a number from 0 to 1" },
		{ { 0, 1 }, { 0.5f, -INFINITY },
			"entry 1 (block 1): mass -inf, expected a number from 0 to 1" },
		{ { 0, 1 }, { 1.0009765625f, 0 },
			"entry 0 (block 0): mass 1.00098, expected a number from 0 to 1" },
		{ { 9, 0 }, { 0.5f, 0.25f }, NULL },
		{ { 10, 0 }, { 0.5f, 0.25f },
			"entry 0: block 10 at position 37, expected a page present, 0 to 9" },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		hid_t file = open_victim();
		write_pairs(file, cases[i].block, cases[i].mass);
		if (cases[i].message == NULL) {
			H5Fclose(file);
			g_autofree char *complaint = quiet_complaint_of(victim);
			g_assert_cmpstr(complaint, ==, NULL);
			continue;
		}
		g_autofree char *message =
			g_strconcat("layers/3/access: row 7: ", cases[i].message, NULL);
		close_and_expect(file, message);
	}
	hid_t file = open_victim();
	write_pairs(file, cases[0].block, cases[0].mass);
	poke_integer(file, "layers/3/access/offsets", 12, 23);
	close_and_expect(
		file, "layers/3/access/offsets: last offset 23, expected 24, as many as blocks");
	hsize_t pairs = 23;
	uint32_t blocks[23] = { 0 };
	file = open_victim();
	write_pairs(file, cases[0].block, cases[0].mass);
	replace(file, "layers/3/access/block", H5T_STD_U32LE, H5T_NATIVE_UINT32, 1, &pairs, blocks);
	close_and_expect(
		file, "layers/3/access/mass: shape [24], expected as many as blocks, [23]");
}

static void test_types(void)
{
	static const struct {
		const char *path, *expected;
	} cases[] = {
		{ "layer_kind", "unsigned 8-bit integers" },
		{ "tokens", "unsigned integers of at most 32 bits" },
		{ "steps/position", "unsigned integers of at most 64 bits" },
		{ "steps/turn", "unsigned integers of at most 16 bits" },
		{ "steps/kind", "unsigned 8-bit integers" },
		{ "steps/nll", "IEEE 32-bit floats" },
		{ "layers/3/access/offsets", "unsigned integers of at most 64 bits" },
		{ "layers/3/access/block", "unsigned integers of at most 32 bits" },
		{ "layers/3/access/mass", "IEEE 16-bit floats, little-endian" },
		{ "layers/3/queries", "IEEE 16-bit floats, little-endian" },
		{ "layers/1/values", "IEEE 16-bit floats, little-endian" },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		hsize_t dims[] = { 6, 1, 1, 1 };
		unsigned rank = g_str_has_prefix(cases[i].path, "layers/") &&
						!strstr(cases[i].path, "access")
					? 3
					: 1;
		double zeros[6] = { 0 };
		hid_t file = open_victim();
		replace(file, cases[i].path, H5T_STD_I64LE, H5T_NATIVE_DOUBLE, rank, dims, zeros);
		g_autofree char *type = g_strdup_printf(
			"%s: wrong type, expected %s", cases[i].path, cases[i].expected);
		close_and_expect(file, type);
		/* The right type with a dimension too many. */
		file = open_victim();
		hid_t dataset = H5Dopen2(file, cases[i].path, H5P_DEFAULT);
		hid_t right = H5Dget_type(dataset);
		H5Dclose(dataset);
		replace(file, cases[i].path, right, H5T_NATIVE_DOUBLE, rank + 1, dims, zeros);
		H5Tclose(right);
		g_autofree char *shape = g_strdup_printf("%s: %u dimensions, expected %u of %s",
			cases[i].path, rank + 1, rank, cases[i].expected);
		close_and_expect(file, shape);
	}
}

/* Declares 2^60 elements in chunks of which none is stored. */
static void test_huge(void)
{
	hsize_t huge = UINT64_C(1) << 60, chunk = 1024;
	hid_t list = H5Pcreate(H5P_DATASET_CREATE);
	H5Pset_chunk(list, 1, &chunk);
	H5Pset_deflate(list, 1);
	hid_t space = H5Screate_simple(1, &huge, NULL);
	hid_t file = open_victim();
	drop(file, "layers/3/access/block");
	H5Dclose(H5Dcreate2(file, "layers/3/access/block", H5T_STD_U32LE, space, H5P_DEFAULT, list,
		H5P_DEFAULT));
	close_and_expect(file, "layers/3/access/block: declares 4611686018427387904 bytes but "
			       "only 0 are stored, expected all of its data");
	file = open_victim();
	drop(file, "steps/position");
	H5Dclose(H5Dcreate2(
		file, "steps/position", H5T_STD_U64LE, space, H5P_DEFAULT, list, H5P_DEFAULT));
	close_and_expect(file, "steps/position: declares 9223372036854775808 bytes but only 0 are "
			       "stored, expected all of its data");
	H5Sclose(space);
	H5Pclose(list);
	/* Never written, contiguous. */
	hsize_t n = 100000;
	file = open_victim();
	replace(file, "layers/3/access/block", H5T_STD_U32LE, H5T_NATIVE_UINT32, 1, &n, NULL);
	close_and_expect(file, "layers/3/access/block: declares 400000 bytes but only 0 are "
			       "stored, expected all of its data");
	/* Chunks that are larger than the memory that reading may take. */
	hsize_t large = UINT64_C(1) << 26;
	list = H5Pcreate(H5P_DATASET_CREATE);
	H5Pset_chunk(list, 1, &large);
	space = H5Screate_simple(1, &large, NULL);
	file = open_victim();
	drop(file, "tokens");
	H5Dclose(H5Dcreate2(file, "tokens", H5T_STD_U32LE, space, H5P_DEFAULT, list, H5P_DEFAULT));
	close_and_expect(file, "tokens: chunks of 268435456 bytes, expected from 1 to 67108864");
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
		hid_t file = open_victim();
		drop(file, "layers/3/access/block");
		hid_t dataset = H5Dcreate2(file, "layers/3/access/block", H5T_STD_U32LE, space,
			H5P_DEFAULT, list, H5P_DEFAULT);
		H5Dwrite(dataset, H5T_NATIVE_UINT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, blocks);
		H5Dclose(dataset);
		H5Sclose(space);
		H5Pclose(list);
		g_autofree char *message =
			g_strconcat("layers/3/access/block: ", cases[i].message, NULL);
		close_and_expect(file, message);
	}
}

static void test_links(void)
{
	hid_t file = open_victim();
	drop(file, "steps/kind");
	H5Lcreate_soft("/steps/turn", file, "steps/kind", H5P_DEFAULT, H5P_DEFAULT);
	close_and_expect(file, "steps/kind: a soft link, expected a dataset in this file");
	file = open_victim();
	drop(file, "layers/3/access/block");
	H5Lcreate_external(good, "/layers/3/access/block", file, "layers/3/access/block",
		H5P_DEFAULT, H5P_DEFAULT);
	close_and_expect(file, "layers/3/access/block: a link to another file, expected a dataset "
			       "in this file");
	file = open_victim();
	drop(file, "layers/3");
	H5Lcreate_external("nowhere.h5", "/", file, "layers/3", H5P_DEFAULT, H5P_DEFAULT);
	close_and_expect(file, "layers/3: a link to another file, expected a group in this file");
	/* Data kept in another file, and a virtual dataset. */
	hsize_t dims = 4;
	hid_t space = H5Screate_simple(1, &dims, NULL), list = H5Pcreate(H5P_DATASET_CREATE);
	H5Pset_external(list, "/etc/hostname", 0, H5F_UNLIMITED);
	file = open_victim();
	drop(file, "layer_kind");
	H5Dclose(H5Dcreate2(
		file, "layer_kind", H5T_STD_U8LE, space, H5P_DEFAULT, list, H5P_DEFAULT));
	close_and_expect(file, "layer_kind: stored in another file, expected data in this file");
	H5Pclose(list);
	list = H5Pcreate(H5P_DATASET_CREATE);
	H5Pset_virtual(list, space, good, "/layer_kind", space);
	file = open_victim();
	drop(file, "layer_kind");
	H5Dclose(H5Dcreate2(
		file, "layer_kind", H5T_STD_U8LE, space, H5P_DEFAULT, list, H5P_DEFAULT));
	close_and_expect(file, "layer_kind: virtual or unknown layout, expected data in this file");
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
	hid_t file = open_victim();
	drop(file, "layers/3/access/block");
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
	close_and_expect(file, "layers/3/access/block: the chunk at [0, 0, 0] is missing or "
			       "damaged, expected all of its data");
	file = open_with_chunks(&dataset);
	H5Dwrite_chunk(dataset, H5P_DEFAULT, 1, &first, 5, blocks);
	H5Dwrite_chunk(dataset, H5P_DEFAULT, 1, &second, 5, blocks);
	H5Dclose(dataset);
	close_and_expect(file, "layers/3/access/block: the chunk at [0, 0, 0] is missing or "
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
	close_and_expect(file, "layers/3/access/block: the chunk at [12, 0, 0] is missing or "
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
	g_assert_true(g_file_get_contents(good, &bytes, &size, NULL));
	for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
		hid_t file = H5Fopen(good, H5F_ACC_RDONLY, H5P_DEFAULT);
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
			g_assert_true(g_file_set_contents(victim, bytes, (gssize)size, NULL));
			g_autofree char *complaint = quiet_complaint_of(victim);
			refused += complaint != NULL;
			bytes[at] = old;
		}
	}
	g_assert_cmpuint(refused, >, 80);
}

static void test_not_finite(void)
{
	static const struct {
		const char *path, *message;
		size_t at;
	} cases[] = {
		{ "layers/3/queries", "layers/3/queries: step 2: nan, expected finite numbers",
			2 * 32 + 5 },
		{ "layers/3/keys",
			"layers/3/keys: KV head 0, token 17: NaN or infinity, expected finite "
			"numbers",
			17 * 8 + 3 },
	};
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		hid_t file = open_victim();
		poke_half(file, cases[i].path, cases[i].at, 0x7e00);
		H5Fclose(file);
		g_autoptr(GError) error = NULL;
		float mass[6 * 10];
		g_autoptr(kvt_attention_trace) trace = kvt_attention_trace_open(victim, &error);
		g_autoptr(kvt_attention_layer) layer =
			kvt_attention_layer_open(trace, 3, 0, &error);
		g_assert_false(kvt_attention_mass_recompute(layer, 0, 1, 6, 0, mass, 10, &error));
		g_assert_true(g_str_has_suffix(error->message, cases[i].message));
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* the test's own probing is silent */
	folder = attention_fixture_folder();
	good = g_build_filename(folder, "good.h5", NULL);
	victim = g_build_filename(folder, "victim.h5", NULL);
	g_autoptr(attention_fixture) fixture = attention_fixture_small();
	attention_fixture_write(fixture, good);
	g_test_add_func("/attention-hostile/no-trace", test_no_trace);
	g_test_add_func("/attention-hostile/truncated", test_truncated);
	g_test_add_func("/attention-hostile/integer-attributes", test_integer_attributes);
	g_test_add_func("/attention-hostile/attribute-kinds", test_attribute_kinds);
	g_test_add_func("/attention-hostile/texts-and-scale", test_texts_and_scale);
	g_test_add_func("/attention-hostile/steps", test_steps);
	g_test_add_func("/attention-hostile/layers", test_layers);
	g_test_add_func("/attention-hostile/rows", test_rows);
	g_test_add_func("/attention-hostile/pairs", test_pairs);
	g_test_add_func("/attention-hostile/types", test_types);
	g_test_add_func("/attention-hostile/huge", test_huge);
	g_test_add_func("/attention-hostile/filters", test_filters);
	g_test_add_func("/attention-hostile/links", test_links);
	g_test_add_func("/attention-hostile/chunks", test_chunks);
	g_test_add_func("/attention-hostile/flipped-bytes", test_flipped_bytes);
	g_test_add_func("/attention-hostile/not-finite", test_not_finite);
	int status = g_test_run();
	attention_fixture_remove(folder);
	g_free(good);
	g_free(victim);
	return status;
}
