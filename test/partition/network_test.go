//go:build linux

package partition

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Network has hosts, each a namespace with one link to a bridge. The bridge and all
// clients are in another namespace. Faults drop packets where they arrive, as if
// they were lost on the way; a rule at the sender would report an error to it.
// Clients are never affected.
type Network struct {
	t       testing.TB
	hub     string            // namespace of bridge and clients
	hosts   map[string]string // address of each
	owner   string            // prefix of the names of the namespaces
	restore string            // the iptables-restore that works here

	mu   sync.Mutex
	deaf map[string]map[string]bool // which hosts do not hear which
	loss float64                    // share of packets between hosts that are lost
	set  map[string]string          // current rules of each host
}

// NewNetwork creates a network without faults. It is removed after the test.
func NewNetwork(t testing.TB, hosts ...string) *Network {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces are made by root only")
	}
	for _, needed := range []string{"ip", "iptables"} {
		if _, err := exec.LookPath(needed); err != nil {
			t.Fatalf("%v: make host installs it", err)
		}
	}
	if err := sweep(); err != nil {
		t.Fatal(err)
	}
	n := &Network{
		t: t, hosts: map[string]string{}, owner: owned(self()) + strings.ToLower(rand.Text()[:6]) + ".",
		deaf: map[string]map[string]bool{}, set: map[string]string{},
	}
	n.hub = n.owner + "hub"
	t.Cleanup(func() {
		for _, ns := range n.all() {
			if err := remove(ns); err != nil {
				t.Error(err)
			}
		}
	})
	for i, host := range hosts {
		n.hosts[host] = fmt.Sprintf("10.99.0.%d", 11+i)
	}
	if err := n.build(); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *Network) all() []string {
	all := []string{n.hub}
	for host := range n.hosts {
		all = append(all, n.ns(host))
	}
	return all
}

func (n *Network) ns(host string) string { return n.owner + host }

func (n *Network) build() error {
	lines := [][]string{
		{"netns", "add", n.hub},
		{"-n", n.hub, "link", "set", "lo", "up"},
		{"-n", n.hub, "link", "add", "bridge", "type", "bridge"},
		{"-n", n.hub, "addr", "add", "10.99.0.1/24", "dev", "bridge"},
		{"-n", n.hub, "link", "set", "bridge", "up"},
	}
	for _, host := range slices.Sorted(maps.Keys(n.hosts)) {
		ns := n.ns(host)
		lines = append(lines, [][]string{
			{"netns", "add", ns},
			{"-n", ns, "link", "set", "lo", "up"},
			{"-n", ns, "link", "add", "eth0", "type", "veth", "peer", "name", host, "netns", n.hub},
			{"-n", n.hub, "link", "set", "dev", host, "master", "bridge"},
			{"-n", n.hub, "link", "set", "dev", host, "up"},
			{"-n", ns, "addr", "add", n.hosts[host] + "/24", "dev", "eth0"},
			{"-n", ns, "link", "set", "eth0", "up"},
		}...)
	}
	for _, args := range lines {
		if err := run("", "ip", args...); err != nil {
			return err
		}
	}
	// A kernel has one of two kinds of tables, and not always the match.
	probe := "*filter\n:INPUT ACCEPT\n-A INPUT -m statistic --mode random --probability 0.5 -j DROP\nCOMMIT\n*filter\n:INPUT ACCEPT\nCOMMIT\n"
	var refused []error
	for _, restore := range []string{"iptables-restore", "iptables-legacy-restore", "iptables-nft-restore"} {
		err := inside(n.hub, func() error { return run(probe, restore, "-w") })
		if err == nil {
			n.restore = restore
			return nil
		}
		refused = append(refused, err)
	}
	return fmt.Errorf("no iptables works here: %w", errors.Join(refused...))
}

// Deafen makes a host hear no others, while they still hear it.
func (n *Network) Deafen(host string, others ...string) {
	n.t.Helper()
	n.change(func() {
		for _, other := range others {
			n.mute(host, other)
		}
	})
}

// Cut separates a host from others.
func (n *Network) Cut(host string, others ...string) {
	n.t.Helper()
	n.change(func() {
		for _, other := range others {
			n.mute(host, other)
			n.mute(other, host)
		}
	})
}

// Lose drops this share of all packets between hosts.
func (n *Network) Lose(part float64) {
	n.t.Helper()
	n.change(func() { n.loss = part })
}

// Heal ends all faults.
func (n *Network) Heal() {
	n.t.Helper()
	n.change(func() { clear(n.deaf); n.loss = 0 })
}

// Others returns all hosts but one.
func (n *Network) Others(host string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(n.hosts)), func(h string) bool { return h == host })
}

// mute must be called with the lock.
func (n *Network) mute(host, other string) {
	if n.deaf[host] == nil {
		n.deaf[host] = map[string]bool{}
	}
	n.deaf[host][other] = true
}

// change sets the rules of the hosts whose rules change. The rules of one host are
// set atomically, and those of all hosts nearly at once. Otherwise a leader could
// notice the cut before it is complete.
func (n *Network) change(f func()) {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
	var group sync.WaitGroup
	for host := range n.hosts {
		rules := n.rules(host)
		if rules == n.set[host] {
			continue
		}
		n.set[host] = rules
		group.Go(func() {
			if err := inside(n.ns(host), func() error { return run(rules, n.restore, "-w") }); err != nil {
				n.t.Error(err)
			}
		})
	}
	group.Wait()
}

// rules must be called with the lock.
func (n *Network) rules(host string) string {
	var rules strings.Builder
	rules.WriteString("*filter\n:INPUT ACCEPT\n")
	for _, other := range slices.Sorted(maps.Keys(n.deaf[host])) {
		fmt.Fprintf(&rules, "-A INPUT -i eth0 -s %s -j DROP\n", n.hosts[other])
	}
	if n.loss > 0 {
		fmt.Fprintf(&rules, "-A INPUT -i eth0 ! -s 10.99.0.1 -m statistic --mode random --probability %g -j DROP\n", n.loss)
	}
	rules.WriteString("COMMIT\n")
	return rules.String()
}
