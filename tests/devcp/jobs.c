/* SPDX-License-Identifier: Apache-2.0 */

/* A job's payload is printed once. From then on its bytes are a blob: stored, hashed, handed out as often as needed, never printed again,
 * so a signature or a payload hash over them stays good. Its generation comes from one line per workspace, whichever host the workspace is
 * on, or from the host's own line. */

#include "tests/devcp/jobs.h"

#include <errno.h>
#include <string.h>

#include "base/hash.h"
#include "tests/devcp/keys.h"
#include "tests/devcp/seal.h"
#include "tests/devcp/sign.h"

typedef enum Line {
        LINE_NONE,                      /* ordered by nothing, known by its id */
        LINE_WORKSPACE,
        LINE_HOST,
} Line;

static const struct {
        const char *type;
        Line        line;
} lines[] = {
        { "workspace.provision",   LINE_WORKSPACE },
        { "workspace.deprovision", LINE_WORKSPACE },
        { "workspace.restart",     LINE_WORKSPACE },
        { "host.redeploy",         LINE_HOST },
        { "host.drain",            LINE_HOST },
        { "host.undrain",          LINE_HOST },
        { "host.hold",             LINE_HOST },
        { "host.release",          LINE_HOST },
        { "host.teardown",         LINE_HOST },
};

static Line line_of(const char *type) {
        for (size_t i = 0; i < ELEMENTS(lines); i++)
                if (str_equal(lines[i].type, type))
                        return lines[i].line;
        return LINE_NONE;
}

static int line_next(Server *s, const JobOrder *o, Line line, uint64_t *ret) {
        _cleanup_json_ cJSON *row = NULL;
        int r;

        r = line == LINE_WORKSPACE ? store_get(s->store, SQL_WORKSPACE_NEXT, &row, "s", o->workspace_id) :
                                     store_get(s->store, SQL_HOST_NEXT, &row, "s", o->host_id);
        if (r < 0)
                return r;
        *ret = (uint64_t) json_get_i64(row, "generation", 0);
        return 0;
}

/* A number given from outside is one we shall never give out ourselves. */
static int line_raise(Server *s, const JobOrder *o, Line line, uint64_t generation) {
        if (generation > INT64_MAX)
                return 0;
        return line == LINE_WORKSPACE ?
                store_do(s->store, SQL_WORKSPACE_RAISE, "sis", o->workspace_id, (int64_t) generation, o->org_id) :
                store_do(s->store, SQL_HOST_RAISE, "si", o->host_id, (int64_t) generation);
}

static int job_number(Server *s, const JobOrder *o, uint64_t *ret) {
        Line line = line_of(o->type);

        *ret = o->generation;
        if (line == LINE_NONE || (line == LINE_WORKSPACE && !o->workspace_id))
                return 0;
        return o->generation > 0 ? line_raise(s, o, line, o->generation) : line_next(s, o, line, ret);
}

static cJSON *payload_make(const JobOrder *o, const char *job_id, uint64_t generation) {
        _cleanup_json_ cJSON *p = cJSON_CreateObject();
        bool ok = json_add_string(p, "job_id", job_id) && json_add_string(p, "type", o->type) &&
                json_add_string(p, "org_id", o->org_id) && json_add_string(p, "host_id", o->host_id) &&
                (!o->workspace_id || json_add_string(p, "workspace_id", o->workspace_id)) &&
                (generation == 0 || json_add_u64_text(p, "generation", generation)) &&
                json_add_time(p, "issued_at", now_realtime()) &&
                (o->expires_at == 0 || json_add_time(p, "expires_at", o->expires_at)) &&
                (o->deadline_seconds == 0 || json_add_i64(p, "deadline_seconds", o->deadline_seconds)) &&
                (o->spec ? cJSON_AddItemReferenceToObject(p, "spec", (cJSON *) o->spec) :
                           json_add_item(p, "spec", cJSON_CreateObject()));

        return ok ? TAKE_PTR(p) : NULL;
}

static int job_insert(Server *s, const JobOrder *o, const char *job_id, uint64_t generation, bool raw, const void *payload, size_t size,
                      Fault *reterr) {
        char hash[HASH_TEXT_SIZE], at[TIME_TEXT_SIZE];
        int r;

        /* what a payload becomes on its way out: base64, and the words around it */
        if ((size + 2) / 3 * 4 + ENVELOPE_ROOM > BODY_MAX_LARGE)
                return fault(reterr, -EFBIG, FAULT_TOO_LARGE, "the job's payload of %zu bytes would not fit into an answer of %lu", size,
                             (unsigned long) BODY_MAX_LARGE);
        hash_text(payload, size, hash);
        r = store_do(s->store, SQL_JOB_ADD, "sssssiibss", job_id, o->host_id, o->org_id, o->type, o->workspace_id,
                     (int64_t) (generation > INT64_MAX ? INT64_MAX : generation), (int64_t) raw, payload, size, hash,
                     time_text(now_realtime(), at));
        if (r == 0)
                server_wake(s, o->host_id);
        return r;
}

