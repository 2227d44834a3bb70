/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * System calls by their numbers, reported as they are entered; attached only while tables in force ask for it. Those
 * about a path are reported where the path is known (audit_call in decide.h).
 */
#ifndef BELAY_CALLS_H
#define BELAY_CALLS_H

#include "decide.h"

SEC("tp_btf/sys_enter")
int BPF_PROG(syscall_entered, void *regs, long id)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct caller c = {};
	struct scratch *s;
	u32 number = id & ~X32_SYSCALL_BIT, cells, row;
	u8 call[3] = { CALL_X86_64, number >> 8, number };

	if (id < 0 || !find_caller(&c) || !is_active(&c, DOMAIN_CALL, DECIDE_OTHER))
		return 0;
	if (bpf_core_field_exists(task->thread_info.status) && BPF_CORE_READ(task, thread_info.status) & TS_COMPAT)
		call[0] = CALL_I386;
	/* what no rule names is settled here, three steps of the automaton; unrolled, since Linux 6.1 refuses a loop that
	 * clang enters in its middle */
	cells = HEADER(c.tables, cells);
	row = HEADER_OF(c.tables, start, DOMAIN_CALL);
#pragma unroll
	for (int i = 0; i < 3; i++)
		row = STEP(c.tables, cells, row, COLUMN_BYTE + call[i]);
	if (!row || !EXCEPTION(c.tables, cells, row, COLUMN_END, 0))
		return 0;
	/* fails towards not reporting, counted */
	s = take_scratch();
	if (!s)
		return 0;
	set_question(s, &c, DOMAIN_CALL, DECIDE_OTHER, OPERATION_SYSCALL);
	set_classes(s, c.subject, false);
	s->flags = WALK_DONE;
	put_bytes(s, call, sizeof(call));
	judge(s, c.subject, c.workload);
	give_scratch(s);
	return 0;
}

#endif
