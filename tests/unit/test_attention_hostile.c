/* test_attention_hostile.c: attributes, steps, layers, rows and tensors that break the format: each
 * is refused with one line that names the place. How files are stored: test_attention_storage.c. */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "sim/base/error.h"
#include "tests/unit/attention_victim.h"
#include "traces/attention_mass.h"

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
		hid_t file = victim_open();
		victim_set_attribute(
			file, cases[i].name, H5T_STD_I64LE, H5T_NATIVE_INT64, &cases[i].value);
		g_autofree char *message =
			g_strdup_printf("attribute %s: %s", cases[i].name, cases[i].message);
		victim_close_and_expect(file, message);
	}
}

static void test_attribute_kinds(void)
{
	static const char *const names[] = { "format", "version", "model", "n_layers", "n_q_heads",
		"n_kv_heads", "head_dim", "block_tokens", "local_chunk_tokens", "context_tokens",
		"total_tokens", "softmax_scale" };
	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		hid_t file = victim_open();
		H5Adelete(file, names[i]);
		g_autofree char *missing =
			g_strdup_printf("attribute %s: missing, expected *", names[i]);
		victim_close_and_expect(file, missing);
		/* An array instead of a scalar, then a compound. */
		file = victim_open();
		H5Adelete(file, names[i]);
		hsize_t two = 2;
		hid_t space = H5Screate_simple(1, &two, NULL);
		hid_t attribute =
			H5Acreate2(file, names[i], H5T_STD_U32LE, space, H5P_DEFAULT, H5P_DEFAULT);
		H5Aclose(attribute);
		H5Sclose(space);
		g_autofree char *array = g_strdup_printf(
			"attribute %s: an array or empty, expected one scalar, *", names[i]);
		victim_close_and_expect(file, array);
		file = victim_open();
		hid_t compound = H5Tcreate(H5T_COMPOUND, 8);
		H5Tinsert(compound, "x", 0, H5T_NATIVE_INT);
		char zeros[8] = { 0 };
		victim_set_attribute(file, names[i], compound, compound, zeros);
		H5Tclose(compound);
		g_autofree char *wrong =
			g_strdup_printf("attribute %s: wrong type, expected *", names[i]);
		victim_close_and_expect(file, wrong);
	}
}

static void test_texts_and_scale(void)
{
	hid_t variable = H5Tcopy(H5T_C_S1), fixed = H5Tcopy(H5T_C_S1);
	H5Tset_size(variable, H5T_VARIABLE);
	H5Tset_size(fixed, 8);
	const char *null = NULL, *other = "kernel\ntrace", *latin = "caf\xe9";
	hid_t file = victim_open();
	victim_set_attribute(file, "model", variable, variable, &null);
	victim_close_and_expect(file, "attribute model: no text in it, expected a UTF-8 text");
	file = victim_open();
	victim_set_attribute(file, "model", variable, variable, NULL); /* never written */
	victim_close_and_expect(file, "attribute model: no text in it, expected a UTF-8 text");
	file = victim_open();
	victim_set_attribute(file, "license", variable, variable, &latin);
	victim_close_and_expect(file, "attribute license: no text in it, expected a UTF-8 text");
	file = victim_open();
	victim_set_attribute(file, "format", variable, variable, &other);
	victim_close_and_expect(
		file, "attribute format: \"kernel\\x0atrace\", expected \"attention-trace\"");
	file = victim_open();
	victim_set_attribute(file, "format", fixed, fixed, "attentio");
	victim_close_and_expect(
		file, "attribute format: \"attentio\", expected \"attention-trace\"");
	static const double scales[] = { 0, -1, NAN, INFINITY };
	static const char *const shown[] = { "0", "-1", "nan", "inf" };
	for (unsigned i = 0; i < 4; i++) {
		file = victim_open();
		victim_set_attribute(
			file, "softmax_scale", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &scales[i]);
		g_autofree char *message = g_strdup_printf(
			"attribute softmax_scale: %s, expected a number above 0", shown[i]);
		victim_close_and_expect(file, message);
	}
	H5Tclose(variable);
	H5Tclose(fixed);
}

