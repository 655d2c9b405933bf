/* SPDX-License-Identifier: Apache-2.0 */

/* provision/workspace: the record there and back, every damage seen, payloads and undo sets beside it, and what tidying takes. */

#include <errno.h>

#include "base/file.h"
#include "provision/workspace.h"
#include "tests/sealed-kit.h"

static const JobRules rules = { .org_id = KIT_ORG, .host_id = KIT_HOST, .spec = { .max_tier = 2 } };

static char *copy_of(const char *s) {
        char *copy = strdup(s);

        if (!copy)
                abort();
        return copy;
}

static Job *job(uint64_t generation) {
        _cleanup_free_ char *text = str_printf("{\"job_id\":\"" KIT_JOB "\",\"type\":\"workspace.provision\",\"org_id\":\"" KIT_ORG
                                               "\",\"host_id\":\"" KIT_HOST "\","
                                               "\"workspace_id\":\"" KIT_WORKSPACE
                                               "\",\"generation\":\"%llu\",\"issued_at\":\"2026-01-02T03:04:05Z\",\"deadline_seconds\":99,"
                                               "\"spec\":{\"runtime\":\"codex\",\"platform_url\":\"https://"
                                               "p.example\",\"kind\":\"platform\",\"data_persistence\":\"persist\"}}",
                                               (unsigned long long) generation);
        JobLabel label = {};
        Job *j = NULL;

        if (job_parse(text, strlen(text), &rules, &label, &j, NULL) < 0)
                abort();
        job_keep(j, copy_of(text), strlen(text));
        return j;
}

static Version *version(uint64_t generation) {
        _cleanup_(job_freep) Job *j = job(generation);
        Version *v = version_new(j, "registry.example/a@" KIT_DIGEST);

        if (!v)
                abort();
        return v;
}

static Work *work(uint64_t generation) {
        _cleanup_(job_freep) Job *j = job(generation);
        Work *k = work_new(j, KIT_OTHER);

        if (!k)
                abort();
        return k;
}

/* With every member set to something that is not its default. */
static Workspace *full(void) {
        Workspace *w = workspace_new(KIT_WORKSPACE, 3);

        if (!w)
                abort();
        w->spec_floor = UINT64_MAX;
        w->restart_floor = 11;
        memset(w->spec_hash, 'a', 64);
        strcpy(w->spec_job_id, KIT_JOB);
        memset(w->restart_hash, 'b', 64);
        strcpy(w->restart_job_id, KIT_OTHER);
        w->roll_image_ref = copy_of("registry.example/r@" KIT_DIGEST_2);
        w->roll_over = copy_of("none");
        w->roll = kit_json("{\"job_id\":\"" KIT_OTHER "\",\"phase\":\"rolled_back\"}");
        w->stopped = true;
        w->erase_at = UINT64_MAX;
        w->port = 65535;
        w->removed = true;
        w->wanted = version(12);
        w->settled = version(10);
        w->wanted->failed = true;
        w->settled->own_image = true;
        w->settled->container_id = copy_of("c0ffee");
        w->work = work(12);
        w->work->local = w->work->prune = w->work->old_ran = w->work->started = w->work->reported = true;
        w->work->of_host = w->work->cancelled = true;
        w->work->spec_generation = 10;
        w->work->image_over = copy_of(KIT_DIGEST_2);
        w->work->old_port = 65534;
        w->work->phase = WORK_UNDOING;
        w->work->image_ref = copy_of("registry.example/b@" KIT_DIGEST_2);
        w->work->image_size_bytes = UINT64_MAX;
        w->work->container_id = copy_of("new");
        w->work->old_container_id = copy_of("old");
        (void) fault(&w->work->cause, -EIO, FAULT_CRASH_LOOP, "The words of the cause.");
        w->next = work(13);
        w->next->type = JOB_DEPROVISION;
        w->overtaken = work(15);
        w->outcome = kit_json("{\"report_id\":\"" KIT_OTHER "\",\"state\":\"failed\",\"result\":{\"a\":[1,2]}}");
        w->outcome_acked = true;
        return w;
}

static void check_version(const Version *a, const Version *b) {
        if (!CHECK(a && b))
                return;
        CHECK(a->generation == b->generation && a->tier == b->tier && a->failed == b->failed && a->own_image == b->own_image);
        CHECK_STR(a->job_id, b->job_id);
        CHECK_STR(a->runtime, b->runtime);
        CHECK_STR(a->kind, b->kind);
        CHECK_STR(a->data_persistence, b->data_persistence);
        CHECK_STR(a->image_ref, b->image_ref);
        CHECK_STR(a->container_id, b->container_id);
}

