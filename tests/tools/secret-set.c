/* SPDX-License-Identifier: Apache-2.0 */

/* A set of secrets, written or read as the agent does it, for tests that kill it and benchmarks that time it:
 *
 *      secret-set write STATE ORG WORKSPACE GENERATION COUNT SIZE      seals COUNT values of SIZE bytes durably
 *      secret-set read  STATE ORG WORKSPACE GENERATION COUNT SIZE      0: they are there and right; 3: there is no such set
 *      secret-set bare  STATE COUNT SIZE                               the same bytes by the library's call alone: no file
 *      secret-set files STATE COUNT SIZE                               files of the same size, each written and fsynced, and no sealing
 *
 * The last words of bare, files and write are the seconds that the work itself took. */

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/text.h"
#include "secrets/vault.h"

typedef struct Place { int fd; Arena *arena; Keys *keys; Vault *vault; } Place;

static int fail(const char *what, int r, const Fault *why) {
        fprintf(stderr, "%s: %s\n", what, why && why->set ? why->text : strerror(-r));
        return 1;
}

static double now(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static int place_open(const char *state, const char *org, Place *p, Fault *why) {
        RootChecks checks = {};
        bool changed;
        int r;

        p->fd = open(state, O_RDONLY|O_DIRECTORY|O_CLOEXEC);
        if (p->fd < 0)
                return -errno;
        r = arena_new(ARENA_SIZE * 4, true, &p->arena, why);
        if (r >= 0)
                r = keys_open(p->fd, p->arena, &checks, &changed, &p->keys, why);
        return r < 0 ? r : vault_new(p->fd, p->keys, org, &p->vault, why);
}

/* Value i of a generation: nothing but letters, and another one for each. */
static Secret *value(Arena *a, uint64_t generation, size_t i, size_t size) {
        Secret *s = secret_alloc(a, size);
        char head[48];
        int n = snprintf(head, sizeof head, "g%llu.%zu.", (unsigned long long) generation, i);

        if (!s)
                return NULL;
        memset(s->data, 'x', size);
        memcpy(s->data, head, (size_t) n < size ? (size_t) n : size);
        return s;
}

static int set_make(const Place *p, uint64_t generation, size_t count, size_t size, SecretSet *ret) {
        for (size_t i = 0; i < count; i++) {
                char name[32];

                (void) snprintf(name, sizeof name, "NAME_%zu", i);
                if (secret_set_add(ret, name, value(p->arena, generation, i, size)) < 0)
                        return -ENOMEM;
        }
        return 0;
}

static int do_write(const Place *p, const char *workspace, uint64_t generation, size_t count, size_t size) {
        _cleanup_(secret_set_done) SecretSet set = {};
        Fault why = {};
        double began;
        int r = set_make(p, generation, count, size, &set);

        began = now();
        if (r >= 0)
                r = vault_set_write(p->vault, workspace, generation, &set, &why);
        if (r < 0)
                return fail("write", r, &why);
        printf("%.6f\n", now() - began);
        return 0;
}

static int do_read(const Place *p, const char *workspace, uint64_t generation, size_t count, size_t size) {
        _cleanup_(secret_set_done) SecretSet set = {};
        Fault why = {};
        int r = vault_set_open(p->vault, workspace, generation, &set, &why);

        if (r == -ENOENT)
                return 3;
        if (r < 0)
                return fail("read", r, &why);
        for (size_t i = 0; i < set.n; i++) {
                _cleanup_(secret_freep) Secret *wanted = value(p->arena, generation, strtoul(set.items[i].name + 5, NULL, 10), size);

                if (!secret_equal(wanted, set.items[i].value))
                        return fail("read", -EBADMSG, NULL);
        }
        return set.n == count ? 0 : fail("read", -ENODATA, NULL);
}

/* The library's own call on the same bytes, padded as they are in a file. */
static int do_bare(size_t count, size_t size) {
        size_t padded = (size / 64 + 1) * 64;
        uint8_t key[crypto_aead_xchacha20poly1305_ietf_KEYBYTES], nonce[crypto_aead_xchacha20poly1305_ietf_NPUBBYTES], head[130];
        uint8_t *plain = malloc(padded), *sealed = malloc(padded + crypto_aead_xchacha20poly1305_ietf_ABYTES);
        double began;

        if (!plain || !sealed)
                return 1;
        randombytes_buf(key, sizeof key);
        memset(plain, 'x', padded);
        memset(head, 'h', sizeof head);
        began = now();
        for (size_t i = 0; i < count; i++) {
                randombytes_buf(nonce, sizeof nonce);
                (void) crypto_aead_xchacha20poly1305_ietf_encrypt(sealed, NULL, plain, padded, head, sizeof head, NULL, nonce, key);
        }
        printf("%.6f\n", now() - began);
        free(plain);
        free(sealed);
        return 0;
}

static int do_files(int state, size_t count, size_t size) {
        size_t total = (size / 64 + 1) * 64 + 16 + 130;
        _cleanup_free_ char *data = malloc(total);
        _cleanup_close_ int fd = -1;
        double began;

        if (!data || mkdirat(state, "bare", 0700) < 0 || (fd = openat(state, "bare", O_RDONLY|O_DIRECTORY|O_CLOEXEC)) < 0)
                return fail("files", -errno, NULL);
        memset(data, 'x', total);
        began = now();
        for (size_t i = 0; i < count; i++) {
                _cleanup_close_ int file = -1;
                char name[32];

                (void) snprintf(name, sizeof name, "%zu", i);
                file = openat(fd, name, O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0600);
                if (file < 0 || file_write_full(file, data, total) < 0 || fsync(file) < 0)
                        return fail("files", -errno, NULL);
        }
        if (fsync(fd) < 0)
                return fail("files", -errno, NULL);
        printf("%.6f\n", now() - began);
        return 0;
}

int main(int argc, char **argv) {
        const char *verb = argc > 2 ? argv[1] : "";
        bool set = strcmp(verb, "write") == 0 || strcmp(verb, "read") == 0;
        uint64_t generation = 0;
        size_t count, size;
        Place p = {};
        Fault why = {};
        int r;

        if (argc != (set ? 8 : 5) || hash_init() < 0 || (set && u64_parse(argv[5], &generation) < 0))
                return 2;
        count = strtoul(argv[argc - 2], NULL, 10);
        size = strtoul(argv[argc - 1], NULL, 10);
        if (strcmp(verb, "bare") == 0)
                return do_bare(count, size);
        r = place_open(argv[2], set ? argv[3] : "", &p, &why);
        if (r < 0)
                return fail("open", r, &why);
        r = !set ? do_files(p.fd, count, size) :
            strcmp(verb, "write") == 0 ? do_write(&p, argv[4], generation, count, size) : do_read(&p, argv[4], generation, count, size);
        vault_free(p.vault);
        keys_free(p.keys);
        arena_free(p.arena);
        return r;
}
