/* SPDX-License-Identifier: Apache-2.0 */

/* secrets/seal, held against the vectors of tests/data/mseal: what opens, which word is said of what does not, and that a writer makes the
 * very same bytes. The vectors are made by code that has nothing in common with this. */

#include <errno.h>
#include <sodium.h>

#include "base/hash.h"
#include "secrets/seal.h"
#include "tests/data.h"
#include "tests/sealed-kit.h"

static const char *const files[] = { "good", "header", "keys", "context", "size", "order" };

static uint8_t *hex_of(const char *text, size_t *ret_size) {
        size_t n = strlen(text) / 2;
        uint8_t *data = malloc(n + 1);

        if (!data || sodium_hex2bin(data, n + 1, text, strlen(text), NULL, ret_size, NULL) != 0)
                abort();
        return data;
}

/* ── one vector ──────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct Vector {
        const cJSON *json;
        SealContext  context;
        uint8_t     *key, *file, *plain, *nonce;        /* key: of the workspace; NULL where a root counts */
        size_t       size, plain_size;
        uint32_t     epoch;
} Vector;

static const uint8_t *root_of(uint32_t epoch, const void *userdata) {
        static uint8_t root[KEY_SIZE];
        char name[21];
        const char *text = json_get_string(json_get(((const Vector *) userdata)->json, "roots"), u64_text(epoch, name));

        return text && sodium_hex2bin(root, sizeof root, text, strlen(text), NULL, NULL, NULL) == 0 ? root : NULL;
}

static SealKeys keys_of(const Vector *v) { return (SealKeys) { .root = root_of, .userdata = v, .workspace = v->key }; }

static const uint8_t *writing_key(const Vector *v) { return v->key ?: root_of(v->epoch, v); }

static uint8_t *repeated(const cJSON *told, size_t *ret_size) {
        size_t n = (size_t) json_get_i64(told, "count", 0), one;
        _cleanup_free_ uint8_t *byte = hex_of(json_get_string(told, "byte"), &one);
        uint8_t *data = malloc(n + 1);

        if (!data)
                abort();
        memset(data, byte[0], n);
        *ret_size = n;
        return data;
}

/* A file that is too large to stand in the vectors, made here by the library and the page alone. */
static uint8_t *made_of(const Vector *v, const cJSON *told, size_t *ret_size) {
        static const char *const contexts[] = { "wswrap_1", "wswrap_1", "wsaead_1", "wsmani_1", "wspayl_1", "wswrap_1" };
        static const uint64_t ids[] = { 1, 1, 1, 2, 3, 1 };
        const char *strings[] = { v->context.org, v->context.workspace, v->context.name };
        size_t n, padded, head = 48, nonce_size;
        _cleanup_free_ uint8_t *plain = repeated(json_get(told, "plaintext_repeat"), &n),
                               *nonce = hex_of(json_get_string(told, "nonce"), &nonce_size);
        bool pad = cJSON_IsTrue(json_get(told, "pad"));
        uint64_t epoch = (uint64_t) json_get_i64(told, "epoch", 0);
        uint8_t subkey[32], *file, *data;

        padded = pad ? (n / 64 + 1) * 64 : n;
        file = calloc(1, padded + 2048);
        data = calloc(1, padded + 1);
        if (!file || !data)
                abort();
        memcpy(data, plain, n);
        if (pad)
                data[n] = 0x80;
        memcpy(file, "MSEAL1\r\n", 8);
        file[8] = (uint8_t) v->context.type;
        for (int i = 0; i < 4; i++)
                file[12 + i] = (uint8_t) (epoch >> 8 * i);
        for (int i = 0; i < 8; i++)
                file[16 + i] = (uint8_t) (v->context.generation >> 8 * i);
        memcpy(file + 24, nonce, 24);
        for (int i = 0; i < 3; i++) {
                size_t length = strlen(strings[i]);

                file[head] = (uint8_t) length;
                memcpy(file + head + 2, strings[i], length);
                head += 2 + length;
        }
        file[10] = (uint8_t) head;
        file[11] = (uint8_t) (head >> 8);
        crypto_kdf_derive_from_key(subkey, 32, ids[v->context.type], contexts[v->context.type], writing_key(v));
        crypto_aead_xchacha20poly1305_ietf_encrypt(file + head, NULL, data, padded, file, head, NULL, file + 24, subkey);
        free(data);
        *ret_size = head + padded + 16;
        return file;
}

