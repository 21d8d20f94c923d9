/* replay_fixture.c: made-up attention and a tier that misbehaves on purpose. */
#include "tests/unit/replay_fixture.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "sim/base/rng.h"
#include "traces/half_float.h"

enum { HEAD_DIM_MAX = 128 };

const kvt_fake_spec kvt_fake_default = { .seed = 1,
	.n_steps = 60,
	.n_layers = 2,
	.n_heads = 2,
	.context = 2000,
	.stride = 1,
	.block_tokens = 8 };

const kvt_fake_world kvt_fake_world_default = { .tier = "dram", .link_rate = 20e9, .seed = 1 };

typedef struct fake_source {
	kvt_replay_source base;
	kvt_fake_spec spec;
	uint32_t *numbers, *pages;
	float *mass;
	uint32_t step;  /* the newest that a row was asked for */
	uint64_t leaks; /* of what could not be known */
	float *key, *query;
} fake_source;

static kvt_replay_present present(const kvt_replay_source *base, uint32_t step, uint32_t layer)
{
	const kvt_fake_spec *spec = &((const fake_source *)base)->spec;
	uint32_t position = spec->context + step * spec->stride;
	uint32_t chunk = spec->chunk > 0 ? position / spec->chunk * spec->chunk : 0;
	return (kvt_replay_present){ .first = chunk / spec->block_tokens,
		.end = position / spec->block_tokens + 1,
		.closed = (position + 1) % spec->block_tokens == 0,
		.prompt = step % 20 < spec->prompt };
}

/* A key of half precision: its own, and what its page has in common with some others. */
static void make_key(const fake_source *source, uint32_t layer, uint32_t head, uint32_t token,
	float *key, uint16_t *half)
{
	const kvt_fake_spec *spec = &source->spec;
	uint64_t stream = (uint64_t)(layer * 64 + head) << 40;
	kvt_rng own = kvt_rng_init(spec->seed ^ 1, stream + token);
	kvt_rng topic = kvt_rng_init(spec->seed ^ 2, stream + token / spec->block_tokens % 23);
	for (uint32_t i = 0; i < spec->head_dim; i++)
		key[i] = (float)(kvt_rng_uniform(&own) + 2 * kvt_rng_uniform(&topic) - 1);
	kvt_half_from_float(key, half, spec->head_dim);
	kvt_half_to_float(half, key, spec->head_dim);
}

/* Queries turn to another topic every 7 steps. */
static void make_query(const fake_source *source, uint32_t step, uint32_t layer, uint32_t head,
	uint32_t member, float *query)
{
	const kvt_fake_spec *spec = &source->spec;
	uint64_t stream = (uint64_t)(layer * 64 + head) << 40 | (uint64_t)member << 32;
	kvt_rng own = kvt_rng_init(spec->seed ^ 3, stream + step);
	kvt_rng topic = kvt_rng_init(spec->seed ^ 4, stream + step / 7);
	for (uint32_t i = 0; i < spec->head_dim; i++)
		query[i] = (float)(kvt_rng_normal(&own) + 2 * kvt_rng_normal(&topic));
}

/* Masses of pages first .. end - 1, the softmax of all tokens up to the step's own. */
static void attend(fake_source *source, uint32_t step, uint32_t layer, uint32_t head,
	const kvt_replay_present *exist)
{
	const kvt_fake_spec *spec = &source->spec;
	uint32_t first = exist->first * spec->block_tokens;
	uint32_t end = spec->context + step * spec->stride + 1, n = exist->end - exist->first;
	uint16_t half[HEAD_DIM_MAX];
	g_autofree double *power = g_new(double, end - first);
	memset(source->mass, 0, n * sizeof(float));
	for (uint32_t member = 0; member < spec->group; member++) {
		double sum = 0;
		make_query(source, step, layer, head, member, source->query);
		for (uint32_t token = first; token < end; token++) {
			double logit = 0;
			make_key(source, layer, head, token, source->key, half);
			for (uint32_t i = 0; i < spec->head_dim; i++)
				logit += (double)source->key[i] * (double)source->query[i];
			power[token - first] = exp(logit * (double)source->base.scale);
			sum += power[token - first];
		}
		for (uint32_t token = first; token < end; token++)
			source->mass[token / spec->block_tokens - exist->first] +=
				(float)(power[token - first] / sum / spec->group);
	}
}

