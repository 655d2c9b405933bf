/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/devcp/roll.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "tests/devcp/jobs.h"

#define LOOK_USEC (200 * USEC_PER_MSEC)

static const char *phase_of(const cJSON *tenant) { return json_get_string(tenant, "phase"); }
static bool is_phase(const cJSON *tenant, const char *phase) { return str_equal(phase_of(tenant), phase); }
static bool is_open(const cJSON *tenant) { return is_phase(tenant, "rolling") || is_phase(tenant, "settling"); }

static bool set_string(cJSON *object, const char *name, const char *value) {
        cJSON_DeleteItemFromObjectCaseSensitive(object, name);
        return json_add_string(object, name, value);
}

static bool set_bool(cJSON *object, const char *name, bool value) {
        cJSON_DeleteItemFromObjectCaseSensitive(object, name);
        return json_add_bool(object, name, value);
}

static bool set_phase(cJSON *tenant, const char *phase) {
        char now[TIME_TEXT_SIZE];

        return set_string(tenant, "phase", phase) && set_string(tenant, "since", time_text(now_realtime(), now));
}

static int end_tenant(cJSON *tenant, const char *phase, const char *code, const char *words) {
        _cleanup_free_ char *error = words ? str_printf("%s: %s", code, words) : code ? strdup(code)
                                                                                      : NULL;

        if ((code && !error) || !set_phase(tenant, phase) || !set_string(tenant, "error", error))
                return -ENOMEM;
        return 1;
}

static uint64_t seconds_since(const char *at) {
        uint64_t then = 0, now = now_realtime();

        return at && time_parse(at, &then) == 0 && now > then ? (now - then) / USEC_PER_SEC : 0;
}

/* ── one tenant ──────────────────────────────────────────────────────────────────────────────────────────────── */

cJSON *roll_tenant(Server *s, const char *slug) {
        _cleanup_json_ cJSON *tenant = cJSON_CreateObject(), *org = NULL, *host = NULL;

        if (store_get(s->store, SQL_ORG_BY_SLUG, &org, "s", slug) == 0)
                (void) store_get(s->store, SQL_HOST_NEWEST, &host, "s", json_get_string(org, "org_id"));
        if (!json_add_string(tenant, "slug", slug) || !json_add_string(tenant, "org_id", json_get_string(org, "org_id")) ||
            !json_add_string(tenant, "instance_id", json_get_string(host, "host_id")) || !json_add_string(tenant, "provider", NULL) ||
            !json_add_string(tenant, "phase", "waiting") || !json_add_bool(tenant, "healthz_ok", false) ||
            !json_add_bool(tenant, "verified_on_target", false) || !json_add_string(tenant, "running_image", NULL) ||
            !json_add_string(tenant, "error", NULL))
                return NULL;
        return TAKE_PTR(tenant);
}

/* Nobody is silent for longer than we have been listening. */
static bool is_lost(Server *s, const char *host_id) {
        _cleanup_json_ cJSON *seen = NULL;

        if (now_boottime() - s->started < s->options->lost_seconds * USEC_PER_SEC)
                return false;
        return store_get(s->store, SQL_HOST_LAST_SEEN, &seen, "s", host_id) < 0 ||
               seconds_since(json_get_string(seen, "last_seen_at")) >= s->options->lost_seconds;
}

/* Whether the host had, when it last said so, a workspace of a runtime that is rolled. A host is not asked to do nothing: that would be a failure. */
static bool has_nothing_to_roll(Server *s, const cJSON *roll, const cJSON *tenant) {
        _cleanup_json_ cJSON *health = NULL;
        const cJSON *w;

        if (store_get(s->store, SQL_HEALTH_GET, &health, "s", json_get_string(tenant, "instance_id")) < 0 || !json_get(health, "full"))
                return false;
        cJSON_ArrayForEach(w, json_get_path(health, "full/workspaces")) if (json_get_string(w, "runtime") && json_get(json_get(roll, "images"), json_get_string(w, "runtime"))) return false;
        return true;
}

