/* session_stress.c: sessions as state machines on the loop, and a book of what they stored. */
#include "tests/unit/session_stress.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim/base/rng.h"

enum { LAYERS = 3, PAGES = 40, BUFFER_BYTES = 64 << 10, PAGE_BYTES_MAX = 16384 };

/* Two that drives like, and one that lies across blocks. */
static const uint64_t page_bytes[LAYERS] = { 4096, PAGE_BYTES_MAX, 6000 };

typedef struct stress_page {
	uint32_t version; /* that is there; 0: none */
	uint32_t failed;  /* one that is nowhere, since its write failed */
} stress_page;

typedef struct session session;

/* One I/O of a session: it has one of each kind under way at most. */
typedef struct operation {
	kvt_io io;
	kvt_extent run;
	session *owner;
	void *memory;
	bool active, submitted;
	struct operation *next; /* that the tier has refused */
	/* of a write: the version of its pages; of a read: versions when it was submitted */
	uint32_t version, before[BUFFER_BYTES / 4096];
	bool absent; /* of a read: some page was not there */
	bool cut;    /* of a read: pages were discarded since */
} operation;

struct session {
	session_stress *stress;
	uint32_t tenant, context;
	kvt_rng rng;
	uint32_t versions;
	stress_page pages[LAYERS][PAGES];
	operation ops[2]; /* by kvt_io_op */
	uint64_t used;    /* when last */
	bool done;
};

struct session_stress {
	kvt_loop *loop;
	kvt_tier *tier;
	stress_spec spec;
	stress_counts counts;
	kvt_time began;
	uint64_t operations, clock;
	unsigned in_flight;
	session *sessions;
	void *memory;
	operation *refused, **last_refused;
};

static uint64_t choose(session *s, uint64_t n)
{
	return kvt_rng_next(&s->rng) % n;
}

/* --- What pages hold --- */

static uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	x *= UINT64_C(0xd6e8feb86659fd93);
	return x ^ x >> 29;
}

/* The version, then words of whose page it is; pages are whole words. */
static void fill_page(
	const session *s, const kvt_extent *run, uint64_t page, uint64_t version, uint64_t *words)
{
	uint64_t key = mix((uint64_t)s->tenant << 40 | (uint64_t)run->layer << 32 | s->context);
	key = mix(key + mix(page << 32 | version));
	words[0] = version;
	for (uint64_t i = 1; i < run->page_bytes / sizeof(*words); i++)
		words[i] = mix(key + i * UINT64_C(0x9e3779b97f4a7c15));
}

static void fill(const session *s, const kvt_extent *run, uint64_t version, void *memory)
{
	for (uint64_t i = 0; i < run->n_pages; i++)
		fill_page(s, run, run->first_page + i, version,
			(uint64_t *)(void *)((uint8_t *)memory + i * run->page_bytes));
}

/* The version of the i-th page of a run that was read; -1: it is not the page, or not whole. */
static int64_t version_of(const session *s, const kvt_extent *run, uint64_t i, const void *memory)
{
	uint64_t expected[PAGE_BYTES_MAX / sizeof(uint64_t)];
	const uint8_t *page = (const uint8_t *)memory + i * run->page_bytes;
	uint64_t version;
	memcpy(&version, page, sizeof(version));
	fill_page(s, run, run->first_page + i, version, expected);
	return memcmp(expected, page, run->page_bytes) == 0 ? (int64_t)version : -1;
}

static bool is_over(const session_stress *stress)
{
	const stress_spec *spec = &stress->spec;
	if (spec->operations > 0)
		return stress->operations >= spec->operations;
	kvt_time now = kvt_loop_now(stress->loop);
	return kvt_time_to_seconds(now - stress->began) >= spec->seconds;
}

static void act(void *arg);

static void think(session *s)
{
	uint64_t longest = (uint64_t)s->stress->spec.think;
	kvt_loop_after(s->stress->loop, (kvt_time)choose(s, longest), act, s);
}

/* --- Discards --- */

/* Pages of a run are gone; a read of them that is under way must find nothing. */
static void forget(session *s, const kvt_extent *run)
{
	operation *read = &s->ops[KVT_IO_READ];
	for (uint64_t i = 0; i < run->n_pages; i++) {
		uint64_t page = run->first_page + i;
		stress_page *p = &s->pages[run->layer][page];
		if (p->version == 0)
			continue;
		p->version = 0;
		read->cut |= read->active && read->submitted && read->run.layer == run->layer &&
			     page >= read->run.first_page &&
			     page - read->run.first_page < read->run.n_pages;
	}
}

