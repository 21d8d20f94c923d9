/*
 * calibration_fixture.h: records of calibrations for their tests. Not a test itself.
 */
#ifndef CALIBRATION_FIXTURE_H
#define CALIBRATION_FIXTURE_H

#include "emu/calibrate/calibration.h"

/* The calibration's record; the caller frees it. */
char *calibration_text(const kvt_calibration *calibration);

/* What its record is read as, whose own record is the same. */
kvt_calibration *calibration_read_again(const kvt_calibration *calibration);

#endif