static int order(Server *s, const cJSON *roll, cJSON *tenant) {
        _cleanup_json_ cJSON *spec = cJSON_CreateObject(), *purge = NULL;
        const char *host_id = json_get_string(tenant, "instance_id");
        char job_id[UUID_SIZE];
        int r;

        if (!host_id)
                return end_tenant(tenant, "straggler", "no_host", "the tenant has no host");
        if (store_get(s->store, SQL_PURGE_OPEN, &purge, "s", json_get_string(tenant, "slug")) == 0)
                return end_tenant(tenant, "straggler", "being_deleted", "the tenant is being deleted");
        if (is_lost(s, host_id))
                return end_tenant(tenant, "straggler", "lost", "the host has not been heard of for too long");
        if (has_nothing_to_roll(s, roll, tenant))
                return set_bool(tenant, "healthz_ok", true) && set_bool(tenant, "verified_on_target", true) && set_phase(tenant, "verified") ? 1 : -ENOMEM;
        if (!json_add_item(spec, "images", cJSON_Duplicate(json_get(roll, "images"), true)))
                return -ENOMEM;
        r = job_create(s, &(JobOrder){ .org_id = json_get_string(tenant, "org_id"), .host_id = host_id, .type = "host.redeploy", .spec = spec },
                       job_id, NULL);
        if (r < 0)
                return r;
        return set_string(tenant, "job_id", job_id) && set_phase(tenant, "rolling") ? 1 : -ENOMEM;
}

/* What health shows of the workspaces that the roll is about. True: all of them run their target, and well. */
static bool see_health(const cJSON *roll, const cJSON *health, cJSON *tenant) {
        bool well = true, on_target = true;
        const cJSON *w;

        cJSON_ArrayForEach(w, json_get_path(health, "full/workspaces")) {
                const char *runtime = json_get_string(w, "runtime"), *target = runtime ? json_get_string(json_get(roll, "images"), runtime) : NULL;
                const char *image = json_get_string(w, "running_image");

                if (!target)
                        continue;
                well &= json_get_bool(w, "healthz_ok", false);
                on_target &= json_get_bool(w, "verified_on_target", false) && image && strstr(target, image) != NULL;
                (void) set_string(tenant, "running_image", image);
        }
        (void) set_bool(tenant, "healthz_ok", well);
        (void) set_bool(tenant, "verified_on_target", on_target);
        return well && on_target;
}

/* Only health that came after the tenant's job had ended counts. */
static int look_settling(Server *s, const cJSON *roll, cJSON *tenant) {
        _cleanup_json_ cJSON *health = NULL;
        const char *since = json_get_string(tenant, "since"), *at;
        bool fresh;

        (void) store_get(s->store, SQL_HEALTH_GET, &health, "s", json_get_string(tenant, "instance_id"));
        at = json_get_string(health, "received_at");
        fresh = at && strcmp(at, since) >= 0;
        if (fresh && see_health(roll, health, tenant))
                return set_phase(tenant, "verified") ? 1 : -ENOMEM;
        if (seconds_since(since) < s->options->settle_seconds)
                return 0;
        return end_tenant(tenant, "straggler", "not_verified", fresh ? "health does not show the target" : "no health came after the job's end");
}

static int look_rolling(Server *s, const cJSON *roll, cJSON *tenant) {
        _cleanup_json_ cJSON *job = NULL, *report = NULL, *health = NULL;
        const char *final;
        int r = store_get(s->store, SQL_JOB_GET, &job, "s", json_get_string(tenant, "job_id"));

        if (r < 0)
                return r;
        final = json_get_string(job, "final");
        if (!final)
                return is_lost(s, json_get_string(tenant, "instance_id")) ? end_tenant(tenant, "straggler", "lost", "the host fell silent; its job stays open") : 0;
        if (str_equal(final, "succeeded"))
                return set_phase(tenant, "settling") ? 1 : -ENOMEM;
        if (str_equal(final, "cancelled"))
                return end_tenant(tenant, "cancelled", NULL, NULL);
        r = store_get(s->store, SQL_REPORT_GET, &report, "s", json_get_string(job, "final_report_id"));
        if (r < 0 && r != -ENOENT)
                return r;
        if (store_get(s->store, SQL_HEALTH_GET, &health, "s", json_get_string(tenant, "instance_id")) == 0)
                (void) see_health(roll, health, tenant);
        (void) set_bool(tenant, "verified_on_target", false);
        return end_tenant(tenant, "failed", json_get_string(report, "body/error/code") ?: final, json_get_string(report, "body/error/message"));
}