static Vector vector_of(const cJSON *json) {
        const cJSON *expect = json_get(json, "expect"), *from = json_get(json, "file_from"), *repeat = json_get(json, "plaintext_repeat");
        const char *key = json_get_string(json, "workspace_key"), *plain = json_get_string(json, "plaintext"),
                   *nonce = json_get_string(json, "nonce");
        Vector v = { .json = json, .epoch = (uint32_t) json_get_i64(json, "epoch", 0) };
        size_t n;

        v.context = (SealContext) { .type = (SealType) json_get_i64(json, "type", 0), .org = json_get_string(expect, "org"),
                                    .workspace = json_get_string(expect, "workspace"), .name = json_get_string(expect, "name"),
                                    .generation = json_get_u64_text(expect, "generation", 0) };
        v.key = key ? hex_of(key, &n) : NULL;
        v.nonce = nonce ? hex_of(nonce, &n) : NULL;
        v.plain = repeat ? repeated(repeat, &v.plain_size) : plain ? hex_of(plain, &v.plain_size) : NULL;
        v.file = from ? made_of(&v, from, &v.size) : hex_of(json_get_string(json, "file"), &v.size);
        return v;
}

static void vector_done(Vector *v) {
        free(v->key);
        free(v->file);
        free(v->plain);
        free(v->nonce);
}

/* Whether the words begin with the stable word, whose code is always the same. */
static bool says(const Fault *f, const char *word) {
        size_t n = strlen(word);

        return f->set && f->code == FAULT_SECRET_UNDECRYPTABLE && strncmp(f->text, word, n) == 0 && f->text[n] == ':';
}

static void one_reads(const Vector *v, const char *name) {
        const char *word = json_get_string(v->json, "error");
        bool is_key = v->context.type == SEAL_WORKSPACE_KEY || v->context.type == SEAL_HOST_KEY;
        int wanted = !word                              ? 0 :
                     strcmp(word, "unknown_epoch") == 0 ? -ENOKEY :
                     is_key && strcmp(word, "wrong_org") == 0 ? -EXDEV : -EBADMSG;
        uint8_t *exact = malloc(v->size + !v->size);    /* exactly so large: a read beyond is seen by the sanitizer */
        SealKeys keys = keys_of(v);
        Secret *s = NULL;
        char *text = NULL;
        size_t size = 77;
        Fault f = {}, g = {};
        bool good;

        if (!exact)
                abort();
        memcpy(exact, v->file, v->size);
        good = CHECK_INT(seal_open_plain(&v->context, &keys, exact, v->size, &text, &size, &f), wanted);
        good &= CHECK(word ? says(&f, word) && !text && size == 77 : text && size == v->plain_size && memcmp(text, v->plain, size) == 0 &&
                      !text[size]);
        if (v->size < ARENA_SIZE / 2) {
                good &= CHECK_INT(seal_open(&v->context, &keys, exact, v->size, kit_shared_arena(), &s, &g), wanted);
                good &= CHECK(word ? says(&g, word) && !s : s && s->size == v->plain_size && memcmp(s->data, v->plain, s->size) == 0 &&
                              !s->data[s->size]);
        }
        if (!good)
                printf("#   in: %s; %s\n", name, f.text);
        free(exact);
        free(text);
        secret_free(s);
}

static int n_all, n_bad;                /* vectors that each_vector() gave, and those of them that must be refused */

