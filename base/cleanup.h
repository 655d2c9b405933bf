/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Scope-bound cleanup and the handing-over of what a scope owns. */

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(fn)  __attribute__((cleanup(fn)))
#define _printf_(f, a) __attribute__((format(printf, f, a)))
#define _unused_       __attribute__((unused))
#define ELEMENTS(a)    (sizeof(a) / sizeof((a)[0]))

/* Reads a value out and leaves the empty one behind, so that the scope's own cleanup finds nothing. */
#define TAKE(var, empty) ({ __typeof__(var) *_v = &(var); __typeof__(var) _t = *_v; *_v = (empty); _t; })
#define TAKE_PTR(p)      TAKE(p, NULL)
#define TAKE_FD(fd)      TAKE(fd, -1)

/* Makes "foo_freep(T **)", the shape the attribute wants, from "foo_free(T *)". */
#define DEFINE_CLEANUP(type, func) \
        static inline void func##p(type *p) { if (*p) (void) func(*p); }

static inline void freep(void *p) { free(*(void **) p); }
static inline void closep(int *fd) { if (*fd >= 0) (void) close(*fd); }

#define _cleanup_free_  _cleanup_(freep)
#define _cleanup_close_ _cleanup_(closep)
