/* SPDX-License-Identifier: Apache-2.0 */

/* agent/identity: made once, an epoch that only grows, one agent to a directory; and another machine's state set aside whole. */

#include <errno.h>
#include <sys/resource.h>

#include "agent/identity.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/record.h"
#include "tests/kit.h"

static Identity load(const TestDir *d, bool foreign) {
        Identity id = {};
        bool is_foreign = !foreign;
        Fault f = {};

        if (!CHECK_INT(identity_load(d->fd, &id, &is_foreign, &f), 0))
                printf("#   %s\n", f.text);
        CHECK(is_foreign == foreign);
        CHECK(uuid_is_valid(id.host_id));
        return id;
}

static void write_identity(const TestDir *d, const char *machine_id) {
        _cleanup_json_ cJSON *json = kit_json("{\"host_id\":\"" KIT_HOST "\",\"registered_at\":\"2026-01-02T03:04:05.000Z\"}");

        CHECK(json_add_string(json, "machine_id", machine_id));
        CHECK_INT(record_write(d->fd, "identity", "identity", json, NULL), 0);
}

/* What a copied disk brings along. */
static void write_rest(const TestDir *d) {
        static const char *const dirs[] = { "ws", "outbox", "sealed", "keys", "rescue" };

        for (size_t i = 0; i < ELEMENTS(dirs); i++) {
                char name[64];

                CHECK_INT(mkdirat(d->fd, dirs[i], 0700), 0);
                (void) snprintf(name, sizeof name, "%s/thing", dirs[i]);
                test_dir_text(d, name, "theirs");
        }
        test_dir_text(d, "pins", "theirs");
        test_dir_text(d, "host", "theirs");
        test_dir_text(d, "outcomes", "theirs");
        test_dir_text(d, "credentials.seal", "theirs");
        test_dir_text(d, "config.good", "[agent]\n");
}

/* The one directory below quarantine/; NULL when there are none or several. */
static const char *aside(const TestDir *d) {
        static char name[300];
        int fd = openat(d->fd, "quarantine", O_RDONLY|O_DIRECTORY|O_CLOEXEC), n = 0;
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);

        for (const struct dirent *e; dir && (e = readdir(dir));)
                if (e->d_name[0] != '.') {
                        n++;
                        (void) snprintf(name, sizeof name, "quarantine/%.200s", e->d_name);
                }
        if (dir)
                (void) closedir(dir);
        return n == 1 ? name : NULL;
}

/* The first of all: libsystemd remembers what it has read once. */
TEST(a_boot_that_cannot_be_told_is_not_taken_for_the_one_that_parked_us) {
        _cleanup_dir_ TestDir d = test_dir();
        struct rlimit all, none;
        bool foreign = false;
        Identity id = {};
        Fault f = {};

        CHECK_INT(getrlimit(RLIMIT_NOFILE, &all), 0);
        none = (struct rlimit) { .rlim_cur = 0, .rlim_max = all.rlim_max };
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &none), 0);
        CHECK_INT(identity_load(d.fd, &id, &foreign, &f), -EMFILE);
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &all), 0);
        CHECK(strstr(f.text, "boot id"));
}

TEST(made_once) {
        _cleanup_dir_ TestDir d = test_dir();
        Identity a = load(&d, false), b = load(&d, false);

        CHECK_STR(b.host_id, a.host_id);
        CHECK_STR(b.machine_id, a.machine_id);
        CHECK(uuid_is_valid(a.boot_id));
        CHECK_INT(a.registered_at, 0);
}

TEST(two_machines_two_ids) {
        _cleanup_dir_ TestDir d = test_dir(), e = test_dir();
        Identity a = load(&d, false), b = load(&e, false);

        CHECK(strcmp(a.host_id, b.host_id) != 0);
        CHECK_STR(a.machine_id, b.machine_id);
}

