/*
 * fabric_faults.h: the part of the conformance suite about what may not be done and what goes
 * wrong.
 */
#ifndef FABRIC_FAULTS_H
#define FABRIC_FAULTS_H

#include "tests/unit/fabric_trial.h"

void fabric_faults_add(const fabric_kind *kind);

#endif
