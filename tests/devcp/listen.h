/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Where the control plane listens, and where it notes what it acknowledged. */

#include <stddef.h>

#include "base/fault.h"

/* A listening socket on ADDRESS:PORT, and the URL by which it is reached. Anything but a loopback address is refused: this program is for
 * development and tests. */
int listen_open(const char *address, const char *tls, int *ret_fd, char *ret_url, size_t url_size, Fault *reterr);

/* The acknowledgement log, for appending; -1 when path is NULL. */
int listen_open_log(const char *path, int *ret_fd, Fault *reterr);
