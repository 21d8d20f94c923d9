/* sweep_ranks.c: finds and opens the module for MPI. */
#include "sim/sweep/sweep_ranks.h"

#include <dlfcn.h>

#include "sim/base/error.h"

/* Names of the module from the program's folder: of a build, and of what was installed. */
static const char *const places[] = { "kvtier-mpi.so", "../lib/kvtier/kvtier-mpi.so" };

static int64_t count_of(const char *name)
{
	const char *text = g_getenv(name);
	return text ? g_ascii_strtoll(text, NULL, 10) : 0;
}

bool kvt_sweep_ranks_wanted(void)
{
	/* Open MPI; MPICH, Intel MPI and others by PMI; PMIx alone; srun */
	return count_of("OMPI_COMM_WORLD_SIZE") > 1 || count_of("PMI_SIZE") > 1 ||
	       count_of("SLURM_STEP_NUM_TASKS") > 1;
}

static const kvt_sweep_ranks_ops *open_module(GError **error)
{
	g_autofree char *program = g_file_read_link("/proc/self/exe", NULL);
	g_autofree char *folder = program ? g_path_get_dirname(program) : g_strdup(".");
	for (unsigned i = 0; i < G_N_ELEMENTS(places); i++) {
		g_autofree char *path = g_build_filename(folder, places[i], NULL);
		if (!g_file_test(path, G_FILE_TEST_EXISTS))
			continue;
		/* Open MPI's own plugins look for its symbols */
		void *module = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
		const kvt_sweep_ranks_ops *ops =
			module ? dlsym(module, "kvt_sweep_ranks_module") : NULL;
		if (!ops)
			kvt_error_failed(error, "%s: cannot open it: %s", path, dlerror());
		else if (ops->version != KVT_SWEEP_RANKS_VERSION)
			kvt_error_failed(error, "%s is of another kvtier, expected its own", path);
		else
			return ops;
		return NULL;
	}
	kvt_error_failed(error,
		"kvtier was started as several processes (mpirun) but built without MPI: install "
		"libopenmpi-dev and build it again, or start it once, with --threads");
	return NULL;
}

static gboolean check(const kvt_sweep_ranks *ranks, int code, GError **error)
{
	if (code == 0)
		return TRUE;
	char text[512] = "";
	ranks->ops->reason(code, text, sizeof text);
	return kvt_error_failed(error, "MPI: %s", text);
}

gboolean kvt_sweep_ranks_begin(kvt_sweep_ranks *ranks, GError **error)
{
	ranks->ops = open_module(error);
	return ranks->ops && check(ranks, ranks->ops->begin(&ranks->rank, &ranks->size), error);
}

void kvt_sweep_ranks_end(kvt_sweep_ranks *ranks)
{
	if (ranks->ops)
		ranks->ops->end();
}

gboolean kvt_sweep_ranks_send(
	kvt_sweep_ranks *ranks, int to, const GByteArray *message, GError **error)
{
	return check(ranks, ranks->ops->send(to, message->data, (int)message->len), error);
}

GByteArray *kvt_sweep_ranks_receive(kvt_sweep_ranks *ranks, int *from, GError **error)
{
	bool there = false;
	int size = 0;
	if (!check(ranks, ranks->ops->look(&there, from, &size), error) || !there)
		return NULL;
	GByteArray *message = g_byte_array_sized_new((guint)size);
	g_byte_array_set_size(message, (guint)size);
	if (check(ranks, ranks->ops->receive(*from, message->data, size), error))
		return message;
	g_byte_array_unref(message);
	return NULL;
}
