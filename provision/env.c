/* SPDX-License-Identifier: Apache-2.0 */

/* The tables are the rules; the functions only walk them. A job that breaks one is refused with the names of all keys that do, so that
 * one answer mends it. */

#include "provision/env.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DISCLOSURE_MARKER "ROTATE_TO_REVEAL_TOKEN"

typedef enum EnvMatch { NAME_IS, NAME_BEGINS } EnvMatch;

typedef enum EnvRule {
        ENV_NEVER,                      /* the platform's own credentials, the loader's and the agent's own names */
        ENV_PLATFORM_ONLY,              /* only kind:platform may carry it */
        ENV_IF_WORKSPACE_AUTHORED,      /* only when listed in workspace_secret_keys */
        ENV_SET_BY_AGENT,               /* ours to set: bad_env */
} EnvRule;

static const struct { EnvMatch match; EnvRule rule; const char *name; } rules[] = {
        { NAME_IS, ENV_PLATFORM_ONLY, "ADMIN_TOKEN" },
        { NAME_IS, ENV_NEVER, "MOLECULE_ADMIN_TOKEN" },
        { NAME_IS, ENV_NEVER, "CP_ADMIN_API_TOKEN" },
        { NAME_IS, ENV_NEVER, "CP_ADMIN_TOKEN" },
        { NAME_IS, ENV_NEVER, "CP_PROMOTE_PROD_API_TOKEN" },
        { NAME_IS, ENV_NEVER, "PROVISION_SHARED_SECRET" },
        { NAME_IS, ENV_NEVER, "MOLECULE_CP_SHARED_SECRET" },
        { NAME_IS, ENV_NEVER, "SECRETS_ENCRYPTION_KEY" },
        { NAME_IS, ENV_NEVER, "MOLECULE_TEMPLATE_REPO_TOKEN" },
        { NAME_IS, ENV_NEVER, "AWS_ACCESS_KEY_ID" },
        { NAME_IS, ENV_NEVER, "AWS_SECRET_ACCESS_KEY" },
        { NAME_IS, ENV_NEVER, "AWS_SESSION_TOKEN" },
        { NAME_IS, ENV_NEVER, "GHCR_PULL_TOKEN" },
        { NAME_IS, ENV_NEVER, "INFISICAL_OPERATOR_TOKEN" },
        { NAME_IS, ENV_NEVER, "INFISICAL_BOOTSTRAP_TOKEN" },
        { NAME_IS, ENV_NEVER, "INFISICAL_CLIENT_ID" },
        { NAME_IS, ENV_NEVER, "INFISICAL_CLIENT_SECRET" },
        { NAME_IS, ENV_NEVER, "RAILWAY_TOKEN" },
        { NAME_IS, ENV_NEVER, "RAILWAY_PERSONAL_API_TOKEN" },
        { NAME_IS, ENV_NEVER, "HETZNER_TOKEN" },
        { NAME_IS, ENV_NEVER, "HETZNER_API_TOKEN" },
        { NAME_BEGINS, ENV_NEVER, "MOLECULE_OPERATOR_" },
        { NAME_IS, ENV_IF_WORKSPACE_AUTHORED, "GITEA_TOKEN" },
        { NAME_IS, ENV_IF_WORKSPACE_AUTHORED, "GITEA_PAT" },
        { NAME_IS, ENV_IF_WORKSPACE_AUTHORED, "GITHUB_TOKEN" },
        { NAME_IS, ENV_IF_WORKSPACE_AUTHORED, "GITHUB_PAT" },
        { NAME_IS, ENV_IF_WORKSPACE_AUTHORED, "GH_TOKEN" },
        { NAME_IS, ENV_IF_WORKSPACE_AUTHORED, "GITLAB_TOKEN" },
        { NAME_IS, ENV_IF_WORKSPACE_AUTHORED, "GL_TOKEN" },
        { NAME_IS, ENV_IF_WORKSPACE_AUTHORED, "BITBUCKET_TOKEN" },
        { NAME_BEGINS, ENV_NEVER, "LD_" },
        { NAME_IS, ENV_NEVER, "GCONV_PATH" },
        { NAME_IS, ENV_NEVER, "GLIBC_TUNABLES" },
        { NAME_IS, ENV_NEVER, "BASH_ENV" },
        { NAME_IS, ENV_NEVER, "NOTIFY_SOCKET" },
        { NAME_BEGINS, ENV_NEVER, "LISTEN_" },
        { NAME_BEGINS, ENV_NEVER, "WATCHDOG_" },
        { NAME_IS, ENV_NEVER, "CREDENTIALS_DIRECTORY" },
        { NAME_IS, ENV_SET_BY_AGENT, "manifest" },     /* the file manifest.seal of a set of secrets is taken */
        { NAME_IS, ENV_SET_BY_AGENT, "WORKSPACE_ID" },
        { NAME_IS, ENV_SET_BY_AGENT, "WORKSPACE_CONFIG_PATH" },
        { NAME_IS, ENV_SET_BY_AGENT, "PLATFORM_URL" },
        { NAME_IS, ENV_SET_BY_AGENT, "MOLECULE_URL" },
        { NAME_IS, ENV_SET_BY_AGENT, "TIER" },
        { NAME_IS, ENV_SET_BY_AGENT, "PLUGINS_DIR" },
        { NAME_IS, ENV_SET_BY_AGENT, "PYTHONPATH" },
        { NAME_IS, ENV_SET_BY_AGENT, "MOLECULE_WORKSPACE_URL" },
};

