/*
 * store_device.c: files of a page store at places of a block device. Their names and lengths are a
 * table that is written whole, in turns at two places and twice at each, so that neither a cut
 * write nor a bad sector takes it along.
 *
 * With sync = data a change of the table is durable when allocate, sync or sync_dir returns, and
 * with sync = none it is written, as the change of a name in a directory is, when the call that
 * made it does.
 */
#include "emu/store/store_device.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "emu/store/store_internal.h"

enum { TABLES_AT = 16 << 10, MIB = 1 << 20, NO_JOURNAL = 2, NO_PLACE = -1 };

/* An open file. */
typedef struct region {
	int fd;
	uint64_t base, bytes; /* that there is room for */
	int64_t place;        /* of a segment, or NO_PLACE */
} region;

struct kvt_store_device {
	kvt_store_io io;
	const kvt_store_io *below;
	char *path;
	int fd;
	uint64_t bytes;
	bool durable; /* sync = data */
	uint64_t key, segment_bytes, table_bytes, journal_at, half_bytes, places_at;
	pthread_mutex_t lock; /* of what follows */
	kvt_store_table table;
	bool dirty;      /* the table has changed since it was written */
	GArray *regions; /* by descriptor; fd -1: not open */
};

/* --- Where things lie --- */

static uint64_t count_places(const kvt_store_shape *shape)
{
	uint64_t fixed = KVT_STORE_FILE_BLOCKS * KVT_STORE_BLOCK + kvt_store_journal_room(shape);
	return shape->capacity > fixed ? (shape->capacity - fixed) / shape->segment_bytes : 0;
}

static uint64_t find_places(const kvt_store_shape *shape)
{
	uint64_t end = TABLES_AT + 4 * kvt_store_table_bytes(count_places(shape)) +
		       kvt_store_journal_room(shape);
	return (end + MIB - 1) / MIB * MIB;
}

uint64_t kvt_store_device_needs(const kvt_store_shape *shape)
{
	return find_places(shape) + count_places(shape) * shape->segment_bytes;
}

static void lay_out(kvt_store_device *device, const kvt_store_shape *shape)
{
	device->durable = shape->sync == KVT_STORE_SYNC_DATA;
	device->key = shape->key;
	device->segment_bytes = shape->segment_bytes;
	device->table = (kvt_store_table){ .n = count_places(shape), .journal = NO_JOURNAL };
	device->table.places = g_new0(kvt_store_place, device->table.n);
	device->table_bytes = kvt_store_table_bytes(device->table.n);
	device->journal_at = TABLES_AT + 4 * device->table_bytes;
	device->half_bytes = kvt_store_journal_room(shape) / 2;
	device->places_at = find_places(shape);
}

/* --- The table --- */

static int write_table(kvt_store_device *device)
{
	uint64_t bytes = device->table_bytes;
	uint64_t at = TABLES_AT + (device->table.sequence + 1) % 2 * 2 * bytes;
	uint8_t *blocks = kvt_store_buffer_new(2 * bytes);
	device->table.sequence++;
	kvt_store_table_encode(device->key, &device->table, blocks);
	memcpy(blocks + bytes, blocks, bytes);
	int status = kvt_store_write_all(device->below, device->fd, blocks, 2 * bytes, at);
	if (status == 0 && device->durable)
		status = device->below->sync(device->below->arg, device->fd);
	free(blocks);
	/* the next attempt goes to the same place: the other one is what counts */
	if (status < 0)
		device->table.sequence--;
	device->dirty = status < 0;
	return status;
}

/* After a change; `now`: it has to be durable where the store is to be. */
static int note_change(kvt_store_device *device, bool now)
{
	device->dirty = true;
	return now || !device->durable ? write_table(device) : 0;
}

static int write_if_dirty(kvt_store_device *device)
{
	pthread_mutex_lock(&device->lock);
	int status = device->dirty ? write_table(device) : 0;
	pthread_mutex_unlock(&device->lock);
	return status;
}

/* --- Files --- */

