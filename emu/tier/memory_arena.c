/* memory_arena.c: the mapping, and free ranges in a sorted array: those of long runs are few. */
#include "emu/tier/memory_arena.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sim/base/error.h"

const char *const kvt_huge_page_names[] = { "no", "transparent", "reserved", NULL };

/* MPOL_BIND of the kernel's mbind, without libnuma. */
enum { POLICY_BIND = 2, NODES = 1024, HUGE_BYTES = 2 << 20 };

typedef struct free_range {
	uint64_t offset, bytes;
} free_range;

struct kvt_arena {
	uint8_t *base;
	uint64_t bytes;
	GArray *ranges; /* by offset; neighbours are one */
};

static gboolean bind_to(kvt_arena *arena, int node, GError **error)
{
	unsigned long mask[NODES / (8 * sizeof(unsigned long))] = { 0 };
	unsigned bits = 8 * sizeof(unsigned long);
	if (node < 0)
		return TRUE;
	if (node >= NODES)
		return kvt_error_usage(error, "node: %d, expected below %d", node, NODES);
	mask[(unsigned)node / bits] |= 1ul << (unsigned)node % bits;
	if (syscall(SYS_mbind, arena->base, arena->bytes, POLICY_BIND, mask, NODES + 1ul, 0u) == 0)
		return TRUE;
	return kvt_error_failed(
		error, "node: memory cannot be bound to node %d: %s", node, g_strerror(errno));
}

static gboolean prepare(
	kvt_arena *arena, kvt_huge_pages huge, bool pinned, int node, GError **error)
{
	if (!bind_to(arena, node, error))
		return FALSE;
	if (huge == KVT_HUGE_TRANSPARENT && madvise(arena->base, arena->bytes, MADV_HUGEPAGE) < 0)
		return kvt_error_failed(
			error, "huge: transparent huge pages are refused: %s", g_strerror(errno));
	if (pinned && mlock(arena->base, arena->bytes) < 0)
		return kvt_error_failed(error,
			"pinned: %" G_GUINT64_FORMAT
			" bytes cannot be locked in memory: %s; see ulimit -l",
			arena->bytes, g_strerror(errno));
	return TRUE;
}

kvt_arena *kvt_arena_new(uint64_t bytes, kvt_huge_pages huge, bool pinned, int node, GError **error)
{
	kvt_arena *arena = g_new0(kvt_arena, 1);
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	flags |= huge == KVT_HUGE_RESERVED ? MAP_HUGETLB : 0;
	arena->bytes = (bytes + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
	arena->ranges = g_array_new(FALSE, FALSE, sizeof(free_range));
	const free_range all = { 0, arena->bytes };
	g_array_append_val(arena->ranges, all);
	void *base = mmap(NULL, arena->bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
	arena->base = base == MAP_FAILED ? NULL : base;
	if (!arena->base)
		kvt_error_failed(error, "%s: %" G_GUINT64_FORMAT " bytes of memory: %s",
			huge == KVT_HUGE_RESERVED ? "huge" : "capacity", arena->bytes,
			g_strerror(errno));
	if (!arena->base || !prepare(arena, huge, pinned, node, error)) {
		kvt_arena_free(arena);
		return NULL;
	}
	return arena;
}

void kvt_arena_free(kvt_arena *arena)
{
	if (!arena)
		return;
	if (arena->base)
		munmap(arena->base, arena->bytes);
	g_array_unref(arena->ranges);
	g_free(arena);
}

uint8_t *kvt_arena_base(const kvt_arena *arena)
{
	return arena->base;
}

uint64_t kvt_arena_bytes(const kvt_arena *arena)
{
	return arena->bytes;
}

uint64_t kvt_arena_take(kvt_arena *arena, uint64_t unit, uint64_t n, uint64_t *offset)
{
	for (guint i = 0; i < arena->ranges->len; i++) {
		free_range *range = &g_array_index(arena->ranges, free_range, i);
		uint64_t units = MIN(range->bytes / unit, n);
		if (units == 0)
			continue;
		*offset = range->offset;
		range->offset += units * unit;
		range->bytes -= units * unit;
		if (range->bytes == 0)
			g_array_remove_index(arena->ranges, i);
		return units;
	}
	return 0;
}

void kvt_arena_give(kvt_arena *arena, uint64_t offset, uint64_t bytes)
{
	guint low = 0, high = arena->ranges->len;
	while (low < high) {
		guint middle = (low + high) / 2;
		if (g_array_index(arena->ranges, free_range, middle).offset < offset)
			low = middle + 1;
		else
			high = middle;
	}
	free_range range = { offset, bytes };
	free_range *before = low > 0 ? &g_array_index(arena->ranges, free_range, low - 1) : NULL;
	free_range *after =
		low < arena->ranges->len ? &g_array_index(arena->ranges, free_range, low) : NULL;
	bool joins = after && offset + bytes == after->offset;
	if (before && before->offset + before->bytes == offset) {
		before->bytes += bytes + (joins ? after->bytes : 0);
		if (joins)
			g_array_remove_index(arena->ranges, low);
	} else if (joins) {
		after->offset = offset;
		after->bytes += bytes;
	} else {
		g_array_insert_val(arena->ranges, low, range);
	}
}
