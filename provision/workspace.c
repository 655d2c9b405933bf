/* SPDX-License-Identifier: Apache-2.0 */

/* The record's form. Reading is by tables and strict: what we wrote we know, and what we do not know was not written by this version.
 * Order on disk: payload, then record (the record names the payload), then removal of what no record names. */

#include "provision/workspace.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"

static const char *const phase_names[_WORK_PHASE_MAX] = {
        [WORK_BEGUN] = "begun", [WORK_SWAPPING] = "swapping", [WORK_UNDOING] = "undoing"
};

/* ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static const JsonField version_fields[] = {
        { "generation",       cJSON_String, json_set_u64_text, offsetof(Version, generation), JSON_REQUIRED, 0, NULL },
        { "job_id",           cJSON_String, json_set_uuid, offsetof(Version, job_id), JSON_REQUIRED, 0, NULL },
        { "runtime",          cJSON_String, json_set_string, offsetof(Version, runtime), JSON_REQUIRED, 0, NULL },
        { "kind",             cJSON_String, json_set_text, offsetof(Version, kind), JSON_NULLABLE, 0, NULL },
        { "data_persistence", cJSON_String, json_set_text, offsetof(Version, data_persistence), JSON_NULLABLE, 0, NULL },
        { "tier",             cJSON_Number, json_set_u32, offsetof(Version, tier), JSON_REQUIRED, 4, NULL },
        { "image_ref",        cJSON_String, json_set_string, offsetof(Version, image_ref), JSON_NULLABLE, 0, NULL },
        { "container_id",     cJSON_String, json_set_string, offsetof(Version, container_id), JSON_NULLABLE, 0, NULL },
        { "own_image",        cJSON_True|cJSON_False, json_set_bool, offsetof(Version, own_image), JSON_OPTIONAL, 0, NULL },
        { "failed",           cJSON_True|cJSON_False, json_set_bool, offsetof(Version, failed), JSON_OPTIONAL, 0, NULL },
        {}
};

static int set_version(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        _cleanup_(version_freep) Version *version = calloc(1, sizeof *version);
        int r;

        if (!version)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        r = json_dispatch(v, version_fields, JSON_STRICT, version, reterr);
        if (r < 0)
                return fault_prefix(reterr, r, "%s: ", f->name);
        *(Version **) place = TAKE_PTR(version);
        return 0;
}

static int set_type(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        if (job_type_find(v->valuestring, place) < 0)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "'%s' is not a job type.", f->name);
        return 0;
}

static int set_phase(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        for (int p = 0; p < _WORK_PHASE_MAX; p++)
                if (strcmp(v->valuestring, phase_names[p]) == 0) {
                        *(WorkPhase *) place = (WorkPhase) p;
                        return 0;
                }
        return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "'%s' is not a phase.", f->name);
}

static int set_port(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        uint32_t port = 0;
        int r = json_set_u32(f, v, &port, reterr);

        *(uint16_t *) place = (uint16_t) port;
        return r;
}

static int set_cause(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        const char *code = json_get_string(v, "code"), *message = json_get_string(v, "message");
        FaultCode c;

        if (!code || !message || fault_code_find(code, &c) < 0)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "'%s' is not {code, message}.", f->name);
        (void) fault(place, -EIO, c, "%s", message);
        return 0;
}

static const JsonField work_fields[] = {
        { "job_id",           cJSON_String, json_set_uuid, offsetof(Work, job_id), JSON_REQUIRED, 0, NULL },
        { "delivery_id",      cJSON_String, json_set_uuid, offsetof(Work, delivery_id), JSON_NULLABLE, 0, NULL },
        { "accepted_report_id", cJSON_String, json_set_uuid, offsetof(Work, accepted_report_id), JSON_NULLABLE, 0, NULL },
        { "type",             cJSON_String, set_type, offsetof(Work, type), JSON_REQUIRED, 0, NULL },
        { "local",            cJSON_True|cJSON_False, json_set_bool, offsetof(Work, local), JSON_REQUIRED, 0, NULL },
        { "generation",       cJSON_String, json_set_u64_text, offsetof(Work, generation), JSON_REQUIRED, 0, NULL },
        { "of_host",          cJSON_True|cJSON_False, json_set_bool, offsetof(Work, of_host), JSON_OPTIONAL, 0, NULL },
        { "spec_generation",  cJSON_String, json_set_u64_text, offsetof(Work, spec_generation), JSON_OPTIONAL, 0, NULL },
        { "image_over",       cJSON_String, json_set_string, offsetof(Work, image_over), JSON_NULLABLE, 0, NULL },
        { "cancelled",        cJSON_True|cJSON_False, json_set_bool, offsetof(Work, cancelled), JSON_OPTIONAL, 0, NULL },
        { "deadline_seconds", cJSON_Number, json_set_u32, offsetof(Work, deadline_seconds), JSON_REQUIRED, 0, NULL },
        { "prune",            cJSON_True|cJSON_False, json_set_bool, offsetof(Work, prune), JSON_REQUIRED, 0, NULL },
        { "phase",            cJSON_String, set_phase, offsetof(Work, phase), JSON_REQUIRED, 0, NULL },
        { "image_ref",        cJSON_String, json_set_string, offsetof(Work, image_ref), JSON_NULLABLE, 0, NULL },
        { "image_size_bytes", cJSON_String, json_set_u64_text, offsetof(Work, image_size_bytes), JSON_REQUIRED, 0, NULL },
        { "container_id",     cJSON_String, json_set_string, offsetof(Work, container_id), JSON_NULLABLE, 0, NULL },
        { "old_container_id", cJSON_String, json_set_string, offsetof(Work, old_container_id), JSON_NULLABLE, 0, NULL },
        { "old_ran",          cJSON_True|cJSON_False, json_set_bool, offsetof(Work, old_ran), JSON_REQUIRED, 0, NULL },
        { "started",          cJSON_True|cJSON_False, json_set_bool, offsetof(Work, started), JSON_REQUIRED, 0, NULL },
        { "old_port",         cJSON_Number, set_port, offsetof(Work, old_port), JSON_REQUIRED, 65535, NULL },
        { "reported",         cJSON_True|cJSON_False, json_set_bool, offsetof(Work, reported), JSON_REQUIRED, 0, NULL },
        { "cause",            cJSON_Object, set_cause, offsetof(Work, cause), JSON_NULLABLE, 0, NULL },
        {}
};

static int set_work(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        _cleanup_(work_freep) Work *work = calloc(1, sizeof *work);
        int r;

        if (!work)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        r = json_dispatch(v, work_fields, JSON_STRICT, work, reterr);
        if (r < 0)
                return fault_prefix(reterr, r, "%s: ", f->name);
        if (!json_get(v, "spec_generation"))
                work->spec_generation = work->generation;
        *(Work **) place = TAKE_PTR(work);
        return 0;
}

typedef struct RecordView { Workspace w; char *spec_hash, *restart_hash; } RecordView;

static const JsonField record_fields[] = {
        { "workspace_id",  cJSON_String, json_set_uuid, offsetof(RecordView, w.id), JSON_REQUIRED, 0, NULL },
        { "spec_floor",    cJSON_String, json_set_u64_text, offsetof(RecordView, w.spec_floor), JSON_REQUIRED, 0, NULL },
        { "first_generation", cJSON_String, json_set_u64_text, offsetof(RecordView, w.first_generation), JSON_REQUIRED, 0, NULL },
        { "restart_floor", cJSON_String, json_set_u64_text, offsetof(RecordView, w.restart_floor), JSON_REQUIRED, 0, NULL },
        { "spec_hash",     cJSON_String, json_set_text, offsetof(RecordView, spec_hash), JSON_REQUIRED, HASH_TEXT_SIZE - 1, NULL },
        { "spec_job_id",   cJSON_String, json_set_uuid, offsetof(RecordView, w.spec_job_id), JSON_NULLABLE, 0, NULL },
        { "restart_hash",  cJSON_String, json_set_text, offsetof(RecordView, restart_hash), JSON_NULLABLE, HASH_TEXT_SIZE - 1, NULL },
        { "restart_job_id", cJSON_String, json_set_uuid, offsetof(RecordView, w.restart_job_id), JSON_NULLABLE, 0, NULL },
        { "roll_image_ref", cJSON_String, json_set_string, offsetof(RecordView, w.roll_image_ref), JSON_NULLABLE, 0, NULL },
        { "roll_over",     cJSON_String, json_set_string, offsetof(RecordView, w.roll_over), JSON_NULLABLE, 0, NULL },
        { "roll",          cJSON_Object, json_set_value, offsetof(RecordView, w.roll), JSON_NULLABLE, 0, NULL },
        { "stopped",       cJSON_True|cJSON_False, json_set_bool, offsetof(RecordView, w.stopped), JSON_OPTIONAL, 0, NULL },
        { "erase_at",      cJSON_String, json_set_u64_text, offsetof(RecordView, w.erase_at), JSON_OPTIONAL, 0, NULL },
        { "port",          cJSON_Number, set_port, offsetof(RecordView, w.port), JSON_REQUIRED, 65535, NULL },
        { "removed",       cJSON_True|cJSON_False, json_set_bool, offsetof(RecordView, w.removed), JSON_REQUIRED, 0, NULL },
        { "wanted",        cJSON_Object, set_version, offsetof(RecordView, w.wanted), JSON_NULLABLE, 0, NULL },
        { "settled",       cJSON_Object, set_version, offsetof(RecordView, w.settled), JSON_NULLABLE, 0, NULL },
        { "work",          cJSON_Object, set_work, offsetof(RecordView, w.work), JSON_NULLABLE, 0, NULL },
        { "next",          cJSON_Object, set_work, offsetof(RecordView, w.next), JSON_NULLABLE, 0, NULL },
        { "overtaken",     cJSON_Object, set_work, offsetof(RecordView, w.overtaken), JSON_NULLABLE, 0, NULL },
        { "outcome",       cJSON_Object, json_set_value, offsetof(RecordView, w.outcome), JSON_NULLABLE, 0, NULL },
        { "outcome_acked", cJSON_True|cJSON_False, json_set_bool, offsetof(RecordView, w.outcome_acked), JSON_REQUIRED, 0, NULL },
        {}
};

int workspace_from_json(const cJSON *json, Workspace **ret, Fault *reterr) {
        _cleanup_(workspace_freep) Workspace *w = calloc(1, sizeof *w);
        RecordView view = {};
        int r;

        if (!w)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        r = json_dispatch(json, record_fields, JSON_STRICT, &view, reterr);
        *w = view.w;
        if (view.spec_hash)
                strcpy(w->spec_hash, view.spec_hash);
        if (view.restart_hash)
                strcpy(w->restart_hash, view.restart_hash);
        free(view.spec_hash);
        free(view.restart_hash);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(w);
        return 0;
}

int workspace_load(const WorkspaceDir *d, const char *id, Workspace **ret, Fault *reterr) {
        _cleanup_json_ cJSON *json = NULL;
        _cleanup_(workspace_freep) Workspace *w = NULL;
        int r;

        r = record_read(d->fd, id, "workspace", WORKSPACE_RECORD_MAX, &json, reterr);
        if (r < 0)
                return r;
        r = workspace_from_json(json, &w, reterr);
        if (r < 0)
                return r == -ENOMEM ? r : -EBADMSG;     /* whole, but not what we write */
        if (strcmp(w->id, id) != 0)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "The record is of another workspace.");
        *ret = TAKE_PTR(w);
        return 0;
}

/* ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool add_text(cJSON *json, const char *name, const char *value) { return !value || !value[0] || json_add_string(json, name, value); }

static bool add_flag(cJSON *json, const char *name, bool value) { return !value || json_add_bool(json, name, true); }

static cJSON *version_json(const Version *v) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        if (!json || !json_add_u64_text(json, "generation", v->generation) || !json_add_string(json, "job_id", v->job_id) ||
            !json_add_string(json, "runtime", v->runtime) || !add_text(json, "kind", v->kind) ||
            !add_text(json, "data_persistence", v->data_persistence) || !json_add_i64(json, "tier", v->tier) ||
            !add_text(json, "image_ref", v->image_ref) || !add_text(json, "container_id", v->container_id) ||
            !add_flag(json, "own_image", v->own_image) || !add_flag(json, "failed", v->failed))
                return NULL;
        return TAKE_PTR(json);
}

static bool add_cause(cJSON *json, const Fault *f) {
        cJSON *cause;

        if (!f->set)
                return true;
        cause = cJSON_CreateObject();
        return json_add_item(json, "cause", cause) && json_add_string(cause, "code", fault_code_name(f->code)) &&
               json_add_string(cause, "message", f->text);
}

static cJSON *work_json(const Work *k) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        if (!json || !json_add_string(json, "job_id", k->job_id) || !add_text(json, "delivery_id", k->delivery_id) ||
            !add_text(json, "accepted_report_id", k->accepted_report_id) || !json_add_string(json, "type", job_type_name(k->type)) ||
            !json_add_bool(json, "local", k->local) || !json_add_u64_text(json, "generation", k->generation) ||
            !add_flag(json, "of_host", k->of_host) || !json_add_u64_text(json, "spec_generation", k->spec_generation) ||
            !add_text(json, "image_over", k->image_over) || !add_flag(json, "cancelled", k->cancelled) ||
            !json_add_i64(json, "deadline_seconds", k->deadline_seconds) || !json_add_bool(json, "prune", k->prune) ||
            !json_add_string(json, "phase", phase_names[k->phase]) || !add_text(json, "image_ref", k->image_ref) ||
            !json_add_u64_text(json, "image_size_bytes", k->image_size_bytes) || !add_text(json, "container_id", k->container_id) ||
            !add_text(json, "old_container_id", k->old_container_id) || !json_add_bool(json, "old_ran", k->old_ran) ||
            !json_add_bool(json, "started", k->started) || !json_add_i64(json, "old_port", k->old_port) ||
             !json_add_bool(json, "reported", k->reported) || !add_cause(json, &k->cause))
                return NULL;
        return TAKE_PTR(json);
}

static bool add_roll(cJSON *json, const Workspace *w) {
        return add_text(json, "roll_image_ref", w->roll_image_ref) && add_text(json, "roll_over", w->roll_over) &&
               (!w->roll || json_add_item(json, "roll", cJSON_Duplicate(w->roll, true)));
}

static cJSON *workspace_json(const Workspace *w) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        if (!json || !json_add_string(json, "workspace_id", w->id) || !json_add_u64_text(json, "spec_floor", w->spec_floor) ||
            !json_add_u64_text(json, "restart_floor", w->restart_floor) ||
            !json_add_u64_text(json, "first_generation", w->first_generation) || !json_add_string(json, "spec_hash", w->spec_hash) ||
            !add_text(json, "spec_job_id", w->spec_job_id) || !add_text(json, "restart_hash", w->restart_hash) ||
            !add_text(json, "restart_job_id", w->restart_job_id) || !add_roll(json, w) || !add_flag(json, "stopped", w->stopped) ||
            (w->erase_at && !json_add_u64_text(json, "erase_at", w->erase_at)) || !json_add_i64(json, "port", w->port) ||
            !json_add_bool(json, "removed", w->removed) || (w->wanted && !json_add_item(json, "wanted", version_json(w->wanted))) ||
            (w->settled && !json_add_item(json, "settled", version_json(w->settled))) ||
            (w->work && !json_add_item(json, "work", work_json(w->work))) ||
            (w->next && !json_add_item(json, "next", work_json(w->next))) ||
            (w->overtaken && !json_add_item(json, "overtaken", work_json(w->overtaken))) ||
            (w->outcome && !json_add_item(json, "outcome", cJSON_Duplicate(w->outcome, true))) ||
            !json_add_bool(json, "outcome_acked", w->outcome_acked))
                return NULL;
        return TAKE_PTR(json);
}

int workspace_save(const WorkspaceDir *d, const Workspace *w, Fault *reterr) {
        _cleanup_json_ cJSON *json = workspace_json(w);

        if (!json)
                return fault(reterr, -ENOMEM, FAULT_STATE_DEGRADED, "Out of memory for the record of workspace %s.", w->id);
        return record_write(d->fd, w->id, "workspace", json, reterr);
}

/* ── payloads and undo sets ──────────────────────────────────────────────────────────────────────────────────── */

