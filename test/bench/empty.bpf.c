// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The same hooks as Belay's, with nothing in them: what merely being there costs. */
#include "../../bpf/kernel.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* not used; a map whose name the loader looks for */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} nothing SEC(".maps");

#define EMPTY(hook) SEC("lsm/" #hook) int empty_##hook(void *ctx) { return 0; }

EMPTY(task_alloc) EMPTY(bprm_creds_for_exec) EMPTY(bprm_check_security) EMPTY(mmap_file) EMPTY(mmap_addr) EMPTY(file_mprotect)
EMPTY(file_open) EMPTY(file_receive) EMPTY(path_unlink) EMPTY(path_rmdir) EMPTY(path_mkdir) EMPTY(path_mknod)
EMPTY(path_symlink) EMPTY(path_truncate) EMPTY(path_chmod) EMPTY(path_chown) EMPTY(file_truncate)
EMPTY(inode_setattr) EMPTY(inode_setxattr) EMPTY(inode_removexattr) EMPTY(path_link) EMPTY(path_rename)
EMPTY(socket_create) EMPTY(socket_connect) EMPTY(socket_sendmsg) EMPTY(socket_bind) EMPTY(socket_listen)
EMPTY(socket_accept) EMPTY(inet_conn_request) EMPTY(unix_stream_connect) EMPTY(unix_may_send) EMPTY(capable)

SEC("lsm/bprm_committed_creds") int empty_bprm_committed_creds(void *ctx) { return 0; }
