package catalogue

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/nearest"
)

// snapshot has all servers under one set of names. It never changes.
type snapshot struct {
	def     fleet.ServerName
	servers map[fleet.ServerName]*server
	order   []*server // the default server first, then by name

	root    map[string]*fleet.Tool // by every name that POST /call takes
	list    []byte                 // the answer of GET /tools
	listErr error                  // or why there is no list
}

// separator divides server and tool in names at the root.
const separator = "__"

func newSnapshot(def fleet.ServerName, servers map[fleet.ServerName]*server) *snapshot {
	s := &snapshot{def: def, servers: servers, order: sorted(def, servers), root: map[string]*fleet.Tool{}}
	s.list = s.nameAndRender()
	if unknown := s.unknown(); len(unknown) > 0 && len(unknown) == s.wanted() && !allIdle(unknown) {
		s.list, s.listErr = nil, notKnown(unknown)
	}
	s.addBareNames()
	return s
}

// nameAndRender gives every tool its name at the root and returns the list.
func (s *snapshot) nameAndRender() []byte {
	b := []byte(`{"tools":[`)
	for _, srv := range s.order {
		for _, t := range srv.order {
			name := s.rootName(t)
			if s.root[name] != nil {
				continue // a tool of the default server has that name; this one is called at its server's path
			}
			s.root[name] = &t.Tool
			if srv.stopped {
				continue
			}
			if b[len(b)-1] != '[' {
				b = append(b, ',')
			}
			b = t.appendTo(b, name)
		}
	}
	b = append(b, ']')
	for i, srv := range s.unknown() {
		if i == 0 {
			b = append(b, `,"unavailable":[`...)
		} else {
			b = append(b, ',')
		}
		b = mcp.AppendString(append(b, `{"server":`...), string(srv.name))
		b = mcp.AppendString(append(b, `,"reason":`...), srv.why())
		b = append(b, '}')
	}
	if len(s.unknown()) > 0 {
		b = append(b, ']')
	}
	return append(b, '}')
}

// allIdle reports whether the servers are several, and a later look would find
// nothing else, because nobody starts them. A lone one is started by the look.
func allIdle(servers []*server) bool {
	return len(servers) > 1 && !slices.ContainsFunc(servers, func(s *server) bool { return !s.wakes || s.failed })
}

// addBareNames adds the names that resolve though they are not listed: the tools of
// the default server in their long form, and unique bare names of other servers.
func (s *snapshot) addBareNames() {
	bare := map[bool]map[string]*fleet.Tool{false: {}, true: {}} // by stopped; nil: not unique
	for _, srv := range s.order {
		for _, t := range srv.order {
			names := bare[srv.stopped]
			if srv.name == s.def {
				s.addName(string(srv.name)+separator+t.Name, &t.Tool)
			} else if _, twice := names[t.Name]; twice {
				names[t.Name] = nil
			} else {
				names[t.Name] = &t.Tool
			}
		}
	}
	for _, srv := range s.order {
		for name, t := range srv.extra {
			if srv.name == s.def {
				s.addName(name, &t.Tool)
			}
			s.addName(string(srv.name)+separator+name, &t.Tool)
		}
	}
	if def := s.servers[s.def]; def != nil && def.hash == "" && !def.stopped {
		return
	}
	for _, stopped := range []bool{false, true} { // servers that run come first
		for name, t := range bare[stopped] {
			if _, ambiguous := bare[false][name]; t != nil && (!stopped || !ambiguous) {
				s.addName(name, t)
			}
		}
	}
}

// wanted returns how many servers are not stopped by hand.
func (s *snapshot) wanted() (n int) {
	for _, srv := range s.order {
		if !srv.stopped {
			n++
		}
	}
	return n
}

func (s *snapshot) addName(name string, t *fleet.Tool) {
	if s.root[name] == nil {
		s.root[name] = t
	}
}

func (s *snapshot) rootName(t *tool) string {
	if t.Server == s.def {
		return t.Name
	}
	return string(t.Server) + separator + t.Name
}

// unknown returns the servers whose tools should be known and are not.
func (s *snapshot) unknown() []*server {
	var out []*server
	for _, srv := range s.order {
		if srv.hash == "" && !srv.stopped {
			out = append(out, srv)
		}
	}
	return out
}

// known returns a server, or an error if its tools are not known.
func (s *snapshot) known(name fleet.ServerName) (*server, error) {
	srv := s.servers[name]
	if srv == nil {
		names := make([]string, 0, len(s.order))
		for _, o := range s.order {
			names = append(names, string(o.name))
		}
		return nil, lookupErrorf(fleet.ErrUnknownServer, "unknown server %s%s", quote(string(name)), nearest.Hint(string(name), names, names))
	}
	if srv.hash == "" {
		return nil, notKnown([]*server{srv})
	}
	return srv, nil
}

