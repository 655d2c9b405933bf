/* SPDX-License-Identifier: Apache-2.0 */

/* doctor: looks at this host as an operator would, changes nothing, and says of each thing that it is in order, or why not and what to do. */

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/config.h"
#include "agent/ctl/aws.h"
#include "agent/ctl/creds.h"
#include "agent/ctl/ctl.h"
#include "agent/identity.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/text.h"

typedef enum Verdict { FINE, WARNING, BAD, NOT_HERE, _VERDICT_MAX } Verdict;

static const char *const verdict_words[_VERDICT_MAX] = { [FINE] = "ok", [WARNING] = "warning", [BAD] = "failed", [NOT_HERE] = "-" };

typedef struct Doctor {
        Config  *config;                        /* NULL: it is not valid */
        Fault    config_fault;
        bool     metadata;                      /* there is a metadata service to ask */
        Imds     imds;
        char     words[400];                    /* of the check at work: what is so and what to do */
} Doctor;

static Verdict say(Doctor *d, Verdict v, const char *format, ...) __attribute__((format(printf, 3, 4)));

static Verdict say(Doctor *d, Verdict v, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        (void) vsnprintf(d->words, sizeof d->words, format, ap);
        va_end(ap);
        return v;
}

static Verdict look_configuration(Doctor *d) {
        if (!d->config)
                return say(d, BAD, "%s The last good one is in force. Mend the line.", d->config_fault.text);
        if (!config_can_enrol(d->config))
                return say(d, BAD, "cp_url or org_id is not set. Run molecule-agentctl enroll.");
        return say(d, FINE, "%s, organization %s", d->config->cp_url, d->config->org_id);
}

static Verdict look_credentials(Doctor *d) {
        static const char *const names[] = { "provision-secret", "admin-token" };

        if (d->config && (d->config->provision_secret_file || d->config->admin_token_file))
                return say(d, WARNING, "They lie in files in clear. Run molecule-agentctl enroll, and remove the files.");
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                char aside[80];

                (void) snprintf(aside, sizeof aside, CREDSTORE "/%s.foreign", names[i]);
                if (creds_decrypts(CREDSTORE, names[i], names[i]))
                        continue;
                if (access(aside, F_OK) == 0)
                        return say(d, BAD, "%s was encrypted for another machine. Run molecule-agentctl enroll.", names[i]);
                return say(d, BAD, "%s is not in " CREDSTORE ", or does not decrypt here. Run molecule-agentctl enroll.", names[i]);
        }
        return say(d, FINE, "both decrypt on this machine");
}

static int count_foreign(int dirfd, const char *name, void *userdata) {
        (void) dirfd;
        *(unsigned *) userdata += strncmp(name, "foreign-", 8) == 0;
        return 0;
}

static Verdict look_identity(Doctor *d) {
        _cleanup_close_ int state = ctl_open_state(), quarantine = -1;
        Identity id = {};
        unsigned n = 0;

        if (state < 0 || identity_read(state, &id, NULL) < 0)
                return say(d, BAD, "This host has no identity yet. Start the agent: systemctl start molecule-agentd.");
        quarantine = openat(state, "quarantine", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (quarantine >= 0)
                (void) file_each_dir(quarantine, count_foreign, &n);
        if (n > 0)
                return say(d, WARNING, "This is host %s. State of another one was set aside here. See molecule-agentctl identity show.", id.host_id);
        return say(d, FINE, "host %s", id.host_id);
}

static Verdict look_metadata(Doctor *d) {
        Fault why = {};

        if (!d->config || strcmp(d->config->imds, "off") == 0 || !imds_is_expected(d->config->imds_url))
                return say(d, NOT_HERE, "no EC2 instance, or imds=off");
        if (imds_open(&d->imds, d->config->imds_url, &why) < 0 || imds_document(&d->imds, &why) < 0)
                return say(d, BAD, "%s Allow it: http endpoint enabled.", why.text);
        d->metadata = true;
        if (imds_is_open_without_token(d->config->imds_url))
                return say(d, WARNING, "The first version of the service answers, too, without a token. Require tokens: --http-tokens required.");
        return say(d, FINE, "instance %s, tokens are required", d->imds.instance_id);
}

static Verdict look_hop_limit(Doctor *d) {
        if (!d->metadata)
                return say(d, NOT_HERE, "no metadata service");
        if (imds_is_open_to_containers(d->config->imds_url))
                return say(d, BAD, "Workspaces can reach the metadata service, and with it the instance's role. Set --http-put-response-hop-limit 1.");
        return say(d, FINE, "containers on a bridge do not reach the metadata service");
}

static Verdict look_user_data(Doctor *d) {
        if (!d->metadata)
                return say(d, NOT_HERE, "no metadata service");
        if (aws_user_data_tells(&d->imds))
                return say(d, BAD, "A credential stands in the user-data, for every process to read. Replace it at the control plane, and take it out.");
        return say(d, FINE, "no credential in it");
}

static const struct { const char *name; Verdict (*look)(Doctor *d); } checks[] = {
        { "configuration", look_configuration },
        { "credentials",   look_credentials },
        { "identity",      look_identity },
        { "metadata",      look_metadata },
        { "hop limit",     look_hop_limit },
        { "user-data",     look_user_data },
};

int ctl_doctor(int argc, char **argv) {
        unsigned count[_VERDICT_MAX] = {};
        Doctor d = {};

        (void) argv;
        if (argc > 1) {
                fputs("Usage: molecule-agentctl doctor\n", stderr);
                return CTL_USAGE;
        }
        if (geteuid() != 0) {
                fputs("Credentials and state are root's to look at: run it as root.\n", stderr);
                return CTL_REFUSED;
        }
        if (hash_init() < 0)
                return CTL_FAILED;
        (void) config_load(NULL, false, &d.config, &d.config_fault);
        for (size_t i = 0; i < ELEMENTS(checks); i++) {
                Verdict v = checks[i].look(&d);

                printf("%-8s %-14s %s\n", verdict_words[v], checks[i].name, d.words);
                count[v]++;
        }
        imds_close(&d.imds);
        config_free(d.config);
        if (count[BAD] + count[WARNING] == 0)
                puts("Nothing is wrong.");
        else
                printf("%u failed, %u warnings.\n", count[BAD], count[WARNING]);
        return count[BAD] ? CTL_FAILED : count[WARNING] ? CTL_DEGRADED : CTL_OK;
}
