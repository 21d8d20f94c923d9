/*
 * processor_use.h: what processors have done, as Linux tells: all of the machine's, and how long
 * the calling thread was kept from them. Seconds since some moment: differences are what counts.
 */
#ifndef KVT_PROCESSOR_USE_H
#define KVT_PROCESSOR_USE_H

/* By all programs and by the kernel, interrupts included, on all processors together: the time less
 * what they were idle. In steps of 10 ms. NAN where the system does not say. */
double kvt_processors_busy(void);

/* That this thread was ready and had no processor. 0 where the system does not say. */
double kvt_processor_waited(void);

#endif