TEST(the_machine_s_raw_id_is_never_told) {
        _cleanup_dir_ TestDir d = test_dir();
        Identity id = load(&d, false);
        char raw[33] = {};
        FILE *f = fopen("/etc/machine-id", "re");
        size_t n = f ? fread(raw, 1, 32, f) : 0;

        if (f)
                (void) fclose(f);
        if (n != 32)
                SKIP("there is no /etc/machine-id");
        CHECK_INT(strlen(id.machine_id), 32);
        CHECK(strcmp(id.machine_id, raw) != 0);
}

TEST(the_epoch_grows_with_every_start) {
        _cleanup_dir_ TestDir d = test_dir();

        for (uint64_t i = 1; i <= 5; i++)
                CHECK_INT(load(&d, false).boot_epoch, i);
}

TEST(a_damaged_epoch_goes_on_above_any_count) {
        _cleanup_dir_ TestDir d = test_dir();
        Identity id = load(&d, false), next;

        test_dir_text(&d, "boot_epoch", "molecule-agent boot_epoch v1 3 0\n{}\n");
        next = load(&d, false);
        CHECK_STR(next.host_id, id.host_id);
        CHECK(next.boot_epoch > 1700000000);
        CHECK_INT(load(&d, false).boot_epoch, next.boot_epoch + 1);
}

TEST(registered_once) {
        _cleanup_dir_ TestDir d = test_dir();
        Identity id = load(&d, false);
        uint64_t at = UINT64_C(1767323045) * USEC_PER_SEC;

        CHECK_INT(identity_registered(d.fd, &id, at, NULL), 0);
        CHECK_INT(id.registered_at, at);
        CHECK_INT(identity_registered(d.fd, &id, at + 1, NULL), 0);
        CHECK_INT(id.registered_at, at);
        CHECK_INT(load(&d, false).registered_at, at);
        CHECK_STR(load(&d, false).host_id, id.host_id);
}

TEST(one_agent_to_a_directory) {
        _cleanup_dir_ TestDir d = test_dir();
        char below[64], missing[64];
        Fault f = {}, g = {};
        int fd;

        (void) snprintf(below, sizeof below, "%s/state", d.path);
        (void) snprintf(missing, sizeof missing, "%s/none/state", d.path);
        fd = state_open(below, NULL);
        CHECK(fd >= 0);
        CHECK_INT(state_open(below, &f), -EBUSY);
        CHECK_STR(kit_code(&f), "state_degraded");
        CHECK_INT(state_open(missing, &g), -ENOENT);
        CHECK(g.set);
        (void) close(fd);
}

/* ── another machine's ───────────────────────────────────────────────────────────────────────────────────────── */

TEST(foreign_state_is_set_aside_whole) {
        static const char *const theirs[] = { "identity",   "boot_epoch", "ws/thing", "outbox/thing",    "sealed/thing",
                                              "keys/thing", "pins",       "outcomes", "credentials.seal", "host", "rescue/thing" };
        _cleanup_dir_ TestDir d = test_dir();
        Identity own = load(&d, false), now;
        const char *place;

        if (!own.machine_id[0])
                SKIP("this machine has no id");
        write_identity(&d, "0123456789abcdef0123456789abcdef");
        write_rest(&d);
        now = load(&d, true);
        CHECK(strcmp(now.host_id, KIT_HOST) != 0 && strcmp(now.host_id, own.host_id) != 0);
        CHECK_INT(now.boot_epoch, 1);
        CHECK_INT(now.registered_at, 0);
        place = aside(&d);
        if (!CHECK(place))
                return;
        for (size_t i = 0; i < ELEMENTS(theirs); i++) {
                char name[400];

                (void) snprintf(name, sizeof name, "%s/%s", place, theirs[i]);
                if (!CHECK(test_dir_has(&d, name)) || !CHECK(strchr(theirs[i], '/') == NULL || !test_dir_has(&d, theirs[i])))
                        printf("#   in: %s\n", theirs[i]);
        }
        CHECK(!test_dir_has(&d, "pins") && !test_dir_has(&d, "outcomes") && !test_dir_has(&d, "ws") && !test_dir_has(&d, "host"));
        CHECK_STR(load(&d, false).host_id, now.host_id);
}

