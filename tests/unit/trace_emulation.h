/*
 * trace_emulation.h: small emulations of the trace that trace_reference.h reads, and what is done
 * to them. Not a test itself.
 */
#ifndef TRACE_EMULATION_H
#define TRACE_EMULATION_H

#include "emu/turn/emulation.h"
#include "tests/unit/recording_tier.h"
#include "tests/unit/trace_reference.h"

/* 2,128 tokens are stored, 6 are a prompt and 2 its output; `sets`: "section.key=value" lines. */
bool trace_emulate(const char *sets, const kvt_emulation_hooks *hooks, kvt_emulation_result *result,
	GError **error);

/* The same, which has to be refused for a reason. */
void trace_refused(const char *sets, const char *reason);

/* What happens to pages; a recording's argument. */
typedef struct trace_damage {
	bool drop;
	recording log;
	unsigned countdown; /* of reads, until one is changed */
} trace_damage;

/* For kvt_emulation_hooks: a recording tier (arg: the recording) around the tier. */
kvt_tier *trace_wrap(void *arg, const kvt_tier_env *env, const char *section, kvt_tier *tier);

#endif
