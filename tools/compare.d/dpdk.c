// The work on DPDK's libraries, run to completion on one core in bursts of 32:
// copy in (stands for receiving) -> parse, customer of the GRE key (rte_hash) -> flow (rte_hash; on a miss rte_acl and a new
// entry) -> route of the customer (rte_lpm) -> TTL, new outer headers from the next hop's template, counters -> queue -> free.
//   dpdk EAL-ARGUMENTS -- FOLDER REPEATS steady|open COLUMN
#include "traffic.h"
#include <rte_acl.h>
#include <rte_eal.h>
#include <rte_ether.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_ip.h>
#include <rte_lpm.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_prefetch.h>

enum { BURST = 32, DENIED = HOPS };

struct key {
	uint32_t source, destination, ports, customer_protocol;
} __rte_aligned(16);
struct flow {
	uint64_t packets, bytes, last_used;
	uint8_t allow;
} __rte_cache_aligned;
struct customer {
	uint64_t packets, bytes;
	struct rte_lpm *routes;
} __rte_cache_aligned;
struct hop {
	uint8_t header[ETHERNET + OUTER];
	struct rte_mbuf *queue[BURST];
	uint32_t queued, sent;
} __rte_cache_aligned;

static struct rte_mempool *pool;
static struct rte_hash *customer_ids, *flow_ids;
static struct flow *flows;
static struct customer customers[CUSTOMERS_MAX];
static struct rte_acl_ctx *acl;
static struct hop hops[HOPS];
static uint64_t lost;

// What rte_acl reads, in network byte order.
struct five_tuple {
	uint8_t protocol;
	uint32_t source, destination;
	uint16_t source_port, destination_port;
} __rte_packed;
RTE_ACL_RULE_DEF(acl_rule, 5);

static void build_acl(const struct rule *rules, uint32_t count) {
	struct rte_acl_param parameters = {.name = "acl", .rule_size = RTE_ACL_RULE_SZ(5), .max_rule_num = count};
	acl = rte_acl_create(&parameters);
	for (uint32_t i = 0; acl && i < count; i++) {
		const struct rule *r = &rules[i];
		struct acl_rule a = {.data = {.category_mask = 1, .priority = RTE_ACL_MAX_PRIORITY - i, .userdata = 1 + r->allow}};
		a.field[0].value.u8 = r->protocol, a.field[0].mask_range.u8 = r->protocol ? 255 : 0;
		a.field[1].value.u32 = r->source, a.field[1].mask_range.u32 = r->source_length;
		a.field[2].value.u32 = r->destination, a.field[2].mask_range.u32 = r->destination_length;
		a.field[3].value.u16 = 0, a.field[3].mask_range.u16 = 65535;
		a.field[4].value.u16 = r->port_from, a.field[4].mask_range.u16 = r->port_to;
		if (rte_acl_add_rules(acl, (struct rte_acl_rule *)&a, 1)) FAIL("rte_acl refuses rule %u", i);
	}
	struct rte_acl_config config = {
		.num_categories = 1,
		.num_fields = 5,
		.defs = {
			{RTE_ACL_FIELD_TYPE_BITMASK, 1, 0, 0, offsetof(struct five_tuple, protocol)},
			{RTE_ACL_FIELD_TYPE_MASK, 4, 1, 1, offsetof(struct five_tuple, source)},
			{RTE_ACL_FIELD_TYPE_MASK, 4, 2, 2, offsetof(struct five_tuple, destination)},
			{RTE_ACL_FIELD_TYPE_RANGE, 2, 3, 3, offsetof(struct five_tuple, source_port)},
			{RTE_ACL_FIELD_TYPE_RANGE, 2, 4, 3, offsetof(struct five_tuple, destination_port)},
		},
	};
	if (!acl || rte_acl_build(acl, &config)) FAIL("rte_acl cannot be built");
	// The widest that this processor has.
	if (rte_acl_set_ctx_classify(acl, RTE_ACL_CLASSIFY_AVX512X32)) rte_acl_set_ctx_classify(acl, RTE_ACL_CLASSIFY_AVX2);
}

static uint32_t crc16(const void *key, uint32_t length, uint32_t start) {
	const uint64_t *words = key;
	(void)length;
	return rte_hash_crc_8byte(words[1], rte_hash_crc_8byte(words[0], start));
}

