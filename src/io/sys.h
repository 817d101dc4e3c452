/*
 * sys: from errno to the list of failures (floor: io).
 */
#ifndef IO_SYS_H
#define IO_SYS_H

/* The ERR_* that says the same as an errno; ERR_IO for the rest. */
int sys_err(int number);

#endif
