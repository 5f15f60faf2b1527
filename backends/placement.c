#include "backends/placement.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base/scope.h"

#define SHARDS_MAX 32
#define OVERRIDE   "--provider-limit-override"

static int check_numbers(int k, int m, int insist, struct err *e)
{
	if (k < 1 || m < 0 || k + m < 2 || k + m > SHARDS_MAX)
		return err_set(
		    e, -EINVAL,
		    "k = %d, m = %d: k must be at least 1, m at least 0, and k + m from 2 to %d", k,
		    m, SHARDS_MAX);
	if (insist)
		return 0;
	if (k == 1)
		return err_set(e, -EPERM,
			       "k = 1 is replication: every single provider holds all of the "
			       "(encrypted) data. Give " OVERRIDE " if that is what you want");
	if (m == 0)
		return err_set(
		    e, -EPERM,
		    "m = 0: the loss of any one backend would lose the drive. Give " OVERRIDE
		    " if that is what you want");
	return 0;
}

static int check_places(const struct backend_url *urls, int n, struct err *e)
{
	char *places[SHARDS_MAX] = { 0 };
	int rc = 0;

	for (int i = 0; i < n && !rc; i++) {
		places[i] = backend_url_place(&urls[i]);
		if (!places[i])
			rc = err_set(e, -ENOMEM, "out of memory");
		for (int j = 0; j < i && !rc; j++)
			if (strcmp(places[i], places[j]) == 0)
				rc = err_set(e, -EEXIST,
					     "backends %d and %d are the same place (%s): each "
					     "shard needs one of its own",
					     j + 1, i + 1, places[i]);
	}
	for (int i = 0; i < n; i++)
		free(places[i]);
	return rc;
}

static int check_providers(const struct backend_url *urls, int k, int m, struct err *e)
{
	for (int i = 0; i < k + m; i++) {
		int count = 0;

		for (int j = 0; j < k + m; j++)
			count += strcmp(urls[i].provider, urls[j].provider) == 0;
		if (count > m)
			return err_set(
			    e, -EPERM,
			    "provider \"%s\" would hold %d of %d shards: its loss, more than m = "
			    "%d, would lose the drive. Spread the backends, raise m, "
			    "or give " OVERRIDE,
			    urls[i].provider, count, k + m, m);
		if (count >= k)
			return err_set(
			    e, -EPERM,
			    "provider \"%s\" would hold %d shards: with k = %d it could rebuild "
			    "all of the (encrypted) data. Spread the backends, raise k, "
			    "or give " OVERRIDE,
			    urls[i].provider, count, k);
	}
	return 0;
}

int placement_check(const struct backend_url *urls, int k, int m, int insist, struct err *e)
{
	int rc = check_numbers(k, m, insist, e);

	if (!rc)
		rc = check_places(urls, k + m, e);
	/* Who insists has seen, and accepted, what the rest would say. */
	if (!rc && !insist)
		rc = check_providers(urls, k, m, e);
	return rc;
}

static int is_folder(const struct backend_url *u)
{
	return strcmp(u->scheme, "file") == 0;
}

/* Measured once, at one moment: less than a factor of two is noise. */
static int latency_class(const struct backend_url *u, int64_t ns)
{
	int c = 0;

	if (is_folder(u))
		return -1;
	if (!ns)
		return 64; /* it did not answer */
	for (int64_t step = 10 * NS_PER_MS; step < ns; step *= 2)
		c++;
	return c;
}

void placement_order(const struct backend_url *urls, const int64_t *latency, int n, uint8_t *order)
{
	double cost[SHARDS_MAX], dearest = 0;
	int class[SHARDS_MAX];

	for (int i = 0; i < n; i++)
		dearest = MAX(dearest, urls[i].cost);
	for (int i = 0; i < n; i++) {
		int j = i;

		cost[i] = urls[i].cost >= 0 ? urls[i].cost : is_folder(&urls[i]) ? 0 : dearest;
		class[i] = latency_class(&urls[i], latency[i]);
		/* Insertion keeps equal ones in order. */
		for (; j > 0; j--) {
			int o = order[j - 1];

			if (cost[o] < cost[i] || (cost[o] <= cost[i] && class[o] <= class[i]))
				break;
			order[j] = order[j - 1];
		}
		order[j] = (uint8_t)i;
	}
}
