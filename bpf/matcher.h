/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The decision code: how the tables of tables.h are read. It is the same on the host and in the kernel;
 * only the way to reach a byte differs. Whoever includes this defines
 *
 *     TABLES                        the type of what names a region
 *     TABLE(type, tables, offset)   the value of that type at a byte offset of the region
 *     HEADER_AT(tables, offset)     the number at a byte offset of the header, if there is a shorter way
 *     WALK_CHAIN                    walk_chain, if it goes from rule to rule in another way
 *
 * In the kernel the offset is masked, so that no table, however broken, leads outside of the arena.
 */
#ifndef BELAY_MATCHER_H
#define BELAY_MATCHER_H

#include "tables.h"

#define CELL_ROW(cell) ((unsigned int)((cell) >> 32))
#define CELL_NEXT(cell) ((unsigned int)(cell))

#define CELL_AT(tables, cells, index) \
	TABLE(unsigned long long, tables, (cells) + ((unsigned int)(index) << 3))

/* One step of any table: the row's own exception for this column, or its default. */
#define STEP(tables, cells, row, column) ({ \
	unsigned int row_ = (row); \
	unsigned long long cell_ = CELL_AT(tables, cells, row_ + (column)); \
	if (CELL_ROW(cell_) != row_) \
		cell_ = CELL_AT(tables, cells, row_); \
	CELL_NEXT(cell_); })

/* The exception for this column, or what the caller says. */
#define EXCEPTION(tables, cells, row, column, otherwise) ({ \
	unsigned int row_ = (row); \
	unsigned long long cell_ = CELL_AT(tables, cells, row_ + (column)); \
	CELL_ROW(cell_) == row_ ? CELL_NEXT(cell_) : (otherwise); })

#ifndef HEADER_AT
#define HEADER_AT(tables, offset) TABLE(unsigned int, tables, offset)
#endif
#define HEADER(tables, member) HEADER_AT(tables, __builtin_offsetof(struct set_header, member))
#define HEADER_OF(tables, member, domain) \
	HEADER_AT(tables, __builtin_offsetof(struct set_header, member) + ((domain) & 15) * 4)

/* Both chains of one (object class, subject class, decide). */
#define ENTRY(tables, index, decide, which) \
	TABLE(unsigned int, tables, HEADER(tables, decisions) + \
	      (index) * (unsigned int)sizeof(struct decision) + (decide) * (unsigned int)sizeof(struct entry) + \
	      (unsigned int)__builtin_offsetof(struct entry, which))

#define PASSES(tables, index) \
	TABLE(unsigned int, tables, HEADER(tables, decisions) + \
	      (index) * (unsigned int)sizeof(struct decision) + (unsigned int)__builtin_offsetof(struct decision, passes))

#define RULE(tables, offset, type, member) \
	TABLE(type, tables, (offset) + (unsigned int)__builtin_offsetof(struct rule, member))

/* A subject has up to two classes of its own (program, script) and, when it execs, two of its parent. */
#define SUBJECT_CLASSES 4

struct judgement {
	unsigned int decisions[SUBJECT_CLASSES]; /* of each subject class, but 0 where it is that of the one before */
	unsigned int fired; /* offset of the rule that denies, 0 = passes */
	unsigned int audit; /* offset of the rule that reports a pass, 0 = none */
	unsigned int waiting[WAITING_LIMIT]; /* offsets of rules, and flags */
	unsigned int waits;
	unsigned int last; /* the decision of the subject class before */
	unsigned int any; /* whether some class has one that is not 0 */
	unsigned int highest; /* rank of a verdict */
	unsigned int failed; /* a chain did not end, or too many rules wait; then fired is its last rule */
};
#define WAITING_AUDIT 0x80000000u /* it would only report */
#define WAITING_FIRED 0x40000000u /* it fires whatever the arguments are, but one that waits may come before it */
#define WAITING_RULE 0x3fffffffu

#ifndef MATCHER_LOOP
#define MATCHER_LOOP
#endif

/* A walk from rule to rule. One that does not settle within CHAIN_LIMIT rules denies, by the last, as failed. */
struct chain {
	TABLES tables;
	unsigned int rule; /* offset of the next one; once settled, of the one that fires, 0 = none */
	unsigned int held; /* enum condition */
	unsigned int posture;
	unsigned int waiting;
	int settled;
	struct judgement *out;
};

/* Looks at one rule of a chain. 1 = it settles the matter. What fires: a rule without conditions that does not
 * allow, or one with a condition that does not hold. The posture (rank 0) fires only if posture is set: another
 * subject class may have had a rule. waiting: 0, or WAITING_AUDIT for what only reports. */
