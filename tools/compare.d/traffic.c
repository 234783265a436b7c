// Writes the traffic that every rival gets (see traffic.h), always the same for the same numbers.
//   traffic FOLDER CUSTOMERS ROUTES RULES FLOWS PACKETS     ROUTES per customer; PACKETS in steady.pcap
#include "traffic.h"

struct flow {
	uint32_t customer, source, destination, hop;
	uint16_t source_port, destination_port;
	uint8_t protocol;
};
enum kind { OPEN, REPLY, STEADY };
enum { TCP = 6, UDP = 17, SYN = 2, ACK = 16 };

static uint64_t state = 0x9e3779b97f4a7c15;
// xorshift64*
static uint32_t any(void) {
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * 0x2545f4914f6cdd1d >> 32;
}
static uint32_t below(uint32_t n) { return (uint64_t)any() * n >> 32; }
static uint32_t within(uint32_t prefix, uint32_t length) { return prefix | (any() & ~mask(length)); }

// A set of 64-bit values with what belongs to each: open addressing, at most half full. Values are never 0.
struct set {
	uint64_t *values;
	uint32_t *with;
	uint64_t last;
};
static struct set new_set(uint64_t entries) {
	uint64_t size = 16;
	while (size < entries * 2) size *= 2;
	return (struct set){calloc(size, 8), calloc(size, 4), size - 1};
}
static uint64_t slot(const struct set *s, uint64_t value) {
	uint64_t h = value * 0x9e3779b97f4a7c15;
	for (h = (h ^ h >> 32) & s->last; s->values[h] && s->values[h] != value; h = (h + 1) & s->last) {}
	return h;
}
static int add(struct set *s, uint64_t value, uint32_t with) {
	uint64_t h = slot(s, value);
	if (s->values[h]) return 0;
	s->values[h] = value;
	s->with[h] = with;
	return 1;
}

static uint64_t route_id(uint32_t customer, uint32_t prefix, uint32_t length) {
	return 1ull << 63 | (uint64_t)customer << 40 | (uint64_t)length << 32 | prefix;
}

// Prefixes differ between all customers, so that a rival with one table can hold them too.
static struct route *make_routes(uint32_t customers, uint32_t each, struct set *known) {
	static const uint8_t lengths[20] = {16, 20, 20, 22, 22, 24, 24, 24, 24, 24, 24, 24, 24, 24, 24, 24, 26, 27, 28, 28};
	struct route *routes = calloc((size_t)customers * each, sizeof *routes);
	struct set prefixes = new_set((uint64_t)customers * each);
	for (uint32_t i = 0; i < customers * each;) {
		uint32_t length = lengths[below(20)], prefix = (11u << 24) + below(186u << 24), first = prefix >> 24;
		if (first == 127 || first == 169 || first == 172 || first == 192) continue;
		prefix &= mask(length);
		if (!add(&prefixes, route_id(0, prefix, length), 0)) continue;
		routes[i] = (struct route){i % customers, prefix, length, below(HOPS)};
		add(known, route_id(i % customers, prefix, length), routes[i].hop);
		i++;
	}
	free(prefixes.values), free(prefixes.with);
	return routes;
}

static struct rule *make_rules(uint32_t count, const struct route *routes, uint32_t route_count) {
	struct rule *rules = calloc(count, sizeof *rules);
	for (uint32_t i = 0; i + 1 < count; i++) {
		struct rule *r = &rules[i];
		const struct route *to = &routes[below(route_count)];
		uint32_t kind = below(10);
		if (kind < 6) r->destination = to->prefix, r->destination_length = to->length;
		else if (kind < 8) r->destination = within(to->prefix, to->length), r->destination_length = 32;
		kind = below(4);
		r->source_length = kind == 0 && r->destination_length ? 0 : kind <= 1 ? 16 : kind == 2 ? 24 : 32;
		r->source = r->source_length ? within(10u << 24, 8) & mask(r->source_length) : 0;
		kind = below(20);
		r->protocol = kind < 9 ? TCP : kind < 18 ? UDP : 0;
		kind = below(10);
		if (kind < 5) r->port_from = r->port_to = 1 + below(49151);
		else if (kind < 8) r->port_from = 1 + below(40000), r->port_to = r->port_from + below(5000);
		else r->port_to = 65535;
		r->allow = below(10) < 7;
	}
	rules[count - 1] = (struct rule){.allow = 1, .port_to = 65535};
	return rules;
}

