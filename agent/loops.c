/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/loops.h"

#include "base/text.h"

#define GRACE_USEC (60 * USEC_PER_SEC)          /* a loaded machine is no dead loop */

static const char *const names[_LOOP_MAX] = {
        [LOOP_CONTROL] = "control", [LOOP_REPORTS] = "reports", [LOOP_HEALTH] = "health", [LOOP_SWEEP] = "sweep",
};

void loops_tick(Loops *l, Loop loop, uint64_t next_within_usec) {
        uint64_t now = now_boottime();

        l->loop[loop].last = now;
        l->loop[loop].due = next_within_usec ? now + next_within_usec + GRACE_USEC : 0;
        l->loop[loop].realtime = now_realtime();
}

bool loops_alive(const Loops *l, Loop *ret_overdue) {
        uint64_t now = now_boottime();

        for (int i = 0; i < _LOOP_MAX; i++)
                if (l->loop[i].due && now > l->loop[i].due) {
                        *ret_overdue = (Loop) i;
                        return false;
                }
        return true;
}

cJSON *loops_view(const Loops *l) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        uint64_t now = now_boottime();

        for (int i = 0; json && i < _LOOP_MAX; i++) {
                cJSON *item;

                if (!l->loop[i].last)
                        continue;
                item = cJSON_CreateObject();
                if (!json_add_item(json, names[i], item) || !json_add_time(item, "last_tick_at", l->loop[i].realtime) ||
                    !json_add_i64(item, "seconds_ago", (int64_t) ((now - l->loop[i].last) / USEC_PER_SEC)))
                        return NULL;
        }
        return TAKE_PTR(json);
}

const char *loops_name(Loop loop) { return names[loop]; }
