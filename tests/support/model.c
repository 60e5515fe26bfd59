/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/model.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *source_path(const char *relative)
{
	static char path[PATH_MAX];
	const char *root = getenv("OCTAVO_SRCDIR");
	snprintf(path, sizeof path, "%s/%s", root ? root : ".", relative);
	return path;
}

struct octavo_engine *open_model(const char *name, const struct octavo_engine_settings *settings)
{
	char relative[256];
	struct octavo_engine *e;
	struct octavo_error error = { "" };
	struct octavo_engine_settings s = *settings;
	snprintf(relative, sizeof relative, "tests/data/%s", name);
	s.model_dir = strchr("/.", *name) ? name : source_path(relative);
	if (octavo_engine_open(&e, &s, &error) != OCTAVO_OK)
		fail_msg("%s", error.text);
	return e;
}

void run_tokens(struct octavo_engine *e, const int32_t *token, size_t count, size_t chunk, uint8_t flags, float *logits,
                float *post)
{
	enum { MOST = 64 };
	struct octavo_error error = { "" };
	size_t vocab = e->config.vocab, hidden = e->config.hidden;
	assert_true(chunk <= MOST);
	assert_int_equal(octavo_rewind(e, 0, 0, &error), OCTAVO_OK);
	for (size_t first = 0; first < count; first += chunk) {
		size_t rows = count - first < chunk ? count - first : chunk;
		int32_t pos[MOST], seq[MOST], parent[MOST];
		uint32_t row[MOST];
		uint8_t flag[MOST];
		for (size_t i = 0; i < rows; i++) {
			pos[i] = (int32_t)(first + i);
			seq[i] = 0;
			parent[i] = (int32_t)i - 1;
			row[i] = (uint32_t)i;
			flag[i] = flags | OCTAVO_ROW_LOGITS;
		}
		struct octavo_batch batch = { rows, token + first, pos, seq, parent, flag };
		if (octavo_forward(e, &batch, &error) != OCTAVO_OK)
			fail_msg("%s", error.text);
		for (size_t i = 0; i < rows; i++) {
			if (logits)
				memcpy(logits + (first + i) * vocab, octavo_logits(e, i), vocab * sizeof *logits);
			if (post)
				memcpy(post + (first + i) * hidden, octavo_hidden(e, i, OCTAVO_TAP_POST_NORM),
				       hidden * sizeof *post);
		}
		assert_int_equal(octavo_commit(e, 0, row, rows, &error), OCTAVO_OK);
	}
}
