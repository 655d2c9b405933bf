/* SPDX-License-Identifier: Apache-2.0 */

/* One request, in order: route, mounted?, method, credentials, body, handler in a transaction, acknowledgement log, answer. A request
 * refused early still has its body read (and dropped), because an answer followed by a reset is an answer that may not arrive. */

#include "tests/devcp/exchange.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

/* When the older prefix was declared old, and when it ends. */
#define DEPRECATION "@1767225600"
#define SUNSET      "Fri, 31 Dec 2027 23:59:59 GMT"

static bool path_matches(const char *pattern, const char *path, char ret_parameter[static 64]) {
        while (*pattern) {
                if (*pattern != '*') {
                        if (*pattern++ != *path++)
                                return false;
                        continue;
                }
                size_t n = strcspn(path, "/");

                if (n == 0 || n >= 64)
                        return false;
                memcpy(ret_parameter, path, n);
                ret_parameter[n] = 0;
                pattern++;
                path += n;
        }
        return *path == 0;
}

static bool is_mounted(const Server *s, const Route *route) {
        return s->options->provision_secret || (route->tier != TIER_PROVISION && route->tier != TIER_HOST);
}

/* Finds q->route, or answers 404 or 405. */
static int request_route(Server *s, Request *q, const char *method, const char *path) {
        bool found = false;

        if (strncmp(path, "/api/v1/", 8) == 0)
                path += 7;
        else if (strncmp(path, "/cp/", 4) == 0) {
                path += 3;
                q->old_prefix = true;
        } else
                return request_error(q, 404, "not_found", NULL);

        for (const Route *route = routes; route->path; route++) {
                if (!path_matches(route->path, path, q->parameter) || !is_mounted(s, route))
                        continue;
                if (strcmp(route->method, method) == 0) {
                        q->route = route;
                        return 0;
                }
                (void) snprintf(q->allow + strlen(q->allow), sizeof q->allow - strlen(q->allow), "%s%s", found ? ", " : "", route->method);
                found = true;
        }
        if (!found)
                return request_error(q, 404, "not_found", NULL);
        return request_error(q, 405, "method_not_allowed", NULL);
}

int request_begin(Server *s, Request *q, const char *method, const char *path) {
        const char *length;
        uint64_t size;
        int r;

        r = request_route(s, q, method, path);
        if (r < 0 || q->status)
                return r;
        r = auth_check(s, q);
        if (r != 0)
                return r < 0 ? r : 0;
        length = request_header(q, "Content-Length");
        if (length && u64_parse(length, &size) == 0 && size > q->route->body_max)
                return request_error(q, 413, "too_large", "the body is larger than this call allows");
        return 0;
}

int request_take_body(Request *q, const char *data, size_t size) {
        size_t room = q->room > 0 ? q->room : 65536;
        char *body;

        if (q->status)                                  /* refused already: read and dropped */
                return 0;
        if (q->size + size > q->route->body_max) {
                free(TAKE_PTR(q->body));
                return request_error(q, 413, "too_large", "the body is larger than this call allows");
        }
        while (room <= q->size + size)
                room *= 2;
        if (room != q->room) {
                body = realloc(q->body, room);
                if (!body)
                        return -ENOMEM;
                q->body = body;
                q->room = room;
        }
        memcpy(q->body + q->size, data, size);
        q->size += size;
        q->body[q->size] = 0;
        return 0;
}

static int append_ack_log(Server *s, Request *q) {
        _cleanup_free_ char *lines = TAKE_PTR(q->ack_lines);
        size_t size = lines ? strlen(lines) : 0;

        if (s->ack_fd < 0 || size == 0)
                return 0;
        if (write(s->ack_fd, lines, size) != (ssize_t) size || fsync(s->ack_fd) < 0)
                return -EIO;
        return 0;
}

/* On failure nothing of it is left but the 503. */
void request_run(Server *s, Request *q, Handler handle) {
        int r;

        q->resume = NULL;
        r = store_do(s->store, SQL_BEGIN, "");
        if (r == 0) {
                r = handle(s, q);
                if (r == 0)
                        r = store_do(s->store, SQL_COMMIT, "");
                if (r < 0)
                        (void) store_do(s->store, SQL_ROLLBACK, "");
        }
        if (r == 0)
                r = append_ack_log(s, q);
        if (r == 0 && (q->status || q->resume))
                return;
        log_error("%s %s failed: %s", q->route->method, q->route->path, r < 0 ? strerror(-r) : "no answer");
        q->resume = NULL;
        q->retry_after = RETRY_SECONDS;
        free(TAKE_PTR(q->ack_lines));
        (void) request_error(q, 503, "internal", "the control plane could not do that now");
}

int request_send(Request *q) {
        const char *text = q->answer ? q->answer : "";
        struct MHD_Response *response;
        int result;
        char number[16];

        response = MHD_create_response_from_buffer(q->status == 304 ? 0 : strlen(text), (void *) text, MHD_RESPMEM_MUST_COPY);
        if (!response)
                return MHD_NO;
        if (q->status != 304)
                (void) MHD_add_response_header(response, "Content-Type", "application/json");
        if (*q->etag)
                (void) MHD_add_response_header(response, "ETag", q->etag);
        if (*q->allow)
                (void) MHD_add_response_header(response, "Allow", q->allow);
        if (q->status == 401)
                (void) MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
        if (q->retry_after) {
                (void) snprintf(number, sizeof number, "%u", q->retry_after);
                (void) MHD_add_response_header(response, "Retry-After", number);
        }
        if (q->old_prefix) {
                (void) MHD_add_response_header(response, "Deprecation", DEPRECATION);
                (void) MHD_add_response_header(response, "Sunset", SUNSET);
        }
        result = MHD_queue_response(q->connection, (unsigned) q->status, response);
        MHD_destroy_response(response);
        return result;
}
