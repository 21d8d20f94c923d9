/* fault_tier.c: draws what strikes an I/O when it is submitted, and carries it out around it. */
#include "sim/tier/fault_tier.h"

#include <errno.h>
#include <stddef.h>

#include "sim/base/rng.h"
#include "sim/tier/page_map.h"
#include "sim/tier/resubmit.h"

#define SETTING(field) offsetof(kvt_fault_settings, field)
#define RATE(field, help)                                                                          \
	{                                                                                          \
#field, KVT_OPTION_QUANTITY, KVT_UNIT_SHARE, SETTING(field), "0%", 0, 1, NULL,     \
			help                                                                       \
	}

const kvt_option kvt_fault_options[] = {
	RATE(busy_rate, "share of submissions, while others are in flight, that the tier refuses"),
	RATE(delay_rate, "share of I/Os that are held back by `delay`"),
	{ "delay", KVT_OPTION_TIME, 0, SETTING(delay), "10ms", 0, 3600, NULL,
		"how long an I/O is held back" },
	RATE(read_error_rate, "share of reads that fail after they have moved their bytes"),
	RATE(short_rate, "share of reads and writes that fail half-way"),
	RATE(corrupt_rate, "share of reads in which a page's checksum goes wrong, and stays wrong"),
	RATE(write_error_rate, "share of writes that fail and leave nothing"),
	RATE(full_rate, "share of writes that find the tier full"),
	{ 0 },
};

bool kvt_fault_settings_any(const kvt_fault_settings *settings)
{
	return settings->busy_rate > 0 || settings->delay_rate > 0 ||
	       settings->read_error_rate > 0 || settings->short_rate > 0 ||
	       settings->corrupt_rate > 0 || settings->write_error_rate > 0 ||
	       settings->full_rate > 0;
}

typedef enum fault_kind {
	FAULT_BUSY,
	FAULT_DELAY,
	FAULT_READ_ERROR,
	FAULT_SHORT,
	FAULT_CORRUPT,
	FAULT_WRITE_ERROR,
	FAULT_FULL,
	FAULT_KINDS, /* and: none */
} fault_kind;

typedef struct fault_tier fault_tier;

/* One I/O on its way; pooled. */
typedef struct fault_io {
	fault_tier *tier;
	kvt_io *io;
	kvt_io inner;
	GArray *extents;  /* of an I/O that is cut short */
	fault_kind fault; /* what strikes when the inner tier has no complaint */
	struct fault_io *next_free;
} fault_io;

struct fault_tier {
	kvt_tier base;
	kvt_tier_ops ops; /* its own copy: name and flags are the inner tier's */
	kvt_loop *loop;
	kvt_tier *inner;
	kvt_fault_settings settings;
	kvt_rng rng[FAULT_KINDS], detail;
	kvt_resubmit queue;
	unsigned in_flight;
	kvt_page_map *bad_pages;
	kvt_tier_stats stats;
	kvt_fault_counts counts;
	fault_io *free_ios;
	GPtrArray *ios; /* every one ever made, to free them */
};

static fault_io *take_io(fault_tier *tier)
{
	fault_io *state = tier->free_ios;
	if (state) {
		tier->free_ios = state->next_free;
		return state;
	}
	state = g_new0(fault_io, 1);
	state->tier = tier;
	state->extents = g_array_new(FALSE, FALSE, sizeof(kvt_extent));
	g_ptr_array_add(tier->ios, state);
	return state;
}

static void give_io(fault_io *state)
{
	state->next_free = state->tier->free_ios;
	state->tier->free_ios = state;
}

static void free_io(gpointer pointer)
{
	fault_io *state = pointer;
	g_array_unref(state->extents);
	g_free(state);
}

/* Whether a fault of this kind strikes now; takes one number of its stream. */
static bool strikes(fault_tier *tier, fault_kind kind, double rate)
{
	return kvt_rng_uniform(&tier->rng[kind]) < rate;
}

static uint64_t pages_of(const kvt_io *io)
{
	uint64_t pages = 0;
	for (unsigned i = 0; i < io->n_extents; i++)
		pages += io->extents[i].n_pages;
	return pages;
}

/* Leaves the first pages of the I/O: at least one, and where it can all but one at most. */
static void cut_short(fault_io *state)
{
	uint64_t pages = pages_of(state->io);
	uint64_t left = pages > 2 ? 1 + kvt_rng_below(&state->tier->detail, pages - 1) : 1;
	g_array_set_size(state->extents, 0);
	for (unsigned i = 0; left > 0; i++) {
		kvt_extent run = state->io->extents[i];
		run.n_pages = MIN(run.n_pages, left);
		left -= run.n_pages;
		g_array_append_val(state->extents, run);
	}
	state->inner.extents = (const kvt_extent *)state->extents->data;
	state->inner.n_extents = state->extents->len;
}

