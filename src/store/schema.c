/* The text of schema.sql, as the assembler finds it: nothing generated. */
#include "store/schema.h"

__asm__(".section .rodata\n"
	".global schema_sql\n"
	".type schema_sql, @object\n"
	"schema_sql:\n"
	".incbin \"src/store/schema.sql\"\n"
	".byte 0\n"
	".size schema_sql, . - schema_sql\n"
	".previous\n");
