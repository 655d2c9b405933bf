/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The platform's public contract, and what only an operator may. */

#include "tests/devcp/server.h"

int workspace_provision(Server *s, Request *q);         /* provision.c */
int workspace_delete(Server *s, Request *q);            /* workspaces.c */
int workspace_status(Server *s, Request *q);
int workspace_ensure_image(Server *s, Request *q);      /* images.c */
int admin_thin_ami(Server *s, Request *q);
int admin_thin_ami_promote(Server *s, Request *q);
int admin_workspace_env(Server *s, Request *q);         /* env.c */

int admin_tenant_delete(Server *s, Request *q);         /* purge.c */
int admin_tenant_scrub(Server *s, Request *q);
int admin_purges(Server *s, Request *q);
int admin_org_workspaces(Server *s, Request *q);
int org_provision_status(Server *s, Request *q);
int host_delete(Server *s, Request *q);

int admin_orgs(Server *s, Request *q);                  /* orgs.c */
int admin_org_create(Server *s, Request *q);
int admin_org_token(Server *s, Request *q);
int tenant_config(Server *s, Request *q);
int org_instance(Server *s, Request *q);

int admin_pins(Server *s, Request *q);                  /* pins.c */
int admin_promote(Server *s, Request *q);
#define ACTOR_SIZE 24
const char *operator_name(const Server *s, char ret[static ACTOR_SIZE]);        /* as promoted_by has it; returns ret */

int admin_redeploy(Server *s, Request *q);              /* fleet.c */
int admin_redeploy_fleet(Server *s, Request *q);
int admin_roll(Server *s, Request *q);
int admin_roll_cancel(Server *s, Request *q);

int admin_hosts(Server *s, Request *q);                 /* operator.c */
int admin_jobs(Server *s, Request *q);
int admin_job(Server *s, Request *q);
int admin_job_create(Server *s, Request *q);
int admin_sealing_key(Server *s, Request *q);           /* keys.c */
