/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* GET /metrics on an address of its own, for a Prometheus that is elsewhere. Nothing else is answered there, and nobody is asked who he is. */

#include <netinet/in.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "base/fault.h"

#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

typedef struct ApiMetrics ApiMetrics;

typedef union ApiAddress {
        struct sockaddr     any;
        struct sockaddr_in  four;
        struct sockaddr_in6 six;
} ApiAddress;

int api_address_parse(const char *text, ApiAddress *ret);       /* 192.0.2.1:9464 or [2001:db8::1]:9464; -EINVAL */
bool api_address_is_loopback(const ApiAddress *a);

/* text: malloc'd, NULL when out of memory. Negative, with words, where the address cannot be listened on. */
int         api_metrics_start(sd_event *event, const char *address, char *(*text)(void *userdata), void *userdata, ApiMetrics **ret, Fault *reterr);
ApiMetrics *api_metrics_stop(ApiMetrics *m);    /* NULL is fine; returns NULL */
