// The VPC: one program on the ingress of every ENI's near end.
//
// It does what the cloud's virtual switch does and nothing more: answers ARP for the gateway,
// refuses a source address that is not the sender's, asks the security groups of both ENIs
// (groups.bpf.h), and hands a packet to the ENI that owns its destination. Who owns what is told
// from user space; the layouts below are the contract with src/fabric/layout.rs, byte for byte, in
// network order unless a comment says otherwise.
//
// It never lets a frame through to the namespace's own stack: every path ends in a redirect or in
// TC_ACT_SHOT. (TC_ACT_OK would end the chain of programs and hand the frame to that stack.)

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "groups.bpf.h"

// An ENI seen from here: a link of this namespace, and the VLAN on it when a trunk carries the ENI.
struct port {
	__be32 ifindex;
	__be16 vlan; // 0: untagged
	__u8 zero[2];
};

// Where an address is: the ENI that owns it and the Ethernet address to put on the frame.
struct place {
	struct port port;
	__u8 mac[6];
	__u8 zero[2];
};

// Key of a longest-prefix-match map; the kernel fixes its shape and wants `bits` in host order.
struct prefix {
	__u32 bits;
	struct address address;
};

// Every frame received ends in exactly one of: delivered and denied_in (counted at the receiver),
// arp_answered, spoofed, unowned, malformed, refused, denied_out. Host order, one copy for each CPU.
struct counters {
	__u64 received_packets;
	__u64 received_bytes;
	__u64 delivered_packets;
	__u64 delivered_bytes;
	__u64 arp_answered;
	__u64 spoofed;
	__u64 unowned;
	__u64 malformed;
	__u64 refused;
	__u64 denied_out;
	__u64 denied_in;
};

// Ethernet and IPv4 ARP, RFC 826.
struct arp {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[6];
	__be32 sender;
	__u8 target_mac[6];
	__be32 target;
} __attribute__((packed));

struct macs {
	__u8 destination[6];
	__u8 source[6];
};

_Static_assert(sizeof(struct port) == 8, "port: src/fabric/layout.rs");
_Static_assert(sizeof(struct place) == 16, "place: src/fabric/layout.rs");
_Static_assert(sizeof(struct prefix) == 20, "prefix: src/fabric/layout.rs");
_Static_assert(sizeof(struct counters) == 11 * 8, "counters: src/fabric/counters.rs");
_Static_assert(sizeof(struct arp) == 28, "ARP: RFC 826");

// 128 nodes of 8 ENIs and their trunk members, with room to spare; entries are made on demand.
#define PORTS_MAX 4096
// 128 nodes of 8 ENIs of 49 addresses make 50,176.
#define ADDRESSES_MAX 65536
// The cloud allows 200 custom entries in a route table by default; ten times that.
#define ROUTES_MAX 2048

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ADDRESSES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address);
	__type(value, struct place);
} owners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, ROUTES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, struct place);
} routes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PORTS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct port);
	__type(value, struct settings);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, PORTS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct port);
	__type(value, struct counters);
} counts SEC(".maps");

static const __u8 GATEWAY[6] = { 0xee, 0xff, 0xff, 0xff, 0xff, 0xff };

#define ARP_ETHERNET 1
#define ARP_REQUEST 1
#define ARP_REPLY 2
#define VLAN_ID_MASK 0x0fff

static __always_inline struct address mapped(__be32 ipv4)
{
	struct address address = { .octets = { [10] = 0xff, [11] = 0xff } };

	__builtin_memcpy(&address.octets[12], &ipv4, 4);
	return address;
}

static __always_inline int same(const struct port *a, const struct port *b)
{
	return a->ifindex == b->ifindex && a->vlan == b->vlan;
}

static __always_inline int checked(const struct port *port)
{
	struct settings *settings = bpf_map_lookup_elem(&ports, port);

	return !settings || settings->source_dest_check;
}

