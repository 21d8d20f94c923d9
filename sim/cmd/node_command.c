/* node_command.c: `kvtier node FILE.ini`: the storage node as a process: its fabric, store and
 * metrics, and the signals that end it. What it does is emu/remote/node.h's. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "emu/loop/fd_source.h"
#include "emu/remote/metrics_server.h"
#include "emu/remote/node_settings.h"
#include "emu/loop/real_loop.h"
#include "emu/tier/uring_tier.h"
#include "emu/fabric/verbs_fabric.h"
#include "sim/base/error.h"
#include "sim/cmd/command.h"
#include "sim/cmd/command_options.h"

typedef struct server {
	kvt_loop *loop;
	kvt_fabric *fabric;
	kvt_tier *tier; /* NULL: memory alone */
	kvt_node_store store;
	kvt_node *node;
	kvt_metrics_server *metrics; /* NULL: none */
	sigset_t signals;
	int signal_fd;
	kvt_fd_source signal;
} server;

/* --- Signals --- */

static void on_drained(void *arg)
{
	kvt_loop_stop(((server *)arg)->loop);
}

static void on_signal(void *arg)
{
	server *s = arg;
	struct signalfd_siginfo signal;
	if (read(s->signal_fd, &signal, sizeof(signal)) < 0)
		return;
	g_printerr("kvtier: draining: nothing new is taken, a second signal ends at once\n");
	/* the second one kills, also where the loop is waiting for something; nothing that was
	 * acknowledged is lost by that */
	sigprocmask(SIG_UNBLOCK, &s->signals, NULL);
	kvt_fd_source_remove(&s->signal);
	close(s->signal_fd);
	s->signal_fd = -1;
	kvt_node_drain(s->node, on_drained, s);
}

/* Before any thread is there: they are not to take signals. */
static bool block_signals(server *s, GError **error)
{
	sigemptyset(&s->signals);
	sigaddset(&s->signals, SIGTERM);
	sigaddset(&s->signals, SIGINT);
	sigprocmask(SIG_BLOCK, &s->signals, NULL);
	s->signal_fd = signalfd(-1, &s->signals, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->signal_fd >= 0 ||
	       kvt_error_failed(error, "signals cannot be waited for: %s", g_strerror(errno));
}

/* --- The process --- */

static bool open_store(server *s, kvt_node_config *config, GError **error)
{
	const kvt_tier_env env = { .loop = s->loop };
	if (!config->store)
		return true;
	s->tier = kvt_tier_open_kind(&kvt_tier_store, &env, config->store, error);
	if (!s->tier)
		return false;
	const char *notice = s->tier->ops->notice(s->tier);
	if (notice)
		g_printerr("kvtier: %s\n", notice);
	s->store = kvt_node_store_over(s->tier);
	config->settings.store = &s->store;
	return true;
}

static char *metrics_text(void *arg)
{
	return kvt_node_metrics(((server *)arg)->node);
}

static bool start(server *s, kvt_node_config *config, GError **error)
{
	const kvt_verbs_settings verbs = {
		.device = config->device[0] != '\0' ? config->device : NULL,
		.address = config->address,
	};
	s->loop = kvt_real_loop_new(NULL);
	if (!s->loop)
		return kvt_error_failed(
			error, "there is no descriptor left: %s", g_strerror(errno));
	s->fabric = kvt_verbs_fabric_new(s->loop, &verbs, error);
	if (!s->fabric || !open_store(s, config, error))
		return false;
	s->node = kvt_node_new(s->loop, s->fabric, &config->settings, error);
	if (!s->node)
		return false;
	if (config->metrics[0] != '\0')
		s->metrics =
			kvt_metrics_server_new(s->loop, config->metrics, metrics_text, s, error);
	return s->metrics || config->metrics[0] == '\0';
}

static void announce(const server *s, const kvt_node_config *config)
{
	bool v6 = strchr(config->address, ':') != NULL;
	uint64_t pages = 0;
	for (unsigned i = 0; i < kvt_node_tenants(s->node); i++)
		pages += kvt_node_tenant_get(s->node, i).used;
	printf("listening on %s%s%s:%u with %s, %" PRIu64 " bytes of pages stored", v6 ? "[" : "",
		config->address, v6 ? "]" : "", kvt_node_port(s->node),
		kvt_verbs_fabric_device(s->fabric), pages);
	if (s->metrics)
		printf(", metrics at %s", kvt_metrics_server_where(s->metrics));
	printf("\n");
	fflush(stdout);
}

static void stop(server *s)
{
	kvt_metrics_server_free(s->metrics);
	kvt_node_free(s->node);
	kvt_tier_close(s->tier);
	if (s->fabric)
		s->fabric->ops->free(s->fabric);
	if (s->signal_fd >= 0)
		close(s->signal_fd);
	kvt_loop_free(s->loop);
}

static void serve(const char *path, char *const *sets, GError **error)
{
	g_autoptr(kvt_config) file = kvt_config_load(path, error);
	g_auto(kvt_node_config) config = { 0 };
	server s = { .signal_fd = -1 };
	if (!file)
		return;
	for (unsigned i = 0; sets && sets[i]; i++)
		if (!kvt_config_set(file, sets[i], error))
			return;
	if (!kvt_node_config_read(file, &config, error))
		return;
	if (block_signals(&s, error) && start(&s, &config, error)) {
		kvt_fd_source_add(&s.signal, s.loop, s.signal_fd, on_signal, &s);
		announce(&s, &config);
		kvt_loop_run(s.loop);
	}
	stop(&s);
}

static int run(int argc, char **argv, GError **error)
{
	const kvt_command_syntax syntax = { &kvt_command_node, KVT_TAKES_SET, 1, 1, NULL };
	g_auto(kvt_command_options) options = { 0 };
	if (kvt_command_parse(&syntax, argc, argv, &options, error))
		serve(options.arguments[0], options.sets, error);
	return 0;
}

static char *sections(void)
{
	g_autofree char *node = kvt_option_help(kvt_node_options);
	g_autofree char *tenant = kvt_option_help(kvt_node_tenant_options);
	g_autofree char *store = kvt_option_help(kvt_tier_store.options);
	return g_strdup_printf(
		"\n[node]\n\n%s\n[tenant N]: those who may connect, by number\n\n%s\n"
		"[store]: where pages are kept; without it they are in memory "
		"alone\n\n%s",
		node, tenant, store);
}

const kvt_command kvt_command_node = {
	.name = "node",
	.summary = "Serve pages from memory and drives over RDMA",
	.arguments = "FILE.ini",
	.help = "A storage node: clients (\"tier = remote\") read pages one-sided from its pool of "
		"memory;\nwhat they write is acknowledged when the store has it. It prints one "
		"line when it listens.\nSIGTERM or SIGINT: nothing new is taken, what is under way "
		"ends, exit status 0; a second\none ends it at once. Whatever ends it, what was "
		"acknowledged is there when it is started\nagain: with [store] sync = none unless "
		"the power was cut, with data even then.\n\n"
		"  kvtier node experiments/nodes/two-tenants.ini",
	.more = sections,
	.run = run,
};
