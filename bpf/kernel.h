/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The few kernel types that Belay reads, with the few members it reads of each. CO-RE finds the real
 * offsets on the running kernel, so this is the same on every one and no vmlinux.h is needed to build.
 * Differences between kernels are settled here and nowhere else.
 */
#ifndef BELAY_KERNEL_H
#define BELAY_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u16 __le16;
typedef __u32 __wsum;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

/* Only the members of the map type that libbpf's macros name. */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_SK_STORAGE = 24,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_INODE_STORAGE = 28,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};
enum { BPF_ANY = 0, BPF_NOEXIST = 1 };
enum { BPF_F_NO_PREALLOC = 1, BPF_F_MMAPABLE = 1024 };
enum { BPF_LOCAL_STORAGE_GET_F_CREATE = 1 };
enum { BPF_DROP = 0, BPF_PASS = 1 };
enum { BPF_RB_AVAIL_DATA = 0, BPF_RB_CONS_POS = 2 }; /* what bpf_ringbuf_query gives */

/* read whole, so that its union does not matter */
struct in6_addr { u8 u6_addr8[16]; };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct { u32 val; } kuid_t;
typedef struct { u32 val; } kgid_t;

struct list_head { struct list_head *next, *prev; };
struct hlist_bl_node { struct hlist_bl_node *next, **pprev; };

struct file_system_type { const char *name; };
struct super_block { u32 s_dev; unsigned long s_flags; unsigned long s_magic; struct file_system_type *s_type; };
struct hlist_node { struct hlist_node *next; };
struct hlist_head { struct hlist_node *first; };
struct inode {
	unsigned short i_mode;
	u32 i_rdev;
	unsigned long i_ino;
	struct hlist_head i_dentry;
	kuid_t i_uid;
	struct super_block *i_sb;
};
struct qstr { u32 hash; u32 len; const unsigned char *name; };
struct dentry {
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	struct super_block *d_sb;
	union { struct hlist_node d_alias; } d_u; /* until 7.x */
};
struct vfsmount { struct dentry *mnt_root; struct super_block *mnt_sb; };
struct ns_common { unsigned int inum; };
struct pid_namespace { struct ns_common ns; };
struct net { struct ns_common ns; };
struct user_namespace { struct ns_common ns; int level; };
struct pt_regs { unsigned long bx, dx, orig_ax; };
struct ns_common___new { u64 ns_id; };
struct mount;
struct mnt_namespace { struct ns_common ns; struct mount *root; };
struct mnt_namespace___seq { u64 seq; };
struct mnt_namespace___anon { bool is_anon; };
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	struct list_head mnt_mounts;
	struct list_head mnt_child;
	struct mnt_namespace *mnt_ns;
};
struct path { struct vfsmount *mnt; struct dentry *dentry; };
struct file {
	unsigned int f_mode;
	struct inode *f_inode;
	unsigned int f_flags;
	struct path f_path;
};
/* Around a file with FMODE_LAYER, from 6.8 on; the path is that which the first was opened by. */
struct backing_file { struct file file; struct path user_path; };
struct anon_vma;
struct vm_area_struct { struct file *vm_file; unsigned long vm_flags; struct anon_vma *anon_vma; };
struct mm_struct { unsigned long brk, arg_start, arg_end; struct file *exe_file; };
typedef struct { u64 val; } kernel_cap_t; /* as two words before 6.3, which are the same eight bytes */
struct cred {
	kuid_t uid, suid, euid, fsuid;
	kgid_t gid, sgid, egid;
	kernel_cap_t cap_permitted, cap_effective;
	struct user_namespace *user_ns;
};
struct upid { int nr; struct pid_namespace *ns; };
struct pid { unsigned int level; struct hlist_head tasks[4]; struct upid numbers[1]; };
struct tty_struct { char name[64]; };
typedef struct { int counter; } atomic_t;
struct signal_struct {
	atomic_t live;
	int group_exit_code;
	unsigned int flags;
	struct pid *pids[4];
	struct tty_struct *tty;
};
struct fs_struct { struct path root, pwd; };
struct nsproxy { struct mnt_namespace *mnt_ns; struct net *net_ns; };
struct kernfs_node { const char *name; u64 id; };
struct cgroup;
struct cgroup_subsys_state { struct cgroup *cgroup; struct cgroup_subsys_state *parent; };
struct cgroup_root { int hierarchy_id; };
struct cgroup { struct cgroup_subsys_state self; struct kernfs_node *kn; struct cgroup_root *root; int nr_descendants; };
struct css_set { struct cgroup *dfl_cgrp; };
struct bpf_local_storage;
struct thread_info { u32 status; };
struct task_struct {
	struct thread_info thread_info;
	unsigned int flags;
	unsigned int personality;
	int pid;
	int tgid;
	int exit_code;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct mm_struct *mm;
	const struct cred *cred;
	const struct cred *real_cred;
	struct signal_struct *signal;
	struct fs_struct *fs;
	struct nsproxy *nsproxy;
	kuid_t loginuid; /* where the kernel audits */
	struct pid *thread_pid;
	struct hlist_node pid_links[4]; /* by PIDTYPE_*, of which 0 is PIDTYPE_PID */
	struct css_set *cgroups;
	struct bpf_local_storage *bpf_storage;
	unsigned in_execve : 1;
	u64 start_boottime;
	char comm[16];
};
struct linux_binprm {
	unsigned long p;
	struct file *file;
	struct cred *cred;
	int argc;
};
struct iattr { unsigned int ia_valid; };
struct ovl_inode { struct inode vfs_inode; struct dentry *__upperdentry; };
struct proc_inode { struct pid *pid; struct inode vfs_inode; };

