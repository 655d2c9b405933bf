/* SPDX-License-Identifier: Apache-2.0 */

/* Many agents in one process, as the control plane sees them: each is the daemon's own wiring (agent-wire.c) with an HTTP client, a state directory and
 * an identity of its own, so every wait, retry and body is the real one; only the engine is never asked, and the keys of what is sealed are shared. Prints
 * a line for each second of the boot clock: what was sent, by kind (counted where http_send() is called; the linker puts us in between), how many members
 * sent their first request since the last SIGUSR1, how many are well, how late this is told, and how requests ended. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "agent/agent-internal.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metrics.h"

static const char usage[] =
        "Usage: crowd CONFIG DIRECTORY COUNT SECONDS\n"
        "COUNT agents with their state below DIRECTORY begin within SECONDS. Ends by a signal.\n";

typedef struct Member {
        Agent            agent;
        sd_event_source *begin;
        bool             heard;                 /* since the last SIGUSR1 */
} Member;

#define KINDS 5

static const struct { const char *name, *tail; } kinds[KINDS] = {
        { "poll",     "/jobs?" },
        { "health",   "/health" },
        { "reports",  "/reports" },
        { "pins",     "/pins" },
        { "register", "" },                     /* and what is asked around it */
};

/* Of one second; a ring of them, since the loop may be late where a machine has no time for it. */
typedef struct Second { uint64_t number; unsigned first, sent[KINDS]; } Second;

#define SECONDS 600

static struct Crowd {
        sd_event *event;
        Agent     shared;                       /* config, arena, keys, vault */
        Member   *members, **by_http;
        size_t    n;
        Second    ring[SECONDS];
        uint64_t  told;                         /* up to which second */
} crowd;

/* ── what is sent ────────────────────────────────────────────────────────────────────────────────────────────── */

int __real_http_send(Http *h, const HttpRequest *q, HttpDone done, void *userdata, HttpCall **ret_call);
int __wrap_http_send(Http *h, const HttpRequest *q, HttpDone done, void *userdata, HttpCall **ret_call);

static int by_http(const void *a, const void *b) {
        const Http *x = (*(Member *const *) a)->agent.http, *y = (*(Member *const *) b)->agent.http;

        return x < y ? -1 : x > y;
}

static Member *member_of(Http *h) {
        Member key = { .agent.http = h }, *place = &key, **found;

        found = bsearch(&place, crowd.by_http, crowd.n, sizeof *crowd.by_http, by_http);
        return found ? *found : NULL;
}

static Second *second_of(uint64_t number) {
        Second *s = &crowd.ring[number % SECONDS];

        if (s->number != number)
                *s = (Second) { .number = number };
        return s;
}

int __wrap_http_send(Http *h, const HttpRequest *q, HttpDone done, void *userdata, HttpCall **ret_call) {
        Member *m = member_of(h);
        Second *s = second_of(now_boottime() / USEC_PER_SEC);

        for (size_t i = 0; i < KINDS; i++)
                if (strstr(q->url, kinds[i].tail)) {
                        s->sent[i]++;
                        break;
                }
        if (m && !m->heard) {
                m->heard = true;
                s->first++;
        }
        return __real_http_send(h, q, done, userdata, ret_call);
}

static unsigned ended(unsigned status) {
        static double before[METRIC_STATUS_N];
        double now = 0;
        unsigned n;

        for (unsigned call = 0; call < METRIC_CALL_N; call++)
                now += metric_get(METRIC_CP_REQUESTS, call, status);
        n = (unsigned) (now - before[status]);
        before[status] = now;
        return n;
}

/* Registered, and answered since anything failed: whoever's poll was cut is not well before its next request is answered. */
static bool is_well(const Agent *a) { return control_state(a->control) == CONTROL_POLLING && !cp_fault(a->cp); }

static void tell(const Second *s, unsigned well, uint64_t late_usec) {
        unsigned sent = 0;

        (void) printf("{\"second\": %llu, \"first\": %u, \"well\": %u, \"late\": %.1f, \"ok\": %u, \"4xx\": %u, \"5xx\": %u, \"error\": %u",
                      (unsigned long long) s->number, s->first, well, (double) late_usec / 1e6, ended(METRIC_STATUS_OK), ended(METRIC_STATUS_4XX),
                      ended(METRIC_STATUS_5XX), ended(METRIC_STATUS_ERROR));
        for (size_t i = 0; i < KINDS; i++) {
                (void) printf(", \"%s\": %u", kinds[i].name, s->sent[i]);
                sent += s->sent[i];
        }
        (void) printf(", \"sent\": %u}\n", sent);
}

