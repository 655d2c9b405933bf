/* SPDX-License-Identifier: Apache-2.0 */

/* Which credential opens which route. Every comparison takes the same time however much of a guess is right, and a wrong credential is
 * 401 whichever it was. The fleet-wide provision secret opens the door to the building only: which tenant calls follows from the tenant's
 * own admin token, never from an id in the request. */

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/hash.h"
#include "tests/devcp/server.h"

static const char *bearer(const Request *q) {
        const char *value = request_header(q, "Authorization");

        return value && strncasecmp(value, "Bearer ", strlen("Bearer ")) == 0 ? value + strlen("Bearer ") : NULL;
}

static bool is_admin(Server *s, const Request *q) {
        return equal_constant_time(bearer(q), s->options->admin_bearer);
}

static bool is_provisioner(Server *s, const Request *q) {
        return equal_constant_time(bearer(q), s->options->provision_secret);
}

/* Sets q->org_id from the token. Looks at every organization: the time tells nothing about which one matched. */
static int find_tenant(Server *s, Request *q, const char *token) {
        _cleanup_json_ cJSON *rows = NULL;
        const cJSON *row;
        int r;

        r = store_list(s->store, SQL_ORG_TOKENS, &rows, "");
        if (r < 0)
                return r;
        cJSON_ArrayForEach(row, rows)
                if (equal_constant_time(token, json_get_string(row, "admin_token")))
                        (void) strncpy(q->org_id, json_get_string(row, "org_id"), UUID_SIZE - 1);
        return *q->org_id ? 0 : -ENOENT;
}

/* The header can only confirm what the token says. */
static int find_tenant_and_org(Server *s, Request *q, const char *token) {
        int r = find_tenant(s, q, token);

        if (r < 0)
                return r;
        return str_equal(q->org_id, request_header(q, "X-Molecule-Org-Id")) ? 0 : -ENOENT;
}

static int check(Server *s, Request *q) {
        const char *admin_token = request_header(q, "X-Molecule-Admin-Token");

        switch (q->route->tier) {
        case TIER_PUBLIC:
                return 0;
        case TIER_CP_ADMIN:
                return is_admin(s, q) ? 0 : -ENOENT;
        case TIER_TENANT:
                return find_tenant_and_org(s, q, bearer(q));
        case TIER_PROVISION:
                return is_provisioner(s, q) ? find_tenant(s, q, admin_token) : -ENOENT;
        case TIER_HOST:
                return is_provisioner(s, q) ? find_tenant_and_org(s, q, admin_token) : -ENOENT;
        }
        return -ENOENT;
}

int auth_check(Server *s, Request *q) {
        int r = check(s, q);

        return r == -ENOENT ? answered(request_error(q, 401, "unauthorized", NULL)) : r;
}
