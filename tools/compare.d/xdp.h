// What xdp.c and the programs in the kernel (xdp.bpf.c) share. Addresses and ports of flow_key and route_key are in network
// byte order, those of match in host byte order.
#pragma once
#include <linux/types.h>

enum { FRAME_BYTES = 106, PLAIN_BYTES = 78, RULES_MAX = 1024, HOP_COUNT = 8 };

struct frame {
	__u64 words[14];
};
struct flow_key {
	__u32 source, destination, ports, customer_protocol;
};
struct flow {
	__u64 packets, bytes, last_used;
	__u32 allow;
};
struct route_key {
	__u32 length, customer, destination;
};
struct match {
	__u32 source, source_mask, destination, destination_mask;
	__u16 port_from, port_to;
	__u8 protocol, allow;
};
struct classified {
	__u32 source, destination;
	__u16 port;
	__u8 protocol, allow;
};
struct shared {
	__u64 lost, opened, sunk, sent[HOP_COUNT];
	__u32 frame_count, next, rule_count, unused;
	struct {
		__u64 words[6];
	} headers[HOP_COUNT];   // of Ethernet, IPv4 and GRE, for each next hop
	struct match rules[RULES_MAX];
};
