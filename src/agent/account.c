#include <pwd.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

#include "agent/account.h"

static bool
is_dir(const char *path)
{
	struct stat st;

	return path != NULL && path[0] == '/' && stat(path, &st) == 0 &&
	    S_ISDIR(st.st_mode);
}

static void
fill(struct account *out, const struct passwd *pw)
{
	(void)snprintf(out->name, sizeof(out->name), "%s", pw->pw_name);
	(void)snprintf(out->home, sizeof(out->home), "%s",
	    is_dir(pw->pw_dir) ? pw->pw_dir : "/");
	(void)snprintf(out->shell, sizeof(out->shell), "%s",
	    pw->pw_shell[0] != '\0' ? pw->pw_shell : "/bin/sh");
}

int
account_find(struct slice name, struct account *out)
{
	char text[ACCOUNT_NAME], room[8192];
	struct account a = { 0 };
	struct passwd pw, *found = NULL;

	if (name.len == 0) {
		(void)snprintf(a.name, sizeof(a.name), "%u", getuid());
		(void)snprintf(a.home, sizeof(a.home), "/");
		(void)snprintf(a.shell, sizeof(a.shell), "/bin/sh");
		if (getpwuid_r(getuid(), &pw, room, sizeof(room), &found) ==
			0 &&
		    found != NULL)
			fill(&a, found);
		*out = a;
		return 0;
	}
	if (slice_cstr(name, text, sizeof(text)) != 0 ||
	    getpwnam_r(text, &pw, room, sizeof(room), &found) != 0 ||
	    found == NULL)
		return ERR_NOT_FOUND;
	fill(&a, found);
	a.become = found->pw_uid != getuid();
	*out = a;
	return 0;
}
