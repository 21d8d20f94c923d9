/*
 * sim_time.h: the one clock type of kvtier, integer picoseconds.
 * Both worlds use it: virtual time starts at 0, real time counts from the start of the run.
 * An int64_t holds 106 days of picoseconds; conversions saturate instead of wrapping.
 */
#ifndef KVT_SIM_TIME_H
#define KVT_SIM_TIME_H

#include <math.h>
#include <stdint.h>

typedef int64_t kvt_time;

#define KVT_PICOSECOND ((kvt_time)1)
#define KVT_NANOSECOND ((kvt_time)1000)
#define KVT_MICROSECOND ((kvt_time)1000000)
#define KVT_MILLISECOND ((kvt_time)1000000000)
#define KVT_SECOND ((kvt_time)1000000000000)
#define KVT_TIME_NEVER INT64_MAX

/* Seconds to picoseconds, rounded to nearest; NaN and negatives become 0, overflow NEVER. */
static inline kvt_time kvt_time_from_seconds(double seconds)
{
	if (!(seconds > 0.0))
		return 0;
	if (seconds >= 9.0e6)
		return KVT_TIME_NEVER;
	return (kvt_time)llrint(seconds * 1e12);
}

static inline double kvt_time_to_seconds(kvt_time t)
{
	return (double)t * 1e-12;
}

/*
 * Time that `bytes` take at `bytes_per_second`, rounded up to a picosecond so that a transfer is
 * never faster than its link. A rate of 0 means infinitely fast.
 */
static inline kvt_time kvt_time_for_bytes(uint64_t bytes, double bytes_per_second)
{
	if (bytes_per_second <= 0.0 || bytes == 0)
		return 0;
	double ps = ceil((double)bytes / bytes_per_second * 1e12);
	return ps >= 9.0e18 ? KVT_TIME_NEVER : (kvt_time)ps;
}

#endif