struct sock_common {
	int skc_bound_dev_if;
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};
struct sock_cgroup_data { struct cgroup *cgroup; };
struct sock { struct sock_common __sk_common; u16 sk_type; u16 sk_protocol; struct sock_cgroup_data sk_cgrp_data; };
struct ipv6_pinfo { struct in6_addr saddr; };
struct inet_sock {
	struct ipv6_pinfo *pinet6;
	unsigned long inet_flags; /* 6.6 */
	__be32 inet_saddr;
	int uc_index;
};
struct inet_sock___bits { unsigned char hdrincl : 1; }; /* until then */
struct socket { short type; struct sock *sk; };
struct unix_sock { struct sock sk; struct path path; };
struct request_sock { struct sock_common __req_common; };
struct sk_buff { unsigned char *head; unsigned int end; u16 network_header; u16 transport_header; u16 protocol; };
struct skb_shared_info { u8 flags; };
struct sockaddr { unsigned short sa_family; };
struct msghdr {
	void *msg_name;
	int msg_namelen;
	void *msg_control;
	unsigned long msg_controllen;
	unsigned int msg_flags;
};
struct cmsghdr { unsigned long cmsg_len; int cmsg_level, cmsg_type; };
struct sctp_ep_common { struct sock *sk; };
struct sctp_association { struct sctp_ep_common base; };

struct bpf_map;
struct bpf_prog_aux { u32 used_map_cnt; struct bpf_map **used_maps; };
struct bpf_prog { struct bpf_prog_aux *aux; };
struct bpf_iter_meta { u64 seq_num; };
struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; };

/* Numbered anew by 6.x and 7.x kernels; these names stay. */
enum kernel_read_file_id { READING_MODULE = 2, READING_KEXEC_IMAGE = 3, READING_KEXEC_INITRAMFS = 4 };
enum kernel_read_file_id___compressed { READING_MODULE_COMPRESSED = 3 };
enum kernel_load_data_id { LOADING_MODULE = 2, LOADING_KEXEC_IMAGE = 3, LOADING_KEXEC_INITRAMFS = 4 };

#pragma clang attribute pop

/* uapi; never relocated */
struct sockaddr_in { u16 sin_family; __be16 sin_port; u32 sin_addr; };
struct sockaddr_in6 { u16 sin6_family; __be16 sin6_port; u32 sin6_flowinfo; u8 sin6_addr[16]; };

struct bpf_sock { u32 bound_dev_if, family, type, protocol; };
struct __sk_buff {
	u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority;
	u32 ingress_ifindex, ifindex, tc_index, cb[5], hash, tc_classid, data, data_end, napi_id;
	u32 family, remote_ip4, local_ip4, remote_ip6[4], local_ip6[4], remote_port, local_port;
	u32 data_meta;
	u64 flow_keys, tstamp;
	u32 wire_len, gso_segs;
	struct bpf_sock *sk;
	u32 gso_size;
} __attribute__((aligned(8)));
struct iphdr {
	u8 version_ihl, tos;
	__be16 tot_len, id, frag_off;
	u8 ttl, protocol;
	u16 check;
	u8 saddr[4], daddr[4];
};
struct ipv6hdr {
	u8 version, flow[3];
	__be16 payload_len;
	u8 nexthdr, hop_limit, saddr[16], daddr[16];
};
struct udphdr { __be16 source, dest, len, check; };
struct tcphdr { __be16 source, dest; __be32 seq, ack_seq; u8 doff, flags; __be16 window, check, urg_ptr; };

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define IP_FRAGMENT 0x3fff /* IP_MF | IP_OFFSET */
#define IP6_FRAGMENT 0xfff9
#define TCP_FLAG_SYN 2
#define TCP_FLAG_URG 0x20

#define BPF_LINK_UPDATE 29
#define BPF_LINK_GET_FD_BY_ID 30
#define BPF_LINK_DETACH 34

#define EPERM 1
#define ENOMEM 12
#define EACCES 13
#define EEXIST 17

