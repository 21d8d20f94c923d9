/*
 * io_backend.h: what carries out the commands of emu/io/io_engine.c: io_uring (uring_backend.c) or
 * threads (thread_backend.c). For these three files alone.
 */
#ifndef KVT_IO_BACKEND_H
#define KVT_IO_BACKEND_H

#include <sys/uio.h>

#include "emu/io/io_engine.h"

enum { KVT_IO_IOVECS = 64 };

/* One command: a part of one I/O, or several whole ones. The engine's, in place until reaped. */
typedef struct kvt_io_command {
	kvt_raw_op op;
	int fd, slot;
	uint64_t offset, length;
	struct iovec *vectors; /* what is left of it */
	unsigned n_vectors;
	int result; /* bytes, or a negative errno */
	/* the engine's own */
	kvt_raw_io *ios; /* one that it is a part of, or n_ios whole ones, by their next */
	unsigned n_ios;
	uint64_t moved;
	unsigned attempts;
	struct kvt_io_command *next;
	struct kvt_io_engine *engine;
	struct iovec all[KVT_IO_IOVECS];
} kvt_io_command;

typedef struct kvt_io_backend kvt_io_backend;

typedef struct kvt_io_backend_ops {
	/* Takes a command in; there are never more than queue_depth. */
	void (*prepare)(kvt_io_backend *backend, kvt_io_command *command);
	/* Gives the device what was prepared, and sees what has completed. False when it did not
	 * take all: to be called again. */
	bool (*flush)(kvt_io_backend *backend);
	/* A command that has completed, or NULL. */
	kvt_io_command *(*reap)(kvt_io_backend *backend);
	/* Blocks until reap may find something; or until wake_fd (-1: none) is readable, or `ns`
	 * nanoseconds have passed (< 0: without end). */
	void (*wait)(kvt_io_backend *backend, int wake_fd, int64_t ns);
	/* See kvt_real_source; may be NULL. */
	bool (*arm)(kvt_io_backend *backend);
	void (*cancel)(kvt_io_backend *backend, kvt_io_command *command);
	int (*register_memory)(kvt_io_backend *backend, void *memory, uint64_t bytes);
	void (*unregister_memory)(kvt_io_backend *backend, void *memory);
	int (*register_file)(kvt_io_backend *backend, int slot, int fd);
	void (*free)(kvt_io_backend *backend); /* nothing is at the device */
} kvt_io_backend_ops;

struct kvt_io_backend {
	const kvt_io_backend_ops *ops;
	int wait_fd;
	bool readable;  /* wait_fd was; the backend may clear it */
	bool must_poll; /* of what is under way wait_fd does not tell */
	char *notice;
	kvt_io_stats *stats; /* of the engine */
};

/* NULL with *error set. */
kvt_io_backend *kvt_uring_backend_new(
	const kvt_io_settings *settings, kvt_io_stats *stats, GError **error);
kvt_io_backend *kvt_thread_backend_new(
	const kvt_io_settings *settings, kvt_io_stats *stats, GError **error);

#endif