static void check_work(const Work *a, const Work *b) {
        if (!CHECK(a && b))
                return;
        CHECK_STR(a->job_id, b->job_id);
        CHECK_STR(a->delivery_id, b->delivery_id);
        CHECK_STR(a->accepted_report_id, b->accepted_report_id);
        CHECK_STR(a->image_ref, b->image_ref);
        CHECK_STR(a->container_id, b->container_id);
        CHECK_STR(a->old_container_id, b->old_container_id);
        CHECK(a->type == b->type && a->phase == b->phase && a->generation == b->generation && a->deadline_seconds == b->deadline_seconds);
        CHECK(a->local == b->local && a->prune == b->prune && a->old_ran == b->old_ran && a->started == b->started &&
              a->old_port == b->old_port);
        CHECK(a->of_host == b->of_host && a->cancelled == b->cancelled && a->spec_generation == b->spec_generation);
        CHECK_STR(a->image_over, b->image_over);
        CHECK(a->reported == b->reported && a->image_size_bytes == b->image_size_bytes);
        CHECK(a->cause.set == b->cause.set && a->cause.code == b->cause.code);
        CHECK_STR(a->cause.text, b->cause.text);
}

static bool same_json(const cJSON *a, const cJSON *b) {
        _cleanup_free_ char *x = a ? json_print(a) : NULL, *y = b ? json_print(b) : NULL;
        return str_equal(x, y);
}

static void check_same(const Workspace *a, const Workspace *b) {
        _cleanup_free_ char *x = a->outcome ? json_print(a->outcome) : NULL, *y = b->outcome ? json_print(b->outcome) : NULL;

        CHECK_STR(a->id, b->id);
        CHECK(a->spec_floor == b->spec_floor && a->restart_floor == b->restart_floor && a->port == b->port);
        CHECK(a->first_generation == b->first_generation && b->first_generation == 3);
        CHECK(a->removed == b->removed && a->outcome_acked == b->outcome_acked);
        CHECK_STR(a->spec_hash, b->spec_hash);
        CHECK_STR(a->spec_job_id, b->spec_job_id);
        CHECK_STR(a->restart_hash, b->restart_hash);
        CHECK_STR(a->restart_job_id, b->restart_job_id);
        CHECK_STR(a->roll_image_ref, b->roll_image_ref);
        CHECK_STR(a->roll_over, b->roll_over);
        CHECK(a->stopped == b->stopped && a->erase_at == b->erase_at && same_json(a->roll, b->roll));
        CHECK_STR(x, y);
}

TEST(a_full_record_there_and_back) {
        _cleanup_dir_ TestDir d = test_dir();
        const WorkspaceDir dir = { d.fd };
        _cleanup_(workspace_freep) Workspace *w = full(), *back = NULL;

        CHECK_INT(workspace_save(&dir, w, NULL), 0);
        if (!CHECK_INT(workspace_load(&dir, KIT_WORKSPACE, &back, NULL), 0))
                return;
        check_same(w, back);
        check_version(w->wanted, back->wanted);
        check_version(w->settled, back->settled);
        check_work(w->work, back->work);
        check_work(w->next, back->next);
        check_work(w->overtaken, back->overtaken);
        CHECK_STR(back->wanted->kind, "platform");
        CHECK_STR(back->wanted->data_persistence, "persist");
        CHECK_INT(back->work->deadline_seconds, 99);
        CHECK_STR(back->work->delivery_id, KIT_OTHER);
        CHECK(uuid_is_valid(back->work->accepted_report_id));
        CHECK_INT(workspace_generation(back), 12);
}

TEST(an_empty_record_there_and_back) {
        _cleanup_dir_ TestDir d = test_dir();
        const WorkspaceDir dir = { d.fd };
        _cleanup_(workspace_freep) Workspace *w = workspace_new(KIT_WORKSPACE, 3), *back = NULL;

        CHECK_INT(workspace_save(&dir, w, NULL), 0);
        if (!CHECK_INT(workspace_load(&dir, KIT_WORKSPACE, &back, NULL), 0))
                return;
        check_same(w, back);
        CHECK(!back->wanted && !back->settled && !back->work && !back->next && !back->outcome);
        CHECK_INT(workspace_generation(back), 0);
}

