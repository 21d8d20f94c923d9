/* store_io.c: the page store's calls into the system, with errors as negative errnos. */
#include "emu/store/store_io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static int result(int value)
{
	return value < 0 ? -errno : value;
}

static int system_open(void *arg, int dir, const char *name, int flags, mode_t mode)
{
	return result(openat(dir, name, flags | O_CLOEXEC, mode));
}

static int system_close(void *arg, int fd)
{
	return result(close(fd));
}

static int64_t system_read(void *arg, int fd, void *data, uint64_t size, uint64_t offset)
{
	ssize_t got = pread(fd, data, size, (off_t)offset);
	return got < 0 ? -errno : got;
}

static int64_t system_write(void *arg, int fd, const void *data, uint64_t size, uint64_t offset)
{
	ssize_t put = pwrite(fd, data, size, (off_t)offset);
	return put < 0 ? -errno : put;
}

static int system_allocate(void *arg, int fd, uint64_t size)
{
	int status = result(fallocate(fd, 0, 0, (off_t)size));
	/* without it a full file system shows when pages are written, as -ENOSPC to the writer */
	if (status == -EOPNOTSUPP || status == -ENOSYS)
		status = result(ftruncate(fd, (off_t)size));
	return status;
}

static int system_truncate(void *arg, int fd, uint64_t size)
{
	return result(ftruncate(fd, (off_t)size));
}

static int system_sync(void *arg, int fd)
{
	return result(fdatasync(fd));
}

static int system_sync_dir(void *arg, int dir)
{
	return result(fsync(dir));
}

static int system_unlink(void *arg, int dir, const char *name)
{
	return result(unlinkat(dir, name, 0));
}

static int system_rename(void *arg, int dir, const char *from, const char *to)
{
	return result(renameat(dir, from, dir, to));
}

static int system_list(void *arg, int dir, void (*name)(void *arg, const char *name), void *names)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
	if (!list) {
		int status = -errno;
		if (fd >= 0)
			close(fd);
		return status;
	}
	for (struct dirent *entry; (entry = readdir(list)) != NULL;)
		name(names, entry->d_name);
	closedir(list);
	return 0;
}

static int64_t system_size(void *arg, int fd)
{
	/* not by fstat, which says nothing of devices */
	off_t end = lseek(fd, 0, SEEK_END);
	return end < 0 ? -errno : (int64_t)end;
}

static uint64_t system_base(void *arg, int fd)
{
	return 0;
}

const kvt_store_io kvt_store_system_io = {
	.open = system_open,
	.close = system_close,
	.read = system_read,
	.write = system_write,
	.allocate = system_allocate,
	.truncate = system_truncate,
	.sync = system_sync,
	.sync_dir = system_sync_dir,
	.unlink = system_unlink,
	.rename = system_rename,
	.list = system_list,
	.size = system_size,
	.base = system_base,
};

int kvt_store_read_all(const kvt_store_io *io, int fd, void *data, uint64_t size, uint64_t offset)
{
	for (uint64_t done = 0; done < size;) {
		int64_t got =
			io->read(io->arg, fd, (char *)data + done, size - done, offset + done);
		if (got == -EINTR)
			continue;
		if (got < 0)
			return (int)got;
		if (got == 0)
			return -ENODATA;
		done += (uint64_t)got;
	}
	return 0;
}

int kvt_store_write_all(
	const kvt_store_io *io, int fd, const void *data, uint64_t size, uint64_t offset)
{
	for (uint64_t done = 0; done < size;) {
		int64_t put = io->write(
			io->arg, fd, (const char *)data + done, size - done, offset + done);
		if (put == -EINTR)
			continue;
		if (put < 0)
			return (int)put;
		if (put == 0)
			return -EIO;
		done += (uint64_t)put;
	}
	return 0;
}