/* The word that a roll by SSM had for it; NULL before there is one. */
static const char *status_word(const cJSON *tenant) {
        return is_phase(tenant, "verified") ? "Success" : is_phase(tenant, "waiting") || is_open(tenant) ? NULL
                                                                                                         : "Failed";
}

cJSON *roll_result(const cJSON *tenant, bool dry_run) {
        static const char *const same[] = { "slug", "instance_id", "provider", "healthz_ok", "verified_on_target", "running_image", "error" };
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        const char *word = dry_run ? "DryRun" : status_word(tenant);

        for (size_t i = 0; i < ELEMENTS(same); i++)
                if (!json_add_item(json, same[i], cJSON_Duplicate(json_get(tenant, same[i]), true)))
                        return NULL;
        if (!json_add_string(json, "phase", dry_run ? "planned" : phase_of(tenant)) || !json_add_string(json, "ssm_status", word) ||
            !(word ? json_add_i64(json, "ssm_exit_code", str_equal(word, "Failed")) : cJSON_AddNullToObject(json, "ssm_exit_code") != NULL))
                return NULL;
        return TAKE_PTR(json);
}

/* ── the whole ───────────────────────────────────────────────────────────────────────────────────────────────── */

static int count(const cJSON *roll, const char *phase) {
        const cJSON *t;
        int n = 0;

        cJSON_ArrayForEach(t, json_get(roll, "tenants"))
                n += is_phase(t, phase);
        return n;
}

static int move_pins(Server *s, cJSON *roll) {
        const cJSON *image;

        cJSON_ArrayForEach(image, json_get(roll, "images")) {
                int r = pin_move(s, image->string, cJSON_GetStringValue(image), "moved by a roll that was verified everywhere");

                if (r < 0)
                        return r;
        }
        server_wake(s, NULL);
        return set_bool(roll, "pins_moved", true) ? 0 : -ENOMEM;
}

static int end_roll(Server *s, cJSON *roll, const char *state, const char *error) {
        cJSON *stragglers = cJSON_CreateArray();
        const cJSON *t;
        int r = 0;

        cJSON_ArrayForEach(t, json_get(roll, "tenants")) if (is_phase(t, "straggler") && !cJSON_AddItemToArray(stragglers, cJSON_CreateString(json_get_string(t, "slug")))) return -ENOMEM;
        cJSON_DeleteItemFromObjectCaseSensitive(roll, "stragglers");
        if (!json_add_item(roll, "stragglers", stragglers) || !set_string(roll, "state", state) || !set_string(roll, "error", error))
                return -ENOMEM;
        /* Only what was seen to run everywhere becomes what new workspaces get. */
        if (str_equal(state, "succeeded") && json_get_string(roll, "target_tag") && !json_get_bool(roll, "scoped", false) &&
            cJSON_GetArraySize(stragglers) == 0)
                r = move_pins(s, roll);
        log_info("roll %s: %s%s%s", json_get_string(roll, "roll_id"), state, error ? ": " : "", error ?: "");
        return r < 0 ? r : 1;
}

static bool any_job(const cJSON *roll) {
        const cJSON *t;

        cJSON_ArrayForEach(t, json_get(roll, "tenants")) if (json_get_string(t, "job_id")) return true;
        return false;
}

/* What was verified may have gone bad since: after the soak the canary, and before the end everyone, has to show it once more. 1: they are looked at. */
static int look_again(cJSON *roll) {
        const char *what = count(roll, "waiting") == 0 ? "confirmed" : json_get_string(roll, "soak_until") ? "soaked"
                                                                                                           : NULL;
        cJSON *t;

        if (!what || json_get_bool(roll, what, false))
                return 0;
        cJSON_ArrayForEach(t, cJSON_GetObjectItemCaseSensitive(roll, "tenants")) if (is_phase(t, "verified") && json_get_string(t, "job_id") && !set_phase(t, "settling")) return -ENOMEM;
        return set_bool(roll, what, true) ? 1 : -ENOMEM;
}