#define SIDE_NAME_SIZE 80

static const char *side_name(const char *id, uint64_t generation, const char *what, char ret[static SIDE_NAME_SIZE]) {
        char g[21];

        (void) snprintf(ret, SIDE_NAME_SIZE, "%.36s.g%s.%s", id, u64_text(generation, g), what);
        return ret;
}

static int side_save(const WorkspaceDir *d, const char *id, uint64_t generation, const char *what, const void *data, size_t size, Fault *reterr) {
        _cleanup_free_ uint8_t *sealed = NULL;
        char name[SIDE_NAME_SIZE];
        int r = vault_seal(d->vault, id, generation, what, data, size, &sealed, &size, reterr);

        if (r < 0)
                return r;
        r = file_write_atomic(d->fd, side_name(id, generation, what, name), sealed, size);
        return r < 0 ? fault(reterr, r, FAULT_STATE_DEGRADED, "Cannot store the %s of workspace %s: %m", what, id) : 0;
}

static int side_load(const WorkspaceDir *d, const char *id, uint64_t generation, const char *what, char **ret, size_t *ret_size, Fault *reterr) {
        _cleanup_free_ char *sealed = NULL;
        char name[SIDE_NAME_SIZE];
        size_t size;
        int r = file_read(d->fd, side_name(id, generation, what, name), SEAL_FILE_MAX, &sealed, &size);

        if (r == -EFBIG)
                return fault(reterr, -EBADMSG, FAULT_SECRET_UNDECRYPTABLE, "The %s of workspace %s is too large.", what, id);
        if (r < 0)
                return fault(reterr, r, FAULT_STATE_DEGRADED, "Cannot read the %s of workspace %s: %m", what, id);
        r = vault_open(d->vault, id, generation, what, sealed, size, ret, ret_size, reterr);
        return r < 0 ? fault_prefix(reterr, r, "the %s of workspace %s: ", what, id) : 0;
}

