/*
 * tiny_model.h: a language model that computes in milliseconds, and experiments with it, for tests
 * of turns in real time.
 */
#ifndef TINY_MODEL_H
#define TINY_MODEL_H

#include "sim/engine/experiment.h"

/* Writes the model's file into a new folder; and removes both. 3 layers of 2 KV heads with 4 query
 * heads each, head_dim 64. */
void tiny_model_make(void);
void tiny_model_remove(void);

/* Turn 2 of 600 tokens (592 in whole pages of 16), a prompt of 20 and an output of 3, KV in that
 * format; `more`: further sections. */
kvt_experiment *tiny_experiment(const char *format, const char *more);

/* Leaves its GPU room for so many bytes of KV. */
void tiny_limit_memory(kvt_experiment *experiment, uint64_t bytes);

#endif
