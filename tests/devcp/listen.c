/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/devcp/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/text.h"

#define BACKLOG 1024

static int parse_address(const char *text, struct sockaddr_in *ret, Fault *reterr) {
        const char *colon = strrchr(text, ':');
        char host[INET_ADDRSTRLEN] = "";
        uint64_t port;

        if (!colon || (size_t) (colon - text) >= sizeof host || u64_parse(colon + 1, &port) < 0 || port > 65535)
                return fault(reterr, -EINVAL, FAULT_CONFIG_INVALID, "--listen wants ADDRESS:PORT");
        memcpy(host, text, (size_t) (colon - text));
        *ret = (struct sockaddr_in) { .sin_family = AF_INET, .sin_port = htons((uint16_t) port) };
        if (inet_pton(AF_INET, host, &ret->sin_addr) != 1)
                return fault(reterr, -EINVAL, FAULT_CONFIG_INVALID, "'%s' is not an IPv4 address", host);
        if (ntohl(ret->sin_addr.s_addr) >> 24 != 127)
                return fault(reterr, -EINVAL, FAULT_CONFIG_INVALID, "'%s' is not a loopback address; this program serves no other", host);
        return 0;
}

int listen_open(const char *address, const char *tls, int *ret_fd, char *ret_url, size_t url_size, Fault *reterr) {
        _cleanup_close_ int fd = -1;
        struct sockaddr_in sa;
        socklen_t size = sizeof sa;
        char host[INET_ADDRSTRLEN];
        int r;

        r = parse_address(address, &sa, reterr);
        if (r < 0)
                return r;
        fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int) { 1 }, sizeof(int)) < 0 ||
            bind(fd, (struct sockaddr *) &sa, sizeof sa) < 0 || listen(fd, BACKLOG) < 0 ||
            getsockname(fd, (struct sockaddr *) &sa, &size) < 0)
                return fault(reterr, -errno, FAULT_INTERNAL, "cannot listen on '%s': %m", address);
        (void) snprintf(ret_url, url_size, "http%s://%s:%u", tls ? "s" : "", inet_ntop(AF_INET, &sa.sin_addr, host, sizeof host),
                        ntohs(sa.sin_port));
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int listen_open_log(const char *path, int *ret_fd, Fault *reterr) {
        int fd = -1;

        if (path) {
                fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
                if (fd < 0)
                        return fault(reterr, -errno, FAULT_INTERNAL, "cannot open '%s': %m", path);
        }
        *ret_fd = fd;
        return 0;
}
