/* SPDX-License-Identifier: Apache-2.0 */

/* secrets/arena: what is given back is wiped and found again, the arena ends where it ends, and unlocked memory is not taken in silence. */

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "secrets/arena.h"
#include "tests/test.h"

#define SIZE 65536
#define MOST (SIZE - 16 - sizeof(Secret) - 1)   /* the largest secret there can be: one block's head, one secret's, and the NUL */

static Arena *arena(size_t size) {
        Arena *a = NULL;

        if (arena_new(size, true, &a, NULL) < 0)
                abort();
        return a;
}

static bool is_filled(const uint8_t *p, uint8_t c, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (p[i] != c)
                        return false;
        return true;
}

TEST(what_is_put_in_comes_out) {
        _cleanup_(arena_freep) Arena *a = arena(SIZE);
        Secret *s = secret_new(a, "open\0sesame", 11), *empty = secret_new(a, NULL, 0), *zeroes = secret_alloc(a, 100), *both;

        if (!CHECK(s && empty && zeroes))
                return;
        CHECK(s->size == 11 && memcmp(s->data, "open\0sesame", 12) == 0 && s->arena == a);      /* with a NUL behind it */
        CHECK(empty->size == 0 && empty->data[0] == 0);
        CHECK(zeroes->size == 100 && is_filled(zeroes->data, 0, 101));
        CHECK_STR(secret_text(s), "open");
        CHECK((uintptr_t) s % 16 == 0 && (uintptr_t) empty % 16 == 0);
        both = secret_concat(a, "Bearer ", s);
        CHECK(both && both->size == 18 && memcmp(both->data, "Bearer open\0sesame", 19) == 0);
        CHECK(secret_free(both) == NULL && secret_free(s) == NULL && secret_free(empty) == NULL && secret_free(zeroes) == NULL &&
              secret_free(NULL) == NULL);
}

TEST(equal) {
        _cleanup_(arena_freep) Arena *a = arena(SIZE);
        Secret *s[] = { secret_new(a, "abc", 3), secret_new(a, "abc", 3), secret_new(a, "abd", 3), secret_new(a, "abcd", 4),
                        secret_new(a, "ab", 2),  secret_new(a, "", 0),    secret_new(a, "", 0),    secret_new(a, "abc\0", 4) };

        for (size_t i = 0; i < ELEMENTS(s); i++)
                for (size_t k = 0; k < ELEMENTS(s); k++)
                        CHECK(secret_equal(s[i], s[k]) == (i == k || (i < 2 && k < 2) || (i == 5 && k == 6) || (i == 6 && k == 5)));
        CHECK(!secret_equal(NULL, NULL) && !secret_equal(s[0], NULL) && !secret_equal(NULL, s[0]));
        for (size_t i = 0; i < ELEMENTS(s); i++)
                secret_free(s[i]);
}

TEST(what_is_given_back_is_wiped) {
        for (size_t size = 0; size < 200; size++) {
                _cleanup_(arena_freep) Arena *a = arena(4096);
                Secret *before = secret_alloc(a, 7), *s = secret_alloc(a, size), *after = secret_alloc(a, 7);
                uint8_t *data = s->data;

                memset(before->data, 0x55, 7);
                memset(s->data, 0xaa, size);
                memset(after->data, 0x55, 7);
                secret_free(s);
                CHECK(is_filled(data, 0, size + 1));
                CHECK(is_filled((uint8_t *) s, 0, sizeof *s));
                CHECK(is_filled(before->data, 0x55, 7) && is_filled(after->data, 0x55, 7));
                secret_free(before);
                secret_free(after);
        }
}