int payload_save(const WorkspaceDir *d, const char *id, const Job *j, Fault *reterr) {
        return side_save(d, id, j->generation, "payload", j->payload, j->payload_size, reterr);
}

int payload_load(const WorkspaceDir *d, const char *id, uint64_t generation, const JobRules *rules, Job **ret, Fault *reterr) {
        _cleanup_free_ char *text = NULL;
        JobLabel label = {};
        size_t size = 0;
        int r = side_load(d, id, generation, "payload", &text, &size, reterr);

        return r < 0 ? r : job_parse(text, size, rules, &label, ret, reterr);
}

int undo_save(const WorkspaceDir *d, const char *id, uint64_t generation, const cJSON *json, Fault *reterr) {
        _cleanup_free_ char *text = json_print(json);

        if (!text)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        return side_save(d, id, generation, "undo", text, strlen(text), reterr);
}

int undo_load(const WorkspaceDir *d, const char *id, uint64_t generation, cJSON **ret, Fault *reterr) {
        _cleanup_free_ char *text = NULL;
        size_t size = 0;
        int r = side_load(d, id, generation, "undo", &text, &size, reterr);

        return r < 0 ? r : json_parse(text, size, ret, reterr);
}

bool workspace_names_generation(const Workspace *w, uint64_t generation) {
        return (w->wanted && w->wanted->generation == generation) || (w->settled && w->settled->generation == generation) ||
               (w->work && w->work->spec_generation == generation) || (w->next && w->next->spec_generation == generation);
}

