/* SPDX-License-Identifier: Apache-2.0 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "tests/support/loaded.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum octavo_status load_dir(struct loaded *l, const char *dir)
{
	enum octavo_status status = octavo_config_load(&l->config, dir, &l->error);
	if (status == OCTAVO_OK)
		status = octavo_checkpoint_open(&l->checkpoint, dir, NULL, &l->error);
	if (status == OCTAVO_OK)
		status = octavo_weights_bind(&l->weights, &l->config, l->checkpoint, &l->error);
	return status;
}

enum octavo_status load(struct loaded *l, const struct ckpt *ckpt)
{
	*l = (struct loaded){.dir = ckpt_dir_new(), .error.text = "no message"};
	ckpt_write(ckpt, l->dir);
	return load_dir(l, l->dir);
}

void unload(struct loaded *l)
{
	octavo_weights_release(&l->weights);
	octavo_checkpoint_close(&l->checkpoint);
	if (l->dir)
		ckpt_dir_free(l->dir);
}

void expect_good(struct ckpt *ckpt)
{
	struct loaded l;
	enum octavo_status status = load(&l, ckpt);
	if (status != OCTAVO_OK)
		print_error("%s\n", l.error.text);
	unload(&l);
	ckpt_free(ckpt);
	assert_int_equal(status, OCTAVO_OK);
}

void expect_bad(struct ckpt *ckpt, enum octavo_status wanted, const char *text)
{
	struct loaded l;
	enum octavo_status status = load(&l, ckpt);
	struct octavo_error error = l.error;
	unload(&l);
	ckpt_free(ckpt);
	assert_string_equal(error.text, text);
	assert_int_equal(status, wanted);
}

struct ckpt *tiny(void)
{
	return ckpt_new(&(struct ckpt_options){.mtp = 1, .seed = 7});
}
