/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the engine is told and what it answers, as plain data. Pure: no call is made here. Formats: Docker Engine API 1.41 and later
 * (answers are read leniently, so newer engines and podman fit). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/json.h"

/* ── to the engine ───────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct EnginePair { const char *name, *value; } EnginePair;     /* a label, an env entry; borrowed */

typedef struct EngineMount {
        const char *type;               /* "volume" or "bind" */
        const char *source, *target;
        bool        read_only;
} EngineMount;

/* A container to be made. Everything is borrowed. Zero means "not set" throughout. */
typedef struct ContainerSpec {
        const char        *image_id;            /* "sha256:…": the local image, never a tag */
        const char *const *entrypoint, *const *cmd;     /* NULL-terminated; NULL: the image's own */
        const EnginePair  *env;    size_t n_env;
        const EnginePair  *labels; size_t n_labels;
        const EngineMount *mounts; size_t n_mounts;
        const char        *network, *alias;     /* a user-defined network; ignored with host_network */
        uint16_t           host_port;           /* 127.0.0.1:host_port -> 8000/tcp; ignored with host_network */
        uint64_t           memory_bytes;        /* also the limit with swap */
        uint64_t           nano_cpus;
        bool               read_only_root;
        bool               tmpfs_tmp;           /* /tmp as tmpfs rw,noexec,nosuid,size=64m */
        bool               privileged, host_pid, host_network;
        bool               drop_net_raw, no_new_privileges;
        const char        *cgroup_parent;
} ContainerSpec;

/* The body of POST /containers/create. Always: restart unless-stopped, json-file 10m x 3, core ulimit 0, pids limit 1024. malloc'd. */
int container_spec_body(const ContainerSpec *spec, char **ret, Fault *reterr);
int volume_body(const char *name, const EnginePair *labels, size_t n_labels, char **ret);
int network_body(const char *name, const EnginePair *labels, size_t n_labels, char **ret);     /* driver bridge, CheckDuplicate */

/* ── from the engine ─────────────────────────────────────────────────────────────────────────────────────────── */

#define LABEL_MANAGED    "molecule.platform.managed"
#define LABEL_INSTANCE   "molecule.platform.instance"
#define LABEL_ORG        "molecule.agent.org"
#define LABEL_WORKSPACE  "molecule.agent.workspace"
#define LABEL_GENERATION "molecule.agent.generation"
#define LABEL_JOB        "molecule.agent.job"
#define LABEL_HOST       "molecule.agent.host"
#define LABEL_SPEC       "molecule.agent.spec"

/* Our labels as found on a container or volume; strings are malloc'd, NULL where absent. */
typedef struct EngineLabels {
        bool      managed;              /* LABEL_MANAGED is "true" */
        char     *instance, *org, *workspace, *job, *host, *spec;
        uint64_t  generation;           /* 0 where absent or malformed */
} EngineLabels;

typedef enum EngineHealth { ENGINE_HEALTH_NONE, ENGINE_HEALTH_STARTING, ENGINE_HEALTH_HEALTHY, ENGINE_HEALTH_UNHEALTHY } EngineHealth;

/* A container as inspect or list shows it (list fills id, name, image_id, status, running, restarting, labels only). */
typedef struct EngineContainer {
        char         *id, *name;        /* name without the leading '/' */
        char         *image_id;         /* "sha256:…" */
        char         *status;           /* created running paused restarting removing exited dead */
        bool          running, restarting, oom_killed;
        int64_t       exit_code, restart_count;
        char         *started_at;       /* the engine's text, compared as text */
        char         *error;            /* State.Error; NULL where empty */
        char         *ip_address;       /* in the network that was asked for, else the first; NULL */
        EngineHealth  health;
        uint64_t      health_grace_usec;/* start period + 3 intervals of the container's HEALTHCHECK (interval defaults to 30 s); 0 without one */
        EngineLabels  labels;
} EngineContainer;

typedef struct EngineContainers { EngineContainer *items; size_t n; } EngineContainers;

