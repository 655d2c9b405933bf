/* SPDX-License-Identifier: Apache-2.0 */

/* engine/image-ref: which references are pinned, and which registries an entry of the allow-list means. */

#include "engine/image.h"
#include "tests/test.h"

#define D "sha256:5ec8cbacaa2f4ba193cf83b003e2a2e0e944d4c6fa1b78f7b3eb2a96fe61cc41"

TEST(references_that_are_pinned) {
        static const char *const good[] = {
                "registry.example.com/x@" D, "registry.example.com:5000/a/b/c@" D, "127.0.0.1:5000/molecule/test@" D, "localhost/x@" D,
                "localhost:5000/x@" D, "r.io/a-b/c_d/e.f/g__h/i---j@" D, "r.io/x:tag@" D, "r.io/x:_v1.2-rc@" D, "R.Example.COM/x@" D,
        };

        for (size_t i = 0; i < ELEMENTS(good); i++)
                if (!CHECK(image_ref_is_pinned(good[i])))
                        printf("#   %s\n", good[i]);
}

TEST(incident_8_references_that_are_not) {
        static const char *const bad[] = {
                "", "@", "@" D, "/@" D, "x@" D, "x/y@" D, "registry.example.com/x", "registry.example.com/x:tag",
                "registry.example.com/x@sha256:abc",
                "registry.example.com/x@" D "0",
                "registry.example.com/x@sha512:" "5ec8cbacaa2f4ba193cf83b003e2a2e0e944d4c6fa1b78f7b3eb2a96fe61cc41",
                "registry.example.com/x@sha256:5EC8cbacaa2f4ba193cf83b003e2a2e0e944d4c6fa1b78f7b3eb2a96fe61cc41",
                "registry.example.com/@" D,
                "registry.example.com//x@" D, "registry.example.com/x/@" D, "registry.example.com/X@" D, "registry.example.com/a..b@" D,
                "registry.example.com/a___b@" D, "registry.example.com/a._b@" D, "registry.example.com/-a@" D,
                "registry.example.com/a-@" D,
                "registry.example.com/../x@" D, "registry.example.com/a b@" D, "registry.example.com/a%2f@" D,
                "registry.example.com/x@y@" D,
                "registry.example.com:/x@" D, "registry.example.com:abc/x@" D, "registry.example.com:123456/x@" D,
                "http://registry.example.com/x@" D,
                "user@registry.example.com/x@" D, "-r.io/x@" D, "r.io-/x@" D, "r..io/x@" D, ".io/x@" D, "r.io/x:@" D, "r.io/x:-t@" D,
                "r.io/x:a/b@" D, "r.io/x\n@" D, " r.io/x@" D, "r.io/x@" D " ",
        };

        for (size_t i = 0; i < ELEMENTS(bad); i++)
                if (!CHECK(!image_ref_is_pinned(bad[i])))
                        printf("#   %s\n", bad[i]);
}

TEST(a_name_has_an_end) {
        char ref[600], name[300];

        memset(name, 'a', sizeof name);
        (void) snprintf(ref, sizeof ref, "r.io/%.*s@" D, 250, name);
        CHECK(image_ref_is_pinned(ref));
        (void) snprintf(ref, sizeof ref, "r.io/%.*s@" D, 251, name);
        CHECK(!image_ref_is_pinned(ref));
        (void) snprintf(ref, sizeof ref, "r.io/x:%.*s@" D, 128, name);
        CHECK(image_ref_is_pinned(ref));
        (void) snprintf(ref, sizeof ref, "r.io/x:%.*s@" D, 129, name);
        CHECK(!image_ref_is_pinned(ref));
}

TEST(digests) {
        CHECK_STR(image_ref_digest("r.io/x@" D), D);
        CHECK(image_ref_digest("r.io/x") == NULL);
        CHECK(image_ref_digest("r.io/x@sha256:") == NULL);
        CHECK(image_ref_digest(D) == NULL);
}

TEST(incident_13_registries) {
        static const struct { const char *entry, *ref; bool allowed; } cases[] = {
                { "r.io",          "r.io/x@" D,             true },
                { "r.io/",         "r.io/x@" D,             true },
                { "r.io",          "r.io:5000/x@" D,        false },
                { "r.io:5000",     "r.io:5000/x@" D,        true },
                { "r.io:500",      "r.io:5000/x@" D,        false },
                { "r.io",          "r.io.evil.org/x@" D,    false },
                { "r.io",          "xr.io/x@" D,            false },
                { "r.i",           "r.io/x@" D,             false },
                { "r.io/team",     "r.io/team/x@" D,        true },
                { "r.io/team/",    "r.io/team/x@" D,        true },
                { "r.io/team",     "r.io/team@" D,          true },
                { "r.io/team",     "r.io/team:tag@" D,      true },
                { "r.io/team",     "r.io/teammate/x@" D,    false },
                { "r.io/team",     "r.io/tea/x@" D,         false },
                { "r.io/team/a",   "r.io/team/x@" D,        false },
                { "",              "r.io/x@" D,             false },
                { "/",             "r.io/x@" D,             false },
                { "r.io",          "x@" D,                  false },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                const char *const alone[] = { cases[i].entry, NULL }, *const second[] = { "other.io", cases[i].entry, NULL };

                if (!CHECK_INT(image_ref_registry_allowed(cases[i].ref, alone), cases[i].allowed))
                        printf("#   %s: %s\n", cases[i].entry, cases[i].ref);
                CHECK_INT(image_ref_registry_allowed(cases[i].ref, second), cases[i].allowed);
        }
        CHECK(!image_ref_registry_allowed("r.io/x@" D, NULL));
        CHECK(!image_ref_registry_allowed("r.io/x@" D, (const char *const[]) { NULL }));
}

TEST_MAIN
