/*
 * test_metrics_server.c: the text is served over HTTP on a Unix socket and on the loopback alone;
 * others, slow ones and many at once do no harm.
 */
#include "emu/remote/metrics_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "emu/loop/real_loop.h"

typedef struct fixture {
	kvt_loop *loop;
	kvt_metrics_server *server;
	char *path, *where;
	size_t bytes; /* of the text */
	unsigned asked;
} fixture;

static char *text(void *arg)
{
	fixture *f = arg;
	f->asked++;
	char *body = g_malloc(f->bytes + 1);
	memset(body, 'x', f->bytes);
	body[f->bytes] = '\0';
	return body;
}

static void setup(fixture *f, const char *where)
{
	g_autoptr(GError) error = NULL;
	*f = (fixture){ .loop = kvt_real_loop_new(NULL), .bytes = 100 };
	f->path = g_strdup_printf("/tmp/kvtier-metrics-%d", (int)getpid());
	f->where = where ? g_strdup(where) : g_strconcat("unix:", f->path, NULL);
	f->server = kvt_metrics_server_new(f->loop, f->where, text, f, &error);
	g_assert_no_error(error);
}

static void teardown(fixture *f)
{
	kvt_metrics_server_free(f->server);
	g_assert_cmpint(g_access(f->path, F_OK), !=, 0);
	kvt_loop_free(f->loop);
	g_free(f->path);
	g_free(f->where);
}

static void stop(void *arg)
{
	kvt_loop_stop(arg);
}

static void run_for(fixture *f, kvt_time time)
{
	kvt_loop_after(f->loop, time, stop, f->loop);
	kvt_loop_run(f->loop);
}

static int connect_to(const fixture *f)
{
	struct sockaddr_un local = { .sun_family = AF_UNIX };
	int fd;
	if (g_str_has_prefix(kvt_metrics_server_where(f->server), "unix:")) {
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		g_strlcpy(local.sun_path, f->path, sizeof(local.sun_path));
		g_assert_cmpint(connect(fd, (struct sockaddr *)&local, sizeof(local)), ==, 0);
		return fd;
	}
	const char *port = strrchr(kvt_metrics_server_where(f->server), ':') + 1;
	struct sockaddr_in v4 = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons((uint16_t)g_ascii_strtoull(port, NULL, 10)) };
	fd = socket(AF_INET, SOCK_STREAM, 0);
	g_assert_cmpint(connect(fd, (struct sockaddr *)&v4, sizeof(v4)), ==, 0);
	g_assert_true(g_unix_set_fd_nonblocking(fd, TRUE, NULL));
	return fd;
}

/* All that comes until the server closes; "" when it does without a word. */
static char *answer(fixture *f, int fd)
{
	GString *all = g_string_new(NULL);
	char bytes[65536];
	for (unsigned i = 0; i < 2000; i++) {
		ssize_t n = read(fd, bytes, sizeof(bytes));
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			break;
		if (n > 0)
			g_string_append_len(all, bytes, n);
		else
			run_for(f, KVT_MILLISECOND);
		g_assert_cmpuint(i, <, 1999);
	}
	close(fd);
	return g_string_free(all, FALSE);
}

static void say(int fd, const char *words)
{
	g_assert_cmpint(write(fd, words, strlen(words)), ==, (gssize)strlen(words));
}

static char *ask(fixture *f, const char *request)
{
	int fd = connect_to(f);
	say(fd, request);
	return answer(f, fd);
}