static int allowed(const struct rule *rules, const struct flow *f) {
	for (const struct rule *r = rules;; r++)
		if (!((f->source ^ r->source) & mask(r->source_length)) && !((f->destination ^ r->destination) & mask(r->destination_length)) &&
		    (!r->protocol || r->protocol == f->protocol) && f->destination_port >= r->port_from && f->destination_port <= r->port_to)
			return r->allow;
}

// Flows that the rules allow; half of them go where a rule of its own speaks of them, as far as routes lead there.
static struct flow *make_flows(uint32_t count, const struct route *routes, uint32_t route_count, const struct set *known,
                               const struct rule *rules, uint32_t rule_count) {
	struct flow *flows = calloc(count, sizeof *flows);
	struct set seen = new_set(count);
	for (uint32_t i = 0; i < count;) {
		const struct route *to = &routes[below(route_count)];
		const struct rule *aim = &rules[below(rule_count)];
		struct flow f = {.customer = to->customer, .protocol = i % 2 ? TCP : UDP};
		f.source = within(10u << 24, 8);
		f.destination = within(to->prefix, to->length);
		f.source_port = 1024 + below(64512);
		f.destination_port = 1 + below(49151);
		if (i % 4 < 2 && aim->allow) {
			if (aim->source_length) f.source = within(aim->source, aim->source_length);
			if (aim->destination_length) f.destination = within(aim->destination, aim->destination_length);
			if (aim->protocol) f.protocol = aim->protocol;
			f.destination_port = aim->port_from + below(aim->port_to - aim->port_from + 1);
		}
		if (!f.destination_port || !allowed(rules, &f)) continue;
		int length = 28;
		uint64_t at = 0;
		for (; length >= 16; length--)
			if (at = slot(known, route_id(f.customer, f.destination & mask(length), length)), known->values[at]) break;
		if (length < 16) continue;
		f.hop = known->with[at];
		uint64_t id = ((uint64_t)f.source << 32 | f.destination) * 0x9e3779b97f4a7c15;
		id ^= (id >> 29) ^ ((uint64_t)f.source_port << 40 | (uint64_t)f.destination_port << 16 | f.customer << 8 | f.protocol);
		if (add(&seen, id | 1, 0)) flows[i++] = f;
	}
	free(seen.values), free(seen.with);
	return flows;
}

static void put16(uint8_t *p, uint32_t v) { p[0] = v >> 8, p[1] = v; }
static void put32(uint8_t *p, uint32_t v) { put16(p, v >> 16), put16(p + 2, v); }

static void ipv4(uint8_t *p, uint32_t length, uint8_t protocol, uint32_t source, uint32_t destination) {
	memset(p, 0, 20);
	p[0] = 0x45, p[6] = 0x40, p[8] = 64, p[9] = protocol;
	put16(p + 2, length), put32(p + 12, source), put32(p + 16, destination);
	uint16_t sum = checksum(p, 20, 0);
	memcpy(p + 10, &sum, 2);
}

static void frame(uint8_t *p, const struct flow *f, enum kind kind) {
	static const uint8_t ethernet[ETHERNET] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0};
	memset(p, 0, FRAME);
	memcpy(p, ethernet, ETHERNET);
	ipv4(p + ETHERNET, OUTER + INNER, 47, OUTER_SOURCE, OUTER_DESTINATION);
	uint8_t *gre = p + ETHERNET + 20, *inner = p + ETHERNET + OUTER, *l4 = inner + 20;
	put32(gre, 0x20000800), put32(gre + 4, KEY + f->customer);
	int back = kind == REPLY;
	ipv4(inner, INNER, f->protocol, back ? f->destination : f->source, back ? f->source : f->destination);
	put16(l4, back ? f->destination_port : f->source_port);
	put16(l4 + 2, back ? f->source_port : f->destination_port);
	if (f->protocol == UDP) {
		put16(l4 + 4, INNER - 20);   // no checksum, as RFC 768 allows: network cards would check it
		return;
	}
	put32(l4 + 4, kind == OPEN ? 1000 : kind == REPLY ? 2000 : 1001);
	put32(l4 + 8, kind == OPEN ? 0 : kind == REPLY ? 1001 : 2001);
	l4[12] = 5 << 4;
	l4[13] = kind == OPEN ? SYN : kind == REPLY ? SYN | ACK : ACK;
	put16(l4 + 14, 65535);
	uint16_t sum = checksum(inner + 12, INNER - 12, TCP + INNER - 20);
	memcpy(l4 + 16, &sum, 2);
}

