/*
 * store_kit: records and operations for tests of the store (tests).
 */
#ifndef SUPPORT_STORE_KIT_H
#define SUPPORT_STORE_KIT_H

#include "model/op.h"

enum { KIT_ID_SIZE = 25 };

/* "cmd_" and 20 characters that say n. */
void kit_id(char out[KIT_ID_SIZE], uint32_t n);

/* Records with every required field; text borrowed. */
struct user_record kit_user(struct slice id);
struct token_record kit_token(struct slice id, uint8_t hash);
struct agent_record kit_agent(struct slice id);
struct command_record kit_command(struct slice id, struct slice agent_id);

/* An audit note "actor did action to object". */
struct audit_note kit_note(const char *action, struct slice object);

/* A folder for this test alone, and its end. */
void kit_folder(char *out, size_t size);
void kit_folder_remove(const char *path);

#endif