static void discard_all(fault_tier *tier, const kvt_io *io)
{
	for (unsigned i = 0; i < io->n_extents; i++) {
		tier->inner->ops->discard(tier->inner, io->tenant, &io->extents[i]);
		kvt_page_map_remove(tier->bad_pages, io->tenant, &io->extents[i]);
	}
}

/* One page of the I/O goes bad. */
static void corrupt_page(fault_tier *tier, const kvt_io *io)
{
	uint64_t page = kvt_rng_below(&tier->detail, pages_of(io));
	for (unsigned i = 0; i < io->n_extents; i++) {
		kvt_extent run = io->extents[i];
		if (page < run.n_pages) {
			run.first_page += page;
			run.n_pages = 1;
			tier->counts.corrupted +=
				kvt_page_map_add(tier->bad_pages, io->tenant, &run) > 0;
			return;
		}
		page -= run.n_pages;
	}
}

static bool meets_bad_page(const fault_tier *tier, const kvt_io *io)
{
	for (unsigned i = 0; i < io->n_extents; i++)
		if (kvt_page_map_count(tier->bad_pages, io->tenant, &io->extents[i]) > 0)
			return true;
	return false;
}

/* What a read that the inner tier has no complaint about ends with. */
static int end_read(fault_tier *tier, const kvt_io *io, fault_kind fault)
{
	tier->counts.read_errors += fault == FAULT_READ_ERROR;
	if (fault == FAULT_READ_ERROR || fault == FAULT_SHORT)
		return -EIO;
	if (fault == FAULT_CORRUPT)
		corrupt_page(tier, io);
	bool bad = meets_bad_page(tier, io);
	tier->counts.bad_reads += bad;
	return bad ? -EBADMSG : 0;
}

/* The same of a write. */
static int end_write(fault_tier *tier, const kvt_io *io, fault_kind fault)
{
	tier->counts.write_errors += fault == FAULT_WRITE_ERROR;
	if (fault != FAULT_KINDS) {
		discard_all(tier, io);
		return -EIO;
	}
	for (unsigned i = 0; i < io->n_extents; i++)
		kvt_page_map_remove(tier->bad_pages, io->tenant, &io->extents[i]);
	return 0;
}

/* Reports the I/O; the state goes back first, so that done may submit. */
static void finish(fault_io *state, int status)
{
	fault_tier *tier = state->tier;
	kvt_io *io = state->io;
	io->status = status;
	io->bytes = status == 0 ? state->inner.bytes : 0;
	io->completed = kvt_loop_now(tier->loop);
	give_io(state);
	tier->in_flight--;
	kvt_tier_stats_count(&tier->stats, io);
	io->done(io);
}

static void inner_done(kvt_io *inner)
{
	fault_io *state = inner->arg;
	fault_tier *tier = state->tier;
	int status = inner->status;
	if (status == 0) {
		tier->counts.short_ios += state->fault == FAULT_SHORT;
		status = inner->op == KVT_IO_READ ? end_read(tier, state->io, state->fault)
						  : end_write(tier, state->io, state->fault);
	}
	finish(state, status);
	kvt_resubmit_completed(&tier->queue);
}

static void finish_full(void *arg)
{
	fault_io *state = arg;
	state->tier->counts.full++;
	finish(state, -ENOSPC);
}

static void begin_delayed(void *arg)
{
	fault_io *state = arg;
	kvt_resubmit_add(&state->tier->queue, &state->inner);
}

/* Draws every kind of fault, so that none changes when another strikes; of several the gravest
 * strikes. */
static fault_kind draw_fault(fault_tier *tier, kvt_io_op op)
{
	const kvt_fault_settings *rates = &tier->settings;
	fault_kind fault = FAULT_KINDS;
	if (op == KVT_IO_READ && strikes(tier, FAULT_CORRUPT, rates->corrupt_rate))
		fault = FAULT_CORRUPT;
	if (strikes(tier, FAULT_SHORT, rates->short_rate))
		fault = FAULT_SHORT;
	if (op == KVT_IO_READ && strikes(tier, FAULT_READ_ERROR, rates->read_error_rate))
		fault = FAULT_READ_ERROR;
	if (op == KVT_IO_WRITE && strikes(tier, FAULT_WRITE_ERROR, rates->write_error_rate))
		fault = FAULT_WRITE_ERROR;
	if (op == KVT_IO_WRITE && strikes(tier, FAULT_FULL, rates->full_rate))
		fault = FAULT_FULL;
	return fault;
}

