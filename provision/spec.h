/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a workspace is wanted to be: the `spec` of a workspace.provision, as plain data, and the rules it must keep. Pure.
 * The fields are the platform's provision request and the protocol's additions (docs/openapi/agent.yaml). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/json.h"

#define ENV_VALUE_MAX      (32 * 1024)
#define ENV_SUM_MAX        (256 * 1024)
#define CONFIG_FILES_MAX   (256 * 1024)         /* decoded, in sum */
#define TEMPLATE_ASSETS_MAX (16 * 1024 * 1024)  /* decoded, in sum */
#define FILES_MAX          1024                 /* files of both kinds */
#define BOXES_MAX          1024

typedef struct EnvEntry {
        char *name, *value;
        bool  secret;                           /* by its name, and not empty: the launcher gives it, the engine never sees it */
} EnvEntry;

typedef struct SpecFile {
        char    *name;                          /* relative to /configs, cleaned */
        uint8_t *data;
        size_t   size;
        unsigned mode;                          /* 0644, 0600 for token-like files */
} SpecFile;

/* A secret as the control plane sealed it to this host's key. */
typedef struct SpecBox {
        char    *name;
        uint8_t *data;
        size_t   size;
} SpecBox;

typedef struct StringList { char **items; size_t n; } StringList;

typedef struct WorkspaceSpec {
        char      *runtime, *template_name, *instance_type, *provider, *data_persistence, *kind, *platform_url;
        uint32_t   tier;                        /* 1..4; 0 and absent mean 2 */
        uint32_t   disk_gb;
        char      *display_mode;
        EnvEntry  *env;   size_t n_env;         /* by name */
        SpecFile  *files; size_t n_files;       /* config_files and template_assets, by name */
        SpecBox   *boxes; size_t n_boxes;       /* `secrets`, by name */
        char      *sealed_to;                   /* the key's id; NULL without boxes */
        StringList workspace_secret_keys, required_env;
        char      *image_ref;                   /* NULL: the runtime's pin */
        uint64_t   image_size_bytes;            /* 0: unknown */
        char      *probe_path;                  /* NULL: the config's */
        uint32_t   probe_timeout_seconds;       /* 0: the config's */
        int        restart;                     /* -1: by kind */
} WorkspaceSpec;

/* What this host allows. Borrowed. */
typedef struct SpecRules {
        unsigned           max_tier;
        const char *const *registries;          /* NULL: not judged (a payload that was accepted before) */
} SpecRules;

/* Fields and types, then every rule of docs/design.md "What a job may say": tier, image reference, env, files, URL. The caller frees *ret. */
int  spec_parse(const cJSON *json, const SpecRules *rules, WorkspaceSpec **ret, Fault *reterr);
WorkspaceSpec *spec_free(WorkspaceSpec *s);
DEFINE_CLEANUP(WorkspaceSpec *, spec_free)

/* Whether an image may run here: by digest, from an allowed registry. `what` is the field, for the words. */
int  spec_check_image(const char *image_ref, const SpecRules *rules, const char *what, Fault *reterr);
void string_list_done(StringList *l);

/* Wipes what is secret: boxes, and the values (not the names) of env that is treated as one. */
void spec_forget_secrets(WorkspaceSpec *s);

bool spec_is_platform(const WorkspaceSpec *s);
bool spec_restarts(const WorkspaceSpec *s);             /* `restart`, or its default by kind */
bool spec_has_claude_sessions(const WorkspaceSpec *s);
