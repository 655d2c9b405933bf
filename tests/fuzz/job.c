/* SPDX-License-Identifier: Apache-2.0 */

/* secrets/envelope and provision/job: the input is taken for a payload and for a whole delivery. What is accepted is what the rules allow, judged again here; it is the
 * same job when it comes in an envelope and when its stored payload is read again; without the signature of a key that is trusted nothing opens, and with it
 * only what was signed. */

#include <errno.h>

#include "engine/image.h"
#include "provision/job.h"
#include "provision/path.h"
#include "tests/fuzz/fuzz.h"
#include "tests/sign-kit.h"

#define DELIVERY "55555555-5555-4555-8555-555555555555"
#define SIGNED   16                     /* one accepted payload in so many: a signature takes longer than all the rest */

static const char *const registries[] = { "registry.example", NULL };
static const JobRules rules = { .org_id = KIT_ORG, .host_id = KIT_HOST, .spec = { .max_tier = 3, .registries = registries } };

static TrustedKeys trusted;
static Signer ours;

static void files(const WorkspaceSpec *s) {
        size_t sum = 0;

        for (size_t i = 0; i < s->n_files; i++) {
                _cleanup_free_ char *clean = NULL;

                MUST(path_clean(s->files[i].name, &clean, NULL) == 0 && strcmp(clean, s->files[i].name) == 0);
                for (size_t k = 0; k < i; k++)
                        MUST(!path_collides(s->files[k].name, clean));
                sum += s->files[i].size;
        }
        MUST(sum <= CONFIG_FILES_MAX + TEMPLATE_ASSETS_MAX && s->n_files <= FILES_MAX);
}