/* All seconds that are over. */
static int on_second(sd_event_source *source, uint64_t usec, void *userdata) {
        uint64_t now = now_boottime(), over = now / USEC_PER_SEC;
        unsigned well = 0;

        (void) userdata;
        for (size_t i = 0; i < crowd.n; i++)
                well += is_well(&crowd.members[i].agent);
        for (; crowd.told < over; crowd.told++)
                tell(second_of(crowd.told), well, now - usec);
        (void) fflush(stdout);
        (void) sd_event_source_set_time(source, (over + 1) * USEC_PER_SEC);
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int on_outage(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        (void) s;
        (void) si;
        (void) userdata;
        for (size_t i = 0; i < crowd.n; i++)
                crowd.members[i].heard = false;
        return 0;
}

/* ── the members ─────────────────────────────────────────────────────────────────────────────────────────────── */

static int on_begin(sd_event_source *s, uint64_t usec, void *userdata) {
        (void) s;
        (void) usec;
        agent_start_control(userdata);
        return 0;
}

static int join(Member *m, const char *directory, size_t number, uint64_t within_usec, Fault *reterr) {
        Agent *a = &m->agent;
        _cleanup_free_ char *path = str_printf("%s/%zu", directory, number);
        int r;

        *a = (Agent) { .event = crowd.event, .config = crowd.shared.config, .arena = crowd.shared.arena, .keys = crowd.shared.keys,
                       .host_keys = crowd.shared.host_keys, .vault = crowd.shared.vault, .hold_file = crowd.shared.hold_file,
                       .started_at = now_realtime() };
        a->state_fd = path ? state_open(path, reterr) : -ENOMEM;
        if (a->state_fd < 0)
                return a->state_fd;
        r = identity_load(a->state_fd, &a->identity, &a->foreign_state, reterr);
        if (r < 0)
                return r;
        agent_settings(a);
        r = agent_open_audit(a);
        if (r >= 0)
                r = outbox_open(a->state_fd, &a->outbox, reterr);
        if (r >= 0)
                r = http_new(a->event, &a->http);
        if (r >= 0)
                r = agent_wire(a, reterr);
        if (r >= 0)
                r = sd_event_add_time_relative(a->event, &m->begin, CLOCK_BOOTTIME, jitter_uniform(0, within_usec, random_u64()), USEC_PER_MSEC, on_begin,
                                               a);
        return r;
}

static int share(const char *config, const char *directory, Fault *reterr) {
        Agent *a = &crowd.shared;
        _cleanup_free_ char *path = str_printf("%s/shared", directory);
        bool changed;
        int r;

        a->hold_file = str_printf("%s/shared/hold", directory);         /* each member watches that directory: nothing is made there from now on */
        r = path && a->hold_file ? config_load(config, true, &a->config, reterr) : -ENOMEM;
        if (r < 0)
                return r;
        (void) log_set_level(a->config->log_level);
        a->state_fd = state_open(path, reterr);
        if (a->state_fd < 0)
                return a->state_fd;
        r = arena_new(16 * ARENA_SIZE, true, &a->arena, reterr);
        if (r >= 0)
                r = keys_open(a->state_fd, a->arena, &a->identity.roots, &changed, &a->keys, reterr);
        if (r >= 0)
                r = host_keys_open(a->state_fd, a->keys, a->config->org_id, &a->host_keys, reterr, reterr);
        return r < 0 ? r : vault_new(a->state_fd, a->keys, a->config->org_id, &a->vault, reterr);
}

static int watch(void) {
        sigset_t set;
        int r;

        crowd.told = now_boottime() / USEC_PER_SEC;
        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGUSR1);
        (void) sigaddset(&set, SIGTERM);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;
        r = sd_event_add_signal(crowd.event, NULL, SIGUSR1, on_outage, NULL);
        if (r >= 0)
                r = sd_event_add_signal(crowd.event, NULL, SIGTERM, NULL, NULL);        /* no handler: ends the loop */
        return r < 0 ? r : sd_event_add_time(crowd.event, NULL, CLOCK_BOOTTIME, (crowd.told + 1) * USEC_PER_SEC, USEC_PER_MSEC, on_second, NULL);
}

static int assemble(const char *config, const char *directory, size_t n, uint64_t within_usec, Fault *reterr) {
        int r = hash_init();

        crowd.members = calloc(n, sizeof *crowd.members);
        crowd.by_http = calloc(n, sizeof *crowd.by_http);
        if (r >= 0)
                r = crowd.members && crowd.by_http ? sd_event_default(&crowd.event) : -ENOMEM;
        if (r >= 0)
                r = share(config, directory, reterr);
        for (; r >= 0 && crowd.n < n; crowd.n++) {
                crowd.by_http[crowd.n] = &crowd.members[crowd.n];
                r = join(&crowd.members[crowd.n], directory, crowd.n, within_usec, reterr);
        }
        if (r < 0)
                return r;
        qsort(crowd.by_http, n, sizeof *crowd.by_http, by_http);
        return watch();
}

int main(int argc, char *argv[]) {
        uint64_t n, seconds;
        Fault why = {};
        int r;

        log_open("crowd");
        if (argc != 5 || u64_parse(argv[3], &n) < 0 || u64_parse(argv[4], &seconds) < 0 || n < 1 || n > 100000 || seconds > 3600) {
                (void) fputs(usage, stderr);
                return 2;
        }
        r = assemble(argv[1], argv[2], (size_t) n, seconds * USEC_PER_SEC, &why);
        if (r >= 0)
                r = sd_event_loop(crowd.event);
        if (r < 0)
                log_error("%s", why.set ? why.text : strerror(-r));
        return r < 0;                           /* all that the members have goes with the process */
}
