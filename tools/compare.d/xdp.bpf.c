// The programs that run in the kernel: `forward`, the work as an XDP program; `inject`, which makes plain frames arrive at an
// interface; `sink`, which counts and drops what leaves one. They take their frames from a table, which stands for receiving.
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "xdp.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct frame);
	__uint(max_entries, 1);
} frames SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1024);
} customers SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct flow_key);
	__type(value, struct flow);
	__uint(max_entries, 1);
} flows SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct route_key);
	__type(value, __u32);
	__uint(max_entries, 1 << 20);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} routes SEC(".maps");

struct shared shared;   // also written and read by xdp.c
char licence[] SEC("license") = "GPL";

static const struct frame *next_frame(void) {
	__u32 at = shared.next;
	shared.next = at + 1 < shared.frame_count ? at + 1 : 0;
	return bpf_map_lookup_elem(&frames, &at);
}

// By words: from bytes, the compiler would make copies of single bytes.
#define COPY(to, from, words) \
	for (int i_ = 0; i_ < (words); i_++) ((__u64 *)(to))[i_] = ((const __u64 *)(from))[i_]

static long match(__u32 i, void *context) {
	struct classified *c = context;
	if (i >= RULES_MAX) return 1;
	const struct match *r = &shared.rules[i];
	if ((c->source & r->source_mask) != r->source || (c->destination & r->destination_mask) != r->destination) return 0;
	if ((r->protocol && r->protocol != c->protocol) || c->port < r->port_from || c->port > r->port_to) return 0;
	c->allow = r->allow;
	return 1;
}

SEC("xdp") int forward(struct xdp_md *context) {
	__u8 *p = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	const struct frame *frame = next_frame();
	if (!frame || p + FRAME_BYTES > end) return XDP_ABORTED;
	COPY(p, frame->words, 13);
	*(__u16 *)(p + 104) = frame->words[13];

	shared.lost++;   // taken back when the packet leaves
	if (*(__u16 *)(p + 12) != bpf_htons(0x0800) || p[14] != 0x45 || p[23] != 47 || *(__u32 *)(p + 34) != bpf_htonl(0x20000800)) return XDP_DROP;
	if (p[42] != 0x45 || p[50] < 2) return XDP_DROP;
	__u32 gre_key = *(__u32 *)(p + 38);
	__u32 *customer = bpf_map_lookup_elem(&customers, &gre_key);
	if (!customer) return XDP_DROP;

	__u32 ports = *(__u32 *)(p + 62);
	struct flow_key key = {*(__u32 *)(p + 54), *(__u32 *)(p + 58), ports, *customer << 8 | p[51]};
	struct flow *flow = bpf_map_lookup_elem(&flows, &key);
	__u32 allow;
	if (flow) {
		flow->packets++;
		flow->bytes += 64;
		flow->last_used = bpf_ktime_get_coarse_ns();
		allow = flow->allow;
	} else {
		struct classified c = {bpf_ntohl(key.source), bpf_ntohl(key.destination), bpf_ntohs(ports >> 16), p[51], 0};
		bpf_loop(shared.rule_count, match, &c, 0);
		struct flow opened = {1, 64, bpf_ktime_get_coarse_ns(), c.allow};
		allow = c.allow;
		if (bpf_map_update_elem(&flows, &key, &opened, BPF_ANY)) return XDP_DROP;
		shared.opened++;
	}
	if (!allow) return XDP_DROP;
	struct route_key to = {64, bpf_htonl(*customer), key.destination};
	__u32 *found = bpf_map_lookup_elem(&routes, &to);
	if (!found) return XDP_DROP;
	__u32 hop = *found & (HOP_COUNT - 1);

	p[50]--;
	__u32 sum = *(__u16 *)(p + 52) + bpf_htons(0x0100);
	*(__u16 *)(p + 52) = sum + (sum > 0xffff);
	COPY(p, shared.headers[hop].words, 5);
	*(__u16 *)(p + 40) = shared.headers[hop].words[5];
	shared.sent[hop]++;
	shared.lost--;
	return XDP_TX;
}

SEC("xdp") int inject(struct xdp_md *context) {
	__u8 *p = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	const struct frame *frame = next_frame();
	if (!frame || p + PLAIN_BYTES > end) return XDP_ABORTED;
	COPY(p, frame->words, 9);
	*(__u32 *)(p + 72) = frame->words[9];
	*(__u16 *)(p + 76) = frame->words[9] >> 32;
	return XDP_PASS;
}

SEC("tc") int sink(struct __sk_buff *packet) {
	__sync_fetch_and_add(&shared.sunk, 1);
	return TC_ACT_SHOT;
}
