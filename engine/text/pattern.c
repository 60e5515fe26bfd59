/* SPDX-License-Identifier: Apache-2.0
 *
 * Patterns in tokenizer.json are written for Oniguruma, which `tokenizers` uses.  PCRE2 reads nearly the same
 * syntax, but some of it means something else there without any error: \s takes in U+180E, \h and \v are other
 * sets, [a&&b] and [a[b]] lose their operators, \p{Han} matches script extensions.  So a pattern is rewritten,
 * construct by construct, and a construct that is not known to mean the same in both is refused.
 */
#include "engine/text/text.h"

#include "fp8/error.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

/* Unicode White_Space, and everything else, as ranges for a bracketed class. */
#define SPACE                                                                                                          \
	"\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NOT_SPACE                                                                                                      \
	"\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{"  \
	"2027}"                                                                                                        \
	"\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"

/* PCRE2 10.40 made a bare script name mean the script extensions, and brought the spelling for the script. */
#if PCRE2_MAJOR > 10 || PCRE2_MINOR >= 40
#define SCRIPT "sc:"
#else
#define SCRIPT ""
#endif

struct translator {
	const char *regex, *at; /* the whole, and what is still to be read; ends with NUL */
	char *out;
	size_t length, cap;
	enum octavo_status status; /* the first failure */
	const char *where;
	struct octavo_error *error;
};

static void refuse(struct translator *t, const char *at, size_t length, const char *reason)
{
	if (t->status == OCTAVO_OK)
		t->status = octavo_fail(t->error, OCTAVO_ENOTSUP, "%s: \"%.*s\" at byte %zu: %s", t->where, (int)length,
		                        at, (size_t)(at - t->regex), reason);
}

static void put(struct translator *t, const char *text, size_t length)
{
	if (t->length + length > t->cap) {
		size_t cap = 2 * (t->length + length);
		char *grown = realloc(t->out, cap);
		if (!grown) {
			t->status = octavo_fail(t->error, OCTAVO_ENOMEM, "%s: out of memory", t->where);
			return;
		}
		t->out = grown;
		t->cap = cap;
	}
	memcpy(t->out + t->length, text, length);
	t->length += length;
}

OCTAVO_PRINTF(2, 3) static void put_format(struct translator *t, const char *format, ...)
{
	char text[512];
	va_list args;
	va_start(args, format);
	int length = vsnprintf(text, sizeof text, format, args);
	va_end(args);
	put(t, text, (size_t)length);
}

/* Takes `length` characters over as they are. */
static void copy(struct translator *t, size_t length)
{
	put(t, t->at, length);
	t->at += length;
}

/* \p{..}: a general category as it is, anything else as a script. */
static void translate_property(struct translator *t)
{
	const char *start = t->at, *name = start + 3, *end = start[2] == '{' ? strchr(name, '}') : NULL;
	if (!end || end == name || end - name > 64) {
		refuse(t, start, 2, "a property needs a name in braces");
		return;
	}
	int negated = start[1] == 'P';
	if (*name == '^') {
		negated = !negated;
		name++;
	}
	size_t length = (size_t)(end - name);
	int category = length > 0 && length <= 2 && strchr("LMNPSZC", name[0]) && (length == 1 || islower(name[1]));
	put_format(t, "\\%c{%s%.*s}", negated ? 'P' : 'p', category ? "" : SCRIPT, (int)length, name);
	t->at = end + 1;
}

/* \xHH, \x{H...} and \uHHHH: a code point. */
static void translate_code_point(struct translator *t)
{
	const char *start = t->at, *digits = start + 2;
	int braces = start[1] == 'x' && *digits == '{';
	digits += braces;
	size_t length = strspn(digits, "0123456789abcdefABCDEF"), most = braces ? 6 : start[1] == 'u' ? 4 : 2;
	if (!braces && length > most)
		length = most;
	unsigned long value = 0;
	for (size_t i = 0; i < length && i < 7; i++)
		value = value * 16 + (unsigned long)(digits[i] <= '9' ? digits[i] - '0' : (digits[i] | 32) - 'a' + 10);
	if (length == 0 || length > most || (start[1] == 'u' && length != 4) || (braces && digits[length] != '}'))
		refuse(t, start, 2, "not a hexadecimal code point");
	else if (start[1] == 'x' && !braces && value >= 0x80)
		refuse(t, start, 4, "a single byte beyond ASCII is not supported; write \\x{..} for a character");
	put_format(t, "\\x{%lx}", value);
	t->at = digits + length + braces;
}

/* Backslash and what follows it. */
static void translate_escape(struct translator *t, int in_class)
{
	char c = t->at[1];
	if (c == 's' || c == 'S') {
		const char *set = c == 's' ? SPACE : NOT_SPACE;
		put_format(t, in_class ? "%s" : "[%s]", set);
		t->at += 2;
	} else if (c == 'p' || c == 'P') {
		translate_property(t);
	} else if (c == 'x' || c == 'u') {
		translate_code_point(t);
	} else if (c == 'v') {
		put_format(t, "\\x{b}");
		t->at += 2;
	} else if ((c && strchr("dDnrtfae", c)) || (!in_class && c && strchr("AzZ", c)) || ispunct((unsigned char)c)) {
		copy(t, 2);
	} else {
		refuse(t, t->at, c ? 2 : 1, "this escape is not supported");
	}
}

