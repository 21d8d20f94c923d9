/*
 * fabric_trial.h: two hosts with memory, a listener and a connection between them, for
 * fabric_conformance.c and its parts: what has been heard at each end, and waiting for it.
 */
#ifndef FABRIC_TRIAL_H
#define FABRIC_TRIAL_H

#include "sim/base/rng.h"
#include "tests/unit/fabric_conformance.h"

enum {
	FABRIC_MEMORY = 10 << 20, /* registered bytes of an end */
	FABRIC_SECONDS = 60,      /* that anything may take before the test has failed */
};

typedef struct fabric_trial fabric_trial;

/* A transfer of a test. */
typedef struct trial_transfer {
	kvt_transfer transfer;
	fabric_trial *trial;
	unsigned done;  /* times */
	uint64_t order; /* of all that were done, from 1 */
} trial_transfer;

/* One end. */
typedef struct trial_end {
	fabric_trial *trial;
	kvt_fabric *fabric;
	kvt_fabric_domain *domain;
	uint8_t *memory;
	kvt_fabric_region region;
	kvt_connection *connection; /* NULL: none, or freed */
	bool frees;                 /* the connection, from down */
	unsigned ups, downs, messages;
	int status;                       /* of down */
	uint8_t said[KVT_FABRIC_WELCOME]; /* the peer: hello, welcome or reason */
	size_t said_bytes;
	bool said_any;
	/* what a test does with a message, beside counting */
	void (*on_message)(struct trial_end *end, int queue, const void *bytes, size_t length);
	void (*on_up)(struct trial_end *end);
	uint64_t heard[KVT_FABRIC_QUEUES]; /* a test's own */
} trial_end;

typedef enum trial_answer { TRIAL_ACCEPT, TRIAL_REFUSE, TRIAL_WAIT } trial_answer;

struct fabric_trial {
	const fabric_kind *kind;
	fabric_pair pair;
	trial_end near, far;
	kvt_fabric_listener *listener;
	kvt_fabric_request *request; /* that is not answered */
	trial_answer answer;
	kvt_connection_settings settings, far_settings;
	const void *hello, *answer_bytes; /* answer: welcome or reason */
	size_t hello_bytes, answer_length;
	kvt_rng rng;
	uint64_t done; /* transfers */
	unsigned failed;
	bool late;
	bool (*reached)(fabric_trial *trial);
};

/* A trial with its listener, not connected; false: the kind can have none here, the test is
 * skipped. Freed by trial_end_all, which also sees that nothing keeps the loop. */
bool trial_begin(fabric_trial *trial, const fabric_kind *kind);
void trial_end_all(fabric_trial *trial);

/* Begins to connect near to far. */
void trial_connect(fabric_trial *trial);
/* The same, and waits until both are up. */
void trial_open(fabric_trial *trial, unsigned queues);
/* Ends the connection if there is one, and frees both ends of it. */
void trial_close(fabric_trial *trial);
/* Answers trial->request. */
void trial_accept(fabric_trial *trial);
void trial_refuse(fabric_trial *trial);

/* Runs the loop until that is so; the test fails when it takes FABRIC_SECONDS. */
void trial_run(fabric_trial *trial, bool (*reached)(fabric_trial *trial));
/* Runs the loop for so long. */
void trial_pass(fabric_trial *trial, kvt_time time);
bool trial_both_up(fabric_trial *trial);
bool trial_near_down(fabric_trial *trial);
bool trial_both_down(fabric_trial *trial);

/* A transfer of near's memory at `offset` from or to far's at `remote`, not submitted. */
void trial_make(trial_transfer *t, fabric_trial *trial, kvt_transfer_op op, uint64_t offset,
	uint64_t remote, uint64_t length);
void trial_submit(trial_transfer *t);
/* Submits it at near and waits until it is done; its status. */
int trial_do(trial_transfer *t);
/* Nobody waits for the message. */
void trial_say(trial_end *end, int queue, const void *bytes, size_t length);

/* Deterministic bytes. */
void trial_fill(uint8_t *at, uint64_t bytes, uint64_t seed);

#endif
