/* SPDX-License-Identifier: Apache-2.0 */

/* base/http: what may be asked, who sees credentials, and which certificates are believed. */

#include <dlfcn.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <sys/stat.h>

#include "tests/http-kit.h"

/* ── what is not allowed ─────────────────────────────────────────────────────────────────────────────────────── */

TEST(urls_that_are_refused) {
        static const struct { const char *url, *socket; HttpFlags flags; int r; } cases[] = {
                { "http://127.0.0.1:1/",        NULL,   0,                   -EINVAL },
                { "http://example.com/",        NULL,   HTTP_PLAIN_LOOPBACK, -EINVAL },
                { "http://localhost:1/",        NULL,   HTTP_PLAIN_LOOPBACK, -EINVAL },         /* a name, not an address */
                { "http://128.0.0.1/",          NULL,   HTTP_PLAIN_LOOPBACK, -EINVAL },
                { "http://169.254.169.254/",    NULL,   HTTP_PLAIN_LOOPBACK, -EINVAL },
                { "http://127.0.0.1@evil.com/", NULL,   HTTP_PLAIN_LOOPBACK, -EINVAL },
                { "http://a:b@127.0.0.1:1/",    NULL,   HTTP_PLAIN_LOOPBACK, -EINVAL },
                { "http://[::2]/",              NULL,   HTTP_PLAIN_LOOPBACK, -EINVAL },
                { "ftp://127.0.0.1/",           NULL,   HTTP_PLAIN_LOOPBACK, -EINVAL },
                { "file:///etc/passwd",         NULL,   HTTP_PLAIN_LOOPBACK, -EINVAL },
                { "https://",                   NULL,   0,                   -EINVAL },
                { "nonsense",                   NULL,   HTTP_PLAIN_LOOPBACK, -EINVAL },
                { "http://127.0.0.1/ x",        NULL,   HTTP_PLAIN_LOOPBACK, -EINVAL },
                { "https://localhost/",         "/s",   0,                   -EINVAL },
                { "http://localhost/",          "/s",   HTTP_CREDENTIALS,    -EPERM },
                { "https://localhost/",         NULL,   HTTP_CREDENTIALS,    -EPERM },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                HttpRequest q = { .url = cases[i].url, .socket_path = cases[i].socket, .flags = cases[i].flags };
                Result r = {};

                if (!CHECK_INT(send_it(&q, &r, NULL), cases[i].r))
                        printf("#   %s\n", cases[i].url);
                loop_for(event, 0);
                CHECK_INT(r.done, 0);
        }
}

TEST(headers_that_are_refused) {
        static const char *const bad[] = { "X: a\r\nY: b", "X: a\nb", "no colon", ": empty", "X: \x7f" };

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                const char *const headers[] = { bad[i], NULL };
                HttpRequest q = request("/ok");
                Result r = {};

                q.headers = headers;
                CHECK_INT(send_it(&q, &r, NULL), -EINVAL);
        }
}

TEST(loopback_addresses) {
        static const char *const yes[] = { "http://127.0.0.1/", "https://127.9.9.9:1/x", "http://[::1]:8/", "http://127.1/" };
        static const char *const no[] = { "http://localhost/", "http://127.0.0.1.example.com/", "http://[::ffff:127.0.0.1]/",
                                          "http://10.0.0.1/", "http://1.127.0.0/", "", "127.0.0.1" };

        for (size_t i = 0; i < ELEMENTS(yes); i++)
                CHECK(http_url_is_loopback(yes[i]));
        for (size_t i = 0; i < ELEMENTS(no); i++)
                CHECK(!http_url_is_loopback(no[i]));
}

TEST(where_a_proxy_is) {
        static const struct { const char *proxy, *host, *port; } good[] = {
                { "http://proxy.example.com:3128", "proxy.example.com", "3128" },
                { "proxy.example.com", "proxy.example.com", "1080" },
                { "http://proxy.example.com/", "proxy.example.com", "1080" },
                { "https://proxy.example.com", "proxy.example.com", "443" },
                { "socks5h://someone:secret@10.0.0.1:9", "10.0.0.1", "9" },
                { "http://[fe80::1]:8080", "fe80::1", "8080" },
        };
        static const char *const bad[] = { "", "http://", "http://[", "http://a b:1", "http://a:99999" };
        char host[256], port[8];

        for (size_t i = 0; i < ELEMENTS(good); i++) {
                CHECK_INT(http_proxy_place(good[i].proxy, host, port), 0);
                CHECK_STR(host, good[i].host);
                CHECK_STR(port, good[i].port);
        }
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                CHECK_INT(http_proxy_place(bad[i], host, port), -EINVAL);
}

