package advertise

import (
	"net"
	"testing"
)

func TestHost(t *testing.T) {
	own, err := ownAddress()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ bind, given, want string }{
		{"127.0.0.1", "", "127.0.0.1"},
		{"localhost", "", "localhost"},
		{"127.0.0.1", "worker-1", "worker-1"},
		{"0.0.0.0", "worker-1", "worker-1"},
		{"0.0.0.0", "worker-1:7946", "worker-1"},
		{"0.0.0.0", "fd00::1", "fd00::1"},
		{"0.0.0.0", "", own},
		{"::", "", own},
		{"::ffff:0.0.0.0", "", own},
		{"", "", own},
	} {
		if got, err := Host(tc.bind, tc.given); got != tc.want || err != nil {
			t.Errorf("%+v: got %q, %v", tc, got, err)
		}
	}
	if ip := net.ParseIP(own); ip == nil || ip.IsLoopback() || ip.IsUnspecified() {
		t.Errorf("this machine is advertised as %q", own)
	}
}

func TestAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for given, want := range map[string]string{"": "127.0.0.1:" + port, "fd00::1": "[fd00::1]:" + port, "c1:7946": "c1:" + port} {
		if got, err := Address(l.Addr(), given); got != want || err != nil {
			t.Errorf("%q: got %q, %v", given, got, err)
		}
	}
	if got, err := Address(&net.UnixAddr{Name: "/run/x"}, ""); err == nil {
		t.Errorf("without a port: got %q", got)
	}
}

func TestPickAddress(t *testing.T) {
	nets := func(cidrs ...string) (addrs []net.Addr) {
		for _, c := range cidrs {
			ip, n, err := net.ParseCIDR(c)
			if err != nil {
				t.Fatal(err)
			}
			addrs = append(addrs, &net.IPNet{IP: ip, Mask: n.Mask})
		}
		return addrs
	}
	for _, tc := range []struct {
		addrs []net.Addr
		want  string
	}{
		{nets("127.0.0.1/8", "172.18.0.3/16", "10.88.0.1/16"), "172.18.0.3"},
		{nets("127.0.0.1/8", "203.0.113.5/24", "10.0.0.1/8"), "10.0.0.1"},
		{nets("203.0.113.5/24", "::1/128"), "203.0.113.5"},
		{nets("127.0.0.1/8", "fe80::1/64"), ""},
	} {
		got, err := pickAddress(tc.addrs)
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%v: got %q, %v, want %q", tc.addrs, got, err, tc.want)
		}
	}
}

func TestListener(t *testing.T) {
	for _, tt := range []struct {
		bind, given, want string
		loopback          bool
	}{
		{"127.0.0.1:0", "other", "127.0.0.1", true},
		{"127.0.0.1:0", "", "127.0.0.1", true},
		{"0.0.0.0:0", "other", "other", false},
		{"0.0.0.0:0", "other:7946", "other", false},
	} {
		l, err := net.Listen("tcp", tt.bind)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		got, err := Listener(l, tt.given)
		if want := net.JoinHostPort(tt.want, port); got != want || err != nil || OnLoopback(l) != tt.loopback {
			t.Errorf("%+v: got %q, %v, on loopback: %v", tt, got, err, OnLoopback(l))
		}
	}
}
