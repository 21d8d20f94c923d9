/* calibrate_host.c: memory, copies, checksums, multiply-adds and scores in threads' own time;
 * timers and wake-ups by the clock. */
#include <errno.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "emu/calibrate/calibrate_loops.h"
#include "emu/calibrate/calibration.h"
#include "emu/store/page_checksum.h"
#include "emu/loop/real_loop.h"
#include "sim/base/error.h"
#include "sim/base/rng.h"
#include "sim/base/units.h"

enum { REPEATS = 5, PAGE = 65536, CODE_DIM = 128, CODE_HEADS = 4, LINE = 64 };

const kvt_host_figure_info kvt_host_figures[KVT_HOST_FIGURES] = {
	{ "memory_read_one", KVT_UNIT_RATE, "memory read, one thread" },
	{ "memory_read_all", KVT_UNIT_RATE, "memory read, a thread a core" },
	{ "copy", KVT_UNIT_RATE, "memory copied, one thread" },
	{ "checksum", KVT_UNIT_RATE, "xxh3 of 64 KiB pages, one thread" },
	{ "fma", KVT_UNIT_FLOPS, "FP32 multiply-adds, one thread" },
	{ "dram_latency", KVT_UNIT_TIME, "load that misses all caches" },
	{ "timer", KVT_UNIT_TIME, "timer due to its callback" },
	{ "wake", KVT_UNIT_TIME, "loop to a sleeping thread and back" },
	{ "call", KVT_UNIT_TIME, "loop to waiting threads and back" },
	{ "start", KVT_UNIT_TIME, "threads' part of an empty call" },
	{ "merge", KVT_UNIT_RATE, "partial results merged, all threads" },
	{ "score", KVT_UNIT_RATE, "page codes scored, one thread" },
	{ "score_means", KVT_UNIT_RATE, "mean records scored, one thread" },
};

double kvt_thread_seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

typedef struct bench {
	kvt_isa isa;
	bool quick;
	uint64_t bytes;
	unsigned char *memory, *other; /* `bytes` each */
	volatile uint64_t sink;        /* what was read */
} bench;

/* One turn of a figure, bytes or FLOPs; its time is taken around it. */
typedef double (*turn_fn)(bench *b);

static double read_turn(bench *b)
{
	b->sink += kvt_loop_read(b->isa, b->memory, b->bytes);
	return (double)b->bytes;
}

static double copy_turn(bench *b)
{
	memcpy(b->other, b->memory, b->bytes);
	b->sink += b->other[b->bytes / 2];
	return (double)b->bytes;
}

static double checksum_turn(bench *b)
{
	for (uint64_t at = 0; at < b->bytes; at += PAGE)
		b->sink += kvt_page_checksum(b->memory + at, PAGE);
	return (double)b->bytes;
}

static double fma_turn(bench *b)
{
	float sum;
	double flops = kvt_loop_multiply_add(b->isa, b->quick ? 300000 : 3000000, &sum);
	b->sink += (uint64_t)sum;
	return flops;
}

static kvt_measured rate_of(bench *b, turn_fn turn)
{
	double rates[REPEATS];
	turn(b); /* pages are mapped, clocks are up */
	for (unsigned i = 0; i < REPEATS; i++) {
		double begin = kvt_thread_seconds(), work = turn(b);
		rates[i] = work / MAX(kvt_thread_seconds() - begin, 1e-9);
	}
	return kvt_measured_of(rates, REPEATS);
}

typedef struct reader {
	bench *bench;
	uint64_t from, bytes;
	volatile uint64_t sink;
	double rate;
	int *waiting; /* threads that have not begun */
} reader;

/* Begins when all have, so that they read at the same time. */
static gpointer read_part(gpointer arg)
{
	reader *r = arg;
	g_atomic_int_add(r->waiting, -1);
	while (g_atomic_int_get(r->waiting) > 0)
		g_thread_yield();
	double begin = kvt_thread_seconds();
	r->sink = kvt_loop_read(r->bench->isa, r->bench->memory + r->from, r->bytes);
	r->rate = (double)r->bytes / MAX(kvt_thread_seconds() - begin, 1e-9);
	return NULL;
}

static kvt_measured read_by_all(bench *b, unsigned threads)
{
	double rates[REPEATS];
	g_autofree reader *readers = g_new0(reader, threads);
	g_autofree GThread **running = g_new(GThread *, threads);
	uint64_t part = b->bytes / threads / 1024 * 1024;
	for (unsigned i = 0; i < REPEATS; i++) {
		int waiting = (int)threads;
		rates[i] = 0;
		for (unsigned t = 0; t < threads; t++) {
			readers[t] = (reader){
				.bench = b, .from = t * part, .bytes = part, .waiting = &waiting
			};
			running[t] = g_thread_new("read", read_part, &readers[t]);
		}
		for (unsigned t = 0; t < threads; t++) {
			g_thread_join(running[t]);
			rates[i] += readers[t].rate;
		}
	}
	return kvt_measured_of(rates, REPEATS);
}

