/* requests_convert.h: `kvtier requests convert`: traces as one compact file, changed on the way. */
#ifndef KVT_REQUESTS_CONVERT_H
#define KVT_REQUESTS_CONVERT_H

#include <glib.h>

int kvt_requests_convert_run(int argc, char **argv, GError **error);

#endif
