#include "backends/layers.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/relay.h"
#include "fs/base/clock.h"
#include "fs/base/scope.h"

struct fault {
	struct layer l;
	struct fault_rule *rules; /* these three by l.lock */
	int nrules;
	unsigned
	    generation; /* of rules: what is in flight must not touch rules that were replaced */
};

struct fault_relay {
	struct relay r;
	int acts; /* the fields below say how */
	enum fault_action action;
	int result;
	struct fault_rule *rule; /* valid while generation is the layer's; NULL: none matched */
	unsigned generation;
	uint8_t *body; /* what is put instead */
	struct iovec iov;
};

static int rule_matches(const struct fault_rule *rule, const struct backend_req *req)
{
	if (rule->op >= 0 && rule->op != (int)req->op)
		return 0;
	return strncmp(req->key, rule->prefix, strlen(rule->prefix)) == 0;
}

/* Decides which rule acts; counts its matches down. */
static void fault_decide(struct fault *q, struct fault_relay *f, int64_t *delay)
{
	SCOPE_LOCK(&q->l.lock);
	f->generation = q->generation;
	for (int i = 0; i < q->nrules; i++) {
		struct fault_rule *rule = &q->rules[i];

		if (!rule_matches(rule, &f->r.req))
			continue;
		if (!f->rule)
			f->rule = rule;
		if (rule->skip) {
			rule->skip--;
			continue;
		}
		/* times: 0 is ever, 1 is the last time; UINT_MAX stands for used up. */
		if (rule->times == UINT32_MAX)
			continue;
		if (rule->times && --rule->times == 0)
			rule->times = UINT32_MAX;
		__atomic_fetch_add(&rule->fired, 1, __ATOMIC_RELAXED);
		f->rule = rule;
		f->acts = 1;
		f->action = rule->action;
		f->result = rule->result;
		*delay = rule->delay;
		return;
	}
}

static void go_below(struct layer *l, struct relay *r)
{
	struct fault *q = container_of(l, struct fault, l);
	struct fault_relay *f = container_of(r, struct fault_relay, r);

	pthread_mutex_lock(&l->lock);
	if (f->rule && f->generation == q->generation)
		__atomic_fetch_add(&f->rule->inner, 1, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&l->lock);
	relay_submit(r);
}

static void hung_until_deadline(struct layer *l, struct relay *r)
{
	relay_end_with(r, -ETIMEDOUT);
}

static void delay_over(struct layer *l, struct relay *r)
{
	if (clock_mono_ns() >= backend_deadline(&l->b, &r->req))
		relay_end_with(r, -ETIMEDOUT);
	else
		go_below(l, r);
}

/* A body with one wrong byte in the middle, or only its first half. 0 or -ENOMEM. */
static int damage_put(struct fault_relay *f)
{
	size_t n = backend_req_bytes(&f->r.req), at = 0;

	f->body = malloc(n + 1);
	if (!f->body)
		return -ENOMEM;
	for (int i = 0; i < f->r.req.iovs; i++) {
		if (f->r.req.iov[i].iov_len)
			memcpy(f->body + at, f->r.req.iov[i].iov_base, f->r.req.iov[i].iov_len);
		at += f->r.req.iov[i].iov_len;
	}
	if (f->action == FAULT_CORRUPT && n)
		f->body[n / 2] ^= 0x40;
	f->iov = (struct iovec){ f->body, f->action == FAULT_TRUNCATE ? n / 2 : n };
	f->r.req.iov = &f->iov;
	f->r.req.iovs = 1;
	return 0;
}

static void flip_byte(const struct backend_req *req, uint64_t at)
{
	for (int i = 0; i < req->iovs; i++) {
		if (at < req->iov[i].iov_len) {
			((uint8_t *)req->iov[i].iov_base)[at] ^= 0x40;
			return;
		}
		at -= req->iov[i].iov_len;
	}
}

static void fault_returned(struct layer *l, struct relay *r)
{
	struct fault_relay *f = container_of(r, struct fault_relay, r);

	free(f->body);
	f->body = NULL;
	if (f->acts && f->action == FAULT_ANSWER_LOST && r->req.result != -ECANCELED) {
		free(r->req.entries);
		free(r->req.next_token);
		r->req.entries = NULL;
		r->req.next_token = NULL;
		r->req.nentries = 0;
		r->req.size = 0;
		r->req.result = f->result ? f->result : -ETIMEDOUT;
	}
	if (f->acts && r->req.op == BACKEND_GET && r->req.result == 0) {
		if (f->action == FAULT_CORRUPT && r->req.size)
			flip_byte(&r->req, r->req.size / 2);
		if (f->action == FAULT_TRUNCATE)
			r->req.size /= 2;
	}
	relay_end(r);
}

static void fault_submit(struct backend *b, struct backend_req *req)
{
	struct fault *q = container_of(b, struct fault, l.b);
	struct relay *r = relay_create(&q->l, req, sizeof(struct fault_relay));
	struct fault_relay *f;
	int64_t delay = 0;

	if (!r)
		return;
	f = container_of(r, struct fault_relay, r);
	fault_decide(q, f, &delay);
	if (!f->acts) {
		go_below(&q->l, r);
		return;
	}
	switch (f->action) {
	case FAULT_RESULT:
		relay_end_with(r, f->result);
		return;
	case FAULT_DELAY:
		delay = MIN(clock_mono_ns() + delay, backend_deadline(b, &r->req));
		if (!relay_park(r, delay, delay_over))
			relay_end_with(r, -ECANCELED);
		return;
	case FAULT_HANG:
		if (!relay_park(r, backend_deadline(b, &r->req), hung_until_deadline))
			relay_end_with(r, -ECANCELED);
		return;
	case FAULT_LOSE:
		relay_end_with(r,
			       req->op == BACKEND_PUT || req->op == BACKEND_DELETE ? 0 : -ENOENT);
		return;
	case FAULT_CORRUPT:
	case FAULT_TRUNCATE:
		if (req->op == BACKEND_PUT && damage_put(f)) {
			relay_end_with(r, -ENOMEM);
			return;
		}
		break;
	case FAULT_ANSWER_LOST:
		break;
	}
	go_below(&q->l, r);
}

static const struct backend_ops fault_ops = {
	.name = "fault",
	.submit = fault_submit,
	.cancel = layer_cancel,
	.destroy = layer_destroy,
};
static_assert(offsetof(struct fault, l) == 0, "layer_destroy frees the layer");

struct backend *layer_fault(struct backend *below, struct fault_rule *rules, int nrules)
{
	struct fault *q;

	if (!below)
		return NULL;
	q = calloc(1, sizeof(*q));
	if (!q || layer_init(&q->l, below, &fault_ops, fault_returned)) {
		free(q);
		backend_destroy(below);
		return NULL;
	}
	q->l.parks_asked = 1;
	q->rules = rules;
	q->nrules = nrules;
	return &q->l.b;
}

void layer_fault_set(struct backend *fault, struct fault_rule *rules, int nrules)
{
	struct fault *q = container_of(fault, struct fault, l.b);

	SCOPE_LOCK(&q->l.lock);
	q->rules = rules;
	q->nrules = nrules;
	q->generation++;
}