bool workspace_names(const Workspace *w, const char *file) {
        char digits[24] = {};
        const char *g, *what;
        uint64_t generation;

        if (strncmp(file, w->id, 36) != 0 || strncmp(file + 36, ".g", 2) != 0)
                return true;
        g = file + 38;
        what = strchr(g, '.');
        if (!what || (size_t) (what - g) >= sizeof digits)
                return true;
        memcpy(digits, g, (size_t) (what - g));
        if (u64_parse(digits, &generation) < 0)
                return true;
        return strcmp(what, ".undo") == 0 ? w->work && w->work->generation == generation : workspace_names_generation(w, generation);
}

void workspace_tidy(const WorkspaceDir *d, const Workspace *w, uint64_t generation) {
        static const char *const sides[] = { "payload", "undo" };
        char name[SIDE_NAME_SIZE];

        for (size_t i = 0; i < ELEMENTS(sides); i++)
                if (!workspace_names(w, side_name(w->id, generation, sides[i], name)))
                        (void) unlinkat(d->fd, name, 0);        /* ignoring: the next start finds it again */
}

void workspace_tidy_after(const WorkspaceDir *d, const Workspace *w, const Workspace *old) {
        const Version *versions[] = { old->settled, old->wanted };
        const Work *works[] = { old->work, old->next };

        for (size_t i = 0; i < ELEMENTS(versions); i++)
                if (versions[i])
                        workspace_tidy(d, w, versions[i]->generation);
        for (size_t i = 0; i < ELEMENTS(works); i++)
                if (works[i]) {
                        workspace_tidy(d, w, works[i]->generation);
                        workspace_tidy(d, w, works[i]->spec_generation);
                }
}

