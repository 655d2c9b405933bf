/* SPDX-License-Identifier: Apache-2.0 */

/* agent/imds: the metadata service answers with anything. This file is linked in the place of base/http-wait: two bytes say how the token and the document are answered,
 * then come token and document, a byte 1e between them. Known afterwards is what the document says in the right form; a token goes nowhere but to where it is from. */

#include <errno.h>

#include "agent/imds.h"
#include "base/http-internal.h"
#include "base/json.h"
#include "base/text.h"
#include "tests/fuzz/fuzz.h"

#define URL "http://169.254.169.254"

typedef struct Answer { int error; long status; const uint8_t *body; size_t size; } Answer;

static Answer answers[2];               /* to PUT: the token; to GET: the document */
static int replies;                     /* not given back yet */

struct HttpWait { bool asked; };

int http_wait_new(const char *ca_file, HttpWait **ret) {
        MUST(!ca_file && (*ret = calloc(1, sizeof **ret)));
        return 0;
}

HttpWait *http_wait_free(HttpWait *w) {
        free(w);
        return NULL;
}

int http_wait_configure(HttpWait *w, const HttpOptions *options) {
        (void) w;
        (void) options;
        return 0;
}

int http_wait(HttpWait *w, const HttpRequest *q, HttpReply *ret) {
        const Answer *a = &answers[!str_equal(q->method, "PUT")];

        w->asked = true;
        MUST(strncmp(q->url, URL "/latest/", strlen(URL "/latest/")) == 0 && (q->flags & HTTP_NO_PROXY) && !(q->flags & HTTP_CREDENTIALS));
        MUST(q->timeout_usec > 0 && q->headers && q->headers[0] && !q->headers[1]);
        if (!header_is_valid(q->headers[0]))
                return -EINVAL;
        *ret = (HttpReply) { .error = a->error, .status = a->error ? 0 : a->status, .size = a->size, .body = malloc(a->size + 1) };
        if (!ret->body)
                abort();
        memcpy(ret->body, a->body, a->size);
        ret->body[a->size] = 0;
        replies++;
        return 0;
}

void http_reply_done(HttpReply *r) {
        replies -= r->body != NULL;
        free(r->body);
        *r = (HttpReply) {};
}

/* Answered with 200 by two bytes in three. */
static Answer answer(uint8_t how, const uint8_t *body, size_t size) {
        static const Answer kinds[] = { { 0, 200, NULL, 0 }, { 0, 200, NULL, 0 }, { 0, 404, NULL, 0 }, { 0, 200, NULL, 0 }, { 0, 200, NULL, 0 }, { -ETIMEDOUT, 0, NULL, 0 } };
        Answer a = kinds[how % ELEMENTS(kinds)];

        a.body = body;
        a.size = size;
        return a;
}

static bool is_good(const Answer *a) { return a->error == 0 && a->status == 200; }

/* As the document says it, or "" where it is longer than its place. */
static bool is_told(const cJSON *json, const char *name, const char *known, size_t place) {
        const cJSON *v = json_get(json, name);
        const char *s = cJSON_IsString(v) ? v->valuestring : "";

        return strcmp(known, strlen(s) < place ? s : "") == 0;
}

static void document(Imds *i) {
        const Answer *a = &answers[1];
        _cleanup_json_ cJSON *json = NULL;
        Fault f = {};
        int r = imds_document(i, &f);
        bool sent = header_is_valid(i->token), good = sent && is_good(a) && json_parse((const char *) a->body, a->size, &json, NULL) == 0;

        MUST((r == 0) == !f.set && (r == 0) == (good && i->instance_id[0]));
        if (good)
                MUST(is_told(json, "instanceId", i->instance_id, 64) && is_told(json, "region", i->region, 32) && is_told(json, "imageId", i->image_id, 64));
}

static void other(Imds *i) {
        HttpReply reply = {};
        int r = imds_get(i, "user-data", &reply);

        MUST((r == 0) == (is_good(&answers[1]) && header_is_valid(i->token)) && (r == 0 || !reply.body));
        http_reply_done(&reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        uint8_t first = fuzz_byte(&data, &size), second = fuzz_byte(&data, &size);
        const uint8_t *mark = size ? memchr(data, 0x1e, size) : NULL;
        size_t n = mark ? (size_t) (mark - data) : size;
        Imds i = {};
        Fault f = {};
        int r;

        answers[0] = answer(first, data, n);
        answers[1] = answer(second, mark ? mark + 1 : data, mark ? size - n - 1 : 0);
        r = imds_open(&i, URL, &f);
        MUST((r == 0) == !f.set && (r < 0 || (is_good(&answers[0]) && n > 0 && strlen(i.token) < sizeof i.token)));
        if (r == 0) {
                document(&i);
                other(&i);
        }
        imds_close(&i);
        MUST(!i.token[0] && !i.http);
        MUST(imds_is_open_to_containers(URL) == (is_good(&answers[0]) && n > 0));
        MUST(imds_is_open_without_token(URL) == is_good(&answers[1]));
        MUST(replies == 0);
        return 0;
}
