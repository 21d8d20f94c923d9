/* gpu_profile.h: a calibrated GPU as parts of the model files. For the files of calibration alone.
 */
#ifndef KVT_GPU_PROFILE_H
#define KVT_GPU_PROFILE_H

#include "emu/calibrate/gpu_calibration.h"

/* [gpu] of a calibration of one: what was measured, and the datasheet's figures for the rest. False
 * with an error when there is no such datasheet. */
gboolean kvt_gpu_profile_text(const kvt_calibration *c, GString *text, GError **error);

/* Keys of [host]: the link to the GPU and copies over it. */
gboolean kvt_gpu_profile_links(const kvt_calibration *c, GString *text, GError **error);

/* Keys of [dram]: what a copy of few bytes takes, and that copies are in turn. */
void kvt_gpu_profile_memory(const kvt_calibration *c, GString *text);

#endif
