/* SPDX-License-Identifier: Apache-2.0 */

/* A control plane: it registers the host, hands out jobs at least once and in no strict order, repeats some that it need not, takes reports. Jobs are signed, some
 * secrets sealed to the host's key, as the kits of tests/ do it. Which jobs there are is drawn before the history begins. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "provision/pins.h"
#include "tests/box-kit.h"
#include "tests/sign-kit.h"
#include "tests/sim/sim.h"

#define AGAIN_USEC MINUTE                       /* what was handed out and not heard of is due again */
#define PINS_ETAG  "\"p1\""

SimJob   sim_jobs[64];
unsigned n_sim_jobs, n_workspaces, cp_polls;
char     workspace_ids[8][UUID_SIZE];
bool     cp_is_up = true;

static char     host_id[UUID_SIZE], key_id[80], public_key[80];
static bool     knows_host;
static unsigned deliveries;
static uint64_t outage_began;

static const char *const kinds[] = { [PROVISION] = "workspace.provision", [RESTART] = "workspace.restart", [DEPROVISION] = "workspace.deprovision" };

static void uuid_of(unsigned kind, unsigned number, char ret[static UUID_SIZE]) { (void) snprintf(ret, UUID_SIZE, "%08x-0000-4000-8000-%012x", kind, number); }

static void job_add(unsigned workspace, uint64_t generation, uint64_t at) {
        static const uint64_t kind_weights[] = { 10, 4, 3 }, what_weights[] = { 8, 2, 1 };
        SimJob *j = &sim_jobs[n_sim_jobs++];
        uint64_t n = dice(17);

        *j = (SimJob) { .workspace = workspace, .generation = generation, .issue_at = at };
        uuid_of(0x10b, n_sim_jobs, j->id);
        while (n >= kind_weights[j->kind])
                n -= kind_weights[j->kind++];
        if (j->kind == PROVISION) {
                for (n = dice(11); n >= what_weights[j->what]; j->what++)
                        n -= what_weights[j->what];
                j->image = j->what == BAD ? IMAGE_BAD : (int) dice(IMAGES_GOOD);
                j->secret = chance(500);
        }
        j->prune = chance(500);
}

/* In the order of their generations more or less, all within the span. */
void jobs_make(uint64_t span) {
        n_workspaces = (unsigned) between(3, 6);
        for (unsigned w = 0; w < n_workspaces; w++) {
                unsigned n = (unsigned) between(2, 6);

                uuid_of(0x3a, w + 1, workspace_ids[w]);
                for (unsigned i = 0; i < n; i++)
                        job_add(w, i + 1, sim_now + span * i / n + (chance(700) ? dice(span / n) : dice(2 * MINUTE)));
        }
}

/* ── payloads ────────────────────────────────────────────────────────────────────────────────────────────────── */

void file_content(const SimJob *j, char *ret, size_t size) {
        (void) snprintf(ret, size, "generation: %llu\nworkspace: %u\n", (unsigned long long) j->generation, j->workspace);
}

void secret_value(const SimJob *j, char *ret, size_t size) {
        (void) snprintf(ret, size, "value-%u-%llu", j->workspace, (unsigned long long) j->generation);
}

static void add_secret(cJSON *spec, const SimJob *j) {
        char value[64];
        cJSON *secrets = cJSON_AddObjectToObject(spec, "secrets");
        _cleanup_free_ char *text = NULL;
        Box box;

        secret_value(j, value, sizeof value);
        box = box_to(public_key, SIM_ORG, workspace_ids[j->workspace], "API_TOKEN", value, strlen(value));
        text = base64_encode(box.data, box.size);
        (void) json_add_string(secrets, "API_TOKEN", text);
        (void) json_add_string(spec, "sealed_to", key_id);
        box_done(&box);
}

static cJSON *provision_spec(const SimJob *j) {
        cJSON *spec = kit_json("{\"runtime\":\"langgraph\",\"tier\":2,\"platform_url\":\"https://platform.example.com\",\"env\":{\"DEMO_A\":\"1\"},"
                               "\"probe\":{\"path\":\"/\",\"timeout_seconds\":300}}");
        cJSON *files = cJSON_AddObjectToObject(spec, "config_files");
        char content[100];
        _cleanup_free_ char *text = NULL;

        file_content(j, content, sizeof content);
        text = base64_encode(content, strlen(content));
        (void) json_add_string(files, "config.yaml", text);
        (void) json_add_string(spec, "image_ref", j->what == REFUSED ? "no-digest:latest" : image_ref(j->image));
        if (j->secret)
                add_secret(spec, j);
        return spec;
}

