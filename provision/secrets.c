/* SPDX-License-Identifier: Apache-2.0 */

/* Values are in the arena for the length of one call and nowhere else in clear but on tmpfs. What is sealed can be made again from the payload as
 * long as the host's key that it was sealed to is known, so one damaged file costs nothing. */

#include "provision/secrets.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "provision/env.h"
#include "secrets/handover.h"

static int judge(const char *name, const Secret *value, size_t *sum, Fault *reterr) {
        if (value->size == 0)
                return fault(reterr, -EINVAL, FAULT_BAD_SECRET, "The secret %s is empty.", name);
        if (value->size > SEAL_SECRET_MAX)
                return fault(reterr, -E2BIG, FAULT_BAD_SECRET, "The secret %s is %zu bytes long; %zu are allowed.", name, value->size, SEAL_SECRET_MAX);
        if (memchr(value->data, 0, value->size))
                return fault(reterr, -EINVAL, FAULT_BAD_SECRET, "The secret %s holds a NUL byte.", name);
        if (env_value_is_marker(secret_text(value)))
                return fault(reterr, -EINVAL, FAULT_BAD_SECRET, "The secret %s is a disclosure marker, not a value.", name);
        *sum += value->size;
        if (*sum > SECRETS_SUM_MAX)
                return fault(reterr, -E2BIG, FAULT_TOO_LARGE, "The secrets are larger than %zu bytes in sum.", SECRETS_SUM_MAX);
        return 0;
}

static int add(SecretSet *set, const char *name, Secret *value, size_t *sum, Fault *reterr) {
        int r = value ? judge(name, value, sum, reterr) : fault(reterr, -ENOMEM, FAULT_INTERNAL, "The arena of secrets is full.");

        if (r < 0) {
                secret_free(value);
                return r;
        }
        if (set->n == SECRETS_MAX) {
                secret_free(value);
                return fault(reterr, -E2BIG, FAULT_TOO_LARGE, "There are more than %d secrets.", SECRETS_MAX);
        }
        r = secret_set_add(set, name, value);
        return r < 0 ? fault(reterr, r, FAULT_INTERNAL, "Out of memory.") : 0;
}

static int add_boxes(const WorkspaceSpec *s, const HostKeys *host, const char *workspace, SecretSet *set, size_t *sum, Fault *reterr) {
        for (size_t i = 0; i < s->n_boxes; i++) {
                const SpecBox *b = &s->boxes[i];
                Secret *value = NULL;
                int r;

                if (!host)
                        return fault(reterr, -ENOKEY, FAULT_SECRET_UNDECRYPTABLE, "This host has no key to open secrets with.");
                r = host_keys_open_box(host, s->sealed_to, workspace, b->name, b->data, b->size, &value, reterr);
                if (r < 0 || (r = add(set, b->name, value, sum, reterr)) < 0)
                        return r;
        }
        return 0;
}

int secrets_open(const WorkspaceSpec *s, const Settings *settings, const char *workspace, Arena *arena, SecretSet *ret, Fault *reterr) {
        _cleanup_(secret_set_done) SecretSet set = {};
        size_t sum = 0;
        int r = add_boxes(s, settings->host_keys, workspace, &set, &sum, reterr);

        for (size_t i = 0; r == 0 && i < s->n_env; i++)
                if (s->env[i].secret)
                        r = add(&set, s->env[i].name, secret_new(arena, s->env[i].value, strlen(s->env[i].value)), &sum, reterr);
        if (r < 0)
                return r;
        *ret = set;
        set = (SecretSet) {};
        return 0;
}

JobRules secrets_payload_rules(const Settings *s) {
        return (JobRules) { .org_id = s->org_id, .host_id = s->host_id, .spec = { .max_tier = 4 } };
}

/* The set out of the job's own words, sealed. */
static int make_set(const WorkspaceDir *d, const Settings *settings, const char *workspace, uint64_t generation, const WorkspaceSpec *spec,
                    SecretSet *ret, Fault *reterr) {
        _cleanup_(job_freep) Job *job = NULL;
        int r = 0;

        if (!spec) {
                JobRules rules = secrets_payload_rules(settings);

                r = payload_load(d, workspace, generation, &rules, &job, reterr);
                if (r < 0)
                        return r == -ENOENT ? -EBADMSG : r;
                if (job->type != JOB_PROVISION)
                        return fault(reterr, -EBADMSG, FAULT_INTERNAL, "The payload is of another type of job.");
                spec = job->spec;
        }
        r = secrets_open(spec, settings, workspace, vault_arena(d->vault), ret, reterr);
        if (r < 0)
                return r;
        r = vault_set_write(d->vault, workspace, generation, ret, reterr);
        if (r < 0)
                secret_set_done(ret);
        return r;
}

int secrets_hand_over(const WorkspaceDir *d, const Settings *settings, const char *workspace, uint64_t generation, const WorkspaceSpec *spec,
                      Fault *reterr) {
        _cleanup_(secret_set_done) SecretSet set = {};
        Fault damaged = {};
        int r;

        /* The job's own words where they open: a set of its generation may be another job's, of a record that was lost. */
        if (spec && secrets_open(spec, settings, workspace, vault_arena(d->vault), &set, NULL) == 0) {
                r = vault_set_write(d->vault, workspace, generation, &set, reterr);
                return r < 0 ? r : handover_write(settings->runtime_path, workspace, generation, &set, reterr);
        }
        r = vault_set_open(d->vault, workspace, generation, &set, &damaged);
        if (r == -EBADMSG) {
                log_write(LOG_ERR, &(LogFields) { .workspace_id = workspace, .fault = &damaged },
                          "The sealed secrets of generation %llu are set aside and made anew: %s", (unsigned long long) generation, damaged.text);
                (void) vault_set_aside(d->vault, workspace, generation, damaged.text);  /* ignoring: writing anew tries again and says why */
        }
        if (r == -EBADMSG || r == -ENOENT)
                r = make_set(d, settings, workspace, generation, spec, &set, reterr);
        else if (r < 0 && reterr)
                *reterr = damaged;
        return r < 0 ? r : handover_write(settings->runtime_path, workspace, generation, &set, reterr);
}

int secrets_hand_over_again(const WorkspaceDir *d, const Settings *settings, const char *workspace, uint64_t generation, Fault *reterr) {
        Fault why = {};
        int r = secrets_hand_over(d, settings, workspace, generation, NULL, &why);

        if (r >= 0)
                return 0;
        if (handover_is_whole(settings->runtime_path, workspace, generation)) {
                log_write(LOG_ERR, &(LogFields) { .workspace_id = workspace, .fault = &why },
                          "What is in memory is handed over again, for the sealed secrets cannot be read: %s", why.text);
                return 0;
        }
        if (reterr)
                *reterr = why;
        return r;
}
