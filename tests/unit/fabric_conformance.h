/*
 * fabric_conformance.h: the contract of emu/fabric/fabric.h as tests that run over every kind of
 * fabric. A kind says how to make two hosts that reach each other, and which faults it can make;
 * the suite knows nothing of what is between them. Nothing measures speed.
 */
#ifndef FABRIC_CONFORMANCE_H
#define FABRIC_CONFORMANCE_H

#include "emu/fabric/fabric.h"

/* Two hosts on one loop: `near` connects, `far` listens. */
typedef struct fabric_pair {
	kvt_loop *loop; /* a real loop */
	kvt_fabric *near, *far;
	const char *far_address;    /* that near reaches far at; far listens there too */
	const char *second_address; /* of far, of the other address family; NULL: it has none */
	void *more;                 /* the kind's own */
} fabric_pair;

typedef struct fabric_kind {
	const char *name;
	/* Makes the pair. NULL, or one line why there can be none here: the tests skip. */
	const char *(*make)(fabric_pair *pair);
	/* Frees what make made; everything of the fabrics has been freed. */
	void (*free)(fabric_pair *pair);
	/* Faults; NULL: the kind has no such. */
	void (*cut)(fabric_pair *pair);  /* nothing passes from now on, and nobody is told */
	void (*mend)(fabric_pair *pair); /* all passes again */
	/* The link goes down or comes up at the far end; the hosts may be told. */
	void (*link)(fabric_pair *pair, bool up);
} fabric_kind;

/* Adds the suite for one kind to g_test, under /fabric/NAME; `kind` must outlive the run. */
void fabric_conformance_add(const fabric_kind *kind);

#endif
