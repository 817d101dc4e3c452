#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/http_vectors.h"
#include "support/unit.h"

#define ARCHIVE "../shared/vectors/http.tar.gz"

static char folder[] = "/tmp/muster-vectors-XXXXXX";

static void
run(const char *const argv[])
{
	char *copy[8] = { 0 };
	int status;
	pid_t pid;

	for (size_t i = 0; argv[i] != NULL; i++)
		copy[i] = strdup(argv[i]);
	assert_int_equal(
	    posix_spawnp(&pid, copy[0], NULL, NULL, copy, environ), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	for (size_t i = 0; copy[i] != NULL; i++)
		free(copy[i]);
}

static void
text_of(const char *line, const char *key, char *out, size_t size)
{
	char pattern[32];
	const char *at, *end;

	snprintf(pattern, sizeof(pattern), "\"%s\": \"", key);
	at = strstr(line, pattern);
	assert_non_null(at);
	at += strlen(pattern);
	end = strchr(at, '"');
	assert_non_null(end);
	assert_true((size_t)(end - at) < size);
	memcpy(out, at, (size_t)(end - at));
	out[end - at] = '\0';
}

/* "status": [[400, 400], ...] or null. */
static void
statuses_of(const char *line, struct vector *v)
{
	const char *at = strstr(line, "\"status\": ");

	assert_non_null(at);
	at += strlen("\"status\": ");
	v->statuses = 0;
	if (*at++ != '[')
		return;
	while (*at == '[' || *at == ',' || *at == ' ') {
		char *end;
		if (*at != '[') {
			at++;
			continue;
		}
		assert_true(v->statuses < 8);
		v->status[v->statuses][0] = (int)strtol(at + 1, &end, 10);
		v->status[v->statuses][1] = (int)strtol(end + 1, &end, 10);
		v->statuses++;
		at = end + 1;
	}
}

static void
load(struct vector *v)
{
	char path[512];
	FILE *f;
	long len;

	snprintf(path, sizeof(path), "%s/http/%s", folder, v->file);
	f = fopen(path, "rb");
	assert_non_null(f);
	assert_int_equal(fseek(f, 0, SEEK_END), 0);
	len = ftell(f);
	rewind(f);
	assert_true(len > 0);
	v->len = (size_t)len;
	v->bytes = malloc(v->len);
	assert_non_null(v->bytes);
	assert_int_equal(fread(v->bytes, 1, v->len, f), v->len);
	fclose(f);
}

bool
http_vectors_open(void)
{
	if (access(ARCHIVE, R_OK) != 0) {
		printf("skip: HTTP vectors: %s is not there\n", ARCHIVE);
		return false;
	}
	if (mkdtemp(folder) == NULL)
		abort();
	run((const char *const[]){ "tar", "xzf", ARCHIVE, "-C", folder, NULL });
	return true;
}

void
http_vectors_close(void)
{
	run((const char *const[]){ "rm", "-rf", folder, NULL });
}

int
http_vectors_each(void (*go)(struct vector *v, void *arg), void *arg)
{
	char path[512], line[4096];
	int total = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/http/index.jsonl", folder);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		struct vector v = { 0 };
		text_of(line, "id", v.id, sizeof(v.id));
		text_of(line, "file", v.file, sizeof(v.file));
		text_of(line, "side", v.side, sizeof(v.side));
		text_of(line, "source", v.source, sizeof(v.source));
		text_of(line, "expect", v.expect, sizeof(v.expect));
		statuses_of(line, &v);
		load(&v);
		go(&v, arg);
		free(v.bytes);
		total++;
	}
	fclose(f);
	return total;
}
