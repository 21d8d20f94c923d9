/* metrics_server.c: a listener and a few short connections in one epoll, each answered once. */
#include "emu/remote/metrics_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "emu/loop/fd_source.h"
#include "sim/base/error.h"

enum { CLIENTS = 16, REQUEST_BYTES = 4096 };

/* A client that does not ask or take its answer within this is dropped. */
#define PATIENCE (5 * KVT_SECOND)

typedef struct metrics_client {
	int fd; /* -1: none */
	kvt_time since;
	char request[REQUEST_BYTES];
	size_t n;
	GString *answer; /* NULL: it has not asked */
	size_t sent;
} metrics_client;

struct kvt_metrics_server {
	kvt_loop *loop;
	kvt_fd_source source;
	int epoll, fd;
	char *where, *path; /* path: of a Unix socket that is bound */
	char *(*text)(void *arg);
	void *arg;
	metrics_client clients[CLIENTS];
};

typedef union address {
	struct sockaddr any;
	struct sockaddr_un local;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
} address;

/* --- Where --- */

static gboolean parse_port(const char *text, uint16_t *port)
{
	guint64 value;
	if (!g_ascii_string_to_unsigned(text, 10, 0, 65535, &value, NULL))
		return FALSE;
	*port = (uint16_t)value;
	return TRUE;
}

static gboolean parse_inet(const char *where, address *to, socklen_t *length)
{
	const char *colon = strrchr(where, ':');
	uint16_t port;
	if (!colon || !parse_port(colon + 1, &port))
		return FALSE;
	g_autofree char *host = g_strndup(where, (gsize)(colon - where));
	size_t n = strlen(host);
	if (inet_pton(AF_INET, host, &to->v4.sin_addr) == 1) {
		to->v4.sin_family = AF_INET;
		to->v4.sin_port = htons(port);
		*length = sizeof(to->v4);
		return ntohl(to->v4.sin_addr.s_addr) >> 24 == 127;
	}
	if (n < 2 || host[0] != '[' || host[n - 1] != ']')
		return FALSE;
	host[n - 1] = '\0';
	to->v6.sin6_family = AF_INET6;
	to->v6.sin6_port = htons(port);
	*length = sizeof(to->v6);
	return inet_pton(AF_INET6, host + 1, &to->v6.sin6_addr) == 1 &&
	       IN6_IS_ADDR_LOOPBACK(&to->v6.sin6_addr);
}

static gboolean parse_where(const char *where, address *to, socklen_t *length, GError **error)
{
	g_autofree char *quoted = kvt_error_quote(where);
	memset(to, 0, sizeof(*to));
	if (!g_str_has_prefix(where, "unix:"))
		return parse_inet(where, to, length) ||
		       kvt_error_usage(error,
			       "%s is no place for metrics, expected unix:/PATH or a port of the "
			       "loopback, like 127.0.0.1:9400 or [::1]:9400",
			       quoted);
	const char *path = where + strlen("unix:");
	if (path[0] != '/' || strlen(path) >= sizeof(to->local.sun_path))
		return kvt_error_usage(error,
			"%s: expected a path from the root of at most %zu bytes", quoted,
			sizeof(to->local.sun_path) - 1);
	to->local.sun_family = AF_UNIX;
	g_strlcpy(to->local.sun_path, path, sizeof(to->local.sun_path));
	*length = sizeof(to->local);
	return TRUE;
}

gboolean kvt_metrics_where_check(const char *where, GError **error)
{
	address at;
	socklen_t length;
	return parse_where(where, &at, &length, error);
}

/* --- Clients --- */

static void drop(kvt_metrics_server *server, metrics_client *client)
{
	if (client->fd < 0)
		return;
	close(client->fd);
	if (client->answer)
		g_string_free(client->answer, TRUE);
	*client = (metrics_client){ .fd = -1 };
}

static GString *answer_to(const kvt_metrics_server *server, const char *request)
{
	const char *status = "200 OK";
	g_autofree char *body = NULL;
	if (!g_str_has_prefix(request, "GET "))
		status = "405 Method Not Allowed";
	else if (!g_str_has_prefix(request, "GET /metrics ") &&
		 !g_str_has_prefix(request, "GET /metrics?"))
		status = "404 Not Found";
	else
		body = server->text(server->arg);
	GString *answer = g_string_new(NULL);
	g_string_printf(answer,
		"HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4\r\n"
		"Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
		status, body ? strlen(body) : 0, body ? body : "");
	return answer;
}

/* Sends what it will take; it is dropped when it has all, or does not listen. */
static void send_more(kvt_metrics_server *server, metrics_client *client)
{
	while (client->sent < client->answer->len) {
		ssize_t n = send(client->fd, client->answer->str + client->sent,
			client->answer->len - client->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN) {
			struct epoll_event event = { EPOLLOUT, { .ptr = client } };
			epoll_ctl(server->epoll, EPOLL_CTL_MOD, client->fd, &event);
			return;
		}
		if (n <= 0)
			break;
		client->sent += (size_t)n;
	}
	shutdown(client->fd, SHUT_WR);
	drop(server, client);
}

