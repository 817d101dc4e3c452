/*
 * role: names of what users are (floor: model).
 */
#ifndef MODEL_ROLE_H
#define MODEL_ROLE_H

#include "model/record.h"

/* "viewer", "operator", "admin"; "none" for ROLE_NONE. */
struct slice role_name(enum role role);

/* 0 or ERR_INVALID; "none" is no role that one could give. */
int role_find(struct slice name, enum role *out);

#endif
