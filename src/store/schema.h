/*
 * schema: the text of schema.sql and the way through it (floor: store).
 */
#ifndef STORE_SCHEMA_H
#define STORE_SCHEMA_H

#include "base/slice.h"

/* NUL-terminated. */
extern const char schema_sql[];

/* The highest migration there is: what user_version becomes. */
int schema_version(void);

/* The statements of one migration; absent when there is none such. */
struct slice schema_migration(int number);

#endif
