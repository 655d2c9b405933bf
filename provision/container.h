/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* From a wanted workspace to the container that is it: names, labels, env, mounts, limits by tier. Pure. */

#include "engine/engine-json.h"
#include "provision/settings.h"
#include "provision/spec.h"

#define WORKSPACE_PORT   8000
#define WORKSPACE_UID    1000
#define WORKSPACE_GID    1000
#define CONTAINER_NAME_SIZE 64
#define CONFIGS_PATH     "/configs"
#define HANDOVER_TARGET  "/run/molecule"
#define LAUNCHER_TARGET  "/.molecule-launch"
#define VOLUMES_MAX      3

typedef enum ContainerRole { CONTAINER_CURRENT, CONTAINER_NEXT, CONTAINER_PREV } ContainerRole;

/* "ws-<id>", "ws-<id>.next", "ws-<id>.prev". Returns ret. */
const char *container_name(const char *workspace_id, ContainerRole role, char ret[static CONTAINER_NAME_SIZE]);

/* A named volume of a workspace and where it goes. */
typedef struct Volume { char name[CONTAINER_NAME_SIZE]; const char *target; } Volume;
size_t container_volumes(const char *workspace_id, const WorkspaceSpec *s, Volume ret[static VOLUMES_MAX]);    /* returns how many */
size_t container_volumes_all(const char *workspace_id, Volume ret[static VOLUMES_MAX]);         /* every volume a workspace can have */

/* Who it is for. Borrowed. */
typedef struct ContainerIdentity {
        const char *workspace_id, *job_id;
        uint64_t    generation;
        const char *image_id;           /* local id, for the engine */
        const char *image_digest;       /* for the spec hash */
        const char *const *entrypoint, *const *cmd;     /* the image's own, which the launcher ends in */
        uint16_t    port;
} ContainerIdentity;

#define IDENTITY_LABELS 8
typedef struct IdentityLabels { EnginePair pairs[IDENTITY_LABELS]; size_t n; char generation[21]; } IdentityLabels;
/* The labels of containers and volumes; spec_hash NULL for volumes. Strings are borrowed from the arguments and from *ret itself. */
void container_labels(const Settings *settings, const ContainerIdentity *id, const char *spec_hash, IdentityLabels *ret);

typedef struct ContainerPlan ContainerPlan;             /* a ContainerSpec and what it borrows */
int  container_plan(const WorkspaceSpec *s, const Settings *settings, const ContainerIdentity *id, ContainerPlan **ret, Fault *reterr);
ContainerPlan *container_plan_free(ContainerPlan *p);
DEFINE_CLEANUP(ContainerPlan *, container_plan_free)

const ContainerSpec *container_plan_spec(const ContainerPlan *p);
const char *container_plan_hash(const ContainerPlan *p);        /* BLAKE2b-256 over all that makes the container what it is; no secret's value */

/* "http://<advertise_host>:<port>"; port 8000 of the host with the host's network (tier 4). */
void workspace_url(const Settings *settings, unsigned tier, uint16_t port, char *ret, size_t size);
uint16_t workspace_port(unsigned tier, uint16_t port);          /* where it answers on this host */
