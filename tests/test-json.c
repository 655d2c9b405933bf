/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>

#include "base/json.h"
#include "base/text.h"
#include "tests/test.h"

static cJSON *parse(const char *text) {
        cJSON *json = NULL;
        Fault f = {};

        if (json_parse(text, strlen(text), &json, &f) < 0) {
                printf("# %s: %s\n", text, f.text);
                abort();
        }
        return json;
}

TEST(parse_needs_no_nul) {
        const char text[] = { '[', '1', '2', ']', '3' };
        _cleanup_json_ cJSON *json = NULL;
        cJSON *untouched = NULL;
        Fault f = {};

        CHECK_INT(json_parse(text, 4, &json, NULL), 0);
        CHECK_INT(cJSON_GetArraySize(json), 1);
        CHECK_INT(json_parse(text, 5, &untouched, &f), -EBADMSG);
        CHECK(!untouched && f.code == FAULT_BAD_JSON);
}

/* ── tables ──────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct Inner { uint32_t port; char *path; } Inner;

typedef struct Outer {
        char    *name, *text;
        char     id[UUID_SIZE];
        uint64_t generation, at;
        uint32_t tier;
        bool     prune;
        int      restart;
        Inner    strict, lenient;
        cJSON   *value;
} Outer;

static const JsonField inner_fields[] = {
        { "port", cJSON_Number, json_set_u32,    offsetof(Inner, port), JSON_REQUIRED, 65535 },
        { "path", cJSON_String, json_set_string, offsetof(Inner, path), JSON_OPTIONAL },
        {}
};

static const JsonField outer_fields[] = {
        { "name",       cJSON_String,             json_set_string,         offsetof(Outer, name),       JSON_REQUIRED, 8 },
        { "text",       cJSON_String,             json_set_text,           offsetof(Outer, text),       JSON_NULLABLE },
        { "id",         cJSON_String,             json_set_uuid,           offsetof(Outer, id),         JSON_OPTIONAL },
        { "generation", cJSON_String,             json_set_u64_text,       offsetof(Outer, generation), JSON_OPTIONAL },
        { "at",         cJSON_String,             json_set_time,           offsetof(Outer, at),         JSON_OPTIONAL },
        { "tier",       cJSON_Number,             json_set_u32,            offsetof(Outer, tier),       JSON_OPTIONAL, 4 },
        { "prune",      cJSON_True | cJSON_False, json_set_bool,           offsetof(Outer, prune),      JSON_OPTIONAL },
        { "restart",    cJSON_True | cJSON_False, json_set_tristate,       offsetof(Outer, restart),    JSON_OPTIONAL },
        { "strict",     cJSON_Object,             json_set_object,         offsetof(Outer, strict),     JSON_OPTIONAL, 0, inner_fields },
        { "lenient",    cJSON_Object,             json_set_object_lenient, offsetof(Outer, lenient),    JSON_OPTIONAL, 0, inner_fields },
        { "value",      cJSON_Array,              json_set_value,          offsetof(Outer, value),      JSON_OPTIONAL },
        { "ignored",    cJSON_Number,             NULL,                    0,                           JSON_OPTIONAL },
        {}
};

static void outer_done(Outer *o) {
        free(o->name);
        free(o->text);
        free(o->strict.path);
        free(o->lenient.path);
        cJSON_Delete(o->value);
}
#define _cleanup_outer_ _cleanup_(outer_done)

static int dispatch(const char *text, JsonStrictness strictness, Outer *o, Fault *f) {
        _cleanup_json_ cJSON *json = parse(text);

        return json_dispatch(json, outer_fields, strictness, o, f);
}

TEST(every_setter) {
        _cleanup_outer_ Outer o = { .restart = -1 };

        CHECK_INT(dispatch("{\"name\":\"n\",\"text\":\"\",\"id\":\"0123abcd-4567-89ab-cdef-0123456789ab\","
                           "\"generation\":\"18446744073709551615\","
                           "\"at\":\"1970-01-01T00:00:01Z\",\"tier\":4,\"prune\":true,\"restart\":false,"
                           "\"strict\":{\"port\":65535,\"path\":\"/\"},\"lenient\":{\"port\":1,\"new\":{}},"
                           "\"value\":[1,{\"a\":null}],\"ignored\":7}",
                           JSON_STRICT, &o, NULL), 0);
        CHECK_STR(o.name, "n");
        CHECK_STR(o.text, "");
        CHECK_STR(o.id, "0123abcd-4567-89ab-cdef-0123456789ab");
        CHECK(o.generation == UINT64_MAX);
        CHECK_INT(o.at, 1000000);
        CHECK_INT(o.tier, 4);
        CHECK(o.prune);
        CHECK_INT(o.restart, 0);
        CHECK_INT(o.strict.port, 65535);
        CHECK_STR(o.strict.path, "/");
        CHECK_INT(o.lenient.port, 1);
        CHECK_INT(cJSON_GetArraySize(o.value), 2);
}

TEST(absent_fields_are_left_alone) {
        _cleanup_outer_ Outer o = { .restart = -1, .tier = 3 };

        CHECK_INT(dispatch("{\"name\":\"n\",\"text\":null}", JSON_STRICT, &o, NULL), 0);
        CHECK(!o.text);
        CHECK_INT(o.restart, -1);
        CHECK_INT(o.tier, 3);
}

TEST(set_again_frees_the_old) {
        _cleanup_outer_ Outer o = {};

        CHECK_INT(dispatch("{\"name\":\"a\",\"value\":[1]}", JSON_STRICT, &o, NULL), 0);
        CHECK_INT(dispatch("{\"name\":\"b\",\"value\":[1,2]}", JSON_STRICT, &o, NULL), 0);
        CHECK_STR(o.name, "b");
        CHECK_INT(cJSON_GetArraySize(o.value), 2);
}

TEST(lenient_ignores_the_unknown_only) {
        _cleanup_outer_ Outer o = {};
        Fault f = {};

        CHECK_INT(dispatch("{\"name\":\"n\",\"unheard\":[1],\"Name\":5}", JSON_LENIENT, &o, &f), 0);
        CHECK_INT(dispatch("{\"name\":5}", JSON_LENIENT, &o, &f), -EBADMSG);
}

static const struct { const char *text; int r; FaultCode code; const char *words; } refused[] = {
        { "[]",                                            -EBADMSG, FAULT_BAD_JSON,          "not an object" },
        { "{}",                                            -EBADMSG, FAULT_BAD_JSON,          "field 'name' is missing" },
        { "{\"name\":null}",                               -EBADMSG, FAULT_BAD_JSON,          "field 'name' has the wrong type" },
        { "{\"name\":\"\"}",                               -EBADMSG, FAULT_BAD_JSON,          "field 'name' is empty" },
        { "{\"name\":\"123456789\"}",                      -EFBIG,   FAULT_TOO_LARGE,         "field 'name' is longer than 8 bytes" },
        { "{\"name\":1}",                                  -EBADMSG, FAULT_BAD_JSON,          "field 'name' has the wrong type" },
        { "{\"name\":\"n\",\"Name\":\"m\"}",               -EBADMSG, FAULT_UNSUPPORTED_FIELD, "unknown field 'Name'" },
        { "{\"name\":\"n\",\"new\":1}",                    -EBADMSG, FAULT_UNSUPPORTED_FIELD, "unknown field 'new'" },
        { "{\"name\":\"n\",\"a\\nb\":1}",                  -EBADMSG, FAULT_UNSUPPORTED_FIELD, "unknown field 'a?b'" },
        { "{\"name\":\"n\",\"text\":1}",                   -EBADMSG, FAULT_BAD_JSON,          "field 'text' has the wrong type" },
        { "{\"name\":\"n\",\"id\":\"x\"}",                 -EBADMSG, FAULT_BAD_JSON,          "field 'id' is not a lower-case UUID" },
        { "{\"name\":\"n\",\"generation\":5}",             -EBADMSG, FAULT_BAD_JSON,          "field 'generation' has the wrong type" },
        { "{\"name\":\"n\",\"generation\":\"05\"}",        -EBADMSG, FAULT_BAD_JSON,          "'generation' is not a decimal string" },
        { "{\"name\":\"n\",\"generation\":\"18446744073709551616\"}", -ERANGE, FAULT_BAD_JSON, "'generation' is too large a number" },
        { "{\"name\":\"n\",\"at\":\"yesterday\"}",         -EBADMSG, FAULT_BAD_JSON,          "field 'at' is not an RFC 3339 time" },
        { "{\"name\":\"n\",\"tier\":5}",                   -ERANGE,  FAULT_BAD_JSON,          "'tier' is not a whole number from 0 to 4" },
        { "{\"name\":\"n\",\"tier\":-1}",                  -ERANGE,  FAULT_BAD_JSON,          "'tier' is not a whole number from 0 to 4" },
        { "{\"name\":\"n\",\"tier\":1.5}",                 -ERANGE,  FAULT_BAD_JSON,          "'tier' is not a whole number from 0 to 4" },
        { "{\"name\":\"n\",\"tier\":\"1\"}",               -EBADMSG, FAULT_BAD_JSON,          "field 'tier' has the wrong type" },
        { "{\"name\":\"n\",\"prune\":1}",                  -EBADMSG, FAULT_BAD_JSON,          "field 'prune' has the wrong type" },
        { "{\"name\":\"n\",\"restart\":null}",             -EBADMSG, FAULT_BAD_JSON,          "field 'restart' has the wrong type" },
        { "{\"name\":\"n\",\"strict\":[]}",                -EBADMSG, FAULT_BAD_JSON,          "field 'strict' has the wrong type" },
        { "{\"name\":\"n\",\"strict\":{}}",                -EBADMSG, FAULT_BAD_JSON,          "field 'strict': field 'port' is missing" },
        { "{\"name\":\"n\",\"strict\":{\"port\":1,\"x\":2}}", -EBADMSG, FAULT_UNSUPPORTED_FIELD, "field 'strict': unknown field 'x'" },
        { "{\"name\":\"n\",\"lenient\":{\"port\":65536}}", -ERANGE,  FAULT_BAD_JSON,          "'lenient': field 'port' is not a whole" },
        { "{\"name\":\"n\",\"value\":{}}",                 -EBADMSG, FAULT_BAD_JSON,          "field 'value' has the wrong type" },
        { "{\"name\":\"n\",\"ignored\":\"1\"}",            -EBADMSG, FAULT_BAD_JSON,          "field 'ignored' has the wrong type" },
};

TEST(refusals) {
        for (size_t i = 0; i < ELEMENTS(refused); i++) {
                _cleanup_outer_ Outer o = {};
                Fault f = {};

                if (!CHECK_INT(dispatch(refused[i].text, JSON_STRICT, &o, &f), refused[i].r) || !CHECK_INT(f.code, refused[i].code) ||
                    !CHECK(strstr(f.text, refused[i].words) != NULL))
                        printf("#   %s: %s\n", refused[i].text, f.text);
        }
}

TEST(words_hold_no_value) {
        static const char *const texts[] = {
                "{\"name\":\"sesame-sesame\"}", "{\"name\":\"n\",\"id\":\"sesame\"}", "{\"name\":\"n\",\"at\":\"sesame\"}",
                "{\"name\":\"n\",\"generation\":\"sesame\"}", "{\"name\":\"n\",\"strict\":{\"port\":\"sesame\"}}",
        };

        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                _cleanup_outer_ Outer o = {};
                Fault f = {};

                CHECK(dispatch(texts[i], JSON_STRICT, &o, &f) < 0);
                CHECK(!strstr(f.text, "sesame"));
        }
}

/* A tree that did not come through json_parse(). */
TEST(twice_in_a_foreign_tree) {
        _cleanup_json_ cJSON *json = cJSON_Parse("{\"name\":\"a\",\"name\":\"b\"}");
        _cleanup_outer_ Outer o = {};
        Fault f = {};

        CHECK_INT(json_dispatch(json, outer_fields, JSON_STRICT, &o, &f), -EBADMSG);
        CHECK_STR(f.text, "field 'name' given twice");
        CHECK_INT(json_dispatch(NULL, outer_fields, JSON_STRICT, &o, &f), -EBADMSG);
}