typedef struct EngineImage {
        char     *id;                   /* "sha256:…" (config digest or manifest digest, by storage driver: never compare it with a pin) */
        char    **repo_digests;         /* "repo@sha256:…", NULL-terminated; never NULL */
        uint64_t  size_bytes;
        char    **entrypoint, **cmd;    /* what it runs; NULL-terminated, empty where it says nothing; never NULL */
} EngineImage;

typedef struct EngineVolume { char *name; EngineLabels labels; bool plain; /* has no label and no option */ } EngineVolume;

typedef struct EngineInfo {             /* GET /info and /version together */
        char *name, *version, *api_version, *min_api_version, *driver, *root_dir, *cgroup_driver;
        bool  live_restore;
} EngineInfo;

typedef struct EngineEvent {            /* one line of /events, type container */
        char    *action;                /* start die stop destroy oom health_status… */
        char    *container_id;
        char    *workspace;             /* LABEL_WORKSPACE; NULL */
        int64_t  exit_code;             /* -1 where absent */
        uint64_t time_nsec;
} EngineEvent;

void engine_labels_done(EngineLabels *l);
void engine_container_done(EngineContainer *c);
void engine_containers_done(EngineContainers *c);
void engine_image_done(EngineImage *i);
int  engine_image_copy(EngineImage *to, const EngineImage *from);      /* to is empty before; -ENOMEM leaves it so */
void engine_volume_done(EngineVolume *v);
void engine_info_done(EngineInfo *i);
void engine_event_done(EngineEvent *e);

/* Each: 0, -EBADMSG (engine_error: the answer makes no sense), -ENOMEM. On failure *ret is empty. */
int engine_container_parse(const cJSON *json, const char *network, EngineContainer *ret, Fault *reterr);        /* GET /containers/{id}/json */
int engine_containers_parse(const cJSON *json, EngineContainers *ret, Fault *reterr);                           /* GET /containers/json */
int engine_image_parse(const cJSON *json, EngineImage *ret, Fault *reterr);                                     /* GET /images/{name}/json */
int engine_volume_parse(const cJSON *json, EngineVolume *ret, Fault *reterr);
int engine_info_parse(const cJSON *version, const cJSON *info, EngineInfo *ret, Fault *reterr);        /* GET /version, GET /info */
int engine_event_parse(const char *line, size_t size, EngineEvent *ret, Fault *reterr);

/* Of GET /system/df: the volume of that name holds no byte, and no container has it. */
bool engine_volume_is_empty(const cJSON *usage, const char *name);

bool engine_image_has_digest(const EngineImage *i, const char *digest);         /* "sha256:…", under any repository name */

/* min(ours, theirs), refusing below 1.41 or below their minimum (engine_too_old). ret: "1.41". */
#define ENGINE_API_MIN "1.41"
#define ENGINE_API_MAX "1.47"
int engine_api_choose(const char *api_version, const char *min_api_version, char ret[static 16], Fault *reterr);

/* The progress stream of a pull: JSON objects one after the other, cut anywhere. */
typedef struct PullProgress {
        char      line[16384];
        size_t    used;
        bool      skipping;             /* an over-long line is being passed over */
        uint64_t  bytes, total;         /* downloaded so far over all layers known, and their sum */
        uint64_t  ticks;                /* grows with every sign of progress: bytes, a layer done, extraction moving */
        uint64_t  steps;                /* the part of ticks that is not bytes */
        bool      failed;
        char      error[256];           /* errorDetail.message of the stream */
        struct { char id[16]; uint64_t current, total; bool extracting; } layers[128];
        size_t    n_layers;
} PullProgress;
void pull_progress_feed(PullProgress *p, const void *data, size_t size);
void pull_progress_end(PullProgress *p);        /* the stream ended: judge a last line without newline */

/* Registry trouble out of the engine's words: image_auth, image_not_found, image_rate_limited, no_space, image_digest_mismatch,
 * image_unreachable, else engine_error. */
FaultCode pull_error_classify(long status, const char *words);
