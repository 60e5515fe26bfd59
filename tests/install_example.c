/* SPDX-License-Identifier: Apache-2.0
 *
 * The README's example, built against an installed library: prints the continuation of a text.
 */
#include <octavo_engine.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	struct octavo_error error = { "usage: install_example MODEL TEXT" };
	struct octavo_engine *engine = NULL;
	struct octavo_session *session = NULL;
	struct octavo_engine_settings settings = { .model_dir = argc > 2 ? argv[1] : "" };
	struct octavo_session_settings how = { .drafter = "mtp", .k = 2, .max_new = 32, .sampling = { .temperature = 0.8f } };
	int32_t prompt[512];
	const int32_t *token;
	size_t count, length;

	if (argc < 3 || octavo_engine_open(&engine, &settings, &error) ||
	    octavo_encode(engine, argv[2], strlen(argv[2]), OCTAVO_ENCODE_BOS, prompt, 512, &count, &error) ||
	    octavo_session_open(&session, engine, &how, &error) ||
	    octavo_session_prompt(session, prompt, count, &error)) {
		fprintf(stderr, "%s\n", error.text);
		return 2;
	}
	while (!octavo_session_step(session, &token, &count, &error) && count)
		for (size_t i = 0; i < count; i++) {
			const char *text = octavo_token_text(engine, token[i], &length);
			fwrite(text, 1, text ? length : 0, stdout);
		}
	putchar('\n');
	octavo_session_close(&session);
	octavo_engine_close(&engine);
	return 0;
}
