// At an ENI whose addresses pods have on ipvlan devices: what they send to the node or to a Service goes to
// the node's own stack and not to the VPC.
//
// A pod's frame leaves the ENI without having passed the node's stack, so nobody would translate a Service's
// address. It is given to the node's own ipvlan device as if it had come in there. The layouts below are the
// contract with src/ipvlan/program.rs; host order unless a type says otherwise.
//
// A frame that is not for the node goes on to the filters of others (TC_ACT_UNSPEC) and then to the VPC.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// The key of a trie: how many of the bits behind it count (struct bpf_lpm_trie_key), then an ENI and a
// network of it. An IPv4 network is kept as ::ffff:a.b.c.d, so that both families share one map.
struct network {
	__u32 bits;
	__be32 eni; // index of its link
	__be32 words[4];
};

_Static_assert(sizeof(struct network) == 24, "network: src/ipvlan/program.rs");

#define ALL_BITS (32 + 128)

// A few addresses of the node, its cluster's Services and what is configured, in both families, for each of
// the few dozen ENIs that the largest instances have.
#define NETWORKS_MAX 4096

// Index of the node's device on the ENI.
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, NETWORKS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct network);
	__type(value, __u32);
} networks SEC(".maps");

// kube-proxy's mark for "let the answer come back to this node" (--iptables-masquerade-bit, 14 by default).
// Without it whoever answers for a Service would answer the pod directly, past the translation.
#define MASQUERADE 0x4000

SEC("classifier")
int to_host(struct __sk_buff *skb)
{
	struct network to;
	__u8 own[ETH_ALEN];
	__u32 *slave;

	// The node forwards this itself: it has been in its stack, and would come again and again.
	if (skb->ingress_ifindex)
		return TC_ACT_UNSPEC;
	// What is loaded comes first, to memory that nothing was written to: see trunk.bpf.c.
	switch (bpf_ntohs(skb->protocol)) {
	case ETH_P_IP:
		bpf_skb_load_bytes(skb, ETH_HLEN + __builtin_offsetof(struct iphdr, daddr),
				   &to.words[3], 4);
		to.words[0] = 0;
		to.words[1] = 0;
		to.words[2] = bpf_htonl(0xffff);
		break;
	case ETH_P_IPV6:
		bpf_skb_load_bytes(skb, ETH_HLEN + __builtin_offsetof(struct ipv6hdr, daddr),
				   to.words, sizeof(to.words));
		break;
	default:
		return TC_ACT_UNSPEC;
	}
	to.eni = bpf_htonl(skb->ifindex);
	// A constant counts as stored as a whole, so nothing may be written beside it any more.
	barrier();
	to.bits = ALL_BITS;
	slave = bpf_map_lookup_elem(&networks, &to);
	if (!slave)
		return TC_ACT_UNSPEC;
	// All devices of the ENI have its MAC, and the frame bears the gateway's.
	if (bpf_skb_load_bytes(skb, ETH_ALEN, own, sizeof(own)) ||
	    bpf_skb_store_bytes(skb, 0, own, sizeof(own), 0))
		return TC_ACT_SHOT;
	skb->mark |= MASQUERADE;
	return bpf_redirect(*slave, BPF_F_INGRESS);
}

char LICENSE[] SEC("license") = "Apache-2.0";