// SourceDestCheck, sending side: the source must be an address of the very ENI that sends.
static __always_inline int may_send_from(const struct settings *sender, const struct port *from,
					 const struct address *source)
{
	struct place *owner;

	if (!sender->source_dest_check)
		return 1;
	owner = bpf_map_lookup_elem(&owners, source);
	return owner && same(&owner->port, from);
}

// A node asks for the gateway of a secondary ENI with the address of its primary one, because the
// ENI's own addresses are its pods'. Nodes of the real cloud do so and are answered; what else the
// cloud would answer is not known, so an address nobody owns is refused.
static __always_inline int asker_known(__be32 sender)
{
	struct address address = mapped(sender);

	return bpf_map_lookup_elem(&owners, &address) != 0;
}

// An owned address goes to its owner. Anything else goes where the VPC route table says, unless
// the ENI there has SourceDestCheck on: that one takes only what is its own.
static __always_inline struct place *place_of(const struct address *destination)
{
	struct prefix key = { .bits = 128, .address = *destination };
	struct place *place = bpf_map_lookup_elem(&owners, &key.address);

	if (place)
		return place;
	place = bpf_map_lookup_elem(&routes, &key);
	if (!place || checked(&place->port))
		return 0;
	return place;
}

static __always_inline int retag(struct __sk_buff *skb, __be16 from, __be16 to)
{
	if (from == to)
		return 0;
	if (from && bpf_skb_vlan_pop(skb))
		return -1;
	if (to && bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), bpf_ntohs(to)))
		return -1;
	return 0;
}

static __always_inline int drop(__u64 *counter)
{
	*counter += 1;
	return TC_ACT_SHOT;
}

// Rewrites the frame for its receiver and counts it there.
static __always_inline int deliver(struct __sk_buff *skb, const struct port *from,
				   const struct place *place, struct counters *mine,
				   struct counters *theirs)
{
	struct macs macs;

	__builtin_memcpy(macs.destination, place->mac, 6);
	__builtin_memcpy(macs.source, GATEWAY, 6);
	if (bpf_skb_store_bytes(skb, 0, &macs, sizeof(macs), 0))
		return drop(&mine->malformed);
	if (retag(skb, from->vlan, place->port.vlan))
		return drop(&mine->refused);
	theirs->delivered_packets += 1;
	theirs->delivered_bytes += skb->len;
	return bpf_redirect(bpf_ntohl(place->port.ifindex), 0);
}

// What both families have in common: `packet` is what was read of the frame.
static __always_inline int forward(struct __sk_buff *skb, const struct port *from,
				   const struct packet *packet, int judged, struct counters *mine)
{
	struct settings *sender = bpf_map_lookup_elem(&ports, from), *receiver;
	struct counters *theirs;
	struct place *to, place;

	if (!sender || !may_send_from(sender, from, &packet->source))
		return drop(&mine->spoofed);
	to = place_of(&packet->destination);
	if (!to)
		return drop(&mine->unowned);
	// The map's entry may change under us; the frame's header and tag must name one place.
	place = *to;
	theirs = bpf_map_lookup_elem(&counts, &place.port);
	receiver = bpf_map_lookup_elem(&ports, &place.port);
	if (!theirs || !receiver) // its ENI is being unplugged
		return drop(&mine->unowned);
	if (judged) {
		switch (judge(sender, receiver, packet)) {
		case SENDER_DENIES:
			return drop(&mine->denied_out);
		case RECEIVER_DENIES:
			return drop(&theirs->denied_in);
		default:
			break;
		}
	}
	return deliver(skb, from, &place, mine, theirs);
}

