/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "engine/registry-auth.h"
#include "tests/test.h"

#define DIGEST "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define REF    "registry.example.com/team/runtime" DIGEST

static char path[] = P_tmpdir "/test-registry-auth.XXXXXX";

static void write_it(const char *text) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
        CHECK_INT(file_write_full(fd, text, strlen(text)), 0);
}

/* The header's JSON; NULL where there is none. */
static cJSON *asked(const char *ref) {
        _cleanup_free_ char *header = NULL;
        _cleanup_free_ uint8_t *text = NULL;
        cJSON *json = NULL;
        Fault why = {};
        size_t n;

        CHECK_INT(registry_auth_header(path, ref, &header, &why), 0);
        if (!header)
                return NULL;
        CHECK(!strpbrk(header, "+/"));
        for (char *c = header; *c; c++)
                *c = *c == '-' ? '+' : *c == '_' ? '/'
                                                 : *c;
        CHECK_INT(base64_decode(header, 65536, &text, &n), 0);
        CHECK_INT(json_parse((char *) text, n, &json, NULL), 0);
        return json;
}

static void refused(const char *text, const char *secret) {
        _cleanup_free_ char *header = NULL;
        Fault why = {};

        write_it(text);
        CHECK(registry_auth_header(path, REF, &header, &why) < 0);
        CHECK(!header);
        CHECK_INT(why.code, FAULT_IMAGE_AUTH);
        CHECK(strstr(why.text, path) != NULL);
        CHECK(!secret || !strstr(why.text, secret));
}

TEST(basic) {
        _cleanup_json_ cJSON *json = NULL;

        write_it("{\"auths\": {\"registry.example.com\": {\"auth\": \"Ym90OnM6ZWM/cmV0\"}}, \"credsStore\": \"ecr-login\"}"); /* bot:s:ec?ret */
        json = asked(REF);
        CHECK_STR(json_get_string(json, "username"), "bot");
        CHECK_STR(json_get_string(json, "password"), "s:ec?ret");
        CHECK_STR(json_get_string(json, "serveraddress"), "registry.example.com");
}

TEST(plain_and_tokens) {
        _cleanup_json_ cJSON *plain = NULL, *identity = NULL, *bearer = NULL;

        write_it("{\"auths\": {\"registry.example.com\": {\"username\": \"u\", \"password\": \"p\"}}}");
        plain = asked(REF);
        CHECK_STR(json_get_string(plain, "username"), "u");
        CHECK_STR(json_get_string(plain, "password"), "p");
        write_it("{\"auths\": {\"registry.example.com\": {\"auth\": \"Ym90Og==\", \"identitytoken\": \"t1\"}}}"); /* bot: */
        identity = asked(REF);
        CHECK_STR(json_get_string(identity, "identitytoken"), "t1");
        CHECK_STR(json_get_string(identity, "username"), "bot");
        write_it("{\"auths\": {\"registry.example.com\": {\"registrytoken\": \"t2\"}}}");
        bearer = asked(REF);
        CHECK_STR(json_get_string(bearer, "registrytoken"), "t2");
        CHECK(!json_get_string(bearer, "username"));
}

/* The entry that names most of the reference, whole parts only. */
TEST(which_entry) {
        static const struct { const char *ref, *user; } cases[] = {
                { "registry.example.com/team/runtime" DIGEST, "team" },
                { "registry.example.com/teams/runtime" DIGEST, "all" },
                { "registry.example.com:5000/team/x" DIGEST, "port" },
                { "registry.example.community/team/x" DIGEST, NULL },
                { "index.example.org/a/b" DIGEST, "old" },
                { "127.0.0.1:5000/a" DIGEST, NULL },
        };

        write_it("{\"auths\": {\"registry.example.com\": {\"username\": \"all\", \"password\": \"x\"},"
                 "\"registry.example.com/team/\": {\"username\": \"team\", \"password\": \"x\"},"
                 "\"registry.example.com:5000\": {\"username\": \"port\", \"password\": \"x\"},"
                 "\"https://index.example.org/v1/\": {\"username\": \"old\", \"password\": \"x\"}}}");
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_json_ cJSON *json = asked(cases[i].ref);
                CHECK_STR(json_get_string(json, "username"), cases[i].user);
        }
}

TEST(none) {
        _cleanup_free_ char *header = NULL;
        Fault why = {};

        CHECK_INT(registry_auth_header(NULL, REF, &header, &why), 0);
        CHECK(!header);
        CHECK_INT(registry_auth_header("/nonexistent/config.json", REF, &header, &why), 0);
        CHECK(!header && !why.set);
        write_it("{\"auths\": {}}");
        CHECK(!asked(REF));
}

TEST(malformed) {
        refused("", NULL);
        refused("[]", NULL);
        refused("{\"auths\": []}", NULL);
        refused("{\"auths\": {\"registry.example.com\": {}}}", NULL);
        refused("{\"auths\": {\"registry.example.com\": \"hunter2\"}}", "hunter2");
        refused("{\"auths\": {\"registry.example.com\": {\"auth\": \"hunter2!\"}}}", "hunter2");
        refused("{\"auths\": {\"registry.example.com\": {\"auth\": \"aHVudGVyMg==\"}}}", "hunter2"); /* no colon */
        refused("{\"auths\": {\"registry.example.com\": {\"auth\": \"YQBiOmM=\"}}}", NULL);          /* a NUL */
        refused("{\"auths\": {\"registry.example.com\": {\"username\": \"hunter2\"}", "hunter2");    /* cut off */
}

TEST(not_a_file) {
        _cleanup_free_ char *header = NULL;
        Fault why = {};

        CHECK(registry_auth_header("/", REF, &header, &why) < 0);
        CHECK_INT(why.code, FAULT_IMAGE_AUTH);
}

__attribute__((constructor(101))) static void begin(void) {
        int fd = mkstemp(path);

        if (fd < 0 || hash_init() < 0)
                abort();
        (void) close(fd);
}

__attribute__((destructor)) static void end(void) { (void) unlink(path); }

TEST_MAIN