TEST(the_last_of_64_fields) {
        JsonField table[65] = {};
        char names[64][8];
        bool places[64] = {};
        _cleanup_json_ cJSON *json = parse("{\"f63\":true,\"f0\":true}"), *without = parse("{\"f0\":true}");

        for (size_t i = 0; i < 64; i++) {
                (void) snprintf(names[i], sizeof names[i], "f%zu", i);
                table[i] = (JsonField) { names[i], cJSON_True | cJSON_False, json_set_bool, i * sizeof(bool), JSON_OPTIONAL };
        }
        table[63].flags = JSON_REQUIRED;
        CHECK_INT(json_dispatch(json, table, JSON_STRICT, places, NULL), 0);
        CHECK(places[0] && places[63] && !places[1]);
        CHECK_INT(json_dispatch(without, table, JSON_STRICT, places, NULL), -EBADMSG);
}

/* A table may let more types by than its setter takes; numbers keep the table's limit, or their own. */
TEST(what_a_setter_itself_refuses) {
        static const struct { const char *text; JsonSet set; uint64_t max; int r; const char *words; } table[] = {
                { "[null]",         json_set_text,     0,          -EBADMSG, "field 'f' is not a string" },
                { "[null]",         json_set_string,   0,          -EBADMSG, "field 'f' is not a string" },
                { "[1]",            json_set_bool,     0,          -EBADMSG, "field 'f' is not a boolean" },
                { "[\"true\"]",     json_set_tristate, 0,          -EBADMSG, "field 'f' is not a boolean" },
                { "[true]",         json_set_u64_text, 0,          -EBADMSG, "field 'f' is not a decimal string" },
                { "[\"10\"]",       json_set_u64_text, 9,          -ERANGE,  "field 'f' is too large a number" },
                { "[\"9\"]",        json_set_u64_text, 9,          0,        NULL },
                { "[4294967295]",   json_set_u32,      1ULL << 40, 0,        NULL },
                { "[4294967296]",   json_set_u32,      1ULL << 40, -ERANGE,  "field 'f' is not a whole number from 0 to 4294967295" },
                { "[-9007199254740993]", json_set_u32, 0,          -ERANGE,  "field 'f' is not a whole number from 0 to 4294967295" },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_json_ cJSON *json = cJSON_Parse(table[i].text);
                JsonField f = { .name = "f", .max = table[i].max };
                _Alignas(8) char place[8] = {};
                Fault why = {};

                CHECK_INT(table[i].set(&f, cJSON_GetArrayItem(json, 0), place, &why), table[i].r);
                CHECK_STR(why.set ? why.text : NULL, table[i].words);
        }
}

