/* SPDX-License-Identifier: Apache-2.0 */

/* One table says which fields a provision's spec has; the setters here are for the shapes base/json does not know: maps of env and of files,
 * lists of names. Then the rules, cheapest first. */

#include "provision/spec.h"

#include <errno.h>
#include <string.h>

#include "base/hash.h"
#include "base/text.h"
#include "engine/image.h"
#include "provision/env.h"
#include "provision/path.h"
#include "provision/platform-url.h"
#include "secrets/hostkey.h"

#define ENV_ENTRIES_MAX 1024
#define LIST_MAX        256

static int set_env(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        WorkspaceSpec *s = place;
        const cJSON *item;
        size_t n = (size_t) cJSON_GetArraySize(v);

        if (n > ENV_ENTRIES_MAX)
                return fault(reterr, -E2BIG, FAULT_BAD_ENV, "'%s' has %zu entries; %d are allowed.", f->name, n, ENV_ENTRIES_MAX);
        s->env = calloc(n + 1, sizeof *s->env);
        if (!s->env)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        cJSON_ArrayForEach(item, v) {
                EnvEntry *e = &s->env[s->n_env];

                if (!cJSON_IsString(item))
                        return fault(reterr, -EINVAL, FAULT_BAD_JSON, "A value in '%s' is not a string.", f->name);
                s->n_env++;
                e->name = strdup(item->string);
                e->value = strdup(item->valuestring);
                if (!e->name || !e->value)
                        return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
                e->secret = e->value[0] && env_name_is_secret(e->name);
        }
        return 0;
}

static int add_file(WorkspaceSpec *s, const cJSON *item, bool asset, size_t max, size_t *sum, Fault *reterr) {
        _cleanup_free_ char *name = NULL;
        _cleanup_free_ uint8_t *data = NULL;
        size_t size = 0;
        int r;

        if (!cJSON_IsString(item))
                return fault(reterr, -EINVAL, FAULT_BAD_JSON, "A file's content is not a string.");
        r = path_clean(item->string, &name, reterr);
        if (r < 0)
                return r;
        if (asset && !path_is_template_asset(name))
                return fault(reterr, -EINVAL, FAULT_BAD_PATH, "'%s' is not allowed as a template asset.", name);
        for (size_t i = 0; i < s->n_files; i++)
                if (path_collides(s->files[i].name, name))
                        return fault(reterr, -EINVAL, FAULT_BAD_PATH, "The file '%s' is delivered twice, or as a directory too.", name);
        r = base64_decode(item->valuestring, max - *sum, &data, &size);
        if (r == -EFBIG)
                return fault(reterr, -E2BIG, FAULT_TOO_LARGE, "The files are larger than %zu bytes in sum.", max);
        if (r == -ENOMEM)
                return fault(reterr, r, FAULT_INTERNAL, "Out of memory.");
        if (r < 0)
                return fault(reterr, r, FAULT_BAD_JSON, "The content of file '%s' is not base64.", name);
        *sum += size;
        s->files[s->n_files] = (SpecFile) { .mode = path_mode(name), .size = size, .data = TAKE_PTR(data) };
        s->files[s->n_files++].name = TAKE_PTR(name);
        return 0;
}

