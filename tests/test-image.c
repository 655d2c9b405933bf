/* SPDX-License-Identifier: Apache-2.0 */

/* engine/image: one pull for all who wait, what is tried again and what is not, stalls, space, and leaving early. */

#include <errno.h>

#include "engine/image.h"
#include "tests/fake-engine.h"

#define OTHER_REF "mirror.example.com/copy@" FAKE_DIGEST

typedef struct Result {
        int        done, r, progress;
        bool       pulled, had_image;
        FaultCode  code;
        char       words[400];
        uint64_t   bytes;
        ImageWait *wait, **cancel;      /* cancelled at the first progress, or at the end */
        const char *again;              /* asked for anew at the end */
        struct Result *again_result;
} Result;

static Images *images;

static void on_ended(int r, const Fault *fault, const EngineImage *image, bool pulled, void *userdata) {
        Result *x = userdata;

        CHECK((r < 0) == (fault != NULL) && (r == 0) == (image != NULL));
        x->done++;
        x->r = r;
        x->pulled = pulled;
        x->had_image = image && engine_image_has_digest(image, FAKE_DIGEST);
        x->code = fault ? fault->code : 0;
        (void) snprintf(x->words, sizeof x->words, "%s", fault ? fault->text : "");
        if (x->cancel)
                *x->cancel = image_wait_cancel(*x->cancel);
        if (x->again)
                CHECK_INT(images_ensure(images, x->again, 0, NULL, on_ended, x->again_result, NULL), 0);
}

static void on_progress(uint64_t bytes, uint64_t total, void *userdata) {
        Result *x = userdata;

        CHECK(bytes <= total);
        x->progress++;
        x->bytes = bytes;
        if (x->cancel)
                *x->cancel = image_wait_cancel(*x->cancel);
}

static ImageOptions options(unsigned stall_ms, uint64_t stall_bytes) {
        return (ImageOptions) {
                .stall_usec = stall_ms * USEC_PER_MSEC, .stall_bytes = stall_bytes, .min_free_bytes = 1, .unknown_size_bytes = 1 };
}

static void fresh(const ImageOptions *o) {
        fake_fresh();
        images_configure(images, o);
}

static int ensure(const char *ref, Result *x) {
        int r = images_ensure(images, ref, 0, on_progress, on_ended, x, &x->wait);

        CHECK_INT(x->done, 0);
        return r;
}

static Result run(const char *ref) {
        Result x = {};

        CHECK_INT(ensure(ref, &x), 0);
        CHECK(loop_until(event, &x.done, 1, 8000));
        return x;
}

/* ── the good ────────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(incident_4_what_is_there_is_not_pulled) {
        ImageOptions o = options(2000, 1);
        Result x;

        fresh(&o);
        fake->present = 1;
        x = run(FAKE_REF);
        CHECK_INT(x.r, 0);
        CHECK(x.had_image && !x.pulled);
        CHECK_INT(fake->pulls, 0);
        CHECK_INT(fake->inspects, 1);
}

TEST(one_pull_for_all_who_wait) {
        ImageOptions o = options(2000, 1);
        Result a = {}, b = {}, c = {};

        fresh(&o);
        CHECK_INT(ensure(FAKE_REF, &a), 0);
        CHECK_INT(ensure(FAKE_REF, &b), 0);
        CHECK_INT(ensure(OTHER_REF, &c), 0);            /* another name, the same digest */
        CHECK(loop_until(event, &c.done, 1, 5000));
        CHECK(a.done == 1 && b.done == 1 && c.done == 1);
        CHECK(a.r == 0 && a.pulled && a.had_image && b.r == 0 && b.pulled && c.r == 0);
        CHECK_INT(fake->pulls, 1);
        CHECK_INT(fake->inspects, 2);
        CHECK(a.progress >= 1 && a.bytes == 1000);      /* at most one a second */
        CHECK(a.progress == b.progress && b.progress == c.progress);
}

TEST(asked_again_from_the_end) {
        ImageOptions o = options(2000, 1);
        Result second = {}, first = { .again = FAKE_REF, .again_result = &second };

        fresh(&o);
        CHECK_INT(ensure(FAKE_REF, &first), 0);
        CHECK(loop_until(event, &second.done, 1, 5000));
        CHECK(second.r == 0 && !second.pulled);
        CHECK_INT(fake->pulls, 1);
}

