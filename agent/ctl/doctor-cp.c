/* SPDX-License-Identifier: Apache-2.0 */

/* doctor: the way to the control plane, gone once and without a credential: is it there, is it one, whom does its certificate name and for how long, what
 * time is it there, and whose slug is ours. */

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent/ctl/doctor.h"
#include "agent/ctl/term.h"
#include "base/http-wait.h"
#include "base/text.h"

#define NIL_STATUS     "/workspaces/00000000-0000-0000-0000-000000000000/status"    /* 401 for who shows nothing: the provision routes are there */
#define PROXY_USEC     (1500 * USEC_PER_MSEC)
#define FIRST_USEC     (3 * USEC_PER_SEC)
#define SECOND_USEC    (2 * USEC_PER_SEC)
#define SKEW_WARNING   10.0                     /* seconds */
#define SKEW_FAILED    300.0
#define SOON_USEC      (UINT64_C(7) * 86400 * USEC_PER_SEC)

static uint64_t left_until(uint64_t until) {
        uint64_t now = now_boottime();

        return until > now ? until - now : 0;
}

/* ── proxy ───────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct Question { struct gaicb gaicb; struct addrinfo hints; char host[256], port[8]; } Question;

/* Not by getaddrinfo(), which waits for a dead name server as long as it likes: what is then still at work keeps its question, and this process ends without
 * it. -EHOSTDOWN: there is no such name, as far as is known. */
static int resolve(const char *host, const char *port, uint64_t until, struct addrinfo **ret) {
        Question *q = calloc(1, sizeof *q);
        struct gaicb *list[] = { q ? &q->gaicb : NULL };
        int e = EAI_MEMORY;

        if (!q)
                return -ENOMEM;
        (void) snprintf(q->host, sizeof q->host, "%s", host);
        (void) snprintf(q->port, sizeof q->port, "%s", port);
        q->hints.ai_socktype = SOCK_STREAM;
        q->gaicb = (struct gaicb) { .ar_name = q->host, .ar_service = q->port, .ar_request = &q->hints };
        if (getaddrinfo_a(GAI_NOWAIT, list, 1, NULL) == 0)
                while ((e = gai_error(&q->gaicb)) == EAI_INPROGRESS && now_boottime() < until) {
                        uint64_t left = left_until(until);
                        const struct timespec limit = { .tv_sec = (time_t) (left / USEC_PER_SEC), .tv_nsec = (long) (left % USEC_PER_SEC) * 1000 };

                        (void) gai_suspend((const struct gaicb *const *) list, 1, &limit);
                }
        if (e == EAI_INPROGRESS && gai_cancel(&q->gaicb) == EAI_NOTCANCELED)
                return -EHOSTDOWN;
        if (e == 0)
                *ret = q->gaicb.ar_result;
        free(q);
        return e == 0 ? 0 : -EHOSTDOWN;
}

static int try(const struct addrinfo *a, uint64_t until) {
        _cleanup_close_ int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct pollfd p = { .fd = fd, .events = POLLOUT };
        socklen_t size = sizeof(int);
        int e = 0;

        if (fd < 0)
                return -errno;
        if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
                return 0;
        if (errno != EINPROGRESS)
                return -errno;
        if (poll(&p, 1, (int) (left_until(until) / USEC_PER_MSEC)) != 1)
                return -ETIMEDOUT;
        return getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &size) < 0 ? -errno : -e;
}

/* Its first address only: the time is short. */
static int reach(const char *host, const char *port, uint64_t until) {
        struct addrinfo *found = NULL;
        int r = resolve(host, port, until, &found);

        if (r == 0)
                r = try(found, until);
        if (found)
                freeaddrinfo(found);
        return r;
}

Verdict look_proxy(Doctor *d) {
        char host[256], port[8];
        int r;

        if (!d->config || !d->config->proxy)
                return say(d, NOT_HERE, "none is set");
        if (http_proxy_place(d->config->proxy, host, port) < 0)
                return say(d, BAD, "The setting proxy is no URL of a proxy. Write it as http://HOST:PORT.");
        r = reach(host, port, now_boottime() + doctor_patience(d, PROXY_USEC));
        if (r == -EHOSTDOWN)
                return say(d, BAD, "The name of the proxy %s is not known, or no name server answers. Look at the setting proxy and at the name service.", host);
        if (r < 0)
                return say(d, BAD, "The proxy %s, port %s, cannot be reached: %s. Look at the setting proxy and at the network.", host, port, strerror(-r));
        return say(d, FINE, "%s, port %s, takes connections", host, port);
}