TEST(every_phase_and_every_cause_there_and_back) {
        _cleanup_dir_ TestDir d = test_dir();
        const WorkspaceDir dir = { d.fd };

        for (int i = 0; i < _FAULT_CODE_MAX; i++) {
                _cleanup_(workspace_freep) Workspace *w = full(), *back = NULL;

                w->work->phase = (WorkPhase) (i % _WORK_PHASE_MAX);
                w->work->cause = (Fault) {};
                (void) fault(&w->work->cause, -EIO, (FaultCode) i, "Words number %d.", i);
                CHECK_INT(workspace_save(&dir, w, NULL), 0);
                if (CHECK_INT(workspace_load(&dir, KIT_WORKSPACE, &back, NULL), 0))
                        check_work(w->work, back->work);
        }
}

TEST(the_generation_shown) {
        _cleanup_(workspace_freep) Workspace *w = workspace_new(KIT_WORKSPACE, 3);

        w->settled = version(3);
        CHECK_INT(workspace_generation(w), 3);
        w->wanted = version(5);
        CHECK_INT(workspace_generation(w), 5);
}

/* ── damage ──────────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(every_flipped_bit_is_seen) {
        _cleanup_dir_ TestDir d = test_dir();
        const WorkspaceDir dir = { d.fd };
        _cleanup_(workspace_freep) Workspace *w = full();
        _cleanup_free_ char *text = NULL;
        size_t size = 0, missed = 0;

        CHECK_INT(workspace_save(&dir, w, NULL), 0);
        CHECK_INT(file_read(d.fd, KIT_WORKSPACE, 1 << 20, &text, &size), 0);
        CHECK(size > 1000);
        for (size_t bit = 0; bit < size * 8; bit++) {
                Workspace *back = NULL;
                Fault f = {};
                int r;

                text[bit / 8] ^= (char) (1 << bit % 8);
                test_dir_write(&d, KIT_WORKSPACE, text, size);
                r = workspace_load(&dir, KIT_WORKSPACE, &back, &f);
                missed += (r != -EBADMSG && r != -EPROTONOSUPPORT) || !f.set || back;
                text[bit / 8] ^= (char) (1 << bit % 8);
        }
        CHECK_INT(missed, 0);
}

TEST(cut_short_or_lengthened) {
        _cleanup_dir_ TestDir d = test_dir();
        const WorkspaceDir dir = { d.fd };
        _cleanup_(workspace_freep) Workspace *w = full();
        _cleanup_free_ char *text = NULL, *longer = NULL;
        Workspace *back = NULL;
        size_t size = 0, missed = 0;

        CHECK_INT(workspace_save(&dir, w, NULL), 0);
        CHECK_INT(file_read(d.fd, KIT_WORKSPACE, 1 << 20, &text, &size), 0);
        for (size_t n = 0; n < size; n += 7) {
                test_dir_write(&d, KIT_WORKSPACE, text, n);
                missed += workspace_load(&dir, KIT_WORKSPACE, &back, NULL) != -EBADMSG;
        }
        CHECK_INT(missed, 0);
        longer = str_printf("%s ", text);
        test_dir_text(&d, KIT_WORKSPACE, longer);
        CHECK_INT(workspace_load(&dir, KIT_WORKSPACE, &back, NULL), -EBADMSG);
        CHECK(back == NULL);
}

TEST(absent_or_another_s) {
        _cleanup_dir_ TestDir d = test_dir();
        const WorkspaceDir dir = { d.fd };
        _cleanup_(workspace_freep) Workspace *w = workspace_new(KIT_WORKSPACE, 3);
        Workspace *back = NULL;
        Fault f = {};

        CHECK_INT(workspace_load(&dir, KIT_WORKSPACE, &back, &f), -ENOENT);
        CHECK(!f.set);
        CHECK_INT(workspace_save(&dir, w, NULL), 0);
        CHECK_INT(renameat(d.fd, KIT_WORKSPACE, d.fd, KIT_OTHER), 0);
        CHECK_INT(workspace_load(&dir, KIT_OTHER, &back, &f), -EBADMSG);
        CHECK(f.set && back == NULL);
}

static cJSON *record_json(void) {
        _cleanup_dir_ TestDir d = test_dir();
        const WorkspaceDir dir = { d.fd };
        _cleanup_(workspace_freep) Workspace *w = full();
        cJSON *json = NULL;

        if (workspace_save(&dir, w, NULL) < 0 || record_read(d.fd, KIT_WORKSPACE, "workspace", 1 << 20, &json, NULL) < 0)
                abort();
        return json;
}

TEST(what_no_version_of_ours_wrote) {
        static const struct { const char *where, *field, *value; } table[] = {
                { NULL, "colour", "1" },
                { "wanted", "colour", "1" },
                { "settled", "colour", "null" },
                { "work", "colour", "{}" },
                { "next", "colour", "[]" },
                { "overtaken", "colour", "1" },
                { NULL, "workspace_id", NULL },
                { NULL, "spec_floor", NULL },
                { NULL, "spec_floor", "7" },
                { NULL, "port", "65536" },
                { NULL, "port", "-1" },
                { NULL, "removed", "0" },
                { NULL, "outcome", "[]" },
                { NULL, "spec_hash", "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"" },
                { NULL, "work", "[]" },
                { "wanted", "tier", "5" },
                { "wanted", "generation", "\"x\"" },
                { "wanted", "runtime", NULL },
                { "work", "type", "\"workspace.x\"" },
                { "work", "phase", "\"asleep\"" },
                { "work", "phase", NULL },
                { "work", "cause", "{\"code\":\"no_such_code\",\"message\":\"m\"}" },
                { "work", "cause", "{\"code\":\"internal\"}" },
                { "work", "job_id", "\"x\"" },
                { "next", "reported", NULL },
                { NULL, "first_generation", NULL },
                { "work", "old_port", "65536" },
                { "work", "started", "1" },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_json_ cJSON *json = record_json();
                Workspace *w = NULL;
                Fault f = {};

                kit_set(table[i].where ? (cJSON *) json_get(json, table[i].where) : json, table[i].field, table[i].value);
                if (!CHECK(workspace_from_json(json, &w, &f) < 0) || !CHECK(f.set && !w))
                        printf("#   in: %s %s %s\n", table[i].where ?: "", table[i].field, table[i].value ?: "(absent)");
        }
}

TEST(a_directory_that_cannot_be_written_is_state_degraded) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        const WorkspaceDir dir = { .fd = -1, .vault = k.vault };
        _cleanup_(workspace_freep) Workspace *w = full();
        _cleanup_(job_freep) Job *j = job(7);
        Fault f = {}, g = {};

        CHECK(workspace_save(&dir, w, &f) < 0);
        CHECK_STR(kit_code(&f), "state_degraded");
        CHECK(payload_save(&dir, KIT_WORKSPACE, j, &g) < 0);
        CHECK_STR(kit_code(&g), "state_degraded");
}

/* ── beside the record ───────────────────────────────────────────────────────────────────────────────────────── */