/* The open file, a copy; there is one, since the store opened it. */
static region region_of(kvt_store_device *device, int fd)
{
	pthread_mutex_lock(&device->lock);
	g_assert(fd >= 0 && (guint)fd < device->regions->len);
	region r = g_array_index(device->regions, region, fd);
	pthread_mutex_unlock(&device->lock);
	g_assert(r.fd == fd);
	return r;
}

static int64_t place_of(const kvt_store_device *device, uint64_t number)
{
	for (uint64_t i = 0; i < device->table.n; i++)
		if (device->table.places[i].number == number)
			return (int64_t)i;
	return NO_PLACE;
}

/* Where the file of that name lies; 0, *made: the name has been added. */
static int find_region(
	kvt_store_device *device, const char *name, int flags, region *found, bool *made)
{
	uint32_t journal = device->table.journal;
	bool new_journal = strcmp(name, KVT_STORE_JOURNAL KVT_STORE_NEW) == 0;
	*made = false;
	if (g_str_has_prefix(name, KVT_STORE_FILE)) {
		*found = (region){ 0, 0, KVT_STORE_FILE_BLOCKS * KVT_STORE_BLOCK, NO_PLACE };
		return 0;
	}
	if (new_journal || strcmp(name, KVT_STORE_JOURNAL) == 0) {
		if (!new_journal && journal == NO_JOURNAL)
			return -ENOENT;
		uint32_t half = new_journal ? journal == 0 : journal;
		*found = (region){ 0, device->journal_at + half * device->half_bytes,
			device->half_bytes, NO_PLACE };
		return 0;
	}
	uint64_t number = g_ascii_strtoull(name, NULL, 16);
	int64_t place = place_of(device, number);
	if (place != NO_PLACE && (flags & O_EXCL))
		return -EEXIST;
	if (place == NO_PLACE) {
		if (!(flags & O_CREAT))
			return -ENOENT;
		place = place_of(device, 0);
		if (place == NO_PLACE)
			return -ENOSPC;
		device->table.places[place] = (kvt_store_place){ number, 0 };
		*made = true;
	}
	*found = (region){ 0, device->places_at + (uint64_t)place * device->segment_bytes,
		device->segment_bytes, place };
	return 0;
}

static int device_open(void *arg, int dir, const char *name, int flags, mode_t mode)
{
	kvt_store_device *device = arg;
	const kvt_store_io *below = device->below;
	region r;
	bool made;
	pthread_mutex_lock(&device->lock);
	int status = find_region(device, name, flags, &r, &made);
	int fd = status;
	if (status == 0)
		fd = below->open(below->arg, AT_FDCWD, device->path,
			flags & ~(O_CREAT | O_EXCL | O_TRUNC), 0);
	if (fd >= 0 && made && (status = note_change(device, false)) < 0) {
		below->close(below->arg, fd);
		fd = status;
	}
	if (fd < 0 && made)
		device->table.places[r.place] = (kvt_store_place){ 0 };
	if (fd >= 0) {
		for (region none = { .fd = -1 }; device->regions->len <= (guint)fd;)
			g_array_append_val(device->regions, none);
		r.fd = fd;
		g_array_index(device->regions, region, fd) = r;
	}
	pthread_mutex_unlock(&device->lock);
	return fd;
}

static int device_close(void *arg, int fd)
{
	kvt_store_device *device = arg;
	pthread_mutex_lock(&device->lock);
	g_array_index(device->regions, region, fd).fd = -1;
	pthread_mutex_unlock(&device->lock);
	return device->below->close(device->below->arg, fd);
}

static int64_t device_size(void *arg, int fd)
{
	kvt_store_device *device = arg;
	region r = region_of(device, fd);
	if (r.place == NO_PLACE)
		return (int64_t)r.bytes;
	pthread_mutex_lock(&device->lock);
	uint64_t bytes = device->table.places[r.place].bytes;
	pthread_mutex_unlock(&device->lock);
	return (int64_t)bytes;
}

static uint64_t device_base(void *arg, int fd)
{
	return region_of(arg, fd).base;
}

static int64_t device_read(void *arg, int fd, void *data, uint64_t size, uint64_t offset)
{
	kvt_store_device *device = arg;
	uint64_t end = (uint64_t)device_size(arg, fd);
	if (offset >= end)
		return 0;
	return device->below->read(device->below->arg, fd, data, MIN(size, end - offset),
		region_of(device, fd).base + offset);
}

