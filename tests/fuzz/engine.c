/* SPDX-License-Identifier: Apache-2.0 */

/* engine/: each input is taken for every answer of the engine in turn. What is read of an object has what it must have; a stream says the same however it is
 * cut, and a log says what a second reading of its frames says; a label of a workspace's own cannot hide an event. */

#include <errno.h>

#include "base/text.h"
#include "engine/engine-json.h"
#include "engine/lines.h"
#include "engine/log-stream.h"
#include "engine/tar.h"
#include "tests/fuzz/fuzz.h"

#define NETWORK "molecule-core-net"
#define BLOCK   512                     /* of an archive */

/* ── objects ── */

static void container(const cJSON *json) {
        EngineContainer c;
        Fault f = {};
        int r = engine_container_parse(json, NETWORK, &c, &f);

        MUST((r == 0) == !f.set && (r == 0) == (c.id != NULL));
        if (r == 0)
                MUST(c.id[0] && c.name && c.name[0] && c.status && c.status[0] && c.image_id && c.image_id[0] && (!c.ip_address || c.ip_address[0]));
        engine_container_done(&c);
}

static void containers(const cJSON *json) {
        EngineContainers all;
        int r = engine_containers_parse(json, &all, NULL);

        MUST(r < 0 ? !all.items && all.n == 0 : all.n == (size_t) cJSON_GetArraySize(json));
        for (size_t i = 0; i < all.n; i++)
                MUST(all.items[i].id && all.items[i].name && all.items[i].status && (!all.items[i].restarting || all.items[i].running));
        engine_containers_done(&all);
}

static void image(const cJSON *json) {
        EngineImage i, copy;

        if (engine_image_parse(json, &i, NULL) < 0)
                return;
        MUST(i.id && i.repo_digests && i.entrypoint && i.cmd && engine_image_copy(&copy, &i) == 0);
        for (size_t n = 0; i.repo_digests[n]; n++) {
                const char *at = strrchr(i.repo_digests[n], '@');

                MUST(strcmp(copy.repo_digests[n], i.repo_digests[n]) == 0 && (!at || engine_image_has_digest(&copy, at + 1)));
        }
        engine_image_done(&copy);
        engine_image_done(&i);
}

static void volume(const cJSON *json) {
        EngineVolume v;

        MUST((engine_volume_parse(json, &v, NULL) == 0) == (v.name && v.name[0]));
        engine_volume_done(&v);
        (void) engine_volume_is_empty(json, "ws-one-configs");
}

static void info(const cJSON *json) {
        char version[16] = "";
        unsigned major, minor;
        EngineInfo i;
        int r = engine_info_parse(json, json, &i, NULL);

        MUST((r == 0) == (i.api_version != NULL));
        if (r == 0 && engine_api_choose(i.api_version, i.min_api_version, version, NULL) == 0)
                MUST(sscanf(version, "%u.%u", &major, &minor) == 2 && major == 1 && minor >= 41 && minor <= 47 && strtoul(i.api_version, NULL, 10) >= 1);
        engine_info_done(&i);
}

static void object(const char *text, size_t size) {
        _cleanup_json_ cJSON *json = NULL;

        if (json_parse(text, size, &json, NULL) < 0)
                return;
        container(json);
        containers(json);
        image(json);
        volume(json);
        info(json);
}

/* ── events ── */

/* An event as the engine sends it, whose attributes are labels: the input is one. */
static void event_with(const char *text) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        _cleanup_free_ char *label = NULL, *line = NULL;
        EngineEvent e;

        if (!json || !json_add_string(json, text, text) || !(label = json_print(json)) || json_check(label, strlen(label), NULL) < 0)
                return;
        line = str_printf("{\"Action\":\"die\",\"Actor\":{\"ID\":\"c\",\"Attributes\":%s},\"time\":1767323045,\"timeNano\":1767323045678901234}", label);
        MUST(line && engine_event_parse(line, strlen(line), &e, NULL) == 0);
        MUST(strcmp(e.action, "die") == 0 && strcmp(e.container_id, "c") == 0 && e.time_nsec == UINT64_C(1767323045678901234));
        engine_event_done(&e);
}

static void on_line(const char *line, size_t size, void *userdata) {
        _cleanup_free_ char *copy = malloc(size);
        EngineEvent e;
        int r;

        (void) userdata;
        if (!copy)
                abort();
        memcpy(copy, line, size);
        r = engine_event_parse(copy, size, &e, NULL);
        MUST((r == 0) == (e.action != NULL) && (r == 0) == (e.container_id != NULL) && e.exit_code >= -1 && e.exit_code <= INT32_MAX);
        engine_event_done(&e);
}

