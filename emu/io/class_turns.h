/*
 * class_turns.h: which priority class comes next: the first that waits, but for one that has been
 * passed over often enough. It holds no queues.
 */
#ifndef KVT_CLASS_TURNS_H
#define KVT_CLASS_TURNS_H

#include "sim/core/bandwidth.h"

/* All zero before. */
typedef struct kvt_class_turns {
	unsigned passed[KVT_PRIORITY_CLASSES]; /* by higher classes since its last turn */
} kvt_class_turns;

/* Of the classes that wait (bit i: class i) and may go, the one whose turn it is, which is taken to
 * go then; KVT_PRIORITY_CLASSES: none. `patience`: turns of higher ones that a class waits for. */
unsigned kvt_class_turns_next(
	kvt_class_turns *turns, unsigned waiting, unsigned may_go, unsigned patience);

#endif
