package catalogue

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/nearest"
)

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

// find returns the tool that a name means here.
func (s *snapshot) find(name string) (*tool, error) {
	if t := s.root[name]; t != nil {
		return t, nil
	}
	return nil, s.missing(name)
}

// missing returns the error of a name that does not resolve at the root. While the
// tools of some servers are not known, the name may be one of theirs, and the error
// says to come back later. It says that the name is wrong if the name's server has
// no such tool, or if a known name is very near. Otherwise one server that cannot
// start would hide every mistyped name.
func (s *snapshot) missing(name string) error {
	if key := s.off[name]; key != "" {
		return lookupErrorf(fleet.ErrUnknownTool, "tool %s is switched off by %s", quote(name), key)
	}
	if prefix, rest, ok := strings.Cut(name, separator); ok {
		if srv := s.servers[fleet.ServerName(prefix)]; srv != nil {
			if srv.hash == "" && srv.choice.Offers(srv.choice.Own(rest)) {
				return notKnown([]*server{srv})
			}
			return srv.noTool(rest)
		}
	}
	var names, shown, offered []string
	if def := s.servers[s.def]; def != nil && def.off[name] != "" {
		return def.noTool(name)
	}
	for _, t := range s.tools {
		names, shown = append(names, t.here), append(shown, t.listed)
		if t.here == name {
			offered = append(offered, t.listed)
		}
	}
	unknown, def := s.unknown(), s.servers[s.def]
	if len(offered) > 1 && (def == nil || def.hash != "") {
		return lookupErrorf(fleet.ErrUnknownTool, "tool %s is offered by several servers; call %s", quote(name), nearest.Or(offered))
	}
	// The name is compared with full and with bare names. The hint is always a name
	// that can be called.
	bare := !strings.Contains(name, separator)
	if bare && def != nil && def.hash == "" && !def.choice.Offers(def.choice.Own(name)) {
		elsewhere := len(offered) > 0 || slices.ContainsFunc(unknown, func(s *server) bool { return s != def })
		if !elsewhere {
			return def.noTool(name)
		}
	}
	hint := nearest.Hint(name, append(names, shown...), append(shown, shown...))
	switch {
	case len(unknown) > 0 && (hint == "" || bare && def != nil && def.hash == ""):
		// A bare name most likely means the default server: a near name of another
		// server says little.
		return notKnown(unknown)
	case bare && def != nil && def.hash == "": // stopped before it ever ran: the tool may be its own
		return notKnown([]*server{def})
	}
	return lookupErrorf(fleet.ErrUnknownTool, "unknown tool %s%s", quote(name), hint)
}

// noTool returns the error of a tool that the server does not offer.
func (s *server) noTool(name string) error {
	key := s.off[name]
	if s.hash == "" {
		key = s.choice.SwitchedOffBy(s.choice.Own(name))
	}
	if key != "" {
		return lookupErrorf(fleet.ErrUnknownTool, "tool %s of server %q is switched off by %s", quote(name), s.name, key)
	}
	names := make([]string, len(s.order))
	for i, t := range s.order {
		names[i] = t.listed
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
