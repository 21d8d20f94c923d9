/* calibrate_rows.h: rows of what `kvtier calibrate` prints: a part, what, a value with its unit,
 * the spread and the source. */
#ifndef KVT_CALIBRATE_ROWS_H
#define KVT_CALIBRATE_ROWS_H

#include "emu/calibrate/calibration.h"
#include "sim/base/output.h"
#include "sim/base/units.h"

void kvt_calibrate_row(kvt_table *table, const char *part, const char *what, double value,
	kvt_unit unit, double spread, const char *source);

/* Half the distance of the least and the largest repeat, as a share. */
double kvt_calibrate_spread(const kvt_measured *m);

/* All of a GPU. */
void kvt_calibrate_gpu_rows(kvt_table *table, const kvt_gpu_calibration *gpu);

#endif
