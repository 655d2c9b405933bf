/* SPDX-License-Identifier: Apache-2.0 */

/* Who is calling, once the credentials are good. A disk image with an identity on it can be cloned; the boot id tells the two machines
 * apart. A boot id that never registered is not "replaced": its host is told to register (404), as is one of whom nothing is known. */

#include "tests/devcp/hosts.h"

#include <errno.h>

#define PROTOCOL "1"

int host_check_protocol(Request *q) {
        if (str_equal(request_header(q, "X-Molecule-Agent-Protocol"), PROTOCOL))
                return 0;
        return answered(request_error(q, 426, "protocol_unsupported", "this control plane speaks X-Molecule-Agent-Protocol: " PROTOCOL));
}

int host_check(Server *s, Request *q, cJSON **ret_host) {
        _cleanup_json_ cJSON *host = NULL, *boot = NULL;
        const char *boot_id = request_header(q, "X-Molecule-Boot-Id");
        char now[TIME_TEXT_SIZE];
        int r;

        r = host_check_protocol(q);
        if (r != 0)
                return r;
        if (!uuid_is_valid(q->parameter) || !str_equal(q->parameter, request_header(q, "X-Molecule-Host-Id")))
                return answered(request_error(q, 400, "bad_request", "X-Molecule-Host-Id must be the path's host id, a lower-case UUID"));
        if (!uuid_is_valid(boot_id))
                return answered(request_error(q, 400, "bad_request", "X-Molecule-Boot-Id must be a lower-case UUID"));

        r = store_get(s->store, SQL_HOST_GET, &host, "s", q->parameter);
        if (r == -ENOENT || (r == 0 && !str_equal(json_get_string(host, "org_id"), q->org_id)))
                return answered(request_error(q, 404, "host_unknown", NULL));
        if (r < 0)
                return r;
        if (json_get_string(host, "revoked_at"))
                return answered(request_error(q, 410, fault_code_name(FAULT_HOST_REVOKED), "this host was deleted"));
        if (!str_equal(json_get_string(host, "boot_id"), boot_id)) {
                r = store_get(s->store, SQL_BOOT_GET, &boot, "ss", q->parameter, boot_id);
                if (r < 0 && r != -ENOENT)
                        return r;
                return answered(r == 0 ? request_error(q, 409, "host_id_in_use", "another boot registered with this host id") :
                                         request_error(q, 404, "host_unknown", "this boot has not registered"));
        }
        r = store_do(s->store, SQL_HOST_SEEN, "ss", q->parameter, time_text(now_realtime(), now));
        if (r < 0)
                return r;
        if (ret_host)
                *ret_host = TAKE_PTR(host);
        return 0;
}

const char *workspace_state(const char *status) {
        static const struct { const char *status, *state; } words[] = {
                { "provisioning", "provisioning" },
                { "online",       "running" },
                { "degraded",     "running" },
                { "failed",       "failed" },
                { "removed",      "terminated" },
        };

        for (size_t i = 0; i < ELEMENTS(words); i++)
                if (str_equal(words[i].status, status))
                        return words[i].state;
        return NULL;
}
