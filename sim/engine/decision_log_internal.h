/*
 * decision_log_internal.h: what decision_log.c (lines, and whose turn it is) and decision_world.c
 * (the loop, tier and device that an engine sees) share. For these two alone.
 */
#ifndef KVT_DECISION_LOG_INTERNAL_H
#define KVT_DECISION_LOG_INTERNAL_H

#include "sim/engine/decision_log.h"
#include "sim/tier/resubmit.h"

/* A request that has not been answered yet. */
typedef struct kvt_decision_request {
	kvt_decision_log *log;
	uint64_t line;
	bool ready; /* the world has answered, and it is not its turn yet */
	kvt_callback callback;
	void *arg;
	kvt_event event; /* of a timer */
	kvt_io *io;      /* whose own end is while the log's is in its place: */
	void (*done)(kvt_io *io);
	void *done_arg;
	int status;
	GList held; /* in log->held, when ready */
} kvt_decision_request;

typedef struct kvt_decision_loop {
	kvt_loop base;
	kvt_loop *inner;
	kvt_decision_log *log;
} kvt_decision_loop;

typedef struct kvt_decision_tier {
	kvt_tier base;
	kvt_tier_ops ops;
	kvt_tier *inner;
	kvt_decision_log *log;
	kvt_resubmit waiting; /* refused, when following */
} kvt_decision_tier;

typedef struct kvt_decision_device {
	kvt_device base;
	kvt_device *inner;
	kvt_decision_log *log;
} kvt_decision_device;

struct kvt_decision_log {
	bool follows;
	char *name;
	GString *text;
	size_t at;            /* where the next line begins, when following */
	uint64_t line;        /* lines so far */
	char *difference;     /* the first one; NULL: none */
	uint64_t differs_at;  /* its line */
	GHashTable *requests; /* kvt_decision_request that are not answered, by line */
	GQueue held;
	bool delivering;
	kvt_decision_counts count;
	kvt_decision_loop loop;
	kvt_decision_tier tier;
	kvt_decision_device device;
};

/* Writes a request down, or compares it with the recorded one; *refused (may be NULL) is what it
 * was when following. Returns the number of its line. */
uint64_t kvt_decision_ask(kvt_decision_log *log, const char *request, bool *refused);

/* The request on that line, to be answered. */
kvt_decision_request *kvt_decision_expect(kvt_decision_log *log, uint64_t line);

/* One that will not be answered any more. */
void kvt_decision_forget(kvt_decision_request *request);

/* The world's answer: on the loop. Hands it on, now or when its turn has come. */
void kvt_decision_answer(kvt_decision_request *request, int status);

/* Nothing is under way in the world any more. True when answers were held back for others that did
 * not come: they have been handed on. */
bool kvt_decision_idle(kvt_decision_log *log);

#endif
