/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The words of `secrets`. Each gets the words behind it and returns an exit code. */

int secrets_rotate_root(int argc, char **argv);         /* rotate.c */
int secrets_rotate_host_key(int argc, char **argv);
