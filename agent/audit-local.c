/* SPDX-License-Identifier: Apache-2.0 */

/* What the record says of somebody on this host who changes something: the same members whether the agent writes it or, where none runs, the tool. */

#include <stdio.h>

#include "agent/audit.h"
#include "base/text.h"

#define CLAIM_MAX 255                   /* bytes of what a client says of itself */

static bool add_given(cJSON *json, const char *name, const char *value) { return !value || !value[0] || json_add_string(json, name, value); }

/* Nobody has checked it: at most CLAIM_MAX printable bytes. */
static bool add_claim(cJSON *json, const char *name, const char *value) {
        char text[CLAIM_MAX + 1];

        if (!value)
                return json_add_string(json, name, NULL);
        (void) snprintf(text, sizeof text, "%s", value);
        text_make_printable(text);
        return json_add_string(json, name, text);
}

cJSON *audit_local(const AuditLocal *l) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        cJSON *claimed = cJSON_CreateObject();
        bool ok = json_add_string(json, "verb", l->verb) && json_add_i64(json, "uid", l->uid) && json_add_string(json, "reason", l->reason) &&
                  add_given(json, "workspace_id", l->workspace_id) && add_given(json, "job_id", l->job_id) &&
                  (!l->seconds || json_add_i64(json, "seconds", l->seconds)) &&
                  json_add_string(json, "code", l->why && l->why->set ? fault_code_name(l->why->code) : NULL);

        ok = json_add_item(ok ? json : NULL, "claimed", claimed) && add_claim(claimed, "loginuid", l->claimed_loginuid) &&
             add_claim(claimed, "executable", l->claimed_executable);
        return ok ? TAKE_PTR(json) : NULL;
}

/* Changes that do not go over the local API, and whose verbs tell of themselves. */
bool audit_noted_verb(const char *verb) {
        static const char verbs[][24] = { "secrets rotate-root", "secrets rotate-host-key", "secrets rm-orphans", "credentials set", "enroll",
                                             "identity adopt", "identity reset", "identity remove-foreign" };

        for (size_t i = 0; i < ELEMENTS(verbs); i++)
                if (str_equal(verbs[i], verb))
                        return true;
        return false;
}
