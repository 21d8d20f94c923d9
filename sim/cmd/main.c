/* main.c: the kvtier command. It finds the subcommand, runs it, and reports what went wrong. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sim/base/error.h"
#include "sim/cmd/command.h"

static gboolean is_one_of(const char *word, const char *a, const char *b)
{
	return strcmp(word, a) == 0 || strcmp(word, b) == 0;
}

static int run_command(int argc, char **argv, GError **error)
{
	if (argc < 2) {
		g_autofree char *overview = kvt_command_overview();
		fputs(overview, stderr);
		return KVT_ERROR_USAGE;
	}
	const char *name = argv[1];
	if (is_one_of(name, "--version", "-V")) {
		puts("kvtier " KVT_VERSION);
		return 0;
	}
	const kvt_command *command =
		is_one_of(name, "--help", "-h") ? &kvt_command_help : kvt_command_find(name, error);
	return command != NULL ? command->run(argc - 1, argv + 1, error) : KVT_ERROR_USAGE;
}

/* A result that was not written whole is a failed run, even when all else went well. */
static gboolean finish_output(GError **error)
{
	gboolean failed = ferror(stdout);
	errno = 0;
	if (fclose(stdout) != 0 || failed)
		return kvt_error_failed(error, "cannot write to standard output: %s",
			errno != 0 ? g_strerror(errno) : "a write failed");
	return TRUE;
}

int main(int argc, char **argv)
{
	g_autoptr(GError) error = NULL;
	int status = run_command(argc, argv, &error);
	finish_output(error == NULL ? &error : NULL);
	if (error == NULL)
		return status;
	fprintf(stderr, "kvtier: %s\n", error->message);
	return error->domain == KVT_ERROR ? error->code : KVT_ERROR_FAILED;
}
