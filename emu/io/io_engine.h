/*
 * io_engine.h: asynchronous reads, writes and syncs of files at (file, offset, length, memory),
 * with completions on the real loop. One io_uring does it, or where the system refuses that a few
 * threads with pread and pwrite. It knows bytes and no pages: identity and checksums are its
 * users'.
 *
 * I/Os wait in one queue for each priority class and go to the device as commands, at most
 * queue_depth at a time: neighbours together, long ones cut. What was submitted in one batch of
 * callbacks goes in one system call. Short transfers are resumed, interrupted ones tried again.
 * All of one engine is called on its loop's thread.
 */
#ifndef KVT_IO_ENGINE_H
#define KVT_IO_ENGINE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "sim/base/sim_time.h"
#include "sim/core/bandwidth.h"
#include "sim/core/loop.h"

typedef struct kvt_io_engine kvt_io_engine;
typedef struct kvt_raw_io kvt_raw_io;

typedef enum kvt_raw_op {
	KVT_RAW_READ,
	KVT_RAW_WRITE,
	KVT_RAW_SYNC, /* fdatasync: of writes that have completed */
} kvt_raw_op;

enum { KVT_NO_SLOT = -1 };

/* One I/O. It belongs to the caller and stays where it is until done; then it may be used again. */
struct kvt_raw_io {
	kvt_raw_op op;
	unsigned priority; /* a class of bandwidth.h: 0 is served first */
	int fd;
	int slot; /* that the file was registered at, or KVT_NO_SLOT */
	uint64_t offset, length;
	void *memory;
	void (*done)(kvt_raw_io *io); /* on the loop, once; may submit */
	void *arg;
	/* set before done: 0 when all of it was moved, or -ENODATA (the file ends before),
	 * -ECANCELED, or what the device said */
	int status;
	/* the engine's while the I/O is in flight */
	uint64_t sequence, begun; /* begun: bytes that commands were made for */
	unsigned commands;        /* of these, at the device */
	bool alone;               /* takes no part in coalescing */
	bool cancelled;
	kvt_raw_io *next;
};

typedef enum kvt_io_method {
	KVT_IO_AUTO, /* io_uring, or threads where that is refused */
	KVT_IO_URING,
	KVT_IO_THREADS,
} kvt_io_method;

/* "auto", "uring", "threads", NULL: a word's index is its kvt_io_method. */
extern const char *const kvt_io_method_names[];

/* For tests: what a command came to, bytes or a negative errno, may be made something else that is
 * no more bytes. */
typedef int (*kvt_io_fault)(void *arg, kvt_raw_op op, uint64_t offset, uint64_t length, int result);

typedef struct kvt_io_settings {
	kvt_io_method method;
	unsigned queue_depth;  /* commands at the device at most; 0: 64 */
	uint64_t max_transfer; /* bytes of a command at most, whole blocks; 0: 1 MiB */
	bool no_coalescing;    /* neighbours are not put into one command */
	unsigned patience; /* commands that higher classes may be given while one waits; 0: 16 */
	unsigned reserved; /* commands of queue_depth that only class 0 may use */
	bool sqpoll;       /* a kernel thread looks for commands: no system call to submit */
	bool iopoll; /* completions of reads and writes are polled for: with O_DIRECT, and a device
			with poll queues. What these do not take whole is waited for, and where
			they take nothing kvt_io_engine_notice says so. */
	unsigned threads;   /* of KVT_IO_THREADS; 0: 4 */
	kvt_io_fault fault; /* see kvt_io_engine_set_fault */
	void *fault_arg;
} kvt_io_settings;

/* `settings` may be NULL. An error where the wanted method is refused. */
kvt_io_engine *kvt_io_engine_new(kvt_loop *loop, const kvt_io_settings *settings, GError **error);

/* Waits for what is at the device, drops everything without calling done, and frees the engine. */
void kvt_io_engine_free(kvt_io_engine *engine);

/* KVT_IO_URING or KVT_IO_THREADS. */
kvt_io_method kvt_io_engine_method(const kvt_io_engine *engine);

/* One line why it is threads, or which features of io_uring were refused; NULL: all is as wanted.
 */
const char *kvt_io_engine_notice(const kvt_io_engine *engine);

/* NULL: commands come to what they come to. */
void kvt_io_engine_set_fault(kvt_io_engine *engine, kvt_io_fault fault, void *arg);

/* Queues the I/O. It is begun between this batch of callbacks and the next, or at commit. */
void kvt_io_engine_submit(kvt_io_engine *engine, kvt_raw_io *io);
void kvt_io_engine_commit(kvt_io_engine *engine);

/* Asks for an early end: what waits completes with -ECANCELED, of what is at the device the rest
 * may be left away. The memory is in use until done. */
void kvt_io_engine_cancel(kvt_io_engine *engine, kvt_raw_io *io);

/* Pins memory that I/Os will use, so that the kernel need not each time. 0, or a negative errno
 * (-ENOMEM by RLIMIT_MEMLOCK, -EOPNOTSUPP without io_uring): it can be used all the same. Not
 * overlapping; stays until unregistered or the engine is freed. */
int kvt_io_engine_register_memory(kvt_io_engine *engine, void *memory, uint64_t bytes);
void kvt_io_engine_unregister_memory(kvt_io_engine *engine, void *memory);

/* Puts a file at a slot (below KVT_IO_SLOTS) of the kernel's table, or takes it out (fd -1). 0 or a
 * negative errno; I/Os to a slot without a file use their fd. A file must be taken out before its
 * descriptor is closed and used again. */
enum { KVT_IO_SLOTS = 4096 };
int kvt_io_engine_register_file(kvt_io_engine *engine, int slot, int fd);

typedef struct kvt_io_stats {
	uint64_t ios, bytes;        /* that have succeeded */
	uint64_t commands, calls;   /* given to the device; system calls to give them */
	uint64_t coalesced;         /* I/Os that shared a command with the one before */
	uint64_t resumed, retried;  /* commands that moved a part; that were interrupted */
	uint64_t fixed, fixed_file; /* commands to registered memory; to registered files */
	uint64_t polled, unpolled;  /* asked for with polling; of these, refused so */
	unsigned peak_depth;
} kvt_io_stats;

kvt_io_stats kvt_io_engine_stats(const kvt_io_engine *engine);

#endif