/* ── the one visit ───────────────────────────────────────────────────────────────────────────────────────────── */

static int get(HttpWait *http, const Config *c, const char *path, uint64_t timeout, HttpFlags flags, HttpReply *ret) {
        static const char *const headers[] = { "Accept: application/json", NULL };
        _cleanup_free_ char *url = str_printf("%s%s%s", c->cp_url, c->cp_prefix, path);

        if (!url)
                return -ENOMEM;
        return http_wait(http, &(HttpRequest) { .url = url, .headers = headers, .timeout_usec = timeout, .flags = flags | HTTP_PLAIN_LOOPBACK }, ret);
}

static void take(CpLook *l, const HttpReply *reply, uint64_t before) {
        uint64_t here = before + (now_realtime() - before) / 2;

        l->error = reply->error;
        (void) snprintf(l->words, sizeof l->words, "%s", reply->words);
        if (l->error < 0)
                return;
        l->status = reply->status;
        l->is_json = strncmp(reply->content_type, "application/json", 16) == 0;
        l->from_usec = reply->from_usec;
        l->until_usec = reply->until_usec;
        if (reply->date_usec) {
                l->date_usec = reply->date_usec + USEC_PER_SEC / 2;     /* it has no parts of a second */
                l->here_usec = here;
        }
}

static void ask_organization(HttpWait *http, Doctor *d) {
        const Config *c = d->config;
        _cleanup_free_ char *path = str_printf("/orgs/%s/instance", c->org_slug);
        _cleanup_json_ cJSON *json = NULL;
        CpLook *l = &d->cp;
        HttpReply reply = {};

        if (!path || get(http, c, path, doctor_patience(d, SECOND_USEC), 0, &reply) < 0)
                return;
        if (reply.error == 0)
                l->org_status = reply.status;
        if (reply.error == 0 && json_parse(reply.body, reply.size, &json, NULL) >= 0)
                (void) snprintf(l->org_id, sizeof l->org_id, "%s", json_get_string(json, "org_id") ?: "");
        http_reply_done(&reply);
}

static int visit(Doctor *d) {
        const Config *c = d->config;
        const HttpOptions options = { .user_agent = "molecule-agent/" VERSION, .ca_file = c->ca_file, .proxy = c->proxy, .no_proxy = c->no_proxy,
                                      .connect_timeout_usec = FIRST_USEC };
        _cleanup_(http_wait_freep) HttpWait *http = NULL;
        uint64_t before = now_realtime();
        CpLook *l = &d->cp;
        HttpReply reply = {};
        int r = http_wait_new(NULL, &http);

        if (r >= 0)
                r = http_wait_configure(http, &options);
        if (r >= 0)
                r = get(http, c, NIL_STATUS, doctor_patience(d, FIRST_USEC), HTTP_CERTIFICATE, &reply);
        if (r < 0)
                return r;
        take(l, &reply, before);
        http_reply_done(&reply);
        if (l->error == 0 && l->is_json && l->status == 401 && c->org_slug)
                ask_organization(http, d);
        return 0;
}

static const CpLook *look(Doctor *d) {
        CpLook *l = &d->cp;
        const char *ca = d->config && config_can_enrol(d->config) ? d->config->ca_file : NULL;

        if (!d->config || !config_can_enrol(d->config))
                return NULL;
        if (l->asked)
                return l;
        l->asked = true;
        if (ca && access(ca, R_OK) < 0) {
                (void) snprintf(l->words, sizeof l->words, "%s", strerror(errno));
                l->error = -EKEYREJECTED;
                l->no_ca = true;
        } else {
                int r = visit(d);

                if (r < 0) {
                        (void) snprintf(l->words, sizeof l->words, "%s", strerror(-r));
                        l->error = r;
                }
        }
        return l;
}

/* ── what it came to ─────────────────────────────────────────────────────────────────────────────────────────── */

