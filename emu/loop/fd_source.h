/*
 * fd_source.h: a descriptor that the real loop looks at, for what is seldom ready and in no hurry:
 * a socket that few connect to, a signalfd. A busy loop looks every millisecond, one that sleeps
 * wakes.
 */
#ifndef KVT_FD_SOURCE_H
#define KVT_FD_SOURCE_H

#include "emu/loop/real_loop.h"

/* Belongs to the caller, and stays until it is removed. */
typedef struct kvt_fd_source {
	kvt_real_source source;
	kvt_loop *loop;
	int fd;
	void (*ready)(void *arg); /* on the loop, as long as the descriptor is readable */
	void *arg;
	kvt_event pending;
	kvt_time looked;
} kvt_fd_source;

void kvt_fd_source_add(
	kvt_fd_source *source, kvt_loop *loop, int fd, void (*ready)(void *arg), void *arg);

/* The descriptor stays the caller's, to close. */
void kvt_fd_source_remove(kvt_fd_source *source);

#endif