TEST(unknown_is_not_foreign) {
        _cleanup_dir_ TestDir d = test_dir();
        Identity now;

        write_identity(&d, "");
        write_rest(&d);
        now = load(&d, false);
        CHECK_STR(now.host_id, KIT_HOST);
        CHECK(now.registered_at > 0);
        CHECK(test_dir_has(&d, "ws/thing") && !test_dir_has(&d, "quarantine"));
}

TEST(a_damaged_identity_is_made_anew_and_the_rest_stays) {
        static const char *const texts[] = { "", "garbage", "molecule-agent identity v1 3 0\n{}\n",
                                             "molecule-agent identity v2 3 0\n{}\n" };

        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                _cleanup_dir_ TestDir d = test_dir();
                Identity before = load(&d, false), now;
                char name[400];

                write_rest(&d);
                test_dir_text(&d, "identity", texts[i]);
                now = load(&d, false);
                CHECK(strcmp(now.host_id, before.host_id) != 0);
                CHECK_INT(now.boot_epoch, 2);
                (void) snprintf(name, sizeof name, "%s/identity", aside(&d) ?: "none");
                CHECK(test_dir_has(&d, name));
                CHECK(test_dir_has(&d, "ws/thing") && test_dir_has(&d, "outbox/thing") && test_dir_has(&d, "pins"));
                CHECK_STR(load(&d, false).host_id, now.host_id);
        }
}

TEST(an_identity_that_cannot_be_read_now_is_not_damaged) {
        _cleanup_dir_ TestDir d = test_dir();
        bool foreign = false;
        Identity id = {};
        Fault f = {};

        CHECK_INT(mkdirat(d.fd, "identity", 0700), 0);  /* any error but absence will do */
        CHECK(identity_load(d.fd, &id, &foreign, &f) < 0);
        CHECK_STR(kit_code(&f), "state_degraded");
        CHECK(test_dir_has(&d, "identity") && !test_dir_has(&d, "quarantine"));
}

TEST(parked_for_one_boot) {
        _cleanup_dir_ TestDir d = test_dir();
        Identity id = load(&d, false);

        CHECK_STR(id.parked_boot_id, "");
        CHECK_INT(identity_parked(d.fd, &id, NULL), 0);
        CHECK_STR(load(&d, false).parked_boot_id, id.boot_id);
        CHECK_INT(identity_registered(d.fd, &id, USEC_PER_SEC, NULL), 0);
        CHECK_STR(load(&d, false).parked_boot_id, id.boot_id);
        CHECK_STR(load(&d, false).host_id, id.host_id);
}

/* A crash, or a full disk, between two of the renames: what was not moved yet must still be known as theirs. */
static void interrupted_at(const char *part) {
        _cleanup_dir_ TestDir d = test_dir();
        bool foreign = false;
        Identity id = {};
        Fault f = {};

        (void) load(&d, false);
        write_identity(&d, "0123456789abcdef0123456789abcdef");
        write_rest(&d);
        CHECK_INT(mkdirat(d.fd, "quarantine", 0700), 0);
        for (uint64_t i = 0; i < 3; i++) {              /* in the way of whichever name the clock gives */
                char name[100];
                int n = snprintf(name, sizeof name, "quarantine/foreign-%llu", (unsigned long long) now_realtime() / USEC_PER_SEC + i);

                CHECK_INT(mkdirat(d.fd, name, 0700), 0);
                (void) snprintf(name + n, sizeof name - (size_t) n, "/%s", part);
                CHECK_INT(mkdirat(d.fd, name, 0700), 0);
                strcat(name, "/in-the-way");
                CHECK_INT(mkdirat(d.fd, name, 0700), 0);
        }
        CHECK(identity_load(d.fd, &id, &foreign, &f) < 0);
        CHECK_STR(kit_code(&f), "state_degraded");
        CHECK(test_dir_has(&d, part));
        CHECK_INT(renameat(d.fd, "quarantine", d.fd, "out-of-the-way"), 0);
        (void) load(&d, true);
        CHECK(!test_dir_has(&d, "ws") && !test_dir_has(&d, "outbox"));
}