/* ── trouble ─────────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(passing_trouble_is_tried_again) {
        static const struct { FakePull pull; int status; const char *words; } cases[] = {
                { FAKE_PULL_REFUSED, 500, "dial tcp 127.0.0.1:1: connect: connection refused" },
                { FAKE_PULL_REFUSED, 500, "toomanyrequests: later" },
                { FAKE_PULL_REFUSED, 500, "received unexpected HTTP status: 503 Service Unavailable" },
                { FAKE_PULL_ERROR,   200, "unexpected EOF" },
        };
        ImageOptions o = options(3000, 1);

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                Result x;

                fresh(&o);
                fake->pull = cases[i].pull;
                fake->status = cases[i].status;
                (void) snprintf(fake->words, sizeof fake->words, "%s", cases[i].words);
                fake->fail_times = 2;
                x = run(FAKE_REF);
                CHECK_INT(x.r, 0);
                CHECK(x.pulled);
                CHECK_INT(fake->pulls, 3);
        }
}

TEST(passing_trouble_that_stays_ends_with_its_own_words) {
        static const struct { const char *words; FaultCode code; int r; } cases[] = {
                { "dial tcp 127.0.0.1:1: connect: connection refused", FAULT_IMAGE_UNREACHABLE,  -EHOSTUNREACH },
                { "toomanyrequests: later",                            FAULT_IMAGE_RATE_LIMITED, -EAGAIN },
                { "a thing never heard of",                            FAULT_ENGINE_ERROR,       -EREMOTEIO },
        };
        ImageOptions o = options(600, 1);

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                Result x;

                fresh(&o);
                fake->pull = FAKE_PULL_REFUSED;
                fake->status = 500;
                fake->fail_times = -1;
                (void) snprintf(fake->words, sizeof fake->words, "%s", cases[i].words);
                x = run(FAKE_REF);
                CHECK_INT(x.r, cases[i].r);
                CHECK_INT(x.code, cases[i].code);
                CHECK(strstr(x.words, cases[i].words));
                CHECK(fake->pulls >= 2);
        }
}

TEST(lasting_trouble_ends_at_once) {
        static const struct { int status; const char *words; FaultCode code; int r; } cases[] = {
                { 500, "no basic auth credentials",     FAULT_IMAGE_AUTH,               -EACCES },
                { 404, "manifest unknown",              FAULT_IMAGE_NOT_FOUND,          -ENOENT },
                { 500, "filesystem layer verification failed for digest", FAULT_IMAGE_DIGEST_MISMATCH, -EBADMSG },
                { 500, "no space left on device",       FAULT_NO_SPACE,                 -ENOSPC },
        };
        ImageOptions o = options(3000, 1);

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                Result x;

                fresh(&o);
                fake->pull = FAKE_PULL_REFUSED;
                fake->status = cases[i].status;
                fake->fail_times = -1;
                (void) snprintf(fake->words, sizeof fake->words, "%s", cases[i].words);
                x = run(FAKE_REF);
                CHECK_INT(x.r, cases[i].r);
                CHECK_INT(x.code, cases[i].code);
                CHECK_INT(fake->pulls, 1);
        }
}

TEST(incident_7_what_was_pulled_must_have_the_digest) {
        ImageOptions o = options(2000, 1);
        Result x;

        fresh(&o);
        fake->wrong_digest = 1;
        x = run(FAKE_REF);
        CHECK_INT(x.r, -EBADMSG);
        CHECK_INT(x.code, FAULT_IMAGE_DIGEST_MISMATCH);
        CHECK_INT(fake->pulls, 1);
}

TEST(silence_is_a_stall) {
        ImageOptions o = options(500, 1);
        uint64_t begin = now_boottime();
        Result x;

        fresh(&o);
        fake->pull = FAKE_PULL_STALL;
        fake->fail_times = -1;
        x = run(FAKE_REF);
        CHECK_INT(x.r, -ETIMEDOUT);
        CHECK_INT(x.code, FAULT_PULL_STALLED);
        CHECK(now_boottime() - begin >= 450 * USEC_PER_MSEC);
        loop_for(event, 100);
        CHECK_INT(fake->pulls, 1);
        CHECK_INT(fake->pulls_open, 0);         /* the engine was told to stop */
}

TEST(a_trickle_is_a_stall_unless_it_is_enough) {
        ImageOptions o = options(500, 1024 * 1024);
        Result x = {};

        fresh(&o);
        fake->pull = FAKE_PULL_TRICKLE;
        fake->fail_times = -1;
        x = run(FAKE_REF);
        CHECK_INT(x.code, FAULT_PULL_STALLED);

        o.stall_bytes = 2000;
        fresh(&o);
        fake->pull = FAKE_PULL_TRICKLE;
        fake->fail_times = -1;
        x = (Result) {};
        CHECK_INT(ensure(FAKE_REF, &x), 0);
        loop_for(event, 1500);
        CHECK_INT(x.done, 0);
        CHECK(x.progress >= 2);
        (void) image_wait_cancel(x.wait);
}

