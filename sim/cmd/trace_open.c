/* trace_open.c: opens an attention trace, first in a child process that may die of it. */
#include "sim/cmd/trace_open.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim/base/error.h"

/* Processor seconds that a trial may take: opening reads no more than offsets and steps. */
enum { TRIAL_SECONDS = 5 };

/* Opens the trace and its layers. Never returns; all is well or was refused when it exits with 0.
 */
static void try_in_child(const char *path)
{
	const struct rlimit no_core = { 0, 0 }, processor = { TRIAL_SECONDS, TRIAL_SECONDS };
	int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
	setrlimit(RLIMIT_CORE, &no_core);
	setrlimit(RLIMIT_CPU, &processor);
	/* A sanitizer or the C library may have last words; the parent says it better. */
	dup2(nowhere, STDERR_FILENO);
	kvt_attention_trace *trace = kvt_attention_trace_open(path, NULL);
	uint32_t count = 0;
	const uint32_t *layers = trace != NULL ? kvt_attention_trace_layers(trace, &count) : NULL;
	for (uint32_t i = 0; i < count; i++)
		kvt_attention_layer_close(kvt_attention_layer_open(trace, layers[i], 0, NULL));
	kvt_attention_trace_close(trace);
	_exit(0);
}

static bool survives(const char *path, GError **error)
{
	pid_t child = fork();
	if (child < 0)
		return true; /* no process to spare: open it without a trial */
	if (child == 0)
		try_in_child(path);
	int status;
	if (waitpid(child, &status, 0) != child || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
		return true;
	const char *end = "a crash";
	if (WIFSIGNALED(status))
		end = WTERMSIG(status) == SIGXCPU || WTERMSIG(status) == SIGKILL
			      ? "an endless loop"
			      : strsignal(WTERMSIG(status));
	return kvt_error_at(error, path, 0,
		"damaged HDF5 file (the HDF5 library fails on it: %s), expected an attention trace",
		end);
}

kvt_attention_trace *kvt_command_open_trace(const char *path, GError **error)
{
	return survives(path, error) ? kvt_attention_trace_open(path, error) : NULL;
}
