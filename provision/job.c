/* SPDX-License-Identifier: Apache-2.0 */

/* A delivery is read in two ways. Leniently for its label (ids and type), so that a refusal can name the job; then strictly by tables, so that
 * no field is ever dropped in silence. */

#include "provision/job.h"

#include <errno.h>
#include <string.h>

static const struct { const char *name; JobLine line; bool workspace; } types[_JOB_TYPE_MAX] = {
        [JOB_PROVISION]    = { "workspace.provision",   LINE_SPEC,     true },
        [JOB_DEPROVISION]  = { "workspace.deprovision", LINE_SPEC,     true },
        [JOB_RESTART]      = { "workspace.restart",     LINE_RESTART,  true },
        [JOB_CONSOLE]      = { "workspace.console",     LINE_NONE,     true },
        [JOB_IMAGE_ENSURE] = { "image.ensure",          LINE_NONE,     false },
        [JOB_REDEPLOY]     = { "host.redeploy",         LINE_REDEPLOY, false },
        [JOB_DRAIN]        = { "host.drain",            LINE_DRAIN,    false },
        [JOB_UNDRAIN]      = { "host.undrain",          LINE_DRAIN,    false },
        [JOB_HOLD]         = { "host.hold",             LINE_HOLD,     false },
        [JOB_RELEASE]      = { "host.release",          LINE_HOLD,     false },
        [JOB_TEARDOWN]     = { "host.teardown",         LINE_TEARDOWN, false },
        [JOB_CANCEL]       = { "job.cancel",            LINE_NONE,     false },
};

const char *job_type_name(JobType t) { return types[t].name; }
JobLine     job_type_line(JobType t) { return types[t].line; }
bool        job_type_names_workspace(JobType t) { return types[t].workspace; }

int job_type_find(const char *name, JobType *ret) {
        for (int t = 0; t < _JOB_TYPE_MAX; t++)
                if (str_equal(name, types[t].name)) {
                        *ret = (JobType) t;
                        return 0;
                }
        return -ENOENT;
}

typedef struct Head {                           /* the payload as its table sees it */
        Job      job;
        char    *type;
} Head;

static const JsonField head_fields[] = {
        { "job_id",           cJSON_String, json_set_uuid, offsetof(Head, job.job_id), JSON_REQUIRED, 0, NULL },
        { "type",             cJSON_String, json_set_string, offsetof(Head, type), JSON_REQUIRED, 64, NULL },
        { "org_id",           cJSON_String, json_set_uuid, offsetof(Head, job.org_id), JSON_REQUIRED, 0, NULL },
        { "host_id",          cJSON_String, json_set_uuid, offsetof(Head, job.host_id), JSON_REQUIRED, 0, NULL },
        { "workspace_id",     cJSON_String, json_set_uuid, offsetof(Head, job.workspace_id), JSON_OPTIONAL, 0, NULL },
        { "generation",       cJSON_String, json_set_u64_text, offsetof(Head, job.generation), JSON_OPTIONAL, 0, NULL },
        { "issued_at",        cJSON_String, json_set_time, offsetof(Head, job.issued_at), JSON_REQUIRED, 0, NULL },
        { "expires_at",       cJSON_String, json_set_time, offsetof(Head, job.expires_at), JSON_OPTIONAL, 0, NULL },
        { "deadline_seconds", cJSON_Number, json_set_u32, offsetof(Head, job.deadline_seconds), JSON_OPTIONAL, 86400, NULL },
        { "spec",             cJSON_Object, NULL, 0, JSON_REQUIRED, 0, NULL },  /* may be megabytes: read where it lies */
        {}
};

static void head_done(Head *h) { free(h->type); }

static void label_uuid(const cJSON *json, const char *name, char ret[static UUID_SIZE]) {
        const char *s = json_get_string(json, name);

        if (s && uuid_is_valid(s))
                memcpy(ret, s, UUID_SIZE);
}

static void label_fill(JobLabel *label, const cJSON *json) {
        const char *type = json_get_string(json, "type"), *generation = json_get_string(json, "generation");

        label_uuid(json, "job_id", label->job_id);
        label_uuid(json, "workspace_id", label->workspace_id);
        if (type && strlen(type) < sizeof label->type && strspn(type, "abcdefghijklmnopqrstuvwxyz._") == strlen(type))
                strcpy(label->type, type);
        label->has_generation = generation && u64_parse(generation, &label->generation) == 0;
}

