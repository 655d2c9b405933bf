/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/cp.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/timex.h>

#include "base/log.h"
#include "base/metrics.h"

#define TIMEOUT_USEC   (30 * USEC_PER_SEC)
#define SPREAD_USEC    (30 * USEC_PER_SEC)      /* after an established connection was lost */
#define DEPRECATION_LOG_USEC (UINT64_C(86400) * USEC_PER_SEC)
#define PROTOCOL       "1"
#ifndef BUILD_TIME
#define BUILD_TIME     UINT64_C(1764000000)     /* a clock before this is wrong, whoever built us */
#endif

#define CREDENTIAL_LINES 4

struct Cp {
        sd_event       *event;
        Http           *http;
        const Identity *identity;
        char           *base;                   /* URL and prefix */
        char           *org_id;
        Secret         *secret_lines[CREDENTIAL_LINES], *bearer;        /* whole header lines; bearer: the admin token's own */
        const char     *lines[CREDENTIAL_LINES + 1];                    /* the same as http borrows them */
        uint64_t        not_before;             /* boottime: for everyone */
        uint64_t        law;                    /* the part of it that no operator ends: Retry-After, and the spread */
        LIST_HEAD(CpCalls, CpCall) waiting;     /* for not_before */
        uint64_t        date_usec, date_at;     /* its last Date, and our boottime then */
        uint64_t        date_realtime;          /* our clock then */
        uint64_t        deprecation_logged_at;
        RetryBucket     bucket;
        bool            was_connected;
        uint64_t        crowded_until;          /* boottime */
        Backoff         lost;                   /* nobody could be reached: for all loops together */
        Fault           fault;
};

struct CpCall {
        Cp              *cp;
        HttpCall        *http;
        sd_event_source *later;                 /* not_before has not come yet; then it is on the list */
        LIST_ENTRY(CpCall) link;
        CpRequest        request;               /* its strings are ours */
        CpDone           done;
        void            *userdata;
};

/* ── what an answer means ────────────────────────────────────────────────────────────────────────────────────── */

static bool is_json(const HttpAnswer *a) { return strncmp(a->content_type, "application/json", 16) == 0; }

static int error_code(const cJSON *json, const char *code) { return str_equal(json_get_string(json, "error"), code); }

typedef struct Meaning { long status; CpKind kind; FaultCode code; const char *words; } Meaning;

static const Meaning meanings[] = {
        { 400, CP_REFUSED,     FAULT_CONTROL_PLANE_UNREACHABLE, "refuses the request" },
        { 401, CP_AUTH,        FAULT_AUTH_REJECTED,             "refuses the credentials" },
        { 403, CP_AUTH,        FAULT_AUTH_REJECTED,             "refuses the credentials" },
        { 404, CP_NOT_FOUND,   FAULT_CONTROL_PLANE_MISROUTED,   "does not know the path" },
        { 409, CP_CONFLICT,    FAULT_CONTROL_PLANE_UNREACHABLE, "sees a conflict" },
        { 410, CP_REVOKED,     FAULT_HOST_REVOKED,              "has revoked this host" },
        { 413, CP_REFUSED,     FAULT_TOO_LARGE,                 "finds the request too large" },
        { 422, CP_REFUSED,     FAULT_CONTROL_PLANE_UNREACHABLE, "cannot process the request" },
        { 426, CP_PROTOCOL,    FAULT_UNSUPPORTED_CONTROL_PLANE, "does not speak protocol version " PROTOCOL },
        { 429, CP_LATER,       FAULT_CONTROL_PLANE_UNREACHABLE, "asks to come later" },
        { 503, CP_LATER,       FAULT_CONTROL_PLANE_UNREACHABLE, "is unavailable for now" },
};

static bool clock_is_early(void) { return now_realtime() < BUILD_TIME * USEC_PER_SEC; }

static bool clock_is_suspect(void) {
        struct timex t = {};
        return clock_is_early() || adjtimex(&t) == TIME_ERROR || (t.status & STA_UNSYNC);
}

/* OpenSSL's words, through libcurl's. */
static bool is_about_dates(const char *words) { return strstr(words, "expired") || strstr(words, "not yet valid"); }

