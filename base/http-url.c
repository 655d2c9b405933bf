/* SPDX-License-Identifier: Apache-2.0 */

/* What a URL is to us, and which one origin may see the credentials.
 *
 * A URL is judged by libcurl's own parser, so what was judged is what will be fetched: there is no second reading of it that could
 * see another host. An origin is kept as text in one normal form and compared as text. */

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/http-internal.h"

static inline void url_cleanupp(CURLU **u) { curl_url_cleanup(*u); }
static inline void curl_freep(char **p) { curl_free(*p); }
#define _cleanup_curl_ _cleanup_(curl_freep)

static bool url_has(CURLU *u, CURLUPart part) {
        _cleanup_curl_ char *value = NULL;

        return curl_url_get(u, part, &value, 0) == CURLUE_OK;
}

static void host_judge(const char *host, UrlFacts *f) {
        struct in6_addr v6;
        struct in_addr v4;
        char bare[INET6_ADDRSTRLEN + 1];
        size_t n = strlen(host);

        if (inet_pton(AF_INET, host, &v4) == 1) {
                uint32_t a = ntohl(v4.s_addr);

                f->loopback = a >> 24 == 127;
                f->link_local = a >> 16 == 0xa9fe;
                return;
        }
        if (n < 3 || n > sizeof bare || host[0] != '[' || host[n - 1] != ']')
                return;
        memcpy(bare, host + 1, n - 2);
        bare[n - 2] = 0;
        if (inet_pton(AF_INET6, bare, &v6) != 1)
                return;
        f->loopback = IN6_IS_ADDR_LOOPBACK(&v6);
        f->link_local = IN6_IS_ADDR_LINKLOCAL(&v6);
}

int url_facts(const char *url, UrlFacts *ret) {
        _cleanup_(url_cleanupp) CURLU *u = curl_url();
        _cleanup_curl_ char *scheme = NULL, *host = NULL, *port = NULL;
        UrlFacts f = {};

        if (!u)
                return -ENOMEM;
        if (curl_url_set(u, CURLUPART_URL, url, CURLU_PATH_AS_IS) != CURLUE_OK ||
            curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK || curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
            curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK)
                return -EINVAL;

        f.tls = strcmp(scheme, "https") == 0;
        if ((!f.tls && strcmp(scheme, "http") != 0) || host[0] == 0)
                return -EINVAL;
        if (snprintf(f.origin, sizeof f.origin, "%s://%s:%s", scheme, host, port) >= (int) sizeof f.origin)
                return -EINVAL;
        for (char *p = f.origin; *p; p++)
                *p = (char) tolower((unsigned char) *p);
        host_judge(host, &f);
        f.user_info = url_has(u, CURLUPART_USER) || url_has(u, CURLUPART_PASSWORD);
        f.tail = url_has(u, CURLUPART_QUERY) || url_has(u, CURLUPART_FRAGMENT);
        *ret = f;
        return 0;
}

int http_proxy_place(const char *proxy, char ret_host[static 256], char ret_port[static 8]) {
        _cleanup_(url_cleanupp) CURLU *u = curl_url();
        _cleanup_curl_ char *host = NULL, *port = NULL;
        size_t n;

        if (!u)
                return -ENOMEM;
        if (curl_url_set(u, CURLUPART_URL, proxy, CURLU_GUESS_SCHEME | CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK ||
            curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK)
                return -EINVAL;
        (void) curl_url_get(u, CURLUPART_PORT, &port, strncmp(proxy, "https://", 8) == 0 ? CURLU_DEFAULT_PORT : 0);
        n = strlen(host);
        if (n > 2 && host[0] == '[')            /* IPv6: the resolver wants it bare */
                host[n - 1] = 0;
        if (n == 0 || snprintf(ret_host, 256, "%s", host[0] == '[' ? host + 1 : host) >= 256 || snprintf(ret_port, 8, "%s", port ?: "1080") >= 8)
                return -EINVAL;
        return 0;
}

bool http_url_is_loopback(const char *url) {
        UrlFacts f;

        return url_facts(url, &f) == 0 && f.loopback;
}

bool header_is_valid(const char *line) {
        const char *colon = strchr(line, ':');

        if (!colon || colon == line)
                return false;
        for (const char *p = line; *p; p++)
                if ((unsigned char) *p < ' ' || *p == 0x7f)
                        return false;
        return true;
}

int http_set_credentials(Http *h, const char *url, const char *const *headers, Fault *reterr) {
        _cleanup_free_ char *origin = NULL;
        UrlFacts f;
        int r;

        r = url_facts(url, &f);
        if (r < 0)
                return fault(reterr, r, FAULT_CONFIG_INVALID, "the control plane's URL is not one");
        if (f.user_info || f.tail)
                return fault(reterr, -EINVAL, FAULT_CONFIG_INVALID, "the control plane's URL must not have a user, a query or a fragment");
        if (!f.tls && !f.loopback)
                return fault(reterr, -EINVAL, FAULT_CONFIG_INVALID,
                             "credentials are sent over https only (plain http only to a loopback address)");
        origin = strdup(f.origin);
        if (!origin)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "out of memory");
        for (const char *const *line = headers; line && *line; line++)
                if (!header_is_valid(*line))
                        return fault(reterr, -EINVAL, FAULT_INTERNAL, "a credential cannot be sent as a header");

        free(h->origin);
        h->origin = TAKE_PTR(origin);
        h->credentials = headers;
        return 0;
}
