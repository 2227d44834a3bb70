/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Look-ups of domain names, judged as they leave: packets to port 53, by whichever system call they were made, when
 * their bytes are the kernel's and can no longer change. UDP carries a message in a datagram; over TCP, messages are cut
 * into segments anywhere, so what was read is kept with the socket. A packet that is denied is dropped, and its sender told
 * EPERM (UDP); a TCP connection waits for ever for what was not sent.
 */
#ifndef BELAY_DNS_H
#define BELAY_DNS_H

#include "network.h"

#define DNS_HEADER 12
#define CHUNK 256
/* Of a packet's messages and of chunks of them; segments have up to 64 KiB, messages of a question 17 bytes. */
#define MESSAGE_STEPS 8192

/* A letter of the name. The automaton reads names from their end, and without regard to case. */
static __always_inline void spell(struct scratch *s, u8 c)
{
	struct query *q = &s->query;
	u32 length = q->length;

	if (length >= QUERY_NAME - 2) {
		q->phase = QUERY_BROKEN;
		return;
	}
	s->name[NAME_MAX_BYTES - QUERY_NAME + ((QUERY_NAME - 1 - length) & (QUERY_NAME - 1))] = c;
	q->length = length + 1;
}

static long query_step(u32 i, struct scratch **sp)
{
	struct scratch *s = *sp;
	struct query *q = &s->query;
	u32 read = q->read;
	u8 byte;

	if (read >= q->chunk)
		return 1;
	byte = s->event[read & (CHUNK - 1)];
	q->read = read + 1;
	if (q->phase == QUERY_LENGTH) {
		q->left = byte << 8;
		q->phase = QUERY_LENGTH_LOW;
		return 0;
	}
	if (q->phase == QUERY_LENGTH_LOW) {
		q->left |= byte;
		q->header = 0;
		q->questions = 0;
		q->length = 0;
		q->phase = q->left ? QUERY_HEADER : QUERY_LENGTH;
		return 0;
	}
	q->left--;
	if (q->phase == QUERY_HEADER) {
		q->header++;
		if (q->header == 5 || q->header == 6)
			q->questions = q->questions << 8 | byte;
		if (q->header == DNS_HEADER)
			q->phase = q->questions == 1 ? QUERY_LABEL : QUERY_BROKEN;
	} else if (q->phase == QUERY_LABEL) {
		if (!byte) {
			q->phase = QUERY_ASKED;
			return 1;
		}
		/* a pointer has nothing to point to yet */
		if (byte > 63) {
			q->phase = QUERY_BROKEN;
			return 1;
		}
		q->label = byte;
		q->phase = QUERY_BYTES;
		if (q->length)
			spell(s, '.');
	} else {
		q->label--;
		if (!q->label)
			q->phase = QUERY_LABEL;
		/* no rule has a backslash, and a dot inside of a label parts nothing */
		spell(s, byte == '.' ? '\\' : byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte);
	}
	if (!q->left)
		q->phase = QUERY_BROKEN;
	return q->phase == QUERY_BROKEN;
}

/* As report() in emit.h, for who sent. */
static __noinline void report_sender(struct scratch *s, struct sender *who, struct workload *w, u64 rule, u32 verdict)
{
	struct event *e = (void *)s->event;
	u64 now = bpf_ktime_get_boot_ns(), key = fold_key(s, rule, verdict), count;
	u32 at = 0;

	count = tally(s, w, key, now, rule, verdict);
	if (!count)
		return;
	__builtin_memset(e, 0, sizeof(*e));
	if (who->told > sizeof(*e)) {
		bpf_probe_read_kernel(s->event, SENDER_EVENT, who->event);
		at = (who->told - sizeof(*e)) & (EVENT_STRINGS - 1);
	}
	e->time = now;
	e->fold_key = key;
	e->count = count;
	tell_question(s, e, rule, verdict);
	send(s, e, at, verdict == VERDICT_PASS ? RING_MATCHES : RING_DENIALS, w);
}

