/* SPDX-License-Identifier: Apache-2.0 */

/* The first key a host registers is believed: there is nothing to compare it with. A later one that differs is believed when the holder of
 * the known one says so, by opening a box for it, or when an operator does. Until then the known one stays, jobs with secrets wait
 * (statements.h, HELD_BACK), and everything else goes on: whoever has only the fleet's credentials cannot have secrets sealed to a key of
 * their own.
 *
 * A register without a key changes nothing: else leaving it out once would be the way around the proof. */

#include "tests/devcp/keys.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "base/hash.h"
#include "tests/devcp/manage.h"
#include "tests/devcp/reissue.h"
#include "tests/devcp/seal.h"

#define ALGORITHM      "x25519-sealedbox"
#define CHALLENGE_SIZE 32
#define PROOF_SIZE     crypto_generichash_BYTES
#define KEY_ID_LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-"

void key_done(SealingKey *k) {
        free(k->key_id);
        free(k->public_key);
        free(k->proof);
}

/* --- the register's fields ------------------------------------------------------------------------------------------------------- */

static int set_key_id(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        const char *s = cJSON_GetStringValue(v);

        if (strspn(s, KEY_ID_LETTERS) != strlen(s))
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "field '%s' is no key id", f->name);
        return json_set_string(f, v, place, reterr);
}

static int check_algorithm(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        (void) place;
        return str_equal(cJSON_GetStringValue(v), ALGORITHM) ?
                0 : fault(reterr, -EBADMSG, FAULT_BAD_JSON, "field '%s' is not " ALGORITHM, f->name);
}

/* A box is made for trial: not every 32 bytes are a key. */
static int set_public_key(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        _cleanup_free_ char *box = NULL;
        int r = seal_box(cJSON_GetStringValue(v), "", 0, &box);

        if (r == -EBADMSG)
                return fault(reterr, r, FAULT_BAD_JSON, "field '%s' is not the base64 of an X25519 public key", f->name);
        return r < 0 ? r : json_set_string(f, v, place, reterr);
}

static const JsonField key_fields[] = {
        { "key_id",     cJSON_String, set_key_id,      offsetof(SealingKey, key_id),     JSON_REQUIRED, 128 },
        { "algorithm",  cJSON_String, check_algorithm, 0,                                JSON_REQUIRED },
        { "public_key", cJSON_String, set_public_key,  offsetof(SealingKey, public_key), JSON_REQUIRED },
        {}
};

int key_set(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        int r = json_dispatch(v, key_fields, JSON_STRICT, place, reterr);

        return r < 0 ? fault_prefix(reterr, r, "field '%s': ", f->name) : 0;
}

int key_set_proof(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size;
        int r = base64_decode(cJSON_GetStringValue(v), PROOF_SIZE, &bytes, &size);

        if (r == -ENOMEM)
                return r;
        if (r < 0 || size != PROOF_SIZE)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "field '%s' is not the base64 of %u bytes", f->name, PROOF_SIZE);
        return json_set_string(f, v, &((SealingKey *) place)->proof, reterr);
}

/* --- taking a key ---------------------------------------------------------------------------------------------------------------- */

int key_get(Server *s, const char *host_id, cJSON **ret) {
        _cleanup_json_ cJSON *row = NULL;
        int r = store_get(s->store, SQL_SEALING_KEY_GET, &row, "s", host_id);

        if (r < 0 && r != -ENOENT)
                return r;
        *ret = TAKE_PTR(row);
        return 0;
}

static int key_put(Server *s, const char *host_id, const char *key_id, const char *public_key) {
        int r = store_do(s->store, SQL_SEALING_KEY_PUT, "sss", host_id, key_id, public_key);

        return r < 0 ? r : store_do(s->store, SQL_CHALLENGE_DROP, "s", host_id);
}

