/*
 * remote_protocol.h: what the remote tier and the storage node say to each other, over fabric.h's
 * messages. A client's connection is of one tenant and one model: messages name neither, so that
 * nobody can name another's. Page data never travels in messages: it is read and written one-sided.
 *
 * A message is one or more records, each a header and a body, little-endian, packed as
 * remote_protocol.c writes them. Requests carry an id that their answer repeats. Decoding trusts
 * nothing: a record that is cut, too long, or has a count that its length does not bear out is
 * -EPROTO, and the connection ends.
 *
 *   FETCH    run, destination -> FETCHED: each piece of the run lies in the node's pool under a
 *            lease (the client READs it), or has been written to the destination already (it came
 *            from the node's drives, say); with a checksum for every page
 *   RELEASE  leases                      no answer
 *   RESERVE  run -> RESERVED: room in the pool, which the client WRITEs
 *   COMMIT   ticket, checksums -> COMMITTED: all bytes were there and are durable, readable at once
 *   ABORT    ticket                      no answer
 *   DISCARD  run -> DISCARDED
 *   LIST     cursor -> LISTED: which runs of the tenant's and model's pages are there
 *
 * A lease promises that the memory under a key holds these very pages until its time is over, as
 * measured from the client's FETCH: it may READ again meanwhile. After it the key may open nothing
 * any more, or the connection be ended for trying.
 */
#ifndef KVT_REMOTE_PROTOCOL_H
#define KVT_REMOTE_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim/tier/tier.h"

enum {
	KVT_REMOTE_VERSION = 1,
	KVT_REMOTE_MESSAGE = 16 << 10, /* bytes of a message at most */
	KVT_REMOTE_PAGES = 1024,       /* of a run of one request at most */
	KVT_REMOTE_PIECES = 128,       /* of an answer at most */
	KVT_REMOTE_LEASES = 1024,      /* of one RELEASE at most */
	KVT_REMOTE_RUNS = 256,         /* of one LISTED at most */
	KVT_REMOTE_KEY = 16,           /* bytes of a tenant's secret */
};

/* The opening of a connection, in its hello, welcome and refusal. */
typedef struct kvt_remote_hello {
	uint16_t version;
	uint32_t tenant;
	uint64_t model; /* as kvt_store_run's */
	uint8_t key[KVT_REMOTE_KEY];
} kvt_remote_hello;

typedef struct kvt_remote_welcome {
	uint16_t version;
	uint32_t lease_ms;
	uint64_t capacity, used; /* bytes of pages that the tenant may have stored, and has */
	uint64_t request_bytes;  /* of a run of one request at most */
} kvt_remote_welcome;

typedef enum kvt_remote_refusal {
	KVT_REMOTE_OTHER_VERSION = 1, /* `version` says which the node speaks */
	KVT_REMOTE_UNKNOWN_TENANT,
	KVT_REMOTE_WRONG_KEY,
	KVT_REMOTE_TOO_MANY, /* connections of the tenant's */
	KVT_REMOTE_DRAINING, /* the node is going down */
	KVT_REMOTE_NO_ROOM,  /* the device registers no more memory, say */
} kvt_remote_refusal;

typedef enum kvt_remote_type {
	KVT_REMOTE_FETCH = 1,
	KVT_REMOTE_RELEASE,
	KVT_REMOTE_RESERVE,
	KVT_REMOTE_COMMIT,
	KVT_REMOTE_ABORT,
	KVT_REMOTE_DISCARD,
	KVT_REMOTE_LIST,
	KVT_REMOTE_FETCHED = 65,
	KVT_REMOTE_RESERVED,
	KVT_REMOTE_COMMITTED,
	KVT_REMOTE_DISCARDED,
	KVT_REMOTE_LISTED,
} kvt_remote_type;

/* Pages one after another, somewhere in the node's pool. */
typedef struct kvt_remote_piece {
	uint64_t address; /* 0: written to the destination already */
	uint32_t key;
	uint32_t n_pages;
	uint64_t lease; /* 0: none */
} kvt_remote_piece;

/* Any record, decoded: the members that its type has. Arrays point into the message's copy that the
 * decoder keeps (see kvt_remote_next), or, to encode, to the caller's. */
typedef struct kvt_remote_record {
	kvt_remote_type type;
	uint64_t id;      /* of requests that are answered, and of answers */
	int32_t status;   /* of answers: 0 or a negative errno of tier.h's; -ESHUTDOWN: draining;
			     -EDQUOT: over a cap of the tenant's; -ESTALE: no such ticket */
	uint8_t priority; /* FETCH, RESERVE */
	kvt_extent run;   /* FETCH, RESERVE, DISCARD */
	uint64_t address; /* FETCH: of the destination; 0: lease only */
	uint32_t key;
	uint64_t ticket; /* RESERVED, COMMIT, ABORT */
	uint64_t cursor; /* LIST: 0 or what the last LISTED said; LISTED: 0: that was all */
	uint64_t pages;  /* DISCARDED: how many were there */
	uint32_t n;      /* pieces, leases or runs */
	const kvt_remote_piece *pieces; /* FETCHED, RESERVED */
	const uint64_t *leases;         /* RELEASE */
	const kvt_extent *runs;         /* LISTED */
	uint32_t n_checksums;
	const uint64_t *checksums; /* FETCHED, COMMIT: a page's xxh3, in page order */
} kvt_remote_record;

/* Bytes written, at most KVT_FABRIC_HELLO and KVT_FABRIC_WELCOME. */
size_t kvt_remote_hello_encode(const kvt_remote_hello *hello, void *bytes);
size_t kvt_remote_welcome_encode(const kvt_remote_welcome *welcome, void *bytes);
size_t kvt_remote_refusal_encode(kvt_remote_refusal refusal, void *bytes);

/* 0 or -EPROTO. A hello of another version has its version and nothing else. */
int kvt_remote_hello_decode(const void *bytes, size_t length, kvt_remote_hello *hello);
int kvt_remote_welcome_decode(const void *bytes, size_t length, kvt_remote_welcome *welcome);
/* *version is the node's. 0 where it says nothing that is known. */
kvt_remote_refusal kvt_remote_refusal_decode(const void *bytes, size_t length, uint16_t *version);
/* What it means, for a message: "the node speaks version 2 of the protocol, this is 1". New. */
char *kvt_remote_refusal_text(kvt_remote_refusal refusal, uint16_t version);

/* A tenant's secret as people write it, 2 x KVT_REMOTE_KEY hexadecimal digits; false for others. */
bool kvt_remote_key_parse(const char *text, uint8_t key[KVT_REMOTE_KEY]);

/* Bytes that the record takes, and writes them. A record that breaks the limits above is a broken
 * invariant. */
size_t kvt_remote_size(const kvt_remote_record *record);
size_t kvt_remote_encode(const kvt_remote_record *record, void *bytes);

/* Reads records one after another. */
typedef struct kvt_remote_reader {
	const uint8_t *bytes;
	size_t length, at;
	/* where arrays of the record that was read last lie */
	kvt_remote_piece pieces[KVT_REMOTE_PIECES];
	kvt_extent runs[KVT_REMOTE_RUNS];
	uint64_t numbers[KVT_REMOTE_PAGES > (int)KVT_REMOTE_LEASES ? (int)KVT_REMOTE_PAGES
								   : (int)KVT_REMOTE_LEASES];
} kvt_remote_reader;

void kvt_remote_reader_init(kvt_remote_reader *reader, const void *bytes, size_t length);
/* 1: *record is the next; 0: there is no more; -EPROTO. */
int kvt_remote_next(kvt_remote_reader *reader, kvt_remote_record *record);

#endif