TEST(incident_58_credentials_go_to_their_origin_only) {
        static const char *const headers[] = { "Authorization: Bearer abc", "X-Molecule-Org-Id: 1", NULL };
        static const char *const newer[] = { "Authorization: Bearer def", NULL };
        HttpRequest q = request("/echo"), other;
        Result r = {};

        q.flags |= HTTP_CREDENTIALS;
        CHECK_INT(send_it(&q, &r, NULL), -EPERM);               /* there are none yet */
        CHECK_INT(http_set_credentials(http, server.url, headers, NULL), 0);

        r = run(&q);
        CHECK(strstr(r.body, "\r\nAuthorization: Bearer abc") && strstr(r.body, "\r\nX-Molecule-Org-Id: 1"));
        q.flags = HTTP_PLAIN_LOOPBACK;
        r = run(&q);
        CHECK(!strstr(r.body, "Authorization") && !strstr(r.body, "X-Molecule"));

        other = (HttpRequest) { .url = "http://127.0.0.1:1/", .flags = HTTP_PLAIN_LOOPBACK|HTTP_CREDENTIALS };
        CHECK_INT(send_it(&other, &r, NULL), -EPERM);           /* another port */
        other.url = "http://127.0.0.2:80/";
        CHECK_INT(send_it(&other, &r, NULL), -EPERM);

        q.flags |= HTTP_CREDENTIALS;
        CHECK_INT(http_set_credentials(http, server.url, newer, NULL), 0);
        r = run(&q);
        CHECK(strstr(r.body, "Bearer def") && !strstr(r.body, "Bearer abc") && !strstr(r.body, "X-Molecule"));
}

TEST(origins_are_compared_in_their_normal_form) {
        static const char *const headers[] = { "Authorization: x", NULL };
        static const struct { const char *url; int r; } cases[] = {
                { "https://cp.example.com:443/x?y",     0 },
                { "https://CP.Example.COM/",            0 },
                { "https://cp.example.com:444/",        -EPERM },
                { "https://cp.example.com./",           -EPERM },
                { "https://cp.example.com.evil.org/",   -EPERM },
                { "https://evil.org/cp.example.com/",   -EPERM },
                { "https://cp.example.com@evil.org/",   -EINVAL },
        };

        CHECK_INT(http_set_credentials(http, "https://cp.example.com/api", headers, NULL), 0);
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                HttpRequest q = { .url = cases[i].url, .flags = HTTP_CREDENTIALS };
                HttpCall *call = NULL;
                Result r = {};

                if (!CHECK_INT(send_it(&q, &r, &call), cases[i].r))
                        printf("#   %s\n", cases[i].url);
                (void) http_call_cancel(call);
        }
}

TEST(origins_that_are_refused) {
        static const char *const headers[] = { "Authorization: secret-value", NULL };
        static const char *const broken[] = { "Authorization: secret-value\r\nX: y", NULL };
        static const char *const urls[] = { "http://cp.example.com/", "http://localhost/", "https://user@cp.example.com/",
                                            "https://u:p@h/", "https://h/?q", "https://h/#f", "ftp://h/", "", "cp.example.com" };
        Fault f = {};

        for (size_t i = 0; i < ELEMENTS(urls); i++) {
                f = (Fault) {};
                CHECK_INT(http_set_credentials(http, urls[i], headers, &f), -EINVAL);
                CHECK(f.set && f.code == FAULT_CONFIG_INVALID);
        }
        f = (Fault) {};
        CHECK_INT(http_set_credentials(http, "https://h/", broken, &f), -EINVAL);
        CHECK(f.set && !strstr(f.text, "secret-value"));
}