TEST(setting_aside_in_part_is_gone_on_with) {
        _cleanup_dir_ TestDir d = test_dir();

        if (!load(&d, false).machine_id[0])
                SKIP("this machine has no id");
        interrupted_at("ws");
        interrupted_at("credentials.seal");
        interrupted_at("boot_epoch");
}

/* ── the roots' checks ───────────────────────────────────────────────────────────────────────────────────────── */

#define CHECK_1 "e1950f0fe24829b3aa0b8fbc97f88ca78f8f86606043ce9065ccf2d6b1a55538"
#define CHECK_2 "fd860536a4a49af67d22e3fdfe1209c0c65fd6d4206e21220146a58a83f0cd22"

TEST(checks_of_roots_there_and_back) {
        _cleanup_dir_ TestDir d = test_dir();
        Identity id = load(&d, false), now;

        CHECK_INT(id.roots.n + id.roots.wrapped, 0);
        for (unsigned i = 0; i < ROOTS_MAX; i++) {
                id.roots.items[i].epoch = i ? UINT32_MAX - i : 1;
                strcpy(id.roots.items[i].check, i % 2 ? CHECK_2 : CHECK_1);
                id.roots.n = i + 1;
                id.roots.wrapped = i ? UINT32_MAX - i : 0;
                CHECK_INT(identity_save(d.fd, &id, NULL), 0);
                now = load(&d, false);
                CHECK_STR(now.host_id, id.host_id);
                CHECK_INT(now.roots.wrapped, id.roots.wrapped);
                if (!CHECK_INT(now.roots.n, i + 1))
                        continue;
                for (unsigned k = 0; k <= i; k++) {
                        CHECK_INT(now.roots.items[k].epoch, id.roots.items[k].epoch);
                        CHECK_STR(now.roots.items[k].check, id.roots.items[k].check);
                }
        }
        CHECK_INT(identity_registered(d.fd, &id, USEC_PER_SEC, NULL), 0);       /* other parts of the record leave them */
        CHECK_INT(load(&d, false).roots.n, ROOTS_MAX);
}