static int64_t device_write(void *arg, int fd, const void *data, uint64_t size, uint64_t offset)
{
	kvt_store_device *device = arg;
	region r = region_of(device, fd);
	if (offset > r.bytes || size > r.bytes - offset)
		return -ENOSPC;
	/* a table that could not be written is on the device in part: nothing may build on it */
	int status = device->durable ? 0 : write_if_dirty(device);
	if (status < 0)
		return status;
	return device->below->write(device->below->arg, fd, data, size, r.base + offset);
}

static int resize(kvt_store_device *device, int fd, uint64_t size, bool now)
{
	region r = region_of(device, fd);
	g_assert(r.place != NO_PLACE);
	if (size > r.bytes)
		return -EFBIG;
	pthread_mutex_lock(&device->lock);
	kvt_store_place *place = &device->table.places[r.place];
	uint64_t before = place->bytes;
	place->bytes = size;
	int status = size == before && !device->dirty ? 0 : note_change(device, now);
	if (status < 0)
		place->bytes = before;
	pthread_mutex_unlock(&device->lock);
	return status;
}

static int device_allocate(void *arg, int fd, uint64_t size)
{
	/* at once: those who write sync what they wrote, and nothing else */
	return resize(arg, fd, size, true);
}

static int device_truncate(void *arg, int fd, uint64_t size)
{
	return resize(arg, fd, size, false);
}

static int device_sync(void *arg, int fd)
{
	kvt_store_device *device = arg;
	int status = write_if_dirty(device);
	return status < 0 ? status : device->below->sync(device->below->arg, fd);
}

static int device_sync_dir(void *arg, int dir)
{
	kvt_store_device *device = arg;
	return device_sync(arg, device->fd);
}

static int device_unlink(void *arg, int dir, const char *name)
{
	kvt_store_device *device = arg;
	uint64_t number = g_ascii_strtoull(name, NULL, 16);
	if (!g_str_has_suffix(name, KVT_STORE_SEGMENT_SUFFIX))
		return 0;
	pthread_mutex_lock(&device->lock);
	int64_t place = place_of(device, number);
	int status = place == NO_PLACE ? -ENOENT : 0;
	if (status == 0) {
		kvt_store_place before = device->table.places[place];
		device->table.places[place] = (kvt_store_place){ 0 };
		status = note_change(device, false);
		if (status < 0)
			device->table.places[place] = before;
	}
	pthread_mutex_unlock(&device->lock);
	return status;
}

static int device_rename(void *arg, int dir, const char *from, const char *to)
{
	kvt_store_device *device = arg;
	if (strcmp(to, KVT_STORE_JOURNAL) != 0)
		return 0; /* the superblock is where it is */
	pthread_mutex_lock(&device->lock);
	uint32_t before = device->table.journal;
	device->table.journal = before == 0;
	int status = note_change(device, true);
	if (status < 0)
		device->table.journal = before;
	pthread_mutex_unlock(&device->lock);
	return status;
}

static int device_list(void *arg, int dir, void (*name)(void *arg, const char *name), void *names)
{
	kvt_store_device *device = arg;
	for (uint64_t i = 0; i < device->table.n; i++) {
		uint64_t number = device->table.places[i].number;
		g_autofree char *text = number > 0 ? kvt_store_segment_name(number) : NULL;
		if (text)
			name(names, text);
	}
	return 0;
}

/* --- The device --- */

