/*
 * Replays files and folders through a fuzz target, for variants that are not
 * libFuzzer's own.  Each input is copied to memory of its exact size, so a
 * sanitizer sees any byte read beyond it.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int runs;

static int
replay_file(const char *path)
{
	struct stat st;
	FILE *f = fopen(path, "rb");

	if (f == NULL || fstat(fileno(f), &st) != 0) {
		perror(path);
		return 1;
	}
	uint8_t *mem = malloc((size_t)st.st_size + 1);
	size_t n = mem == NULL ? 0 : fread(mem, 1, (size_t)st.st_size, f);
	fclose(f);
	uint8_t *exact = realloc(mem, n > 0 ? n : 1);
	LLVMFuzzerTestOneInput(exact, n);
	free(exact);
	runs++;
	return 0;
}

static int
replay(const char *path)
{
	char inner[4096];
	DIR *dir = opendir(path);
	int bad = 0;

	if (dir == NULL)
		return replay_file(path);
	for (struct dirent *e; (e = readdir(dir)) != NULL;) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(inner, sizeof(inner), "%s/%s", path, e->d_name);
		bad |= replay_file(inner);
	}
	closedir(dir);
	return bad;
}

int
main(int argc, char **argv)
{
	int bad = 0;

	for (int i = 1; i < argc; i++)
		bad |= replay(argv[i]);
	if (runs == 0) {
		fputs("no seeds\n", stderr);
		return 1;
	}
	printf("%d inputs\n", runs);
	return bad;
}
