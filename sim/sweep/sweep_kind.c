/* sweep_kind.c: the list of what can be swept. */
#include "sim/sweep/sweep_kind.h"

static const kvt_sweep_kind *const kinds[] = {
	&kvt_sweep_fleet, &kvt_sweep_experiment, /* last: takes what the others leave */
};

const kvt_sweep_kind *kvt_sweep_kind_of(kvt_config *config)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
		if (kinds[i]->accepts(config))
			return kinds[i];
	g_assert_not_reached();
}
