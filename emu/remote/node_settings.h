/*
 * node_settings.h: a storage node's configuration: sections [node], [store] and [tenant N] of an
 * INI file. It opens nothing.
 */
#ifndef KVT_NODE_SETTINGS_H
#define KVT_NODE_SETTINGS_H

#include "emu/remote/node.h"
#include "sim/base/config.h"

/* The keys of [node] and of [tenant N]; those of [store] are kvt_tier_store's. */
extern const kvt_option kvt_node_options[], kvt_node_tenant_options[];

typedef struct kvt_node_config {
	kvt_node_settings settings; /* but for the store */
	char *address, *device;     /* device: "" is any */
	char *metrics;              /* "": none */
	kvt_section *store;         /* the configuration's; NULL: memory alone */
} kvt_node_config;

/* Reads all of it, and refuses what nothing reads. On error nothing needs clearing. */
gboolean kvt_node_config_read(kvt_config *config, kvt_node_config *to, GError **error);
void kvt_node_config_clear(kvt_node_config *config);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(kvt_node_config, kvt_node_config_clear)

#endif