#define AF_UNSPEC 0
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define AF_NETLINK 16
#define AF_PACKET 17
#define AF_RXRPC 33
#define AF_SMC 43
#define AF_XDP 44
#define INET_FLAGS_HDRINCL 12 /* include/net/inet_sock.h */
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define SOCK_RAW 3
#define SOCK_RDM 4
#define SOCK_SEQPACKET 5
#define SOCK_DCCP 6
#define SOCK_PACKET 10
#define IPPROTO_IP 0
#define IPPROTO_HOPOPTS 0
#define IPPROTO_ICMP 1
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_DCCP 33
#define IPPROTO_IPV6 41
#define IPPROTO_ROUTING 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_AH 51
#define IPPROTO_ICMPV6 58
#define IPPROTO_DSTOPTS 60
#define IPPROTO_L2TP 115
#define IPPROTO_SCTP 132
#define IPPROTO_UDPLITE 136
#define IPPROTO_SMC 256
#define IPPROTO_MPTCP 262
#define TCP_CLOSE 7 /* enum, include/net/tcp_states.h */
#define MSG_FASTOPEN 0x20000000
#define SOL_RAW 255
#define IP_HDRINCL 3
#define IP_OPTIONS 4
#define IP_RETOPTS 7
#define IPV6_2292RTHDR 5
#define IPV6_2292PKTOPTIONS 6
#define IPV6_FLOWLABEL_MGR 32
#define IPV6_HDRINCL 36
#define IPV6_RTHDR 57

#define FS_IOC_SETFLAGS 0x40086602
#define FS_IOC32_SETFLAGS 0x40046602
#define FS_IOC_FSSETXATTR 0x401c5820
#define FS_IOC_SETVERSION 0x40087602
#define FS_IOC_ENABLE_VERITY 0x40806685
#define BTRFS_IOCTL_MAGIC 0x94
#define BTRFS_SNAP_CREATE 1
#define BTRFS_SUBVOL_CREATE 14
#define BTRFS_SNAP_DESTROY 15
#define BTRFS_TREE_SEARCH 17 /* also its second version */
#define BTRFS_SNAP_CREATE_V2 23
#define BTRFS_SUBVOL_CREATE_V2 24
#define BTRFS_SEND 38
#define BTRFS_SNAP_DESTROY_V2 63

#define S_IFMT 0170000
#define S_IFREG 0100000
#define S_IFCHR 0020000
#define S_IFBLK 0060000
#define S_IFDIR 0040000
#define S_ISREG(m) (((m) & S_IFMT) == S_IFREG)
#define S_ISDIR(m) (((m) & S_IFMT) == S_IFDIR)
#define SB_KERNMOUNT (1 << 22) /* include/linux/fs.h: mounted by the kernel itself (memfd, pipes) */
#define PROC_SUPER_MAGIC 0x9fa0
#define SYSFS_MAGIC 0x62656572
#define CGROUP_SUPER_MAGIC 0x27e0eb /* version 1 */
#define BINFMTFS_MAGIC 0x42494e4d
#define DEBUGFS_MAGIC 0x64626720
#define TRACEFS_MAGIC 0x74726163
#define SECURITYFS_MAGIC 0x73636673
#define EFIVARFS_MAGIC 0xde5e81e4
#define BPF_FS_MAGIC 0xcafe4a11
#define ANON_INODE_FS_MAGIC 0x09041934
#define CGROUP2_SUPER_MAGIC 0x63677270
#define OVERLAYFS_SUPER_MAGIC 0x794c7630
#define MEM_MAJOR 1
#define SCSI_GENERIC_MAJOR 21
#define PTRACE_MODE_ATTACH 2
#define PROT_READ 1
#define PROT_WRITE 2
#define PROT_EXEC 4
#define READ_IMPLIES_EXEC 0x0400000
#define PAGE_BYTES 4096 /* on x86-64 */
#define O_TRUNC 01000
#define VM_EXEC 4
#define VM_SHARED 8
#define MAP_TYPE 0x0f
#define MAP_PRIVATE 2
#define FMODE_WRITE 2
#define FMODE_EXEC_FLAG 040 /* __FMODE_EXEC in f_flags: opened by exec */
/* FMODE_NOACCOUNT: what overlayfs sets on the second open of a file, that of the layer's own inode.
 * The first, through the overlay, has been judged by its name in the container. */
#define FMODE_LAYER (1 << 29)
#define TS_COMPAT 2 /* x86: a system call of the 32-bit table is under way */
#define X32_SYSCALL_BIT 0x40000000
#define PF_KTHREAD 0x00200000
#define ATTR_TIMES 0x1b0 /* ATTR_ATIME | ATTR_MTIME | ATTR_ATIME_SET | ATTR_MTIME_SET */
#define PIDTYPE_TGID 1
#define SIGNAL_GROUP_EXIT 4
#define CAP_OPT_NOAUDIT 2
#define CAP_BPF 39

#endif
