// Loads the programs of xdp.bpf.c and runs them with BPF_PROG_TEST_RUN on one core, without any network card.
//   xdp OBJECT forward FOLDER REPEATS steady|open COLUMN               the XDP program alone: the kernel's own average
//   xdp OBJECT inject FOLDER REPEATS steady|open COLUMN IN BACK OUT    frames arrive at IN, leave by OUT and are dropped there
// `inject` is for the kernel's own forwarding: the inner packets without GRE; the answers arrive at BACK, to open the flows.
#include "traffic.h"
#include "xdp.h"
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static struct bpf_object *object;
static struct shared *shared;
static struct frame *table;

static int map(const char *name) { return bpf_object__find_map_fd_by_name(object, name); }
static int program(const char *name) { return bpf_program__fd(bpf_object__find_program_by_name(object, name)); }
static void *room(size_t bytes) { return malloc(bytes); }

static void *mapped(int fd, size_t bytes) {
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED) FAIL("a table of the programs cannot be mapped: %s", strerror(errno));
	return at;
}

static void load(const char *path, uint32_t frames, uint32_t flows) {
	libbpf_set_print(NULL);   // it would print the verifier's whole protocol
	object = bpf_object__open_file(path, NULL);
	if (!object) FAIL("libbpf cannot read %s", path);
	bpf_map__set_max_entries(bpf_object__find_map_by_name(object, "frames"), frames);
	bpf_map__set_max_entries(bpf_object__find_map_by_name(object, "flows"), flows + flows / 3 + 64);
	if (bpf_object__load(object)) FAIL("the kernel refuses the programs: %s", strerror(errno));
	struct bpf_map *m;
	bpf_object__for_each_map(m, object) if (strstr(bpf_map__name(m), ".bss")) {
		if (bpf_map__value_size(m) != sizeof *shared) FAIL("the programs have other variables than struct shared");
		shared = mapped(bpf_map__fd(m), sizeof *shared);
	}
	table = mapped(map("frames"), frames * sizeof *table);
}

// Puts a capture's frames into the table: whole, or the inner packets behind an Ethernet header.
static void show(const struct traffic *t, int plain) {
	for (uint32_t i = 0; i < t->count; i++) {
		const uint8_t *frame = t->frames + (size_t)i * STRIDE;
		uint8_t *to = (uint8_t *)table[i].words;
		memcpy(to, frame, plain ? ETHERNET : FRAME);
		if (plain) memcpy(to + ETHERNET, frame + ETHERNET + OUTER, INNER);
	}
	shared->frame_count = t->count;
	shared->next = 0;
}

// Nanoseconds per packet, as the kernel measures its loop; with an interface, frames live on after the program.
static double run(const char *name, uint32_t packets, int interface) {
	static uint8_t in[FRAME], out[256];
	struct xdp_md where = {.data_end = interface ? PLAIN_BYTES : FRAME, .ingress_ifindex = interface};
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = in, .data_size_in = where.data_end, .repeat = packets);
	if (interface) o.flags = BPF_F_TEST_XDP_LIVE_FRAMES, o.batch_size = 64, o.ctx_in = &where, o.ctx_size_in = sizeof where;
	else o.data_out = out, o.data_size_out = sizeof out;
	double start = seconds();
	if (bpf_prog_test_run_opts(program(name), &o)) FAIL("BPF_PROG_TEST_RUN of %s: %s", name, strerror(errno));
	// The call itself waits some 20 ms for others before it returns; that matters only where the kernel gives no average.
	return o.duration ? o.duration : (seconds() - start) / packets * 1e9;
}

static void build_tables(const char *folder) {
	uint32_t route_count, rule_count, customer_count;
	const struct route *routes = read_routes(folder, &route_count, &customer_count);
	const struct rule *rules = read_rules(folder, &rule_count);
	for (uint32_t i = 0; i < route_count; i++) {
		struct route_key key = {32 + routes[i].length, htonl(routes[i].customer), htonl(routes[i].prefix)};
		if (bpf_map_update_elem(map("routes"), &key, &routes[i].hop, BPF_ANY)) FAIL("the routes do not fit: %s", strerror(errno));
	}
	for (uint32_t c = 0; c < customer_count; c++) {
		uint32_t key = htonl(KEY + c);
		if (bpf_map_update_elem(map("customers"), &key, &c, BPF_ANY)) FAIL("the customers do not fit: %s", strerror(errno));
	}
	if (rule_count > RULES_MAX) FAIL("the XDP program takes at most %d rules", RULES_MAX);
	for (uint32_t i = 0; i < rule_count; i++) {
		const struct rule *r = &rules[i];
		uint32_t source = mask(r->source_length), destination = mask(r->destination_length);
		shared->rules[i] = (struct match){r->source & source, source, r->destination & destination, destination, r->port_from, r->port_to, r->protocol, r->allow};
	}
	shared->rule_count = rule_count;
	for (uint32_t h = 0; h < HOPS; h++) {
		static const uint8_t start[ETHERNET + OUTER] = {2, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, [17] = OUTER + INNER, [20] = 0x40, [22] = 64, 47, [34] = 0x20, 0, 8, 0};
		uint32_t from = htonl(OUTER_DESTINATION), to = htonl(HOP_ADDRESS + h), key = htonl(KEY + h);
		uint8_t *p = memcpy(shared->headers[h].words, start, sizeof start);
		p[5] = h;
		memcpy(p + 26, &from, 4), memcpy(p + 30, &to, 4), memcpy(p + 38, &key, 4);
		uint16_t sum = checksum(p + ETHERNET, 20, 0);
		memcpy(p + 24, &sum, 2);
	}
}