static void capture(const char *folder, const char *name, const struct flow *flows, const uint32_t *order, uint32_t count,
                    enum kind kind, FILE *expect) {
	static const uint32_t header[6] = {0xa1b2c3d4, 0x00040002, 0, 0, 65535, 1};
	uint32_t hops[HOPS] = {0};
	FILE *file = open_in(folder, name, "wb");
	fwrite(header, sizeof header, 1, file);
	for (uint32_t i = 0; i < count; i++) {
		const struct flow *f = &flows[order ? order[i] : i];
		uint32_t record[4] = {i / 1000000, i % 1000000, FRAME, FRAME};
		uint8_t bytes[FRAME];
		frame(bytes, f, kind);
		fwrite(record, sizeof record, 1, file);
		fwrite(bytes, FRAME, 1, file);
		hops[f->hop]++;
	}
	if (fclose(file)) FAIL("cannot write %s/%s", folder, name);
	fprintf(expect, "%s %u", name, count);
	for (int hop = 0; hop < HOPS; hop++) fprintf(expect, " %u", hops[hop]);
	fputc('\n', expect);
}

// Whole rounds through all flows, each in a new random order.
static uint32_t *make_order(uint32_t flows, uint32_t packets) {
	uint32_t *order = malloc(packets * sizeof *order), *round = malloc(flows * sizeof *round);
	for (uint32_t i = 0; i < flows; i++) round[i] = i;
	for (uint32_t at = 0; at < packets; at++) {
		uint32_t i = at % flows, j = i + below(flows - i), other = round[j];
		round[j] = round[i];
		order[at] = round[i] = other;
	}
	free(round);
	return order;
}

static void write_tables(const char *folder, const struct route *routes, uint32_t route_count, const struct rule *rules, uint32_t rule_count) {
	FILE *file = open_in(folder, "routes.txt", "w");
#define QUAD(a) (a) >> 24, (a) >> 16 & 255, (a) >> 8 & 255, (a) & 255
	for (const struct route *r = routes; r < routes + route_count; r++)
		fprintf(file, "%u %u %u.%u.%u.%u/%u %u\n", r->customer, KEY + r->customer, QUAD(r->prefix), r->length, r->hop);
	fclose(file);
	file = open_in(folder, "rules.txt", "w");
	for (const struct rule *r = rules; r < rules + rule_count; r++)
		fprintf(file, "%s %u %u.%u.%u.%u/%u %u.%u.%u.%u/%u %u %u\n", r->allow ? "allow" : "deny", r->protocol, QUAD(r->source),
		        r->source_length, QUAD(r->destination), r->destination_length, r->port_from, r->port_to);
	fclose(file);
}

int main(int count, char **words) {
	if (count != 7) FAIL("usage: traffic FOLDER CUSTOMERS ROUTES RULES FLOWS PACKETS");
	const char *folder = words[1];
	uint32_t customers = atoi(words[2]), each = atoi(words[3]), rule_count = atoi(words[4]), flow_count = atoi(words[5]), packets = atoi(words[6]);
	if (!customers || customers > CUSTOMERS_MAX || !each || !rule_count || !flow_count || packets < flow_count)
		FAIL("1 to %d customers, and at least one route, rule and packet of each flow, please", CUSTOMERS_MAX);
	struct set known = new_set((uint64_t)customers * each);
	struct route *routes = make_routes(customers, each, &known);
	struct rule *rules = make_rules(rule_count, routes, customers * each);
	struct flow *flows = make_flows(flow_count, routes, customers * each, &known, rules, rule_count);
	write_tables(folder, routes, customers * each, rules, rule_count);
	FILE *expect = open_in(folder, "expect.txt", "w");
	uint32_t *order = make_order(flow_count, packets);
	capture(folder, "open.pcap", flows, NULL, flow_count, OPEN, expect);
	capture(folder, "reply.pcap", flows, NULL, flow_count, REPLY, expect);
	capture(folder, "steady.pcap", flows, order, packets, STEADY, expect);
	fclose(expect);
	return 0;
}
