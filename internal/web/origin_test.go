package web

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHostPolicy(t *testing.T) {
	loopback, open := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.TCPAddr{IP: net.IPv4zero}
	names := []string{"box", "c1.example.org:7946"}
	const ok = "" // else the header that is refused
	type headers struct{ host, origin, site string }
	for _, tt := range []struct {
		name     string
		listener net.Addr
		allowed  []string
		headers  headers
		want     string
	}{
		{"loopback", loopback, nil, headers{"127.0.0.1:8000", "", ""}, ok},
		{"another loopback address", loopback, nil, headers{"127.9.9.9", "", ""}, ok},
		{"IPv6 loopback", loopback, nil, headers{"[::1]:8000", "", ""}, ok},
		{"IPv4 in IPv6", loopback, nil, headers{"[::ffff:127.0.0.1]:8000", "", ""}, ok},
		{"localhost", loopback, nil, headers{"localhost:8000", "", ""}, ok},
		{"in another spelling", loopback, nil, headers{"LocalHost.:8000", "", ""}, ok},
		{"HTTP/1.0", loopback, nil, headers{"", "", ""}, ok},
		{"no listener", nil, nil, headers{"localhost", "", ""}, ok},
		{"no listener, rebound", nil, nil, headers{"rebound.example", "", ""}, "Host"},
		{"rebound", loopback, nil, headers{"rebound.example:8000", "", ""}, "Host"},
		{"rebound, of the same origin", loopback, nil, headers{"rebound.example:8000", "http://rebound.example:8000", "same-origin"}, "Host"},
		{"begins like loopback", loopback, nil, headers{"127.0.0.1.rebound.example", "", ""}, "Host"},
		{"begins like localhost", loopback, nil, headers{"localhost.rebound.example", "", ""}, "Host"},
		{"service on loopback", loopback, nil, headers{"controller:8000", "", ""}, "Host"},
		{"another machine's address on loopback", loopback, nil, headers{"192.0.2.1:8000", "", ""}, "Host"},
		{"no host", loopback, nil, headers{":8000", "", ""}, "Host"},
		{"text", loopback, nil, headers{"local\"host", "", ""}, "Host"},
		{"allowed", loopback, []string{"Fleet.Example.com"}, headers{"fleet.example.com:443", "", ""}, ok},
		{"below an allowed name", loopback, []string{"example.com"}, headers{"fleet.example.com", "", ""}, "Host"},
		{"matches a pattern", loopback, []string{"*.example.com"}, headers{"a.fleet.example.com", "", ""}, ok},
		{"the pattern itself", loopback, []string{"*.example.com"}, headers{"example.com", "", ""}, "Host"},
		{"ends like a pattern", loopback, []string{"*.example.com"}, headers{"badexample.com", "", ""}, "Host"},
		{"allowed address", loopback, []string{"192.0.2.1", "[2001:db8::1]"}, headers{"[2001:db8::1]:80", "", ""}, ok},
		{"any", loopback, []string{"*"}, headers{"rebound.example", "", ""}, ok},

		{"an address of the machine", open, nil, headers{"192.0.2.1:8000", "", ""}, ok},
		{"an address with a zone", open, nil, headers{"[fe80::1%25eth0]:8000", "", ""}, ok},
		{"its name", open, nil, headers{"BOX:8000", "", ""}, ok},
		{"its name with a domain", open, nil, headers{"c1.example.org:8000", "", ""}, ok},
		{"a service", open, nil, headers{"mcp_controller:8000", "", ""}, ok},
		{"a service of Kubernetes", open, nil, headers{"mcpfleet.prod.svc.cluster.local", "", ""}, ok},
		{"rebound from elsewhere", open, nil, headers{"rebound.example:8000", "", ""}, "Host"},
		{"a local name on loopback", loopback, nil, headers{"box.local", "", ""}, "Host"},

		{"same origin", loopback, nil, headers{"localhost:8000", "http://localhost:8000", "same-origin"}, ok},
		{"same origin on port 80", open, nil, headers{"box", "http://BOX:80", ""}, ok},
		{"same origin behind TLS", open, nil, headers{"box", "https://box", ""}, ok},
		{"typed by the user", loopback, nil, headers{"localhost:8000", "", "none"}, ok},
		{"another origin", loopback, nil, headers{"localhost:8000", "https://evil.example", "cross-site"}, "Origin"},
		{"another origin, without Sec-Fetch-Site", open, nil, headers{"192.0.2.1:8000", "http://evil.example", ""}, "Origin"},
		{"another port", loopback, nil, headers{"localhost:8000", "http://localhost:3000", "same-site"}, "Origin"},
		{"a file or a sandbox", loopback, nil, headers{"localhost:8000", "null", "cross-site"}, "Origin"},
		{"an extension", loopback, nil, headers{"localhost:8000", "chrome-extension://localhost:8000", "none"}, "Origin"},
		{"an image of another page", loopback, nil, headers{"localhost:8000", "", "cross-site"}, "Sec-Fetch-Site"},
		{"an image of a page on another port", loopback, nil, headers{"localhost:8000", "", "same-site"}, "Sec-Fetch-Site"},
		{"allowed origin", loopback, []string{"ui.example"}, headers{"localhost:8000", "https://ui.example:8443", "cross-site"}, ok},
		{"any host, same origin", loopback, []string{"*"}, headers{"fleet.example", "https://fleet.example", "same-origin"}, ok},
		{"any host, another origin", loopback, []string{"*"}, headers{"localhost:8000", "https://evil.example", "cross-site"}, "Origin"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/tools", nil)
		r.Host = tt.headers.host
		for name, value := range map[string]string{"Origin": tt.headers.origin, "Sec-Fetch-Site": tt.headers.site} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		err := newHostPolicy(tt.listener, names, tt.allowed).check(r)
		switch {
		case (err == nil) != (tt.want == ok):
			t.Errorf("%s: got %v, want refused for %q", tt.name, err, tt.want)
		case err != nil && (!strings.HasPrefix(err.Error(), "the "+tt.want+" header ") || !strings.Contains(err.Error(), "--allowed-hosts")):
			t.Errorf("%s: got %q, want it to name %s and --allowed-hosts", tt.name, err, tt.want)
		}
	}
}

func BenchmarkHostPolicy(b *testing.B) {
	p := newHostPolicy(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, []string{"box"}, nil)
	r := httptest.NewRequest(http.MethodPost, "/call", nil)
	r.Host = "127.0.0.1:8000"
	b.ReportAllocs()
	for b.Loop() {
		if err := p.check(r); err != nil {
			b.Fatal(err)
		}
	}
}
