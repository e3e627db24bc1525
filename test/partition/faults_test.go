//go:build linux

package partition

import (
	"crypto/rand"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/proctab"
)

// The other tests depend on the faults. Each one has its effect, in its direction,
// and ends.
func TestFaultsOfTheNetwork(t *testing.T) {
	n := NewNetwork(t, "a", "b", "c")
	sockets := map[string]*net.UDPConn{}
	for host, addr := range n.hosts {
		err := inside(n.ns(host), func() (err error) {
			sockets[host], err = net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(addr), Port: 7})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer sockets[host].Close()
	}
	// heard sends packets, and returns how many of them arrive. It stops when enough
	// have, or none has for a while.
	round := 0
	heard := func(from, to string, packets, enough int, quiet time.Duration) int {
		t.Helper()
		round++
		mark := strconv.Itoa(round)
		for range packets {
			if _, err := sockets[from].WriteTo([]byte(mark), sockets[to].LocalAddr()); err != nil {
				t.Fatal(err)
			}
		}
		count := 0
		for b := make([]byte, 16); count < enough; {
			if err := sockets[to].SetReadDeadline(time.Now().Add(quiet)); err != nil {
				t.Fatal(err)
			}
			size, _, err := sockets[to].ReadFrom(b)
			if err != nil {
				break
			}
			if string(b[:size]) == mark { // others are late ones of an earlier round
				count++
			}
		}
		return count
	}
	want := func(links string) {
		t.Helper()
		var got string
		for _, link := range []string{"ab", "ba", "ac", "bc"} {
			// Packets wait while an address is resolved, which is tried again each second.
			quiet := 300 * time.Millisecond
			if strings.Contains(links, link) {
				quiet = 10 * time.Second
			}
			if heard(link[:1], link[1:], 3, 1, quiet) > 0 {
				got += link + " "
			}
		}
		if got != links {
			t.Errorf("links that work: %q, want %q", got, links)
		}
	}
	want("ab ba ac bc ")
	n.Cut("a", "b")
	want("ac bc ")
	n.Heal()
	n.Deafen("a", n.Others("a")...)
	want("ab ac bc ")
	n.Heal()
	want("ab ba ac bc ")
	n.Lose(0.3)
	if got := heard("a", "b", 200, 200, time.Second); got < 80 || got > 190 {
		t.Errorf("%d of 200 packets arrived, want about 140", got)
	}
	n.Heal()
	if got := heard("a", "b", 50, 50, 10*time.Second); got != 50 {
		t.Errorf("%d of 50 packets arrived on a link without faults", got)
	}
}

// The sweep removes what a killed run has left behind, and nothing else.
func TestSweep(t *testing.T) {
	mine := NewNetwork(t, "h")
	dead := proctab.ID{PID: math.MaxInt32, Start: 1}
	left := owned(dead) + strings.ToLower(rand.Text()[:6]) + ".h"
	if err := run("", "ip", "netns", "add", left); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "600")
	if err := inside(left, cmd.Start); err != nil {
		t.Fatal(err)
	}
	if err := sweep(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // it was killed, or this takes ten minutes
	for ns, want := range map[string]bool{left: false, mine.hub: true, mine.ns("h"): true} {
		if _, err := os.Stat(filepath.Join(namespaces, ns)); (err == nil) != want {
			t.Errorf("namespace %s: got %v, want it to be there: %v", ns, err, want)
		}
	}
}
