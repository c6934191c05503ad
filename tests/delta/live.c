/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs a program of programs.py as a kernel would: applies its alternatives and jump labels, answers its traps
 * and faults from its tables, and in the middle of the run leads each replaced function to its new version.
 * With REFERENCE the program has both versions in itself and is told which one is in force.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

typedef uint32_t u32;
typedef u32 (*operation)(u32, u32);
struct static_key { int enabled; void *entries; } key0, key1;
int patched;

#define TABLE(name) extern char __start_##name[] __attribute__((weak)), __stop_##name[] __attribute__((weak))
#define EACH(name, type, one) for (type *one = (type *)__start_##name; one < (type *)__stop_##name; one++)
#define AT(field) ((char *)&(field) + (field))

struct bug { int32_t address, file; uint16_t line, flags; };
struct fault { int32_t address, fixup, kind; };
struct jump { int32_t code, target; int64_t key; };
struct alternative { int32_t old, new; uint16_t feature; uint8_t length, new_length; } __attribute__((packed));
TABLE(__bug_table);
TABLE(__ex_table);
TABLE(__jump_table);
TABLE(altinstructions);

static operation queue[4];
static int queued;

static u32 log_value(const char *what, u32 value)
{
	printf("%s %u\n", what, value);
	return value;
}

u32 hash(const char *text)
{
	u32 sum = 5381;

	while (*text)
		sum = sum * 33 + (unsigned char)*text++;
	return sum;
}

u32 step0(u32 a, u32 b) { return a * 5 + b; }
u32 step1(u32 a, u32 b) { return log_value("step", a ^ b); }
void warn_hit(void) { log_value("warn", 0); }
u32 try_load(const u32 *from) { return from == (u32 *)16 ? 0 : *from; }
/* Each copy of a function has its own "once": how often it prints means nothing. */
void once_hit(u32 what) { (void)what; }

void later(operation what)
{
	if (queued < 4)
		queue[queued++] = what;
}

int _printk(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	return 0;
}

static void fail(const char *what)
{
	printf("FAIL: %s\n", what);
	fflush(stdout);
	_exit(9);
}

#ifndef REFERENCE
static void write_code(void *at, const void *code, size_t length)
{
	uintptr_t page = (uintptr_t)at & ~0xffful;

	if (mprotect((void *)page, 0x2000, PROT_READ | PROT_WRITE | PROT_EXEC))
		fail("mprotect");
	memcpy(at, code, length);
	__builtin___clear_cache(at, (char *)at + length);
}

#if defined(__x86_64__)
#define PC(context) (context)->uc_mcontext.gregs[REG_RIP]
#define TRAP_LENGTH 2
asm(".globl __fentry__\n__fentry__: ret");
static const unsigned char nothing[] = { 0x0f, 0x1f, 0x44, 0, 0 };

static void write_jump(char *at, const char *to)
{
	unsigned char code[5] = { 0xe9 };
	int32_t distance = to - at - 5;

	memcpy(code + 1, &distance, 4);
	write_code(at, code, 5);
}
#elif defined(__aarch64__)
#define PC(context) (context)->uc_mcontext.pc
#define TRAP_LENGTH 4
static const unsigned char nothing[] = { 0x1f, 0x20, 0x03, 0xd5 };

static void write_jump(char *at, const char *to)
{
	u32 code = 0x14000000 | (((to - at) >> 2) & 0x3ffffff);

	write_code(at, &code, 4);
}
#elif defined(__s390x__)
#define PC(context) (context)->uc_mcontext.psw.addr
#define TRAP_LENGTH 4
static const unsigned char nothing[] = { 0xc0, 0x04, 0, 0, 0, 0 };

static void write_jump(char *at, const char *to)
{
	unsigned char code[6] = { 0xc0, 0xf4 };
	int32_t distance = (to - at) / 2;

	memcpy(code + 2, &distance, 4);
	write_code(at, code, 6);
}
#endif

static void on_trap(int number, siginfo_t *info, void *data)
{
	ucontext_t *context = data;
	char *at = (char *)PC(context);

	EACH(__bug_table, struct bug, bug)
		if (AT(bug->address) == at && bug->flags == 1 && !strcmp(AT(bug->file), "unit.c")) {
			warn_hit();
			PC(context) += TRAP_LENGTH;
			return;
		}
	fail("a trap that no table has");
}

static void on_fault(int number, siginfo_t *info, void *data)
{
	ucontext_t *context = data;
	char *at = (char *)PC(context);

	EACH(__ex_table, struct fault, fault)
		if (AT(fault->address) == at && fault->kind == 3) {
			PC(context) = (uintptr_t)AT(fault->fixup);
			return;
		}
	fail("a fault that no table has");
}

static void set_branches(void)
{
	EACH(__jump_table, struct jump, jump) {
		struct static_key *key = (void *)((char *)&jump->key + jump->key);

		if (key != &key0 && key != &key1)
			fail("a jump entry without key");
		if (key->enabled)
			write_jump(AT(jump->code), AT(jump->target));
		else
			write_code(AT(jump->code), nothing, sizeof(nothing));
	}
}

static void set_alternatives(void)
{
	EACH(altinstructions, struct alternative, one) {
		char code[64];

		if (one->feature != 1)
			continue;
		memset(code, 0x90, sizeof(code));
		memcpy(code, AT(one->new), one->new_length);
		write_code(AT(one->old), code, one->length);
	}
}

static void start(void)
{
	struct sigaction trap = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO };
	struct sigaction fault = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };

	sigaction(SIGILL, &trap, NULL);
	sigaction(SIGTRAP, &trap, NULL);
	sigaction(SIGSEGV, &fault, NULL);
	set_alternatives();
}

extern char *replacements[][2];

static void patch(void)
{
	for (int i = 0; replacements[i][0]; i++)
		write_jump(replacements[i][0], replacements[i][1]);
}
#else
static void set_branches(void) { }
static void start(void) { }
static void patch(void) { patched = 1; }
#endif

extern operation entries[];

static void run(int rounds)
{
	for (u32 i = 0; i < (u32)rounds; i++) {
		for (int e = 0; entries[e]; e++)
			log_value("entry", entries[e](i * 77 + e, i));
		for (int q = 0; q < queued; q++)
			log_value("later", queue[q](i, q));
		queued = 0;
	}
}

int main(int count, char **arguments)
{
	start();
	key1.enabled = 1;
	set_branches();
	run(6);
	queue[0] = entries[0];
	patch();
	run(10);
	key0.enabled = 1;
	key1.enabled = 0;
	set_branches();
	run(10);
	return 0;
}
