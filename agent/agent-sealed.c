/* SPDX-License-Identifier: Apache-2.0 */

/* Everything of the agent that has to do with keys: opening them in their order at start, the host's pair towards the control plane, and the shared
 * secret that it hands out. Nothing here needs the control plane or the network to open what lies on this disk. */

#include <errno.h>
#include <string.h>

#include "agent/agent-internal.h"
#include "base/file.h"
#include "base/log.h"

#define KEYS_DIR    "keys"
#define ROTATE_FILE "rotate-host-key"           /* asks for another pair; holds the id of the one that is to go */

/* ── start ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static void sweep(int state_fd, const char *dir) {
        _cleanup_close_ int fd = file_open_dir(state_fd, dir);

        if (fd >= 0)
                (void) file_sweep_temp(fd);     /* ignoring: they are of a crash and do no harm */
}

/* Identity first: it must know a root before anything is sealed with it. */
static int open_roots(Agent *a, Fault *reterr) {
        Rewrapped done;
        bool changed = false;
        Fault why = {};
        uint32_t before;
        int r;

        sweep(a->state_fd, KEYS_DIR);
        if (a->identity.registered_at && a->identity.roots.n > 0 && !keys_any_wrapped(a->state_fd)) {
                log_error("Of what was sealed here nothing is left: the state directory was lost. It begins anew.");
                a->identity.roots = (RootChecks) {};
        }
        r = keys_open(a->state_fd, a->arena, &a->identity.roots, &changed, &a->keys, reterr);
        if (r < 0)
                return r;
        before = a->identity.roots.wrapped;
        if (changed && (r = identity_save(a->state_fd, &a->identity, reterr)) < 0)
                return r;
        if (keys_fault(a->keys)) {
                log_write(LOG_ERR, &(LogFields) { .fault = keys_fault(a->keys) }, "Nothing sealed can be opened, no job is taken: %s",
                          keys_fault(a->keys)->text);
                return 0;
        }
        if (keys_were_made_now(a->keys))
                log_warning("There is no credential seal-key.e1: a root key was made and lies on this disk, beside what it seals.");
        r = keys_rewrap(a->keys, a->state_fd, &a->identity.roots, &done, &why);
        if (r < 0) {                            /* both roots are here, so everything opens */
                log_write(LOG_ERR, &(LogFields) { .fault = &why }, "%s The next start tries again.", why.text);
                return 0;
        }
        if (a->identity.roots.wrapped != before)
                r = identity_save(a->state_fd, &a->identity, reterr);
        if (r >= 0 && done.wrapped > 0)
                log_notice("%u keys are wrapped by the root key of epoch %u now; the one before may go.", done.wrapped, keys_epoch(a->keys));
        if (r >= 0 && done.unreadable > 0)
                log_write(LOG_ERR, &(LogFields) { .fault = &done.first }, "%u keys do not open and were left as they are: %s", done.unreadable,
                          done.first.text);
        return r;
}

static void open_host_keys(Agent *a) {
        bool known = a->host_keys_fault.set;
        Fault why = {}, damaged = {};

        a->host_keys_fault = (Fault) {};
        if (!a->settings.org_id[0] || keys_fault(a->keys))
                return;
        if (host_keys_open(a->state_fd, a->keys, a->settings.org_id, &a->host_keys, &damaged, &why) < 0) {
                if (!known)
                        log_write(LOG_ERR, &(LogFields) { .fault = &why }, "No job is taken: %s", why.text);
                a->host_keys_fault = why;
        }
        if (damaged.set)
                log_write(LOG_ERR, &(LogFields) { .fault = &damaged }, "%s", damaged.text);
        a->settings.host_keys = a->host_keys;
}

int agent_open_sealed(Agent *a, Fault *reterr) {
        int r = arena_new(ARENA_SIZE, a->config->allow_unlocked_memory, &a->arena, reterr);

        if (r < 0)
                return r;
        if (!arena_is_locked(a->arena))
                log_warning("Memory for secrets is not locked (allow_unlocked_memory=yes): it may be swapped to disk.");
        credentials_take_environment(a->arena, &a->environment);
        r = open_roots(a, reterr);
        if (r < 0)
                return r;
        open_host_keys(a);
        r = vault_new(a->state_fd, a->keys, a->settings.org_id, &a->vault, reterr);
        if (r >= 0)
                vault_sweep(a->vault);
        return r;
}

void agent_org_changed(Agent *a) {
        a->host_keys_fault = (Fault) {};
        a->settings.host_keys = a->host_keys = host_keys_free(a->host_keys);
        vault_set_org(a->vault, a->settings.org_id);
        open_host_keys(a);
}

