/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What an EC2 instance knows of its tenant: tags by the metadata service, the bootstrap bundle in Secrets Manager by the instance's role. Of the bundle
 * only two values are taken (platform: molecule/tenant/<org_id>/bootstrap). */

#include "agent/config.h"
#include "agent/imds.h"
#include "base/text.h"
#include "secrets/arena.h"

typedef struct AwsBootstrap {
        char    org_id[UUID_SIZE], org_slug[64];        /* "" where nobody said */
        Secret *provision_secret, *admin_token;         /* the caller's to free */
        bool    from_user_data;                         /* not from Secrets Manager: it stands where every process of the machine can read it */
} AwsBootstrap;

/* name NULL: the platform's; org_id NULL: the instance's tag OrgID. -ENXIO: this is no EC2 instance. Otherwise negative with words; all may be tried
 * again. $AWS_ENDPOINT_URL_SECRETS_MANAGER and $AWS_CA_BUNDLE as AWS's own tools have them. */
int aws_bootstrap(Arena *arena, const Config *config, const char *name, const char *org_id, AwsBootstrap *ret, Fault *reterr);

/* Whether the instance's user-data hands out one of the two. */
bool aws_user_data_tells(Imds *i);