static int set_files(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        WorkspaceSpec *s = place;
        bool asset = f->arg != NULL;
        size_t sum = 0, n = s->n_files + (size_t) cJSON_GetArraySize(v);
        const cJSON *item;
        SpecFile *files;

        if (n > FILES_MAX)
                return fault(reterr, -E2BIG, FAULT_TOO_LARGE, "There are %zu files; %d are allowed.", n, FILES_MAX);
        files = reallocarray(s->files, n + 1, sizeof *files);
        if (!files)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        s->files = files;
        cJSON_ArrayForEach(item, v) {
                int r = add_file(s, item, asset, f->max, &sum, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int set_boxes(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        WorkspaceSpec *s = place;
        size_t n = (size_t) cJSON_GetArraySize(v);
        const cJSON *item;

        if (n > BOXES_MAX)
                return fault(reterr, -E2BIG, FAULT_TOO_LARGE, "'%s' has %zu entries; %d are allowed.", f->name, n, BOXES_MAX);
        s->boxes = calloc(n + 1, sizeof *s->boxes);
        if (!s->boxes)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        cJSON_ArrayForEach(item, v) {
                SpecBox *b = &s->boxes[s->n_boxes++];
                int r;

                b->name = strdup(item->string);
                if (!b->name)
                        return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
                if (!env_name_is_valid(b->name))
                        return fault(reterr, -EINVAL, FAULT_BAD_ENV, "'%s' names something that is no env name.", f->name);
                r = cJSON_IsString(item) ? base64_decode(item->valuestring, SECRET_BOX_MAX, &b->data, &b->size) : -EBADMSG;
                if (r == -EFBIG)
                        return fault(reterr, r, FAULT_BAD_SECRET, "The secret %s is larger than %zu bytes.", b->name, SEAL_SECRET_MAX);
                if (r == -ENOMEM)
                        return fault(reterr, r, FAULT_INTERNAL, "Out of memory.");
                if (r < 0)
                        return fault(reterr, r, FAULT_BAD_JSON, "The secret %s is not base64.", b->name);
        }
        return 0;
}

static int set_names(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        StringList *l = place;
        size_t n = (size_t) cJSON_GetArraySize(v);
        const cJSON *item;

        if (n > LIST_MAX)
                return fault(reterr, -E2BIG, FAULT_TOO_LARGE, "'%s' has %zu entries; %d are allowed.", f->name, n, LIST_MAX);
        l->items = calloc(n + 1, sizeof *l->items);
        if (!l->items)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        cJSON_ArrayForEach(item, v) {
                if (!cJSON_IsString(item) || !env_name_is_valid(item->valuestring))
                        return fault(reterr, -EINVAL, FAULT_BAD_JSON, "'%s' holds something that is no env name.", f->name);
                l->items[l->n] = strdup(item->valuestring);
                if (!l->items[l->n++])
                        return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        }
        return 0;
}

static const JsonField display_fields[] = {
        { "mode",     cJSON_String, json_set_text, offsetof(WorkspaceSpec, display_mode), JSON_OPTIONAL, 64, NULL },
        { "width",    cJSON_Number, NULL, 0, JSON_OPTIONAL, 0, NULL },
        { "height",   cJSON_Number, NULL, 0, JSON_OPTIONAL, 0, NULL },
        { "protocol", cJSON_String, NULL, 0, JSON_OPTIONAL, 0, NULL },
        {}
};

static const JsonField probe_fields[] = {
        { "path",            cJSON_String, json_set_string, offsetof(WorkspaceSpec, probe_path), JSON_OPTIONAL, 1024, NULL },
        { "timeout_seconds", cJSON_Number, json_set_u32, offsetof(WorkspaceSpec, probe_timeout_seconds), JSON_OPTIONAL, 7200, NULL },
        {}
};

static const JsonField spec_fields[] = {
        { "runtime",          cJSON_String, json_set_string, offsetof(WorkspaceSpec, runtime), JSON_REQUIRED, 64, NULL },
        { "template",         cJSON_String, json_set_text, offsetof(WorkspaceSpec, template_name), JSON_OPTIONAL, 255, NULL },
        { "tier",             cJSON_Number, json_set_u32, offsetof(WorkspaceSpec, tier), JSON_OPTIONAL, 1000, NULL },
        { "instance_type",    cJSON_String, json_set_text, offsetof(WorkspaceSpec, instance_type), JSON_OPTIONAL, 64, NULL },
        { "disk_gb",          cJSON_Number, json_set_u32, offsetof(WorkspaceSpec, disk_gb), JSON_OPTIONAL, 1 << 20, NULL },
        { "provider",         cJSON_String, json_set_text, offsetof(WorkspaceSpec, provider), JSON_OPTIONAL, 64, NULL },
        { "data_persistence", cJSON_String, json_set_text, offsetof(WorkspaceSpec, data_persistence), JSON_OPTIONAL, 16, NULL },
        { "kind",             cJSON_String, json_set_text, offsetof(WorkspaceSpec, kind), JSON_OPTIONAL, 32, NULL },
        { "display",          cJSON_Object, json_set_object, 0, JSON_OPTIONAL, 0, display_fields },
        { "platform_url",     cJSON_String, json_set_string, offsetof(WorkspaceSpec, platform_url), JSON_REQUIRED, 2048, NULL },
        { "env",              cJSON_Object, set_env, 0, JSON_OPTIONAL, 0, NULL },
        { "config_files",     cJSON_Object, set_files, 0, JSON_OPTIONAL, CONFIG_FILES_MAX, NULL },
        { "template_assets",  cJSON_Object, set_files, 0, JSON_OPTIONAL, TEMPLATE_ASSETS_MAX, "asset" },
        { "image_ref",        cJSON_String, json_set_string, offsetof(WorkspaceSpec, image_ref), JSON_OPTIONAL, 512, NULL },
        { "image_size_bytes", cJSON_String, json_set_u64_text, offsetof(WorkspaceSpec, image_size_bytes), JSON_OPTIONAL, 0, NULL },
        { "secrets",          cJSON_Object, set_boxes, 0, JSON_OPTIONAL, 0, NULL },
        { "sealed_to",        cJSON_String, json_set_string, offsetof(WorkspaceSpec, sealed_to), JSON_OPTIONAL, 128, NULL },
        { "workspace_secret_keys", cJSON_Array, set_names, offsetof(WorkspaceSpec, workspace_secret_keys), JSON_OPTIONAL, 0, NULL },
        { "required_env",     cJSON_Array, set_names, offsetof(WorkspaceSpec, required_env), JSON_OPTIONAL, 0, NULL },
        { "probe",            cJSON_Object, json_set_object, 0, JSON_OPTIONAL, 0, probe_fields },
        { "restart",          cJSON_True|cJSON_False, json_set_tristate, offsetof(WorkspaceSpec, restart), JSON_OPTIONAL, 0, NULL },
        {}
};

static bool is_empty_or(const char *s, const char *a, const char *b) {
        return !s || !s[0] || str_equal(s, a) || str_equal(s, b);
}

static int check_plain(const WorkspaceSpec *s, Fault *reterr) {
        if (!runtime_is_valid(s->runtime))
                return fault(reterr, -EINVAL, FAULT_BAD_JSON, "'runtime' is not a runtime's name ([a-z0-9_-], up to 64).");
        if (!is_empty_or(s->kind, "platform", NULL))
                return fault(reterr, -EINVAL, FAULT_UNSUPPORTED_FIELD, "'kind' is neither empty nor 'platform'.");
        if (!is_empty_or(s->data_persistence, "persist", "ephemeral"))
                return fault(reterr, -EINVAL, FAULT_UNSUPPORTED_FIELD, "'data_persistence' is neither empty, 'persist' nor 'ephemeral'.");
        if (!is_empty_or(s->display_mode, "none", NULL))
                return fault(reterr, -EINVAL, FAULT_UNSUPPORTED_FIELD,
                             "This agent gives no display: 'display.mode' must be empty or 'none'.");
        if (s->probe_path && (s->probe_path[0] != '/' || strpbrk(s->probe_path, " \t\r\n#\\")))
                return fault(reterr, -EINVAL, FAULT_BAD_JSON, "'probe.path' is not a path that begins with '/'.");
        if (!s->n_boxes != !s->sealed_to)
                return fault(reterr, -EINVAL, FAULT_BAD_JSON, "'secrets' and 'sealed_to' come together or not at all.");
        return 0;
}

static int check_tier(WorkspaceSpec *s, const SpecRules *rules, Fault *reterr) {
        if (s->tier < 1 || s->tier > 4)
                s->tier = 2;
        if (s->tier > rules->max_tier)
                return fault(reterr, -EPERM, FAULT_TIER_NOT_ALLOWED,
                             "Tier %u is above this host's max_tier=%u (tiers 3 and 4 are privileged: they give a workspace the host).",
                             s->tier, rules->max_tier);
        return 0;
}

int spec_check_image(const char *image_ref, const SpecRules *rules, const char *what, Fault *reterr) {
        if (!image_ref)
                return 0;
        if (!image_ref_is_pinned(image_ref))
                return fault(reterr, -EINVAL, FAULT_IMAGE_REF_NOT_PINNED,
                             "'%s' is not NAME@sha256:DIGEST: a tag says nothing about what runs.", what);
        if (rules->registries && !image_ref_registry_allowed(image_ref, rules->registries))
                return fault(reterr, -EPERM, FAULT_REGISTRY_NOT_ALLOWED, "The registry of '%s' is not in this host's `registries`.", what);
        return 0;
}

int spec_parse(const cJSON *json, const SpecRules *rules, WorkspaceSpec **ret, Fault *reterr) {
        _cleanup_(spec_freep) WorkspaceSpec *s = calloc(1, sizeof *s);
        int r;

        if (!s)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        s->restart = -1;
        r = json_dispatch(json, spec_fields, JSON_STRICT, s, reterr);
        if (r < 0)
                return fault_prefix(reterr, r, "spec: ");
        if ((r = check_plain(s, reterr)) < 0 || (r = check_tier(s, rules, reterr)) < 0 || (r = spec_check_image(s->image_ref, rules, "image_ref", reterr)) < 0 ||
            (r = platform_url_check(s->platform_url, reterr)) < 0 || (r = env_check(s, reterr)) < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

void string_list_done(StringList *l) {
        for (size_t i = 0; i < l->n; i++)
                free(l->items[i]);
        free(l->items);
}

void spec_forget_secrets(WorkspaceSpec *s) {
        for (size_t i = 0; i < s->n_env; i++)
                if (s->env[i].secret)
                        explicit_bzero(s->env[i].value, strlen(s->env[i].value));
        for (size_t i = 0; i < s->n_boxes; i++)
                s->boxes[i].data = (free(s->boxes[i].data), NULL);
}

WorkspaceSpec *spec_free(WorkspaceSpec *s) {
        if (!s)
                return NULL;
        for (size_t i = 0; i < s->n_boxes; i++) {
                free(s->boxes[i].name);
                free(s->boxes[i].data);
        }
        free(s->boxes);
        free(s->sealed_to);
        for (size_t i = 0; i < s->n_env; i++) {
                free(s->env[i].name);
                free(s->env[i].value);
        }
        for (size_t i = 0; i < s->n_files; i++) {
                free(s->files[i].name);
                free(s->files[i].data);
        }
        free(s->env);
        free(s->files);
        string_list_done(&s->workspace_secret_keys);
        string_list_done(&s->required_env);
        free(s->runtime);
        free(s->template_name);
        free(s->instance_type);
        free(s->provider);
        free(s->data_persistence);
        free(s->kind);
        free(s->platform_url);
        free(s->display_mode);
        free(s->image_ref);
        free(s->probe_path);
        free(s);
        return NULL;
}

bool spec_is_platform(const WorkspaceSpec *s) { return str_equal(s->kind, "platform"); }
bool spec_restarts(const WorkspaceSpec *s) { return s->restart < 0 ? !spec_is_platform(s) : s->restart; }
bool spec_has_claude_sessions(const WorkspaceSpec *s) { return str_equal(s->runtime, "claude-code"); }
