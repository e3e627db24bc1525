package web

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// A web page can make its visitor's browser send requests to any address that
// the browser reaches, loopback included. hostPolicy recognises such requests by
// three headers that no page can forge:
//
//   - Host. A page whose own name was pointed at this controller (DNS
//     rebinding) is of the same origin as its answers, but its requests carry
//     that name. So only names that an outsider cannot own are accepted.
//   - Origin. Browsers send it with every request that can change anything.
//   - Sec-Fetch-Site. Browsers send it with all requests to loopback addresses
//     and to https.
//
// A request without these headers does not come from a browser and passes.
type hostPolicy struct {
	loopback bool            // only this machine can reach the listener
	names    map[string]bool // by which operators call this controller
	allowed  map[string]bool // hosts of --allowed-hosts
	suffixes []string        // of --allowed-hosts, such as .example.com
	any      bool            // --allowed-hosts has "*"
}

// newHostPolicy returns the policy for a listener. The strictest one is that for
// loopback, which a nil address gets.
func newHostPolicy(listener net.Addr, names, allowed []string) *hostPolicy {
	p := &hostPolicy{loopback: true, names: map[string]bool{}, allowed: map[string]bool{}}
	if tcp, ok := listener.(*net.TCPAddr); ok {
		p.loopback = tcp.IP.IsLoopback()
	}
	for _, name := range names {
		if name = bareHost(name); name != "" {
			p.names[name] = true
		}
	}
	for _, h := range allowed {
		switch host := bareHost(strings.TrimPrefix(h, "*.")); {
		case h == fleet.AnyHost:
			p.any = true
		case host == "":
		case strings.HasPrefix(h, "*."):
			p.suffixes = append(p.suffixes, "."+host)
		default:
			p.allowed[host] = true
		}
	}
	return p
}

// check returns an error if a web page of another origin sent the request.
func (p *hostPolicy) check(r *http.Request) error {
	if !p.acceptsHost(r.Host) {
		return forbidden("the Host header names %s, which is not a name of this controller; if clients are meant to use it, add it to --allowed-hosts", Shorten(r.Host))
	}
	allowed := false
	for _, origin := range r.Header["Origin"] {
		if allowed = p.allowsOrigin(origin); !allowed && !sameOrigin(origin, r.Host) {
			return forbidden("the Origin header says that a page of %s sent the request; pages of other origins may not use this API, "+
				"unless --allowed-hosts has their host", Shorten(origin))
		}
	}
	for _, site := range r.Header["Sec-Fetch-Site"] {
		if site != "same-origin" && site != "none" && !allowed {
			return forbidden("the Sec-Fetch-Site header says that the request is %s; pages of other origins may not use this API, "+
				"unless --allowed-hosts has their host", Shorten(site))
		}
	}
	return nil
}

func forbidden(format string, args ...any) error {
	return &Error{Status: http.StatusForbidden, Code: api.CodeForbidden, Detail: fmt.Sprintf(format, args...)}
}

// acceptsHost reports whether a Host header names this controller. Requests of
// HTTP/1.0 may lack it; browsers always send one.
func (p *hostPolicy) acceptsHost(header string) bool {
	if header == "" || p.any {
		return true
	}
	host := bareHost(header)
	if ip, err := netip.ParseAddr(host); err == nil {
		// An address, unlike a name, cannot be pointed elsewhere.
		return !p.loopback || ip.Unmap().IsLoopback() || p.allowed[host]
	}
	return host == "localhost" || p.names[host] || p.allows(host) || !p.loopback && isLocalName(host)
}

// localSuffixes are domains in which nobody can register a name.
var localSuffixes = [...]string{".local", ".internal", ".localhost", ".home.arpa"}

// isLocalName reports whether a name can only be resolved within a network, such
// as that of a service of Compose or Kubernetes. Somebody who controls such a name
// is inside the network and needs no browser to reach this controller.
func isLocalName(host string) bool {
	if !fleet.IsHostName(host) {
		return false
	}
	if !strings.Contains(host, ".") {
		return true
	}
	for _, suffix := range localSuffixes {
		if strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}

// allows reports whether --allowed-hosts has the host. "*" does not count.
func (p *hostPolicy) allows(host string) bool {
	if p.allowed[host] {
		return true
	}
	for _, suffix := range p.suffixes {
		if strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}

func (p *hostPolicy) allowsOrigin(origin string) bool {
	_, host, ok := strings.Cut(origin, "://")
	return ok && p.allows(bareHost(host))
}

// sameOrigin reports whether an origin is that of this controller. The scheme is
// not compared: only a load balancer knows whether clients use https.
func sameOrigin(origin, host string) bool {
	scheme, from, ok := strings.Cut(origin, "://")
	if !ok || host == "" {
		return false
	}
	port := ""
	switch strings.ToLower(scheme) {
	case "http":
		port = ":80"
	case "https":
		port = ":443"
	}
	return port != "" && strings.EqualFold(strings.TrimSuffix(from, port), strings.TrimSuffix(host, port))
}

// bareHost returns the host of a header in lower case, without port, brackets,
// zone and final dot.
func bareHost(header string) string {
	host := header
	if i := strings.LastIndexByte(host, ':'); i >= 0 && (strings.HasPrefix(host, "[") || strings.IndexByte(host, ':') == i) {
		if strings.LastIndexByte(host, ']') < i {
			host = host[:i]
		}
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	host, _, _ = strings.Cut(host, "%")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
