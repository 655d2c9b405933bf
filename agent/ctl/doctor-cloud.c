/* SPDX-License-Identifier: Apache-2.0 */

/* doctor: the cloud's metadata service, which hands out the instance's role to whoever reaches it. */

#include <string.h>

#include "agent/ctl/aws.h"
#include "agent/ctl/doctor.h"

Verdict look_metadata(Doctor *d) {
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

Verdict look_hop_limit(Doctor *d) {
        if (!d->metadata)
                return say(d, NOT_HERE, "no metadata service");
        if (imds_is_open_to_containers(d->config->imds_url))
                return say(d, BAD, "Workspaces can reach the metadata service, and with it the instance's role. Set --http-put-response-hop-limit 1.");
        return say(d, FINE, "containers on a bridge do not reach the metadata service");
}

Verdict look_user_data(Doctor *d) {
        if (!d->metadata)
                return say(d, NOT_HERE, "no metadata service");
        if (aws_user_data_tells(&d->imds))
                return say(d, BAD, "A credential stands in the user-data, for every process to read. Replace it at the control plane, and take it out.");
        return say(d, FINE, "no credential in it");
}