/* Masses without keys: every head likes a few pages for a while. */
static void like(fake_source *source, uint32_t step, uint32_t layer, uint32_t head,
	const kvt_replay_present *exist)
{
	const kvt_fake_spec *spec = &source->spec;
	uint32_t n = exist->end - exist->first;
	kvt_rng noise = kvt_rng_init(
		spec->seed, ((uint64_t)step << 32 | layer << 16 | head) + (UINT64_C(1) << 62));
	double sum = 0;
	for (uint32_t i = 0; i < n; i++) {
		/* what a page is worth changes every 10 steps */
		kvt_rng liking = kvt_rng_init(spec->seed,
			((uint64_t)(step / 10) << 40) + ((uint64_t)(layer * 64 + head) << 32) +
				exist->first + i);
		double worth = kvt_rng_uniform(&liking) < 0.03 ? 20 : 0.2;
		if (n - i <= 3)
			worth += 10;
		double mass = worth * (0.7 + 0.6 * kvt_rng_uniform(&noise));
		source->mass[i] = (float)mass;
		sum += mass;
	}
	for (uint32_t i = 0; i < n; i++)
		source->mass[i] = (float)(source->mass[i] / sum);
}

static bool has_keys(const kvt_replay_source *base, uint32_t layer)
{
	return ((const fake_source *)base)->spec.group > 0;
}

static bool keys(kvt_replay_source *base, uint32_t layer, uint32_t head, uint32_t first,
	uint32_t n_pages, uint16_t *out, GError **error)
{
	fake_source *source = (fake_source *)base;
	const kvt_fake_spec *spec = &source->spec;
	uint32_t position = spec->context + source->step * spec->stride;
	for (uint32_t page = first; page < first + n_pages; page++) {
		bool complete = (page + 1) * spec->block_tokens <= position;
		source->leaks += !complete;
		for (uint32_t t = 0; t < spec->block_tokens; t++, out += spec->head_dim) {
			make_key(source, layer, head, page * spec->block_tokens + t, source->key,
				out);
			for (uint32_t i = 0; i < spec->head_dim && spec->poison && !complete; i++)
				out[i] = (uint16_t)(0x7bff +
						    i); /* the largest number, infinity, NaN */
		}
	}
	return true;
}

static bool queries(
	kvt_replay_source *base, uint32_t step, uint32_t layer, float *out, GError **error)
{
	fake_source *source = (fake_source *)base;
	const kvt_fake_spec *spec = &source->spec;
	bool known = step + spec->previous <= source->step;
	source->leaks += !known;
	for (uint32_t head = 0; head < spec->n_heads; head++)
		for (uint32_t member = 0; member < spec->group; member++, out += spec->head_dim) {
			make_query(source, step, layer, head, member, out);
			for (uint32_t i = 0; i < spec->head_dim && spec->poison && !known; i++)
				out[i] = i % 2 ? NAN : 1e30f;
		}
	return true;
}

uint64_t kvt_fake_source_leaks(const kvt_replay_source *base)
{
	return ((const fake_source *)base)->leaks;
}