TEST(full_is_full) {
        _cleanup_(arena_freep) Arena *a = arena(SIZE);
        Secret *all, *s[40];
        int n = 0;

        CHECK(!secret_alloc(a, MOST + 1) && !secret_alloc(a, SIZE) && !secret_alloc(a, SIZE_MAX) && !secret_alloc(a, SIZE_MAX - 16));
        all = secret_alloc(a, MOST);
        if (!CHECK(all))
                return;
        CHECK(!secret_alloc(a, 0) && !secret_new(a, "x", 1) && !secret_concat(a, "x", all));
        memset(all->data, 0xff, MOST);
        secret_free(all);
        for (; n < 40 && (s[n] = secret_alloc(a, 2000)); n++)
                memset(s[n]->data, 0xff, 2000);
        CHECK_INT(n, SIZE / 2048);                      /* 16 of a block, 16 of a secret, 1, and up to a multiple of 16 */
        while (n > 0)
                secret_free(s[--n]);
        all = secret_alloc(a, MOST);
        CHECK(all && is_filled(all->data, 0, MOST));
        secret_free(all);
}

TEST(neighbours_become_one_in_whichever_order_they_go) {
        static const int orders[][4] = { { 0, 1, 2, 3 }, { 3, 2, 1, 0 }, { 1, 3, 0, 2 }, { 2, 0, 3, 1 }, { 0, 2, 1, 3 } };
        enum { N = 4 };

        for (size_t o = 0; o < ELEMENTS(orders); o++) {
                _cleanup_(arena_freep) Arena *a = arena(SIZE);
                Secret *s[N], *all;

                for (int i = 0; i < N; i++)
                        s[i] = secret_alloc(a, SIZE / N - 64);
                CHECK(s[N - 1] && !secret_alloc(a, SIZE / N));
                for (int i = 0; i < N; i++) {
                        CHECK(!secret_alloc(a, MOST));
                        secret_free(s[orders[o][i]]);
                }
                all = secret_alloc(a, MOST);
                CHECK(all != NULL);
                secret_free(all);
        }
}

TEST(holes_too_small_are_no_room) {
        _cleanup_(arena_freep) Arena *a = arena(SIZE);
        Secret *s[64], *more;
        int n = 0;

        while (n < 64 && (s[n] = secret_alloc(a, 1000)))
                n++;
        for (int i = 0; i < n; i += 2)
                s[i] = secret_free(s[i]);
        CHECK(!secret_alloc(a, 1100));                  /* half of it is free */
        more = secret_alloc(a, 900);
        CHECK(more != NULL);
        secret_free(more);
        for (int i = 1; i < n; i += 2)
                secret_free(s[i]);
}

/* xorshift: the same at each run */
static uint32_t random_next(void) {
        static uint32_t x = 2463534242;

        x ^= x << 13;
        x ^= x >> 17;
        return x ^= x << 5;
}

TEST(ten_thousand_steps_against_a_model) {
        enum { N = 50, STEPS = 10000 };
        _cleanup_(arena_freep) Arena *a = arena(SIZE);
        struct { Secret *s; size_t size; uint8_t c; } model[N] = {};
        int full = 0;
        Secret *all;

        for (int step = 0; step < STEPS; step++) {
                uint32_t at = random_next() % N;

                if (model[at].s) {
                        if (!CHECK(model[at].s->size == model[at].size && is_filled(model[at].s->data, model[at].c, model[at].size)))
                                return;
                        model[at].s = secret_free(model[at].s);
                        continue;
                }
                model[at].size = random_next() % (random_next() % 8 ? 300 : 8000);
                model[at].c = (uint8_t) (1 + random_next() % 255);
                model[at].s = secret_alloc(a, model[at].size);
                if (!model[at].s) {
                        full++;
                        continue;
                }
                if (!CHECK(is_filled(model[at].s->data, 0, model[at].size + 1)))
                        return;
                memset(model[at].s->data, model[at].c, model[at].size);
        }
        CHECK(full < STEPS / 4);
        for (int i = 0; i < N; i++)
                secret_free(model[i].s);
        all = secret_alloc(a, MOST);
        CHECK(all && is_filled(all->data, 0, MOST));    /* nothing of it all is left */
        secret_free(all);
}

/* ── the process ─────────────────────────────────────────────────────────────────────────────────────────────── */