static inline __attribute__((always_inline)) int chain_step(struct chain *c)
{
	TABLES tables = c->tables;
	struct judgement *out = c->out;
	unsigned int rule = c->rule, conditions, failed;

	if (!rule)
		return 1;
	if (!c->posture && !RULE(tables, rule, unsigned int, rank)) {
		c->rule = 0;
		return 1;
	}
	conditions = RULE(tables, rule, unsigned char, conditions);
	failed = conditions & ~c->held;
	if (!conditions) {
		if (RULE(tables, rule, unsigned char, action) != ACTION_ALLOW)
			return 1;
	} else if (failed & ~CONDITION_ARGS) {
		return 1;
	} else if (failed) {
		if (out->waits >= WAITING_LIMIT) {
			out->failed = 1;
			return 1;
		}
		out->waiting[out->waits & (WAITING_LIMIT - 1)] = rule | c->waiting;
		out->waits++;
	}
	c->rule = RULE(tables, rule, unsigned int, next);
	return 0;
}

#ifndef WALK_CHAIN
/* Walks one chain and returns the offset of the rule that fires, 0 = none. */
static inline unsigned int walk_chain(TABLES tables, unsigned int rule, unsigned int held, unsigned int posture,
				      unsigned int waiting, struct judgement *out)
{
	struct chain c = { tables, rule, held, posture, waiting, 0, out };

	for (int i = 0; i < CHAIN_LIMIT && !c.settled; i++)
		c.settled = chain_step(&c);
	if (!c.settled && c.rule)
		out->failed = 1;
	return c.rule;
}
#define WALK_CHAIN walk_chain
#endif

/* Between two rules of equal rank that fire: the strictest action, then the lowest id. */
static inline __attribute__((always_inline)) unsigned int
stricter(TABLES tables, unsigned int a, unsigned int b)
{
	unsigned int x, y;

	if (!a || !b || a == b)
		return a ? a : b;
	x = RULE(tables, a, unsigned char, action);
	y = RULE(tables, b, unsigned char, action);
	if (x != y)
		return x > y ? a : b;
	return RULE(tables, a, unsigned int, id) < RULE(tables, b, unsigned int, id) ? a : b;
}

/* Between two rules that report: the more specific, then the stricter. */
static inline __attribute__((always_inline)) unsigned int
foremost(TABLES tables, unsigned int a, unsigned int b)
{
	unsigned int x, y;

	if (!a || !b)
		return a ? a : b;
	x = RULE(tables, a, unsigned int, rank);
	y = RULE(tables, b, unsigned int, rank);
	if (x != y)
		return x > y ? a : b;
	return stricter(tables, a, b);
}

/* In memory from one time round to the next: every value of a register is another state to the kernel's verifier. */
#define KEPT(member) (*(volatile unsigned int *)&out->member)

/* The verdict on an object class (a row) for these subject classes. The chains of the highest rank among
 * them decide, and all must pass; of what would report, that of the highest rank does. Where rules wait, so
 * does the report. */
static inline __attribute__((always_inline)) void
judge_object(TABLES tables, unsigned int cells, unsigned int object, const unsigned short *classes,
	     int count, unsigned int decide, unsigned int held, struct judgement *out)
{
	unsigned int rank, waits;

	out->decisions[0] = out->fired = out->audit = out->waits = out->failed = 0;
	KEPT(last) = KEPT(any) = KEPT(highest) = 0;
	MATCHER_LOOP
	for (int i = 0; i < SUBJECT_CLASSES; i++) {
		unsigned int decision, verdict;

		if (i >= count)
			break;
		decision = STEP(tables, cells, object, classes[i]);
		out->decisions[i] = 0;
		if (decision == KEPT(last))
			continue; /* also decision 0, which has no rules */
		KEPT(last) = out->decisions[i] = decision;
		KEPT(any) |= decision;
		verdict = ENTRY(tables, decision, decide, verdict);
		rank = verdict ? RULE(tables, verdict, unsigned int, rank) : 0;
		if (rank > KEPT(highest))
			KEPT(highest) = rank;
	}
	if (!KEPT(any))
		return;
	MATCHER_LOOP
	for (int i = 0; i < SUBJECT_CLASSES; i++) {
		unsigned int verdict;

		if (i >= count)
			break;
		if (!out->decisions[i])
			continue;
		verdict = ENTRY(tables, out->decisions[i], decide, verdict);
		if (verdict && RULE(tables, verdict, unsigned int, rank) == KEPT(highest))
			out->fired = stricter(tables, out->fired, WALK_CHAIN(tables, verdict, held, 1, 0, out));
	}
	if (out->fired)
		return;
	MATCHER_LOOP
	for (int i = 0; i < SUBJECT_CLASSES; i++) {
		unsigned int audit;

		if (i >= count)
			break;
		if (!out->decisions[i])
			continue;
		audit = ENTRY(tables, out->decisions[i], decide, audit);
		if (audit)
			out->audit = foremost(tables, out->audit,
					      WALK_CHAIN(tables, audit, held, KEPT(highest) == 0, WAITING_AUDIT, out));
	}
	waits = out->waits;
	if (out->audit && waits && waits < WAITING_LIMIT) {
		/* or clang drops the mask, which the verifier needs to see */
		asm volatile("" : "+r"(waits));
		out->waiting[waits & (WAITING_LIMIT - 1)] = out->audit | WAITING_AUDIT | WAITING_FIRED;
		out->waits = waits + 1;
		out->audit = 0;
	}
}

#endif