static bool holds(const SealedKit *k, const char *name, const char *text) {
        _cleanup_free_ char *file = NULL;
        size_t size;

        return CHECK_INT(file_read(k->d.fd, name, 1 << 20, &file, &size), 0) && memmem(file, size, text, strlen(text));
}

TEST(payloads_lie_sealed) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        const WorkspaceDir dir = { .fd = k.d.fd, .vault = k.vault };
        _cleanup_(job_freep) Job *j = job(7), *back = NULL;
        const JobRules other = { .org_id = KIT_OTHER, .host_id = KIT_HOST, .spec = { .max_tier = 2 } };
        Job *none = NULL;
        Fault f = {}, g = {};

        CHECK_INT(payload_save(&dir, KIT_WORKSPACE, j, NULL), 0);
        CHECK(!holds(&k, KIT_WORKSPACE ".g7.payload", "codex"));
        if (CHECK_INT(payload_load(&dir, KIT_WORKSPACE, 7, &rules, &back, NULL), 0) && CHECK(back && j)) {
                CHECK_STR(back->payload_hash, j->payload_hash);
                CHECK(!back->payload);          /* it is on disk, once */
        }
        CHECK_INT(payload_load(&dir, KIT_WORKSPACE, 8, &rules, &none, &f), -ENOENT);
        CHECK(f.set && !none);
        CHECK_INT(payload_load(&dir, KIT_WORKSPACE, 7, &other, &none, NULL), -EPERM);
        CHECK_INT(renameat(k.d.fd, KIT_WORKSPACE ".g7.payload", k.d.fd, KIT_WORKSPACE ".g8.payload"), 0);
        CHECK_INT(payload_load(&dir, KIT_WORKSPACE, 8, &rules, &none, &g), -EBADMSG);
        CHECK(strstr(g.text, "wrong_generation"));
        test_dir_text(&k.d, KIT_WORKSPACE ".g7.payload", j->payload);           /* in clear: not ours */
        CHECK_INT(payload_load(&dir, KIT_WORKSPACE, 7, &rules, &none, NULL), -EBADMSG);
}

