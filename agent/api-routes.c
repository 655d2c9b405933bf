/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/api-routes.h"

#define API_ROW(method, path, needs, handle, body_max) { method, path, needs, handle, body_max },
const ApiRoute api_routes[] = { API_ROUTES(API_ROW) {} };