static void test_steps(void)
{
	static const char *const columns[] = { "position", "turn", "kind", "token", "nll" };
	hid_t file = victim_open();
	victim_drop(file, "steps");
	victim_close_and_expect(file, "steps: missing, expected a group");
	for (unsigned i = 0; i < 3; i++) {
		g_autofree char *path = g_strconcat("steps/", columns[i], NULL);
		g_autofree char *message = g_strconcat(path, ": missing, expected a dataset", NULL);
		file = victim_open();
		victim_drop(file, path);
		victim_close_and_expect(file, message);
	}
	for (unsigned i = 1; i < 5; i++) {
		g_autofree char *path = g_strconcat("steps/", columns[i], NULL);
		g_autofree char *message =
			g_strconcat(path, ": shape [5], expected as many as positions, [6]", NULL);
		hsize_t five = 5;
		double zeros[5] = { 0 };
		file = victim_open();
		victim_replace(file, path, i == 4 ? H5T_IEEE_F32LE : H5T_STD_U8LE,
			H5T_NATIVE_DOUBLE, 1, &five, zeros);
		victim_close_and_expect(file, message);
	}
	file = victim_open();
	victim_poke_integer(file, "steps/position", 3, 36);
	victim_close_and_expect(
		file, "steps/position: step 3: 36 after 36, expected rising positions");
	file = victim_open();
	victim_poke_integer(file, "steps/position", 5, 40);
	victim_close_and_expect(
		file, "steps/position: step 5: 40, expected below total_tokens (40)");
	file = victim_open();
	victim_poke_integer(file, "steps/position", 0, UINT64_MAX);
	victim_close_and_expect(file,
		"steps/position: step 0: 18446744073709551615, expected below total_tokens (40)");
	file = victim_open();
	victim_poke_integer(file, "steps/kind", 1, 2);
	victim_close_and_expect(file, "steps/kind: step 1: 2, expected 0 (prompt) or 1 (decode)");
	hsize_t none = 0;
	file = victim_open();
	victim_replace(file, "steps/position", H5T_STD_U64LE, H5T_NATIVE_UINT64, 1, &none, NULL);
	victim_close_and_expect(file, "steps/position: no steps, expected at least one");
}