Verdict look_control_plane(Doctor *d) {
        const CpLook *l = look(d);
        const char *url = l ? d->config->cp_url : "";

        if (!l)
                return say(d, NOT_HERE, "which one is not known: see configuration");
        if (l->error == -EKEYREJECTED)
                return say(d, NOT_HERE, "its certificate is not to be trusted: see there");
        if (l->error < 0)
                return blame(d, BAD, fault_code_name(FAULT_CONTROL_PLANE_UNREACHABLE), "%s cannot be reached: %s. Look at cp_url, name service, firewall and proxy.", url,
                             l->words);
        if (l->status == 401 && l->is_json)
                return say(d, FINE, "%s answers, and has the provision routes", url);
        if (l->status == 429 || l->status >= 500)
                return blame(d, BAD, fault_code_name(FAULT_CONTROL_PLANE_UNREACHABLE), "%s answers HTTP %ld: it is not well, or its proxy has lost it. Look there.", url,
                             l->status);
        return blame(d, BAD, fault_code_name(FAULT_CONTROL_PLANE_MISROUTED),
                     "%s is no control plane with provision routes (HTTP %ld%s). Check cp_url and cp_prefix; its secret may be unset.", url, l->status,
                     l->is_json ? "" : ", no JSON");
}

/* libcurl's words, or ours where they begin with what every reader knows by then. */
static Verdict distrust(Doctor *d, const CpLook *l) {
        const char *code = fault_code_name(FAULT_CONTROL_PLANE_UNREACHABLE), *known = "SSL certificate problem: ", *words = l->words;
        char now[TIME_TEXT_SIZE];

        if (l->no_ca)
                return blame(d, BAD, code, "ca_file %s cannot be read: %s. Put the authority's certificate there.", d->config->ca_file, words);
        if (strncmp(words, known, strlen(known)) == 0)
                words += strlen(known);
        if (strstr(words, "expired") || strstr(words, "not yet valid"))
                return blame(d, BAD, code, "Not to be trusted: %s, and it is %.16sZ here. Mend the clock, or have it renewed at the control plane.", words,
                             time_text(now_realtime(), now));
        return blame(d, BAD, code, "Not to be trusted: %s. Check ca_file, and who answers as %s.", words, d->config->cp_url);
}

Verdict look_certificate(Doctor *d) {
        const CpLook *l = look(d);
        char until[TIME_TEXT_SIZE], age[TERM_TEXT_SIZE];
        uint64_t here = now_realtime(), left;

        if (!l || (l->error < 0 && l->error != -EKEYREJECTED))
                return say(d, NOT_HERE, "no control plane to show one");
        if (l->error < 0)
                return distrust(d, l);
        if (strncmp(d->config->cp_url, "http://", 7) == 0 || !l->until_usec)
                return say(d, NOT_HERE, "none: the way is in clear, on this machine");
        left = l->until_usec > here ? l->until_usec - here : 0;
        (void) term_age(left / USEC_PER_SEC, age);
        if (left < SOON_USEC && left < (l->until_usec - l->from_usec) / 3)
                return say(d, WARNING, "The control plane's certificate ends in %s, at %.16sZ. Have it renewed there.", age, time_text(l->until_usec, until));
        return say(d, FINE, "trusted, and good for %s", age);
}

Verdict look_clock(Doctor *d) {
        const CpLook *l = look(d);
        double skew;

        if (!l || l->error < 0 || !l->date_usec)
                return say(d, NOT_HERE, "nobody to compare it with");
        skew = ((double) l->here_usec - (double) l->date_usec) / 1e6;
        if (skew < SKEW_WARNING && skew > -SKEW_WARNING)
                return say(d, FINE, "as the control plane's");
        return blame(d, skew < SKEW_FAILED && skew > -SKEW_FAILED ? WARNING : BAD, fault_code_name(FAULT_CLOCK_SUSPECT),
                     "%.0f s %s the control plane's. timedatectl; mend time synchronisation, here or there.", skew < 0 ? -skew : skew,
                     skew < 0 ? "behind" : "ahead of");
}

Verdict look_organization(Doctor *d) {
        const CpLook *l = look(d);
        const Config *c = d->config;

        if (!l || l->error < 0 || l->status != 401 || !l->is_json)
                return say(d, NOT_HERE, "no control plane to ask");
        if (!c->org_slug)
                return say(d, NOT_HERE, "org_slug is not set: nothing to compare");
        if (l->org_status == 404)
                return say(d, BAD, "The control plane knows no organization %s. Check org_slug and cp_url.", c->org_slug);
        if (l->org_status != 200 || !l->org_id[0])
                return say(d, WARNING, "The control plane does not say whose slug %s is (HTTP %ld). Look there.", c->org_slug, l->org_status);
        if (strcmp(l->org_id, c->org_id) != 0)
                return say(d, BAD, "%s is organization %s at the control plane; here org_id is %s. Set both to one: molecule-agentctl enroll.", c->org_slug,
                           l->org_id, c->org_id);
        return say(d, FINE, "%s is %s there, too", c->org_slug, c->org_id);
}