// Reads what belongs to the transport. A packet too short for ports has none.
static __always_inline void transport(struct __sk_buff *skb, __u32 at, struct packet *packet)
{
	__u8 flags = 0;

	switch (packet->protocol) {
	case IPPROTO_TCP:
		bpf_skb_load_bytes(skb, at + TCP_FLAGS_AT, &flags, 1);
		packet->opens = (flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
		// fall through
	case IPPROTO_UDP:
		bpf_skb_load_bytes(skb, at, &packet->source_port, 2);
		bpf_skb_load_bytes(skb, at + 2, &packet->destination_port, 2);
		break;
	case IPPROTO_ICMP:
		bpf_skb_load_bytes(skb, at + ICMP_ECHO_ID_AT, &packet->source_port, 2);
		packet->destination_port = packet->source_port;
		break;
	}
}

static __always_inline int ipv4(struct __sk_buff *skb, const struct port *from,
				struct counters *mine)
{
	struct packet packet = {};
	struct iphdr ip;
	__u32 length;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return drop(&mine->malformed);
	length = bpf_ntohs(ip.tot_len);
	if (ip.version != 4 || ip.ihl < 5 || length < ip.ihl * 4 || skb->len < ETH_HLEN + length)
		return drop(&mine->malformed);
	packet.source = mapped(ip.saddr);
	packet.destination = mapped(ip.daddr);
	packet.protocol = ip.protocol;
	transport(skb, ETH_HLEN + ip.ihl * 4, &packet);
	// Only a packet's first fragment has its ports; without that one the others are worth nothing.
	return forward(skb, from, &packet, !(bpf_ntohs(ip.frag_off) & FRAGMENT_OFFSET), mine);
}

// Whatever is asked for is behind the gateway. What is said without being asked (gratuitous ARP,
// probes, replies) is refused: the cloud, not an announcement, decides who owns an address.
static __always_inline int arp(struct __sk_buff *skb, struct counters *mine)
{
	struct arp arp;
	struct macs macs;
	__be32 asked;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &arp, sizeof(arp)) ||
	    arp.hardware != bpf_htons(ARP_ETHERNET) || arp.protocol != bpf_htons(ETH_P_IP) ||
	    arp.hardware_length != 6 || arp.protocol_length != 4)
		return drop(&mine->malformed);
	if (arp.operation != bpf_htons(ARP_REQUEST) || !arp.sender || arp.sender == arp.target)
		return drop(&mine->refused);
	if (!asker_known(arp.sender))
		return drop(&mine->spoofed);

	asked = arp.target;
	arp.operation = bpf_htons(ARP_REPLY);
	__builtin_memcpy(arp.target_mac, arp.sender_mac, 6);
	__builtin_memcpy(arp.sender_mac, GATEWAY, 6);
	arp.target = arp.sender;
	arp.sender = asked;
	__builtin_memcpy(macs.destination, arp.target_mac, 6);
	__builtin_memcpy(macs.source, GATEWAY, 6);
	if (bpf_skb_store_bytes(skb, 0, &macs, sizeof(macs), 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, &arp, sizeof(arp), 0))
		return drop(&mine->malformed);
	mine->arp_answered += 1;
	return bpf_redirect(skb->ifindex, 0); // the tag, if any, is still on the frame
}

SEC("classifier")
int fabric(struct __sk_buff *skb)
{
	struct port from = { .ifindex = bpf_htonl(skb->ifindex) };
	struct counters *mine;
	int known_vlan;

	if (skb->vlan_present)
		from.vlan = bpf_htons(skb->vlan_tci & VLAN_ID_MASK);
	mine = bpf_map_lookup_elem(&counts, &from);
	known_vlan = mine != 0;
	if (!known_vlan) { // a tag that no member of this trunk has: the trunk answers for it
		from.vlan = 0;
		mine = bpf_map_lookup_elem(&counts, &from);
		if (!mine)
			return TC_ACT_SHOT;
	}
	mine->received_packets += 1;
	mine->received_bytes += skb->len;
	if (!known_vlan)
		return drop(&mine->spoofed);
	switch (bpf_ntohs(skb->protocol)) {
	case ETH_P_IP:
		return ipv4(skb, &from, mine);
	case ETH_P_ARP:
		return arp(skb, mine);
	default:
		return drop(&mine->refused);
	}
}

char LICENSE[] SEC("license") = "Apache-2.0";
