/*
 * cuda_fixture.h: what tests of CUDA kernels share: whether there is a device, memory of it with
 * something in it, and numbers at random. No test is here.
 */
#ifndef CUDA_FIXTURE_H
#define CUDA_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

/* Whether the test can run; else it is skipped and says why. */
bool cuda_fixture_ready(void);

/* Device memory with a copy of host[bytes]; NULL: every byte is 0xff, which is NaN. */
void *cuda_fixture_put(const void *host, size_t bytes);
/* Pinned memory of the host, which the device reaches under the same address. */
void *cuda_fixture_pinned(size_t bytes);
/* Copies from the device when all that was queued is over; false, and the test has failed and says
 * so with `what`, where something went wrong. */
bool cuda_fixture_get(void *host, const void *device, size_t bytes, const char *what);
void cuda_fixture_free(void *device);
void cuda_fixture_unpin(void *pinned);

/* The test has failed, says what and goes on; for main to allow it, cuda_fixture_init. */
void cuda_fixture_failed(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* g_test_init; one failure stops neither its test nor those after it. */
void cuda_fixture_init(int *argc, char ***argv);

/* Normal numbers, that the counter decides. */
float cuda_fixture_normal(uint64_t counter);

#endif