static void judge_transport(const Cp *cp, const HttpAnswer *a, CpAnswer *ret) {
        FaultCode code = FAULT_CONTROL_PLANE_UNREACHABLE;
        char now[TIME_TEXT_SIZE], built[TIME_TEXT_SIZE];

        ret->kind = CP_UNREACHABLE;
        if (a->error == -EKEYREJECTED && is_about_dates(a->words) && clock_is_suspect())
                (void) fault(&ret->fault, a->error, FAULT_CLOCK_SUSPECT,
                             "The certificate of %s is refused (%s), but the clock is suspect: it says %s and is %s; this "
                             "program was made at %s.",
                             cp_host(cp), a->words, time_text(now_realtime(), now), clock_is_early() ? "too early" : "not synchronised",
                             time_text(BUILD_TIME * USEC_PER_SEC, built));
        else if (a->error == -EKEYREJECTED)
                (void) fault(&ret->fault, a->error, code, "The certificate of %s is not to be trusted (%s).", cp_host(cp), a->words);
        else
                (void) fault(&ret->fault, a->error, code, "%s cannot be reached: %s", cp_host(cp), a->words);
}

static void judge_status(const Cp *cp, const HttpAnswer *a, CpAnswer *ret) {
        for (size_t i = 0; i < ELEMENTS(meanings); i++)
                if (meanings[i].status == a->status) {
                        ret->kind = meanings[i].kind;
                        (void) fault(&ret->fault, -EPROTO, meanings[i].code, "%s %s (HTTP %ld).", cp_host(cp), meanings[i].words,
                                     a->status);
                        return;
                }
        ret->kind = CP_UNREACHABLE;
        (void) fault(&ret->fault, -EPROTO, FAULT_CONTROL_PLANE_UNREACHABLE, "%s answered HTTP %ld%s.", cp_host(cp), a->status,
                     a->status >= 300 && a->status < 400 && a->status != 304 ? ", a redirect, which is never followed" : "");
}

static void refine(CpAnswer *a, const cJSON *json) {
        if (a->status == 404 && error_code(json, "host_unknown")) {
                a->kind = CP_HOST_UNKNOWN;
                a->fault = (Fault) {};
                (void) fault(&a->fault, -ENOENT, FAULT_CONTROL_PLANE_UNREACHABLE,
                             "The control plane does not know this host; it registers again.");
        }
        if (a->status == 409 && error_code(json, "host_id_in_use")) {
                a->kind = CP_IN_USE;
                a->fault = (Fault) {};
                (void) fault(&a->fault, -EEXIST, FAULT_HOST_ID_IN_USE, "Another machine registered with this host's id after this one.");
        }
}

static void judge(const Cp *cp, const HttpAnswer *a, bool conditional, CpAnswer *ret, cJSON **ret_json) {
        Fault why = {};

        ret->status = a->status;
        if (a->error) {
                judge_transport(cp, a, ret);
                return;
        }
        if (a->status == 304 && conditional)
                return;
        if (a->status < 200 || a->status >= 300)
                judge_status(cp, a, ret);
        if (!is_json(a)) {
                if (ret->kind != CP_OK)
                        return;
                ret->kind = CP_UNREACHABLE;
                (void) fault(&ret->fault, -EPROTO, FAULT_CONTROL_PLANE_UNREACHABLE, "%s answered %zu bytes that are not JSON.", cp_host(cp),
                             a->size);
                return;
        }
        if (json_parse(a->body, a->size, ret_json, &why) < 0) {
                if (ret->kind != CP_OK)
                        return;
                ret->kind = CP_UNREACHABLE;
                (void) fault(&ret->fault, -EPROTO, FAULT_CONTROL_PLANE_UNREACHABLE, "%s answered malformed JSON: %s", cp_host(cp),
                             why.text);
                return;
        }
        refine(ret, *ret_json);
}

/* ── clock and pace ──────────────────────────────────────────────────────────────────────────────────────────── */

static void take_date(Cp *cp, const HttpAnswer *a) {
        if (!a->date_usec || a->status < 200 || a->status >= 300)
                return;
        cp->date_usec = a->date_usec;
        cp->date_at = now_boottime();
        cp->date_realtime = now_realtime();
}

uint64_t cp_time(const Cp *cp) { return cp->date_usec ? cp->date_usec + (now_boottime() - cp->date_at) : 0; }

bool cp_clock_skew(const Cp *cp, double *ret) {
        if (!cp->date_usec)
                return false;
        *ret = ((double) cp->date_realtime - (double) cp->date_usec) / 1e6;
        return true;
}