/* Nobody is at work: whether it goes on. 0: it does. */
static int judge(Server *s, cJSON *roll) {
        const cJSON *first = cJSON_GetArrayItem(json_get(roll, "tenants"), 0);

        if (json_get_bool(roll, "cancelled", false))
                return end_roll(s, roll, "cancelled", "cancelled by an operator");
        if (json_get_bool(roll, "canary", false) && !is_phase(first, "waiting") && !is_phase(first, "verified"))
                return end_roll(s, roll, "failed", "the canary did not end verified on its target; no other tenant was begun");
        if (count(roll, "failed") > 0)
                return end_roll(s, roll, "failed", "a tenant failed; no further one was begun");
        if (count(roll, "straggler") > (int) json_get_i64(roll, "max_stragglers", 0))
                return end_roll(s, roll, "failed", "too many stragglers");
        if (count(roll, "waiting") > 0)
                return 0;
        return any_job(roll) ? end_roll(s, roll, "succeeded", NULL) : end_roll(s, roll, "failed", "no host runs a workspace of these runtimes");
}

/* 1: it soaks. */
static int soak(cJSON *roll) {
        const char *until = json_get_string(roll, "soak_until");
        int64_t seconds = json_get_i64(roll, "soak_seconds", 0);
        uint64_t end;

        if (!json_get_bool(roll, "canary", false) || seconds == 0 || !is_phase(cJSON_GetArrayItem(json_get(roll, "tenants"), 0), "verified"))
                return 0;
        if (!until)
                return json_add_time(roll, "soak_until", now_realtime() + (uint64_t) seconds * USEC_PER_SEC) ? 1 : -ENOMEM;
        return time_parse(until, &end) == 0 && now_realtime() < end;
}

static int next_batch(Server *s, cJSON *roll) {
        cJSON *t, *tenants = cJSON_GetObjectItemCaseSensitive(roll, "tenants");
        int64_t room = json_get_i64(roll, "batch_size", 1);
        int r;

        if (json_get_bool(roll, "canary", false) && is_phase(tenants->child, "waiting"))
                room = 1;
        cJSON_ArrayForEach(t, tenants) {
                if (!is_phase(t, "waiting") || room == 0)
                        continue;
                r = order(s, roll, t);
                if (r < 0)
                        return r;
                room--;
        }
        return 1;
}

/* 1: something changed. */
static int step(Server *s, cJSON *roll) {
        bool had_until = json_get_string(roll, "soak_until"), changed = false, open = false;
        cJSON *t;
        int r;

        cJSON_ArrayForEach(t, cJSON_GetObjectItemCaseSensitive(roll, "tenants")) {
                r = is_phase(t, "rolling") ? look_rolling(s, roll, t) : is_phase(t, "settling") ? look_settling(s, roll, t)
                                                                                                : 0;
                if (r < 0)
                        return r;
                changed |= r > 0;
                open |= is_open(t);
        }
        if (open)
                return changed;
        r = count(roll, "waiting") > 0 ? soak(roll) : 0;
        if (r != 0 && !json_get_bool(roll, "cancelled", false))
                return r < 0 ? r : changed || !had_until;
        r = look_again(roll);
        if (r == 0)
                r = judge(s, roll);
        return r != 0 ? r : next_batch(s, roll);
}

static int save(Server *s, const cJSON *roll) {
        _cleanup_free_ char *text = json_print(roll);

        return text ? store_do(s->store, SQL_ROLL_PUT, "ssi", json_get_string(roll, "roll_id"), text,
                               (int64_t) str_equal(json_get_string(roll, "state"), "running"))
                    : -ENOMEM;
}

static int open_roll(Server *s, cJSON **ret) {
        cJSON *row = NULL;
        int r = store_get(s->store, SQL_ROLL_OPEN, &row, "");

        if (r < 0)
                return r;
        *ret = cJSON_DetachItemFromObjectCaseSensitive(row, "roll");
        cJSON_Delete(row);
        return *ret ? 0 : -EIO;
}

bool roll_is_open(Server *s) {
        _cleanup_json_ cJSON *roll = NULL;
        return open_roll(s, &roll) == 0;
}

static void arm(Server *s) {
        (void) sd_event_source_set_time_relative(s->roll_timer, LOOK_USEC);
        (void) sd_event_source_set_enabled(s->roll_timer, SD_EVENT_ONESHOT);
}