/* Whether the escape at `at` stands for a set rather than one character. */
static int is_set(const char *at)
{
	return at[0] == '\\' && at[1] && strchr("sSdDpP", at[1]);
}

/* One item of a class: a character or an escape. */
static void translate_item(struct translator *t)
{
	if (*t->at == '\\')
		translate_escape(t, 1);
	else if (*t->at == '[')
		refuse(t, t->at, 1, "a class within a class is not supported");
	else if (t->at[0] == '&' && t->at[1] == '&')
		refuse(t, t->at, 2, "class intersection is not supported");
	else
		copy(t, (size_t)utf8proc_utf8class[(unsigned char)*t->at]);
}

/* [...].  A hyphen is a range operator only between two single characters; elsewhere it is written escaped, for a
 * set next to it may have become ranges of its own. */
static void translate_class(struct translator *t)
{
	const char *start = t->at;
	copy(t, t->at[1] == '^' ? 2 : 1);
	if (*t->at == ']')
		refuse(t, start, (size_t)(t->at - start) + 1, "an empty class, or a bracket that should be escaped");
	const char *first = t->at;
	int left_side = 0; /* the item before could begin a range */
	while (!t->status && *t->at && *t->at != ']') {
		if (*t->at == '-' && left_side && t->at[1] && t->at[1] != ']' && !is_set(t->at + 1)) {
			copy(t, 1);
			translate_item(t);
			left_side = 0;
		} else if (*t->at == '-') {
			put(t, "\\-", 2);
			left_side = t->at++ == first;
		} else {
			left_side = !is_set(t->at);
			translate_item(t);
		}
	}
	if (*t->at == ']')
		copy(t, 1);
	else
		refuse(t, start, 1, "a class without end");
}

/* (, with what follows it if that is a ?. */
static void translate_group(struct translator *t)
{
	static const char *const known[] = {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:", "(?-i:"};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		size_t length = strlen(known[i]);
		if (strncmp(t->at, known[i], length) == 0) {
			copy(t, length);
			return;
		}
	}
	if (t->at == t->regex && strncmp(t->at, "(?i)", 4) == 0)
		copy(t, 4); /* anywhere else it reaches less far in PCRE2 */
	else if (t->at[1] == '?' || t->at[1] == '*')
		refuse(t, t->at, strnlen(t->at, 4), "this kind of group is not supported");
	else
		copy(t, 1);
}

/* {n}, {n,} and {n,m}.  Oniguruma reads a + after any of them, and a ? after the first, as one more quantifier. */
static void translate_interval(struct translator *t)
{
	const char *at = t->at + 1;
	size_t low = strspn(at, "0123456789");
	at += low;
	int open = *at == ',';
	if (open) {
		at++;
		at += strspn(at, "0123456789");
	}
	if (low == 0 || *at != '}' || at[1] == '+' || (!open && at[1] == '?')) {
		refuse(t, t->at, 1, "not an interval {n}, {n,} or {n,m} that both kinds of pattern read alike");
		return;
	}
	copy(t, (size_t)(at - t->at) + 1);
}

static void translate(struct translator *t)
{
	while (!t->status && *t->at) {
		switch (*t->at) {
		case '\\':
			translate_escape(t, 0);
			break;
		case '[':
			translate_class(t);
			break;
		case '(':
			translate_group(t);
			break;
		case '{':
			translate_interval(t);
			break;
		default:
			copy(t, 1);
		}
	}
}

static enum octavo_status compile(pcre2_code **code, const char *pattern, size_t length, uint32_t options,
                                  const char *where, struct octavo_error *error)
{
	pcre2_compile_context *context = pcre2_compile_context_create(NULL);
	if (!context)
		return octavo_fail(error, OCTAVO_ENOMEM, "%s: out of memory", where);
	pcre2_set_newline(context, PCRE2_NEWLINE_LF);
	int number;
	PCRE2_SIZE offset;
	*code = pcre2_compile((PCRE2_SPTR)pattern, length, options, &number, &offset, context);
	pcre2_compile_context_free(context);
	if (!*code) {
		char reason[256];
		pcre2_get_error_message(number, (PCRE2_UCHAR *)reason, sizeof reason);
		return octavo_fail(error, OCTAVO_EFORMAT, "%s: %s", where, reason);
	}
	pcre2_jit_compile(*code, PCRE2_JIT_COMPLETE); /* where it is to be had; matching interprets otherwise */
	return OCTAVO_OK;
}

enum octavo_status octavo_pattern_compile(pcre2_code **code, const char *regex, const char *where,
                                          struct octavo_error *error)
{
	if (!*regex)
		return octavo_fail(error, OCTAVO_ENOTSUP, "%s: empty", where);
	struct translator t = {.regex = regex, .at = regex, .where = where, .error = error};
	translate(&t);
	if (!t.status) /* in Oniguruma, ^ and $ are about lines */
		t.status = compile(code, t.out, t.length, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, where, error);
	free(t.out);
	return t.status;
}

enum octavo_status octavo_pattern_literal(pcre2_code **code, const char *text, const char *where,
                                          struct octavo_error *error)
{
	if (!*text)
		return octavo_fail(error, OCTAVO_ENOTSUP, "%s: empty", where);
	return compile(code, text, strlen(text), PCRE2_UTF | PCRE2_LITERAL, where, error);
}
