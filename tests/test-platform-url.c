/* SPDX-License-Identifier: Apache-2.0 */

/* provision/env, platform_url_check(): where a workspace may be told to find its platform. */

#include <errno.h>

#include "provision/platform-url.h"
#include "tests/kit.h"

static const char *const good[] = {
        "https://platform.example",
        "https://platform.example/",
        "https://platform.example:8443/a/b?c=d#e",
        "http://platform.example",
        "http://127.0.0.1:8080",
        "http://10.1.2.3",
        "http://192.168.169.254",
        "http://169.253.169.254",
        "http://host.docker.internal:8080",
        "http://[::1]:80/x",
        "http://[2001:db8::1]",
        "http://[::ffff:10.0.0.1]",
        "http://platform",
        "http://3com.example",
        "http://platform.example/user@host",
        "http://metadata.example",
};

static const char *const bad[] = {
        "",
        "platform.example",
        "ftp://platform.example",
        "//platform.example",
        "HTTPS//platform.example",
        "javascript:alert(1)",
        "unix:///run/x",
        "https://",
        "https:///path",
        "https://:443",
        "https://?x",
        "https://#x",
        "https://user@platform.example",
        "https://user:pass@platform.example",
        "https://@platform.example",
        "https://a@b@platform.example",
        "https://platform.example\\@evil.example",
        "https://platform.example/a b",
        "https://platform.example/\t",
        "https://platform.example\r\nHost: x",
        "https://platform.example/\x7f",
        " https://platform.example",

        /* link-local and metadata */
        "http://169.254.169.254",
        "http://169.254.169.254/latest/meta-data/",
        "http://169.254.169.254:80",
        "http://169.254.0.1",
        "http://169.254.255.255",
        "http://169.254.170.2/v2",
        "https://169.254.169.254",
        "http://[fe80::1]",
        "http://[febf::1]/x",
        "http://[fd00:ec2::254]",
        "http://[FD00:EC2::254]",
        "http://[::ffff:169.254.169.254]",
        "http://[::ffff:a9fe:a9fe]",
        "http://metadata.google.internal",
        "http://METADATA.google.internal/computeMetadata/v1",
        "http://metadata",

        /* the same, spelled oddly */
        "http://2852039166",
        "http://0xa9fea9fe",
        "http://0XA9FEA9FE",
        "http://0251.0376.0251.0376",
        "http://0251.254.169.254",
        "http://169.254.43518",
        "http://169.16689662",
        "http://169.254.169.254.",
        "http://169.254.169.0376",
        "http://1",
        "http://0",
        "http://127.1",
        "http://[fe80::1%25eth0]",
        "http://[::1",
        "http://[]",
        "http://[169.254.169.254]",
        "http://[zz]",
};

TEST(good_ones) {
        for (size_t i = 0; i < ELEMENTS(good); i++) {
                Fault f = {};

                if (!CHECK_INT(platform_url_check(good[i], &f), 0))
                        printf("#   %s: %s\n", good[i], f.text);
        }
}

TEST(bad_ones) {
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                Fault f = {};

                if (!CHECK(platform_url_check(bad[i], &f) < 0) || !CHECK_STR(kit_code(&f), "bad_env"))
                        printf("#   %s\n", bad[i]);
        }
}

/* What a resolver of the C library would take for the same addresses. */
static const char *const sly[] = {
        "http://metadata.google.internal.",             /* the root's dot */
        "http://metadata.google.internal.:80/x",
        "http://metadata.",
        "http://169.254.0xa9.0xfe",                     /* not all digits, does not begin with 0x */
        "http://169.0xfe.169.254",
        "http://169.254.0xa9fe",
        "http://[64:ff9b::169.254.169.254]",            /* NAT64 of the metadata service */
        "http://[::169.254.169.254]",                   /* v4-compatible */
        "http://%31%36%39.254.169.254",
};

TEST(sly_spellings) {
        for (size_t i = 0; i < ELEMENTS(sly); i++)
                if (!CHECK(platform_url_check(sly[i], NULL) < 0))
                        printf("#   %s\n", sly[i]);
}

TEST(length) {
        _cleanup_free_ char *tail = kit_fill('a', 3000);
        char url[2100];

        (void) snprintf(url, sizeof url, "https://p.example/%.2030s", tail);
        CHECK_INT(strlen(url), 2048);
        CHECK_INT(platform_url_check(url, NULL), 0);
        (void) snprintf(url, sizeof url, "https://p.example/%.2031s", tail);
        CHECK_INT(platform_url_check(url, NULL), -EINVAL);
        (void) snprintf(url, sizeof url, "https://%.300s/", tail);
        CHECK_INT(platform_url_check(url, NULL), -EINVAL);
}

TEST(words_hold_no_password) {
        Fault f = {};

        CHECK(platform_url_check("https://user:opensesame@platform.example", &f) < 0);
        CHECK(!strstr(f.text, "opensesame"));
}

TEST_MAIN
