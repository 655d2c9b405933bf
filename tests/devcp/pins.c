/* SPDX-License-Identifier: Apache-2.0 */

/* Which image each runtime has: promoted by an operator, read by hosts. The ETag is a hash of the text hosts get; it goes out with every
 * poll, so a promotion reaches every host at once. Of a signed table it covers the key too: another signature is another text. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "tests/devcp/hosts.h"
#include "tests/devcp/manage.h"
#include "tests/devcp/roll.h"
#include "tests/devcp/sign.h"

#define NOTES_MAX   500
#define DIGEST_TEXT "sha256:"
#define TABLE_TYPE  "application/vnd.molecule.pins.v1+json"

typedef struct Promote {
        char    *template_name, *region, *image_digest, *image_ref, *git_sha, *notes;
        uint64_t image_size_bytes;
} Promote;

static void promote_done(Promote *p) {
        free(p->template_name);
        free(p->region);
        free(p->image_digest);
        free(p->image_ref);
        free(p->git_sha);
        free(p->notes);
}

static const JsonField promote_fields[] = {
        { "template_name",    cJSON_String, json_set_string,   offsetof(Promote, template_name),    JSON_REQUIRED, 64 },
        { "image_digest",     cJSON_String, json_set_string,   offsetof(Promote, image_digest),     JSON_REQUIRED, 71 },
        { "git_sha",          cJSON_String, json_set_text,     offsetof(Promote, git_sha),          JSON_OPTIONAL, 64 },
        { "notes",            cJSON_String, json_set_text,     offsetof(Promote, notes),            JSON_OPTIONAL, NOTES_MAX },
        { "region",           cJSON_String, json_set_string,   offsetof(Promote, region),           JSON_OPTIONAL, 64 },
        { "image_ref",        cJSON_String, json_set_string,   offsetof(Promote, image_ref),        JSON_OPTIONAL, 512 },
        { "image_size_bytes", cJSON_String, json_set_u64_text, offsetof(Promote, image_size_bytes), JSON_OPTIONAL },
        {}
};

static bool digest_is_valid(const char *digest) {
        const char *hex = digest + strlen(DIGEST_TEXT);

        return strncmp(digest, DIGEST_TEXT, strlen(DIGEST_TEXT)) == 0 && strlen(hex) == 64 && strspn(hex, "0123456789abcdef") == 64;
}

/* The reference must be by this very digest: a tag moves. */
static bool ref_has_digest(const char *ref, const char *digest) {
        const char *at = strchr(ref, '@');

        return at && at > ref && strcmp(at + 1, digest) == 0;
}

static int promote_complete(Server *s, Promote *p, Fault *reterr) {
        if (!runtime_is_valid(p->template_name))
                return fault(reterr, -EINVAL, FAULT_BAD_JSON, "template_name is no runtime's name");
        if (!digest_is_valid(p->image_digest))
                return fault(reterr, -EINVAL, FAULT_BAD_JSON, "image_digest is not sha256: and 64 hexadecimal digits");
        if (!p->image_ref)
                p->image_ref = str_printf("%s/workspace-template-%s@%s", s->options->registry, p->template_name, p->image_digest);
        if (!p->region)
                p->region = strdup("global");
        if (!p->image_ref || !p->region)
                return -ENOMEM;
        if (!ref_has_digest(p->image_ref, p->image_digest))
                return fault(reterr, -EINVAL, FAULT_IMAGE_REF_NOT_PINNED, "image_ref must end in @ and image_digest");
        return 0;
}

const char *operator_name(const Server *s, char ret[static ACTOR_SIZE]) {
        char by[HASH128_TEXT_SIZE];

        hash128_text(s->options->admin_bearer, strlen(s->options->admin_bearer), by);
        (void) snprintf(ret, ACTOR_SIZE, "api-token-%.8s", by);
        return ret;
}

/* Who and when is ours to say. */
static int put(Server *s, const Promote *p) {
        char now[TIME_TEXT_SIZE], actor[ACTOR_SIZE], size[21];

        return store_do(s->store, SQL_PIN_PUT, "sssssssss", p->template_name, p->region, p->image_digest, p->image_ref,
                        p->image_size_bytes > 0 ? u64_text(p->image_size_bytes, size) : NULL, p->git_sha ? p->git_sha : "",
                        p->notes ? p->notes : "", operator_name(s, actor), time_text(now_realtime(), now));
}