static void defer(uint64_t *at, uint64_t to) {
        if (to > *at)
                *at = to;
}

/* The spread is the first wait of the back-off, so that those who come too early do not knock all the more often. What else was on its way is
 * no second failure. */
static void note_lost(Cp *cp, uint64_t now) {
        if (TAKE(cp->was_connected, false)) {
                cp->lost.previous = jitter_uniform(0, SPREAD_USEC, random_u64());
                cp->crowded_until = now + SPREAD_USEC;
                defer(&cp->law, now + cp->lost.previous);
        } else if (now < cp->not_before)
                return;
        else
                (void) backoff_failure(&cp->lost, random_u64());
        defer(&cp->not_before, now + cp->lost.previous);
}

static void note_pace(Cp *cp, const HttpAnswer *a, CpKind kind) {
        uint64_t now = now_boottime(), wait = a->error ? 0 : retry_after_parse(a->retry_after, cp_time(cp), random_u64());

        if (wait && (kind == CP_LATER || kind == CP_UNREACHABLE))
                defer(&cp->law, now + wait);
        defer(&cp->not_before, cp->law);
        if (a->error)
                note_lost(cp, now);
        else {
                backoff_success(&cp->lost);
                cp->was_connected = true;
        }
        if (kind == CP_OK)
                retry_bucket_success(&cp->bucket);
}

uint64_t cp_pace(Cp *cp, CpPace *pace, CpKind kind) {
        uint64_t now = now_boottime(), wait = 0;

        if (kind == CP_OK)
                backoff_success(&pace->backoff);
        else {
                metric_add(METRIC_CP_RETRIES, 0, 0, 1);
                wait = backoff_failure(&pace->backoff, random_u64());
                if (!retry_bucket_take(&cp->bucket))
                        wait = pace->backoff.cap;
        }
        if (cp->not_before > now && cp->not_before - now > wait)
                wait = cp->not_before - now;
        return wait;
}

static void note_deprecation(Cp *cp, const HttpAnswer *a) {
        uint64_t now = now_boottime();

        if (a->error || (!a->deprecation[0] && !a->sunset[0]))
                return;
        if (cp->deprecation_logged_at && now - cp->deprecation_logged_at < DEPRECATION_LOG_USEC)
                return;
        cp->deprecation_logged_at = now;
        log_warning("The control plane's path prefix is deprecated%s%s: set cp_prefix=/api/v1.", a->sunset[0] ? ", until " : "", a->sunset);
}

void cp_hurry(Cp *cp) {
        CpCall *c;
        uint64_t at;

        cp->not_before = cp->law;
        LIST_FOREACH(c, &cp->waiting, link)     /* never later: who waits longer than it was said is given back */
                if (sd_event_source_get_time(c->later, &at) >= 0 && at > cp->not_before)
                        (void) sd_event_source_set_time(c->later, cp->not_before);
}

