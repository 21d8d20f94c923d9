/*
 * cuda_gpu.h: a GPU of gpu.h that is one, through CUDA's runtime. Built into every kvtier; one that
 * was built without CUDA says so when it is asked for a GPU.
 */
#ifndef KVT_CUDA_GPU_H
#define KVT_CUDA_GPU_H

#include <glib.h>

#include "emu/gpu/gpu.h"

typedef struct kvt_cuda_gpu_settings {
	int device;   /* CUDA's number of the card */
	uint64_t cap; /* bytes of device memory at most; 0: what the card has */
} kvt_cuda_gpu_settings;

/* NULL with an error, in one line, without CUDA, without a card, or without the memory of the cap.
 * `settings` may be NULL. Times are the device's own; what a launch of a wait costs is measured
 * here, and taken off. */
kvt_real_gpu *kvt_cuda_gpu_new(const kvt_cuda_gpu_settings *settings, GError **error);

#endif