static bool row(kvt_replay_source *base, uint32_t step, uint32_t layer, uint32_t head,
	uint32_t wanted, kvt_replay_row *out, GError **error)
{
	fake_source *source = (fake_source *)base;
	const kvt_fake_spec *spec = &source->spec;
	kvt_replay_present exist = present(base, step, layer);
	uint32_t n = exist.end - exist.first;
	source->step = MAX(source->step, step);
	for (uint32_t i = 0; i < n; i++)
		source->pages[i] = exist.first + i;
	if (spec->group > 0)
		attend(source, step, layer, head, &exist);
	else
		like(source, step, layer, head, &exist);
	/* the end of the context is listed when not all is: any part will do */
	uint32_t listed = spec->listed > 0 ? MIN(spec->listed, n) : n;
	*out = (kvt_replay_row){ listed, source->pages + n - listed, source->mass + n - listed };
	return true;
}

kvt_replay_source *kvt_fake_source_new(const kvt_fake_spec *spec)
{
	fake_source *source = g_new0(fake_source, 1);
	source->spec = *spec;
	uint32_t last = spec->context + (spec->n_steps - 1) * spec->stride;
	source->base = (kvt_replay_source){ .n_steps = spec->n_steps,
		.n_layers = spec->n_layers,
		.n_heads = spec->n_heads,
		.n_pages = last / spec->block_tokens + 1,
		.present = present,
		.row = row };
	if (spec->group > 0) {
		g_assert_cmpuint(spec->head_dim, <=, HEAD_DIM_MAX);
		source->base.group = spec->group;
		source->base.head_dim = spec->head_dim;
		source->base.block_tokens = spec->block_tokens;
		source->base.scale = 1 / sqrtf((float)spec->head_dim);
		source->base.has_keys = has_keys;
		source->base.keys = keys;
		source->base.queries = queries;
		source->key = g_new(float, spec->head_dim);
		source->query = g_new(float, spec->head_dim);
	}
	source->numbers = g_new(uint32_t, spec->n_layers);
	for (uint32_t i = 0; i < spec->n_layers; i++)
		source->numbers[i] = 4 * i + 3;
	source->base.layer_numbers = source->numbers;
	source->pages = g_new(uint32_t, source->base.n_pages);
	source->mass = g_new(float, source->base.n_pages);
	return &source->base;
}

void kvt_fake_source_free(kvt_replay_source *base)
{
	fake_source *source = (fake_source *)base;
	if (!source)
		return;
	g_free(source->numbers);
	g_free(source->pages);
	g_free(source->mass);
	g_free(source->key);
	g_free(source->query);
	g_free(source);
}

typedef struct odd_tier {
	kvt_tier base;
	kvt_tier *inner;
	kvt_loop *loop;
	kvt_odd_spec spec;
	unsigned in_flight, reads, writes, submits;
} odd_tier;

/* An I/O on its way through: a copy goes to the inner tier. */
typedef struct odd_io {
	kvt_io io;
	odd_tier *tier;
	kvt_io *outer;
} odd_io;

static void odd_finish(void *arg)
{
	odd_io *copy = arg;
	kvt_io *outer = copy->outer;
	copy->tier->in_flight--;
	outer->status = copy->io.status;
	outer->bytes = copy->io.bytes;
	g_free(copy);
	outer->done(outer);
}

static void odd_done(kvt_io *io)
{
	odd_io *copy = (odd_io *)(void *)io;
	kvt_time delay = io->op == KVT_IO_WRITE ? copy->tier->spec.write_delay : 0;
	kvt_loop_after(copy->tier->loop, delay, odd_finish, copy);
}

static int odd_submit(kvt_tier *base, kvt_io *io)
{
	odd_tier *tier = (odd_tier *)base;
	const kvt_odd_spec *spec = &tier->spec;
	if (spec->refuse_above > 0 && tier->in_flight >= spec->refuse_above)
		return -EAGAIN;
	if (spec->refuse_every > 0 && ++tier->submits % spec->refuse_every == 0)
		return -EAGAIN;
	odd_io *copy = g_new0(odd_io, 1);
	*copy = (odd_io){ .io = *io, .tier = tier, .outer = io };
	copy->io.done = odd_done;
	bool write = io->op == KVT_IO_WRITE;
	unsigned number = write ? ++tier->writes : ++tier->reads;
	unsigned every = write ? spec->fail_write_every : spec->fail_read_every;
	tier->in_flight++;
	int status = write ? spec->write_status : 0;
	if (every > 0 && number % every == 0)
		status = -EIO;
	if (status == 0)
		return kvt_tier_submit(tier->inner, &copy->io);
	copy->io.status = status;
	copy->io.bytes = 0;
	kvt_loop_after(tier->loop, KVT_MICROSECOND, odd_finish, copy);
	return 0;
}