static int check_head(const Head *h, const JobRules *rules, Fault *reterr) {
        const Job *j = &h->job;

        if (strcmp(j->org_id, rules->org_id) != 0)
                return fault(reterr, -EPERM, FAULT_WRONG_TENANT, "The job is for organization %s; this host serves %s.", j->org_id,
                             rules->org_id);
        if (strcmp(j->host_id, rules->host_id) != 0)
                return fault(reterr, -EPERM, FAULT_WRONG_HOST, "The job is for host %s; this is %s.", j->host_id, rules->host_id);
        return 0;
}

/* Whether the payload has what its type needs, and nothing that its type does not know. */
static int check_place(const Job *j, bool has_generation, Fault *reterr) {
        bool ordered = types[j->type].line != LINE_NONE;

        if (types[j->type].workspace && !j->workspace_id[0])
                return fault(reterr, -EINVAL, FAULT_BAD_JSON, "The field 'workspace_id' is missing.");
        if (!types[j->type].workspace && j->workspace_id[0])
                return fault(reterr, -EINVAL, FAULT_UNSUPPORTED_FIELD, "A job of type %s has no 'workspace_id'.", types[j->type].name);
        if (ordered && !has_generation)
                return fault(reterr, -EINVAL, FAULT_BAD_JSON, "The field 'generation' is missing.");
        if (!ordered && has_generation)
                return fault(reterr, -EINVAL, FAULT_UNSUPPORTED_FIELD, "A job of type %s has no 'generation'.", types[j->type].name);
        if (ordered && j->generation == 0)
                return fault(reterr, -EINVAL, FAULT_BAD_JSON, "'generation' must be 1 or more.");
        return 0;
}

int job_parse(const char *payload, size_t size, const JobRules *rules, JobLabel *label, Job **ret, Fault *reterr) {
        _cleanup_json_ cJSON *json = NULL;
        _cleanup_(head_done) Head h = {};
        _cleanup_(job_freep) Job *j = NULL;
        JobType type;
        int r;

        r = json_parse(payload, size, &json, reterr);
        if (r < 0)
                return fault_prefix(reterr, r, "payload: ");
        label_fill(label, json);
        if (label->type[0] && job_type_find(label->type, &type) < 0)
                return fault(reterr, -EOPNOTSUPP, FAULT_UNSUPPORTED_TYPE, "This agent does not know jobs of type '%s'.", label->type);
        r = json_dispatch(json, head_fields, JSON_STRICT, &h, reterr);
        if (r < 0)
                return r;
        if (job_type_find(h.type, &h.job.type) < 0)
                return fault(reterr, -EOPNOTSUPP, FAULT_UNSUPPORTED_TYPE, "This agent does not know jobs of that type.");
        r = check_head(&h, rules, reterr);
        if (r < 0 || (r = check_place(&h.job, json_get(json, "generation") != NULL, reterr)) < 0)
                return r;

        j = malloc(sizeof *j);
        if (!j)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        *j = h.job;
        r = j->type == JOB_PROVISION ? spec_parse(json_get(json, "spec"), &rules->spec, &j->spec, reterr) :
                                       job_args_parse(j->type, json_get(json, "spec"), rules, &j->args, reterr);
        if (r < 0)
                return r;
        hash_text(payload, size, j->payload_hash);
        *ret = TAKE_PTR(j);
        return 0;
}

void job_keep(Job *j, char *payload, size_t size) {
        free(j->payload);
        j->payload = payload;
        j->payload_size = size;
}

int job_open(const cJSON *delivery, const JobRules *rules, JobLabel *label, Job **ret, Fault *reterr) {
        _cleanup_free_ char *payload = NULL;
        size_t size = 0;
        int r;

        *label = (JobLabel) {};
        label_uuid(delivery, "delivery_id", label->delivery_id);
        r = envelope_open(json_get(delivery, "envelope"), JOB_PAYLOAD_TYPE, rules->trusted, JOB_PAYLOAD_MAX, &payload, &size, reterr);
        if (r >= 0)
                r = job_parse(payload, size, rules, label, ret, reterr);
        if (r < 0)
                return r;
        job_keep(*ret, TAKE_PTR(payload), size);
        return 0;
}

bool job_expired(const Job *j, uint64_t time_usec) { return j->expires_at && time_usec && time_usec >= j->expires_at; }

Job *job_free(Job *j) {
        if (!j)
                return NULL;
        spec_free(j->spec);
        job_args_done(&j->args);
        free(j->payload);
        free(j);
        return NULL;
}
