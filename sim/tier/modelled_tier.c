/* modelled_tier.c: latency with a tail, and flows over links, for every modelled tier. */
#include "sim/tier/modelled_tier.h"

#include <errno.h>

#include "sim/core/timeline.h"
#include "sim/tier/page_store.h"

enum { MAX_IOS_DEFAULT = 1024 };

typedef struct modelled_tier modelled_tier;

/* What one I/O in flight needs; pooled, so a steady state allocates nothing. */
typedef struct io_state {
	modelled_tier *tier;
	kvt_io *io;
	uint64_t bytes;
	struct io_state *next_free;
	unsigned pending; /* flows: its bytes and its commands */
	kvt_page_ticket ticket;
	kvt_flow_spec flow;
} io_state;

struct modelled_tier {
	kvt_tier base;
	kvt_tier_env env;
	kvt_modelled_spec spec;
	kvt_page_store *pages;
	kvt_rng rng;
	kvt_tier_stats stats;
	unsigned in_flight;
	uint64_t turns;                  /* given out */
	unsigned moving[KVT_DIRECTIONS]; /* I/Os in flight that were not refused */
	uint64_t moving_bytes[KVT_DIRECTIONS];
	kvt_track track;
	io_state *free_states;
	GPtrArray *states; /* every state ever made, to free them */
};

static kvt_direction direction_of(const kvt_io *io)
{
	return io->op == KVT_IO_READ ? KVT_TO_GPU : KVT_FROM_GPU;
}

kvt_tier *kvt_modelled_tier_new(
	const kvt_tier_ops *ops, const kvt_tier_env *env, const kvt_modelled_spec *spec)
{
	modelled_tier *tier = g_new0(modelled_tier, 1);
	tier->base.ops = ops;
	tier->env = *env;
	tier->spec = *spec;
	if (tier->spec.max_ios == 0)
		tier->spec.max_ios = MAX_IOS_DEFAULT;
	tier->spec.io_ranks = MAX(tier->spec.io_ranks, 1);
	tier->spec.devices = MAX(tier->spec.devices, 1);
	tier->pages = kvt_page_store_new(spec->capacity);
	tier->states = g_ptr_array_new_with_free_func(g_free);
	tier->rng = kvt_rng_init(env->seed, kvt_rng_stream_id(ops->name, env->instance));
	tier->track = kvt_timeline_track(env->timeline, ops->name, 0);
	kvt_tier_stats_init(&tier->stats, spec->capacity);
	return &tier->base;
}

static io_state *take_state(modelled_tier *tier)
{
	io_state *state = tier->free_states;
	if (state) {
		tier->free_states = state->next_free;
		return state;
	}
	state = g_new0(io_state, 1);
	g_ptr_array_add(tier->states, state);
	return state;
}

static void give_state(modelled_tier *tier, io_state *state)
{
	state->next_free = tier->free_states;
	tier->free_states = state;
}

static bool is_mixed(const modelled_tier *tier)
{
	return tier->moving[KVT_TO_GPU] > 0 && tier->moving[KVT_FROM_GPU] > 0;
}

/* Counts an I/O that begins (1) or ends (-1) to move: links that suffer from a mix change their
 * rate where there is one and was none, or the other way round. */
static void count_moving(modelled_tier *tier, const io_state *state, int change)
{
	static const char *const names[] = { "reading", "writing" };
	kvt_direction direction = direction_of(state->io);
	bool was_mixed = is_mixed(tier);
	tier->moving[direction] += (unsigned)change;
	tier->moving_bytes[direction] += (uint64_t)change * state->bytes;
	kvt_timeline_counter(tier->env.timeline, tier->track, names[direction],
		kvt_loop_now(tier->env.loop), (double)tier->moving_bytes[direction]);
	if (is_mixed(tier) == was_mixed)
		return;
	for (unsigned i = 0; i < tier->spec.n_mixed; i++) {
		const kvt_mixed_link *mixed = &tier->spec.mixed[i];
		kvt_network_set_rate(tier->env.network, mixed->link,
			mixed->rate * (was_mixed ? 1 : tier->spec.mixed_efficiency));
	}
}

/* Reports the I/O; the state goes back first, so that done may submit. */
static void finish(io_state *state, int status)
{
	modelled_tier *tier = state->tier;
	kvt_io *io = state->io;
	io->status = status;
	io->bytes = status == 0 ? state->bytes : 0;
	io->completed = kvt_loop_now(tier->env.loop);
	give_state(tier, state);
	tier->in_flight--;
	kvt_tier_stats_count(&tier->stats, io);
	io->done(io);
}

static void complete(void *arg)
{
	io_state *state = arg;
	modelled_tier *tier = state->tier;
	if (--state->pending > 0)
		return;
	count_moving(tier, state, -1);
	finish(state, kvt_page_store_end(tier->pages, &state->ticket, 0));
}

static void complete_refused(void *arg)
{
	io_state *state = arg;
	finish(state, state->io->status);
}

static void start_flow(void *arg)
{
	io_state *state = arg;
	kvt_network_start(state->tier->env.network, &state->flow);
}

static uint64_t pieces_of(uint64_t bytes, uint64_t piece)
{
	return piece > 0 && bytes > piece ? (bytes - 1) / piece + 1 : 1;
}