/* ── objects ─────────────────────────────────────────────────────────────────────────────────────────────────── */

Workspace *workspace_new(const char *id, uint64_t first_generation) {
        Workspace *w = calloc(1, sizeof *w);

        if (!w)
                return NULL;
        memcpy(w->id, id, UUID_SIZE);
        w->first_generation = first_generation;
        return w;
}

Workspace *workspace_free(Workspace *w) {
        if (!w)
                return NULL;
        version_free(w->wanted);
        version_free(w->settled);
        work_free(w->work);
        work_free(w->next);
        work_free(w->overtaken);
        cJSON_Delete(w->outcome);
        cJSON_Delete(w->roll);
        free(w->roll_image_ref);
        free(w->roll_over);
        free(w);
        return NULL;
}

static int copy(char **ret, const char *s) {
        if (s && s[0] && !(*ret = strdup(s)))
                return -ENOMEM;
        return 0;
}

Version *version_new(const Job *j, const char *image_ref) {
        _cleanup_(version_freep) Version *v = calloc(1, sizeof *v);

        if (!v)
                return NULL;
        v->generation = j->generation;
        memcpy(v->job_id, j->job_id, UUID_SIZE);
        v->tier = j->spec->tier;
        if (copy(&v->runtime, j->spec->runtime) < 0 || copy(&v->kind, j->spec->kind) < 0 ||
            copy(&v->data_persistence, j->spec->data_persistence) < 0 || copy(&v->image_ref, image_ref) < 0)
                return NULL;
        return TAKE_PTR(v);
}

Version *version_copy(const Version *from) {
        _cleanup_(version_freep) Version *v = calloc(1, sizeof *v);

        if (!v)
                return NULL;
        *v = (Version) { .generation = from->generation, .tier = from->tier, .own_image = from->own_image, .failed = from->failed };
        memcpy(v->job_id, from->job_id, UUID_SIZE);
        if (copy(&v->runtime, from->runtime) < 0 || copy(&v->kind, from->kind) < 0 ||
            copy(&v->data_persistence, from->data_persistence) < 0 || copy(&v->image_ref, from->image_ref) < 0 ||
            copy(&v->container_id, from->container_id) < 0)
                return NULL;
        return TAKE_PTR(v);
}

Version *version_free(Version *v) {
        if (!v)
                return NULL;
        free(v->runtime);
        free(v->kind);
        free(v->data_persistence);
        free(v->image_ref);
        free(v->container_id);
        free(v);
        return NULL;
}

Work *work_new(const Job *j, const char *delivery_id) {
        Work *k = calloc(1, sizeof *k);

        if (!k)
                return NULL;
        memcpy(k->job_id, j->job_id, UUID_SIZE);
        if (delivery_id)
                memcpy(k->delivery_id, delivery_id, UUID_SIZE);
        k->type = j->type;
        k->generation = k->spec_generation = j->generation;
        k->deadline_seconds = j->deadline_seconds;
        k->prune = j->args.prune;
        if (uuid_make(k->accepted_report_id) < 0)
                return work_free(k);
        return k;
}

Work *work_free(Work *k) {
        if (!k)
                return NULL;
        free(k->image_ref);
        free(k->image_over);
        free(k->container_id);
        free(k->old_container_id);
        free(k);
        return NULL;
}

void workspace_undo(Workspace *w, const Fault *cause) {
        Work *k = w->work;

        k->cause = *cause;
        k->phase = WORK_UNDOING;
        if (k->old_port)
                w->port = k->old_port;
}

int work_fault_cancelled(Fault *reterr) { return fault(reterr, -ECANCELED, FAULT_INTERNAL, "The job was cancelled."); }

uint64_t workspace_generation(const Workspace *w) { return w->wanted ? w->wanted->generation : w->settled ? w->settled->generation : 0; }