bool env_name_is_valid(const char *name) {
        size_t n = strlen(name);

        if (n < 1 || n > 128 || isdigit((unsigned char) name[0]))
                return false;
        for (const char *p = name; *p; p++)
                if (!(*p >= 'a' && *p <= 'z') && !(*p >= 'A' && *p <= 'Z') && !(*p >= '0' && *p <= '9') && *p != '_')
                        return false;
        return true;
}

bool env_name_is_secret(const char *name) {
        return strcasestr(name, "TOKEN") || strcasestr(name, "SECRET") || strcasestr(name, "KEY") || strcasestr(name, "PASSWORD");
}

static bool list_has(const StringList *l, const char *name) {
        for (size_t i = 0; i < l->n; i++)
                if (strcmp(l->items[i], name) == 0)
                        return true;
        return false;
}

/* Which rule forbids the name in this spec; -1: none. */
static int rule_broken(const WorkspaceSpec *s, const char *name) {
        for (size_t i = 0; i < ELEMENTS(rules); i++) {
                bool hit = rules[i].match == NAME_IS ? strcmp(name, rules[i].name) == 0
                                                     : strncmp(name, rules[i].name, strlen(rules[i].name)) == 0;
                if (!hit)
                        continue;
                if (rules[i].rule == ENV_PLATFORM_ONLY && spec_is_platform(s))
                        return -1;
                if (rules[i].rule == ENV_IF_WORKSPACE_AUTHORED && list_has(&s->workspace_secret_keys, name))
                        return -1;
                return (int) rules[i].rule;
        }
        return -1;
}

/* Names, separated by commas, as many as fit. */
typedef struct NameList { char text[256]; size_t used; } NameList;

static void names_add(NameList *l, const char *name) {
        int n = snprintf(l->text + l->used, sizeof l->text - l->used, "%s%s", l->used ? ", " : "", name);
        if (n > 0 && l->used + (size_t) n < sizeof l->text)
                l->used += (size_t) n;
        else
                l->text[l->used] = 0;
}

typedef struct Judged { NameList forbidden, ours, twice; } Judged;