TEST(a_proxy_serves_no_loopback_and_none_comes_from_the_environment) {
        Http *mine = NULL, *saved = http;
        HttpRequest q = request("/ok"), far = { .url = "https://cp.example.com/", .timeout_usec = 5 * USEC_PER_SEC };
        Result r;

        CHECK_INT(http_new(event, &mine), 0);
        http = mine;
        CHECK_INT(http_configure(mine, &(HttpOptions) { .proxy = "http://127.0.0.1:1", .connect_timeout_usec = USEC_PER_SEC }), 0);
        r = run(&q);
        CHECK_INT(r.error, 0);
        CHECK_STR(r.body, "hello");
        r = run(&far);
        CHECK_INT(r.error, -ECONNREFUSED);      /* the proxy's address */

        CHECK_INT(http_configure(mine, &(HttpOptions) { .connect_timeout_usec = USEC_PER_SEC }), 0);
        (void) setenv("http_proxy", "http://127.0.0.1:1", 1);
        (void) setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
        r = run(&q);
        CHECK_INT(r.error, 0);
        (void) unsetenv("http_proxy");
        (void) unsetenv("ALL_PROXY");
        http = saved;
        (void) http_free(mine);
}

/* ── TLS ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

static uint64_t tls_options;

/* In the place of the library's, which it calls: what TLS was told. */
uint64_t SSL_CTX_set_options(SSL_CTX *context, uint64_t options) {
        uint64_t (*real)(SSL_CTX *, uint64_t) = (uint64_t (*)(SSL_CTX *, uint64_t)) dlsym(RTLD_NEXT, "SSL_CTX_set_options");

        tls_options |= options;
        return real(context, options);
}

static pid_t spawn(const char *const argv[]) {
        pid_t pid;

        (void) fflush(stdout);
        pid = fork();
        if (pid == 0) {
                int fd = open("/dev/null", O_RDWR);

                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) dup2(fd, 0);
                (void) dup2(fd, 1);
                (void) dup2(fd, 2);
                (void) execvp(argv[0], (char *const *) argv);
                _exit(127);
        }
        return pid;
}

static int finish(pid_t pid) {
        int status = 0;

        (void) waitpid(pid, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(a_certificate_is_verified) {
        char key[96], cert[96], port_text[16], url[64], wrong[64];
        const char *make[] = { "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                               "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", NULL };
        const char *serve_tls[] = { "openssl", "s_server", "-accept", port_text, "-key", key, "-cert", cert, "-www", "-quiet", NULL };
        int port, fd = server_listen_tcp(&port), made;
        Http *mine = NULL, *saved = http;
        pid_t pid;
        Result r = {};

        close(fd);
        (void) snprintf(key, sizeof key, "%s/key", server.directory);
        (void) snprintf(cert, sizeof cert, "%s/cert", server.directory);
        (void) snprintf(port_text, sizeof port_text, "%d", port);
        (void) snprintf(url, sizeof url, "https://127.0.0.1:%d/", port);
        (void) snprintf(wrong, sizeof wrong, "https://127.0.0.2:%d/", port);
        made = finish(spawn(make));
        if (made == 127)
                SKIP("there is no openssl program");
        CHECK_INT(made, 0);
        pid = spawn(serve_tls);
        CHECK_INT(http_new(event, &mine), 0);
        http = mine;
        CHECK_INT(http_configure(mine, &(HttpOptions) { .ca_file = cert, .connect_timeout_usec = 5 * USEC_PER_SEC }), 0);
        for (unsigned i = 0; i < 50; i++) {             /* until it listens */
                r = run(&(HttpRequest) { .url = url, .timeout_usec = 5 * USEC_PER_SEC });
                if (r.error != -ECONNREFUSED)
                        break;
                loop_for(event, 100);
        }
        CHECK_INT(r.error, 0);
        CHECK_INT(r.status, 200);
        CHECK(tls_options & SSL_OP_CLEANSE_PLAINTEXT);
        r = run(&(HttpRequest) { .url = wrong, .timeout_usec = 5 * USEC_PER_SEC });
        CHECK_INT(r.error, -EKEYREJECTED);      /* trusted, but for another host */
        CHECK_INT(http_configure(mine, &(HttpOptions) { .connect_timeout_usec = 5 * USEC_PER_SEC }), 0);
        r = run(&(HttpRequest) { .url = url, .timeout_usec = 5 * USEC_PER_SEC, .flags = HTTP_FRESH });
        CHECK_INT(r.error, -EKEYREJECTED);      /* nobody vouches for it */
        http = saved;
        (void) http_free(mine);
        (void) kill(pid, SIGKILL);
        (void) finish(pid);
        (void) unlink(key);
        (void) unlink(cert);
}

int main(void) {
        return http_kit_main();
}