static int fault_submit(kvt_tier *base, kvt_io *io)
{
	fault_tier *tier = (fault_tier *)base;
	uint64_t bytes;
	int error = kvt_io_check(io, &bytes);
	if (error != 0)
		return error;
	if (strikes(tier, FAULT_BUSY, tier->settings.busy_rate) && tier->in_flight > 0) {
		tier->counts.busy++;
		return -EAGAIN;
	}
	fault_io *state = take_io(tier);
	state->io = io;
	state->inner = *io;
	state->inner.done = inner_done;
	state->inner.arg = state;
	state->fault = draw_fault(tier, io->op);
	if (state->fault == FAULT_SHORT)
		cut_short(state);
	bool delayed = strikes(tier, FAULT_DELAY, tier->settings.delay_rate);
	kvt_time now = kvt_loop_now(tier->loop);
	if (state->fault == FAULT_FULL) {
		kvt_loop_at(tier->loop, now, finish_full, state);
	} else if (delayed) {
		tier->counts.delayed++;
		kvt_loop_after(tier->loop, tier->settings.delay, begin_delayed, state);
	} else {
		error = kvt_resubmit_try(&tier->queue, &state->inner);
		if (error != 0) {
			give_io(state);
			return error;
		}
	}
	tier->in_flight++;
	io->submitted = now;
	return 0;
}

static void fault_commit(kvt_tier *base)
{
	kvt_tier_commit(((fault_tier *)base)->inner);
}

static uint64_t fault_discard(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	fault_tier *tier = (fault_tier *)base;
	if (kvt_extent_valid(extent))
		kvt_page_map_remove(tier->bad_pages, tenant, extent);
	return tier->inner->ops->discard(tier->inner, tenant, extent);
}

static bool fault_holds(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	fault_tier *tier = (fault_tier *)base;
	return tier->inner->ops->holds(tier->inner, tenant, extent);
}

static bool fault_preload(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	fault_tier *tier = (fault_tier *)base;
	return tier->inner->ops->preload(tier->inner, tenant, extent);
}

static void fault_stats(kvt_tier *base, kvt_tier_stats *stats)
{
	fault_tier *tier = (fault_tier *)base;
	kvt_tier_stats inner;
	tier->inner->ops->stats(tier->inner, &inner);
	*stats = tier->stats;
	stats->capacity = inner.capacity;
	stats->used = inner.used;
	stats->peak_used = inner.peak_used;
	stats->device_ios = inner.device_ios;
}

static void fault_close(kvt_tier *base)
{
	fault_tier *tier = (fault_tier *)base;
	kvt_resubmit_clear(&tier->queue);
	kvt_tier_close(tier->inner);
	kvt_page_map_free(tier->bad_pages);
	g_ptr_array_unref(tier->ios);
	g_free(tier);
}

static const kvt_tier_ops fault_ops = {
	.name = "fault",
	.summary = "another tier that fails at given rates",
	.options = kvt_fault_options,
	.settings_size = sizeof(kvt_fault_settings),
	.submit = fault_submit,
	.commit = fault_commit,
	.discard = fault_discard,
	.holds = fault_holds,
	.preload = fault_preload,
	.stats = fault_stats,
	.close = fault_close,
};

kvt_tier *kvt_fault_tier_new(
	const kvt_tier_env *env, kvt_tier *inner, const kvt_fault_settings *settings)
{
	fault_tier *tier = g_new0(fault_tier, 1);
	tier->ops = fault_ops;
	tier->ops.name = inner->ops->name;
	tier->ops.flags = inner->ops->flags;
	if (!inner->ops->preload)
		tier->ops.preload = NULL;
	tier->base.ops = &tier->ops;
	tier->loop = env->loop;
	tier->inner = inner;
	tier->settings = *settings;
	for (unsigned i = 0; i < FAULT_KINDS; i++)
		tier->rng[i] = kvt_rng_init(
			env->seed, kvt_rng_stream_id("fault", (uint64_t)env->instance * 16 + i));
	tier->detail = kvt_rng_init(env->seed, kvt_rng_stream_id("fault.detail", env->instance));
	kvt_resubmit_init(&tier->queue, env->loop, inner);
	tier->bad_pages = kvt_page_map_new();
	tier->ios = g_ptr_array_new_with_free_func(free_io);
	kvt_tier_stats_init(&tier->stats, 0);
	return &tier->base;
}

kvt_fault_counts kvt_fault_tier_counts(const kvt_tier *base)
{
	return ((const fault_tier *)base)->counts;
}
