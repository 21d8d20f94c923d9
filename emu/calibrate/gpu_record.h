/* gpu_record.h: what was measured of a GPU, in a calibration's record. For the files of calibration
 * alone. */
#ifndef KVT_GPU_RECORD_H
#define KVT_GPU_RECORD_H

#include "emu/calibrate/gpu_calibration.h"
#include "emu/calibrate/record_fields.h"

/* A new reference. */
json_t *kvt_gpu_calibration_to_json(const kvt_gpu_calibration *gpu);

/* Never NULL; what is missing or impossible is the taker's error. */
kvt_gpu_calibration *kvt_take_gpu_calibration(kvt_taker *t, const json_t *value);

#endif