/* ── calls ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static void wait_no_more(CpCall *c) {
        if (!c->later)
                return;
        LIST_REMOVE(c, link);
        c->later = sd_event_source_disable_unref(c->later);
}

static CpCall *call_free(CpCall *c) {
        if (!c)
                return NULL;
        wait_no_more(c);
        free((char *) c->request.path);
        free((char *) c->request.body);
        free((char *) c->request.if_none_match);
        free(c);
        return NULL;
}
DEFINE_CLEANUP(CpCall *, call_free)

static unsigned metric_status(const CpAnswer *a) {
        if (a->kind == CP_OK)
                return METRIC_STATUS_OK;
        return a->status >= 500 ? METRIC_STATUS_5XX : a->status >= 400 ? METRIC_STATUS_4XX : METRIC_STATUS_ERROR;
}

static void on_http(const HttpAnswer *a, void *userdata) {
        CpCall *c = userdata;
        Cp *cp = c->cp;
        unsigned call = c->request.call;
        _cleanup_json_ cJSON *json = NULL;
        CpAnswer answer = { .kind = CP_OK, .body = a->body, .size = a->size, .etag = a->error ? "" : a->etag };
        bool conditional = c->request.if_none_match && c->request.if_none_match[0];
        CpDone done = c->done;
        void *their = c->userdata;

        call_free(c);
        judge(cp, a, conditional, &answer, &json);
        answer.json = json;
        if (answer.kind == CP_OK)
                take_date(cp, a);
        note_pace(cp, a, answer.kind);
        note_deprecation(cp, a);
        metric_add(METRIC_CP_REQUESTS, call, metric_status(&answer), 1);
        cp->fault = answer.fault;
        done(&answer, their);
}

static void add_header(const char **headers, size_t *n, const char *h) {
        if (h)
                headers[(*n)++] = h;
}

static int transmit(CpCall *c) {
        Cp *cp = c->cp;
        const CpRequest *q = &c->request;
        _cleanup_free_ char *url = str_printf("%s%s", cp->base, q->path);
        _cleanup_free_ char *match = q->if_none_match && q->if_none_match[0] ? str_printf("If-None-Match: %s", q->if_none_match) : NULL;
        _cleanup_free_ char *org = NULL;
        char host_id[64];
        const char *headers[8] = { "Accept: application/json", "X-Molecule-Agent-Protocol: " PROTOCOL, host_id };
        size_t n = 3;

        (void) snprintf(host_id, sizeof host_id, "X-Molecule-Host-Id: %s", cp->identity->host_id);
        if (q->auth == CP_AUTH_TENANT) {
                org = str_printf("X-Molecule-Org-Id: %s", cp->org_id);
                add_header(headers, &n, cp->bearer ? secret_text(cp->bearer) : NULL);
        }
        add_header(headers, &n, match);
        add_header(headers, &n, org);
        if (!url)
                return -ENOMEM;
        return http_send(cp->http,
                      &(HttpRequest) { .method = q->method,
                                       .url = url,
                                       .headers = headers,
                                       .body = q->body,
                                       .body_size = q->body ? strlen(q->body) : 0,
                                       .content_type = q->body ? "application/json" : NULL,
                                       .answer_max = q->answer_max,
                                       .timeout_usec = q->timeout_usec ?: TIMEOUT_USEC,
                                       .low_speed = q->body != NULL,
                                       .flags = HTTP_PLAIN_LOOPBACK | (q->auth == CP_AUTH_HOST ? HTTP_CREDENTIALS : 0) },
                      on_http, c, &c->http);
}

/* What waited has to wait longer still: its owner paces itself anew, lest its loop be taken for dead. */
static void give_back(CpCall *c) {
        Cp *cp = c->cp;
        CpAnswer answer = { .kind = CP_LATER, .body = "", .etag = "" };
        CpDone done = c->done;
        void *their = c->userdata;

        call_free(c);
        (void) fault(&answer.fault, -EAGAIN, FAULT_CONTROL_PLANE_UNREACHABLE, "%s is to be asked later.", cp_host(cp));
        cp->fault = answer.fault;
        done(&answer, their);
}

static int on_later(sd_event_source *s, uint64_t usec, void *userdata) {
        CpCall *c = userdata;
        int r;

        (void) s;
        (void) usec;
        if (cp_held_back(c->cp)) {
                give_back(c);
                return 0;
        }
        wait_no_more(c);
        r = transmit(c);
        if (r < 0)
                on_http(&(HttpAnswer) { .error = r, .words = "the request could not be made" }, c);
        return 0;
}

static int copy(const char **ret, const char *s) { return s && !(*ret = strdup(s)) ? -ENOMEM : 0; }

/* Before its time a request waits here, whoever makes it. */
int cp_send(Cp *cp, const CpRequest *q, CpDone done, void *userdata, CpCall **ret) {
        _cleanup_(call_freep) CpCall *c = calloc(1, sizeof *c);
        int r;

        if (!c)
                return -ENOMEM;
        *c = (CpCall) { .cp = cp, .request = *q, .done = done, .userdata = userdata };
        c->request.path = c->request.body = c->request.if_none_match = NULL;
        if (copy(&c->request.path, q->path) < 0 || copy(&c->request.body, q->body) < 0 ||
            copy(&c->request.if_none_match, q->if_none_match) < 0)
                return -ENOMEM;
        if (cp->not_before > now_boottime()) {
                r = sd_event_add_time(cp->event, &c->later, CLOCK_BOOTTIME, cp->not_before, USEC_PER_MSEC, on_later, c);
                if (r >= 0)
                        LIST_INSERT_HEAD(&cp->waiting, c, link);
        } else
                r = transmit(c);
        if (r < 0)
                return r;
        if (ret)
                *ret = c;
        TAKE_PTR(c);                    /* until done() */
        return 0;
}

