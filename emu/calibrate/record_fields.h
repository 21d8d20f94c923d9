/*
 * record_fields.h: fields of a calibration's record: written to JSON, and read back with one line
 * for the first that is missing or impossible. For the files of calibration alone.
 */
#ifndef KVT_RECORD_FIELDS_H
#define KVT_RECORD_FIELDS_H

#include "emu/calibrate/calibration.h"

void kvt_record_measured(json_t *object, const kvt_measured *m);
void kvt_record_integer(json_t *object, const char *key, uint64_t value);

/* Reads fields until one is missing or impossible, and remembers which. */
typedef struct kvt_taker {
	const char *file;
	GString *where; /* of the object being read */
	GError *error;
} kvt_taker;

void kvt_taker_refuse(kvt_taker *t, const char *key, const char *expected);

/* A new string of one line. */
char *kvt_take_text(kvt_taker *t, const json_t *object, const char *key);
/* 1 to `high`. */
uint64_t kvt_take_count(kvt_taker *t, const json_t *object, const char *key, int64_t high);
double kvt_take_number(kvt_taker *t, const json_t *object, const char *key);
kvt_measured kvt_take_measured(kvt_taker *t, const json_t *object);
/* Whether it is `yes`; anything but that and `no` is refused. */
bool kvt_take_choice(
	kvt_taker *t, const json_t *object, const char *key, const char *no, const char *yes);

#endif
