/*
 * Public suites, read from beside the repository: JSONTestSuite's parsing
 * and transform files and the big list of naughty strings.
 */
#include <dirent.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/js.h"
#include "base/js_write.h"

#include "support/unit.h"

#define ARCHIVE "../shared/vectors/json.tar.gz"

static char folder[] = "/tmp/js-vectors-XXXXXX";
static struct arena arena;
static const struct js_limits limits = { 1 << 24, 600 };

static bool
run(const char *const argv[])
{
	pid_t pid;
	int status;

	/* posix_spawnp writes to none of them; its type is older than const. */
	char *const *args = (char *const *)(uintptr_t)argv;
	return posix_spawnp(&pid, args[0], NULL, NULL, args, environ) == 0 &&
	    waitpid(pid, &status, 0) == pid && status == 0;
}

static struct slice
load(const char *path)
{
	struct slice s = { 0 };
	FILE *f = fopen(path, "rb");
	uint8_t *mem = arena_alloc(&arena, 1 << 20);

	assert_non_null(f);
	assert_non_null(mem);
	s.len = fread(mem, 1, 1 << 20, f);
	s.ptr = mem;
	fclose(f);
	return s;
}

static void
copy_value(struct js_writer *w, struct js_value v)
{
	struct slice s, name;
	struct js_value inner;

	switch (v.kind) {
	case JS_STRING:
		assert_int_equal(js_string(v, &s), 0);
		js_put_string(w, s);
		return;
	case JS_ARRAY:
	case JS_OBJECT:
		break;
	case JS_NONE:
	case JS_NULL:
	case JS_BOOL:
	case JS_NUMBER:
		js_put_raw(w, js_raw(v));
		return;
	}
	if (v.kind == JS_OBJECT)
		js_begin_object(w);
	else
		js_begin_array(w);
	for (struct js_walk at = js_walk(v); js_next(&at, &name, &inner);) {
		if (v.kind == JS_OBJECT)
			js_key(w, name);
		copy_value(w, inner);
	}
	js_end(w);
}

static void
assert_same(struct js_value a, struct js_value b)
{
	struct slice s, t;
	struct js_value av, bv;
	struct js_walk aw = js_walk(a), bw = js_walk(b);

	assert_int_equal(a.kind, b.kind);
	assert_int_equal(js_count(a), js_count(b));
	if (a.kind == JS_STRING) {
		js_string(a, &s);
		js_string(b, &t);
		assert_slice(s, t);
	} else if (js_count(a) == 0) {
		/* {} may hold spaces. */
		if (a.kind != JS_OBJECT && a.kind != JS_ARRAY)
			assert_slice(js_raw(a), js_raw(b));
	}
	while (js_next(&aw, &s, &av)) {
		assert_true(js_next(&bw, &t, &bv));
		assert_slice(s, t);
		assert_same(av, bv);
	}
}

/* What was read, written and read again is the same, both ways to write. */
static void
round_trip(struct js_doc *doc)
{
	for (int ascii = 0; ascii < 2; ascii++) {
		struct js_writer w;
		struct js_doc again;
		struct buf out;
		buf_init(&out, 1 << 22);
		if (ascii)
			js_write_ascii(&w, &out);
		else
			js_write(&w, &out);
		copy_value(&w, js_root(doc));
		assert_int_equal(js_finish(&w), 0);
		assert_int_equal(
		    js_parse(&again, buf_peek(&out), &limits, &arena), 0);
		assert_same(js_root(doc), js_root(&again));
		assert_int_equal(
		    again.repeated.ptr != NULL, doc->repeated.ptr != NULL);
		assert_false(again.lone_surrogate);
		buf_fini(&out);
	}
}

static int
each_file(const char *sub, void (*check)(const char *name, struct slice text))
{
	char path[600];
	int files = 0;

	snprintf(path, sizeof(path), "%s/json/%s", folder, sub);
	DIR *dir = opendir(path);
	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir)) != NULL;) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/json/%s/%s", folder, sub,
		    e->d_name);
		arena_reset(&arena);
		check(e->d_name, load(path));
		files++;
	}
	closedir(dir);
	return files;
}

static void
check_parsing(const char *name, struct slice text)
{
	struct js_doc doc;
	int err = js_parse(&doc, text, &limits, &arena);

	if (name[0] == 'y' && err != 0)
		fail_msg("%s refused: %s", name, err_name(err));
	if (name[0] == 'n' && err == 0)
		fail_msg("%s accepted", name);
	if (err == 0 && strstr(name, "nested") == NULL)
		round_trip(&doc);
}

static void
check_valid(const char *name, struct slice text)
{
	struct js_doc doc;
	int err = js_parse(&doc, text, &limits, &arena);

	/* Bytes, not escapes, that are no UTF-8. */
	if (strstr(name, "_invalid_codepoint") != NULL &&
	    strstr(name, "_escaped_") == NULL) {
		assert_int_equal(err, ERR_UTF8);
		return;
	}
	if (err != 0)
		fail_msg("%s refused: %s", name, err_name(err));
	assert_int_equal(
	    doc.repeated.ptr != NULL, strstr(name, "same_key") != NULL);
	round_trip(&doc);
}

static void
test_parsing(void **state)
{
	(void)state;
	assert_true(each_file("test_parsing", check_parsing) > 300);
}

static void
test_transform(void **state)
{
	(void)state;
	assert_true(each_file("test_transform", check_valid) > 0);
}

static void
test_naughty(void **state)
{
	char path[600];

	(void)state;
	snprintf(path, sizeof(path), "%s/json/blns.json", folder);
	arena_reset(&arena);
	check_valid("blns.json", load(path));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parsing),
		cmocka_unit_test(test_transform),
		cmocka_unit_test(test_naughty),
	};

	if (access(ARCHIVE, R_OK) != 0) {
		puts("skip: the public JSON vectors are not beside this tree");
		return 0;
	}
	if (mkdtemp(folder) == NULL)
		return 1;
	const char *unpack[] = { "tar", "-xzf", ARCHIVE, "-C", folder, NULL };
	const char *cleanup[] = { "rm", "-rf", folder, NULL };
	if (!run(unpack))
		return 1;
	arena_init(&arena, 64 << 20);
	int failed = cmocka_run_group_tests_name("js", tests, NULL, NULL);
	arena_fini(&arena);
	return run(cleanup) ? failed : 1;
}