/* One look is one transaction, as a request is. */
static int on_look(sd_event_source *source, uint64_t usec, void *userdata) {
        _cleanup_json_ cJSON *roll = NULL;
        Server *s = userdata;
        int r = store_do(s->store, SQL_BEGIN, "");

        (void) source;
        (void) usec;
        if (r == 0) {
                r = open_roll(s, &roll);
                if (r == 0)
                        r = step(s, roll);
                if (r > 0)
                        r = save(s, roll) < 0 ? -EIO : 1;
                (void) store_do(s->store, r < 0 ? SQL_ROLLBACK : SQL_COMMIT, "");
        }
        if (r > 0)
                server_wake(s, json_get_string(roll, "roll_id"));
        if (r < 0 && r != -ENOENT)
                log_error("the roll could not be looked after: %s", strerror(-r));
        if (r != -ENOENT)
                arm(s);
        return 0;
}

int roll_begin(Server *s, const RollPlan *p, char ret_roll_id[static UUID_SIZE]) {
        _cleanup_json_ cJSON *roll = cJSON_CreateObject();
        cJSON *tenants = cJSON_CreateArray();
        const cJSON *slug;
        int r;

        if (roll_is_open(s))
                r = -EBUSY;
        else
                r = uuid_make(ret_roll_id);
        cJSON_ArrayForEach(slug, p->slugs) if (r == 0 && !cJSON_AddItemToArray(tenants, roll_tenant(s, cJSON_GetStringValue(slug))))
                r = -ENOMEM;
        if (!json_add_item(roll, "tenants", tenants) || r < 0)
                return r < 0 ? r : -ENOMEM;
        if (!json_add_string(roll, "roll_id", ret_roll_id) || !json_add_string(roll, "state", "running") ||
            !json_add_string(roll, "target_tag", p->target_tag) || !json_add_item(roll, "images", cJSON_Duplicate(p->images, true)) ||
            !json_add_bool(roll, "canary", p->canary) || !json_add_bool(roll, "scoped", p->scoped) ||
            !json_add_i64(roll, "soak_seconds", p->soak_seconds) || !json_add_i64(roll, "batch_size", p->batch_size) ||
            !json_add_i64(roll, "max_stragglers", p->max_stragglers) || !json_add_bool(roll, "cancelled", false) ||
            !json_add_bool(roll, "pins_moved", false) || !json_add_string(roll, "error", NULL) ||
            !json_add_item(roll, "stragglers", cJSON_CreateArray()))
                return -ENOMEM;
        r = save(s, roll);
        if (r == 0)
                arm(s);
        return r;
}

int roll_get(Server *s, const char *roll_id, cJSON **ret) {
        _cleanup_json_ cJSON *row = NULL;
        int r = store_get(s->store, SQL_ROLL_GET, &row, "s", roll_id);

        if (r < 0)
                return r;
        *ret = cJSON_DetachItemFromObjectCaseSensitive(row, "roll");
        return *ret ? 0 : -EIO;
}

int roll_cancel(Server *s, const char *roll_id) {
        _cleanup_json_ cJSON *roll = NULL;
        const cJSON *t;
        int r = roll_get(s, roll_id, &roll);

        if (r < 0)
                return r;
        if (!str_equal(json_get_string(roll, "state"), "running"))
                return -EALREADY;
        cJSON_ArrayForEach(t, json_get(roll, "tenants")) {
                _cleanup_json_ cJSON *spec = cJSON_CreateObject();
                char job_id[UUID_SIZE];

                if (!is_phase(t, "rolling"))
                        continue;
                if (!json_add_string(spec, "job_id", json_get_string(t, "job_id")))
                        return -ENOMEM;
                r = job_create(s, &(JobOrder){ .org_id = json_get_string(t, "org_id"), .host_id = json_get_string(t, "instance_id"), .type = "job.cancel", .spec = spec }, job_id, NULL);
                if (r < 0)
                        return r;
        }
        return set_bool(roll, "cancelled", true) ? save(s, roll) : -ENOMEM;
}

int roll_watch(Server *s) {
        int r = sd_event_add_time(s->event, &s->roll_timer, CLOCK_BOOTTIME, 0, USEC_PER_MSEC, on_look, s);

        return r < 0 ? r : sd_event_source_set_enabled(s->roll_timer, SD_EVENT_ONESHOT);
}

void roll_unwatch(Server *s) { s->roll_timer = sd_event_source_disable_unref(s->roll_timer); }
