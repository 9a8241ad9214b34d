//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// table is the name of the packet filter's table. Its rules are those of
//
//	nft 'table inet composetest {
//	  chain in  { type filter hook input priority 0; iif != lo drop; }
//	  chain out { type filter hook output priority 0; oif != lo drop; }
//	}'
const table = "composetest"

// loopback is the index of lo in every network namespace.
const loopback = 1

// drop is NF_DROP, the verdict that drops a packet.
const drop = 0

// sizeofNfgenmsg is the size of the header that header adds after that of netlink.
const sizeofNfgenmsg = 4

// message is a message to nf_tables.
type message struct {
	kind       uint16 // unix.NFT_MSG_*
	flags      uint16
	attributes []byte
}

// dropAll returns the messages that create the table.
func dropAll() []message {
	messages := []message{{unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, text(unix.NFTA_TABLE_NAME, table)}}
	for _, direction := range []struct {
		chain     string
		hook      uint32
		ofPackets uint32 // the interface of a packet
	}{
		{"in", unix.NF_INET_LOCAL_IN, unix.NFT_META_IIF},
		{"out", unix.NF_INET_LOCAL_OUT, unix.NFT_META_OIF},
	} {
		messages = append(messages,
			message{unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, slices.Concat(
				text(unix.NFTA_CHAIN_TABLE, table),
				text(unix.NFTA_CHAIN_NAME, direction.chain),
				nested(unix.NFTA_CHAIN_HOOK, number(unix.NFTA_HOOK_HOOKNUM, direction.hook), number(unix.NFTA_HOOK_PRIORITY, 0)),
				text(unix.NFTA_CHAIN_TYPE, "filter"),
			)},
			message{unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE | unix.NLM_F_APPEND, slices.Concat(
				text(unix.NFTA_RULE_TABLE, table),
				text(unix.NFTA_RULE_CHAIN, direction.chain),
				nested(unix.NFTA_RULE_EXPRESSIONS, dropUnlessLoopback(direction.ofPackets)...),
			)},
		)
	}
	return messages
}

// dropUnlessLoopback returns the expressions of a rule: load the interface, compare it
// with lo, drop.
func dropUnlessLoopback(packetInterface uint32) [][]byte {
	return [][]byte{
		expression("meta", number(unix.NFTA_META_KEY, packetInterface), number(unix.NFTA_META_DREG, unix.NFT_REG_1)),
		expression("cmp", number(unix.NFTA_CMP_SREG, unix.NFT_REG_1), number(unix.NFTA_CMP_OP, unix.NFT_CMP_NEQ),
			// The kernel loads the interface in the byte order of the machine.
			nested(unix.NFTA_CMP_DATA, attribute(unix.NFTA_DATA_VALUE, binary.NativeEndian.AppendUint32(nil, loopback)))),
		expression("immediate", number(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT),
			nested(unix.NFTA_IMMEDIATE_DATA, nested(unix.NFTA_DATA_VERDICT, number(unix.NFTA_VERDICT_CODE, drop)))),
	}
}

func deleteTable() message {
	return message{unix.NFT_MSG_DELTABLE, 0, text(unix.NFTA_TABLE_NAME, table)}
}

func expression(name string, data ...[]byte) []byte {
	return nested(unix.NFTA_LIST_ELEM, text(unix.NFTA_EXPR_NAME, name), nested(unix.NFTA_EXPR_DATA, data...))
}

func text(kind uint16, value string) []byte { return attribute(kind, append([]byte(value), 0)) }

func number(kind uint16, value uint32) []byte {
	return attribute(kind, binary.BigEndian.AppendUint32(nil, value))
}

func nested(kind uint16, attributes ...[]byte) []byte {
	return attribute(kind|unix.NLA_F_NESTED, slices.Concat(attributes...))
}

// attribute encodes an attribute: its length, its kind, its value, and zeros up to a
// multiple of four bytes.
func attribute(kind uint16, value []byte) []byte {
	encoded := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	encoded = binary.NativeEndian.AppendUint16(encoded, kind)
	encoded = append(encoded, value...)
	return append(encoded, make([]byte, -len(encoded)&3)...)
}

// send has the kernel carry out all messages or none of them.
func send(messages []message) error {
	socket, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("opening a netlink socket: %w", err)
	}
	defer unix.Close(socket)
	if err := unix.Sendto(socket, batch(messages), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("changing the packet filter: %w", err)
	}
	return answer(socket)
}

// batch encodes the messages. The kernel answers the last one, and any that fails.
func batch(messages []message) []byte {
	encoded := header(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
	for i, m := range messages {
		if i == len(messages)-1 {
			m.flags |= unix.NLM_F_ACK
		}
		encoded = append(encoded, header(unix.NFNL_SUBSYS_NFTABLES<<8|m.kind, m.flags, unix.NFPROTO_INET, 0, m.attributes)...)
	}
	return append(encoded, header(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)...)
}

// header encodes a message with the headers of netlink (nlmsghdr) and nf_tables
// (nfgenmsg).
func header(kind, flags uint16, family byte, resource uint16, attributes []byte) []byte {
	encoded := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+sizeofNfgenmsg+len(attributes)))
	encoded = binary.NativeEndian.AppendUint16(encoded, kind)
	encoded = binary.NativeEndian.AppendUint16(encoded, flags|unix.NLM_F_REQUEST)
	encoded = append(encoded, make([]byte, 8)...) // sequence and port: there is only one exchange
	encoded = append(encoded, family, unix.NFNETLINK_V0)
	encoded = binary.BigEndian.AppendUint16(encoded, resource)
	return append(encoded, attributes...)
}

// answer reads the kernel's answer.
func answer(socket int) error {
	buffer := make([]byte, 64<<10)
	n, _, err := unix.Recvfrom(socket, buffer, 0)
	if err != nil {
		return fmt.Errorf("reading the answer of the packet filter: %w", err)
	}
	answers, err := syscall.ParseNetlinkMessage(buffer[:n])
	if err != nil || len(answers) == 0 {
		return errors.Join(errors.New("the packet filter's answer cannot be parsed"), err)
	}
	for _, a := range answers {
		if a.Header.Type != unix.NLMSG_ERROR || len(a.Data) < 4 {
			return fmt.Errorf("the packet filter answered with a message of type %d, want an acknowledgment", a.Header.Type)
		}
		if code := int32(binary.NativeEndian.Uint32(a.Data)); code != 0 {
			return fmt.Errorf("changing the packet filter: %w", unix.Errno(-code))
		}
	}
	return nil
}
