/* SPDX-License-Identifier: Apache-2.0 */

/* One transfer: how a request becomes an easy handle of libcurl, and how what comes back becomes an HttpAnswer.
 *
 * Nothing is left to libcurl's defaults or to the environment where it matters: protocols, proxy, redirects, TLS floor. What the other
 * side sends is counted here, headers and body both, whatever it announced. */

#include <errno.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#include "base/http-internal.h"
#include "base/retry.h"
#include "base/text.h"

#define HEADERS_MAX    65536
#define ANSWER_DEFAULT 65536
#define LOW_SPEED_SECONDS 30
#define AGAIN_USEC     USEC_PER_SEC

/* ── what comes back ─────────────────────────────────────────────────────────────────────────────────────────── */

static const struct {
        const char *name;
        size_t      offset, size;
} captures[] = {
#define CAPTURE(name, member) { name, offsetof(Captured, member), sizeof ((Captured *) NULL)->member }
        CAPTURE("Content-Type", content_type),
        CAPTURE("Retry-After",  retry_after),
        CAPTURE("ETag",         etag),
        CAPTURE("Deprecation",  deprecation),
        CAPTURE("Sunset",       sunset),
        CAPTURE("Api-Version",  api_version),
        CAPTURE("Date",         date),
#undef CAPTURE
};

static bool is_blank(char c) {
        return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void capture(Captured *c, const char *line, size_t n) {
        const char *colon = memchr(line, ':', n), *value, *end = line + n;

        if (!colon)
                return;
        for (value = colon + 1; value < end && is_blank(*value); value++)
                ;
        for (; end > value && is_blank(end[-1]); end--)
                ;
        for (size_t i = 0; i < ELEMENTS(captures); i++) {
                char *place = (char *) c + captures[i].offset;
                size_t size = (size_t) (end - value), name = (size_t) (colon - line);

                if (strlen(captures[i].name) != name || strncasecmp(line, captures[i].name, name) != 0)
                        continue;
                if (size >= captures[i].size)
                        size = 0;
                for (size_t k = 0; k < size; k++)
                        if ((unsigned char) value[k] < ' ' || (unsigned char) value[k] >= 0x7f)
                                size = 0;
                memcpy(place, value, size);
                place[size] = 0;
                return;
        }
}

static size_t on_header(char *line, size_t one, size_t n, void *userdata) {
        HttpCall *c = userdata;

        (void) one;
        if (c->state == CALL_DEAD)
                return 0;
        c->headers_size += n;
        if (c->headers_size > HEADERS_MAX) {
                c->stop = -EFBIG;
                return 0;
        }
        if (c->in_body)
                return n;               /* trailers change nothing */
        if (n > 5 && memcmp(line, "HTTP/", 5) == 0)
                memset(&c->captured, 0, sizeof c->captured);    /* what came before was an interim answer or a proxy's */
        else
                capture(&c->captured, line, n);
        return n;
}

static int body_append(HttpCall *c, const char *p, size_t n) {
        if (n > c->max - c->size)
                return -EFBIG;
        if (c->size + n + 1 > c->allocated) {
                size_t want = c->allocated ? c->allocated * 2 : 1024;
                char *b;

                while (want < c->size + n + 1)
                        want *= 2;
                b = realloc(c->body, want);
                if (!b)
                        return -ENOMEM;
                c->body = b;
                c->allocated = want;
        }
        memcpy(c->body + c->size, p, n);
        c->size += n;
        c->body[c->size] = 0;
        return 0;
}

/* Anything but n makes libcurl end the transfer; why is in c->stop. */
static size_t on_body(char *p, size_t one, size_t n, void *userdata) {
        HttpCall *c = userdata;
        long status = 0;
        int r = 0;

        (void) one;
        if (c->state == CALL_DEAD)
                return 0;
        c->in_body = true;
        (void) curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
        if (!c->chunk || ((status < 200 || status > 299) && (c->flags & HTTP_KEEP_BODY)))
                r = body_append(c, p, n);
        else if (status >= 200 && status <= 299)
                r = c->chunk(p, n, c->userdata);
        if (c->state == CALL_DEAD)      /* cancelled by its own chunk() */
                return 0;
        if (r < 0) {
                c->stop = r;
                return 0;
        }
        c->paused = r == HTTP_PAUSE;
        return c->paused ? CURL_WRITEFUNC_PAUSE : n;
}

/* Only what a caller can act upon has its own number. */
static int result_to_errno(const HttpCall *c) {
        long os = 0;

        (void) curl_easy_getinfo(c->easy, CURLINFO_OS_ERRNO, &os);
        switch (c->result) {
        case CURLE_OK:
                return 0;
        case CURLE_OPERATION_TIMEDOUT:
                return -ETIMEDOUT;
        case CURLE_COULDNT_CONNECT:
                switch (os) {
                case ENOENT: case ENOTDIR:              return -ENOENT;
                case EACCES: case EPERM:                return -EACCES;
                case EHOSTUNREACH: case ENETUNREACH:    return -EHOSTUNREACH;
                case ETIMEDOUT:                         return -ETIMEDOUT;
                default:                                return -ECONNREFUSED;
                }
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_RESOLVE_PROXY:
                return -EHOSTUNREACH;
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_ISSUER_ERROR:
                return -EKEYREJECTED;
        case CURLE_GOT_NOTHING:
        case CURLE_SEND_ERROR:
        case CURLE_RECV_ERROR:
        case CURLE_PARTIAL_FILE:
                return -ECONNRESET;
        case CURLE_OUT_OF_MEMORY:
                return -ENOMEM;
        default:
                return -EIO;
        }
}

static uint64_t certificate_time(const struct curl_slist *fields, const char *name) {
        size_t n = strlen(name);

        for (; fields; fields = fields->next)
                if (strncmp(fields->data, name, n) == 0) {
                        time_t at = curl_getdate(fields->data + n, NULL);

                        return at > 0 ? (uint64_t) at * 1000000 : 0;
                }
        return 0;
}

/* The first one is the server's own. What follows it was only sent: it need not lie on the path that was verified, and may have ended long ago. */
static void certificate_times(const HttpCall *c, HttpAnswer *ret) {
        struct curl_certinfo *sent = NULL;

        if (curl_easy_getinfo(c->easy, CURLINFO_CERTINFO, &sent) != CURLE_OK || !sent || sent->num_of_certs < 1)
                return;
        ret->from_usec = certificate_time(sent->certinfo[0], "Start date:");
        ret->until_usec = certificate_time(sent->certinfo[0], "Expire date:");
}

void call_tell(HttpCall *c) {
        HttpAnswer a = {
                .error = c->result == CURLE_OK ? 0 : c->stop ?: result_to_errno(c),
                .words = "",
                .body = c->body ?: "",
                .size = c->size,
                .content_type = c->captured.content_type,
                .retry_after = c->captured.retry_after,
                .etag = c->captured.etag,
                .deprecation = c->captured.deprecation,
                .sunset = c->captured.sunset,
                .api_version = c->captured.api_version,
        };
        long bytes = 0, connects = 1;

        if (a.error < 0)
                a.words = c->stop == -EFBIG ? "the answer is larger than its limit" :
                          c->stop == -ECONNRESET ? "the connection broke before an answer came" :
                          c->words[0] ? c->words : curl_easy_strerror(c->result);
        (void) curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &a.status);
        (void) curl_easy_getinfo(c->easy, CURLINFO_REQUEST_SIZE, &bytes);
        (void) curl_easy_getinfo(c->easy, CURLINFO_NUM_CONNECTS, &connects);
        a.sent = a.error < 0 && (bytes > 0 || c->stop == -ECONNRESET);
        a.reused = bytes > 0 && connects == 0;
        if (c->captured.date[0])
                (void) http_date_parse(c->captured.date, &a.date_usec);
        if (c->flags & HTTP_CERTIFICATE)
                certificate_times(c, &a);
        c->done(&a, c->userdata);
}