static void build_tables(const char *folder, uint32_t flow_count) {
	uint32_t route_count, rule_count, customer_count;
	const struct route *routes = read_routes(folder, &route_count, &customer_count);
	const struct rule *rules = read_rules(folder, &rule_count);
	build_acl(rules, rule_count);
	struct rte_hash_parameters by_key = {.name = "customers", .entries = 2 * CUSTOMERS_MAX, .key_len = 4, .hash_func = rte_hash_crc};
	struct rte_hash_parameters by_flow = {.name = "flows", .entries = flow_count + flow_count / 3 + 64, .key_len = sizeof(struct key), .hash_func = crc16};
	customer_ids = rte_hash_create(&by_key);
	flow_ids = rte_hash_create(&by_flow);
	flows = rte_zmalloc(NULL, (by_flow.entries + 1) * sizeof *flows, 64);
	if (!customer_ids || !flow_ids || !flows) FAIL("no memory for the flow table");
	uint32_t at[CUSTOMERS_MAX];
	for (uint32_t c = 0; c < customer_count; c++) {
		uint32_t key = htonl(KEY + c);
		char name[32];
		snprintf(name, sizeof name, "routes%u", c);
		at[c] = rte_hash_add_key(customer_ids, &key);
		struct rte_lpm_config config = {.max_rules = route_count, .number_tbl8s = 1024};
		if (at[c] >= CUSTOMERS_MAX || !(customers[at[c]].routes = rte_lpm_create(name, 0, &config))) FAIL("no memory for the routes of customer %u", c);
	}
	for (const struct route *r = routes; r < routes + route_count; r++)
		if (rte_lpm_add(customers[at[r->customer]].routes, r->prefix, r->length, r->hop)) FAIL("rte_lpm refuses a route");
	for (uint32_t h = 0; h < HOPS; h++) {
		static const uint8_t start[ETHERNET + OUTER] = {2, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, [17] = OUTER + INNER, [20] = 0x40, [22] = 64, 47, [34] = 0x20, 0, 8, 0};
		uint32_t source = htonl(OUTER_DESTINATION), destination = htonl(HOP_ADDRESS + h), key = htonl(KEY + h);
		uint8_t *p = memcpy(hops[h].header, start, sizeof start);
		p[5] = h;
		memcpy(p + 26, &source, 4), memcpy(p + 30, &destination, 4), memcpy(p + 38, &key, 4);
		uint16_t sum = checksum(p + ETHERNET, 20, 0);
		memcpy(p + 24, &sum, 2);
	}
}

static void send_queue(struct hop *hop) {
	rte_pktmbuf_free_bulk(hop->queue, hop->queued);
	hop->sent += hop->queued;
	hop->queued = 0;
}

// Flows that the table does not have: all of a burst are classified together, then entered.
static void open_flows(const struct key *keys, int32_t *ids, const uint32_t *missed, uint32_t count) {
	struct five_tuple tuples[BURST];
	const uint8_t *data[BURST];
	uint32_t verdicts[BURST];
	for (uint32_t i = 0; i < count; i++) {
		const struct key *k = &keys[missed[i]];
		tuples[i] = (struct five_tuple){k->customer_protocol, k->source, k->destination, k->ports, k->ports >> 16};
		data[i] = (const uint8_t *)&tuples[i];
	}
	rte_acl_classify(acl, data, verdicts, count, 1);
	for (uint32_t i = 0; i < count; i++) {
		// Two packets of a new flow may be in one burst; the second finds the entry of the first.
		int32_t id = rte_hash_add_key(flow_ids, &keys[missed[i]]);
		if (id >= 0) flows[id] = (struct flow){.allow = verdicts[i] == 2};
		ids[missed[i]] = id;
	}
}

