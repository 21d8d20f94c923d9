/*
 * attention_victim.h: for tests of bad attention traces: a sound file, copies of it that a test
 * mutilates through the HDF5 library, and what the reader says of them.
 */
#ifndef KVT_ATTENTION_VICTIM_H
#define KVT_ATTENTION_VICTIM_H

#include <glib.h>
#include <hdf5.h>
#include <stdint.h>

/* The folder of a test's files, the sound trace (attention_fixture_small) and the copy in it. */
extern char *victim_folder, *victim_good, *victim_path;

void victim_set_up(void);
void victim_tear_down(void);

/* Opens and reads all of a trace: what the reader complains of without the file's name, a new
 * string, or NULL when all is well. Asserts that it is one line of code KVT_ERROR_USAGE, that HDF5
 * wrote nothing to stderr, that its error printing is as before, and that it keeps nothing open. */
char *victim_complaint(const char *path);

/* The complaint must be this; a star at the end stands for any rest. */
void victim_expect(const char *path, const char *message);

/* A fresh copy of the sound trace, open for writing; and its end, with the complaint expected. */
hid_t victim_open(void);
void victim_close_and_expect(hid_t file, const char *message);

/* Deletes an object. */
void victim_drop(hid_t file, const char *path);

/* Puts another dataset in place of the one at `path`; values NULL are never written. */
void victim_replace(hid_t file, const char *path, hid_t type, hid_t memory_type, unsigned rank,
	const hsize_t *dims, const void *values);

/* Overwrites one element, counted in file order, by an integer or by the bits of a half. */
void victim_poke_integer(hid_t file, const char *path, size_t at, uint64_t value);
void victim_poke_half(hid_t file, const char *path, size_t at, uint16_t bits);

/* Puts a scalar root attribute in place of one; value NULL is never written. */
void victim_set_attribute(
	hid_t file, const char *name, hid_t type, hid_t memory_type, const void *value);

#endif