static bool odd_preload(kvt_tier *base, uint32_t tenant, const kvt_extent *extent)
{
	kvt_tier *inner = ((odd_tier *)base)->inner;
	return inner->ops->preload(inner, tenant, extent);
}

static void odd_stats(kvt_tier *base, kvt_tier_stats *stats)
{
	kvt_tier *inner = ((odd_tier *)base)->inner;
	inner->ops->stats(inner, stats);
}

static const kvt_tier_ops odd_ops = {
	.name = "odd",
	.submit = odd_submit,
	.preload = odd_preload,
	.stats = odd_stats,
};

kvt_replay_settings kvt_fake_settings(void)
{
	return (kvt_replay_settings){ .budget = 0.1,
		.prefetcher = kvt_prefetcher_find("last-step", NULL),
		.policy = kvt_policy_find("lru", NULL),
		.page_bytes = 4096,
		.hbm_rate = 800e9,
		.layer_time = 20 * KVT_MICROSECOND,
		.step_time = 10 * KVT_MICROSECOND,
		.window_bytes = 64 << 10,
		.prefetch_depth = 4 };
}

gboolean kvt_fake_replay_source(kvt_replay_source *source, const kvt_replay_settings *settings,
	const kvt_fake_world *world, kvt_replay_result *result, GError **error)
{
	kvt_loop *loop = kvt_virtual_loop_new();
	kvt_network *network = kvt_network_new(loop);
	kvt_topology topology;
	kvt_topology_spec spec = { .ranks = 1,
		.dram_rate = 200e9,
		.gpu_link_rate = world->link_rate > 0 ? world->link_rate : 1e9,
		.gpu_copy_cost = 1e-6 };
	kvt_topology_init(&topology, network, &spec);
	if (world->link_rate <= 0)
		for (unsigned i = 0; i < KVT_DIRECTIONS; i++)
			kvt_network_set_rate(network, topology.gpu[i], 0);
	kvt_tier_env env = { .loop = loop,
		.network = network,
		.timeline = world->timeline,
		.seed = world->seed,
		.topology = &topology };
	g_autofree char *text =
		world->capacity > 0 ? g_strdup_printf("[tier]\ncapacity = %" G_GUINT64_FORMAT "B\n",
					      world->capacity)
				    : g_strdup("[tier]\n");
	g_autoptr(kvt_config) config = kvt_config_parse("tier", text, NULL);
	kvt_tier *tier =
		kvt_tier_open(world->tier, &env, kvt_config_section(config, "tier"), error);
	g_assert_nonnull(tier);
	odd_tier odd = { .base.ops = &odd_ops, .inner = tier, .loop = loop };
	if (world->odd)
		odd.spec = *world->odd;
	kvt_replay_world in = {
		.loop = loop, .storage = world->odd ? &odd.base : tier, .timeline = world->timeline
	};
	gboolean done = kvt_replay_run(source, settings, &in, result, error);
	kvt_tier_close(tier);
	kvt_network_free(network);
	kvt_loop_free(loop);
	return done;
}

gboolean kvt_fake_replay(const kvt_fake_spec *spec, const kvt_replay_settings *settings,
	const kvt_fake_world *world, kvt_replay_result *result, GError **error)
{
	g_autoptr(kvt_replay_source) source = kvt_fake_source_new(spec);
	return kvt_fake_replay_source(source, settings, world, result, error);
}
