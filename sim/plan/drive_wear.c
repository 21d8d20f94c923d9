/* drive_wear.c: bytes written over capacity and time. */
#include "sim/plan/drive_wear.h"

#include <math.h>

kvt_drive_wear kvt_drive_wear_of(const kvt_drive_use *use)
{
	kvt_drive_wear wear = { .years = INFINITY };
	double capacity = use->drives * use->capacity;
	if (capacity <= 0 || use->seconds <= 0)
		return wear;
	double days = use->seconds / 86400;
	double written = use->bytes / use->compression * use->amplification * use->share;
	wear.dwpd = written / capacity / days;
	if (wear.dwpd > 0)
		wear.years = use->endurance * use->warranty / wear.dwpd;
	return wear;
}
