/* attention_victim.c: a sound attention trace, copies of it to mutilate, and what the reader says.
 */
#include "tests/unit/attention_victim.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sim/base/error.h"
#include "tests/unit/attention_fixture.h"

char *victim_folder, *victim_good, *victim_path;

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
char *victim_complaint(const char *path)
{
	g_autofree char *log = g_build_filename(victim_folder, "stderr", NULL);
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

void victim_expect(const char *path, const char *message)
{
	g_autofree char *complaint = victim_complaint(path);
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
	g_assert_true(g_file_get_contents(victim_good, &bytes, &size, NULL));
	g_assert_true(g_file_set_contents(victim_path, bytes, (gssize)size, NULL));
}

/* A copy of the victim_good file, open for mutilation. */
hid_t victim_open(void)
{
	copy_good();
	hid_t file = H5Fopen(victim_path, H5F_ACC_RDWR, H5P_DEFAULT);
	g_assert_cmpint(file, >, 0);
	return file;
}

void victim_close_and_expect(hid_t file, const char *message)
{
	g_assert_cmpint(H5Fclose(file), >=, 0);
	victim_expect(victim_path, message);
}

void victim_drop(hid_t file, const char *path)
{
	g_assert_cmpint(H5Ldelete(file, path, H5P_DEFAULT), >=, 0);
}

/* Puts another dataset in place of the one at `path`. */
void victim_replace(hid_t file, const char *path, hid_t type, hid_t memory_type, unsigned rank,
	const hsize_t *dims, const void *values)
{
	victim_drop(file, path);
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

void victim_poke_integer(hid_t file, const char *path, size_t at, uint64_t value)
{
	poke(file, path, H5T_NATIVE_UINT64, sizeof value, at, &value);
}

/* Half bits: the dataset's own type on both sides leaves them alone. */
void victim_poke_half(hid_t file, const char *path, size_t at, uint16_t bits)
{
	hid_t dataset = H5Dopen2(file, path, H5P_DEFAULT);
	hid_t type = H5Dget_type(dataset);
	poke(file, path, type, sizeof bits, at, &bits);
	H5Tclose(type);
	H5Dclose(dataset);
}

void victim_set_attribute(
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

void victim_set_up(void)
{
	H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* the test's own probing is silent */
	victim_folder = attention_fixture_folder();
	victim_good = g_build_filename(victim_folder, "good.h5", NULL);
	victim_path = g_build_filename(victim_folder, "victim.h5", NULL);
	g_autoptr(attention_fixture) fixture = attention_fixture_small();
	attention_fixture_write(fixture, victim_good);
}

void victim_tear_down(void)
{
	attention_fixture_remove(victim_folder);
	g_free(victim_good);
	g_free(victim_path);
}