TEST(unpacking_is_progress) {
        ImageOptions o = options(400, 1024 * 1024);
        Result x;

        fresh(&o);
        fake->pull = FAKE_PULL_UNPACK;
        fake->fail_times = 1;
        x = run(FAKE_REF);
        CHECK_INT(x.r, 0);
}

TEST(the_engine_goes_away) {
        ImageOptions o = options(3000, 1);
        Result x = {}, y;

        fresh(&o);
        fake->pull = FAKE_PULL_DIE;
        fake->fail_times = -1;
        x = run(FAKE_REF);
        CHECK_INT(x.r, -ENOTCONN);
        CHECK_INT(x.code, FAULT_ENGINE_UNREACHABLE);

        fresh(&o);
        fake->pull = FAKE_PULL_STALL;
        fake->fail_times = -1;
        x = (Result) {};
        CHECK_INT(ensure(FAKE_REF, &x), 0);
        CHECK(loop_until(event, &x.progress, 1, 3000));
        server_kill(&server);
        CHECK(loop_until(event, &x.done, 1, 3000));
        CHECK_INT(x.r, -ENOTCONN);
        y = run(FAKE_REF);
        CHECK_INT(y.r, -ENOTCONN);
}

/* ── space ───────────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(no_space_no_pull) {
        ImageOptions o = options(2000, 1);
        Result x = {};

        o.min_free_bytes = UINT64_MAX;
        fresh(&o);
        x = run(FAKE_REF);
        CHECK_INT(x.r, -ENOSPC);
        CHECK_INT(x.code, FAULT_NO_SPACE);
        CHECK_INT(fake->pulls, 0);

        o = options(2000, 1);
        o.unknown_size_bytes = UINT64_MAX;
        fresh(&o);
        CHECK_INT(run(FAKE_REF).r, -ENOSPC);

        o.unknown_size_bytes = 1;
        fresh(&o);
        x = (Result) {};
        CHECK_INT(images_ensure(images, FAKE_REF, UINT64_MAX, NULL, on_ended, &x, NULL), 0);
        CHECK(loop_until(event, &x.done, 1, 3000));
        CHECK_INT(x.r, -ENOSPC);

        fake->present = 1;                      /* what is there needs none */
        o.min_free_bytes = UINT64_MAX;
        images_configure(images, &o);
        CHECK_INT(run(FAKE_REF).r, 0);
}

TEST(a_place_that_cannot_be_reached_is_judged_above) {
        ImageOptions o = options(2000, 1);

        o.min_free_bytes = UINT64_MAX;
        fresh(&o);
        (void) snprintf(fake->root_dir, sizeof fake->root_dir, "/no/such/place/for/the/engine");
        CHECK_INT(engine_configure(engine, &(EngineOptions) { .socket_path = server.socket, .timeout_usec = 2 * USEC_PER_SEC }), 0);
        ups = 0;
        CHECK(loop_until(event, &ups, 1, 3000));
        CHECK_STR(engine_info(engine)->root_dir, "/no/such/place/for/the/engine");
        CHECK_INT(run(FAKE_REF).r, -ENOSPC);
}

TEST(space_is_watched_during_a_pull) {
        ImageOptions o = options(800, 1);
        Result x = {};

        fresh(&o);
        fake->pull = FAKE_PULL_TRICKLE;
        fake->fail_times = -1;
        CHECK_INT(ensure(FAKE_REF, &x), 0);
        CHECK(loop_until(event, &x.progress, 1, 3000));
        o.min_free_bytes = UINT64_MAX;
        images_configure(images, &o);
        CHECK(loop_until(event, &x.done, 1, 3000));
        CHECK_INT(x.r, -ENOSPC);
}

/* ── leaving ─────────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(the_last_to_leave_ends_the_pull) {
        ImageOptions o = options(3000, 1);
        Result a = {}, b = {};

        fresh(&o);
        fake->pull = FAKE_PULL_STALL;
        fake->fail_times = -1;
        CHECK_INT(ensure(FAKE_REF, &a), 0);
        CHECK_INT(ensure(FAKE_REF, &b), 0);
        CHECK(loop_until(event, &b.progress, 1, 3000));
        CHECK(image_wait_cancel(a.wait) == NULL);
        loop_for(event, 100);
        CHECK_INT(fake->closed, 0);
        CHECK(image_wait_cancel(b.wait) == NULL);
        loop_for(event, 200);
        CHECK_INT(fake->closed, 1);
        CHECK_INT(a.done + b.done, 0);
        CHECK(image_wait_cancel(NULL) == NULL);

        fake->fail_times = 0;                   /* and a new one begins anew */
        a = run(FAKE_REF);
        CHECK_INT(a.r, 0);
        CHECK_INT(fake->pulls, 2);
}

