/*
 * datadir.h: finds the project's data files (models/, experiments/, plots/, traces/samples): in
 * $KVTIER_DATADIR when it is set, else in the tree that the program was built in, else where it
 * was installed: share/kvtier beside the program's bin/, else under the PREFIX of the build.
 */
#ifndef KVT_DATADIR_H
#define KVT_DATADIR_H

#include <glib.h>

/* The data folder. NULL with an error that says where it was looked for. A new string. */
char *kvt_datadir(GError **error);

/*
 * The path of a file or folder of the data, such as "models/gpu/l40s.ini". NULL with an error when
 * it is not there, naming the nearest that is, or when `relative` leaves the data folder. A new
 * string.
 */
char *kvt_datadir_find(const char *relative, GError **error);

/* Names in a data folder that end in `suffix` (".ini"; "" for all), without it, sorted by bytes; a
 * NULL-terminated array, freed with g_strfreev. NULL with an error when there is no such folder. */
char **kvt_datadir_list(const char *folder, const char *suffix, GError **error);

#endif
