/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/bundled.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *bundled_path(const char *file)
{
	static char path[PATH_MAX];
	const char *dir = getenv("OCTAVO_MODEL");
	if (!dir)
		dir = source_path("bench/model");
	int length = snprintf(path, sizeof path, "%s/%s", dir, file);
	return length > 0 && (size_t)length < sizeof path ? path : "";
}

void need_bundled(void)
{
	if (access(bundled_path("model.safetensors"), R_OK) == 0)
		return;
	print_message("no bundled model at %s\n", bundled_path(""));
	skip();
}

size_t read_prompt(FILE *file, const struct octavo_engine *e, int32_t prompt[MOST_PROMPT])
{
	char *line = NULL;
	size_t room = 0, length = 0;
	struct octavo_error error;
	json_error_t why;
	if (getline(&line, &room, file) > 0) {
		json_t *object = json_loads(line, 0, &why);
		const char *text = json_string_value(json_object_get(object, "text"));
		assert_non_null(text);
		if (octavo_encode(e, text, strlen(text), OCTAVO_ENCODE_BOS, prompt, MOST_PROMPT, &length, &error) !=
		    OCTAVO_OK)
			fail_msg("a prompt: %s", error.text);
		assert_true(length > 0);
		json_decref(object);
	}
	free(line);
	return length;
}
