/*
 * emulated_gpu.h: the GPU of an emulated turn, if [emulation] asks for one: the card, the tier that
 * brings pages into its memory, and the device that the engine is given. The turn is emulation.h's.
 */
#ifndef KVT_EMULATED_GPU_H
#define KVT_EMULATED_GPU_H

#include "emu/gpu/gpu_device.h"
#include "emu/turn/emulation.h"

typedef struct kvt_emulated_gpu {
	kvt_real_gpu *gpu; /* NULL: there is none, and nothing else here counts */
	kvt_cuda_precision precision;
	kvt_upload_settings upload;
	kvt_tier *inner, *uploads; /* of the turn: the tier, and what is around it */
	int status;                /* 0, or a negative errno: it failed */
} kvt_emulated_gpu;

/* Finds the GPU, the hooks' or CUDA's, where the settings ask for one, and notes in *result what it
 * is. False with an error when there is none, or the experiment is not for one. */
bool kvt_emulated_gpu_find(kvt_emulated_gpu *gpu, const kvt_emulation_settings *settings,
	const kvt_experiment *experiment, const kvt_emulation_hooks *hooks,
	kvt_emulation_result *result, GError **error);

/* Notes in *result how much of its memory was taken, and lets it go. */
void kvt_emulated_gpu_release(kvt_emulated_gpu *gpu, kvt_emulation_result *result);

/* The tier around `inner` that brings its pages there; NULL with an error, and `inner` is closed
 * then. */
kvt_tier *kvt_emulated_gpu_wrap(
	kvt_emulated_gpu *gpu, const kvt_tier_env *env, kvt_tier *inner, GError **error);

/* `shown`: who looks at results, and of which. */
kvt_device *kvt_emulated_gpu_open(kvt_emulated_gpu *gpu, const kvt_system *system,
	const kvt_kv_source *source, const kvt_gpu_attention_settings *shown, GError **error);

bool kvt_emulated_gpu_commit(kvt_emulated_gpu *gpu, kvt_device *device, uint64_t resident,
	uint64_t newest, GError **error);

/* After a turn: `done`, unless the GPU failed; then false and the error that says so. */
bool kvt_emulated_gpu_check(
	const kvt_emulated_gpu *gpu, const kvt_emulation_result *result, bool done, GError **error);

/* What of its outputs a GPU may be off by its arithmetic (kvt_attention_errors); 0 without one. */
double kvt_emulated_gpu_bound(const kvt_emulated_gpu *gpu);

#endif
