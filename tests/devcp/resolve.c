/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/devcp/resolve.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/http.h"

#define MANIFEST_MAX (4 * 1024 * 1024)
#define TIMEOUT_USEC (30 * USEC_PER_SEC)

static const char *const accept_headers[] = {
        "Accept: application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, "
        "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json",
        NULL,
};

struct Resolve {
        Server *server;
        char id[UUID_SIZE];
        cJSON *images;
        Fault fault;
        unsigned open;
        Resolve *next;
};

typedef struct Ask { /* one manifest */
        Resolve *resolve;
        char *runtime, *name; /* name: of the image, with its registry, without tag or digest */
} Ask;

static void ask_free(Ask *a) {
        if (!a)
                return;
        free(a->runtime);
        free(a->name);
        free(a);
}
DEFINE_CLEANUP(Ask *, ask_free)

static int note(Resolve *r, const Ask *a, const void *manifest, size_t size) {
        unsigned char digest[crypto_hash_sha256_BYTES];
        char hex[2 * sizeof digest + 1];
        _cleanup_free_ char *ref = NULL;

        (void) crypto_hash_sha256(digest, manifest, size);
        (void) sodium_bin2hex(hex, sizeof hex, digest, sizeof digest);
        ref = str_printf("%s@sha256:%s", a->name, hex);
        return ref && json_add_string(r->images, a->runtime, ref) ? 0 : -ENOMEM;
}

static void on_manifest(const HttpAnswer *answer, void *userdata) {
        _cleanup_(ask_freep) Ask *a = userdata;
        Resolve *r = a->resolve;

        if (answer->error < 0)
                (void) fault(&r->fault, answer->error, FAULT_IMAGE_UNREACHABLE, "the registry of %s: %s", a->name, answer->words);
        else if (answer->status != 200)
                (void) fault(&r->fault, -ENOENT, FAULT_IMAGE_NOT_FOUND, "%s: no image has that tag (HTTP %ld)", a->name, answer->status);
        else if (note(r, a, answer->body, answer->size) < 0)
                (void) fault(&r->fault, -ENOMEM, FAULT_INTERNAL, "out of memory");
        if (--r->open == 0)
                server_wake(r->server, r->id);
}

static int ask(Server *s, Resolve *r, const char *runtime, const char *image_ref, const char *tag) {
        _cleanup_(ask_freep) Ask *a = calloc(1, sizeof *a);
        size_t name = strcspn(image_ref, "@"), registry = strcspn(image_ref, "/");
        _cleanup_free_ char *url = NULL;
        int e;

        if (!a || registry >= name)
                return -EINVAL;
        a->resolve = r;
        a->runtime = strdup(runtime);
        a->name = strndup(image_ref, name);
        url = str_printf("%s://%.*s/v2/%.*s/manifests/%s", strncmp(image_ref, "127.0.0.1:", 10) == 0 ? "http" : "https", (int) registry, image_ref,
                         (int) (name - registry - 1), image_ref + registry + 1, tag);
        if (!a->runtime || !a->name || !url)
                return -ENOMEM;
        e = http_send(s->http, &(HttpRequest){ .url = url, .headers = accept_headers, .answer_max = MANIFEST_MAX, .timeout_usec = TIMEOUT_USEC, .flags = HTTP_PLAIN_LOOPBACK }, on_manifest, a, NULL);
        if (e < 0)
                return e;
        TAKE_PTR(a);
        r->open++;
        return 0;
}

int resolve_begin(Server *s, const char *tag, char ret_id[static UUID_SIZE], Fault *reterr) {
        _cleanup_json_ cJSON *pins = NULL;
        const cJSON *pin;
        Resolve *r;
        int e = store_list(s->store, SQL_PIN_LIST, &pins, "");

        if (e < 0)
                return e;
        r = calloc(1, sizeof *r);
        if (!r)
                return -ENOMEM;
        r->server = s;
        r->images = cJSON_CreateObject();
        r->next = s->resolves;
        s->resolves = r; /* from here on it is ended by resolve_end(), or with the server */
        e = uuid_make(r->id);
        cJSON_ArrayForEach(pin, pins) if (e == 0 && str_equal(json_get_string(pin, "region"), "global"))
                e = ask(s, r, json_get_string(pin, "template_name"), json_get_string(pin, "image_ref"), tag);
        if (e < 0)
                return e;
        if (r->open == 0)
                return fault(reterr, -ENOENT, FAULT_RUNTIME_PIN_MISSING, "no runtime has a pin that says where its images are");
        memcpy(ret_id, r->id, UUID_SIZE);
        return 0;
}

static void resolve_free(Resolve *r) {
        cJSON_Delete(r->images);
        free(r);
}

int resolve_end(Server *s, const char *id, cJSON **ret_images, Fault *reterr) {
        for (Resolve **p = &s->resolves; *p; p = &(*p)->next) {
                Resolve *r = *p;

                if (strcmp(r->id, id) != 0)
                        continue;
                if (r->open > 0)
                        return -EAGAIN;
                *p = r->next;
                *reterr = r->fault;
                if (!r->fault.set)
                        *ret_images = TAKE_PTR(r->images);
                resolve_free(r);
                return reterr->set ? -EIO : 0;
        }
        return fault(reterr, -ENOENT, FAULT_INTERNAL, "the tag was not being looked for");
}

void resolve_free_all(Server *s) {
        while (s->resolves) {
                Resolve *r = s->resolves;

                s->resolves = r->next;
                resolve_free(r);
        }
}
