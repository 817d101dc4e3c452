/*
 * schema: as much of JSON Schema as docs/protocol/schema uses (tests).
 *
 * type, const, enum, required, properties, additionalProperties (false
 * only), items, maxLength, minLength.  Any other keyword but the remarks
 * ($schema, $id, title, description) fails, so that none is believed to be
 * checked when it is not.
 */
#ifndef SUPPORT_SCHEMA_H
#define SUPPORT_SCHEMA_H

#include "base/slice.h"

/* NULL when text fits the schema in the file, else what does not, in a
 * static array. */
const char *schema_check(const char *file, struct slice text);

#endif
