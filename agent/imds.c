/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/imds.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"

#define IMDS_URL     "http://169.254.169.254"
#define TIMEOUT_USEC (UINT64_C(2) * 1000000)
#define TTL_HEADER   "X-aws-ec2-metadata-token-ttl-seconds: 60"
#define FLAGS        (HTTP_PLAIN_LINK_LOCAL | HTTP_PLAIN_LOOPBACK | HTTP_NO_PROXY)

static int call(HttpWait *http, const char *url, const char *method, const char *path, const char *header, HttpFlags flags, HttpReply *ret) {
        _cleanup_free_ char *whole = str_printf("%s/latest/%s", url, path);

        if (!whole)
                return -ENOMEM;
        return http_wait(http, &(HttpRequest) { .method = method, .url = whole, .headers = (const char *[]) { header, NULL }, .timeout_usec = TIMEOUT_USEC,
                                                .flags = FLAGS | flags }, ret);
}

static int token(HttpWait *http, const char *url, HttpFlags flags, HttpReply *ret) {
        int r = call(http, url, "PUT", "api/token", TTL_HEADER, flags, ret);

        if (r < 0)
                return r;
        return ret->error < 0 ? ret->error : ret->status == 200 && ret->size > 0 ? 0 : -EPROTO;
}

int imds_open(Imds *i, const char *url, Fault *reterr) {
        HttpReply reply = {};
        int r = http_wait_new(NULL, &i->http);

        i->url = url;
        if (r >= 0)
                r = token(i->http, url, 0, &reply);
        if (r >= 0 && snprintf(i->token, sizeof i->token, "X-aws-ec2-metadata-token: %s", reply.body) >= (int) sizeof i->token)
                r = -EPROTO;
        if (r < 0)
                r = fault(reterr, r, FAULT_INTERNAL, "The metadata service at %s gives no token: %s.", url,
                          reply.words[0] ? reply.words : reply.status ? "it answers otherwise" : strerror(-r));
        http_reply_done(&reply);
        return r;
}

void imds_close(Imds *i) {
        explicit_bzero(i->token, sizeof i->token);
        i->http = http_wait_free(i->http);
}

int imds_get(Imds *i, const char *path, HttpReply *ret) {
        int r = call(i->http, i->url, NULL, path, i->token, 0, ret);

        if (r >= 0)
                r = ret->error < 0 ? ret->error : ret->status == 404 ? -ENOENT : ret->status == 200 ? 0 : -EIO;
        if (r < 0)
                http_reply_done(ret);
        return r;
}

static void copy(char *to, size_t size, const cJSON *json, const char *name) {
        const char *value = json_get_string(json, name);

        to[0] = 0;
        if (value && strlen(value) < size)
                memcpy(to, value, strlen(value) + 1);
}

int imds_document(Imds *i, Fault *reterr) {
        _cleanup_json_ cJSON *json = NULL;
        HttpReply reply = {};
        int r = imds_get(i, "dynamic/instance-identity/document", &reply);

        if (r >= 0)
                r = json_parse(reply.body, reply.size, &json, NULL);
        http_reply_done(&reply);
        if (r >= 0) {
                copy(i->instance_id, sizeof i->instance_id, json, "instanceId");
                copy(i->region, sizeof i->region, json, "region");
                copy(i->image_id, sizeof i->image_id, json, "imageId");
        }
        if (r < 0 || !i->instance_id[0])
                return fault(reterr, r < 0 ? r : -EPROTO, FAULT_INTERNAL, "The metadata service at %s gives no identity document.", i->url);
        return 0;
}

/* ── what it is open to ──────────────────────────────────────────────────────────────────────────────────────── */

bool imds_is_open_to_containers(const char *url) {
        _cleanup_(http_wait_freep) HttpWait *http = NULL;
        HttpReply reply = {};
        bool open = http_wait_new(NULL, &http) >= 0 && token(http, url, HTTP_FAR | HTTP_FRESH, &reply) == 0;

        http_reply_done(&reply);
        return open;
}

bool imds_is_open_without_token(const char *url) {
        _cleanup_(http_wait_freep) HttpWait *http = NULL;
        HttpReply reply = {};
        bool open = http_wait_new(NULL, &http) >= 0 && call(http, url, NULL, "meta-data/", "Accept: */*", 0, &reply) >= 0 && reply.error == 0 &&
                    reply.status == 200;

        http_reply_done(&reply);
        return open;
}

static bool file_begins(const char *path, const char *with) {
        char text[64] = "";
        FILE *f = fopen(path, "re");

        if (f && !fgets(text, sizeof text, f))
                text[0] = 0;
        if (f)
                (void) fclose(f);
        return strncmp(text, with, strlen(with)) == 0;
}

bool imds_is_expected(const char *url) {
        return strcmp(url, IMDS_URL) != 0 || file_begins("/sys/class/dmi/id/sys_vendor", "Amazon EC2") || file_begins("/sys/hypervisor/uuid", "ec2");
}