void agent_retry_host_keys(Agent *a) {
        if (!a->host_keys_fault.set)
                return;
        if (queue_is_torn_down(a->queue)) {     /* it needs none, and its jobs are to be refused */
                a->host_keys_fault = (Fault) {};
                return;
        }
        open_host_keys(a);
        if (a->host_keys_fault.set)
                return;
        a->polled_once = false;
        log_notice("The host's keys can be read now: jobs are taken again.");
        health_changed(a->health);
        control_register(a->control);
}

void agent_close_sealed(Agent *a) {
        credentials_done(&a->credentials);
        credentials_env_done(&a->environment);
        vault_free(a->vault);
        host_keys_free(a->host_keys);
        keys_free(a->keys);
        arena_free(a->arena);
}

static int destroy_one(Vault *v, const char *workspace, void *userdata) {
        bool *well = userdata;

        if (vault_destroy_key(v, workspace) < 0 || vault_destroy_sets(v, workspace) < 0)
                *well = false;
        return 0;
}

static int unlink_one(int dirfd, const char *name, void *userdata) {
        if (file_remove(dirfd, name) < 0)
                *(bool *) userdata = false;
        return 0;
}

/* With the host's keys in memory nothing is sealed any more; what was sealed to them cannot be opened by anyone. A root that systemd gave is not ours
 * to destroy, and seals nothing that is left. */
bool agent_destroy_keys(Agent *a) {
        _cleanup_close_ int fd = file_open_dir(a->state_fd, KEYS_DIR);
        bool well = true;

        if (vault_each(a->vault, destroy_one, &well) < 0 || fd < 0 || file_each(fd, unlink_one, &well) < 0 ||
            file_remove(a->state_fd, "credentials.seal") < 0)
                well = false;
        a->settings.host_keys = a->host_keys = host_keys_free(a->host_keys);
        log_notice(well ? "The keys of this host are destroyed." : "Not every key of this host could be destroyed.");
        return well;
}

/* ── the shared secret ───────────────────────────────────────────────────────────────────────────────────────── */

int agent_load_credentials(Agent *a, Fault *reterr) {
        Fault why = {};
        int r = credentials_load(a->config, a->arena, &a->environment, &a->credentials, reterr);

        if (r < 0)
                return r;
        r = credentials_restore(a->state_fd, a->vault, &a->credentials, &why);
        if (r < 0)
                log_write(LOG_WARNING, &(LogFields) { .fault = &why }, "The configured provision secret is used: %s", why.text);
        else if (r > 0)
                log_info("The provision secret that the control plane handed out is used.");
        return 0;
}

void agent_secret_refreshed(Agent *a, const char *secret) {
        Fault why = {};

        if (credentials_refresh(&a->credentials, secret) != 0)
                return;
        if (credentials_keep(a->state_fd, a->vault, &a->credentials, &why) < 0)
                log_write(LOG_WARNING, &(LogFields) { .fault = &why }, "The new provision secret is good until the agent ends: %s", why.text);
        why = (Fault) {};
        if (cp_configure(a->cp, a->config, &a->credentials, &why) < 0)
                log_write(LOG_ERR, &(LogFields) { .fault = &why }, "%s", why.text);
        else
                log_notice("The control plane handed out another provision secret.");
}

/* ── the host's pair ─────────────────────────────────────────────────────────────────────────────────────────── */

int agent_prove_key(Agent *a, const char *challenge, Fault *reterr) {
        if (!a->host_keys)
                return fault(reterr, -ENOKEY, FAULT_SEALING_KEY_CONFLICT, "The control plane knows a sealing key of this host, which has none.");
        return host_keys_prove(a->host_keys, challenge, a->key_proof, reterr);
}

/* The request names the pair that is to go, so that it is done once however often it is begun. */
void agent_rotate_host_key(Agent *a) {
        _cleanup_close_ int fd = file_open_dir(a->state_fd, KEYS_DIR);
        _cleanup_free_ char *text = NULL;
        bool current;
        Fault why = {};
        size_t size;

        if (fd < 0 || !a->host_keys || file_read(fd, ROTATE_FILE, 256, &text, &size) < 0)
                return;
        text[strcspn(text, "\n")] = 0;
        current = strcmp(text, host_keys_id(a->host_keys)) == 0;
        if (current && host_keys_rotate(a->host_keys, &why) < 0) {
                log_write(LOG_ERR, &(LogFields) { .fault = &why }, "The host's key is not rotated: %s", why.text);
                return;
        }
        (void) file_remove(fd, ROTATE_FILE);    /* ignoring: next time it names another key than the current one */
        if (!current)
                return;
        log_notice("The host's key is %s now.", host_keys_id(a->host_keys));
        control_register(a->control);
}