static int judge_name(const WorkspaceSpec *s, const char *name, Judged *j, Fault *reterr) {
        int rule;

        if (!env_name_is_valid(name))
                return fault(reterr, -EINVAL, FAULT_BAD_ENV, "An env name of %zu bytes is not valid ([A-Za-z_][A-Za-z0-9_]*, up to 128).",
                             strlen(name));
        rule = rule_broken(s, name);
        if (rule == ENV_SET_BY_AGENT)
                names_add(&j->ours, name);
        else if (rule >= 0)
                names_add(&j->forbidden, name);
        return 0;
}

static const EnvEntry *env_find(const WorkspaceSpec *s, const char *name) {
        for (size_t i = 0; i < s->n_env; i++)
                if (strcmp(s->env[i].name, name) == 0)
                        return &s->env[i];
        return NULL;
}

static bool has_box(const WorkspaceSpec *s, const char *name) {
        for (size_t i = 0; i < s->n_boxes; i++)
                if (strcmp(s->boxes[i].name, name) == 0)
                        return true;
        return false;
}

static int check_names(const WorkspaceSpec *s, Fault *reterr) {
        Judged j = {};
        int r = 0;

        for (size_t i = 0; r == 0 && i < s->n_env; i++)
                r = judge_name(s, s->env[i].name, &j, reterr);
        for (size_t i = 0; r == 0 && i < s->n_boxes; i++) {
                r = judge_name(s, s->boxes[i].name, &j, reterr);
                if (env_find(s, s->boxes[i].name))
                        names_add(&j.twice, s->boxes[i].name);
        }
        if (r < 0)
                return r;
        if (j.forbidden.used)
                return fault(reterr, -EPERM, FAULT_PRIVILEGED_ENV_FORBIDDEN, "These env keys must not reach a workspace: %s.",
                             j.forbidden.text);
        if (j.ours.used)
                return fault(reterr, -EINVAL, FAULT_BAD_ENV, "These env keys are set by the agent itself: %s.", j.ours.text);
        if (j.twice.used)
                return fault(reterr, -EINVAL, FAULT_BAD_ENV, "These keys are both in env and in secrets: %s.", j.twice.text);
        return 0;
}

bool env_value_is_marker(const char *value) { return strstr(value, DISCLOSURE_MARKER); }

static int check_values(const WorkspaceSpec *s, Fault *reterr) {
        size_t sum = 0;

        for (size_t i = 0; i < s->n_env; i++) {
                size_t n = strlen(s->env[i].value);

                if (n > ENV_VALUE_MAX)
                        return fault(reterr, -E2BIG, FAULT_BAD_ENV, "The value of %s is %zu bytes long; %d are allowed.", s->env[i].name, n,
                                     ENV_VALUE_MAX);
                if (env_value_is_marker(s->env[i].value))
                        return fault(reterr, -EINVAL, FAULT_BAD_SECRET, "The value of %s is a disclosure marker, not a value.",
                                     s->env[i].name);
                sum += strlen(s->env[i].name) + n + 2;
        }
        if (sum > ENV_SUM_MAX)
                return fault(reterr, -E2BIG, FAULT_BAD_ENV, "The env is %zu bytes in sum; %d are allowed.", sum, ENV_SUM_MAX);
        return 0;
}

static int check_required(const WorkspaceSpec *s, Fault *reterr) {
        NameList missing = {};

        for (size_t i = 0; i < s->required_env.n; i++) {
                const char *name = s->required_env.items[i];
                const EnvEntry *e = env_find(s, name);

                if ((!e || !e->value[0]) && !has_box(s, name))  /* an empty box is refused as a bad secret */
                        names_add(&missing, name);
        }
        if (missing.used)
                return fault(reterr, -EINVAL, FAULT_MISSING_REQUIRED_ENV, "Required env keys are absent or empty: %s.", missing.text);
        return 0;
}

int env_check(const WorkspaceSpec *s, Fault *reterr) {
        int r;

        r = check_names(s, reterr);
        if (r < 0)
                return r;
        r = check_values(s, reterr);
        if (r < 0)
                return r;
        return check_required(s, reterr);
}
