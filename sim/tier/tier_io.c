/* tier_io.c: what every tier does with an I/O, whatever is behind it: checks it and counts it. */
#include <errno.h>

#include "sim/tier/tier.h"

bool kvt_extent_valid(const kvt_extent *extent)
{
	return extent->n_pages > 0 && extent->page_bytes > 0 &&
	       extent->n_pages <= UINT64_MAX - extent->first_page &&
	       extent->n_pages <= UINT64_MAX / extent->page_bytes;
}

bool kvt_extent_overlaps(const kvt_extent *a, const kvt_extent *b)
{
	return a->context == b->context && a->layer == b->layer &&
	       a->first_page < b->first_page + b->n_pages &&
	       b->first_page < a->first_page + a->n_pages;
}

int kvt_io_check(const kvt_io *io, uint64_t *bytes)
{
	*bytes = 0;
	if (io->n_extents == 0 || !io->extents || !io->done ||
		io->priority >= KVT_PRIORITY_CLASSES ||
		(io->op != KVT_IO_READ && io->op != KVT_IO_WRITE))
		return -EINVAL;
	for (unsigned i = 0; i < io->n_extents; i++) {
		const kvt_extent *extent = &io->extents[i];
		if (!kvt_extent_valid(extent) || kvt_extent_bytes(extent) > UINT64_MAX - *bytes)
			return -EINVAL;
		*bytes += kvt_extent_bytes(extent);
	}
	return 0;
}

void kvt_tier_stats_init(kvt_tier_stats *stats, uint64_t capacity)
{
	*stats = (kvt_tier_stats){ .capacity = capacity };
	kvt_histogram_init(&stats->read_latency);
	kvt_histogram_init(&stats->write_latency);
}

void kvt_tier_stats_count(kvt_tier_stats *stats, const kvt_io *io)
{
	uint64_t latency = (uint64_t)(io->completed - io->submitted);
	if (io->op == KVT_IO_READ) {
		stats->reads++;
		stats->read_errors += io->status != 0;
		stats->read_bytes += io->bytes;
		kvt_histogram_add(&stats->read_latency, latency);
	} else {
		stats->writes++;
		stats->write_errors += io->status != 0;
		stats->written_bytes += io->bytes;
		kvt_histogram_add(&stats->write_latency, latency);
	}
}