static void payload_make(SimJob *j) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        cJSON *spec = j->kind == PROVISION ? provision_spec(j) : cJSON_CreateObject();

        if (j->kind == DEPROVISION)
                (void) json_add_bool(spec, "prune", j->prune);
        if (!json_add_string(json, "job_id", j->id) || !json_add_string(json, "type", kinds[j->kind]) || !json_add_string(json, "org_id", SIM_ORG) ||
            !json_add_string(json, "host_id", host_id) || !json_add_string(json, "workspace_id", workspace_ids[j->workspace]) ||
            !json_add_u64_text(json, "generation", j->generation) || !json_add_time(json, "issued_at", sim_true_time()) || !json_add_item(json, "spec", spec) ||
            !(j->payload = json_print(json)))
                abort();
}

/* ── the poll ────────────────────────────────────────────────────────────────────────────────────────────────── */

/* A host without a key can be sent no secret. */
static bool is_due(const SimJob *j) { return !j->reported && j->issue_at <= sim_now && j->due <= sim_now && (!j->secret || key_id[0]); }

static void hand_out(SimJob *j, cJSON *list) {
        Signer s = signer(1);
        cJSON *delivery = cJSON_CreateObject();
        char id[UUID_SIZE];

        if (!j->payload)
                payload_make(j);
        uuid_of(0xde, ++deliveries, id);
        (void) json_add_string(delivery, "delivery_id", id);
        (void) json_add_item(delivery, "envelope", signed_envelope("application/vnd.molecule.job.v1+json", j->payload, &s, 1));
        (void) cJSON_AddItemToArray(list, delivery);
        j->handed++;
        j->due = sim_now + AGAIN_USEC;
        trace("  CP hands out %s, %s %u.%llu", j->id, kinds[j->kind], j->workspace, (unsigned long long) j->generation);
}

static void look(void *userdata);

/* Until a job is due, or the poll is over. */
static void park(Request *q, bool has_room) {
        uint64_t at = q->until;

        for (unsigned i = 0; has_room && i < n_sim_jobs; i++) {
                const SimJob *j = &sim_jobs[i];
                uint64_t due = j->issue_at > j->due ? j->issue_at : j->due;

                if (!j->reported && due < at && (!j->secret || key_id[0]))
                        at = due;
        }
        q->refs++;
        (void) task_after(at > sim_now ? at - sim_now : 1, look, q);
}

static void look(void *userdata) {
        Request *q = userdata;
        cJSON *json, *list;
        unsigned long max = 16;
        char text[40];

        if (!cp_is_up || q->last < outage_began) {
                if (client_waits(q))
                        answer_break(q, -ECONNRESET);
                return;
        }
        if (!client_waits(q))
                return;
        max = strtoul(query_of(q, "max", text, sizeof text), NULL, 10);
        json = cJSON_CreateObject();
        (void) json_add_string(json, "pins_etag", PINS_ETAG);
        list = cJSON_AddArrayToObject(json, "jobs");
        for (unsigned i = 0, first = (unsigned) dice(n_sim_jobs); i < n_sim_jobs; i++) {
                SimJob *j = &sim_jobs[chance(500) ? i : (first + i) % n_sim_jobs];

                if ((unsigned long) cJSON_GetArraySize(list) < max && (is_due(j) || (j->payload && chance(5))))
                        hand_out(j, list);
        }
        if (cJSON_GetArraySize(list) == 0 && sim_now < q->until && strcmp(query_of(q, "pins_etag", text, sizeof text), PINS_ETAG) == 0) {
                cJSON_Delete(json);
                park(q, max > 0);
                return;
        }
        cp_polls++;
        answer_json(q, 200, json);
}

static void poll_jobs(Request *q) {
        char text[40];

        q->until = sim_now + strtoul(query_of(q, "wait", text, sizeof text), NULL, 10) * USEC_PER_SEC;
        q->last = sim_now;
        look(q);
}

/* ── the other calls ─────────────────────────────────────────────────────────────────────────────────────────── */

static void take(const char *to, size_t size, const cJSON *json, const char *path) { (void) snprintf((char *) to, size, "%s", json_get_string(json, path) ?: ""); }

static bool is_listed(const cJSON *list, const char *id) {
        const cJSON *item;

        cJSON_ArrayForEach(item, list)
                if (str_equal(cJSON_GetStringValue(item), id))
                        return true;
        return false;
}