static bool is_name(const char *s) {
        return s[0] && !(s[0] >= '0' && s[0] <= '9') && !s[strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")];
}

static void spec(const WorkspaceSpec *s) {
        MUST(s->tier >= 1 && s->tier <= 3 && runtime_is_valid(s->runtime) && (s->restart >= -1 && s->restart <= 1));
        MUST(!s->image_ref || (image_ref_is_pinned(s->image_ref) && image_ref_registry_allowed(s->image_ref, registries)));
        MUST(strncmp(s->platform_url, "https://", 8) == 0 || strncmp(s->platform_url, "http://", 7) == 0);
        MUST(!s->probe_path || s->probe_path[0] == '/');
        MUST(!s->n_boxes == !s->sealed_to);
        for (size_t i = 0; i < s->n_env; i++)
                MUST(is_name(s->env[i].name) && strlen(s->env[i].value) <= ENV_VALUE_MAX);
        for (size_t i = 0; i < s->n_boxes; i++)
                MUST(is_name(s->boxes[i].name) && s->boxes[i].data);
        files(s);
}

static void args(const Job *j) {
        const JobArgs *a = &j->args;

        MUST(j->type == JOB_IMAGE_ENSURE ? !a->runtime != !a->image_ref : true);
        MUST(!a->image_ref || image_ref_is_pinned(a->image_ref));
        for (size_t i = 0; i < a->n_images; i++)
                MUST(runtime_is_valid(a->images[i].runtime) && image_ref_is_pinned(a->images[i].image_ref));
        for (size_t i = 0; i < a->workspaces.n; i++)
                MUST(uuid_is_valid(a->workspaces.items[i]));
        MUST(a->seconds <= JOB_HOLD_SECONDS_MAX && (!a->reason || strlen(a->reason) <= JOB_REASON_MAX) && (!a->workspace_id[0] || uuid_is_valid(a->workspace_id)));
        MUST(j->type != JOB_CANCEL || uuid_is_valid(a->job_id));
        MUST(j->type != JOB_TEARDOWN || a->confirm);
}

static void judge(const Job *j, const JobLabel *label) {
        MUST(uuid_is_valid(j->job_id) && strcmp(j->org_id, KIT_ORG) == 0 && strcmp(j->host_id, KIT_HOST) == 0);
        MUST(job_type_names_workspace(j->type) ? uuid_is_valid(j->workspace_id) : !j->workspace_id[0]);
        MUST((job_type_line(j->type) != LINE_NONE) == (j->generation > 0) && j->deadline_seconds <= 86400);
        MUST(strcmp(label->job_id, j->job_id) == 0 && strcmp(label->workspace_id, j->workspace_id) == 0 && strcmp(label->type, job_type_name(j->type)) == 0);
        MUST(label->has_generation == (j->generation > 0) && label->generation == j->generation);
        MUST((j->type == JOB_PROVISION) == (j->spec != NULL));
        if (j->spec)
                spec(j->spec);
        else
                args(j);
}

static bool is_same(const Job *a, const Job *b) {
        return a->type == b->type && strcmp(a->job_id, b->job_id) == 0 && strcmp(a->workspace_id, b->workspace_id) == 0 && a->generation == b->generation &&
               a->issued_at == b->issued_at && a->expires_at == b->expires_at && strcmp(a->payload_hash, b->payload_hash) == 0 &&
               a->payload_size == b->payload_size && memcmp(a->payload, b->payload, a->payload_size) == 0;
}

/* Opens a delivery; the job, or NULL. */
static Job *opened(const cJSON *delivery, const TrustedKeys *keys) {
        JobRules r = rules;
        JobLabel label = { .generation = 99 };
        Job *j = NULL;
        Fault f = {};
        int k;

        r.trusted = keys;
        k = job_open(delivery, &r, &label, &j, &f);
        MUST((k == 0) == !f.set && (k == 0) == (j != NULL));
        if (j)
                judge(j, &label);
        return j;
}

static void in_an_envelope(const Job *j, bool is_signed) {
        _cleanup_free_ char *payload = base64_encode(j->payload, j->payload_size);
        cJSON *envelope = envelope_with(JOB_PAYLOAD_TYPE, payload);
        _cleanup_json_ cJSON *delivery = kit_json("{\"delivery_id\":\"" DELIVERY "\"}");
        _cleanup_(job_freep) Job *plain = NULL, *with = NULL, *without = NULL, *other = NULL;

        MUST(json_add_item(delivery, "envelope", envelope));
        plain = opened(delivery, NULL);
        MUST(plain && is_same(j, plain));
        without = opened(delivery, &trusted);
        MUST(!without);
        if (!is_signed)
                return;
        sign(envelope, JOB_PAYLOAD_TYPE, j->payload, &ours);
        with = opened(delivery, &trusted);
        MUST(with && is_same(j, with));
        payload[0] ^= 1;                        /* still base64, of other bytes */
        set_string(envelope, "payload", payload);
        other = opened(delivery, &trusted);
        MUST(!other);
}

static void keep(Job *j, const uint8_t *data, size_t size) {
        char *copy = malloc(size + 1);          /* what signs it takes text */

        MUST(copy);
        memcpy(copy, data, size);
        copy[size] = 0;
        job_keep(j, copy, size);
}

static void as_a_payload(const uint8_t *data, size_t size) {
        _cleanup_(job_freep) Job *j = NULL, *again = NULL;
        JobLabel label = {}, second = {};
        JobRules lenient = rules;
        Fault f = {};
        int r = job_parse((const char *) data, size, &rules, &label, &j, &f);

        MUST((r == 0) == !f.set && (r == 0) == (j != NULL));
        if (!j)
                return;
        keep(j, data, size);
        judge(j, &label);
        lenient.spec.registries = NULL;
        MUST(job_parse(j->payload, j->payload_size, &lenient, &second, &again, NULL) == 0);
        keep(again, data, size);
        MUST(is_same(j, again));
        in_an_envelope(j, fuzz_number(data, size) % SIGNED == 0);
}

static void as_a_delivery(const uint8_t *data, size_t size) {
        _cleanup_json_ cJSON *delivery = NULL;
        _cleanup_(job_freep) Job *j = NULL, *forged = NULL;

        if (json_parse((const char *) data, size, &delivery, NULL) < 0)
                return;
        j = opened(delivery, NULL);
        forged = opened(delivery, &trusted);
        MUST(!forged);
        if (j)
                in_an_envelope(j, false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (trusted.n == 0) {
                if (hash_init() < 0)
                        abort();
                ours = signer(7);
                trusted = trust(&ours, 1);
        }
        as_a_payload(data, size);
        as_a_delivery(data, size);
        return 0;
}
