/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The cloud's metadata service, in its second version only: a token first (https://docs.aws.amazon.com, "IMDSv2"). */

#include "base/http-wait.h"

typedef struct Imds {
        HttpWait   *http;
        const char *url;                /* borrowed */
        char        token[128];
        char        instance_id[64], region[32], image_id[64];  /* "" until imds_document() */
} Imds;

/* A token. Two seconds at most, for this and for each later call; negative with words where nobody answers, and imds_close() is due all the same. */
int  imds_open(Imds *i, const char *url, Fault *reterr);
void imds_close(Imds *i);

int  imds_document(Imds *i, Fault *reterr);                     /* fills instance_id, region, image_id */
int  imds_get(Imds *i, const char *path, HttpReply *ret);       /* below /latest/; -ENOENT: 404; -EIO otherwise; done by the caller */

bool imds_is_open_to_containers(const char *url);               /* a token is to be had from one hop further off */
bool imds_is_open_without_token(const char *url);               /* the first version answers, too */

/* Whether this is a machine that has one: its firmware says so, or an operator named another place than the usual one. */
bool imds_is_expected(const char *url);