/* What fn says in a process of its own; -1 when a signal or a sanitizer ended it. */
static int in_child(int (*fn)(void)) {
        int status = 0;
        pid_t pid;

        fflush(stdout);
        pid = fork();
        if (pid == 0) {
                if (!freopen("/dev/null", "w", stderr))
                        _exit(77);
                _exit(fn());
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
                abort();
        return WIFEXITED(status) && WEXITSTATUS(status) < 32 ? WEXITSTATUS(status) : -1;
}

static int write_at_the_end(void) {
        Arena *a = arena(SIZE);
        Secret *s = secret_alloc(a, MOST);

        s->data[MOST] = 0;
        return 0;
}

static int write_behind_the_end(void) {
        Arena *a = arena(SIZE);
        Secret *s = secret_alloc(a, MOST);
        volatile uint8_t *p = s->data + MOST;

        (void) setrlimit(RLIMIT_CORE, &(struct rlimit) {});
        (void) signal(SIGSEGV, SIG_DFL);
        (void) signal(SIGBUS, SIG_DFL);
        p[1] = 1;
        return 0;
}

TEST(a_guard_stands_behind_it) {
        CHECK_INT(in_child(write_at_the_end), 0);
        CHECK_INT(in_child(write_behind_the_end), -1);
}

static int without_locking(void) {
        Arena *a = NULL, *b = NULL;
        Fault f = {};

        if (setrlimit(RLIMIT_MEMLOCK, &(struct rlimit) {}) < 0 || (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0))
                return 20;
        if (arena_new(SIZE, false, &a, &f) != -EPERM || a)
                return 1;
        if (!f.set || f.code != FAULT_INTERNAL || !strstr(f.text, "LimitMEMLOCK") || !strstr(f.text, "allow_unlocked_memory"))
                return 2;
        if (arena_new(SIZE, false, &a, NULL) != -EPERM)
                return 3;
        if (arena_new(SIZE, true, &b, NULL) != 0 || arena_is_locked(b))
                return 4;
        return secret_free(secret_new(b, "x", 1)) ? 5 : 0;
}

TEST(memory_that_cannot_be_locked) {
        int r = UNDER_SANITIZER ? 21 : in_child(without_locking);

        if (r == 21)
                SKIP("a sanitizer pretends to lock");
        if (r == 20)
                SKIP("this user cannot give up the right to lock memory");
        CHECK_INT(r, 0);
}

static unsigned long locked_kib(void) {
        char line[200];
        unsigned long n = 0;
        FILE *f = fopen("/proc/self/status", "re");

        while (f && fgets(line, sizeof line, f))
                if (sscanf(line, "VmLck: %lu", &n) == 1)
                        break;
        if (f)
                (void) fclose(f);
        return n;
}

TEST(memory_is_locked_when_it_says_so) {
        unsigned long before = locked_kib();
        Arena *a = NULL;

        if (UNDER_SANITIZER)
                SKIP("a sanitizer pretends to lock");
        if (arena_new(SIZE, false, &a, NULL) < 0)
                SKIP("this user may not lock 64 KiB");
        CHECK(arena_is_locked(a));
        CHECK(locked_kib() >= before + SIZE / 1024);
        arena_free(a);
        CHECK(locked_kib() < before + SIZE / 1024);
        CHECK(arena_free(NULL) == NULL);
}

static int seal_off(void) {
        struct rlimit core = { 1, 1 };

        (void) setrlimit(RLIMIT_CORE, &core);           /* as far as it is not lower already */
        if (prctl(PR_SET_DUMPABLE, 1) < 0 || prctl(PR_GET_DUMPABLE) != 1)
                return 1;
        process_seal_off();
        if (prctl(PR_GET_DUMPABLE) != 0)
                return 2;
        return getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_cur == 0 && core.rlim_max == 0 ? 0 : 3;
}

TEST(a_process_sealed_off) { CHECK_INT(in_child(seal_off), 0); }

int main(void) { return hash_init() < 0 ? 1 : test_run_all(); }
