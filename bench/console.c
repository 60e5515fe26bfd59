/* SPDX-License-Identifier: Apache-2.0
 *
 * What a terminal needs: a progress line, lines that are not too long, Ctrl-C.
 */
#include "bench/bench.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

/* ---- Progress ----------------------------------------------------------------------------------------------- */

static bool drawn;

void progress(const char *what, size_t done, size_t total)
{
	enum { WIDTH = 30 };
	if (!isatty(STDERR_FILENO) || !total)
		return;
	char bar[WIDTH + 1];
	size_t full = done * WIDTH / total;
	for (size_t i = 0; i < WIDTH; i++)
		bar[i] = i < full ? '#' : '.';
	bar[WIDTH] = 0;
	fprintf(stderr, "\r\033[K[%s] %s", bar, what);
	fflush(stderr);
	drawn = true;
}

void progress_clear(void)
{
	if (!drawn)
		return;
	fputs("\r\033[K", stderr);
	fflush(stderr);
	drawn = false;
}

/* ---- Long lines --------------------------------------------------------------------------------------------- */

void print_wrapped(const char *text, size_t at, size_t indent)
{
	if (!*text)
		return;
	for (const char *word = text; *word;) {
		size_t length = strcspn(word, " ");
		if (word > text && at + 1 + length > LINE_WIDTH) {
			printf("\n%*s", (int)indent, "");
			at = indent;
		} else if (word > text) {
			putchar(' ');
			at++;
		}
		printf("%.*s", (int)length, word);
		at += length;
		word += length + (word[length] == ' ');
	}
	putchar('\n');
}

/* ---- Ctrl-C --------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t stop_wanted;

static void want_stop(int number)
{
	static const char note[] = "\nspecbench: ends after this prompt, with a report; Ctrl-C again: at once\n";
	stop_wanted = number;
	/* What reads the report may have got the same Ctrl-C; files are still to be written. */
	signal(SIGPIPE, SIG_IGN);
	if (write(STDERR_FILENO, note, sizeof note - 1) < 0)
		return; /* nobody reads it */
}

void interrupt_watch(void)
{
	struct sigaction before, mine = { .sa_handler = want_stop, .sa_flags = SA_RESTART | (int)SA_RESETHAND };
	/* Whoever starts a process in the background may have it ignore Ctrl-C. */
	if (sigaction(SIGINT, NULL, &before) == 0 && before.sa_handler == SIG_DFL)
		sigaction(SIGINT, &mine, NULL);
}

bool interrupted(void)
{
	return stop_wanted;
}

void interrupt_pass_on(void)
{
	if (!stop_wanted)
		return;
	fflush(stdout);
	signal(SIGINT, SIG_DFL);
	raise(SIGINT);
}
