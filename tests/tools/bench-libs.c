/* SPDX-License-Identifier: Apache-2.0 */

/* What the libraries weigh by themselves: a process that initialises each of them as the agent does, locks as large an arena, and then waits for its end. With words
 * "URL CA-FILE" it also fetches that once over TLS, as the agent has by the time it is idle. Prints "ready" and sleeps until killed. */

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "secrets/arena.h"

#define URL_DEFAULT "https://127.0.0.1/"

static size_t discard(char *data, size_t size, size_t n, void *userdata) {
        (void) data;
        (void) userdata;
        return size * n;
}

static CURL *prepare(const char *url, const char *ca_file) {
        CURL *easy = curl_easy_init();
        CURLcode e = easy ? CURLE_OK : CURLE_OUT_OF_MEMORY;

#define SET(opt, val) do { if (e == CURLE_OK) e = curl_easy_setopt(easy, (opt), (val)); } while (0)
        SET(CURLOPT_URL, url);
        SET(CURLOPT_PROTOCOLS_STR, "https");
        SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
        SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
        SET(CURLOPT_SSL_VERIFYPEER, 1L);
        SET(CURLOPT_SSL_VERIFYHOST, 2L);
        SET(CURLOPT_NOSIGNAL, 1L);
        SET(CURLOPT_PROXY, "");
        SET(CURLOPT_WRITEFUNCTION, discard);
        if (ca_file)
                SET(CURLOPT_CAINFO, ca_file);
#undef SET
        return e == CURLE_OK ? easy : NULL;
}

static int fetch(CURLM *multi) {
        int running = 1, left = 0;
        const CURLMsg *m;

        while (running)
                if (curl_multi_perform(multi, &running) != CURLM_OK || (running && curl_multi_poll(multi, NULL, 0, 1000, NULL) != CURLM_OK))
                        return -1;
        m = curl_multi_info_read(multi, &left);
        return m && m->data.result == CURLE_OK ? 0 : -1;
}

int main(int argc, char **argv) {
        sd_event *event = NULL;
        void *arena;
        CURLM *multi;
        CURL *easy;
        cJSON *json;
        char *text;

        if (argc != 1 && argc != 3)
                return 2;
        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || sodium_init() < 0 || sd_event_new(&event) < 0)
                return 1;
        arena = sodium_malloc(ARENA_SIZE);
        if (!arena || sodium_mlock(arena, ARENA_SIZE) < 0)
                return 1;
        multi = curl_multi_init();
        easy = prepare(argc == 3 ? argv[1] : URL_DEFAULT, argc == 3 ? argv[2] : NULL);
        if (!multi || !easy)
                return 1;
        if (argc == 3 && (curl_multi_add_handle(multi, easy) != CURLM_OK || fetch(multi) < 0)) {
                (void) fprintf(stderr, "bench-libs: the transfer failed\n");
                return 1;
        }
        json = cJSON_Parse("{\"a\": [1, \"b\"]}");
        text = json ? cJSON_PrintUnformatted(json) : NULL;
        if (!text || sd_notify(0, "READY=1") < 0)
                return 1;
        cJSON_free(text);
        cJSON_Delete(json);
        (void) printf("ready\n");
        (void) fflush(stdout);
        return sd_event_loop(event) < 0;
}