/* Settles whether the name that was read may be asked for. 1 = denied. */
__noinline int judge_query(struct scratch *s, struct sender *who, struct workload *w)
{
	struct tables t = { tables_arena() };
	struct judgement *j;
	u32 object;

	if (!s || !who || !w || !t.arena)
		return 1;
	t.region = s->region;
	s->off = NAME_MAX_BYTES - (s->query.length & (QUERY_NAME - 1));
	if (s->query.phase == QUERY_BROKEN) {
		count_failure(FAILURE_QUERY);
		/* nothing that is only reported denies */
		if (!(HEADER_OF(t, active, DOMAIN_DNS) & DENIES))
			return 0;
		s->event_flags |= EVENT_UNNAMED;
		report_sender(s, who, w, (u64)ACTION_BLOCK << 32, VERDICT_DENY);
		return 1;
	}
	run_name(s, t.arena, DOMAIN_DNS);
	object = EXCEPTION(t, s->cells, s->row, COLUMN_END, HEADER_OF(t, none, DOMAIN_DNS));
	j = &s->judgement;
	judge_object(t, s->cells, object, s->classes, s->count, DECIDE_OTHER, 0, j);
	if (j->failed)
		count_failure(FAILURE_CHAIN);
	if (j->fired) {
		report_sender(s, who, w, RULE(t, j->fired, u32, id) | (u64)RULE(t, j->fired, u8, action) << 32, VERDICT_DENY);
		return 1;
	}
	if (j->audit)
		report_sender(s, who, w, RULE(t, j->audit, u32, id) | (u64)RULE(t, j->audit, u8, action) << 32, VERDICT_PASS);
	return 0;
}

struct packet {
	struct __sk_buff *skb;
	struct scratch *s;
	struct sender *who;
	struct workload *workload;
	u32 denied;
	u32 done;
};

/* One chunk of a packet, up to the end of a name. */
static long message_step(u32 i, struct packet *p)
{
	struct scratch *s = p->s;
	struct query *q = &s->query;
	u32 at = q->at, size = q->end - at;

	if (at >= q->end) {
		p->done = 1;
		return 1;
	}
	if (q->phase == QUERY_REST) {
		if (size > q->left)
			size = q->left;
		q->at = at + size;
		q->left -= size;
		if (!q->left)
			q->phase = QUERY_LENGTH;
		return 0;
	}
	if (size > CHUNK)
		size = CHUNK;
	size = (size - 1) & (CHUNK - 1);
	if (bpf_skb_load_bytes(p->skb, at, s->event, size + 1)) {
		q->phase = QUERY_BROKEN;
	} else {
		q->read = 0;
		q->chunk = size + 1;
		bpf_loop(CHUNK, query_step, &s, 0);
		q->at = at + q->read;
	}
	if (q->phase == QUERY_ASKED || q->phase == QUERY_BROKEN) {
		p->denied = judge_query(s, p->who, p->workload);
		if (p->denied)
			return 1;
		/* what could not be read, and only reports, is let pass whole */
		if (q->phase == QUERY_BROKEN) {
			p->done = 1;
			return 1;
		}
		q->phase = q->left ? QUERY_REST : QUERY_LENGTH;
	}
	return 0;
}

/* Reads the messages from s->query on. true = denied. */
static __always_inline bool read_messages(struct packet *p)
{
	bpf_loop(MESSAGE_STEPS, message_step, p, 0);
	if (p->denied || p->done)
		return p->denied;
	/* more messages than anybody sends at once */
	p->s->query.phase = QUERY_BROKEN;
	return judge_query(p->s, p->who, p->workload);
}

/* A segment, perhaps sent again: of what was read before, nothing is read twice. */
static __always_inline bool read_segment(struct packet *p, u32 payload, u32 seq, bool syn)
{
	struct stream *t = &p->who->stream;
	struct query *q = &p->s->query;
	u32 end = p->skb->len, skip;
	bool denied;

	if (syn) {
		seq++;
		t->started = 0;
	}
	if (!t->started) {
		/* a connection that is older than the policy is taken up between two messages */
		t->started = 1;
		t->next = seq;
		t->refused = seq;
		__builtin_memset(&t->query, 0, sizeof(t->query));
	}
	if (end <= payload)
		return false;
	skip = t->next - seq;
	if ((s32)skip < 0)
		return true; /* behind what was denied */
	if (skip >= end - payload)
		return false;
	if (t->refused != t->next)
		return true; /* that again */
	*q = t->query;
	bpf_probe_read_kernel(&p->s->name[NAME_MAX_BYTES - QUERY_NAME], QUERY_NAME, t->name);
	q->at = payload + skip;
	q->end = end;
	denied = read_messages(p);
	if (denied) {
		t->refused = t->next - 1;
		return true;
	}
	t->next = t->refused = seq + (end - payload);
	if (q->phase == QUERY_BROKEN)
		__builtin_memset(q, 0, sizeof(*q));
	t->query = *q;
	bpf_probe_read_kernel(t->name, QUERY_NAME, &p->s->name[NAME_MAX_BYTES - QUERY_NAME]);
	return false;
}