static void events(const uint8_t *data, size_t size) {
        static char place[32768];
        bool skipping = false;
        size_t used = 0;
        const LineCut cut = { .line = place, .max = sizeof place, .used = &used, .skipping = &skipping, .fn = on_line };

        lines_feed(&cut, data, size);
        lines_end(&cut);
}

/* ── streams ── */

static void fed(PullProgress *p, const uint8_t *data, size_t size, size_t piece) {
        *p = (PullProgress) {};
        for (size_t at = 0; at < size; at += piece)
                pull_progress_feed(p, data + at, piece < size - at ? piece : size - at);
        pull_progress_end(p);
}

static void pull(const uint8_t *data, size_t size, size_t piece) {
        static PullProgress whole, parts;

        fed(&whole, data, size, size);
        fed(&parts, data, size, piece);
        MUST(whole.bytes == parts.bytes && whole.total == parts.total && whole.ticks == parts.ticks && whole.steps == parts.steps);
        MUST(whole.failed == parts.failed && strcmp(whole.error, parts.error) == 0 && whole.n_layers == parts.n_layers);
        for (size_t i = 0; i < whole.n_layers; i++)
                MUST(strcmp(whole.layers[i].id, parts.layers[i].id) == 0 && whole.layers[i].current == parts.layers[i].current &&
                     whole.layers[i].total == parts.layers[i].total && whole.layers[i].current <= whole.layers[i].total);
        MUST(whole.bytes <= whole.total && whole.steps <= whole.ticks && whole.failed == (whole.error[0] != 0));
        (void) pull_error_classify((long) size, whole.error);
}

/* The text of a log: without a first header that is one, all of it; behind a header that is none, the rest. */
static size_t unframed(const uint8_t *data, size_t size, uint8_t *to) {
        size_t n = 0;

        for (size_t at = 0, part; at < size; at += part) {
                const uint8_t *h = data + at;
                size_t left = size - at;

                if (left < 8 && at > 0)
                        break;
                if (left < 8 || h[0] > 2 || h[1] | h[2] | h[3]) {
                        memcpy(to + n, h, left);
                        return n + left;
                }
                part = (size_t) h[4] << 24 | (size_t) h[5] << 16 | (size_t) h[6] << 8 | h[7];
                part = part < left - 8 ? part : left - 8;
                memcpy(to + n, h + 8, part);
                n += part;
                part += 8;
        }
        return n;
}

static void log_text(const uint8_t *data, size_t size, size_t piece, size_t max) {
        _cleanup_free_ uint8_t *expected = malloc(size + 1);
        LogStream l = { .max = max };
        size_t n, tail;

        if (!expected)
                abort();
        n = unframed(data, size, expected);
        tail = n < max ? n : max;
        for (size_t at = 0; at < size; at += piece)
                MUST(log_stream_feed(&l, data + at, piece < size - at ? piece : size - at) == 0);
        MUST(log_stream_end(&l) == 0 && l.size == tail);
        MUST(tail == 0 || (memcmp(l.text, expected + n - tail, tail) == 0 && l.text[tail] == 0));
        log_stream_done(&l);
}

/* ── archives ── */

/* The checksum of each block is put right, since nobody finds it by trying; then entries come one behind the other, each within the archive. */
static void archive(const uint8_t *data, size_t size) {
        _cleanup_free_ uint8_t *copy = malloc(size);
        size_t offset = 0, before = 0;
        TarEntry e;
        int r;

        if (!copy)
                abort();
        memcpy(copy, data, size);
        for (size_t at = 0; at + BLOCK <= size; at += BLOCK) {
                unsigned sum = 8 * ' ';

                for (size_t i = 0; i < BLOCK; i++)
                        sum += i >= 148 && i < 156 ? 0 : copy[at + i];
                (void) snprintf((char *) copy + at + 148, 8, "%06o", sum);
        }
        while ((r = tar_next(copy, size, &offset, &e, NULL)) > 0) {
                MUST(offset > before && offset <= size && e.name[0] && strlen(e.name) < sizeof e.name && e.mode <= 07777);
                MUST(e.size == 0 || ((const uint8_t *) e.data >= copy + before && (const uint8_t *) e.data + e.size <= copy + offset));
                before = offset;
        }
        MUST(r == 0 || r == -EBADMSG);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        uint64_t number = fuzz_number(data, size);
        size_t piece = 1 + number % 61;
        _cleanup_free_ char *text = fuzz_text(data, size);

        object((const char *) data, size);
        events(data, size);
        if (text[0])
                event_with(text);
        pull(data, size, piece);
        log_text(data, size, piece, 1 + (number >> 32) % 200);
        log_text(data, size, piece + 60, size);
        if (size >= BLOCK)
                archive(data, size);
        return 0;
}
