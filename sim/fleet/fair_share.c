/* fair_share.c: water filling, a class at a time. */
#include "sim/fleet/fair_share.h"

#include <glib.h>
#include <stdbool.h>

static double give_reserved(kvt_share_claim *claims, unsigned n, double amount)
{
	double sum = 0;
	for (unsigned i = 0; i < n; i++)
		sum += claims[i].reserved;
	double scale = sum > amount ? amount / sum : 1;
	for (unsigned i = 0; i < n; i++) {
		claims[i].given = MIN(claims[i].demand, claims[i].reserved * scale);
		amount -= claims[i].given;
	}
	return MAX(amount, 0);
}

/* Weight of those of a rank that want more. */
static double hungry(const kvt_share_claim *claims, unsigned n, unsigned rank)
{
	double weight = 0;
	for (unsigned i = 0; i < n; i++)
		if (claims[i].rank == rank && claims[i].given < claims[i].demand)
			weight += claims[i].weight;
	return weight;
}

/* Fills those of a rank up by what is left; each round at least one has enough. */
static double give_rank(kvt_share_claim *claims, unsigned n, unsigned rank, double amount)
{
	double weight;
	while (amount > 0 && (weight = hungry(claims, n, rank)) > 0) {
		double level = amount / weight;
		bool enough = false;
		for (unsigned i = 0; i < n; i++) {
			kvt_share_claim *c = &claims[i];
			double wants = c->demand - c->given;
			if (c->rank != rank || !(wants > 0) || wants > level * c->weight)
				continue;
			amount -= wants;
			c->given = c->demand;
			enough = true;
		}
		if (enough)
			continue;
		for (unsigned i = 0; i < n; i++)
			if (claims[i].rank == rank && claims[i].given < claims[i].demand)
				claims[i].given += level * claims[i].weight;
		return 0;
	}
	return MAX(amount, 0);
}

void kvt_share_divide(kvt_share_claim *claims, unsigned n, double amount)
{
	amount = give_reserved(claims, n, amount);
	unsigned last = 0;
	for (unsigned i = 0; i < n; i++)
		last = MAX(last, claims[i].rank);
	for (unsigned rank = 0; rank <= last && amount > 0; rank++)
		amount = give_rank(claims, n, rank, amount);
}

double kvt_jain_index(const double *values, unsigned n)
{
	double sum = 0, squares = 0;
	for (unsigned i = 0; i < n; i++) {
		sum += values[i];
		squares += values[i] * values[i];
	}
	return squares > 0 ? sum * sum / (n * squares) : 1;
}
