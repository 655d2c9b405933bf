/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/ctl/trial.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/cp.h"
#include "agent/ctl/ctl.h"

#define NIL_STATUS "/workspaces/00000000-0000-0000-0000-000000000000/status"

typedef struct Trial {
        Cp *cp;
        CpKind kind;
        long status;
        Fault fault;
        bool done;
} Trial;

static void on_answer(const CpAnswer *a, void *userdata) {
        Trial *t = userdata;

        t->kind = a->kind;
        t->status = a->status;
        t->fault = a->fault;
        t->done = true;
}

static int ask(Trial *t, sd_event *event, const CpRequest *q) {
        t->done = false;
        t->fault = (Fault){};
        if (cp_send(t->cp, q, on_answer, t, NULL) < 0)
                return -ENOMEM;
        while (!t->done) {
                int r = sd_event_run(event, UINT64_MAX);

                if (r < 0)
                        return r;
        }
        return 0;
}

static bool away(const Trial *t) { return t->kind == CP_UNREACHABLE || t->kind == CP_LATER; }

/* The admin token first: its call tells that this is a control plane. Then whether the provision routes are there, then the secret: of a workspace that
 * cannot be, only who may ask is told. */
static int steps(Trial *t, sd_event *event, Fault *why) {
        if (ask(t, event, &(CpRequest){ .path = "/tenants/config", .auth = CP_AUTH_TENANT }) < 0)
                return CTL_FAILED;
        if (t->kind == CP_AUTH) {
                (void) fault(why, -EACCES, FAULT_AUTH_REJECTED, "%s refuses the admin token for this organization.", cp_host(t->cp));
                return CTL_FAILED;
        }
        if (t->kind != CP_OK) {
                *why = t->fault;
                return away(t) ? CTL_TRY_AGAIN : CTL_FAILED;
        }
        if (ask(t, event, &(CpRequest){ .path = NIL_STATUS, .auth = CP_AUTH_NONE }) < 0)
                return CTL_FAILED;
        if (t->status != 401) {
                (void) fault(why, -EPROTO, FAULT_CONTROL_PLANE_MISROUTED, "%s has no provision routes: wrong cp_url or cp_prefix, or its secret is unset.",
                             cp_host(t->cp));
                return away(t) ? CTL_TRY_AGAIN : CTL_FAILED;
        }
        if (ask(t, event, &(CpRequest){ .path = NIL_STATUS "?instance_id=none", .auth = CP_AUTH_HOST }) < 0)
                return CTL_FAILED;
        if (t->kind == CP_AUTH) {
                (void) fault(why, -EACCES, FAULT_AUTH_REJECTED, "%s refuses the provision secret, or the two do not belong together.", cp_host(t->cp));
                return CTL_FAILED;
        }
        if (away(t)) {
                *why = t->fault;
                return CTL_TRY_AGAIN;
        }
        return CTL_OK;
}

int trial(const Config *config, const Credentials *credentials, Fault *why) {
        Identity nobody = {};
        sd_event *event = NULL;
        Http *http = NULL;
        Trial t = {};
        int r = uuid_make(nobody.host_id), code = CTL_FAILED;

        if (r >= 0)
                r = uuid_make(nobody.boot_id);
        if (r >= 0)
                r = sd_event_new(&event);
        if (r >= 0)
                r = http_new(event, &http);
        if (r >= 0)
                r = cp_new(event, http, &nobody, &t.cp);
        if (r >= 0)
                r = cp_configure(t.cp, config, credentials, why);
        if (r >= 0)
                code = steps(&t, event, why);
        cp_free(t.cp);
        http_free(http);
        sd_event_unref(event);
        return code;
}
