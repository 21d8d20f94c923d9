/*
 * request_internal.h: what the parts of the request-trace reader share; nobody else includes it.
 */
#ifndef KVT_REQUEST_INTERNAL_H
#define KVT_REQUEST_INTERNAL_H

#include <jansson.h>

#include "traces/request_trace.h"

/* What a trace's pointers point into: a mapped file, or arrays of their own. */
struct kvt_request_memory {
	GMappedFile *map;
	kvt_request *requests;
	uint32_t *blocks;
	char **tenant_names; /* NULL-terminated */
	char *source;
};

#define KVT_REQUEST_FILE_MAGIC "kvtreq\r\n"

/* Maps and checks the compact file. */
kvt_request_trace *kvt_request_file_open(const char *path, GError **error);

/*
 * A whole number of `object`, by key; where it is missing, no number, or not within the range:
 * false and "place.key: reason, expected what" at that line. `what` is as "a number of tokens".
 */
bool kvt_request_json_count(json_t *object, const char *path, unsigned line, const char *place,
	const char *key, uint64_t most, const char *what, uint64_t *value, GError **error);

/* The same for a real number of at least 0, finite; `factor` picoseconds each, rounded. */
bool kvt_request_json_time(json_t *object, const char *path, unsigned line, const char *place,
	const char *key, double factor, const char *what, int64_t *value, GError **error);

/* The array of that key. */
json_t *kvt_request_json_array(json_t *object, const char *path, unsigned line, const char *place,
	const char *key, const char *what, GError **error);

#endif
