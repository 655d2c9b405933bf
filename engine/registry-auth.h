/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The operator's registry credentials, in the form of docker's config.json: {"auths": {"HOST[:PORT][/PATH]": {"auth": base64 of USER:PASSWORD, or
 * "username" and "password", or "identitytoken", or "registrytoken"}}}. Helpers (credsStore, credHelpers) are programs and not run. */

#include "base/fault.h"

#define REGISTRY_AUTH_MAX ((size_t) 256 * 1024)         /* bytes of the file */

/* The value of X-Registry-Auth for a pull of ref: the entry that names most of it. The file is read anew each time. NULL with 0: none, since path is NULL,
 * there is no such file, or no entry fits. malloc'd; the caller wipes it. image_auth with words that name the file, never what is in it. */
int registry_auth_header(const char *path, const char *ref, char **ret, Fault *reterr);
