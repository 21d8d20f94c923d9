/*
 * drive_wear.h: what KV that is written back does to flash: drive writes a day and years of life,
 * from bytes over a time. Arithmetic alone; bytes are a run's.
 */
#ifndef KVT_DRIVE_WEAR_H
#define KVT_DRIVE_WEAR_H

typedef struct kvt_drive_wear {
	double dwpd;  /* writes of a drive's whole capacity a day */
	double years; /* until it has written what it is guaranteed for; infinite without writes */
} kvt_drive_wear;

/*
 * Of `bytes` that the host wrote in `seconds` to `drives` drives of `capacity` bytes each, striped
 * evenly, where the medium sees bytes / compression x amplification; `share` of all time is like
 * this. A drive may be written `endurance` times a day for `warranty` years.
 */
typedef struct kvt_drive_use {
	double bytes, seconds, drives, capacity;
	double compression, amplification, share;
	double endurance, warranty;
} kvt_drive_use;

kvt_drive_wear kvt_drive_wear_of(const kvt_drive_use *use);

#endif
