#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "support/golden.h"
#include "support/schema.h"
#include "support/unit.h"

enum { NAMES = 64, LINES = 512, USED = 256, VALUE = 64 };

struct variable {
	char name[VALUE];
	char value[VALUE];
};

const char *golden_file = "";
int golden_line;

static struct variable variables[NAMES];
static size_t variable_count;
static char *lines[LINES];
static size_t head, tail;
static char *used[USED];
static size_t used_count;

void
golden_reset(void)
{
	while (head < tail)
		free(lines[head++]);
	head = tail = variable_count = 0;
}

void
golden_came(const char *who, struct slice text)
{
	size_t room = strlen(who) + text.len + 2;

	assert_true(tail < LINES);
	lines[tail] = malloc(room);
	assert_non_null(lines[tail]);
	snprintf(lines[tail++], room, "%s %.*s", who, SLICE_FMT(text));
}

static bool
is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9') || c == '_' || c == '-';
}

/* The variable whose name stands after the $ at *at, which moves on. */
static struct variable *
variable(const char **at)
{
	const char *start = ++*at;

	while (is_word(**at))
		++*at;
	size_t len = (size_t)(*at - start);
	assert_true(len > 0 && len < VALUE);
	for (size_t i = 0; i < variable_count; i++) {
		if (strlen(variables[i].name) == len &&
		    memcmp(variables[i].name, start, len) == 0)
			return &variables[i];
	}
	assert_true(variable_count < NAMES);
	struct variable *v = &variables[variable_count++];
	*v = (struct variable){ { 0 }, { 0 } };
	memcpy(v->name, start, len);
	return v;
}

static bool
fits(const char *want, const char *got)
{
	while (*want != '\0') {
		if (*want != '$') {
			if (*want++ != *got++)
				return false;
			continue;
		}
		struct variable *v = variable(&want);
		size_t n = 0;
		while (is_word(got[n]))
			n++;
		if (n == 0 || n >= VALUE)
			return false;
		if (v->value[0] == '\0')
			memcpy(v->value, got, n);
		if (strlen(v->value) != n || memcmp(v->value, got, n) != 0)
			return false;
		got += n;
	}
	return *got == '\0';
}

void
golden_expect(const char *want)
{
	if (head == tail)
		fail_msg("%s:%d: nothing came", golden_file, golden_line);
	char *got = lines[head++];
	if (!fits(want, got))
		fail_msg("%s:%d: wanted %s\n got    %s", golden_file,
		    golden_line, want, got);
	free(got);
}

void
golden_done(void)
{
	if (head < tail)
		fail_msg("%s:%d: not expected: %s", golden_file, golden_line,
		    lines[head]);
	head = tail = 0;
}

char *
golden_fill(const char *text)
{
	size_t len = 0, room = strlen(text) + NAMES * VALUE;
	char *out = malloc(room);

	assert_non_null(out);
	while (*text != '\0') {
		const char *put = text;
		size_t n = 1;
		if (*text == '$') {
			put = variable(&text)->value;
			n = strlen(put);
		} else {
			text++;
		}
		assert_true(len + n < room);
		memcpy(out + len, put, n);
		len += n;
	}
	out[len] = '\0';
	return out;
}

void
golden_fits(const char *file, struct slice text)
{
	const char *wrong = schema_check(file, text);

	if (wrong != NULL)
		fail_msg("%s:%d: %s: %s in %.*s", golden_file, golden_line,
		    file, wrong, SLICE_FMT(text));
	for (size_t i = 0; i < used_count; i++) {
		if (strcmp(used[i], file) == 0)
			return;
	}
	assert_true(used_count < USED);
	used[used_count++] = strdup(file);
}

void
golden_all_used(const char *directory)
{
	DIR *d = opendir(directory);
	struct dirent *e;
	char file[512];

	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		size_t i = 0;
		if (!slice_ends(slice_from(e->d_name), SL(".json")))
			continue;
		snprintf(file, sizeof(file), "%s%s", directory, e->d_name);
		while (i < used_count && strcmp(used[i], file) != 0)
			i++;
		if (i == used_count)
			fail_msg("no transcript shows %s", file);
	}
	closedir(d);
}