static uint64_t count_there(const session *s, const kvt_extent *run)
{
	uint64_t n = 0;
	for (uint64_t i = 0; i < run->n_pages; i++)
		n += s->pages[run->layer][run->first_page + i].version != 0;
	return n;
}

static void discard(session *s, const kvt_extent *run)
{
	session_stress *stress = s->stress;
	uint64_t there = count_there(s, run);
	uint64_t freed = stress->tier->ops->discard(stress->tier, s->tenant, run);
	g_assert_cmpuint(freed, ==, there * run->page_bytes);
	forget(s, run);
	stress->counts.discards++;
	stress->counts.discarded_pages += there;
}

static kvt_extent whole_layer(const session *s, uint32_t layer)
{
	return (kvt_extent){ s->context, layer, 0, PAGES, page_bytes[layer] };
}

/* Throws out the session that was not used for longest and has something. */
static void evict(session_stress *stress)
{
	session *oldest = NULL;
	for (unsigned i = 0; i < stress->spec.sessions; i++) {
		session *s = &stress->sessions[i];
		uint64_t there = 0;
		if (oldest && s->used >= oldest->used)
			continue;
		for (uint32_t layer = 0; layer < LAYERS && there == 0; layer++) {
			const kvt_extent all = whole_layer(s, layer);
			there = count_there(s, &all);
		}
		if (there > 0)
			oldest = s;
	}
	for (uint32_t layer = 0; oldest && layer < LAYERS; layer++) {
		const kvt_extent all = whole_layer(oldest, layer);
		discard(oldest, &all);
	}
	stress->counts.evicted_sessions += oldest != NULL;
}

/* --- The ends of I/Os --- */

/* After a write that failed each page is what it was, or lost. */
static void settle_failed(session *s, const operation *op)
{
	kvt_tier *tier = s->stress->tier;
	kvt_extent one = op->run;
	one.n_pages = 1;
	for (uint64_t i = 0; i < op->run.n_pages; i++, one.first_page++) {
		stress_page *p = &s->pages[one.layer][one.first_page];
		bool holds = tier->ops->holds(tier, s->tenant, &one);
		p->failed = op->version;
		g_assert_true(!holds || p->version > 0);
		if (p->version == 0 || holds)
			continue;
		s->stress->counts.lost++;
		forget(s, &one);
	}
}

static void write_ended(session *s, operation *op)
{
	stress_counts *counts = &s->stress->counts;
	if (op->io.status == 0) {
		counts->writes++;
		counts->written_pages += op->run.n_pages;
		counts->written_bytes += op->io.bytes;
		for (uint64_t i = 0; i < op->run.n_pages; i++)
			s->pages[op->run.layer][op->run.first_page + i].version = op->version;
	} else if (op->io.status == -ENOSPC) {
		counts->full++;
		evict(s->stress);
	} else {
		g_assert_cmpint(op->io.status, ==, s->stress->spec.faults ? -EIO : 0);
		counts->failed++;
		settle_failed(s, op);
	}
}

/* A version that was there at some time while the read was under way. */
static void check_version(const stress_page *page, uint32_t before, int64_t version)
{
	g_assert_cmpint(version, >=, before);
	g_assert_cmpint(version, <=, page->version);
	g_assert_cmpint(version, !=, page->failed);
}

static void read_ended(session *s, operation *op)
{
	stress_counts *counts = &s->stress->counts;
	if (op->io.status == -EIO && s->stress->spec.faults) {
		counts->failed++;
		return;
	}
	if (op->absent || op->cut) {
		g_assert_cmpint(op->io.status, ==, -ENOENT);
		counts->missed++;
		return;
	}
	g_assert_cmpint(op->io.status, ==, 0);
	g_assert_cmpuint(op->io.bytes, ==, kvt_extent_bytes(&op->run));
	for (uint64_t i = 0; i < op->run.n_pages; i++) {
		uint64_t page = op->run.first_page + i;
		int64_t version = version_of(s, &op->run, i, op->memory);
		check_version(&s->pages[op->run.layer][page], op->before[i], version);
	}
	counts->reads++;
	counts->read_pages += op->run.n_pages;
	counts->read_bytes += op->io.bytes;
}

static void submit_refused(session_stress *stress);

static void io_done(kvt_io *io)
{
	operation *op = io->arg;
	session *s = op->owner;
	g_assert_true(op->active);
	op->active = false;
	s->stress->in_flight--;
	if (io->op == KVT_IO_WRITE)
		write_ended(s, op);
	else
		read_ended(s, op);
	submit_refused(s->stress);
	think(s);
}