/* ── what goes out ───────────────────────────────────────────────────────────────────────────────────────────── */

HttpCall *call_free(HttpCall *c) {
        if (!c)
                return NULL;
        curl_easy_cleanup(c->easy);
        for (struct curl_slist *l = c->headers; l; l = l->next)
                explicit_bzero(l->data, strlen(l->data));
        curl_slist_free_all(c->headers);
        if (c->request)
                explicit_bzero(c->request, c->request_size);
        free(c->request);
        if (c->body)
                explicit_bzero(c->body, c->size);
        free(c->body);
        free(c);
        return NULL;
}

static int url_judge(const Http *h, const HttpRequest *q, UrlFacts *ret) {
        UrlFacts f;
        int r;

        r = url_facts(q->url, &f);
        if (r < 0)
                return r;
        if (f.user_info)
                return -EINVAL;
        if (q->flags & HTTP_CREDENTIALS)
                if (q->socket_path || !h->origin || strcmp(h->origin, f.origin) != 0)
                        return -EPERM;
        if (q->socket_path) {
                if (f.tls || strlen(q->socket_path) >= sizeof ((struct sockaddr_un *) NULL)->sun_path)
                        return -EINVAL;
        } else if (!f.tls && !(f.loopback && (q->flags & HTTP_PLAIN_LOOPBACK)) && !(f.link_local && (q->flags & HTTP_PLAIN_LINK_LOCAL)))
                return -EINVAL;
        *ret = f;
        return 0;
}