/* Where in a packet its payload is, and whose port it goes to. */
struct headers {
	u32 transport;
	u32 payload;
	u32 seq;
	u8 protocol;
	u8 family;
	u8 syn;
	u8 broken; /* what it carries cannot be told: made by hand, by a raw socket */
	u8 address[16];
};

/* Most packets are settled by their first bytes. */
static __always_inline bool goes_elsewhere(struct __sk_buff *skb)
{
	u8 *p = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (p + sizeof(struct iphdr) + 4 > end || p[0] != 0x45 || *(u16 *)(p + 6) & bpf_htons(IP_FRAGMENT))
			return false;
		if (p[9] != IPPROTO_UDP && p[9] != IPPROTO_TCP)
			return true;
		return *(u16 *)(p + 22) != bpf_htons(DNS_PORT);
	}
	if (skb->protocol != bpf_htons(ETH_P_IPV6) || p + sizeof(struct ipv6hdr) + 4 > end)
		return false;
	return (p[6] == IPPROTO_UDP || p[6] == IPPROTO_TCP) && *(u16 *)(p + 42) != bpf_htons(DNS_PORT);
}

static __always_inline bool read_ipv4(struct __sk_buff *skb, struct headers *h)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
		return false;
	h->family = AF_INET;
	h->protocol = ip.protocol;
	h->transport = (ip.version_ihl & 15) * 4;
	h->broken = (ip.frag_off & bpf_htons(IP_FRAGMENT)) != 0;
	__builtin_memcpy(h->address, ip.daddr, 4);
	return true;
}

#define EXTENSION_HEADERS 8

struct extension { struct __sk_buff *skb; struct headers *h; u32 done; u32 failed; };

static long extension_step(u32 i, struct extension *x)
{
	struct headers *h = x->h;
	u8 protocol = h->protocol, next[4];

	if (protocol != IPPROTO_HOPOPTS && protocol != IPPROTO_ROUTING && protocol != IPPROTO_DSTOPTS &&
	    protocol != IPPROTO_FRAGMENT && protocol != IPPROTO_AH) {
		x->done = 1;
		return 1;
	}
	if (bpf_skb_load_bytes(x->skb, h->transport, next, sizeof(next))) {
		x->failed = 1;
		return 1;
	}
	h->protocol = next[0];
	if (protocol == IPPROTO_FRAGMENT) {
		h->broken = next[2] || next[3] & 0xf9;
		h->transport += 8;
		x->done = h->broken; /* what follows is a piece of something */
		return h->broken;
	}
	h->transport += protocol == IPPROTO_AH ? (next[1] + 2) * 4 : (next[1] + 1) * 8;
	return 0;
}

static __always_inline bool read_ipv6(struct __sk_buff *skb, struct headers *h)
{
	struct extension x = { skb, h };
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
		return false;
	h->family = AF_INET6;
	h->protocol = ip.nexthdr;
	h->transport = sizeof(ip);
	__builtin_memcpy(h->address, ip.daddr, 16);
	bpf_loop(EXTENSION_HEADERS, extension_step, &x, 0);
	if (!x.done)
		h->broken = 1;
	return !x.failed;
}

/* Memory of a process's, or a file's, is sent as it is: it may change between this look at it and the next. Of TCP's packets that is
 * noted; UDP copies to where the headers are, but for messages in several pieces, which nobody asks in. */
static __always_inline bool may_change(struct __sk_buff *skb, u8 protocol)
{
	struct sk_buff *packet = (void *)skb;
	struct skb_shared_info *shared;

	if (protocol == IPPROTO_UDP)
		return (u64)skb->data_end - (u64)skb->data < skb->len;
	shared = (void *)BPF_CORE_READ(packet, head) + BPF_CORE_READ(packet, end);
	return BPF_CORE_READ(shared, flags) != 0;
}

