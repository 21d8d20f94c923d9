/* modelled_tier.c: capacity, latency with a tail, and flows over links, for every modelled tier. */
#include "sim/tier/modelled_tier.h"

#include <errno.h>
#include <math.h>

#include "sim/tier/page_map.h"

typedef struct modelled_tier modelled_tier;

/* What one I/O in flight needs; pooled, so a steady state allocates nothing. */
typedef struct io_state {
	modelled_tier *tier;
	kvt_io *io;
	struct io_state *next_free;
	kvt_flow_spec flow;
} io_state;

struct modelled_tier {
	kvt_tier base;
	kvt_tier_env env;
	kvt_modelled_spec spec;
	kvt_page_map *pages;
	kvt_rng rng;
	kvt_tier_stats stats;
	uint64_t reserved; /* bytes of writes in flight */
	unsigned in_flight;
	io_state *free_states;
	GPtrArray *states; /* every state ever made, to free them */
};

/* Inverse of the standard normal distribution (P. J. Acklam's rational approximation, relative
 * error below 1.2e-9), 0 < p < 1. */
static double normal_quantile(double p)
{
	static const double a[] = { -39.69683028665376, 220.9460984245205, -275.9285104469687,
		138.3577518672690, -30.66479806614716, 2.506628277459239 };
	static const double b[] = { -54.47609879822406, 161.5858368580409, -155.6989798598866,
		66.80131188771972, -13.28068155288572 };
	static const double c[] = { -0.007784894002430293, -0.3223964580411365, -2.400758277161838,
		-2.549732539343734, 4.374664141464968, 2.938163982698783 };
	static const double d[] = { 0.007784695709041462, 0.3224671290700398, 2.445134137142996,
		3.754408661907416 };
	const double tail = 0.02425;
	if (p < tail || p > 1 - tail) {
		double q = sqrt(-2 * log(p < tail ? p : 1 - p));
		double x = (((((c[0] * q + c[1]) * q + c[2]) * q + c[3]) * q + c[4]) * q + c[5]) /
			   ((((d[0] * q + d[1]) * q + d[2]) * q + d[3]) * q + 1);
		return p < tail ? x : -x;
	}
	double q = p - 0.5, r = q * q;
	return (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r + a[5]) * q /
	       (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r + b[4]) * r + 1);
}

kvt_time kvt_latency_sample(const kvt_latency *latency, uint64_t n, kvt_rng *rng)
{
	if (latency->median <= 0)
		return 0;
	if (latency->p99 <= latency->median)
		return kvt_time_from_seconds(latency->median);
	/* the maximum of n samples is the quantile of U^(1/n) */
	double u = kvt_rng_uniform(rng);
	double p = n > 1 ? pow(u, 1.0 / (double)n) : u;
	p = CLAMP(p, 1e-12, 1 - 1e-12);
	double sigma = log(latency->p99 / latency->median) / 2.3263478740408408;
	return kvt_time_from_seconds(latency->median * exp(sigma * normal_quantile(p)));
}