/* The spec with a box for each secret, and the key they are for; both NULL when there is nothing to seal. */
static int job_seal(Server *s, const JobOrder *o, cJSON **ret_spec, cJSON **ret_key) {
        _cleanup_json_ cJSON *spec = NULL, *key = NULL;
        int r;

        if (!o->secrets)
                return 0;
        r = key_get(s, o->host_id, &key);
        if (r == 0 && !key)
                r = -ENOKEY;
        if (r < 0)
                return r;
        spec = o->spec ? cJSON_Duplicate(o->spec, true) : cJSON_CreateObject();
        if (!spec)
                return -ENOMEM;
        r = seal_spec(o, key, spec);
        if (r < 0)
                return r;
        *ret_spec = TAKE_PTR(spec);
        *ret_key = TAKE_PTR(key);
        return 0;
}

int job_create(Server *s, const JobOrder *order, char ret_job_id[static UUID_SIZE], Fault *reterr) {
        _cleanup_json_ cJSON *payload = NULL, *spec = NULL, *key = NULL;
        _cleanup_free_ char *text = NULL;
        JobOrder o = *order;
        char job_id[UUID_SIZE];
        uint64_t generation = 0;
        int r;

        r = uuid_make(job_id);
        if (r == 0)
                r = job_seal(s, order, &spec, &key);
        if (r == 0)
                r = job_number(s, order, &generation);
        if (r < 0)
                return r;
        o.spec = spec ? spec : o.spec;
        payload = payload_make(&o, job_id, generation);
        text = payload ? json_print(payload) : NULL;
        if (!text)
                return -ENOMEM;
        r = job_insert(s, &o, job_id, generation, false, text, strlen(text), reterr);
        if (r == 0 && cJSON_GetArraySize(json_get(o.spec, "secrets")) > 0)
                r = seal_remember(s, job_id, o.secrets, key);
        if (r < 0)
                return r;
        memcpy(ret_job_id, job_id, UUID_SIZE);
        return 0;
}

/* Reads from the bytes what it can, so that reports about them find the job and no generation is given out twice. */
int job_create_raw(Server *s, const char *org_id, const char *host_id, const void *payload, size_t size, char ret_job_id[static UUID_SIZE],
                   Fault *reterr) {
        _cleanup_json_ cJSON *tree = NULL, *taken = NULL;
        char job_id[UUID_SIZE];
        JobOrder o = { .org_id = org_id, .host_id = host_id };
        const char *said;
        int r;

        r = uuid_make(job_id);
        if (r < 0)
                return r;
        if (json_parse(payload, size, &tree, NULL) == 0) {
                o.type = json_get_string(tree, "type");
                said = json_get_string(tree, "workspace_id");
                o.workspace_id = uuid_is_valid(said) ? said : NULL;
                o.generation = json_get_u64_text(tree, "generation", 0);
                said = json_get_string(tree, "job_id");
                if (uuid_is_valid(said) && store_get(s->store, SQL_JOB_GET, &taken, "s", said) == -ENOENT)
                        (void) strncpy(job_id, said, UUID_SIZE - 1);
        }
        if (o.workspace_id) {
                r = store_do(s->store, SQL_WORKSPACE_ADD, "ssss", o.workspace_id, org_id, host_id, "provisioning");
                if (r < 0)
                        return r;
        }
        if (o.generation > 0) {
                r = job_number(s, &o, &o.generation);
                if (r < 0)
                        return r;
        }
        r = job_insert(s, &o, job_id, o.generation, true, payload, size, reterr);
        if (r < 0)
                return r;
        memcpy(ret_job_id, job_id, UUID_SIZE);
        return 0;
}

int job_spec(Server *s, const char *job_id, cJSON **ret_spec) {
        _cleanup_json_ cJSON *row = NULL, *payload = NULL, *spec = NULL;
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size;
        int r;

        r = store_get(s->store, SQL_JOB_PAYLOAD, &row, "s", job_id);
        if (r < 0)
                return r;
        r = base64_decode(json_get_string(row, "payload"), SIZE_MAX, &bytes, &size);
        if (r < 0)
                return r;
        r = json_parse((const char *) bytes, size, &payload, NULL);
        if (r < 0)
                return r;
        spec = cJSON_DetachItemFromObjectCaseSensitive(payload, "spec");
        if (!spec)
                return -EBADMSG;
        *ret_spec = TAKE_PTR(spec);
        return 0;
}