/* --- What a session does --- */

/* A run somewhere in a layer that fits into the buffer. */
static kvt_extent choose_run(session *s)
{
	uint32_t layer = (uint32_t)choose(s, LAYERS);
	uint64_t most = MIN(BUFFER_BYTES / page_bytes[layer], PAGES / 2);
	uint64_t n = 1 + choose(s, most);
	return (kvt_extent){ s->context, layer, choose(s, PAGES - n + 1), n, page_bytes[layer] };
}

/* Makes the run one of pages that are there, as far as there are any in its layer. */
static bool keep_what_is_there(const session *s, kvt_extent *run)
{
	const stress_page *pages = s->pages[run->layer];
	uint64_t first = run->first_page, most = run->n_pages;
	while (first < PAGES && pages[first].version == 0)
		first++;
	uint64_t stop = first;
	while (stop < PAGES && stop < first + most && pages[stop].version != 0)
		stop++;
	if (stop == first)
		return false;
	run->first_page = first;
	run->n_pages = stop - first;
	return true;
}

/* What the operation is to be when it is over is as it is now. */
static void prepare(session *s, operation *op)
{
	op->cut = op->absent = false;
	for (uint64_t i = 0; i < op->run.n_pages; i++) {
		op->before[i] = s->pages[op->run.layer][op->run.first_page + i].version;
		op->absent |= op->before[i] == 0;
	}
}

/* False: the tier has enough for now. */
static bool submit(operation *op)
{
	session *s = op->owner;
	session_stress *stress = s->stress;
	prepare(s, op);
	int error = kvt_tier_submit(stress->tier, &op->io);
	stress->counts.refused += error == -EAGAIN;
	if (error == -EAGAIN)
		return false;
	g_assert_cmpint(error, ==, 0);
	kvt_tier_commit(stress->tier);
	op->submitted = true;
	stress->in_flight++;
	stress->counts.in_flight = MAX(stress->counts.in_flight, stress->in_flight);
	return true;
}

static void submit_refused(session_stress *stress)
{
	while (stress->refused && submit(stress->refused)) {
		stress->refused = stress->refused->next;
		if (!stress->refused)
			stress->last_refused = &stress->refused;
	}
}

static void start(session *s, kvt_io_op kind, const kvt_extent *run)
{
	session_stress *stress = s->stress;
	operation *op = &s->ops[kind];
	op->active = true;
	op->submitted = false;
	op->run = *run;
	op->io = (kvt_io){ .op = kind,
		.tenant = s->tenant,
		.priority = (unsigned)choose(s, KVT_PRIORITY_CLASSES),
		.extents = &op->run,
		.n_extents = 1,
		.memory = &op->memory,
		.done = io_done,
		.arg = op };
	if (kind == KVT_IO_WRITE) {
		op->version = ++s->versions;
		fill(s, run, op->version, op->memory);
	}
	if (!stress->refused && submit(op))
		return;
	op->next = NULL;
	*stress->last_refused = op;
	stress->last_refused = &op->next;
}

/* The session's next step; each step, once over, is followed by a pause and another. */
static void act(void *arg)
{
	session *s = arg;
	session_stress *stress = s->stress;
	if (is_over(stress))
		return;
	s->used = ++stress->clock;
	kvt_extent run = choose_run(s);
	uint64_t dice = choose(s, 100);
	kvt_io_op kind = dice < 40 ? KVT_IO_WRITE : KVT_IO_READ;
	/* now and then of what is not there */
	if (kind == KVT_IO_READ && dice < 98 && !keep_what_is_there(s, &run))
		kind = KVT_IO_WRITE;
	/* the other step of the session may be at it */
	if (dice >= 4 && s->ops[kind].active) {
		think(s);
		return;
	}
	stress->operations++;
	if (dice >= 4) {
		start(s, kind, &run);
		return;
	}
	discard(s, &run);
	think(s);
}

static void take_sample(void *arg)
{
	session_stress *stress = arg;
	const stress_spec *spec = &stress->spec;
	stress->counts.seconds = kvt_time_to_seconds(kvt_loop_now(stress->loop) - stress->began);
	spec->sample(spec->sample_arg, &stress->counts);
	if (!is_over(stress))
		kvt_loop_after(stress->loop, kvt_time_from_seconds(1 / spec->samples), take_sample,
			stress);
}

/* --- The whole --- */