kvt_tier *kvt_modelled_tier_new(
	const kvt_tier_ops *ops, const kvt_tier_env *env, const kvt_modelled_spec *spec)
{
	modelled_tier *tier = g_new0(modelled_tier, 1);
	tier->base.ops = ops;
	tier->env = *env;
	tier->spec = *spec;
	if (tier->spec.max_ios == 0)
		tier->spec.max_ios = 4096;
	if (tier->spec.io_ranks == 0)
		tier->spec.io_ranks = 1;
	tier->pages = kvt_page_map_new();
	tier->states = g_ptr_array_new_with_free_func(g_free);
	tier->rng = kvt_rng_init(env->seed, kvt_rng_stream_id(ops->name, 0));
	tier->stats.capacity = spec->capacity;
	kvt_histogram_init(&tier->stats.read_latency);
	kvt_histogram_init(&tier->stats.write_latency);
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

static void note_used(modelled_tier *tier)
{
	uint64_t used = tier->stats.used + tier->reserved;
	if (used > tier->stats.peak_used)
		tier->stats.peak_used = used;
}

static void count_completion(modelled_tier *tier, const kvt_io *io)
{
	kvt_tier_stats *stats = &tier->stats;
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

static void complete(void *arg)
{
	io_state *state = arg;
	modelled_tier *tier = state->tier;
	kvt_io *io = state->io;
	if (io->op == KVT_IO_WRITE && io->status == 0) {
		tier->reserved -= io->bytes;
		for (unsigned i = 0; i < io->n_extents; i++)
			tier->stats.used +=
				kvt_page_map_add(tier->pages, io->tenant, &io->extents[i]);
		note_used(tier);
	}
	if (io->status != 0)
		io->bytes = 0;
	state->next_free = tier->free_states;
	tier->free_states = state;
	tier->in_flight--;
	io->completed = kvt_loop_now(tier->env.loop);
	count_completion(tier, io);
	io->done(io);
}

static void start_flow(void *arg)
{
	io_state *state = arg;
	kvt_network_start(state->tier->env.network, &state->flow);
}

/* Device I/Os that the extents are cut into: each rank's share of a run, in pieces of at most
 * max_io_bytes, or each page apart. */
static uint64_t count_device_ios(const modelled_tier *tier, const kvt_io *io)
{
	const kvt_modelled_spec *spec = &tier->spec;
	uint64_t ios = 0;
	for (unsigned i = 0; i < io->n_extents; i++) {
		const kvt_extent *extent = &io->extents[i];
		uint64_t runs = spec->page_ios ? extent->n_pages : 1;
		uint64_t share = kvt_extent_bytes(extent) / runs / spec->io_ranks;
		uint64_t pieces = 1;
		if (spec->max_io_bytes > 0 && share > spec->max_io_bytes)
			pieces = (share + spec->max_io_bytes - 1) / spec->max_io_bytes;
		ios += pieces * runs * spec->io_ranks;
	}
	return ios;
}

static int check_pages(modelled_tier *tier, kvt_io *io)
{
	if (io->op == KVT_IO_READ) {
		for (unsigned i = 0; i < io->n_extents; i++)
			if (!kvt_modelled_holds(&tier->base, io->tenant, &io->extents[i]))
				return -ENOENT;
		return 0;
	}
	uint64_t used = tier->stats.used + tier->reserved;
	if (io->bytes > tier->spec.capacity || used > tier->spec.capacity - io->bytes)
		return -ENOSPC;
	tier->reserved += io->bytes;
	note_used(tier);
	return 0;
}

int kvt_modelled_submit(kvt_tier *base, kvt_io *io)
{
	modelled_tier *tier = (modelled_tier *)base;
	if (io->n_extents == 0 || !io->done)
		return -EINVAL;
	uint64_t bytes = 0;
	for (unsigned i = 0; i < io->n_extents; i++) {
		const kvt_extent *extent = &io->extents[i];
		if (extent->n_pages == 0 || extent->page_bytes == 0 ||
			extent->first_page + extent->n_pages < extent->first_page ||
			extent->n_pages > (UINT64_MAX - bytes) / extent->page_bytes)
			return -EINVAL;
		bytes += kvt_extent_bytes(extent);
	}
	if (tier->in_flight >= tier->spec.max_ios)
		return -EAGAIN;
	tier->in_flight++;
	io_state *state = take_state(tier);
	*state = (io_state){ .tier = tier, .io = io };
	io->submitted = kvt_loop_now(tier->env.loop);
	io->bytes = bytes;
	io->status = check_pages(tier, io);
	if (io->status != 0) {
		kvt_loop_at(tier->env.loop, io->submitted, complete, state);
		return 0;
	}
	const kvt_direction_spec *direction =
		io->op == KVT_IO_READ ? &tier->spec.read : &tier->spec.write;
	uint64_t device_ios = count_device_ios(tier, io);
	tier->stats.device_ios += device_ios;
	kvt_flow_spec *flow = &state->flow;
	flow->path_length = direction->path.n_hops;
	for (unsigned i = 0; i < flow->path_length; i++)
		flow->path[i] = direction->path.hops[i].link;
	kvt_path_costs(&direction->path, (double)bytes / (double)device_ios, flow->cost);
	flow->bytes = bytes;
	flow->priority = io->priority;
	flow->done = complete;
	flow->arg = state;
	/* later I/Os wait their latency while earlier ones move: only a queue's worth adds up */
	uint64_t overlapping = device_ios;
	if (tier->spec.queue_depth > 0 && overlapping > tier->spec.queue_depth)
		overlapping = tier->spec.queue_depth;
	kvt_time latency = kvt_latency_sample(&direction->latency, overlapping, &tier->rng);
	kvt_loop_after(tier->env.loop, latency, start_flow, state);
	return 0;
}

uint64_t kvt_modelled_discard(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	modelled_tier *tier = (modelled_tier *)base;
	uint64_t bytes = kvt_page_map_remove(tier->pages, tenant, extent);
	tier->stats.used -= bytes;
	return bytes;
}

bool kvt_modelled_holds(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	modelled_tier *tier = (modelled_tier *)base;
	return kvt_page_map_count(tier->pages, tenant, extent) == extent->n_pages;
}

bool kvt_modelled_preload(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	modelled_tier *tier = (modelled_tier *)base;
	uint64_t missing = kvt_extent_bytes(extent) -
			   kvt_page_map_count(tier->pages, tenant, extent) * extent->page_bytes;
	uint64_t used = tier->stats.used + tier->reserved;
	if (missing > tier->spec.capacity || used > tier->spec.capacity - missing)
		return false;
	tier->stats.used += kvt_page_map_add(tier->pages, tenant, extent);
	note_used(tier);
	return true;
}

void kvt_modelled_stats(kvt_tier *base, kvt_tier_stats *stats)
{
	*stats = ((modelled_tier *)base)->stats;
}

void kvt_modelled_close(kvt_tier *base)
{
	modelled_tier *tier = (modelled_tier *)base;
	kvt_page_map_free(tier->pages);
	g_ptr_array_unref(tier->states);
	g_free(tier);
}