/* Whether a packet may carry queries. Global, so that its many ways are verified apart from what follows. */
__noinline int may_carry(struct __sk_buff *skb, struct headers *h)
{
	struct udphdr udp;
	struct tcphdr tcp;

	if (!h)
		return false;
	if (skb->protocol == bpf_htons(ETH_P_IP) ? !read_ipv4(skb, h) : !read_ipv6(skb, h))
		return false;
	if (h->broken)
		return h->protocol != IPPROTO_ICMP && h->protocol != IPPROTO_ICMPV6;
	if (h->protocol == IPPROTO_UDP) {
		if (bpf_skb_load_bytes(skb, h->transport, &udp, sizeof(udp)) || udp.dest != bpf_htons(DNS_PORT))
			return false;
		h->payload = h->transport + sizeof(udp);
		/* many datagrams in one, for the device to cut: nobody asks so */
		h->broken = skb->gso_size != 0 || may_change(skb, IPPROTO_UDP);
		return true;
	}
	if (h->protocol != IPPROTO_TCP || bpf_skb_load_bytes(skb, h->transport, &tcp, sizeof(tcp)) ||
	    tcp.dest != bpf_htons(DNS_PORT))
		return false;
	h->payload = h->transport + (tcp.doff >> 4) * 4;
	h->seq = bpf_ntohl(tcp.seq);
	h->syn = tcp.flags & TCP_FLAG_SYN;
	/* a byte that is urgent comes to the reader beside the others */
	h->broken = tcp.flags & TCP_FLAG_URG || may_change(skb, IPPROTO_TCP);
	return true;
}

/* Whose a packet is: of who sent by the socket last, else of whoever owns the cgroup that the socket was made in. */
static __always_inline u32 owner_of(struct __sk_buff *skb, struct sender *who)
{
	u64 cgroup = who ? who->subject.cgroup : 0;
	struct binding *b;

	if (!cgroup)
		cgroup = bpf_skb_cgroup_id(skb);
	b = bpf_map_lookup_elem(&cgroups, &cgroup);
	return b ? b->workload : who ? who->subject.workload : 0;
}

SEC("cgroup_skb/egress")
int query_leaves(struct __sk_buff *skb)
{
	struct headers h = {};
	struct packet p = { skb };
	struct caller c = {};
	struct bpf_sock *sk = skb->sk;
	struct sender *who;
	bool denied;
	u32 workload;

	if (!sk || goes_elsewhere(skb) || !may_carry(skb, &h))
		return BPF_PASS;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return BPF_PASS;
	/* a segment in a connection that is another socket's, who knows where */
	if (h.protocol == IPPROTO_TCP && sk->type == SOCK_RAW)
		h.broken = 1;
	who = bpf_sk_storage_get(&senders, sk, 0, 0);
	workload = owner_of(skb, who);
	if (!workload || !find_tables(&c, workload) || !is_active(&c, DOMAIN_DNS, DECIDE_OTHER))
		return BPF_PASS;
	if (!who)
		who = bpf_sk_storage_get(&senders, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!who) {
		count_failure(FAILURE_SENDER);
		return BPF_DROP;
	}
	p.s = take_scratch();
	if (!p.s)
		return BPF_DROP;
	p.who = who;
	p.workload = c.workload;
	c.subject = &who->subject;
	set_question(p.s, &c, DOMAIN_DNS, DECIDE_OTHER, OPERATION_DNS_QUERY);
	set_classes(p.s, c.subject, false);
	p.s->kind = h.protocol == IPPROTO_TCP ? SOCKET_TCP : SOCKET_UDP;
	p.s->protocol = h.protocol;
	p.s->family = h.family;
	p.s->port = DNS_PORT;
	__builtin_memcpy(p.s->address, h.address, 16);
	__builtin_memset(&p.s->query, 0, sizeof(p.s->query));
	if (h.broken) {
		p.s->query.phase = QUERY_BROKEN;
		denied = judge_query(p.s, who, c.workload);
	} else if (h.protocol == IPPROTO_TCP) {
		denied = read_segment(&p, h.payload, h.seq, h.syn);
	} else {
		p.s->query.phase = QUERY_HEADER;
		p.s->query.at = h.payload;
		p.s->query.end = skb->len;
		p.s->query.left = skb->len - h.payload;
		denied = read_messages(&p);
	}
	give_scratch(p.s);
	if (denied) {
		asm volatile("" ::: "memory");
		return BPF_DROP;
	}
	return BPF_PASS;
}

#endif