int kvt_store_device_open(
	const char *path, const kvt_store_io *below, bool read_only, kvt_store_device **device)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return -errno;
	int alone = S_ISBLK(st.st_mode) && !read_only ? O_EXCL : 0;
	int fd =
		below->open(below->arg, AT_FDCWD, path, (read_only ? O_RDONLY : O_RDWR) | alone, 0);
	if (fd < 0)
		return fd;
	int64_t bytes = below->size(below->arg, fd);
	if (bytes < 0) {
		below->close(below->arg, fd);
		return (int)bytes;
	}
	kvt_store_device *d = g_new0(kvt_store_device, 1);
	pthread_mutex_init(&d->lock, NULL);
	d->below = below;
	d->path = g_strdup(path);
	d->fd = fd;
	d->bytes = (uint64_t)bytes / KVT_STORE_BLOCK * KVT_STORE_BLOCK;
	d->regions = g_array_new(FALSE, FALSE, sizeof(region));
	d->io = (kvt_store_io){ .open = device_open,
		.close = device_close,
		.read = device_read,
		.write = device_write,
		.allocate = device_allocate,
		.truncate = device_truncate,
		.sync = device_sync,
		.sync_dir = device_sync_dir,
		.unlink = device_unlink,
		.rename = device_rename,
		.list = device_list,
		.size = device_size,
		.base = device_base,
		.arg = d };
	*device = d;
	return 0;
}

void kvt_store_device_free(kvt_store_device *device)
{
	if (!device)
		return;
	device->below->close(device->below->arg, device->fd);
	pthread_mutex_destroy(&device->lock);
	g_array_free(device->regions, TRUE);
	g_free(device->table.places);
	g_free(device->path);
	g_free(device);
}

const kvt_store_io *kvt_store_device_io(kvt_store_device *device)
{
	return &device->io;
}

uint64_t kvt_store_device_bytes(const kvt_store_device *device)
{
	return device->bytes;
}

/* The beginning and the end, of a MiB each, or less of a short device. */
static int at_both_ends(kvt_store_device *device, uint8_t *data,
	int (*act)(kvt_store_device *device, uint8_t *data, uint64_t size, uint64_t at))
{
	uint64_t size = MIN(device->bytes, MIB);
	int status = act(device, data, size, 0);
	return status == 0 ? act(device, data, size, device->bytes - size) : status;
}

static int find_data(kvt_store_device *device, uint8_t *data, uint64_t size, uint64_t at)
{
	int status = kvt_store_read_all(device->below, device->fd, data, size, at);
	for (uint64_t i = 0; i < size && status == 0; i++)
		status = data[i] != 0;
	return status;
}

static int write_zeros(kvt_store_device *device, uint8_t *data, uint64_t size, uint64_t at)
{
	return kvt_store_write_all(device->below, device->fd, data, size, at);
}

int kvt_store_device_blank(kvt_store_device *device)
{
	uint8_t *data = kvt_store_buffer_new(MIB);
	int status = at_both_ends(device, data, find_data);
	free(data);
	return status < 0 ? status : !status;
}

int kvt_store_device_format(kvt_store_device *device, const kvt_store_shape *shape)
{
	uint8_t *zeros = kvt_store_buffer_new0(MIB);
	int status = at_both_ends(device, zeros, write_zeros);
	free(zeros);
	/* whatever it was, it is no longer, before anything new is there */
	if (status == 0)
		status = device->below->sync(device->below->arg, device->fd);
	lay_out(device, shape);
	for (unsigned i = 0; i < 2 && status == 0; i++)
		status = write_table(device);
	return status == 0 ? device->below->sync(device->below->arg, device->fd) : status;
}

/* Whether one of the two copies of a table is good; it is the device's then. */
static bool read_table(kvt_store_device *device, unsigned which)
{
	uint64_t bytes = device->table_bytes;
	uint8_t *blocks = kvt_store_buffer_new(bytes);
	bool good = false;
	for (unsigned copy = 0; copy < 2 && !good; copy++)
		good = kvt_store_read_all(device->below, device->fd, blocks, bytes,
			       TABLES_AT + (2 * which + copy) * bytes) == 0 &&
		       kvt_store_table_decode(device->key, blocks, &device->table);
	free(blocks);
	return good;
}

int kvt_store_device_attach(kvt_store_device *device, const kvt_store_shape *shape)
{
	if (device->bytes < kvt_store_device_needs(shape))
		return -ENOSPC;
	lay_out(device, shape);
	bool even = read_table(device, 0);
	uint64_t sequence = device->table.sequence;
	bool odd = read_table(device, 1);
	if (even && odd && sequence > device->table.sequence)
		read_table(device, 0);
	return even || odd ? 0 : -EBADMSG;
}
