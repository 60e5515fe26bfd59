/* SPDX-License-Identifier: Apache-2.0
 *
 * specbench: the front door.
 */
#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* In a build tree the modules lie beside the program, not where they will be installed. */
static void find_modules(void)
{
	static const char *const modules[] = { "/octavo-papi.so", "/octavo-hwy.so", "/octavo-onednn.so",
		                               "/octavo-xsmm.so" };
	char path[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", path, sizeof path - sizeof "/octavo-onednn.so");
	if (length <= 0 || getenv("OCTAVO_MODULE_PATH"))
		return;
	path[length] = 0;
	char *slash = strrchr(path, '/');
	if (!slash)
		return;
	bool found = false;
	for (size_t i = 0; i < sizeof modules / sizeof *modules; i++) {
		strcpy(slash, modules[i]);
		found = found || !access(path, R_OK);
	}
	*slash = 0;
	if (found)
		setenv("OCTAVO_MODULE_PATH", path, 1);
}

static const char usage[] =
	"usage: specbench [COMMAND] [OPTIONS]\n"
	"\n"
	"  (nothing)   the machine, a short kernel table, then plain decoding of the bundled model and every drafter side\n"
	"              by side, at temperature 0.8 and few draft lengths; writes specbench.json\n"
	"  run         the same measurements with your model, prompts and parameters\n"
	"  generate    text in, text out, streaming\n"
	"  eval        loss on a text, for each arithmetic\n"
	"  kernels     time the kernels against the memory bandwidth of this machine\n"
	"  layer       time a decoder layer of DeepSeek-V3 in full size, for steps of several rows\n"
	"  machine     processor, instruction sets, caches, counters; measured bandwidth and peak\n"
	"  selftest    check the arithmetic and the counters of this machine\n"
	"\n"
	"specbench COMMAND --help lists a command's options. Exit status: 0 success, 1 a check failed (for example\n"
	"output that is not identical to plain decoding), 2 bad usage or input, or output that cannot be written.\n"
	"\n"
	"Environment: OCTAVO_MODEL=DIR is the model where --model is not given; OCTAVO_CPU=ref, hwy, neon, avx2,\n"
	"avx512, avx512bf16 or amx lowers the choice of kernels.\n";

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "run", command_run },         { "generate", command_generate }, { "eval", command_eval },
	{ "kernels", command_kernels }, { "layer", command_layer },       { "machine", command_machine },
	{ "selftest", command_selftest },
};

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		if (!strcmp(name, commands[i].name))
			return &commands[i];
	return NULL;
}

/* "help", "help run". */
static int help(int words, char **word)
{
	static char option[] = "--help";
	const struct command *command = words == 1 ? find_command(word[0]) : NULL;
	if (command)
		return command->run(2, (char *[]){ word[0], option, NULL });
	fputs(usage, stdout);
	return EXIT_OK;
}

static int dispatch(int argc, char **argv)
{
	if (argc < 2)
		return command_default(argc, argv);
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
		return help(argc - 2, argv + 2);
	if (!strcmp(argv[1], "--version")) {
		printf("specbench %s\n", octavo_version());
		return EXIT_OK;
	}
	const struct command *command = find_command(argv[1]);
	if (command)
		return command->run(argc - 1, argv + 1);
	if (argv[1][0] == '-') /* options of the default report */
		return command_default(argc, argv);
	if (!strcmp(argv[1], "compare"))
		return complain("command compare is not available in this version");
	fputs(usage, stderr);
	return complain("unknown command \"%s\"", argv[1]);
}

/* No file may take the place of a standard stream that the caller has closed: what is printed would land in it.
 * Printing fails all the same. */
static void guard_streams(void)
{
	int fd;
	while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0 && fd <= STDERR_FILENO)
		;
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	guard_streams();
	find_modules();
	json_command(argc, argv);
	int status = dispatch(argc, argv);
	errno = 0;
	if (fflush(stdout) || ferror(stdout))
		return complain("standard output: %s", errno ? strerror(errno) : "a write failed");
	return status;
}