static void each_vector(void (*one)(const Vector *v, const char *name)) {
        for (size_t i = 0; i < ELEMENTS(files); i++) {
                char name[40];
                _cleanup_json_ cJSON *json = NULL;
                const cJSON *item;

                (void) snprintf(name, sizeof name, "mseal/%s.json", files[i]);
                json = data_json(name);
                cJSON_ArrayForEach(item, json_get(json, "vectors")) {
                        _cleanup_(vector_done) Vector v = vector_of(item);

                        n_all++;
                        n_bad += json_get_string(item, "error") != NULL;
                        one(&v, json_get_string(item, "name"));
                }
        }
}

TEST(a_reader_says_what_the_vectors_say) {
        n_all = n_bad = 0;
        each_vector(one_reads);
        CHECK(n_all >= 200 && n_bad >= 150);
}

static void one_is_written(const Vector *v, const char *name) {
        _cleanup_free_ uint8_t *file = NULL;
        size_t size = 0;

        if (json_get_string(v->json, "error"))
                return;
        CHECK_INT(seal_make_with(&v->context, v->epoch, writing_key(v), v->nonce, v->plain, v->plain_size, kit_shared_arena(), &file, &size,
                                 NULL), 0);
        if (!CHECK(size == v->size && memcmp(file, v->file, size) == 0))
                printf("#   in: %s\n", name);
}

TEST(a_writer_makes_exactly_the_good_files) {
        n_all = n_bad = 0;
        each_vector(one_is_written);
        CHECK(n_all - n_bad >= 40);
}

/* ── no byte counts for nothing ──────────────────────────────────────────────────────────────────────────────── */

static Vector good_one(const cJSON *json, const char *name) {
        const cJSON *item;

        cJSON_ArrayForEach(item, json_get(json, "vectors"))
                if (str_equal(json_get_string(item, "name"), name))
                        return vector_of(item);
        abort();
}

static bool opens(const Vector *v, const uint8_t *file, size_t size) {
        SealKeys keys = keys_of(v);
        Fault f = {};
        char *text = NULL;
        size_t n;
        int r = seal_open_plain(&v->context, &keys, file, size, &text, &n, &f);

        free(text);
        return r == 0 || !f.set || f.code != FAULT_SECRET_UNDECRYPTABLE;
}

TEST(no_bit_may_be_flipped_and_no_byte_be_missing_or_added) {
        static const char *const names[] = { "a secret", "a workspace's key", "a host key" };
        _cleanup_json_ cJSON *json = data_json("mseal/good.json");

        for (size_t i = 0; i < ELEMENTS(names); i++) {
                _cleanup_(vector_done) Vector v = good_one(json, names[i]);
                _cleanup_free_ uint8_t *file = calloc(1, v.size + 200);

                memcpy(file, v.file, v.size);
                CHECK(opens(&v, file, v.size));
                for (size_t bit = 0; bit < v.size * 8; bit++) {
                        file[bit / 8] ^= (uint8_t) (1 << bit % 8);
                        if (!CHECK(!opens(&v, file, v.size)))
                                printf("#   in: %s, bit %zu\n", names[i], bit);
                        file[bit / 8] ^= (uint8_t) (1 << bit % 8);
                }
                for (size_t n = 0; n < v.size + 200; n++)
                        if (!CHECK(opens(&v, file, n) == (n == v.size)))
                                printf("#   in: %s, %zu bytes\n", names[i], n);
        }
}

/* The sanitizer sees whether a length leads out of the file. */
TEST(lengths_lead_nowhere) {
        static const uint8_t lengths[] = { 0, 1, 2, 3, 14, 15, 16, 17, 18, 20, 22, 63, 64, 65, 128, 129, 255 };
        const SealContext c = { SEAL_SECRET, "o", "w", "n", 0 };
        static const uint8_t key[KEY_SIZE] = { 1 };
        const SealKeys keys = { .workspace = key };

        for (size_t size = 54 + 16; size < 54 + 16 + 6; size++)
                for (size_t at = 48; at < size - 16; at++)
                        for (size_t i = 0; i < ELEMENTS(lengths); i++) {
                                uint8_t *file = calloc(1, size);
                                Secret *s = NULL;
                                Fault f = {};

                                if (!file)
                                        abort();
                                memcpy(file, "MSEAL1\r\n\2", 9);
                                file[10] = (uint8_t) (size - 16);
                                file[48] = 1;
                                file[51] = 1;
                                file[at] = lengths[i];
                                CHECK_INT(seal_open(&c, &keys, file, size, kit_shared_arena(), &s, &f), -EBADMSG);
                                CHECK(says(&f, "bad_header") || says(&f, "bad_size"));
                                free(file);
                        }
}