/* ── look-ups and building ───────────────────────────────────────────────────────────────────────────────────── */

TEST(look_ups) {
        _cleanup_json_ cJSON *json = parse("{\"State\":{\"Health\":{\"Status\":\"healthy\"},\"Pid\":12,\"Big\":1e300,\"Half\":0.5,"
                                           "\"On\":true},\"n\":\"17\",\"list\":[{\"a\":1}],\"null\":null,\"a.b\":\"dots\"}");

        CHECK_STR(json_get_string(json, "State/Health/Status"), "healthy");
        CHECK_STR(json_get_string(json, "a.b"), "dots");
        CHECK(!json_get_string(json, "state/health/status"));           /* case-sensitive */
        CHECK(!json_get_string(json, "State/Health"));
        CHECK(!json_get_string(json, "State/Heal"));
        CHECK(!json_get_string(json, "State/Health/Status/more"));
        CHECK(!json_get_string(json, "list/a"));
        CHECK(!json_get_string(json, ""));
        CHECK(!json_get_string(NULL, "a"));
        CHECK(!json_get_string(json, "null"));
        CHECK(cJSON_IsNull(json_get(json, "null")));
        CHECK(!json_get(json, "State/Pid"));
        CHECK(cJSON_IsObject(json_get_path(json, "State/Health")));
        CHECK_INT(json_get_i64(json, "State/Pid", -1), 12);
        CHECK_INT(json_get_i64(json, "State/Big", -1), -1);
        CHECK_INT(json_get_i64(json, "State/Half", -1), -1);
        CHECK_INT(json_get_i64(json, "State/On", -1), -1);
        CHECK_INT(json_get_i64(json, "State/None", -1), -1);
        CHECK(json_get_bool(json, "State/On", false));
        CHECK(json_get_bool(json, "State/Pid", true));
        CHECK(!json_get_bool(json, "State/None", false));
        CHECK_INT(json_get_u64_text(json, "n", 3), 17);
        CHECK_INT(json_get_u64_text(json, "State/Pid", 3), 3);
        CHECK_INT(json_get_u64_text(json, "none", 3), 3);
}