static void receive_more(kvt_metrics_server *server, metrics_client *client)
{
	ssize_t n = recv(client->fd, client->request + client->n,
		sizeof(client->request) - 1 - client->n, MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		drop(server, client);
		return;
	}
	client->n += (size_t)n;
	client->request[client->n] = '\0';
	bool whole = strstr(client->request, "\r\n\r\n") || strstr(client->request, "\n\n");
	if (whole) {
		client->answer = answer_to(server, client->request);
		send_more(server, client);
	} else if (client->n == sizeof(client->request) - 1) {
		drop(server, client);
	}
}

static void accept_client(kvt_metrics_server *server)
{
	kvt_time now = kvt_loop_now(server->loop);
	int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	for (unsigned i = 0; i < CLIENTS; i++) {
		metrics_client *client = &server->clients[i];
		if (client->fd >= 0 && now - client->since > PATIENCE)
			drop(server, client);
		if (client->fd >= 0)
			continue;
		struct epoll_event event = { EPOLLIN, { .ptr = client } };
		*client = (metrics_client){ .fd = fd, .since = now };
		if (epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
			drop(server, client);
		return;
	}
	close(fd);
}

static void on_ready(void *arg)
{
	kvt_metrics_server *server = arg;
	struct epoll_event events[CLIENTS + 1];
	int n = epoll_wait(server->epoll, events, G_N_ELEMENTS(events), 0);
	for (int i = 0; i < n; i++) {
		metrics_client *client = events[i].data.ptr;
		if (!client)
			accept_client(server);
		else if (client->answer)
			send_more(server, client);
		else if (client->fd >= 0)
			receive_more(server, client);
	}
}

/* --- The server --- */

/* A socket that its process left behind: nobody answers there. */
static void remove_stale(const address *at, socklen_t length)
{
	struct stat st;
	if (lstat(at->local.sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
		return;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (connect(fd, &at->any, length) < 0 && errno == ECONNREFUSED)
		unlink(at->local.sun_path);
	close(fd);
}

static bool listen_at(kvt_metrics_server *server, address *at, socklen_t length)
{
	const int one = 1;
	server->fd = socket(at->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (server->fd < 0)
		return false;
	if (at->any.sa_family == AF_UNIX)
		remove_stale(at, length);
	else if (setsockopt(server->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0)
		return false;
	if (bind(server->fd, &at->any, length) < 0)
		return false;
	if (at->any.sa_family == AF_UNIX)
		server->path = g_strdup(at->local.sun_path);
	return listen(server->fd, CLIENTS) == 0 &&
	       getsockname(server->fd, &at->any, &(socklen_t){ sizeof(*at) }) == 0;
}

static char *where_text(const char *where, const address *at)
{
	if (at->any.sa_family == AF_UNIX)
		return g_strdup(where);
	uint16_t port = at->any.sa_family == AF_INET ? at->v4.sin_port : at->v6.sin6_port;
	return g_strdup_printf("%.*s:%u", (int)(strrchr(where, ':') - where), where, ntohs(port));
}

kvt_metrics_server *kvt_metrics_server_new(
	kvt_loop *loop, const char *where, char *(*text)(void *arg), void *arg, GError **error)
{
	address at;
	socklen_t length;
	struct epoll_event event = { EPOLLIN, { .ptr = NULL } };
	if (!parse_where(where, &at, &length, error))
		return NULL;
	kvt_metrics_server *server = g_new0(kvt_metrics_server, 1);
	server->loop = loop;
	server->text = text;
	server->arg = arg;
	for (unsigned i = 0; i < CLIENTS; i++)
		server->clients[i].fd = -1;
	server->epoll = epoll_create1(EPOLL_CLOEXEC);
	server->fd = -1;
	if (server->epoll < 0 || !listen_at(server, &at, length) ||
		epoll_ctl(server->epoll, EPOLL_CTL_ADD, server->fd, &event) < 0) {
		kvt_error_failed(error, "metrics: %s: %s", where, g_strerror(errno));
		kvt_metrics_server_free(server);
		return NULL;
	}
	server->where = where_text(where, &at);
	kvt_fd_source_add(&server->source, loop, server->epoll, on_ready, server);
	return server;
}

const char *kvt_metrics_server_where(const kvt_metrics_server *server)
{
	return server->where;
}

void kvt_metrics_server_free(kvt_metrics_server *server)
{
	if (!server)
		return;
	if (server->source.loop)
		kvt_fd_source_remove(&server->source);
	for (unsigned i = 0; i < CLIENTS; i++)
		drop(server, &server->clients[i]);
	if (server->path)
		unlink(server->path);
	if (server->fd >= 0)
		close(server->fd);
	if (server->epoll >= 0)
		close(server->epoll);
	g_free(server->where);
	g_free(server->path);
	g_free(server);
}
