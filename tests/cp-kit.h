/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A control plane by script: rules say what is answered to which request, and everything that came in can be looked at. Rules may be
 * changed at any time; the server sees them at once. */

#include "agent/cp.h"
#include "base/hash.h"
#include "base/log.h"
#include "tests/clock.h"
#include "tests/sealed-kit.h"
#include "tests/server.h"

#define CP_JSON "Content-Type: application/json\r\n"
#define CP_BOOT "66666666-6666-4666-8666-666666666666"
#define CP_HOSTS "/api/v1/hosts"
#define CP_HOST CP_HOSTS "/" KIT_HOST
enum { CP_HANG = 0, CP_CLOSE = -1 };            /* in place of a status */

typedef struct CpRule {
        char when[160];                         /* how "METHOD PATH" begins */
        int  status, left;                      /* left: so many times; negative: for ever */
        char headers[256], body[2048];          /* of a body, each '#' is another letter each time */
} CpRule;

typedef struct CpSeen { char line[1400], head[2600], body[1024]; } CpSeen;

static struct CpScript {
        int    n_rules, taken, n_seen;
        CpRule rules[24];
        CpSeen seen[300];
} *script;

static Server   server;
static sd_event *event;
static Http     *http;
static Identity  identity;

static inline Credentials kit_credentials(const char *provision_secret, const char *admin_token) {
        return (Credentials) { .provision_secret = kit_secret(kit_shared_arena(), provision_secret),
                               .admin_token = kit_secret(kit_shared_arena(), admin_token) };
}

static inline bool cp_serve(const ServerRequest *q) {
        int i = __atomic_fetch_add(&script->taken, 1, __ATOMIC_SEQ_CST);
        CpSeen scratch, *seen = i < (int) ELEMENTS(script->seen) ? &script->seen[i] : &scratch;

        (void) snprintf(seen->line, sizeof seen->line, "%s %.1300s", q->method, q->path);
        (void) snprintf(seen->head, sizeof seen->head, "%.2500s\r\n", q->head);
        (void) snprintf(seen->body, sizeof seen->body, "%.1000s", q->body_size ? q->body : "");
        (void) __atomic_fetch_add(&script->n_seen, 1, __ATOMIC_SEQ_CST);
        for (int k = 0; k < script->n_rules; k++) {
                CpRule *r = &script->rules[k];

                if (r->left == 0 || strncmp(seen->line, r->when, strlen(r->when)) != 0)
                        continue;
                r->left -= r->left > 0;
                if (r->status == CP_HANG)
                        server_wait_closed(q);
                if (r->status == CP_CLOSE)
                        return false;
                (void) snprintf(scratch.body, sizeof scratch.body, "%.1000s", r->body);
                for (char *p = scratch.body; (p = strchr(p, '#'));)
                        *p = (char) ('a' + i % 26);
                server_answer(q, r->status, r->headers, strlen(r->body) < sizeof scratch.body ? scratch.body : r->body);
                return true;
        }
        server_answer(q, 404, CP_JSON, "{\"error\":\"no rule\"}");
        return true;
}

/* Rules are tried in the order in which they were made. */
static inline void rule(const char *when, int left, int status, const char *headers, const char *body) {
        CpRule *r = &script->rules[script->n_rules];

        if (script->n_rules >= (int) ELEMENTS(script->rules) || strlen(body) >= sizeof r->body)
                abort();
        r->status = status;
        r->left = left;
        (void) snprintf(r->when, sizeof r->when, "%s", when);
        (void) snprintf(r->headers, sizeof r->headers, "%s", headers);
        (void) snprintf(r->body, sizeof r->body, "%s", body);
        script->n_rules++;
}

static inline void forget_rules(void) { script->n_rules = 0; }
static inline int seen_count(void) { return __atomic_load_n(&script->n_seen, __ATOMIC_SEQ_CST); }

/* How many of what came in begin so. */
static inline int seen_like(const char *start) {
        int n = 0;

        for (int i = 0; i < seen_count() && i < (int) ELEMENTS(script->seen); i++)
                n += strncmp(script->seen[i].line, start, strlen(start)) == 0;
        return n;
}

/* Runs the loop until so many requests have come in. */
static inline bool seen_until(int wanted, unsigned ms) {
        uint64_t end = now_boottime() + ms * USEC_PER_MSEC;

        while (seen_count() < wanted && now_boottime() < end)
                loop_for(event, 5);
        return seen_count() >= wanted;
}

/* The i-th request; its line. "" when there were not so many. */
static inline const char *seen_line(int i) { return i < seen_count() ? script->seen[i].line : ""; }

/* Whether the i-th request has the header line. */
static inline bool seen_header(int i, const char *line) {
        _cleanup_free_ char *wanted = str_printf("\r\n%s\r\n", line);

        return i < seen_count() && strstr(script->seen[i].head, wanted);
}
static inline bool seen_header_name(int i, const char *name) {
        _cleanup_free_ char *wanted = str_printf("\r\n%s:", name);

        return i < seen_count() && strcasestr(script->seen[i].head, wanted);
}

/* Time passes: what is due by then happens. */
static inline void pass(uint64_t seconds) {
        clock_push(seconds * USEC_PER_SEC);
        loop_for(event, 2);
}

static inline Config cp_config(void) {
        return (Config) { .cp_url = server.url,
                         .cp_prefix = (char *) "/api/v1",
                         .org_id = (char *) KIT_ORG,
                         .allow_insecure_loopback = true,
                         .connect_timeout_seconds = 5 };
}

static inline void cp_kit_reset(void) {
        script->n_rules = script->n_seen = script->taken = 0;
        memset(&identity, 0, sizeof identity);
        strcpy(identity.host_id, KIT_HOST);
        strcpy(identity.boot_id, CP_BOOT);
}

static inline int cp_kit_main(void) {
        int bad;

        script = server_shared(sizeof *script);
        server_prepare(&server);
        server_start(&server, cp_serve);
        if (hash_init() < 0 || log_set_level("error") < 0 || sd_event_new(&event) < 0 || http_new(event, &http) < 0)
                return 1;
        bad = test_run_all();
        (void) http_free(http);
        (void) sd_event_unref(event);
        server_end(&server);
        return bad;
}
