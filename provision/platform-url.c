/* SPDX-License-Identifier: Apache-2.0 */

/* Where a workspace may be told to find its platform: anywhere but at what a cloud gives its own machines. A host that is not plainly a name or
 * plainly an address is refused: resolvers read more spellings of an address than anyone remembers. */

#include "provision/platform-url.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#define PLATFORM_URL_MAX 2048

static const char *const metadata_names[] = { "metadata.google.internal", "metadata" };

static bool is_link_local_v4(const unsigned char a[static 4]) { return a[0] == 169 && a[1] == 254; }

/* The ways a v6 address carries a v4 one: mapped, compatible, NAT64. */
static bool is_forbidden_v6(const char *host, size_t n) {
        static const unsigned char carriers[][12] = {
                { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff },
                { 0 },
                { 0x00, 0x64, 0xff, 0x9b },
        };
        static const unsigned char aws[4] = { 0xfd, 0x00, 0x0e, 0xc2 };
        struct in6_addr a;
        char text[64] = {};

        if (n < 3 || n - 2 >= sizeof text)
                return true;
        memcpy(text, host + 1, n - 2);
        if (inet_pton(AF_INET6, text, &a) != 1)
                return true;
        for (size_t i = 0; i < ELEMENTS(carriers); i++)
                if (memcmp(a.s6_addr, carriers[i], 12) == 0 && is_link_local_v4(a.s6_addr + 12))
                        return true;
        return IN6_IS_ADDR_LINKLOCAL(&a) || memcmp(a.s6_addr, aws, sizeof aws) == 0;
}

/* As browsers and resolvers judge: a last label of digits, or one that begins with 0x, makes the whole an address. */
static bool ends_in_a_number(const char *host) {
        const char *dot = strrchr(host, '.'), *last = dot ? dot + 1 : host;

        return strspn(last, "0123456789") == strlen(last) || strncasecmp(last, "0x", 2) == 0;
}

static bool host_is_forbidden(char *host) {
        static const char name_bytes[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
        unsigned char a[4];
        size_t n = strlen(host);

        if (host[0] == '[')
                return is_forbidden_v6(host, n);
        if (host[n - 1] == '.')
                host[--n] = 0;
        if (n == 0 || strspn(host, name_bytes) != n)
                return true;
        if (inet_pton(AF_INET, host, a) == 1)
                return is_link_local_v4(a);
        if (ends_in_a_number(host))
                return true;
        for (size_t i = 0; i < ELEMENTS(metadata_names); i++)
                if (strcasecmp(host, metadata_names[i]) == 0)
                        return true;
        return false;
}

int platform_url_check(const char *url, Fault *reterr) {
        char host[256];
        const char *p;
        size_t n;

        if (strlen(url) > PLATFORM_URL_MAX)
                return fault(reterr, -EINVAL, FAULT_BAD_ENV, "platform_url is longer than %d bytes.", PLATFORM_URL_MAX);
        if (strncmp(url, "https://", 8) == 0)
                p = url + 8;
        else if (strncmp(url, "http://", 7) == 0)
                p = url + 7;
        else
                return fault(reterr, -EINVAL, FAULT_BAD_ENV, "platform_url is neither http nor https.");
        for (const char *q = url; *q; q++)
                if ((unsigned char) *q <= 0x20 || *q == 0x7f || *q == '\\')
                        return fault(reterr, -EINVAL, FAULT_BAD_ENV, "platform_url holds white space, a backslash or a control character.");
        n = strcspn(p, "/?#");
        if (memchr(p, '@', n))
                return fault(reterr, -EINVAL, FAULT_BAD_ENV, "platform_url holds user info.");
        if (p[0] == '[') {
                const char *end = memchr(p, ']', n);
                n = end ? (size_t) (end - p) + 1 : 0;
        } else {
                size_t colon = strcspn(p, ":");
                n = colon < n ? colon : n;
        }
        if (n == 0 || n >= sizeof host)
                return fault(reterr, -EINVAL, FAULT_BAD_ENV, "platform_url has no usable host.");
        memcpy(host, p, n);
        host[n] = 0;
        if (host_is_forbidden(host))
                return fault(reterr, -EINVAL, FAULT_BAD_ENV, "platform_url points to a link-local or metadata address.");
        return 0;
}
