/* tier_conformance_random.h: the part of the conformance suite that runs random operations. */
#ifndef TIER_CONFORMANCE_RANDOM_H
#define TIER_CONFORMANCE_RANDOM_H

#include "tests/unit/tier_conformance.h"

void tier_conformance_add_random(const tier_kind *kind);

#endif
