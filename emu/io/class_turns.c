/* class_turns.c: the first class, or the first that has waited too long. */
#include "emu/io/class_turns.h"

unsigned kvt_class_turns_next(
	kvt_class_turns *turns, unsigned waiting, unsigned may_go, unsigned patience)
{
	unsigned candidates = waiting & may_go;
	if (candidates == 0)
		return KVT_PRIORITY_CLASSES;
	unsigned chosen = (unsigned)__builtin_ctz(candidates);
	for (unsigned i = chosen + 1; i < KVT_PRIORITY_CLASSES; i++) {
		if (candidates & 1u << i && turns->passed[i] >= patience) {
			chosen = i;
			break;
		}
	}
	turns->passed[chosen] = 0;
	for (unsigned i = chosen + 1; i < KVT_PRIORITY_CLASSES; i++)
		turns->passed[i] += waiting >> i & 1;
	return chosen;
}
