/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/ctl/aws.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/credentials.h"
#include "base/json.h"
#include "base/text.h"

#define ROLE_PATH   "meta-data/iam/security-credentials/"
#define ANSWER_MAX  (64 * 1024)
#define TIMEOUT     (UINT64_C(15) * 1000000)

/* As user-data of the platform's older hosts has them, in shell or in an env file. */
static const char *const provision_names[] = { "MOLECULE_CP_SHARED_SECRET", "PROVISION_SHARED_SECRET", "shared_secret", NULL };
static const char *const admin_names[] = { "ADMIN_TOKEN", "admin_token", NULL };

/* ── by the instance's role ──────────────────────────────────────────────────────────────────────────────────── */

typedef struct Role { char *key /* ID:SECRET */, *token /* a header line */; } Role;

static void role_done(Role *r) {
        free(r->key);                           /* wiped when freed: base/heap */
        free(r->token);
}

static int role_read(Imds *i, Role *ret, Fault *reterr) {
        _cleanup_json_ cJSON *json = NULL;
        _cleanup_free_ char *path = NULL;
        HttpReply reply = {};
        int r = imds_get(i, ROLE_PATH, &reply);

        if (r >= 0)
                path = str_printf(ROLE_PATH "%.*s", (int) strcspn(reply.body, "\r\n"), reply.body);
        http_reply_done(&reply);
        if (r >= 0)
                r = path ? imds_get(i, path, &reply) : -ENOMEM;
        if (r >= 0)
                r = json_parse(reply.body, reply.size, &json, NULL);
        http_reply_done(&reply);
        if (r >= 0 && (!json_get_string(json, "AccessKeyId") || !json_get_string(json, "SecretAccessKey") || !json_get_string(json, "Token")))
                r = -EPROTO;
        if (r < 0)
                return fault(reterr, r, FAULT_INTERNAL, "The instance has no role whose credentials it may use: give it the tenant's instance profile.");
        ret->key = str_printf("%s:%s", json_get_string(json, "AccessKeyId"), json_get_string(json, "SecretAccessKey"));
        ret->token = str_printf("X-Amz-Security-Token: %s", json_get_string(json, "Token"));
        return ret->key && ret->token ? 0 : -ENOMEM;
}

