/*
 * store_io.h: the calls by which the page store touches its files. Tests put their own in between
 * to record what is written, to fail it, and to cut the power. It is no path for page data: the
 * store's users read and write that through the file descriptors they are given.
 */
#ifndef KVT_STORE_IO_H
#define KVT_STORE_IO_H

#include <stdint.h>
#include <sys/types.h>

/* Each returns what the call of its name does, or a negative errno. `name` is a file's name within
 * the store's directory `dir`, a file descriptor. */
typedef struct kvt_store_io {
	int (*open)(void *arg, int dir, const char *name, int flags, mode_t mode);
	int (*close)(void *arg, int fd);
	int64_t (*read)(void *arg, int fd, void *data, uint64_t size, uint64_t offset);
	int64_t (*write)(void *arg, int fd, const void *data, uint64_t size, uint64_t offset);
	/* Makes the file `size` bytes long with all of its blocks set aside. */
	int (*allocate)(void *arg, int fd, uint64_t size);
	int (*truncate)(void *arg, int fd, uint64_t size);
	int (*sync)(void *arg, int fd);      /* the file's data and length */
	int (*sync_dir)(void *arg, int dir); /* which names there are */
	int (*unlink)(void *arg, int dir, const char *name);
	int (*rename)(void *arg, int dir, const char *from, const char *to);
	/* Calls `name` for each name in the directory. */
	int (*list)(void *arg, int dir, void (*name)(void *arg, const char *name), void *names);
	int64_t (*size)(void *arg, int fd);
	/* Where the file begins in what `fd` names to others than these calls: 0 but on a device.
	 */
	uint64_t (*base)(void *arg, int fd);
	void *arg;
} kvt_store_io;

/* The system's own. */
extern const kvt_store_io kvt_store_system_io;

/* All of the bytes, whatever pieces the calls move them in. A short read is -ENODATA. */
int kvt_store_read_all(const kvt_store_io *io, int fd, void *data, uint64_t size, uint64_t offset);
int kvt_store_write_all(
	const kvt_store_io *io, int fd, const void *data, uint64_t size, uint64_t offset);

#endif