static inline void burst(const uint8_t *frames) {
	struct rte_mbuf *m[BURST];
	uint8_t *p[BURST];
	uint32_t gre_keys[BURST], missed[BURST], misses = 0;
	int32_t customer[BURST], id[BURST];
	struct key keys[BURST];
	const void *pointers[BURST];
	uint64_t good = 0;
	if (rte_pktmbuf_alloc_bulk(pool, m, BURST)) FAIL("out of packet buffers");
	for (int i = 0; i < BURST; i++) {
		p[i] = rte_pktmbuf_mtod(m[i], uint8_t *);
		memcpy(p[i], frames + (size_t)i * STRIDE, FRAME);
		m[i]->data_len = m[i]->pkt_len = FRAME;
	}
	for (int i = 0; i < BURST; i++) {
		const struct rte_ipv4_hdr *outer = (void *)(p[i] + ETHERNET), *inner = (void *)(p[i] + ETHERNET + OUTER);
		uint64_t ok = *(uint16_t *)(p[i] + 12) == rte_cpu_to_be_16(0x0800) && outer->version_ihl == 0x45 && outer->next_proto_id == 47 &&
			*(uint32_t *)(p[i] + 34) == rte_cpu_to_be_32(0x20000800) && inner->version_ihl == 0x45 && inner->time_to_live > 1;
		good |= ok << i;
		gre_keys[i] = *(uint32_t *)(p[i] + 38);
		pointers[i] = &gre_keys[i];
	}
	rte_hash_lookup_bulk(customer_ids, pointers, BURST, customer);
	for (int i = 0; i < BURST; i++) {
		const struct rte_ipv4_hdr *inner = (void *)(p[i] + ETHERNET + OUTER);
		if (customer[i] < 0) good &= ~(1ull << i), customer[i] = 0;
		keys[i] = (struct key){inner->src_addr, inner->dst_addr, *(const uint32_t *)(inner + 1), (uint32_t)customer[i] << 8 | inner->next_proto_id};
		pointers[i] = &keys[i];
	}
	rte_hash_lookup_bulk(flow_ids, pointers, BURST, id);
	for (int i = 0; i < BURST; i++)
		if (id[i] >= 0) rte_prefetch0(&flows[id[i]]);
		else if (good >> i & 1) missed[misses++] = i;
	if (misses) open_flows(keys, id, missed, misses);
	uint64_t now = rte_rdtsc();
	for (int i = 0; i < BURST; i++) {
		struct rte_ipv4_hdr *inner = (void *)(p[i] + ETHERNET + OUTER);
		struct customer *c = &customers[customer[i]];
		uint32_t to = DENIED;
		if (likely((good >> i & 1) && id[i] >= 0)) {
			struct flow *f = &flows[id[i]];
			f->packets++, f->bytes += INNER, f->last_used = now;
			if (f->allow && rte_lpm_lookup(c->routes, rte_be_to_cpu_32(inner->dst_addr), &to)) to = DENIED;
		}
		if (unlikely(to >= HOPS)) {
			lost++;
			rte_pktmbuf_free(m[i]);
			continue;
		}
		c->packets++, c->bytes += INNER;
		inner->time_to_live--;
		uint32_t sum = inner->hdr_checksum + rte_cpu_to_be_16(0x0100);
		inner->hdr_checksum = sum + (sum > 0xffff);
		memcpy(p[i], hops[to].header, ETHERNET + OUTER);
		hops[to].queue[hops[to].queued++] = m[i];
		if (hops[to].queued == BURST) send_queue(&hops[to]);
	}
}

// Nanoseconds per packet of going through all frames; the last burst may be short of 32 and is left out.
static double pass(const struct traffic *t) {
	double start = seconds();
	for (uint32_t i = 0; i + BURST <= t->count; i += BURST) burst(t->frames + (size_t)i * STRIDE);
	for (int h = 0; h < HOPS; h++) send_queue(&hops[h]);
	return (seconds() - start) / (t->count / BURST * BURST) * 1e9;
}

static void *room(size_t bytes) { return rte_malloc(NULL, bytes, 64); }

int main(int count, char **words) {
	int used = rte_eal_init(count, words);
	if (used < 0) FAIL("DPDK does not start");
	words += used;
	if (count - used != 5) FAIL("usage: dpdk EAL-ARGUMENTS -- FOLDER REPEATS steady|open COLUMN");
	const char *folder = words[1], *column = words[4];
	int repeats = atoi(words[2]), opening = !strcmp(words[3], "open");
	struct traffic open = read_traffic(folder, "open.pcap", room), steady = opening ? open : read_traffic(folder, "steady.pcap", room);
	pool = rte_pktmbuf_pool_create("packets", 8191, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
	if (!pool) FAIL("no memory for packet buffers");
	build_tables(folder, open.count);
	if (steady.count % BURST) FAIL("the packets of a capture must be a multiple of %d", BURST);
	uint32_t times = opening ? 1 : rounds(steady.count, 4000000), passes = 1;
	pass(&open);
	for (int h = 0; h < HOPS; h++) hops[h].sent = 0;
	if (!opening) pass(&steady);
	else passes = 0;
	for (int r = 0; r < repeats; r++) {
		double sum = 0;
		for (uint32_t i = 0; i < times; i++) {
			if (opening) rte_hash_reset(flow_ids);
			sum += pass(&steady);
		}
		passes += times;
		result("dpdk", column, sum / times);
	}
	for (int h = 0; h < HOPS; h++)
		if (lost || hops[h].sent != steady.expect[h] * passes) FAIL("DPDK: %lu packets lost, or sent to the wrong next hop", lost);
	if (opening && (uint32_t)rte_hash_count(flow_ids) != open.count) FAIL("DPDK: %d flows instead of %u", rte_hash_count(flow_ids), open.count);
	return 0;
}
