/* SPDX-License-Identifier: Apache-2.0 */

/* What each type of job may say in its `spec`, but for workspace.provision, whose spec is a page of its own (spec.c). A table a type. */

#include "provision/job.h"

#include <errno.h>
#include <string.h>

#define CONSOLE_LINES_MAX 2000
#define IMAGES_MAX        64
#define RUNTIMES_MAX      64
#define WORKSPACES_MAX    4096

/* The strings of an array, each of which must pass a predicate (f->arg names it by what it is called). */
typedef struct ListRule { const char *what; bool (*is_valid)(const char *s); } ListRule;

static const ListRule runtime_rule = { "runtime", runtime_is_valid }, workspace_rule = { "workspace id", uuid_is_valid };

static int set_list(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        const ListRule *rule = f->arg;
        size_t n = (size_t) cJSON_GetArraySize(v);
        StringList *l = place;
        const cJSON *item;

        if (n > f->max)
                return fault(reterr, -E2BIG, FAULT_TOO_LARGE, "'%s' has %zu entries; %llu are allowed.", f->name, n,
                             (unsigned long long) f->max);
        l->items = calloc(n + 1, sizeof *l->items);
        if (!l->items)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        cJSON_ArrayForEach(item, v) {
                if (!cJSON_IsString(item) || !rule->is_valid(item->valuestring))
                        return fault(reterr, -EINVAL, FAULT_BAD_JSON, "'%s' holds something that is no %s.", f->name, rule->what);
                l->items[l->n] = strdup(item->valuestring);
                if (!l->items[l->n++])
                        return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        }
        return 0;
}

static int set_images(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        size_t n = (size_t) cJSON_GetArraySize(v);
        JobArgs *a = place;
        const cJSON *item;

        if (n > IMAGES_MAX)
                return fault(reterr, -E2BIG, FAULT_TOO_LARGE, "'%s' has %zu entries; %d are allowed.", f->name, n, IMAGES_MAX);
        a->images = calloc(n + 1, sizeof *a->images);
        if (!a->images)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        cJSON_ArrayForEach(item, v) {
                JobImage *i = &a->images[a->n_images++];

                if (!runtime_is_valid(item->string) || !cJSON_IsString(item))
                        return fault(reterr, -EINVAL, FAULT_BAD_JSON, "'%s' is not a map from runtimes to image references.", f->name);
                i->runtime = strdup(item->string);
                i->image_ref = strdup(item->valuestring);
                if (!i->runtime || !i->image_ref)
                        return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        }
        return 0;
}

#define AT(member) offsetof(JobArgs, member)
#define BOOL (cJSON_True|cJSON_False)

static const JsonField nothing[] = { {} };

static const JsonField deprovision_fields[] = {
        { "prune", BOOL, json_set_bool, AT(prune), JSON_REQUIRED, 0, NULL },
        {}
};
static const JsonField console_fields[] = {
        { "lines", cJSON_Number, json_set_u32, AT(lines), JSON_OPTIONAL, CONSOLE_LINES_MAX, NULL },
        {}
};
static const JsonField ensure_fields[] = {
        { "runtime",          cJSON_String, json_set_string, AT(runtime), JSON_OPTIONAL, 64, NULL },
        { "image_ref",        cJSON_String, json_set_string, AT(image_ref), JSON_OPTIONAL, 512, NULL },
        { "image_size_bytes", cJSON_String, json_set_u64_text, AT(image_size_bytes), JSON_OPTIONAL, 0, NULL },
        {}
};
static const JsonField redeploy_fields[] = {
        { "images",            cJSON_Object, set_images, 0, JSON_OPTIONAL, 0, NULL },
        { "runtimes",          cJSON_Array, set_list, AT(runtimes), JSON_OPTIONAL, RUNTIMES_MAX, &runtime_rule },
        { "workspaces",        cJSON_Array, set_list, AT(workspaces), JSON_OPTIONAL, WORKSPACES_MAX, &workspace_rule },
        { "continue_on_error", BOOL, json_set_bool, AT(continue_on_error), JSON_OPTIONAL, 0, NULL },
        {}
};
static const JsonField reason_fields[] = {
        { "reason", cJSON_String, json_set_string, AT(reason), JSON_REQUIRED, JOB_REASON_MAX, NULL },
        {}
};
static const JsonField hold_fields[] = {
        { "reason",       cJSON_String, json_set_string, AT(reason), JSON_REQUIRED, JOB_REASON_MAX, NULL },
        { "seconds",      cJSON_Number, json_set_u32, AT(seconds), JSON_OPTIONAL, JOB_HOLD_SECONDS_MAX, NULL },
        { "workspace_id", cJSON_String, json_set_uuid, AT(workspace_id), JSON_OPTIONAL, 0, NULL },
        {}
};
static const JsonField teardown_fields[] = {
        { "confirm", cJSON_String, json_set_string, AT(confirm), JSON_REQUIRED, 64, NULL },
        {}
};
static const JsonField cancel_fields[] = {
        { "job_id", cJSON_String, json_set_uuid, AT(job_id), JSON_REQUIRED, 0, NULL },
        {}
};

static const JsonField *const tables[_JOB_TYPE_MAX] = {
        [JOB_DEPROVISION] = deprovision_fields, [JOB_RESTART] = nothing,       [JOB_CONSOLE] = console_fields,
        [JOB_IMAGE_ENSURE] = ensure_fields,     [JOB_REDEPLOY] = redeploy_fields, [JOB_DRAIN] = reason_fields,
        [JOB_UNDRAIN] = reason_fields,          [JOB_HOLD] = hold_fields,      [JOB_RELEASE] = hold_fields,
        [JOB_TEARDOWN] = teardown_fields,       [JOB_CANCEL] = cancel_fields,
};

static int check_ensure(const JobArgs *a, const JobRules *rules, Fault *reterr) {
        if (!a->runtime == !a->image_ref)
                return fault(reterr, -EINVAL, FAULT_BAD_JSON, "One of 'runtime' and 'image_ref' says which image.");
        if (a->runtime && !runtime_is_valid(a->runtime))
                return fault(reterr, -EINVAL, FAULT_BAD_JSON, "'runtime' is not a runtime's name ([a-z0-9_-], up to 64).");
        return spec_check_image(a->image_ref, &rules->spec, "image_ref", reterr);
}

int job_args_parse(JobType t, const cJSON *spec, const JobRules *rules, JobArgs *ret, Fault *reterr) {
        int r = json_dispatch(spec, tables[t], JSON_STRICT, ret, reterr);

        if (r < 0)
                return fault_prefix(reterr, r, "spec: ");
        if (t == JOB_IMAGE_ENSURE)
                return check_ensure(ret, rules, reterr);
        for (size_t i = 0; i < ret->n_images && r >= 0; i++)
                r = spec_check_image(ret->images[i].image_ref, &rules->spec, "images", reterr);
        return r;
}

void job_args_done(JobArgs *a) {
        for (size_t i = 0; i < a->n_images; i++) {
                free(a->images[i].runtime);
                free(a->images[i].image_ref);
        }
        free(a->images);
        string_list_done(&a->runtimes);
        string_list_done(&a->workspaces);
        free(a->runtime);
        free(a->image_ref);
        free(a->reason);
        free(a->confirm);
}