static char *endpoint(const char *region) {
        const char *other = getenv("AWS_ENDPOINT_URL_SECRETS_MANAGER");

        return other ? strdup(other) : str_printf("https://secretsmanager.%s.amazonaws.com%s/", region, strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
}

static int get_secret_value(const Imds *i, const Role *role, const char *name, HttpReply *ret, Fault *reterr) {
        _cleanup_(http_wait_freep) HttpWait *http = NULL;
        _cleanup_free_ char *url = endpoint(i->region), *body = str_printf("{\"SecretId\":\"%s\"}", name), *sign = str_printf("aws:amz:%s:secretsmanager", i->region);
        const char *headers[] = { "X-Amz-Target: secretsmanager.GetSecretValue", role->token, NULL };
        int r = url && body && sign ? http_wait_new(getenv("AWS_CA_BUNDLE"), &http) : -ENOMEM;

        if (r >= 0)
                r = http_wait(http, &(HttpRequest) { .method = "POST", .url = url, .content_type = "application/x-amz-json-1.1", .headers = headers, .body = body,
                                                     .body_size = strlen(body), .answer_max = ANSWER_MAX, .timeout_usec = TIMEOUT, .sigv4 = sign,
                                                     .sigv4_key = role->key, .flags = HTTP_NO_PROXY }, ret);
        if (r >= 0)
                r = ret->error;
        if (r < 0)
                return fault(reterr, r, FAULT_INTERNAL, "Secrets Manager could not be asked: %s.", ret->words[0] ? ret->words : strerror(-r));
        return 0;
}

/* Its error's type, "com.amazonaws…#ResourceNotFoundException", without what comes before '#'. */
static void error_word(const HttpReply *reply, char ret[static 64]) {
        _cleanup_json_ cJSON *json = NULL;
        const char *type = json_parse(reply->body, reply->size, &json, NULL) >= 0 ? json_get_string(json, "__type") : NULL, *hash = type ? strrchr(type, '#') : NULL;

        (void) snprintf(ret, 64, "%.63s", type ? (hash ? hash + 1 : type) : "no reason given");
        for (char *p = ret; *p; p++)
                if (!isalnum((unsigned char) *p) && *p != ' ')
                        *p = '?';
}

static int take_bundle(Arena *arena, const HttpReply *reply, AwsBootstrap *ret) {
        _cleanup_json_ cJSON *answer = NULL, *bundle = NULL;
        const char *text, *secret, *token;

        if (json_parse(reply->body, reply->size, &answer, NULL) < 0 || !(text = json_get_string(answer, "SecretString")) ||
            json_parse(text, strlen(text), &bundle, NULL) < 0)
                return -EBADMSG;
        secret = json_get_string(bundle, "shared_secret");
        token = json_get_string(bundle, "admin_token");
        ret->provision_secret = secret ? credential_from_text(arena, secret) : NULL;
        ret->admin_token = token ? credential_from_text(arena, token) : NULL;
        return ret->provision_secret && ret->admin_token ? 0 : -EBADMSG;
}

static int from_secrets_manager(Arena *arena, Imds *i, const char *name, AwsBootstrap *ret, Fault *reterr) {
        _cleanup_(role_done) Role role = {};
        HttpReply reply = {};
        char why[64];
        int r = role_read(i, &role, reterr);

        if (r >= 0)
                r = get_secret_value(i, &role, name, &reply, reterr);
        if (r >= 0 && reply.status != 200) {
                error_word(&reply, why);
                r = fault(reterr, -EACCES, FAULT_INTERNAL, "Secrets Manager does not give '%s': %s (HTTP %ld).", name, why, reply.status);
        } else if (r >= 0 && take_bundle(arena, &reply, ret) < 0)
                r = fault(reterr, -EBADMSG, FAULT_INTERNAL, "The secret '%s' is no bundle with shared_secret and admin_token.", name);
        http_reply_done(&reply);
        return r;
}

/* ── in user-data ────────────────────────────────────────────────────────────────────────────────────────────── */

/* NAME=VALUE or "NAME": VALUE, the value to its quote or white space; the arena's, or NULL. */
static Secret *find_value(Arena *arena, const char *text, const char *name) {
        size_t n = strlen(name);

        for (const char *p = strstr(text, name); p; p = strstr(p + 1, name)) {
                const char *v = p + n;
                _cleanup_free_ char *value = NULL;

                if (p > text && (isalnum((unsigned char) p[-1]) || p[-1] == '_'))
                        continue;
                v += strspn(v, "\"' ");
                if (*v != '=' && *v != ':')
                        continue;
                v += 1 + strspn(v + 1, "\"' ");
                value = strndup(v, strcspn(v, "\"' \t\r\n,;"));
                if (value && value[0] && value[0] != '$')
                        return credential_from_text(arena, value);
        }
        return NULL;
}

static Secret *find_any(Arena *arena, const char *text, const char *const *names) {
        Secret *found = NULL;

        for (; *names && !found; names++)
                found = find_value(arena, text, *names);
        return found;
}

static int user_data(Imds *i, Arena *arena, Secret **ret_provision, Secret **ret_admin) {
        HttpReply reply = {};
        int r = imds_get(i, "user-data", &reply);

        if (r >= 0 && strlen(reply.body) == reply.size) {       /* packed or binary: nothing to read there */
                *ret_provision = find_any(arena, reply.body, provision_names);
                *ret_admin = find_any(arena, reply.body, admin_names);
        }
        http_reply_done(&reply);
        return r;
}

bool aws_user_data_tells(Imds *i) {
        _cleanup_(arena_freep) Arena *arena = NULL;
        _cleanup_(secret_freep) Secret *provision = NULL, *admin = NULL;

        return arena_new(64 * 1024, true, &arena, NULL) >= 0 && user_data(i, arena, &provision, &admin) >= 0 && (provision || admin);
}

/* ── all of it ───────────────────────────────────────────────────────────────────────────────────────────────── */

static void tag(Imds *i, const char *name, char *ret, size_t size) {
        _cleanup_free_ char *path = str_printf("meta-data/tags/instance/%s", name);
        HttpReply reply = {};

        if (path && imds_get(i, path, &reply) >= 0 && reply.size < size)
                (void) snprintf(ret, size, "%s", reply.body);
        http_reply_done(&reply);
}

static int ask(Arena *arena, Imds *i, const char *name, const char *org_id, AwsBootstrap *ret, Fault *reterr) {
        _cleanup_free_ char *usual = NULL;
        int r = imds_document(i, reterr);

        if (r < 0)
                return r;
        tag(i, "OrgID", ret->org_id, sizeof ret->org_id);
        tag(i, "OrgSlug", ret->org_slug, sizeof ret->org_slug);
        if (org_id)
                (void) snprintf(ret->org_id, sizeof ret->org_id, "%s", org_id);
        if (!uuid_is_valid(ret->org_id))
                return fault(reterr, -ENODATA, FAULT_CONFIG_INVALID, "Whose host this is is not known: no --org-id, and no tag OrgID that is a UUID and that the "
                                                                     "metadata service may tell (InstanceMetadataTags=enabled).");
        usual = str_printf("molecule/tenant/%s/bootstrap", ret->org_id);
        r = usual ? from_secrets_manager(arena, i, name ?: usual, ret, reterr) : -ENOMEM;
        if (r >= 0)
                return 0;
        ret->provision_secret = secret_free(ret->provision_secret);
        ret->admin_token = secret_free(ret->admin_token);
        if (user_data(i, arena, &ret->provision_secret, &ret->admin_token) < 0 || !ret->provision_secret || !ret->admin_token)
                return r;
        ret->from_user_data = true;
        return 0;
}

int aws_bootstrap(Arena *arena, const Config *config, const char *name, const char *org_id, AwsBootstrap *ret, Fault *reterr) {
        Imds i = {};
        int r;

        if (strcmp(config->imds, "off") == 0 || !imds_is_expected(config->imds_url))
                return fault(reterr, -ENXIO, FAULT_CONFIG_INVALID, "This is no EC2 instance, or imds=off: enroll it with --provision-secret-file and --admin-token-file.");
        if (name && strpbrk(name, "\"\\"))
                return fault(reterr, -EINVAL, FAULT_CONFIG_INVALID, "The secret's name holds a character that no name has.");
        r = imds_open(&i, config->imds_url, reterr);
        if (r >= 0)
                r = ask(arena, &i, name, org_id, ret, reterr);
        imds_close(&i);
        return r;
}