TEST(the_epoch_as_the_head_says_it) {
        _cleanup_json_ cJSON *json = data_json("mseal/good.json");
        _cleanup_(vector_done) Vector v = good_one(json, "a host key under the second root");
        uint32_t epoch = 99;

        CHECK_INT(seal_epoch(v.file, v.size, &epoch), 0);
        CHECK_INT(epoch, 2);
        CHECK_INT(seal_epoch(v.file, 53, &epoch), -EBADMSG);
        v.file[0] ^= 1;
        CHECK_INT(seal_epoch(v.file, v.size, &epoch), -EBADMSG);
        CHECK_INT(epoch, 2);
}

TEST(checks_of_roots) {
        _cleanup_json_ cJSON *json = data_json("mseal/derive.json");
        const cJSON *item;

        cJSON_ArrayForEach(item, json_get(json, "check")) {
                size_t n;
                _cleanup_free_ uint8_t *root = hex_of(json_get_string(item, "root"), &n);
                char check[ROOT_CHECK_SIZE];

                seal_root_check(root, check);
                CHECK_STR(check, json_get_string(item, "check"));
        }
}

/* The derivation shows in files alone: each of these keys opens what was sealed with its subkey, and is sealed with it. */
TEST(derived_keys) {
        static const struct { SealType type; uint64_t id; const char *context; bool named; } kinds[] = {
                { SEAL_WORKSPACE_KEY, 1, "wswrap_1", false }, { SEAL_HOST_KEY, 1, "wswrap_1", false }, { SEAL_SECRET, 1, "wsaead_1", true },
                { SEAL_MANIFEST, 2, "wsmani_1", false },      { SEAL_BLOB, 3, "wspayl_1", true },
        };
        static const uint8_t plain[KEY_SIZE] = "thirty-two bytes, no less, no mo";
        _cleanup_json_ cJSON *json = data_json("mseal/derive.json");
        const cJSON *item;
        int n = 0;

        cJSON_ArrayForEach(item, json_get(json, "kdf"))
                for (size_t i = 0; i < ELEMENTS(kinds); i++) {
                        size_t size, head;
                        _cleanup_free_ uint8_t *key = hex_of(json_get_string(item, "key"), &size),
                                               *subkey = hex_of(json_get_string(item, "subkey"), &size);
                        _cleanup_free_ uint8_t *file = NULL;
                        const SealContext c = { kinds[i].type, "o", "w", kinds[i].named ? "n" : "", 0 };
                        uint8_t out[128];

                        if (json_get_i64(item, "id", 0) != (int64_t) kinds[i].id ||
                            !str_equal(json_get_string(item, "context"), kinds[i].context))
                                continue;
                        n++;
                        CHECK_INT(seal_make(&c, 1, key, plain, sizeof plain, kit_shared_arena(), &file, &size, NULL), 0);
                        head = (size_t) file[10] | (size_t) file[11] << 8;
                        CHECK_INT(crypto_aead_xchacha20poly1305_ietf_decrypt(out, NULL, NULL, file + head, size - head, file, head,
                                                                             file + 24, subkey), 0);
                        CHECK(memcmp(out, plain, sizeof plain) == 0);
                }
        CHECK(n >= 5);
}

/* ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(what_may_not_be_written) {
        _cleanup_free_ char *id = kit_fill('i', 64), *longer = kit_fill('i', 65), *name = kit_fill('n', 128),
                            *too_long = kit_fill('n', 129);
        _cleanup_free_ char *large = kit_fill('x', SEAL_MANIFEST_MAX + 1);
        const struct { SealContext c; size_t size; bool good; } table[] = {
                { { SEAL_SECRET, id, id, name, UINT64_MAX }, SEAL_SECRET_MAX, true },
                { { SEAL_SECRET, id, id, name, 1 }, SEAL_SECRET_MAX + 1, false },
                { { SEAL_SECRET, longer, "w", "n", 1 }, 1, false },
                { { SEAL_SECRET, "", "w", "n", 1 }, 1, false },
                { { SEAL_SECRET, "o", longer, "n", 1 }, 1, false },
                { { SEAL_SECRET, "o", "", "n", 1 }, 1, false },
                { { SEAL_SECRET, "o", "w", too_long, 1 }, 1, false },
                { { SEAL_SECRET, "o", "w", "", 1 }, 1, false },
                { { SEAL_MANIFEST, "o", "w", "", 1 }, SEAL_MANIFEST_MAX, true },
                { { SEAL_MANIFEST, "o", "w", "", 1 }, SEAL_MANIFEST_MAX + 1, false },
                { { SEAL_MANIFEST, "o", "w", "n", 1 }, 1, false },
                { { SEAL_WORKSPACE_KEY, "o", "w", "", 0 }, 32, true },
                { { SEAL_WORKSPACE_KEY, "o", "w", "", 0 }, 31, false },
                { { SEAL_WORKSPACE_KEY, "o", "w", "", 0 }, 33, false },
                { { SEAL_HOST_KEY, "o", "host", "n", 0 }, 32, false },
        };
        static const uint8_t key[KEY_SIZE] = { 1 };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_free_ uint8_t *file = NULL;
                size_t size = 0;
                Fault f = {};

                CHECK((seal_make(&table[i].c, 1, key, large, table[i].size, kit_shared_arena(), &file, &size, &f) == 0) == table[i].good);
                if (!CHECK((file != NULL) == table[i].good && f.set == !table[i].good))
                        printf("#   in: case %zu\n", i);
        }
}

TEST(no_nonce_is_used_twice) {
        const SealContext c = { SEAL_SECRET, "o", "w", "n", 1 };
        static const uint8_t key[KEY_SIZE] = { 1 };
        _cleanup_free_ uint8_t *a = NULL, *b = NULL;
        size_t size;

        CHECK_INT(seal_make(&c, 1, key, "x", 1, kit_shared_arena(), &a, &size, NULL), 0);
        CHECK_INT(seal_make(&c, 1, key, "x", 1, kit_shared_arena(), &b, &size, NULL), 0);
        CHECK(memcmp(a, b, 24) == 0 && memcmp(a + 24, b + 24, 24) != 0 && memcmp(a + size - 80, b + size - 80, 80) != 0);
}

TEST(a_full_arena_is_no_damage) {
        const SealContext c = { SEAL_SECRET, "o", "w", "n", 1 };
        static const uint8_t key[KEY_SIZE] = { 1 };
        SealKeys keys = { .workspace = key };
        _cleanup_(arena_freep) Arena *small = NULL;
        _cleanup_free_ uint8_t *file = NULL, *other = NULL;
        Secret *s = NULL;
        size_t size;
        Fault f = {}, g = {};

        CHECK_INT(arena_new(4096, true, &small, NULL), 0);
        {
                _cleanup_free_ char *large = kit_fill('x', 5000);

                CHECK_INT(seal_make(&c, 1, key, large, 5000, kit_shared_arena(), &file, &size, NULL), 0);
                CHECK_INT(seal_make(&c, 1, key, large, 5000, small, &other, &size, &g), -ENOMEM);
        }
        CHECK(!other && g.code == FAULT_INTERNAL);
        CHECK_INT(seal_open(&c, &keys, file, size, small, &s, &f), -ENOMEM);
        CHECK(!s && f.code == FAULT_INTERNAL);
}

int main(void) { return hash_init() < 0 ? 1 : test_run_all(); }