CpCall *cp_call_cancel(CpCall *c) {
        if (!c)
                return NULL;
        (void) http_call_cancel(c->http);
        return call_free(c);
}

/* ── setting up ──────────────────────────────────────────────────────────────────────────────────────────────── */

static void forget(Cp *cp) {
        for (size_t i = 0; i < CREDENTIAL_LINES; i++) {
                cp->secret_lines[i] = secret_free(cp->secret_lines[i]);
                cp->lines[i] = NULL;
        }
        cp->bearer = secret_free(cp->bearer);
}

/* The lines lie in the arena, where http finds them for each request. */
static int set_headers(Cp *cp, const Config *config, const Credentials *credentials, Fault *reterr) {
        Arena *arena = credentials->admin_token->arena;
        _cleanup_free_ char *org = str_printf("X-Molecule-Org-Id: %s", config->org_id);
        _cleanup_free_ char *boot = str_printf("X-Molecule-Boot-Id: %s", cp->identity->boot_id);
        Secret *made[CREDENTIAL_LINES] = {
                secret_concat(arena, "Authorization: Bearer ", credentials->provision_secret),
                secret_concat(arena, "X-Molecule-Admin-Token: ", credentials->admin_token),
                org ? secret_new(arena, org, strlen(org)) : NULL,
                boot ? secret_new(arena, boot, strlen(boot)) : NULL,
        };
        int r = 0;

        forget(cp);
        cp->bearer = secret_concat(arena, "Authorization: Bearer ", credentials->admin_token);
        for (size_t i = 0; i < CREDENTIAL_LINES; i++) {
                cp->secret_lines[i] = made[i];
                cp->lines[i] = made[i] ? secret_text(made[i]) : NULL;
                if (!made[i] || !cp->bearer)
                        r = fault(reterr, -ENOMEM, FAULT_INTERNAL, "The arena of secrets is full.");
        }
        return r < 0 ? r : http_set_credentials(cp->http, cp->base, cp->lines, reterr);
}

int cp_configure(Cp *cp, const Config *config, const Credentials *credentials, Fault *reterr) {
        HttpOptions options = { .user_agent = "molecule-agent/" VERSION,
                                .ca_file = config->ca_file,
                                .proxy = config->proxy,
                                .no_proxy = config->no_proxy,
                                .connect_timeout_usec = config->connect_timeout_seconds * USEC_PER_SEC };
        int r;

        free(cp->base);
        free(cp->org_id);
        cp->base = str_printf("%s%s", config->cp_url, config->cp_prefix);
        cp->org_id = strdup(config->org_id);
        if (!cp->base || !cp->org_id)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        r = http_configure(cp->http, &options);
        if (r < 0)
                return fault(reterr, r, FAULT_INTERNAL, "Cannot set up HTTP: %m");
        return set_headers(cp, config, credentials, reterr);
}

uint64_t cp_held_back(const Cp *cp) {
        uint64_t now = now_boottime();
        return cp->not_before > now ? cp->not_before - now : 0;
}

uint64_t cp_crowded(const Cp *cp) {
        uint64_t now = now_boottime(), until = cp->crowded_until > cp->not_before ? cp->crowded_until : cp->not_before;
        return until > now ? until - now : 0;
}

const Fault *cp_fault(const Cp *cp) { return cp->fault.set ? &cp->fault : NULL; }

const char *cp_host(const Cp *cp) {
        const char *p = cp->base ? strstr(cp->base, "://") : NULL;
        return p ? p + 3 : "the control plane";
}

int cp_new(sd_event *event, Http *http, const Identity *identity, Cp **ret) {
        Cp *cp = calloc(1, sizeof *cp);

        if (!cp)
                return -ENOMEM;
        cp->event = event;
        cp->http = http;
        cp->identity = identity;
        cp->bucket = (RetryBucket) RETRY_BUCKET_FULL;
        cp->lost = (Backoff) BACKOFF_DEFAULT;
        *ret = cp;
        return 0;
}

Cp *cp_free(Cp *cp) {
        if (!cp)
                return NULL;
        free(cp->base);
        free(cp->org_id);
        forget(cp);
        free(cp);
        return NULL;
}
