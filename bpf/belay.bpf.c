// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Belay in the kernel: one program per hook. Each picks the object out of the hook's arguments and asks
 * one question of decide.h; what the answer is, the tables say (tables.h). Who asks is told by task
 * storage (identity.h). A hook that another program has already denied does not reach us.
 */
#include "state.h"
#include "name.h"
#include "emit.h"
#include "decide.h"
#include "drift.h"
#include "identity.h"
#include "process.h"
#include "protect.h"
#include "privilege.h"
#include "file.h"
#include "network.h"
#include "lifecycle.h"
#include "visible.h"
#include "carry.h"
#include "dns.h"
#include "calls.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Not used as values; named so that their layouts are in the object's BTF, where the agent reads them. */
struct set_header *abi_set_header;
struct rule *abi_rule;
struct decision *abi_decision;
struct event *abi_event;
struct settings *abi_settings;
struct binding *abi_binding;
struct subject *abi_subject;
struct receiver *abi_receiver;
enum schema abi_schema;
enum carried abi_carried;
enum domain abi_domain;
enum call abi_call;
enum decide abi_decide;
enum column abi_column;
enum escape abi_escape;
enum socket_kind abi_socket_kind;
enum action abi_action;
enum condition abi_condition;
enum preset abi_preset;
enum operation abi_operation;
enum ring abi_ring;
enum verdict abi_verdict;
enum event_flag abi_event_flag;
enum visible abi_visible;
struct child *abi_child;
struct ancestor *abi_ancestor;
struct credentials *abi_credentials;
struct credentials_change *abi_credentials_change;
enum failure abi_failure;
enum binding_flag abi_binding_flag;
enum built_in_rule abi_built_in_rule;