static void test_layers(void)
{
	hsize_t four = 4, five = 5;
	uint8_t kinds[5] = { 0, 0, 7, 1, 1 };
	hid_t file = victim_open();
	victim_replace(file, "layer_kind", H5T_STD_U8LE, H5T_NATIVE_UINT8, 1, &four, kinds);
	victim_close_and_expect(
		file, "layer_kind: layer 2 is of kind 7, expected 0 (chunked) or 1 (global)");
	file = victim_open();
	victim_replace(file, "layer_kind", H5T_STD_U8LE, H5T_NATIVE_UINT8, 1, &five, kinds);
	victim_close_and_expect(file, "layer_kind: shape [5], expected [n_layers] = [4]");
	file = victim_open();
	victim_drop(file, "layers/1");
	victim_drop(file, "layers/3");
	victim_close_and_expect(file, "layers: empty, expected at least one layer");
	static const char *const names[] = { "4", "07", "+3", "-1", "x", "18446744073709551616" };
	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		file = victim_open();
		hid_t layers = H5Gopen2(file, "layers", H5P_DEFAULT);
		H5Gclose(H5Gcreate2(layers, names[i], H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
		H5Gclose(layers);
		g_autofree char *message = g_strdup_printf(
			"layers: \"%s\", expected layer numbers from 0 to 3", names[i]);
		victim_close_and_expect(file, message);
	}
	file = victim_open();
	victim_drop(file, "layers/3/access");
	victim_close_and_expect(file, "layers/3/access: missing, expected a group");
	file = victim_open();
	victim_drop(file, "layers/3");
	hid_t space = H5Screate_simple(1, &four, NULL);
	H5Dclose(H5Dcreate2(
		file, "layers/3", H5T_STD_U8LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
	H5Sclose(space);
	victim_close_and_expect(file, "layers/3: another kind of object, expected a group");
	hsize_t wrong[] = { 2, 39, 8 };
	file = victim_open();
	hid_t half = H5Dopen2(file, "layers/3/keys", H5P_DEFAULT), type = H5Dget_type(half);
	H5Dclose(half);
	g_autofree uint16_t *values = g_new0(uint16_t, 2 * 39 * 8);
	victim_replace(file, "layers/3/keys", type, type, 3, wrong, values);
	H5Tclose(type);
	victim_close_and_expect(file, "layers/3/keys: shape [2, 39, 8], expected [n_kv_heads, "
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
		hid_t file = victim_open();
		victim_poke_integer(
			file, "layers/3/access/offsets", offsets[i].at, offsets[i].value);
		g_autofree char *message =
			g_strconcat("layers/3/access/offsets: ", offsets[i].message, NULL);
		victim_close_and_expect(file, message);
	}
	hid_t file = victim_open();
	victim_poke_integer(file, "layers/3/access/block", 0, 9);
	victim_close_and_expect(file,
		"layers/3/access: row 0: entry 0: block 9 at position 34, expected "
		"a page present, 0 to 8");
	file = victim_open();
	victim_poke_integer(file, "layers/3/access/block", 1, UINT32_MAX);
	victim_close_and_expect(file,
		"layers/3/access: row 0: entry 1: block 4294967295 at position 34, "
		"expected a page present, 0 to 8");
	/* The chunk of position 34 begins at token 30, in page 7. */
	file = victim_open();
	victim_poke_integer(file, "layers/1/access/block", 0, 6);
	victim_close_and_expect(file,
		"layers/1/access: row 0: entry 0: block 6 at position 34, expected "
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
	victim_replace(file, "layers/3/access/offsets", H5T_STD_U64LE, H5T_NATIVE_UINT64, 1, &rows,
		offsets);
	victim_replace(
		file, "layers/3/access/block", H5T_STD_U32LE, H5T_NATIVE_UINT32, 1, &pairs, blocks);
	victim_replace(file, "layers/3/access/mass", half, H5T_NATIVE_FLOAT, 1, &pairs, masses);
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
		hid_t file = victim_open();
		write_pairs(file, cases[i].block, cases[i].mass);
		if (cases[i].message == NULL) {
			H5Fclose(file);
			g_autofree char *complaint = victim_complaint(victim_path);
			g_assert_cmpstr(complaint, ==, NULL);
			continue;
		}
		g_autofree char *message =
			g_strconcat("layers/3/access: row 7: ", cases[i].message, NULL);
		victim_close_and_expect(file, message);
	}
	hid_t file = victim_open();
	write_pairs(file, cases[0].block, cases[0].mass);
	victim_poke_integer(file, "layers/3/access/offsets", 12, 23);
	victim_close_and_expect(
		file, "layers/3/access/offsets: last offset 23, expected 24, as many as blocks");
	hsize_t pairs = 23;
	uint32_t blocks[23] = { 0 };
	file = victim_open();
	write_pairs(file, cases[0].block, cases[0].mass);
	victim_replace(
		file, "layers/3/access/block", H5T_STD_U32LE, H5T_NATIVE_UINT32, 1, &pairs, blocks);
	victim_close_and_expect(
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
		hid_t file = victim_open();
		victim_replace(
			file, cases[i].path, H5T_STD_I64LE, H5T_NATIVE_DOUBLE, rank, dims, zeros);
		g_autofree char *type = g_strdup_printf(
			"%s: wrong type, expected %s", cases[i].path, cases[i].expected);
		victim_close_and_expect(file, type);
		/* The right type with a dimension too many. */
		file = victim_open();
		hid_t dataset = H5Dopen2(file, cases[i].path, H5P_DEFAULT);
		hid_t right = H5Dget_type(dataset);
		H5Dclose(dataset);
		victim_replace(
			file, cases[i].path, right, H5T_NATIVE_DOUBLE, rank + 1, dims, zeros);
		H5Tclose(right);
		g_autofree char *shape = g_strdup_printf("%s: %u dimensions, expected %u of %s",
			cases[i].path, rank + 1, rank, cases[i].expected);
		victim_close_and_expect(file, shape);
	}
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
		hid_t file = victim_open();
		victim_poke_half(file, cases[i].path, cases[i].at, 0x7e00);
		H5Fclose(file);
		g_autoptr(GError) error = NULL;
		float mass[6 * 10];
		g_autoptr(kvt_attention_trace) trace =
			kvt_attention_trace_open(victim_path, &error);
		g_autoptr(kvt_attention_layer) layer =
			kvt_attention_layer_open(trace, 3, 0, &error);
		g_assert_false(kvt_attention_mass_recompute(layer, 0, 1, 6, 0, mass, 10, &error));
		g_assert_true(g_str_has_suffix(error->message, cases[i].message));
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	victim_set_up();
	g_test_add_func("/attention-hostile/integer-attributes", test_integer_attributes);
	g_test_add_func("/attention-hostile/attribute-kinds", test_attribute_kinds);
	g_test_add_func("/attention-hostile/texts-and-scale", test_texts_and_scale);
	g_test_add_func("/attention-hostile/steps", test_steps);
	g_test_add_func("/attention-hostile/layers", test_layers);
	g_test_add_func("/attention-hostile/rows", test_rows);
	g_test_add_func("/attention-hostile/pairs", test_pairs);
	g_test_add_func("/attention-hostile/types", test_types);
	g_test_add_func("/attention-hostile/not-finite", test_not_finite);
	int status = g_test_run();
	victim_tear_down();
	return status;
}