TEST(checks_that_make_no_sense) {
        static const struct { const char *field, *value; bool good; } table[] = {
                { "mk_check", "{}", true },
                { "mk_check", "{\"1\":\"" CHECK_1 "\"}", true },
                { "mk_check", "{\"1\":\"" CHECK_1 "\",\"2\":\"" CHECK_2 "\"}", true },
                { "mk_check", "[]", false },
                { "mk_check", "null", false },
                { "mk_check", "{\"1\":7}", false },
                { "mk_check", "{\"1\":null}", false },
                { "mk_check", "{\"1\":\"\"}", false },
                { "mk_check", "{\"1\":\"" CHECK_1 "0\"}", false },
                { "mk_check", "{\"1\":\"e1950f\"}", false },
                { "mk_check", "{\"\":\"" CHECK_1 "\"}", false },
                { "mk_check", "{\"one\":\"" CHECK_1 "\"}", false },
                { "mk_check", "{\"-1\":\"" CHECK_1 "\"}", false },
                { "mk_check", "{\"01\":\"" CHECK_1 "\"}", false },
                { "mk_check", "{\"4294967296\":\"" CHECK_1 "\"}", false },
                { "mk_check", "{\"1\":\"" CHECK_1 "\",\"2\":\"" CHECK_1 "\",\"3\":\"" CHECK_1 "\",\"4\":\"" CHECK_1 "\",\"5\":\"" CHECK_1
                              "\",\"6\":\"" CHECK_1 "\",\"7\":\"" CHECK_1 "\",\"8\":\"" CHECK_1 "\",\"9\":\"" CHECK_1 "\"}", false },
                { "wrapped_epoch", "2", true },
                { "wrapped_epoch", "\"2\"", false },
                { "wrapped_epoch", "-1", false },
                { "wrapped_epoch", "4294967296", false },
                { "wrapped_epoch", "1.5", false },
                { "machine_id", "\"0123456789abcdef0123456789abcdef0\"", false },
                { "later", "1", false },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_dir_ TestDir d = test_dir();
                Identity own = load(&d, false), now;
                _cleanup_json_ cJSON *json = kit_json("{\"host_id\":\"" KIT_HOST "\"}");

                CHECK(json_add_string(json, "machine_id", own.machine_id));
                kit_set(json, table[i].field, table[i].value);
                CHECK_INT(record_write(d.fd, "identity", "identity", json, NULL), 0);
                now = load(&d, false);                  /* a damaged one is made anew: another host, and no root is remembered */
                if (!CHECK((strcmp(now.host_id, KIT_HOST) == 0) == table[i].good))
                        printf("#   in: %s = %s\n", table[i].field, table[i].value);
                if (!table[i].good)
                        CHECK_INT(now.roots.n + now.roots.wrapped, 0);
        }
}

/* ── the cloud's instance id ─────────────────────────────────────────────────────────────────────────────────── */

static Identity load_on(const TestDir *d, const char *instance, bool foreign) {
        Identity id = {};
        bool is_foreign = !foreign;

        (void) snprintf(id.instance_id, sizeof id.instance_id, "%s", instance);
        CHECK_INT(identity_load(d->fd, &id, &is_foreign, NULL), 0);
        if (!CHECK(is_foreign == foreign))
                printf("#   on '%s'\n", instance);
        return id;
}

TEST(bound_to_the_instance_where_there_is_one) {
        _cleanup_dir_ TestDir d = test_dir();
        Identity a = load_on(&d, "", false);            /* the metadata service was away at the first start */

        CHECK_STR(load_on(&d, "i-1", false).host_id, a.host_id);        /* learned */
        CHECK_STR(load_on(&d, "", false).instance_id, "i-1");           /* kept while it is away again */
        CHECK_STR(load_on(&d, "i-1", false).host_id, a.host_id);
        CHECK(strcmp(load_on(&d, "i-2", true).host_id, a.host_id) != 0);        /* the same machine id: a copy of the disk */
        CHECK(aside(&d) != NULL);
}

TEST(with_an_instance_the_machine_id_does_not_matter) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_json_ cJSON *json = kit_json("{\"host_id\":\"" KIT_HOST "\",\"machine_id\":\"00000000000000000000000000000001\",\"instance_id\":\"i-1\"}");

        CHECK_INT(record_write(d.fd, "identity", "identity", json, NULL), 0);
        CHECK_STR(load_on(&d, "i-1", false).host_id, KIT_HOST);
        CHECK_STR(load_on(&d, "", false).host_id, KIT_HOST);            /* not known is not another */
}

/* ── an operator's word ──────────────────────────────────────────────────────────────────────────────────────── */

