/* SPDX-License-Identifier: Apache-2.0 */

/* Everything this control plane answers to, below /api/v1 and below /cp. */

#include "tests/devcp/hosts.h"
#include "tests/devcp/manage.h"

const Route routes[] = {
        /* the agent protocol */
        { "POST", "/hosts", TIER_HOST, host_register, BODY_MAX },
        { "GET", "/hosts/*/jobs", TIER_HOST, host_jobs, BODY_MAX },
        { "POST", "/hosts/*/reports", TIER_HOST, host_reports, BODY_MAX },
        { "POST", "/hosts/*/health", TIER_HOST, host_health, BODY_MAX },
        { "GET", "/hosts/*/pins", TIER_HOST, host_pins, BODY_MAX },
        { "GET", "/tenants/config", TIER_TENANT, tenant_config, BODY_MAX },

        /* the platform's public contract */
        { "POST", "/workspaces/provision", TIER_PROVISION, workspace_provision, BODY_MAX_LARGE },
        { "POST", "/workspaces/ensure-image", TIER_PROVISION, workspace_ensure_image, BODY_MAX },
        { "DELETE", "/workspaces/*", TIER_PROVISION, workspace_delete, BODY_MAX },
        { "GET", "/workspaces/*/status", TIER_PROVISION, workspace_status, BODY_MAX },
        { "GET", "/orgs/*/instance", TIER_PUBLIC, org_instance, BODY_MAX },
        { "POST", "/admin/orgs", TIER_CP_ADMIN, admin_org_create, BODY_MAX },
        { "GET", "/admin/orgs", TIER_CP_ADMIN, admin_orgs, BODY_MAX },
        { "GET", "/admin/orgs/*/admin-token", TIER_CP_ADMIN, admin_org_token, BODY_MAX },
        { "GET", "/admin/runtime-image", TIER_CP_ADMIN, admin_pins, BODY_MAX },
        { "POST", "/admin/runtime-image/promote", TIER_CP_ADMIN, admin_promote, BODY_MAX },

        { "POST", "/admin/tenants/redeploy-fleet", TIER_CP_ADMIN, admin_redeploy_fleet, BODY_MAX },
        { "POST", "/admin/tenants/*/redeploy", TIER_CP_ADMIN, admin_redeploy, BODY_MAX },
        { "GET", "/admin/rolls/*", TIER_CP_ADMIN, admin_roll, BODY_MAX },
        { "POST", "/admin/rolls/*/cancel", TIER_CP_ADMIN, admin_roll_cancel, BODY_MAX },

        { "POST", "/admin/workspaces/*/env", TIER_CP_ADMIN, admin_workspace_env, BODY_MAX },
        { "GET", "/admin/thin-ami", TIER_CP_ADMIN, admin_thin_ami, BODY_MAX },
        { "POST", "/admin/thin-ami/promote", TIER_CP_ADMIN, admin_thin_ami_promote, BODY_MAX },
        { "DELETE", "/admin/tenants/*", TIER_CP_ADMIN, admin_tenant_delete, BODY_MAX },
        { "POST", "/admin/tenants/*/scrub-artifacts", TIER_CP_ADMIN, admin_tenant_scrub, BODY_MAX },
        { "GET", "/admin/purges", TIER_CP_ADMIN, admin_purges, BODY_MAX },
        { "GET", "/admin/orgs/*/workspaces", TIER_CP_ADMIN, admin_org_workspaces, BODY_MAX },
        { "GET", "/orgs/*/provision-status", TIER_PUBLIC, org_provision_status, BODY_MAX },
        { "DELETE", "/hosts/*", TIER_CP_ADMIN, host_delete, BODY_MAX },

        /* the operator's door, for development and tests */
        { "GET", "/admin/hosts", TIER_CP_ADMIN, admin_hosts, BODY_MAX },
        { "POST", "/admin/hosts/*/jobs", TIER_CP_ADMIN, admin_job_create, BODY_MAX_LARGE },
        { "POST", "/admin/hosts/*/sealing-key", TIER_CP_ADMIN, admin_sealing_key, BODY_MAX },
        { "GET", "/admin/jobs", TIER_CP_ADMIN, admin_jobs, BODY_MAX },
        { "GET", "/admin/jobs/*", TIER_CP_ADMIN, admin_job, BODY_MAX },
        {}
};
