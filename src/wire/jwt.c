#include "base/err.h"

#include "wire/jws.h"
#include "wire/jwt.h"

/* NumericDate (RFC 7519 2): seconds, maybe with a fraction. */
static void
read_time(struct js_fields *f, const char *name, bool needed, wall_msec *out)
{
	enum { YEAR_9999 = 253402300799 / 3600 };
	double s = 0;

	if (needed)
		js_need_double(f, name, &s);
	else
		js_opt_double(f, name, 0, &s);
	if (f->err != 0)
		return;
	if (s < 0)
		s = 0;
	if (s > (double)YEAR_9999 * 3600)
		s = (double)YEAR_9999 * 3600;
	*out = (wall_msec)(s * 1000);
}

static struct slice
either(struct slice a, struct slice b)
{
	return a.len > 0 ? a : b;
}

/* Issuers write scopes as one string; some, and ours never, as a list. */
int
jwt_read(struct jwt *t, struct slice payload, struct arena *a)
{
	const struct js_limits limits = { JWS_TEXT, 16 };
	struct slice sub, user, name, email;
	struct js_fields f;

	*t = (struct jwt){ 0 };
	int err = js_parse(&t->doc, payload, &limits, a);
	if (err != 0)
		return err == ERR_NOMEM ? err : ERR_INVALID;
	if (t->doc.repeated.ptr != NULL)
		return ERR_DUPLICATE;
	js_fields_init(&f, js_root(&t->doc));
	js_opt_string(&f, "sub", &sub);
	js_opt_string(&f, "userId", &user);
	js_opt_string(&f, "username", &name);
	js_opt_string(&f, "email", &email);
	js_opt_string(&f, "role", &t->role);
	js_opt_string(&f, "scope", &t->scope);
	js_opt_string(&f, "iss", &t->issuer);
	js_opt_string(&f, "sid", &t->session);
	read_time(&f, "exp", true, &t->expires);
	read_time(&f, "nbf", false, &t->not_before);
	read_time(&f, "iat", false, &t->issued);
	if (f.err != 0)
		return f.err == ERR_MISSING ? ERR_MISSING : ERR_INVALID;
	t->subject = either(sub, user);
	t->name = either(name, email);
	return t->subject.len == 0 ? ERR_MISSING : 0;
}

static bool
for_audience(const struct jwt *t, struct slice want)
{
	struct js_value aud = js_get(js_root(&t->doc), "aud"), one;
	struct slice s;

	if (js_string(aud, &s) == 0)
		return slice_eq(s, want);
	for (struct js_walk w = js_walk(aud); js_next(&w, NULL, &one);) {
		if (js_string(one, &s) == 0 && slice_eq(s, want))
			return true;
	}
	return false;
}

int
jwt_check(const struct jwt *t, const struct jwt_rules *r, wall_msec now)
{
	if (now >= t->expires + JWT_LEEWAY)
		return ERR_EXPIRED;
	if (now + JWT_LEEWAY < t->not_before || now + JWT_LEEWAY < t->issued)
		return ERR_AGAIN;
	if (r->issuer.len > 0 && !slice_eq(t->issuer, r->issuer))
		return ERR_DENIED;
	if (r->audience.len > 0 && !for_audience(t, r->audience))
		return ERR_DENIED;
	return 0;
}
