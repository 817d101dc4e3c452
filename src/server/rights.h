/*
 * rights: every route and message with who may use it, from the tables that
 * decide (floor: server).
 */
#ifndef SERVER_RIGHTS_H
#define SERVER_RIGHTS_H

/* A line of JSON for each route to stdout; an exit status. */
int rights_print(void);
/* The same for each message of the console dialect that clients may say. */
int rights_print_messages(void);

#endif