static int header_add(HttpCall *c, const char *line) {
        struct curl_slist *l;

        if (!header_is_valid(line))
                return -EINVAL;
        l = curl_slist_append(c->headers, line);
        if (!l)
                return -ENOMEM;
        c->headers = l;
        return 0;
}

static int headers_add(HttpCall *c, const char *const *lines) {
        int r = 0;

        for (; lines && *lines && r == 0; lines++)
                r = header_add(c, *lines);
        return r;
}

static int headers_build(HttpCall *c, const Http *h, const HttpRequest *q) {
        char type[192];
        int r;

        /* No waiting for "100 Continue". In a signed request libcurl would count it among what was signed. */
        r = q->sigv4 ? 0 : header_add(c, "Expect:");
        if (r == 0) {           /* Content-Type without a value: none, rather than libcurl's guess */
                int n = snprintf(type, sizeof type, "Content-Type:%s%s", q->content_type ? " " : "", q->content_type ?: "");

                r = n < (int) sizeof type ? header_add(c, type) : -EINVAL;
        }
        if (r == 0)
                r = headers_add(c, q->headers);
        if (r == 0 && (q->flags & HTTP_CREDENTIALS))
                r = headers_add(c, h->credentials);
        return r;
}

static long usec_to_ms(uint64_t usec) {
        uint64_t ms = usec / 1000 + (usec % 1000 > 0);

        return ms > INT32_MAX ? INT32_MAX : (long) ms;
}

#define SET(opt, val) do { if (e == CURLE_OK) e = curl_easy_setopt(c->easy, (opt), (val)); } while (0)

/* Answers hold secrets, and a connection lives on: what was decrypted is wiped as it is read, and an idle one has no buffers. */
static CURLcode on_tls(CURL *easy, void *context, void *userdata) {
        (void) easy;
        (void) userdata;
        (void) SSL_CTX_set_options(context, SSL_OP_CLEANSE_PLAINTEXT);
        (void) SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
        return CURLE_OK;
}

static int on_socket(void *userdata, curl_socket_t fd, curlsocktype purpose) {
        int two = 2;

        (void) userdata;
        (void) purpose;
        return setsockopt(fd, IPPROTO_IP, IP_MINTTL, &two, sizeof two) < 0 ? CURL_SOCKOPT_ERROR : CURL_SOCKOPT_OK;
}

/* A kept connection that breaks before any of the answer has come is taken by libcurl for one that had been closed, and it asks anew by itself. That shows
 * at once. What breaks later, as a hanging poll does when its server ends, is the owner's to try again, in its own time. */
static bool is_too_late(const HttpCall *c) { return c->asked_at && now_boottime() - c->asked_at > AGAIN_USEC; }

static int on_request(void *userdata, char *primary, char *local, int primary_port, int local_port) {
        HttpCall *c = userdata;

        (void) primary;
        (void) local;
        (void) primary_port;
        (void) local_port;
        if (is_too_late(c)) {
                c->stop = -ECONNRESET;
                return CURL_PREREQFUNC_ABORT;
        }
        c->asked_at = now_boottime();
        return CURL_PREREQFUNC_OK;
}

static curl_socket_t on_open(void *userdata, curlsocktype purpose, struct curl_sockaddr *a) {
        HttpCall *c = userdata;

        (void) purpose;
        if (!is_too_late(c))
                return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
        c->stop = -ECONNRESET;
        return CURL_SOCKET_BAD;
}