TEST(undo_sets_lie_sealed) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        const WorkspaceDir dir = { .fd = k.d.fd, .vault = k.vault };
        _cleanup_json_ cJSON *json = kit_json("{\"files\":{\"a\":\"AAE=\"},\"absent\":[\"b\"]}"), *back = NULL, *none = NULL;
        _cleanup_free_ char *wanted = json_print(json), *found = NULL;

        CHECK_INT(undo_load(&dir, KIT_WORKSPACE, 7, &none, NULL), -ENOENT);
        CHECK_INT(undo_save(&dir, KIT_WORKSPACE, 7, json, NULL), 0);
        CHECK(!holds(&k, KIT_WORKSPACE ".g7.undo", "AAE="));
        CHECK_INT(undo_load(&dir, KIT_WORKSPACE, 7, &back, NULL), 0);
        found = json_print(back);
        CHECK_STR(found, wanted);
        test_dir_text(&k.d, KIT_WORKSPACE ".g7.undo", found);
        CHECK_INT(undo_load(&dir, KIT_WORKSPACE, 7, &none, NULL), -EBADMSG);
        CHECK_INT(undo_save(&dir, KIT_WORKSPACE, 7, json, NULL), 0);
        CHECK_INT(renameat(k.d.fd, KIT_WORKSPACE ".g7.undo", k.d.fd, KIT_WORKSPACE ".g7.payload"), 0);
        CHECK_INT(payload_load(&dir, KIT_WORKSPACE, 7, &rules, &(Job *) { NULL }, NULL), -EBADMSG);     /* one is not the other */
}

static const struct { const char *name; bool named; } files[] = {
        { KIT_WORKSPACE, true },
        { KIT_WORKSPACE ".g1.payload", false },
        { KIT_WORKSPACE ".g10.payload", true },
        { KIT_WORKSPACE ".g11.payload", false },
        { KIT_WORKSPACE ".g12.payload", true },
        { KIT_WORKSPACE ".g13.payload", true },
        { KIT_WORKSPACE ".g14.payload", true },
        { KIT_WORKSPACE ".g15.payload", false },
        { KIT_WORKSPACE ".g10.undo", false },
        { KIT_WORKSPACE ".g13.undo", true },
        { KIT_WORKSPACE ".g14.undo", false },
        { KIT_OTHER, true },
        { KIT_OTHER ".g1.payload", true },
        { KIT_OTHER ".g1.undo", true },
        { KIT_WORKSPACE ".gx.payload", true },
        { KIT_WORKSPACE ".g01.payload", true },
        { KIT_WORKSPACE ".g99999999999999999999.undo", true },
        { KIT_WORKSPACE ".txt", true },
        { "README", true },
};

/* settled 10, wanted 12, at work 13, waiting 14. */
static Workspace *four_generations(void) {
        Workspace *w = workspace_new(KIT_WORKSPACE, 3);

        if (!w)
                abort();
        w->settled = version(10);
        w->wanted = version(12);
        w->work = work(13);
        w->next = work(14);
        return w;
}

TEST(which_files_a_record_names) {
        _cleanup_(workspace_freep) Workspace *w = four_generations();

        for (size_t i = 0; i < ELEMENTS(files); i++)
                if (!CHECK(workspace_names(w, files[i].name) == files[i].named))
                        printf("#   in: %s\n", files[i].name);
}

TEST(tidying_takes_what_nothing_names) {
        _cleanup_dir_ TestDir d = test_dir();
        const WorkspaceDir dir = { d.fd };
        _cleanup_(workspace_freep) Workspace *w = four_generations();

        for (size_t i = 0; i < ELEMENTS(files); i++)
                test_dir_text(&d, files[i].name, "x");
        workspace_tidy(&dir, w, 11);
        CHECK(!test_dir_has(&d, KIT_WORKSPACE ".g11.payload") && test_dir_has(&d, KIT_WORKSPACE ".g1.payload"));
        for (uint64_t g = 0; g < 20; g++)
                workspace_tidy(&dir, w, g);
        for (size_t i = 0; i < ELEMENTS(files); i++)
                if (!CHECK(test_dir_has(&d, files[i].name) == files[i].named))
                        printf("#   in: %s\n", files[i].name);
}

int main(void) { return hash_init() < 0 ? 1 : test_run_all(); }
