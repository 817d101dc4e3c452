/*
 * rights: every route with who may use it, from the tables that decide
 * (floor: server).
 */
#ifndef SERVER_RIGHTS_H
#define SERVER_RIGHTS_H

/* A line of JSON for each route to stdout; an exit status. */
int rights_print(void);

#endif