static CURLcode set_guards(HttpCall *c, const Http *h, const HttpRequest *q, const UrlFacts *f) {
        bool proxied = h->proxy && !q->socket_path && !f->loopback && !f->link_local && !(q->flags & HTTP_NO_PROXY);
        CURLcode e = CURLE_OK;

        SET(CURLOPT_PROTOCOLS_STR, f->tls ? "https" : "http");
        SET(CURLOPT_FOLLOWLOCATION, 0L);
        SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
        SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
        SET(CURLOPT_SSL_VERIFYPEER, 1L);
        SET(CURLOPT_SSL_VERIFYHOST, 2L);
        SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
        SET(CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
        SET(CURLOPT_QUICK_EXIT, 1L);    /* the thread that asks a dead name server ends by itself; an older libcurl stops the loop until it has */
#endif
        SET(CURLOPT_HEADEROPT, (long) CURLHEADER_SEPARATE);     /* a proxy sees none of our headers */
        SET(CURLOPT_PROXY, proxied ? h->proxy : "");
        SET(CURLOPT_NOPROXY, h->no_proxy ?: "");
        if (f->tls)
                SET(CURLOPT_SSL_CTX_FUNCTION, on_tls);
        if (h->ca_file)
                SET(CURLOPT_CAINFO, h->ca_file);
        if (q->socket_path)
                SET(CURLOPT_UNIX_SOCKET_PATH, q->socket_path);
        return e;
}

static CURLcode set_transfer(HttpCall *c, const Http *h, const HttpRequest *q) {
        CURLcode e = CURLE_OK;

        SET(CURLOPT_TCP_KEEPALIVE, 1L);
        SET(CURLOPT_TCP_KEEPIDLE, 30L);
        SET(CURLOPT_TCP_KEEPINTVL, 15L);
        SET(CURLOPT_CONNECTTIMEOUT_MS, usec_to_ms(h->connect_timeout_usec));
        SET(CURLOPT_TIMEOUT_MS, usec_to_ms(q->timeout_usec));
        if (q->low_speed) {
                SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
                SET(CURLOPT_LOW_SPEED_TIME, (long) LOW_SPEED_SECONDS);
        }
        if (q->flags & HTTP_FRESH) {
                SET(CURLOPT_FRESH_CONNECT, 1L);
                SET(CURLOPT_FORBID_REUSE, 1L);
        }
        if (q->flags & HTTP_CERTIFICATE)
                SET(CURLOPT_CERTINFO, 1L);
        if (q->flags & HTTP_FAR)
                SET(CURLOPT_SOCKOPTFUNCTION, on_socket);
        SET(CURLOPT_PREREQFUNCTION, on_request);
        SET(CURLOPT_PREREQDATA, c);
        SET(CURLOPT_OPENSOCKETFUNCTION, on_open);
        SET(CURLOPT_OPENSOCKETDATA, c);
        SET(CURLOPT_PRIVATE, c);
        SET(CURLOPT_ERRORBUFFER, c->words);
        SET(CURLOPT_HEADERFUNCTION, on_header);
        SET(CURLOPT_HEADERDATA, c);
        SET(CURLOPT_WRITEFUNCTION, on_body);
        SET(CURLOPT_WRITEDATA, c);
        return e;
}

static CURLcode set_request(HttpCall *c, const Http *h, const HttpRequest *q) {
        CURLcode e = CURLE_OK;

        SET(CURLOPT_URL, q->url);
        SET(CURLOPT_PATH_AS_IS, 1L);
        if (h->user_agent)
                SET(CURLOPT_USERAGENT, h->user_agent);
        if (q->method && strcmp(q->method, "HEAD") == 0)
                SET(CURLOPT_NOBODY, 1L);
        else if (q->body || (q->method && (strcmp(q->method, "POST") == 0 || strcmp(q->method, "PUT") == 0))) {
                SET(CURLOPT_POST, 1L);          /* so that "Content-Length: 0" is said, too */
                SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) c->request_size);
                SET(CURLOPT_POSTFIELDS, c->request ?: "");
        }
        if (q->method)
                SET(CURLOPT_CUSTOMREQUEST, q->method);
        SET(CURLOPT_HTTPHEADER, c->headers);
        if (q->sigv4) {
                SET(CURLOPT_AWS_SIGV4, q->sigv4);
                SET(CURLOPT_USERPWD, q->sigv4_key);
        }
        return e;
}
#undef SET

int call_new(Http *h, const HttpRequest *q, HttpDone done, void *userdata, HttpCall **ret) {
        _cleanup_(call_freep) HttpCall *c = NULL;
        UrlFacts f;
        CURLcode e;
        int r;

        r = url_judge(h, q, &f);
        if (r < 0)
                return r;
        c = calloc(1, sizeof *c);
        if (!c || !(c->easy = curl_easy_init()))
                return -ENOMEM;
        c->http = h;
        c->done = done;
        c->userdata = userdata;
        c->chunk = q->chunk;
        c->flags = q->flags;
        c->max = q->answer_max ?: ANSWER_DEFAULT;
        if (q->body && q->body_size > 0) {
                c->request = malloc(q->body_size);
                if (!c->request)
                        return -ENOMEM;
                memcpy(c->request, q->body, q->body_size);
                c->request_size = q->body_size;
        }
        r = headers_build(c, h, q);
        if (r < 0)
                return r;
        e = set_guards(c, h, q, &f);
        if (e == CURLE_OK)
                e = set_transfer(c, h, q);
        if (e == CURLE_OK)
                e = set_request(c, h, q);
        if (e != CURLE_OK)
                return e == CURLE_OUT_OF_MEMORY ? -ENOMEM : -EINVAL;
        *ret = TAKE_PTR(c);
        return 0;
}
