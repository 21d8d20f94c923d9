/*
 * decision_spy.h: a policy and a prefetcher around others that write down what these choose: which
 * page leaves, which pages are planned. For comparing decisions; one pair at a time.
 */
#ifndef DECISION_SPY_H
#define DECISION_SPY_H

#include "sim/cache/policy.h"
#include "sim/prefetch/prefetcher.h"

/* What was chosen since decision_spy_take. Empties it; a new string. */
char *decision_spy_take(void);

/* In use until the next call. */
const kvt_policy_ops *decision_spy_policy(const kvt_policy_ops *inner);
const kvt_prefetcher_ops *decision_spy_prefetcher(const kvt_prefetcher_ops *inner);

#endif