TEST(leaving_while_waiting_to_try_again) {
        ImageOptions o = options(3000, 1);
        Result a = {};

        fresh(&o);
        fake->pull = FAKE_PULL_REFUSED;
        fake->status = 500;
        fake->fail_times = -1;
        (void) snprintf(fake->words, sizeof fake->words, "connection refused");
        CHECK_INT(ensure(FAKE_REF, &a), 0);
        for (unsigned i = 0; i < 100 && fake->pulls == 0; i++)
                loop_for(event, 10);
        loop_for(event, 50);
        (void) image_wait_cancel(a.wait);
        loop_for(event, 600);
        CHECK_INT(a.done, 0);
        CHECK_INT(fake->pulls, 1);
}

TEST(leaving_from_a_progress_call) {
        ImageOptions o = options(3000, 1);
        Result a = {}, b = {};

        a.cancel = &a.wait;
        fresh(&o);
        fake->pull = FAKE_PULL_STALL;
        fake->fail_times = -1;
        CHECK_INT(ensure(FAKE_REF, &a), 0);
        loop_for(event, 300);
        CHECK_INT(a.progress, 1);
        CHECK(a.wait == NULL);
        CHECK_INT(fake->closed, 1);

        a = (Result) { .cancel = &b.wait };             /* one sends the other away, twice over */
        CHECK_INT(ensure(FAKE_REF, &a), 0);
        CHECK_INT(ensure(FAKE_REF, &b), 0);
        loop_for(event, 300);
        CHECK_INT(a.progress, 1);
        CHECK_INT(b.progress, 0);
        CHECK_INT(fake->closed, 1);
        (void) image_wait_cancel(a.wait);
        CHECK_INT(a.done + b.done, 0);
}

TEST(leaving_from_the_end) {
        ImageOptions o = options(3000, 1);
        Result a = {}, b = {};

        fresh(&o);
        fake->present = 1;
        a.cancel = &b.wait;
        b.cancel = &a.wait;
        CHECK_INT(ensure(FAKE_REF, &a), 0);
        CHECK_INT(ensure(FAKE_REF, &b), 0);
        CHECK(loop_until(event, &a.done, 1, 3000));
        loop_for(event, 50);
        CHECK_INT(b.done, 0);

        a = (Result) {};
        a.cancel = &a.wait;                     /* himself */
        CHECK_INT(ensure(FAKE_REF, &a), 0);
        CHECK(loop_until(event, &a.done, 1, 3000));
        CHECK_INT(a.r, 0);
}

TEST(all_at_once) {
        ImageOptions o = options(3000, 1);
        Result a = {}, b = {};
        char other[] = FAKE_REF;

        other[sizeof other - 2] = '0';          /* another digest */
        fresh(&o);
        fake->pull = FAKE_PULL_STALL;
        fake->fail_times = -1;
        CHECK_INT(ensure(FAKE_REF, &a), 0);
        CHECK_INT(ensure(other, &b), 0);
        CHECK(loop_until(event, &a.progress, 1, 3000) && loop_until(event, &b.progress, 1, 3000));
        images_cancel_all(images);
        for (int i = 0; i < 50 && fake->closed < 2; i++)
                loop_for(event, 100);
        CHECK_INT(a.done + b.done, 0);
        CHECK_INT(fake->closed, 2);
}

TEST(freed_in_the_middle) {
        ImageOptions o = options(3000, 1);
        Images *mine = NULL;
        Result a = {};

        fresh(&o);
        fake->pull = FAKE_PULL_STALL;
        fake->fail_times = -1;
        CHECK_INT(images_new(event, engine, &o, &mine), 0);
        CHECK_INT(images_ensure(mine, FAKE_REF, 0, on_progress, on_ended, &a, NULL), 0);
        CHECK(loop_until(event, &a.progress, 1, 3000));
        CHECK(images_free(mine) == NULL);
        loop_for(event, 200);
        CHECK_INT(a.done, 0);
        CHECK_INT(fake->closed, 1);
        CHECK_INT(images_ensure(images, "registry.example.com/x:tag", 0, NULL, on_ended, &a, NULL), -EINVAL);
}

int main(void) {
        ImageOptions o = options(1000, 1);
        int bad;

        fake_setup(2 * USEC_PER_SEC);
        if (images_new(event, engine, &o, &images) < 0)
                return 1;
        bad = test_run_all();
        (void) images_free(images);
        fake_teardown();
        return bad;
}