static void forget_flows(const struct traffic *t) {
	for (uint32_t i = 0; i < t->count; i++) {
		const uint8_t *p = t->frames + (size_t)i * STRIDE;
		struct flow_key key;
		memcpy(&key, p + 54, 12);
		key.customer_protocol = (ntohl(*(const uint32_t *)(p + 38)) - KEY) << 8 | p[51];
		bpf_map_delete_elem(map("flows"), &key);
	}
}

static void forward(const char *folder, const struct traffic *open, const struct traffic *steady, int repeats, const char *column) {
	uint32_t times = steady == open ? 1 : rounds(steady->count, 1000000), passes = times * repeats;
	build_tables(folder);
	show(open, 0);
	run("forward", open->count, 0);
	if (shared->opened != open->count) FAIL("XDP: %llu flows instead of %u", shared->opened, open->count);
	show(steady, 0);
	if (steady != open) run("forward", steady->count, 0);
	memset(shared->sent, 0, sizeof shared->sent);
	for (int r = 0; r < repeats; r++) {
		if (steady == open) forget_flows(open);
		result("xdp", column, run("forward", steady->count * times, 0));
	}
	for (int h = 0; h < HOPS; h++)
		if (shared->lost || shared->sent[h] != (uint64_t)steady->expect[h] * passes) FAIL("XDP: %llu packets lost, or sent to the wrong next hop", shared->lost);
	if (steady == open && shared->opened != (uint64_t)open->count * (repeats + 1)) FAIL("XDP: not every packet opened a flow");
}

// Empties this namespace's connection table, by netlink.
static void forget_connections(void) {
	struct {
		struct nlmsghdr header;
		struct nfgenmsg family;
	} message = {{sizeof message, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, NLM_F_REQUEST | NLM_F_ACK, 1, 0}, {AF_INET, NFNETLINK_V0, 0}};
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
	} answer = {0};
	int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);
	if (s < 0 || send(s, &message, sizeof message, 0) < 0 || recv(s, &answer, sizeof answer, 0) < 0 || answer.error.error)
		FAIL("the kernel does not empty its connection table: %s", strerror(answer.error.error ? -answer.error.error : errno));
	close(s);
}

static void attach_sink(int interface) {
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = interface, .attach_point = BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, what, .prog_fd = program("sink"));
	int error = bpf_tc_hook_create(&hook);
	if ((error && error != -EEXIST) || bpf_tc_attach(&hook, &what)) FAIL("the kernel has no tc with BPF (clsact)");
}

// All packets of a capture, one by one the way of the kernel; the answers go back in their own direction.
static void prime(const struct traffic *open, const struct traffic *reply, int in, int back) {
	show(open, 1);
	run("inject", open->count, in);
	show(reply, 1);
	run("inject", reply->count, back);
}

static void inject(const struct traffic *open, const struct traffic *reply, const struct traffic *steady, int repeats, const char *column,
                   const char *const *names) {
	int in = if_nametoindex(names[0]), back = if_nametoindex(names[1]), out = if_nametoindex(names[2]);
	uint32_t times = steady == open ? 1 : rounds(steady->count, 1000000);
	if (!in || !back || !out) FAIL("there is no interface %s, %s or %s here", names[0], names[1], names[2]);
	attach_sink(out);
	forget_connections();
	if (steady != open) prime(open, reply, in, back);
	show(steady, 1);
	for (int r = 0; r < repeats; r++) {
		if (steady == open) forget_connections();
		shared->sunk = 0;
		shared->next = 0;
		result("nftables", column, run("inject", steady->count * times, in));
		if (shared->sunk != (uint64_t)steady->count * times) FAIL("Linux forwarded %llu of %u packets", shared->sunk, steady->count * times);
	}
}

int main(int count, char **words) {
	if (count < 7 || (!strcmp(words[2], "inject") && count != 10)) FAIL("usage: xdp OBJECT forward|inject FOLDER REPEATS steady|open COLUMN [IN BACK OUT]");
	const char *folder = words[3];
	int repeats = atoi(words[4]), opening = !strcmp(words[5], "open");
	struct traffic open = read_traffic(folder, "open.pcap", room), steady = opening ? open : read_traffic(folder, "steady.pcap", room);
	load(words[1], steady.count > open.count ? steady.count : open.count, open.count);
	if (!strcmp(words[2], "forward")) {
		forward(folder, &open, opening ? &open : &steady, repeats, words[6]);
		return 0;
	}
	struct traffic reply = read_traffic(folder, "reply.pcap", room);
	inject(&open, &reply, opening ? &open : &steady, repeats, words[6], (const char *const *)words + 7);
	return 0;
}
