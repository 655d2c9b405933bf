/* SPDX-License-Identifier: Apache-2.0 */

/* provision/tombstones: floors outlive their workspaces, over restarts, damage and number. */

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "provision/tombstones.h"
#include "tests/kit.h"

static const char *id(unsigned n) {
        static char ids[4][UUID_SIZE];
        static unsigned turn;
        char *s = ids[turn++ % 4];

        (void) snprintf(s, UUID_SIZE, "%08x-3333-4333-8333-333333333333", n);
        return s;
}

static void add(Tombstones *t, unsigned n, uint64_t spec_floor, uint64_t restart_floor) {
        _cleanup_(workspace_freep) Workspace *w = workspace_new(id(n), 1);

        w->spec_floor = spec_floor;
        w->restart_floor = restart_floor;
        (void) snprintf(w->spec_hash, sizeof w->spec_hash, "%064x", n);
        CHECK_INT(tombstones_add(t, w), 0);
}

static Tombstones *open_stones(const TestDir *d, Fault *why) {
        Tombstones *t = NULL;

        if (!CHECK_INT(tombstones_open(d->fd, &t, why), 0))
                abort();
        return t;
}

TEST(floors_over_a_restart) {
        _cleanup_dir_ TestDir d = test_dir();
        Fault why = {};
        _cleanup_(tombstones_freep) Tombstones *t = open_stones(&d, &why);
        Workspace seen = {};

        CHECK_INT(hash_init(), 0);
        CHECK(!tombstones_look(t, id(1), &seen));
        add(t, 1, 7, 9);
        add(t, 2, 3, 0);
        CHECK_INT(tombstones_save(t, NULL), 0);
        t = (tombstones_free(t), open_stones(&d, &why));
        CHECK(!why.set);
        CHECK_INT(tombstones_count(t), 2);
        CHECK(tombstones_look(t, id(1), &seen));
        CHECK_INT(seen.spec_floor, 7);
        CHECK_INT(seen.restart_floor, 9);
        CHECK(strstr(seen.spec_hash, "0001"));
}

TEST(a_newer_one_takes_the_place_of_an_older) {
        _cleanup_dir_ TestDir d = test_dir();
        Fault why = {};
        _cleanup_(tombstones_freep) Tombstones *t = open_stones(&d, &why);
        Workspace seen = {};

        add(t, 1, 7, 0);
        add(t, 1, 12, 0);
        CHECK_INT(tombstones_count(t), 1);
        CHECK(tombstones_look(t, id(1), &seen));
        CHECK_INT(seen.spec_floor, 12);
}

TEST(a_record_takes_its_floors_and_the_stone_stays) {
        _cleanup_dir_ TestDir d = test_dir();
        Fault why = {};
        _cleanup_(tombstones_freep) Tombstones *t = open_stones(&d, &why);
        _cleanup_(workspace_freep) Workspace *w = workspace_new(id(1), 1), *other = workspace_new(id(2), 1);

        add(t, 1, 7, 9);
        CHECK(tombstones_look(t, w->id, w));
        CHECK_INT(w->spec_floor, 7);
        CHECK_INT(w->restart_floor, 9);
        CHECK_INT(tombstones_count(t), 1);
        CHECK(!tombstones_look(t, other->id, other) && other->spec_floor == 0);
}

TEST(ten_thousand_and_the_oldest_gives_way) {
        _cleanup_dir_ TestDir d = test_dir();
        Fault why = {};
        _cleanup_(tombstones_freep) Tombstones *t = open_stones(&d, &why);
        Workspace seen = {};

        for (unsigned n = 1; n <= TOMBSTONES_MAX + 1; n++)
                add(t, n, n, 0);
        CHECK_INT(tombstones_count(t), TOMBSTONES_MAX);
        CHECK(!tombstones_look(t, id(1), &seen) && tombstones_look(t, id(2), &seen));
        add(t, 3, 5, 0);                                /* in place of its own: nobody else's gives way */
        CHECK_INT(tombstones_count(t), TOMBSTONES_MAX);
        CHECK(tombstones_look(t, id(2), &seen));
        CHECK_INT(tombstones_save(t, NULL), 0);
        t = (tombstones_free(t), open_stones(&d, &why));
        CHECK(!why.set);
        CHECK_INT(tombstones_count(t), TOMBSTONES_MAX);
        CHECK(tombstones_look(t, id(TOMBSTONES_MAX + 1), &seen));
        CHECK_INT(seen.spec_floor, TOMBSTONES_MAX + 1);
}

TEST(damage_is_told_and_starts_empty) {
        static const char *const bad[] = { "", "molecule-agent tombstones v1 3 00\n{}\n", "no record at all" };

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                _cleanup_dir_ TestDir d = test_dir();
                _cleanup_(tombstones_freep) Tombstones *t = NULL;
                Fault why = {};

                CHECK_INT(file_write_atomic(d.fd, "tombstones", bad[i], strlen(bad[i])), 0);
                t = open_stones(&d, &why);
                CHECK(why.set);
                CHECK_INT(tombstones_count(t), 0);
                add(t, 1, 1, 0);
                CHECK_INT(tombstones_save(t, NULL), 0);
        }
}

TEST_MAIN