TEST(the_first_item_whose_member_is_it) {
        _cleanup_json_ cJSON *list = parse("[{\"id\":\"a\"},7,{\"id\":\"b\",\"n\":1},{\"id\":\"b\",\"n\":2},{\"n\":3}]");

        CHECK_INT(json_get_i64(json_find(list, "id", "b"), "n", 0), 1);
        CHECK(json_find(list, "id", "c") == NULL && json_find(NULL, "id", "a") == NULL);
        CHECK_INT(json_get_i64(json_find(list, "id", NULL), "n", 0), 0);        /* the 7, which has none */
}

TEST(building) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject(), *back = NULL;
        _cleanup_free_ char *text = NULL;

        CHECK(json_add_string(json, "s", "quote \" and \xc3\xa9"));
        CHECK(json_add_string(json, "none", NULL));
        CHECK(json_add_u64_text(json, "u", UINT64_MAX));
        CHECK(json_add_i64(json, "zero", 0));
        CHECK(json_add_i64(json, "small", -42));
        CHECK(json_add_i64(json, "power", INT64_C(1000000000000000)));
        CHECK(json_add_i64(json, "big", INT64_C(-9007199254740991)));
        CHECK(json_add_bool(json, "yes", true));
        CHECK(json_add_bool(json, "no", false));
        CHECK(json_add_time(json, "at", 1000));
        CHECK(json_add_item(json, "list", cJSON_CreateArray()));
        CHECK(!json_add_item(json, "list2", NULL));
        CHECK(!json_add_i64(json, "too_big", INT64_C(9007199254740993)));
        CHECK(!json_add_i64(json, "too_low", INT64_C(-9007199254740993)));
        CHECK(!json_add_item(json, NULL, cJSON_CreateArray()));
        CHECK(json_add_i64(json, "low", INT64_C(-1000000000000000)));
        CHECK(json_add_seconds(json, "seconds", 1000001));

        text = json_print(json);
        CHECK_STR(text, "{\"s\":\"quote \\\" and \xc3\xa9\",\"none\":null,\"u\":\"18446744073709551615\",\"zero\":0,\"small\":-42,"
                        "\"power\":1000000000000000,\"big\":-9007199254740991,\"yes\":true,\"no\":false,"
                        "\"at\":\"1970-01-01T00:00:00.001Z\",\"list\":[],\"low\":-1000000000000000,\"seconds\":2}");
        CHECK_INT(json_parse(text, strlen(text), &back, NULL), 0);
        CHECK_INT(json_get_i64(back, "big", 0), INT64_C(-9007199254740991));
        CHECK(json_get_u64_text(back, "u", 0) == UINT64_MAX);
}

TEST_MAIN
