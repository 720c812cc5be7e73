// The trunk ENI of a node: one program that tags what leaves, one that takes the tag off what comes.
//
// A VLAN is a member ENI, and so an identity in the VPC. Nothing may wear it but the pod it belongs
// to, told by the link its frames came in by and by their source; nothing may reach that pod but
// what came under its VLAN. Frames of others pass untouched. Who is who is told from user space;
// the layouts below are the contract with src/trunk/layout.rs, byte for byte, in network order
// unless a comment says otherwise.
//
// A frame that is not dropped goes on to the filters of others (TC_ACT_UNSPEC; TC_ACT_OK would end
// the chain) and then to the kernel.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// An IPv4 address is kept as ::ffff:a.b.c.d, so that both families share one map.
struct address {
	__be32 words[4];
};

struct member {
	__be32 ifindex; // the node's end of the pod's link
	__be16 vlan;
	__u8 link_mac[6]; // of that end; for user space
};

// Host order, one copy for each CPU.
struct counters {
	__u64 tagged;
	__u64 untagged;
	__u64 foreign_source;
	__u64 wrong_vlan;
	__u64 bare;
	__u64 refused;
};

_Static_assert(sizeof(struct address) == 16, "address: src/trunk/layout.rs");
_Static_assert(sizeof(struct member) == 12, "member: src/trunk/layout.rs");
_Static_assert(sizeof(struct counters) == 6 * 8, "counters: src/trunk/layout.rs");

// The largest instances carry a few hundred member ENIs (EniTotalQuantity less EniQuantity). 512 of
// them with an address of each family.
#define LINKS_MAX 512
#define MEMBERS_MAX (2 * LINKS_MAX)

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MEMBERS_MAX);
	__type(key, struct address);
	__type(value, struct member);
} members SEC(".maps");

// Links of trunk pods, whatever address a frame that came in by one claims to be from.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LINKS_MAX);
	__type(key, __be32);
	__type(value, __u8);
} links SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counts SEC(".maps");

#define VLAN_ID_MASK 0x0fff
#define COUNT(what)                                                      \
	do {                                                             \
		__u32 first = 0;                                         \
		struct counters *all = bpf_map_lookup_elem(&counts, &first); \
		if (all)                                                 \
			all->what += 1;                                  \
	} while (0)
#define DROP(why)                      \
	do {                           \
		COUNT(why);            \
		return TC_ACT_SHOT;    \
	} while (0)

// Who holds the address `ipv4` or `ipv6` bytes into the IP header; nobody when there is none.
//
// So that older kernels, 6.1 for one, take it without CAP_PERFMON: what is loaded comes first, to memory that
// nothing was written to (they refuse to write over a part of what was stored as a whole), and what is
// looked up is never null by a branch of ours (they try such branches both ways). A frame that is too
// short leaves zeroes, the address of nobody.
static __always_inline struct member *member_at(struct __sk_buff *skb, __u32 ipv4, __u32 ipv6)
{
	struct address address;

	switch (bpf_ntohs(skb->protocol)) {
	case ETH_P_IP:
		bpf_skb_load_bytes(skb, ETH_HLEN + ipv4, &address.words[3], 4);
		address.words[0] = 0;
		address.words[1] = 0;
		address.words[2] = bpf_htonl(0xffff);
		break;
	case ETH_P_IPV6:
		bpf_skb_load_bytes(skb, ETH_HLEN + ipv6, &address, sizeof(address));
		break;
	default:
		address = (struct address){};
	}
	return bpf_map_lookup_elem(&members, &address);
}

SEC("classifier")
int leave(struct __sk_buff *skb)
{
	__be32 came_by = bpf_htonl(skb->ingress_ifindex); // 0: the node itself
	struct member *member;

	if (skb->vlan_present) // by whoever may put frames on this link himself
		return TC_ACT_UNSPEC;
	member = member_at(skb, __builtin_offsetof(struct iphdr, saddr),
			   __builtin_offsetof(struct ipv6hdr, saddr));
	if (!member) {
		if (bpf_map_lookup_elem(&links, &came_by))
			DROP(foreign_source);
		return TC_ACT_UNSPEC;
	}
	if (member->ifindex != came_by)
		DROP(foreign_source);
	if (bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), bpf_ntohs(member->vlan)))
		DROP(refused);
	COUNT(tagged);
	return TC_ACT_UNSPEC;
}

SEC("classifier")
int arrive(struct __sk_buff *skb)
{
	struct member *member = member_at(skb, __builtin_offsetof(struct iphdr, daddr),
					  __builtin_offsetof(struct ipv6hdr, daddr));

	if (!skb->vlan_present) {
		if (member)
			DROP(bare);
		return TC_ACT_UNSPEC;
	}
	if (!member || skb->vlan_proto != bpf_htons(ETH_P_8021Q) ||
	    bpf_ntohs(member->vlan) != (skb->vlan_tci & VLAN_ID_MASK))
		DROP(wrong_vlan);
	if (bpf_skb_vlan_pop(skb))
		DROP(refused);
	// The frame may be addressed to the member's MAC, which no link of this node has.
	if (skb->pkt_type == PACKET_OTHERHOST && bpf_skb_change_type(skb, PACKET_HOST))
		DROP(refused);
	COUNT(untagged);
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Apache-2.0";
