/* SPDX-License-Identifier: Apache-2.0
 *
 * CPU detection's parts that can be tested on any machine.
 */
#ifndef OCTAVO_CPU_H
#define OCTAVO_CPU_H

#include <stdint.h>

/* The feature groups that OCTAVO_CPU = `name` allows: all for NULL, none for an unknown name. */
uint32_t octavo_cpu_allowed(const char *name);

#endif