session_stress *session_stress_new(kvt_loop *loop, kvt_tier *tier, const stress_spec *spec)
{
	session_stress *stress = g_new0(session_stress, 1);
	stress->loop = loop;
	stress->tier = tier;
	stress->spec = *spec;
	stress->sessions = g_new0(session, spec->sessions);
	stress->memory = aligned_alloc(4096, (size_t)spec->sessions * 2 * BUFFER_BYTES);
	g_assert_nonnull(stress->memory);
	/* touched now: what the process takes later is not the sessions' */
	memset(stress->memory, 1, (size_t)spec->sessions * 2 * BUFFER_BYTES);
	stress->last_refused = &stress->refused;
	for (unsigned i = 0; i < spec->sessions; i++) {
		session *s = &stress->sessions[i];
		s->stress = stress;
		/* tenants have contexts of the same numbers */
		s->tenant = i % spec->tenants;
		s->context = i / spec->tenants;
		s->rng = kvt_rng_init(spec->seed, i);
		for (unsigned kind = 0; kind < 2; kind++) {
			s->ops[kind].owner = s;
			s->ops[kind].memory =
				(uint8_t *)stress->memory + (i * 2 + kind) * (size_t)BUFFER_BYTES;
		}
	}
	return stress;
}

void session_stress_free(session_stress *stress)
{
	g_free(stress->sessions);
	free(stress->memory);
	g_free(stress);
}

void session_stress_run(session_stress *stress, stress_counts *counts)
{
	stress->began = kvt_loop_now(stress->loop);
	/* two threads of steps each, so that a session reads while it writes */
	for (unsigned i = 0; i < stress->spec.sessions; i++)
		for (unsigned kind = 0; kind < 2; kind++)
			think(&stress->sessions[i]);
	if (stress->spec.samples > 0)
		take_sample(stress);
	kvt_loop_run(stress->loop);
	g_assert_cmpuint(stress->in_flight, ==, 0);
	stress->counts.seconds = kvt_time_to_seconds(kvt_loop_now(stress->loop) - stress->began);
	*counts = stress->counts;
}

static void note_status(kvt_io *io)
{
	*(bool *)io->arg = true;
}

/* Reads a run of pages that are there. */
static void verify_run(session *s, kvt_loop *loop, kvt_tier *tier, const kvt_extent *run)
{
	operation *op = &s->ops[KVT_IO_READ];
	bool done = false;
	kvt_io io = { .op = KVT_IO_READ,
		.tenant = s->tenant,
		.extents = run,
		.n_extents = 1,
		.memory = &op->memory,
		.done = note_status,
		.arg = &done };
	g_assert_cmpint(kvt_tier_submit(tier, &io), ==, 0);
	kvt_tier_commit(tier);
	kvt_loop_run(loop);
	g_assert_true(done);
	g_assert_cmpint(io.status, ==, 0);
	for (uint64_t i = 0; i < run->n_pages; i++)
		g_assert_cmpint(version_of(s, run, i, op->memory), ==,
			s->pages[run->layer][run->first_page + i].version);
}

void session_stress_verify(session_stress *stress, kvt_loop *loop, kvt_tier *tier)
{
	uint64_t bytes = 0;
	for (unsigned i = 0; i < stress->spec.sessions; i++)
		for (uint32_t layer = 0; layer < LAYERS; layer++) {
			session *s = &stress->sessions[i];
			kvt_extent run = whole_layer(s, layer);
			bytes += count_there(s, &run) * run.page_bytes;
			run.n_pages = 1;
			for (; run.first_page < PAGES; run.first_page++)
				g_assert_cmpint(tier->ops->holds(tier, s->tenant, &run), ==,
					s->pages[layer][run.first_page].version != 0);
			for (uint64_t page = 0; page < PAGES; page += run.n_pages) {
				run.first_page = page;
				run.n_pages = 1;
				if (s->pages[layer][page].version == 0)
					continue;
				run.n_pages = MIN(BUFFER_BYTES / run.page_bytes, PAGES - page);
				keep_what_is_there(s, &run);
				verify_run(s, loop, tier, &run);
			}
		}
	kvt_tier_stats stats;
	tier->ops->stats(tier, &stats);
	g_assert_cmpuint(stats.used, ==, bytes);
	g_assert_cmpuint(stats.peak_used, <=, stats.capacity);
}

uint64_t stress_resident_bytes(void)
{
	unsigned long long size, resident = 0;
	FILE *file = fopen("/proc/self/statm", "r");
	if (file && fscanf(file, "%llu %llu", &size, &resident) != 2)
		resident = 0;
	if (file)
		fclose(file);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}