/* Cuts the I/O: each rank's share of a run, or of each page, in pieces of at most max_io_bytes. */
static kvt_path_load cut(const modelled_tier *tier, const kvt_io *io, uint64_t bytes)
{
	const kvt_modelled_spec *spec = &tier->spec;
	const kvt_topology *topology = tier->env.topology;
	double device_ios = 0, copy_seconds = 0;
	for (unsigned i = 0; i < io->n_extents; i++) {
		const kvt_extent *extent = &io->extents[i];
		uint64_t runs = spec->page_ios ? extent->n_pages : 1;
		uint64_t run = spec->page_ios ? extent->page_bytes : kvt_extent_bytes(extent);
		uint64_t share = (run - 1) / spec->io_ranks + 1;
		double shares = (double)runs * spec->io_ranks;
		device_ios += shares * (double)pieces_of(share, spec->max_io_bytes);
		double copies = (double)pieces_of(share, spec->copy_whole ? 0 : spec->max_io_bytes);
		if (topology)
			copy_seconds += shares * copies *
					kvt_topology_copy_cost(topology, (double)share / copies);
	}
	const kvt_direction_spec *direction = &spec->direction[direction_of(io)];
	double rate =
		direction->command_rate > 0 ? direction->command_rate : direction->device_rate;
	double data = rate > 0 ? (double)bytes / rate : 0;
	return (kvt_path_load){
		.bytes = (double)bytes,
		.device_ios = device_ios,
		.copy_seconds = copy_seconds,
		.slot_seconds = device_ios * kvt_latency_mean(&direction->latency) + data,
	};
}

/* Starts the commands' flow now and the bytes' flow when the first device I/Os have their data. */
static void start_io(modelled_tier *tier, io_state *state)
{
	const kvt_io *io = state->io;
	const kvt_direction_spec *direction = &tier->spec.direction[direction_of(io)];
	kvt_path_load load = cut(tier, io, state->bytes);
	uint64_t device_ios = (uint64_t)load.device_ios;
	tier->stats.device_ios += device_ios;
	count_moving(tier, state, 1);

	kvt_flow_spec *flow = &state->flow;
	*flow = (kvt_flow_spec){ .bytes = state->bytes,
		.priority = io->priority,
		.turn = tier->spec.in_turn ? ++tier->turns : 0,
		.line = direction_of(io),
		.done = complete,
		.arg = state };
	state->pending = 1;
	if (direction->command_path.n_hops > 0) {
		kvt_path_set_flow(&direction->command_path, &load, flow);
		kvt_network_start(tier->env.network, flow);
		state->pending++;
	}
	kvt_path_set_flow(&direction->path, &load, flow);
	flow->places = device_ios;
	if (load.device_ios < tier->spec.devices)
		flow->max_rate = direction->device_rate * load.device_ios;
	if (direction->command_rate > 0) {
		double most = direction->command_rate * load.device_ios;
		flow->max_rate = flow->max_rate > 0 ? MIN(flow->max_rate, most) : most;
	}
	kvt_time wait = kvt_latency_sample(&direction->latency, device_ios, &tier->rng);
	kvt_loop_after(tier->env.loop, wait, start_flow, state);
}

int kvt_modelled_submit(kvt_tier *base, kvt_io *io)
{
	modelled_tier *tier = (modelled_tier *)base;
	uint64_t bytes;
	int error = kvt_io_check(io, &bytes);
	if (error != 0)
		return error;
	if (tier->in_flight >= tier->spec.max_ios)
		return -EAGAIN;
	io_state *state = take_state(tier);
	*state = (io_state){ .tier = tier, .io = io, .bytes = bytes };
	int status = kvt_page_store_begin(tier->pages, &state->ticket, io, bytes);
	if (status == -EINVAL) {
		give_state(tier, state);
		return status;
	}
	tier->in_flight++;
	io->submitted = kvt_loop_now(tier->env.loop);
	io->status = status;
	if (status != 0) {
		kvt_loop_at(tier->env.loop, io->submitted, complete_refused, state);
		return 0;
	}
	start_io(tier, state);
	return 0;
}

uint64_t kvt_modelled_discard(kvt_tier *tier, uint32_t tenant, const kvt_extent *extent)
{
	return kvt_page_store_discard(((modelled_tier *)tier)->pages, tenant, extent);
}

bool kvt_modelled_holds(kvt_tier *tier, uint32_t tenant, const kvt_extent *extent)
{
	return kvt_page_store_holds(((modelled_tier *)tier)->pages, tenant, extent);
}

bool kvt_modelled_preload(kvt_tier *tier, uint32_t tenant, const kvt_extent *extent)
{
	return kvt_page_store_preload(((modelled_tier *)tier)->pages, tenant, extent);
}

void kvt_modelled_stats(kvt_tier *base, kvt_tier_stats *stats)
{
	modelled_tier *tier = (modelled_tier *)base;
	*stats = tier->stats;
	stats->used = kvt_page_store_used(tier->pages);
	stats->peak_used = kvt_page_store_peak_taken(tier->pages);
}

void kvt_modelled_close(kvt_tier *base)
{
	modelled_tier *tier = (modelled_tier *)base;
	kvt_page_store_free(tier->pages);
	g_ptr_array_unref(tier->states);
	g_free(tier);
}