static void test_get(gconstpointer where)
{
	fixture f;
	setup(&f, where);
	for (unsigned i = 0; i < 3; i++) {
		f.bytes = i * 1000000; /* more than a socket takes at once */
		g_autofree char *got = ask(&f, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
		g_autofree char *length = g_strdup_printf("\r\nContent-Length: %zu\r\n", f.bytes);
		g_assert_true(g_str_has_prefix(got, "HTTP/1.1 200 OK\r\n"));
		g_assert_nonnull(strstr(got, length));
		const char *body = strstr(got, "\r\n\r\n");
		g_assert_nonnull(body);
		g_assert_cmpuint(strlen(body + 4), ==, f.bytes);
	}
	g_assert_cmpuint(f.asked, ==, 3);
	g_autofree char *other = ask(&f, "GET / HTTP/1.1\r\n\r\n");
	g_assert_true(g_str_has_prefix(other, "HTTP/1.1 404 "));
	g_autofree char *put = ask(&f, "PUT /metrics HTTP/1.1\r\n\r\n");
	g_assert_true(g_str_has_prefix(put, "HTTP/1.1 405 "));
	g_assert_cmpuint(f.asked, ==, 3);
	teardown(&f);
}

static void test_slow(void)
{
	fixture f;
	setup(&f, NULL);
	/* byte by byte, others in between */
	int slow = connect_to(&f), silent = connect_to(&f), gone = connect_to(&f);
	close(gone);
	for (const char *at = "GET /metrics HTTP/1.1\r\n\r\n"; *at; at++) {
		g_assert_cmpint(write(slow, at, 1), ==, 1);
		run_for(&f, 100 * KVT_MICROSECOND);
		if (*at == ' ') {
			g_autofree char *got = ask(&f, "GET /metrics HTTP/1.1\r\n\r\n");
			g_assert_true(g_str_has_prefix(got, "HTTP/1.1 200 "));
		}
	}
	g_autofree char *got = answer(&f, slow);
	g_assert_true(g_str_has_prefix(got, "HTTP/1.1 200 "));
	/* a request without end, and more at once than are served: closed, and no more */
	g_autofree char *endless = g_strnfill(5000, 'a');
	g_autofree char *nothing = ask(&f, endless);
	g_assert_cmpstr(nothing, ==, "");
	int many[40];
	for (unsigned i = 0; i < G_N_ELEMENTS(many); i++) {
		many[i] = connect_to(&f);
		run_for(&f, 2 * KVT_MILLISECOND);
	}
	for (unsigned i = 0; i < G_N_ELEMENTS(many); i++)
		close(many[i]);
	run_for(&f, 20 * KVT_MILLISECOND);
	g_autofree char *after = ask(&f, "GET /metrics HTTP/1.1\r\n\r\n");
	g_assert_true(g_str_has_prefix(after, "HTTP/1.1 200 "));
	close(silent);
	teardown(&f);
}

/* A socket that a killed process left is replaced, one that is in use is not. */
static void test_stale(void)
{
	fixture f;
	g_autoptr(GError) error = NULL;
	setup(&f, NULL);
	g_assert_null(kvt_metrics_server_new(f.loop, f.where, text, &f, &error));
	g_assert_nonnull(strstr(error->message, "Address already in use"));
	g_autofree char *kept = g_strconcat(f.path, "-kept", NULL);
	g_assert_cmpint(rename(f.path, kept), ==, 0);
	kvt_metrics_server_free(f.server);
	g_assert_cmpint(rename(kept, f.path), ==, 0);
	f.server = kvt_metrics_server_new(f.loop, f.where, text, &f, NULL);
	g_assert_nonnull(f.server);
	g_autofree char *got = ask(&f, "GET /metrics HTTP/1.1\r\n\r\n");
	g_assert_true(g_str_has_prefix(got, "HTTP/1.1 200 "));
	teardown(&f);
	/* nor is a file that is no socket */
	f.path = g_strdup_printf("/tmp/kvtier-metrics-%d", (int)getpid());
	f.where = g_strconcat("unix:", f.path, NULL);
	f.loop = kvt_real_loop_new(NULL);
	g_assert_true(g_file_set_contents(f.path, "mine", -1, NULL));
	g_assert_null(kvt_metrics_server_new(f.loop, f.where, text, &f, NULL));
	g_assert_cmpint(g_unlink(f.path), ==, 0);
	kvt_loop_free(f.loop);
	g_free(f.path);
	g_free(f.where);
}

static void test_where(void)
{
	static const char *const bad[] = { "", "9400", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x",
		"127.0.0.1:65536", "10.0.0.1:9400", "0.0.0.0:9400", ":9400", "localhost:9400",
		"[::]:9400", "::1:9400", "[::1:9400", "unix:", "unix:relative", "tcp:/x" };
	static const char *const good[] = { "127.0.0.1:9400", "127.1.2.3:0", "[::1]:9400",
		"unix:/run/kvtier.sock" };
	for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;
		g_assert_false(kvt_metrics_where_check(bad[i], &error));
		g_assert_nonnull(error);
	}
	for (unsigned i = 0; i < G_N_ELEMENTS(good); i++)
		g_assert_true(kvt_metrics_where_check(good[i], NULL));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_data_func("/metrics-server/get/unix", NULL, test_get);
	g_test_add_data_func("/metrics-server/get/port", "127.0.0.1:0", test_get);
	g_test_add_func("/metrics-server/slow", test_slow);
	g_test_add_func("/metrics-server/stale", test_stale);
	g_test_add_func("/metrics-server/where", test_where);
	return g_test_run();
}