/* Every job without an end is due at once, but those that the host says it has. */
static void enrol(Request *q) {
        _cleanup_json_ cJSON *json = NULL;

        if (json_parse(q->body, q->size, &json, NULL) < 0)
                wrong("register is no JSON");
        knows_host = true;
        take(host_id, sizeof host_id, json, "host_id");
        if (json_get(json, "sealing_key")) {            /* a register without one changes nothing */
                take(key_id, sizeof key_id, json, "sealing_key/key_id");
                take(public_key, sizeof public_key, json, "sealing_key/public_key");
        }
        for (unsigned i = 0; i < n_sim_jobs; i++)
                if (!sim_jobs[i].delivered && !is_listed(json_get(json, "open_jobs"), sim_jobs[i].id)) {
                        sim_jobs[i].reported = false;
                        sim_jobs[i].due = 0;
                }
        answer(q, 200, NULL, strdup("{\"heartbeat_seconds\":30,\"wait_seconds\":50,\"max_jobs\":16}"));
}

static void pins(Request *q) {
        Signer s = signer(1);
        char table[600];

        if (strcmp(q->etag, PINS_ETAG) == 0) {
                answer(q, 304, PINS_ETAG, NULL);
                return;
        }
        (void) snprintf(table, sizeof table, "{\"pins\":[{\"template_name\":\"langgraph\",\"region\":\"global\",\"image_digest\":\"%s\",\"image_ref\":\"%s\"}]}",
                        strchr(image_ref(0), '@') + 1, image_ref(0));
        cJSON *envelope = signed_envelope(PINS_PAYLOAD_TYPE, table, &s, 1);
        answer(q, 200, PINS_ETAG, json_print(envelope));
        cJSON_Delete(envelope);
}

static SimJob *job_of(const cJSON *report) {
        for (unsigned i = 0; i < n_sim_jobs; i++)
                if (str_equal(json_get_string(report, "job_id"), sim_jobs[i].id))
                        return &sim_jobs[i];
        return NULL;
}

static bool is_final(const char *state) { return strcmp(state, "accepted") != 0 && strcmp(state, "running") != 0; }

static void reports(Request *q) {
        _cleanup_json_ cJSON *json = NULL;
        cJSON *back = cJSON_CreateObject(), *acked = cJSON_AddArrayToObject(back, "acked");
        const cJSON *r;

        if (json_parse(q->body, q->size, &json, NULL) < 0)
                wrong("a batch of reports is no JSON");
        cJSON_ArrayForEach(r, json_get(json, "reports")) {
                SimJob *j = job_of(r);

                if (cJSON_GetArraySize(acked) > 0 && chance(weather[SIDE_CP].fail))
                        continue;               /* it takes only a part */
                (void) cJSON_AddItemToArray(acked, cJSON_CreateString(json_get_string(r, "report_id")));
                if (!j)
                        continue;
                j->reported = true;
                if (is_final(json_get_string(r, "state")) && !j->delivered) {
                        j->delivered = true;
                        j->done_at = sim_now;
                }
        }
        answer_json(q, 200, back);
}

static void health(Request *q) { answer(q, 200, NULL, strdup(chance(20) ? "{\"need_full\":true}" : "{}")); }

void cp_handle(Request *q) {
        static const struct { const char *method, *end; void (*fn)(Request *q); } ways[] = {
                { "GET", "/jobs", poll_jobs }, { "POST", "/reports", reports }, { "POST", "/health", health }, { "GET", "/pins", pins }, { "POST", "/hosts", enrol },
        };
        size_t n = strcspn(q->path, "?");

        trace("  CP: %s %.60s", q->method, q->path);
        if (!cp_is_up) {
                answer_break(q, -ECONNREFUSED);
                return;
        }
        if (chance(weather[SIDE_CP].fail)) {
                answer(q, chance(500) ? 503 : 502, NULL, strdup("{\"error\":\"unavailable\"}"));
                return;
        }
        if (!knows_host && !str_equal(q->path, "/hosts")) {
                answer(q, 404, NULL, strdup("{\"error\":\"host_unknown\"}"));
                return;
        }
        for (size_t i = 0; i < ELEMENTS(ways); i++) {
                size_t k = strlen(ways[i].end);

                if (strcmp(q->method, ways[i].method) == 0 && n >= k && strncmp(q->path + n - k, ways[i].end, k) == 0) {
                        ways[i].fn(q);
                        return;
                }
        }
        wrong("the control plane does not know %s %s", q->method, q->path);
}

void cp_outage(bool begins) {
        trace("---- the control plane %s", begins ? "goes" : "is there");
        cp_is_up = !begins;
        if (begins)
                outage_began = sim_now;
}

void cp_forget(void) {
        trace("---- the control plane forgets the host");
        knows_host = false;
}
