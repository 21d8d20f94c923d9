/*
 * profile_text.h: lines "key = value" of the model files that a calibration is written as. For the
 * files of calibration alone.
 */
#ifndef KVT_PROFILE_TEXT_H
#define KVT_PROFILE_TEXT_H

#include "emu/calibrate/calibration.h"

/* In a C format. */
void kvt_put(GString *text, const char *key, double value, const char *format);
void kvt_put_rate(GString *text, const char *key, double value);
void kvt_put_time(GString *text, const char *key, double value);
void kvt_put_frequency(GString *text, const char *key, double value);
void kvt_put_share(GString *text, const char *key, double value);
void kvt_put_bytes(GString *text, const char *key, uint64_t bytes);
/* KEY.uncertainty */
void kvt_put_uncertainty(GString *text, const char *key, double value);
/* KEY.source of what was measured, and how far repeats were apart. */
void kvt_put_measured(GString *text, const char *key, const char *how, double uncertainty);

/* Half the distance of the least and the largest repeat, as a share. */
double kvt_measured_spread(const kvt_measured *m);

#endif