/* Does the proof answer the challenge that is out? Either way that one is spent: the caller settles the key, or makes another. */
static int proof_check(Server *s, const char *host_id, const SealingKey *key, bool *ret) {
        unsigned char digest[PROOF_SIZE];
        _cleanup_json_ cJSON *row = NULL;
        _cleanup_free_ uint8_t *challenge = NULL, *public_key = NULL;
        _cleanup_free_ char *wanted = NULL;
        size_t challenge_size = 0, size = 0;
        int r;

        *ret = false;
        r = key->proof ? store_get(s->store, SQL_CHALLENGE_GET, &row, "s", host_id) : -ENOENT;
        if (r == -ENOENT)
                return 0;
        if (r == 0)
                r = base64_decode(json_get_string(row, "bytes"), CHALLENGE_SIZE, &challenge, &challenge_size);
        if (r == 0)
                r = base64_decode(key->public_key, SEALING_KEY_SIZE, &public_key, &size);
        if (r < 0)
                return r;
        (void) crypto_generichash(digest, sizeof digest, public_key, size, challenge, challenge_size);
        wanted = base64_encode(digest, sizeof digest);
        if (!wanted)
                return -ENOMEM;
        *ret = equal_constant_time(wanted, key->proof);
        return 0;
}

static int dispute(Server *s, const char *host_id, const char *known, const SealingKey *key, char **ret_challenge) {
        unsigned char bytes[CHALLENGE_SIZE];
        _cleanup_free_ char *box = NULL;
        int r;

        randombytes_buf(bytes, sizeof bytes);
        r = seal_box(known, bytes, sizeof bytes, &box);
        if (r == 0)
                r = store_do(s->store, SQL_CHALLENGE_PUT, "sb", host_id, (const void *) bytes, sizeof bytes);
        if (r == 0)
                r = store_do(s->store, SQL_SEALING_KEY_DISPUTE, "sss", host_id, key->key_id, key->public_key);
        if (r < 0)
                return r;
        *ret_challenge = TAKE_PTR(box);
        return 0;
}

int key_take(Server *s, const char *host_id, const SealingKey *key, char **ret_challenge) {
        _cleanup_json_ cJSON *known = NULL;
        const char *public_key;
        bool good = false;
        int r;

        *ret_challenge = NULL;
        if (!key->key_id)
                return 0;
        r = key_get(s, host_id, &known);
        if (r < 0)
                return r;
        public_key = json_get_string(known, "public_key");
        if (known && !str_equal(public_key, key->public_key)) {
                r = proof_check(s, host_id, key, &good);
                if (r < 0)
                        return r;
                if (!good)
                        return dispute(s, host_id, public_key, key, ret_challenge);
        }
        return key_put(s, host_id, key->key_id, key->public_key);
}

/* --- the operator's word --------------------------------------------------------------------------------------------------------- */

static const JsonField word_fields[] = {
        { "key_id", cJSON_String, json_set_string, offsetof(SealingKey, key_id), JSON_REQUIRED, 128 },
        {}
};

/* What was queued for the old key is made anew at once; what the host may have begun waits for its next register, which says so. */
int admin_sealing_key(Server *s, Request *q) {
        _cleanup_(key_done) SealingKey word = {};
        _cleanup_json_ cJSON *host = NULL, *key = NULL, *answer = cJSON_CreateObject();
        const char *pending;
        int r;

        r = request_body(q, word_fields, JSON_STRICT, &word, NULL);
        if (r != 0)
                return r < 0 ? r : 0;
        r = store_get(s->store, SQL_HOST_GET, &host, "s", q->parameter);
        if (r == -ENOENT)
                return request_error(q, 404, "not_found", "there is no such host");
        if (r == 0)
                r = key_get(s, q->parameter, &key);
        if (r < 0)
                return r;
        pending = json_get_string(key, "pending_key_id");
        if (!pending)
                return request_error(q, 404, "no_conflict", "no other sealing key is waiting for this host");
        if (!str_equal(pending, word.key_id))
                return request_error(q, 409, "sealing_key_mismatch", "key_id is not that of the key that is waiting");
        r = key_put(s, q->parameter, pending, json_get_string(key, "pending_public_key"));
        if (r == 0)
                r = reissue_useless(s, json_get_string(host, "org_id"), q->parameter, NULL);
        if (r < 0)
                return r;
        server_wake(s, q->parameter);
        if (!json_add_string(answer, "host_id", q->parameter) || !json_add_string(answer, "key_id", word.key_id))
                return -ENOMEM;
        return request_answer(q, 200, TAKE_PTR(answer));
}
