/* SPDX-License-Identifier: Apache-2.0 */

/* engine/image-own: which images may go, in which order, and over restarts and damage. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/text.h"
#include "engine/image-own.h"
#include "tests/kit.h"

#define SEC UINT64_C(1000000)
#define NOW (UINT64_C(1790000000) * SEC)

static const char *ref(unsigned n) {
        static char refs[4][120];
        static unsigned turn;
        char *r = refs[turn++ % 4];

        (void) snprintf(r, sizeof refs[0], "registry.example/image@sha256:%064x", n);
        return r;
}

static const char *digest(unsigned n) { return strchr(ref(n), '@') + 1; }

/* userdata: a NULL-terminated list of digests that are needed. */
static bool is_kept(const char *d, void *userdata) {
        for (const char *const *kept = userdata; *kept; kept++)
                if (strcmp(*kept, d) == 0)
                        return true;
        return false;
}

static const char *nobody[] = { NULL };

static ImageOwn *open_own(const TestDir *d, const char *preloaded, Fault *damaged) {
        ImageOwn *o = NULL;

        if (!CHECK_INT(image_own_open(d->fd, preloaded, &o, damaged), 0))
                abort();
        return o;
}

static void write_file(const TestDir *d, const char *name, const char *text) { CHECK_INT(file_write_atomic(d->fd, name, text, strlen(text)), 0); }

TEST(the_one_not_needed_for_longest_goes_first) {
        _cleanup_dir_ TestDir d = test_dir();
        Fault damaged = {};
        _cleanup_(image_own_freep) ImageOwn *o = open_own(&d, NULL, &damaged);

        CHECK(!damaged.set && !image_own_oldest(o, is_kept, nobody));
        for (unsigned i = 1; i <= 3; i++)
                CHECK_INT(image_own_add(o, ref(i), NOW + i * SEC, NULL), 0);
        CHECK_STR(image_own_oldest(o, is_kept, nobody), ref(1));
        image_own_used(o, digest(1), NOW + 10 * SEC);
        CHECK_STR(image_own_oldest(o, is_kept, nobody), ref(2));
        image_own_forget(o, ref(2));
        CHECK_STR(image_own_oldest(o, is_kept, nobody), ref(3));
}

TEST(what_is_needed_never_goes_and_counts_as_used) {
        _cleanup_dir_ TestDir d = test_dir();
        Fault damaged = {};
        _cleanup_(image_own_freep) ImageOwn *o = open_own(&d, NULL, &damaged);
        const char *kept[] = { digest(1), NULL };

        CHECK_INT(image_own_add(o, ref(1), NOW + SEC, NULL), 0);
        CHECK(!image_own_oldest(o, is_kept, kept));
        CHECK_INT(image_own_add(o, ref(2), NOW + 2 * SEC, NULL), 0);
        CHECK_STR(image_own_oldest(o, is_kept, kept), ref(2));
        image_own_begin_round(o, is_kept, NOW + 3 * SEC, kept);
        CHECK_STR(image_own_oldest(o, is_kept, nobody), ref(2)); /* 1 was needed until a moment ago */
}

TEST(incident_23_what_could_not_go_is_tried_once_in_a_round) {
        _cleanup_dir_ TestDir d = test_dir();
        Fault damaged = {};
        _cleanup_(image_own_freep) ImageOwn *o = open_own(&d, NULL, &damaged);

        CHECK_INT(image_own_add(o, ref(1), NOW, NULL), 0);
        image_own_tried(o, ref(1));
        CHECK(!image_own_oldest(o, is_kept, nobody));
        image_own_begin_round(o, is_kept, NOW, nobody);
        CHECK_STR(image_own_oldest(o, is_kept, nobody), ref(1));
}

TEST(a_stranger_is_never_ours) {
        _cleanup_dir_ TestDir d = test_dir();
        Fault damaged = {};
        _cleanup_(image_own_freep) ImageOwn *o = open_own(&d, NULL, &damaged);

        image_own_used(o, digest(7), NOW);
        image_own_tried(o, ref(7));
        image_own_forget(o, ref(7));
        CHECK(!image_own_oldest(o, is_kept, nobody));
}

TEST(remembered_over_a_restart) {
        _cleanup_dir_ TestDir d = test_dir();
        Fault damaged = {};
        ImageOwn *o = open_own(&d, NULL, &damaged);

        CHECK_INT(image_own_add(o, ref(1), NOW + SEC, NULL), 0);
        CHECK_INT(image_own_add(o, ref(2), NOW, NULL), 0);
        image_own_used(o, digest(2), NOW + 7200 * SEC); /* more than an hour later: written */
        o = (image_own_free(o), open_own(&d, NULL, &damaged));
        CHECK(!damaged.set);
        CHECK_STR(image_own_oldest(o, is_kept, nobody), ref(1));
        image_own_forget(o, ref(1));
        o = (image_own_free(o), open_own(&d, NULL, &damaged));
        CHECK_STR(image_own_oldest(o, is_kept, nobody), ref(2));
        (void) image_own_free(o);
}

TEST(what_was_baked_in_is_ours_and_goes_first) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_free_ char *path = str_printf("/proc/self/fd/%d/preloaded.json", d.fd), *text = str_printf("{\"images\":[\"%s\"]}", ref(9));
        Fault damaged = {};
        _cleanup_(image_own_freep) ImageOwn *o = NULL;

        write_file(&d, "preloaded.json", text);
        o = open_own(&d, path, &damaged);
        CHECK(!damaged.set);
        CHECK_INT(image_own_add(o, ref(1), NOW, NULL), 0);
        CHECK_STR(image_own_oldest(o, is_kept, nobody), ref(9));
        image_own_used(o, digest(9), NOW + SEC);
        CHECK_STR(image_own_oldest(o, is_kept, nobody), ref(1));
}

TEST(damage_removes_nothing_and_says_so) {
        static const char *const preloaded[] = { "{", "{\"images\":[1]}", "{\"images\":[\"a:latest\"]}" };
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_free_ char *path = str_printf("/proc/self/fd/%d/preloaded.json", d.fd);

        for (size_t i = 0; i < ELEMENTS(preloaded); i++) {
                Fault damaged = {};
                _cleanup_(image_own_freep) ImageOwn *o = NULL;

                write_file(&d, "preloaded.json", preloaded[i]);
                o = open_own(&d, path, &damaged);
                CHECK(damaged.set && !image_own_oldest(o, is_kept, nobody));
        }
        for (int i = 0; i < 2; i++) {
                Fault damaged = {};
                _cleanup_(image_own_freep) ImageOwn *o = NULL;

                write_file(&d, "images", i ? "molecule-agent images v1 5 00\n{}\n" : "");
                o = open_own(&d, NULL, &damaged);
                CHECK(damaged.set && !image_own_oldest(o, is_kept, nobody));
        }
}

TEST(more_than_the_table_holds) {
        _cleanup_dir_ TestDir d = test_dir();
        Fault damaged = {};
        _cleanup_(image_own_freep) ImageOwn *o = open_own(&d, NULL, &damaged);

        for (unsigned i = 1; i <= IMAGE_OWN_MAX + 2; i++)
                CHECK_INT(image_own_add(o, ref(i), NOW + i * SEC, NULL), 0);
        CHECK_STR(image_own_oldest(o, is_kept, nobody), ref(3));
}

TEST_MAIN