int pin_move(Server *s, const char *runtime, const char *image_ref, const char *notes) {
        _cleanup_(promote_done) Promote p = { .template_name = strdup(runtime), .region = strdup("global"), .image_ref = strdup(image_ref), .image_digest = strdup(strchr(image_ref, '@') + 1), .notes = strdup(notes) };

        if (!p.template_name || !p.region || !p.image_ref || !p.image_digest || !p.notes)
                return -ENOMEM;
        return put(s, &p);
}

int admin_promote(Server *s, Request *q) {
        _cleanup_(promote_done) Promote p = {};
        _cleanup_json_ cJSON *before = NULL, *row = NULL;
        Fault f = {};
        int r, known;

        r = request_body(q, promote_fields, JSON_STRICT, &p, NULL);
        if (r != 0)
                return r < 0 ? r : 0;
        r = promote_complete(s, &p, &f);
        if (r < 0)
                return f.set ? request_fault(q, 400, &f) : r;

        known = store_get(s->store, SQL_PIN_GET, &before, "ss", p.template_name, p.region);
        if (known < 0 && known != -ENOENT)
                return known;
        r = put(s, &p);
        if (r == 0)
                r = store_get(s->store, SQL_PIN_GET, &row, "ss", p.template_name, p.region);
        if (r < 0)
                return r;
        server_wake(s, NULL);
        return request_answer(q, known == 0 ? 200 : 201, TAKE_PTR(row));
}

int admin_pins(Server *s, Request *q) {
        _cleanup_json_ cJSON *rows = NULL, *answer = cJSON_CreateObject();
        int r;

        r = store_list(s->store, SQL_PIN_LIST, &rows, "");
        if (r < 0)
                return r;
        return json_add_item(answer, "pins", TAKE_PTR(rows)) ? request_answer(q, 200, TAKE_PTR(answer)) : -ENOMEM;
}

static const Signer *table_signer(const Server *s) {
        return s->options->pins_unsigned ? NULL : s->signer;
}

int pins_table(Server *s, char **ret_text, char ret_etag[static ETAG_SIZE]) {
        _cleanup_json_ cJSON *rows = NULL, *amis = NULL, *table = cJSON_CreateObject();
        char hash[HASH128_TEXT_SIZE];
        _cleanup_free_ char *text = NULL, *hashed = NULL;
        const Signer *signer = table_signer(s);
        cJSON *row;
        int r;

        r = store_list(s->store, SQL_PIN_LIST, &rows, "");
        if (r == 0)
                r = store_list(s->store, SQL_AMI_TABLE, &amis, "");
        if (r < 0)
                return r;
        cJSON_ArrayForEach(row, rows) {
                cJSON_DeleteItemFromObjectCaseSensitive(row, "notes");
                if (!json_get_string(row, "image_size_bytes"))
                        cJSON_DeleteItemFromObjectCaseSensitive(row, "image_size_bytes");
        }
        if (!json_add_item(table, "pins", TAKE_PTR(rows)) || !json_add_item(table, "thin_ami", TAKE_PTR(amis)))
                return -ENOMEM;
        text = json_print(table);
        hashed = text ? str_printf("%s%s", text, signer ? signer_key_id(signer) : "") : NULL;
        if (!hashed)
                return -ENOMEM;
        hash128_text(hashed, strlen(hashed), hash);
        (void) snprintf(ret_etag, ETAG_SIZE, "\"%s\"", hash);
        *ret_text = TAKE_PTR(text);
        return 0;
}

/* The table as it goes out: in an envelope when there is a key to sign it with. */
static int table_sign(Server *s, char **text) {
        _cleanup_json_ cJSON *envelope = NULL;
        char *printed;
        int r;

        if (!table_signer(s))
                return 0;
        r = envelope_make(table_signer(s), SIGNATURE_GOOD, TABLE_TYPE, *text, strlen(*text), &envelope);
        if (r < 0)
                return r;
        printed = json_print(envelope);
        if (!printed)
                return -ENOMEM;
        free(*text);
        *text = printed;
        return 0;
}

int host_pins(Server *s, Request *q) {
        int r = host_check(s, q, NULL);

        if (r != 0)
                return r < 0 ? r : 0;
        free(TAKE_PTR(q->answer));
        r = pins_table(s, &q->answer, q->etag);
        if (r == 0)
                r = table_sign(s, &q->answer);
        if (r == 0)
                q->status = str_equal(q->etag, request_header(q, "If-None-Match")) ? 304 : 200;
        return r;
}