/* A random cycle through all lines (Sattolo's), each load needing the one before. */
static kvt_measured latency_of(bench *b)
{
	uint64_t lines = b->bytes / LINE, steps = b->quick ? 100000 : 500000;
	g_autofree uint32_t *order = g_new(uint32_t, lines);
	kvt_rng rng = kvt_rng_init(3, 3);
	for (uint64_t i = 0; i < lines; i++)
		order[i] = (uint32_t)i;
	for (uint64_t i = lines - 1; i > 0; i--) {
		uint64_t j = kvt_rng_below(&rng, i);
		uint32_t kept = order[i];
		order[i] = order[j];
		order[j] = kept;
	}
	for (uint64_t i = 0; i < lines; i++)
		memcpy(b->other + i * LINE, &order[i], sizeof(uint32_t));
	double seconds[REPEATS];
	uint32_t at = 0;
	for (unsigned r = 0; r < REPEATS; r++) {
		double begin = kvt_thread_seconds();
		for (uint64_t i = 0; i < steps; i++)
			memcpy(&at, b->other + (uint64_t)at * LINE, sizeof(at));
		seconds[r] = (kvt_thread_seconds() - begin) / (double)steps;
	}
	b->sink += at;
	return kvt_measured_of(seconds, REPEATS);
}

enum { TICKS = 200 };
static const kvt_time TICK = 200 * KVT_MICROSECOND;

/* Timers one after the other, and a thread that is woken and posts back. */
typedef struct clockwork {
	kvt_loop *loop;
	unsigned done;
	kvt_time due;
	double seconds[TICKS];
	GMutex mutex;
	GCond cond;
	bool wanted, over;
} clockwork;

static void on_tick(void *arg)
{
	clockwork *c = arg;
	kvt_time now = kvt_loop_now(c->loop);
	c->seconds[c->done++] = kvt_time_to_seconds(MAX(now - c->due, 1));
	if (c->done == TICKS)
		return;
	c->due = now + TICK;
	kvt_loop_at(c->loop, c->due, on_tick, c);
}

static void ask(void *arg)
{
	clockwork *c = arg;
	c->due = kvt_loop_now(c->loop);
	g_mutex_lock(&c->mutex);
	c->wanted = true;
	g_cond_signal(&c->cond);
	g_mutex_unlock(&c->mutex);
}

static void on_answer(void *arg)
{
	clockwork *c = arg;
	c->seconds[c->done++] = kvt_time_to_seconds(kvt_loop_now(c->loop) - c->due);
	if (c->done == TICKS)
		kvt_real_loop_release(c->loop);
	else /* later, when the thread is asleep again */
		kvt_loop_after(c->loop, TICK, ask, c);
}

static gpointer answer(gpointer arg)
{
	clockwork *c = arg;
	g_mutex_lock(&c->mutex);
	while (!c->over) {
		if (!c->wanted) {
			g_cond_wait(&c->cond, &c->mutex);
			continue;
		}
		c->wanted = false;
		kvt_real_loop_post(c->loop, on_answer, c);
	}
	g_mutex_unlock(&c->mutex);
	return NULL;
}

/* Median with quartiles: a tail of other programs' doing is no property of the machine. */
static kvt_measured quartiles(double *seconds)
{
	kvt_measured all = kvt_measured_of(seconds, TICKS);
	return (kvt_measured){ all.value, seconds[TICKS / 4], seconds[TICKS - TICKS / 4] };
}

static gboolean measure_clocks(kvt_calibration *calibration, GError **error)
{
	clockwork c = { .loop = kvt_real_loop_new(NULL) };
	if (!c.loop)
		return kvt_error_failed(error, "calibrate: no loop: %s", g_strerror(errno));
	c.due = kvt_loop_now(c.loop) + TICK;
	kvt_loop_at(c.loop, c.due, on_tick, &c);
	kvt_loop_run(c.loop);
	calibration->host[KVT_HOST_TIMER] = quartiles(c.seconds);

	c.done = 0;
	g_mutex_init(&c.mutex);
	g_cond_init(&c.cond);
	GThread *thread = g_thread_new("answer", answer, &c);
	kvt_real_loop_hold(c.loop);
	kvt_loop_after(c.loop, TICK, ask, &c);
	kvt_loop_run(c.loop);
	calibration->host[KVT_HOST_WAKE] = quartiles(c.seconds);
	g_mutex_lock(&c.mutex);
	c.over = true;
	g_cond_signal(&c.cond);
	g_mutex_unlock(&c.mutex);
	g_thread_join(thread);
	g_mutex_clear(&c.mutex);
	g_cond_clear(&c.cond);
	kvt_loop_free(c.loop);
	return TRUE;
}

