/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/fault.h"

/* http or https, no user info, at most 2048 bytes, never a link-local or metadata address, in whatever spelling. bad_env. */
int platform_url_check(const char *url, Fault *reterr);