TEST(adopted_it_comes_back_whole) {
        _cleanup_dir_ TestDir d = test_dir();
        Identity a = load_on(&d, "i-1", false), b;

        write_rest(&d);
        b = load_on(&d, "i-2", true);
        CHECK(strcmp(a.host_id, b.host_id) != 0 && !test_dir_has(&d, "ws/thing"));
        test_dir_text(&d, "pins", "mine");
        CHECK_INT(identity_adopt(d.fd, a.host_id, NULL), 0);
        CHECK(test_dir_has(&d, "ws/thing") && test_dir_has(&d, "sealed/thing") && test_dir_has(&d, "keys/thing") && test_dir_has(&d, "outbox/thing"));
        CHECK_STR(load_on(&d, "i-2", false).host_id, a.host_id);
        CHECK_STR(load_on(&d, "i-2", false).instance_id, "i-2");        /* bound anew */
        CHECK(load_on(&d, "i-2", false).boot_epoch > a.boot_epoch);
        CHECK_INT(identity_adopt(d.fd, b.host_id, NULL), 0);            /* and the other way round */
        CHECK_STR(load_on(&d, "i-3", false).host_id, b.host_id);
        CHECK(!test_dir_has(&d, "ws/thing"));
}

/* Cut short with so many of the parts moved: the next start goes on. */
static void adoption_cut_at(size_t moved, bool is_aside) {
        static const char *const order[] = { "ws", "host", "outbox", "outcomes", "pins", "sealed", "keys", "rescue", "credentials.seal", "boot_epoch", "identity" };
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        Identity a = load_on(&d, "i-1", false);
        char from[400];

        write_rest(&d);
        (void) load_on(&d, "i-2", true);
        (void) snprintf(from, sizeof from, "%s", aside(&d));
        CHECK(json_add_string(json, "host_id", a.host_id) && json_add_bool(json, "aside", is_aside));
        CHECK_INT(record_write(d.fd, "adopt", "adopt", json, NULL), 0);
        CHECK_INT(mkdirat(d.fd, "quarantine/foreign-9", 0700), 0);
        for (size_t i = 0; i < ELEMENTS(order); i++) {          /* what lay here goes first */
                char to[60];

                (void) snprintf(to, sizeof to, "quarantine/foreign-9/%s", order[i]);
                if (is_aside || i < moved)
                        (void) renameat(d.fd, order[i], d.fd, to);
        }
        for (size_t i = 0; is_aside && i < moved; i++) {
                char back[500];

                (void) snprintf(back, sizeof back, "%s/%s", from, order[i]);
                CHECK(renameat(d.fd, back, d.fd, order[i]) == 0);
        }
        CHECK_STR(load_on(&d, "i-2", false).host_id, a.host_id);
        CHECK(test_dir_has(&d, "ws/thing") && test_dir_has(&d, "keys/thing") && test_dir_has(&d, "host") && test_dir_has(&d, "credentials.seal") && !test_dir_has(&d, "adopt"));
}

TEST(an_adoption_that_was_cut_short_is_gone_on_with) {
        for (size_t moved = 0; moved <= 11; moved++) {
                adoption_cut_at(moved, false);
                adoption_cut_at(moved, true);
        }
}

TEST(a_lost_identity_is_adopted_by_name) {
        _cleanup_dir_ TestDir d = test_dir();
        Identity a = load(&d, false);

        write_rest(&d);
        CHECK_INT(unlinkat(d.fd, "identity", 0), 0);
        CHECK(strcmp(load(&d, false).host_id, a.host_id) != 0);
        CHECK_INT(identity_adopt(d.fd, a.host_id, NULL), 0);
        CHECK_STR(load(&d, false).host_id, a.host_id);
        CHECK(test_dir_has(&d, "ws/thing"));                            /* what lay here stays */
}

TEST(reset_is_a_new_host) {
        _cleanup_dir_ TestDir d = test_dir();
        Identity a = load(&d, false), fresh = {};

        write_rest(&d);
        CHECK_INT(identity_reset(d.fd, &fresh, NULL), 0);
        CHECK(strcmp(fresh.host_id, a.host_id) != 0 && !test_dir_has(&d, "ws/thing") && aside(&d));
        CHECK_STR(load(&d, false).host_id, fresh.host_id);
}

int main(void) {
        (void) log_set_level("error");
        return hash_init() < 0 ? 1 : test_run_all();
}
