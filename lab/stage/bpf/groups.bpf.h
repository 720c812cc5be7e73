// Security groups: may this packet leave its sender's ENI, and may it reach its receiver's?
//
// Of all rules that fit, of all groups of the ENI, the one with the lowest rank speaks; its lowest
// bit says pass or not. User space computes ranks (src/fabric/groups.rs); this file knows no
// priorities. A packet of a known flow passes without being asked again, until a group changes.
// Both families: an address is 16 octets here.

#ifndef GROUPS_BPF_H
#define GROUPS_BPF_H

// An IPv4 address is kept as ::ffff:a.b.c.d, so that IPv6 needs no second map.
struct address {
	__u8 octets[16];
} __attribute__((aligned(4)));

// Groups of one ENI, and rules of one group, both directions (limits of ECS).
#define GROUPS_MAX 10
#define RULES_MAX 200
// Groups of the VPC (limits of ECS: 100 by default; ten times that).
#define ALL_GROUPS_MAX 1024
// Flows remembered, the longest silent ones forgotten first: 1,000 pods with 64 flows each.
#define FLOWS_MAX 65536

#define OUTBOUND 0
#define INBOUND 1
// Beyond every rule: what holds when none fits. Lower than every rule: members among themselves.
#define RANK_REFUSE 0xfffe
#define RANK_PASS 0xffff
#define PASSES(rank) ((rank) & 1)

struct settings {
	__u8 source_dest_check;
	__u8 groups_count; // 0: no ENI of the account, nothing is asked on its side
	__be16 groups[GROUPS_MAX];
};

struct rule {
	__u8 direction;
	__u8 protocol; // 0: any
	__be16 rank;
	__be16 first_port;
	__be16 last_port;
	__be16 group; // 0: whoever `network` says
	__u8 zero[2];
	struct address network;
	struct address mask;
};

struct group {
	__u8 inner; // members reach each other, whatever the rules say
	__u8 outbound; // what no rule speaks of may leave
	__be16 rules_count;
	struct rule rules[RULES_MAX];
};

// Both ways of a flow have one key: the lower address first.
struct flow_key {
	struct address low;
	struct address high;
	__be16 low_port;
	__be16 high_port;
	__u8 protocol;
	__u8 zero[3];
};

struct flow {
	__s64 seen; // nanoseconds, coarse; another CPU may be a tick ahead
	__u32 generation; // of the groups that let it pass
	__u8 opened_low; // by the lower address
	__u8 zero[3];
};

_Static_assert(sizeof(struct address) == 16, "address: src/fabric/layout.rs");
_Static_assert(sizeof(struct settings) == 22, "settings: src/fabric/layout.rs");
_Static_assert(sizeof(struct rule) == 44, "rule: src/fabric/groups.rs");
_Static_assert(sizeof(struct group) == 4 + 200 * 44, "group: src/fabric/groups.rs");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ALL_GROUPS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __be16);
	__type(value, struct group);
} groups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FLOWS_MAX);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps");

// Counts the changes of groups and of who is in them; raised after each.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} generation SEC(".maps");

#define SECOND 1000000000LL
// How long a silent flow is remembered (ECS API, ConnectionTrackingConfiguration, defaults).
#define TCP_SILENT_MAX (910 * SECOND)
#define OTHER_SILENT_MAX (30 * SECOND)

#define TCP_FLAGS_AT 13
#define TCP_SYN 0x02
#define TCP_ACK 0x10
#define ICMP_ECHO_ID_AT 4
#define FRAGMENT_OFFSET 0x1fff

// What is asked about, whatever family it came in.
struct packet {
	struct address source;
	struct address destination;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 opens; // a flow, whatever is known of one between these ports
};

// One side's question.
struct question {
	const struct settings *mine;
	const struct settings *theirs;
	const struct group *group;
	struct address remote;
	__u16 port;
	__u16 rank;
	__u8 protocol;
	__u8 direction;
};

static __always_inline int is_member(const struct settings *settings, __be16 group)
{
	for (int i = 0; i < GROUPS_MAX; i++)
		if (i < settings->groups_count && settings->groups[i] == group)
			return 1;
	return 0;
}

static __always_inline int is_inside(const struct address *address, const struct rule *rule)
{
	const __u32 *words = (const __u32 *)address, *network = (const __u32 *)&rule->network,
		    *mask = (const __u32 *)&rule->mask;

	return (words[0] & mask[0]) == network[0] && (words[1] & mask[1]) == network[1] &&
	       (words[2] & mask[2]) == network[2] && (words[3] & mask[3]) == network[3];
}