// missing returns the error of a name that does not resolve at the root. While the
// tools of some servers are not known, the name may be one of theirs, and the error
// says to come back later. It says that the name is wrong if the name's server has
// no such tool, or if a known name is very near. Otherwise one server that cannot
// start would hide every mistyped name.
func (s *snapshot) missing(name string) (fleet.Tool, error) {
	if prefix, rest, ok := strings.Cut(name, separator); ok {
		if srv := s.servers[fleet.ServerName(prefix)]; srv != nil {
			if srv.hash == "" && srv.filter.Offers(rest) {
				return fleet.Tool{}, notKnown([]*server{srv})
			}
			return fleet.Tool{}, srv.noTool(rest)
		}
	}
	var names, shown, offered []string
	if def := s.servers[s.def]; def != nil && def.off[name] != "" {
		return fleet.Tool{}, def.noTool(name)
	}
	for _, srv := range s.order {
		for _, t := range srv.order {
			full := s.rootName(t)
			names, shown = append(names, t.Name), append(shown, full)
			if t.Name == name {
				offered = append(offered, full)
			}
		}
	}
	unknown, def := s.unknown(), s.servers[s.def]
	if len(offered) > 1 && (def == nil || def.hash != "") {
		return fleet.Tool{}, lookupErrorf(fleet.ErrUnknownTool, "tool %s is offered by several servers; call %s", quote(name), nearest.Or(offered))
	}
	// The name is compared with full and with bare names. The hint is always a name
	// that can be called.
	bare := !strings.Contains(name, separator)
	if bare && def != nil && def.hash == "" && !def.filter.Offers(name) {
		elsewhere := len(offered) > 0 || slices.ContainsFunc(unknown, func(s *server) bool { return s != def })
		if !elsewhere {
			return fleet.Tool{}, def.noTool(name)
		}
	}
	hint := nearest.Hint(name, append(names, shown...), append(shown, shown...))
	switch {
	case len(unknown) > 0 && (hint == "" || bare && def != nil && def.hash == ""):
		// A bare name most likely means the default server: a near name of another
		// server says little.
		return fleet.Tool{}, notKnown(unknown)
	case bare && def != nil && def.hash == "": // stopped before it ever ran: the tool may be its own
		return fleet.Tool{}, notKnown([]*server{def})
	}
	return fleet.Tool{}, lookupErrorf(fleet.ErrUnknownTool, "unknown tool %s%s", quote(name), hint)
}

// noTool returns the error of a tool that the server does not offer.
func (s *server) noTool(name string) error {
	key := s.off[name]
	if s.hash == "" {
		key = s.filter.SwitchedOffBy(name)
	}
	if key != "" {
		return lookupErrorf(fleet.ErrUnknownTool, "tool %s of server %q is switched off by %s", quote(name), s.name, key)
	}
	names := make([]string, len(s.order))
	for i, t := range s.order {
		names[i] = t.Name
	}
	return lookupErrorf(fleet.ErrUnknownTool, "server %q has no tool %s%s", s.name, quote(name), nearest.Hint(name, names, names))
}

// isStopped returns the error of a server that users have stopped.
func (s *server) isStopped() error {
	return lookupErrorf(fleet.ErrStopped, "server %q is stopped: %s", s.name, s.why())
}

// maxReason is how many runes of a reason callers of tools see. /readyz and the list
// of servers show all of it.
const maxReason = 200

// why returns the reason in one short line.
func (s *server) why() string {
	reason := strings.Join(strings.Fields(s.reason), " ")
	if reason == "" {
		return "no replica has been ready yet"
	}
	if r := []rune(reason); len(r) > maxReason {
		return string(r[:maxReason]) + "..."
	}
	return reason
}

// maxReasons is how many servers an error names with their reasons.
const maxReasons = 3

// notKnown returns the error of servers whose tools are not known. It wraps
// fleet.ErrNoReplica only if waiting is of no use for any of them.
func notKnown(servers []*server) error {
	if s := servers[0]; len(servers) == 1 && s.stopped {
		return s.isStopped()
	}
	kind := fleet.ErrNoReplica
	var parts []string
	for i, s := range servers {
		if !s.failed {
			kind = fleet.ErrCatalogueUnknown
		}
		if i < maxReasons {
			parts = append(parts, fmt.Sprintf("server %q: %s", s.name, s.why()))
		}
	}
	if more := len(servers) - maxReasons; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	err := lookupErrorf(kind, "%w: %s", kind, strings.Join(parts, "; "))
	if idle := firstIdle(servers); idle != "" {
		return &idleError{err, idle}
	}
	return err
}

// firstIdle returns the first server to start if the tools of all are needed, or ""
// if the tools of some may be known soon without that.
func firstIdle(servers []*server) (first fleet.ServerName) {
	for _, s := range servers {
		switch {
		case s.failed:
		case !s.wakes:
			return ""
		default:
			first = cmp.Or(first, s.name)
		}
	}
	return first
}

// lookupError has a message for callers, and a kind for errors.Is.
type lookupError struct {
	kind error
	msg  string
}

func (e *lookupError) Error() string { return e.msg }
func (e *lookupError) Unwrap() error { return e.kind }

// idleError is the error of a look-up that needs the tools of an idle server.
type idleError struct {
	error
	server fleet.ServerName
}

func (e *idleError) Unwrap() error { return e.error }

// Wakes returns the server to start before the look-up is repeated.
func (e *idleError) Wakes() fleet.ServerName { return e.server }

func lookupErrorf(kind error, format string, args ...any) error {
	return &lookupError{kind: kind, msg: fmt.Errorf(format, args...).Error()}
}

var errStarting = fmt.Errorf("%w: the controller is starting", fleet.ErrCatalogueUnknown)