/* Page codes made of whatever memory holds: what they say does not matter to how fast they are. */
static void measure_scores(kvt_calibration *calibration, bench *b)
{
	uint32_t pages = b->quick ? 2048 : 32768;
	size_t means = kvt_code_means_bytes(CODE_DIM, pages);
	size_t bytes = kvt_code_query_bytes(CODE_DIM, CODE_HEADS);
	void *memory = g_aligned_alloc0(1, bytes, LINE);
	kvt_codes codes = { CODE_DIM, b->memory, b->memory + (means + LINE - 1) / LINE * LINE };
	g_assert(codes.details + pages * kvt_code_detail_bytes(CODE_DIM) <= b->memory + b->bytes);
	g_autofree float *sums = g_new0(float, (size_t)pages *CODE_HEADS);
	float queries[CODE_HEADS * CODE_DIM];
	for (unsigned i = 0; i < G_N_ELEMENTS(queries); i++)
		queries[i] = (float)(i % 7) - 3;
	kvt_code_query query;
	int status = kvt_code_query_init(&query, CODE_DIM, CODE_HEADS, memory);
	g_assert(status == 0);
	kvt_code_query_set(&query, queries, 0.05f);
	kvt_page_list list = { .n = pages };
	double whole[REPEATS], coarse[REPEATS];
	for (unsigned i = 0; i < REPEATS; i++) {
		double begin = kvt_thread_seconds();
		kvt_code_score(b->isa, &codes, &query, &list, sums, pages);
		double middle = kvt_thread_seconds();
		kvt_code_score_means(b->isa, &codes, &query, &list, sums, pages);
		double end = kvt_thread_seconds();
		size_t all = means + pages * kvt_code_detail_bytes(CODE_DIM);
		whole[i] = (double)all / MAX(middle - begin, 1e-9);
		coarse[i] = (double)means / MAX(end - middle, 1e-9);
	}
	calibration->host[KVT_HOST_SCORE] = kvt_measured_of(whole, REPEATS);
	calibration->host[KVT_HOST_SCORE_MEANS] = kvt_measured_of(coarse, REPEATS);
	g_aligned_free(memory);
}

/* "model name" of /proc/cpuinfo, or the machine's architecture. */
static char *cpu_name(const char *machine)
{
	g_autofree char *text = NULL;
	const char *at = NULL;
	if (g_file_get_contents("/proc/cpuinfo", &text, NULL, NULL))
		at = strstr(text, "model name");
	at = at ? strchr(at, ':') : NULL;
	if (!at)
		return g_strdup(machine);
	return g_strstrip(g_strndup(at + 1, strcspn(at + 1, "\n")));
}

static void describe(kvt_calibration *calibration)
{
	struct utsname name;
	uname(&name);
	g_free(calibration->cpu);
	g_free(calibration->kernel);
	calibration->cpu = cpu_name(name.machine);
	calibration->kernel = g_strdup_printf("%s %s", name.sysname, name.release);
	calibration->cores = g_get_num_processors();
	calibration->memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
	if (cache <= 0)
		cache = sysconf(_SC_LEVEL2_CACHE_SIZE);
	calibration->cache = cache > 0 ? (uint64_t)cache : 32 << 20;
}

gboolean kvt_calibrate_host(
	kvt_calibration *calibration, const kvt_calibrate_settings *settings, GError **error)
{
	describe(calibration);
	if (settings->progress)
		settings->progress(settings->progress_arg, "host", 0, 1);
	bench b = { .isa = kvt_isa_best(), .quick = settings->quick };
	b.bytes = (uint64_t)(settings->quick ? 16 : 128) << 20;
	b.memory = g_aligned_alloc(1, b.bytes, LINE);
	b.other = g_aligned_alloc0(1, b.bytes, LINE);
	for (uint64_t i = 0; i < b.bytes; i++)
		b.memory[i] = (unsigned char)(i * 2654435761u >> 13);
	kvt_measured *host = calibration->host;
	host[KVT_HOST_MEMORY_ONE] = rate_of(&b, read_turn);
	host[KVT_HOST_MEMORY_ALL] = read_by_all(&b, calibration->cores);
	host[KVT_HOST_COPY] = rate_of(&b, copy_turn);
	host[KVT_HOST_CHECKSUM] = rate_of(&b, checksum_turn);
	host[KVT_HOST_FMA] = rate_of(&b, fma_turn);
	host[KVT_HOST_DRAM_LATENCY] = latency_of(&b);
	measure_scores(calibration, &b);
	g_aligned_free(b.memory);
	g_aligned_free(b.other);
	return measure_clocks(calibration, error);
}