static long ask_rule(__u32 i, struct question *question)
{
	const struct rule *rule;
	__u16 rank;

	if (i >= RULES_MAX)
		return 1;
	rule = &question->group->rules[i];
	rank = bpf_ntohs(rule->rank);
	if (rule->direction != question->direction || rank >= question->rank ||
	    (rule->protocol && rule->protocol != question->protocol) ||
	    question->port < bpf_ntohs(rule->first_port) ||
	    question->port > bpf_ntohs(rule->last_port))
		return 0;
	if (rule->group ? is_member(question->theirs, rule->group) :
			  is_inside(&question->remote, rule))
		question->rank = rank;
	return 0;
}

static __noinline int side_lets_pass(struct question *question)
{
	const struct settings *mine = question->mine;

	if (!mine->groups_count)
		return 1;
	question->rank = RANK_REFUSE;
	for (int i = 0; i < GROUPS_MAX; i++) {
		struct group *group;

		if (i >= mine->groups_count)
			break;
		group = bpf_map_lookup_elem(&groups, &mine->groups[i]);
		if (!group)
			continue;
		if (group->inner && is_member(question->theirs, mine->groups[i]))
			return 1;
		if (group->outbound && question->direction == OUTBOUND &&
		    question->rank == RANK_REFUSE)
			question->rank = RANK_PASS;
		question->group = group;
		bpf_loop(bpf_ntohs(group->rules_count), ask_rule, question, 0);
	}
	return PASSES(question->rank);
}

enum verdict { PASS, SENDER_DENIES, RECEIVER_DENIES };

// Whether the sender is the lower end. Any order does that is the same for both ways of a flow.
static __always_inline int is_from_low(const struct packet *packet)
{
	const __u32 *source = (const __u32 *)&packet->source,
		    *destination = (const __u32 *)&packet->destination;

	for (int i = 0; i < 4; i++)
		if (source[i] != destination[i])
			return source[i] < destination[i];
	return packet->source_port <= packet->destination_port;
}

static __always_inline struct flow_key key_of(const struct packet *packet, __u8 *from_low)
{
	struct flow_key key = { .protocol = packet->protocol };

	*from_low = is_from_low(packet);
	key.low = *from_low ? packet->source : packet->destination;
	key.high = *from_low ? packet->destination : packet->source;
	key.low_port = *from_low ? packet->source_port : packet->destination_port;
	key.high_port = *from_low ? packet->destination_port : packet->source_port;
	return key;
}

// Asks the side that opened the flow whether it may, and the other whether it takes it, whichever
// way this packet goes.
static __always_inline enum verdict judge(const struct settings *sender,
					  const struct settings *receiver,
					  const struct packet *packet)
{
	const __u32 only = 0;
	__u32 *changes = bpf_map_lookup_elem(&generation, &only);
	__s64 now = bpf_ktime_get_coarse_ns();
	struct question question = { .protocol = packet->protocol };
	struct flow *known, fresh = { .seen = now };
	struct flow_key key;
	__s64 silent_max;
	__u8 from_low;
	int answer;

	if (!changes || (!sender->groups_count && !receiver->groups_count))
		return PASS;
	fresh.generation = *changes; // read before any group is
	key = key_of(packet, &from_low);
	fresh.opened_low = from_low;
	known = bpf_map_lookup_elem(&flows, &key);
	silent_max = packet->protocol == IPPROTO_TCP ? TCP_SILENT_MAX : OTHER_SILENT_MAX;
	if (known && !packet->opens && now - known->seen <= silent_max) {
		if (known->generation == fresh.generation) {
			if (now - known->seen > SECOND)
				known->seen = now;
			return PASS;
		}
		fresh.opened_low = known->opened_low;
	}
	answer = fresh.opened_low != from_low;
	question.mine = answer ? receiver : sender;
	question.theirs = answer ? sender : receiver;
	question.remote = answer ? packet->source : packet->destination;
	question.port = bpf_ntohs(answer ? packet->source_port : packet->destination_port);
	if (!side_lets_pass(&question))
		return answer ? RECEIVER_DENIES : SENDER_DENIES;
	question.direction = INBOUND;
	question.mine = answer ? sender : receiver;
	question.theirs = answer ? receiver : sender;
	question.remote = answer ? packet->destination : packet->source;
	if (!side_lets_pass(&question))
		return answer ? SENDER_DENIES : RECEIVER_DENIES;
	bpf_map_update_elem(&flows, &key, &fresh, BPF_ANY);
	return PASS;
}

#endif
