/* SPDX-License-Identifier: Apache-2.0
 *
 * A drafter that knows the text to come and hides it among wrong tokens: trees of random shape in which a random part
 * of the true path lies at a random place.
 */
#ifndef OCTAVO_TEST_ORACLE_H
#define OCTAVO_TEST_ORACLE_H

#include "engine/session.h"

struct oracle {
	struct octavo_drafter base;
	struct octavo_drafter *inner; /* the session's own, which drafts too and is not heard */
	const int32_t *truth; /* by position */
	size_t length, pos;   /* of truth; of the root */
	uint32_t state;
};

/* Becomes the session's drafter until that is closed. */
void oracle_take(struct oracle *oracle, struct octavo_session *session, const int32_t *truth, size_t length,
                 uint32_t seed);

#endif
