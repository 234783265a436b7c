// The traffic that every rival gets: what traffic.c writes into a folder, and how the programs beside it read it.
//
//   open.pcap     the first packet of each flow (TCP: SYN), each flow once
//   reply.pcap    the answer to it (TCP: SYN ACK), same order
//   steady.pcap   packets of open flows in random order, every flow equally often
//   routes.txt    customer, GRE key, prefix, next hop (0 to 7)
//   rules.txt     allow or deny, protocol (0: any), source, destination, destination ports from and to; first match wins
//   expect.txt    name of a capture, its packets, and how many of them each next hop must get
//
// A frame is Ethernet, IPv4, GRE with a key, and an inner IPv4 packet of 64 bytes.
#pragma once
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	ETHERNET = 14,
	OUTER = 28,                         // IPv4 (20) and GRE with key (8)
	INNER = 64,
	FRAME = ETHERNET + OUTER + INNER,   // 106
	STRIDE = 128,                       // between frames in memory
	HOPS = 8,
	KEY = 5000,                         // GRE key of the first customer
	CUSTOMERS_MAX = 256,
};
#define OUTER_SOURCE 0xc6120001u        // 198.18.0.1
#define OUTER_DESTINATION 0xc6120002u   // 198.18.0.2
#define HOP_ADDRESS 0xc6120101u         // 198.18.1.1: the far end of the first next hop's tunnel

// Addresses and ports in host byte order.
struct route {
	uint32_t customer, prefix, length, hop;
};
struct rule {
	uint32_t allow, protocol, source, source_length, destination, destination_length, port_from, port_to;
};
struct traffic {
	uint8_t *frames;   // STRIDE apart
	uint32_t count;
	uint32_t expect[HOPS];
};

#define FAIL(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), exit(1))

static inline uint32_t mask(uint32_t length) { return length ? ~0u << (32 - length) : 0; }

static inline double seconds(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

// The Internet checksum of an even number of bytes, beginning with a sum; in network byte order.
static inline uint16_t checksum(const void *bytes, int length, uint32_t sum) {
	const uint8_t *p = bytes;
	for (int i = 0; i < length; i += 2) sum += p[i] << 8 | p[i + 1];
	while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static inline FILE *open_in(const char *folder, const char *name, const char *mode) {
	char path[4096];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *file = fopen(path, mode);
	if (!file) FAIL("cannot open %s", path);
	return file;
}

// The parts of "a.b.c.d/n".
static inline void parse_prefix(const char *text, uint32_t *address, uint32_t *length) {
	unsigned a, b, c, d, n;
	if (sscanf(text, "%u.%u.%u.%u/%u", &a, &b, &c, &d, &n) != 5) FAIL("%s is no prefix", text);
	*address = a << 24 | b << 16 | c << 8 | d;
	*length = n;
}

static inline struct route *read_routes(const char *folder, uint32_t *count, uint32_t *customers) {
	FILE *file = open_in(folder, "routes.txt", "r");
	struct route *routes = NULL, r;
	char prefix[32];
	unsigned key;
	*count = *customers = 0;
	while (fscanf(file, "%u %u %31s %u", &r.customer, &key, prefix, &r.hop) == 4) {
		parse_prefix(prefix, &r.prefix, &r.length);
		if (*count % 4096 == 0) routes = realloc(routes, (*count + 4096) * sizeof r);
		routes[(*count)++] = r;
		if (r.customer >= *customers) *customers = r.customer + 1;
	}
	fclose(file);
	return routes;
}

static inline struct rule *read_rules(const char *folder, uint32_t *count) {
	FILE *file = open_in(folder, "rules.txt", "r");
	struct rule *rules = NULL, r;
	char verdict[8], source[32], destination[32];
	*count = 0;
	while (fscanf(file, "%7s %u %31s %31s %u %u", verdict, &r.protocol, source, destination, &r.port_from, &r.port_to) == 6) {
		r.allow = !strcmp(verdict, "allow");
		parse_prefix(source, &r.source, &r.source_length);
		parse_prefix(destination, &r.destination, &r.destination_length);
		if (*count % 1024 == 0) rules = realloc(rules, (*count + 1024) * sizeof r);
		rules[(*count)++] = r;
	}
	fclose(file);
	return rules;
}

// A capture in memory; the caller gives room from an allocator of its own, so that huge pages can be had.
static inline struct traffic read_traffic(const char *folder, const char *name, void *(*room)(size_t)) {
	struct traffic t = {0};
	char word[64];
	FILE *file = open_in(folder, "expect.txt", "r");
	while (fscanf(file, "%63s %u", word, &t.count) == 2) {
		for (int hop = 0; hop < HOPS; hop++)
			if (fscanf(file, "%u", &t.expect[hop]) != 1) FAIL("expect.txt is cut short");
		if (!strcmp(word, name)) break;
	}
	fclose(file);
	t.frames = room((size_t)t.count * STRIDE);
	if (!t.frames) FAIL("no memory for the frames of %s", name);
	file = open_in(folder, name, "rb");
	fseek(file, 24, SEEK_SET);
	for (uint32_t i = 0; i < t.count; i++)
		if (fseek(file, 16, SEEK_CUR) || fread(t.frames + (size_t)i * STRIDE, FRAME, 1, file) != 1) FAIL("%s is cut short", name);
	fclose(file);
	return t;
}

// How often to go through a capture so that one measurement has about that many packets.
static inline uint32_t rounds(uint32_t packets, uint32_t wanted) { return packets >= wanted ? 1 : wanted / packets; }

// A result: one line for each repeat, which the script gathers.
static inline void result(const char *rival, const char *column, double ns) {
	printf("%s %s %.1f\n", rival, column, ns);
	fflush(stdout);
}
