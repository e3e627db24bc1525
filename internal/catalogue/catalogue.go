// Package catalogue knows what each server offers and under which names: it is
// fed by the workers' reports and read by every front, so that listing tools
// and resolving a name cost no replica a call.
//
// It promises that a server whose tools are not known is never taken for one
// that has none: lookups then fail with fleet.ErrCatalogueUnknown or, when its
// replicas cannot start, with fleet.ErrNoReplica. The one exception is a name at
// the root that is near to a known one: it is taken for a mistake. What was known
// stays known while a server has no replica. A server that is stopped by hand
// adds nothing to the merged list; what is known of it still resolves, so that
// its calls are told that it is stopped and not that there is no such tool. Every
// member of a tool is passed on byte for byte.
//
// At the root the default server's tools have their own names and every other
// tool is server__tool; a lone server is the default one. Server names have no
// underscore, so the first "__" always divides. A bare name of another server
// resolves too as long as it is unique among the servers whose tools are
// known, and the default server's are: it might have one of that name.
//
// Replicas of a server may list different tools, during a rollout or after a
// change of the list. The list that is shown is one of theirs; a tool that only
// others have is found all the same, and it is for the router to send its calls
// there.
//
// Readers take no lock: they share an immutable snapshot, replaced as a whole
// by Update. The package starts no goroutine; all methods may be called at any
// time.
package catalogue

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// View is all that the catalogue is made from.
type View struct {
	Default fleet.ServerName // "" for none
	Servers []Server         // all deployed servers, in any order
	// Lookup finds a reported catalogue by its hash; nil if it is not there.
	Lookup func(hash string) *fleet.Catalogue
}

// Server is one deployed server as the catalogue needs it.
type Server struct {
	Name        fleet.ServerName
	DefaultTool string  // "" for none
	Offers      []Offer // of its READY replicas
	// EnabledTools and DisabledTools are those of the server's spec. A tool that
	// they switch off is neither listed nor found.
	EnabledTools, DisabledTools []string
	// Reason tells, while nothing is offered, why: shown to callers.
	Reason string
	// Failed: nothing is offered because replicas do not start, or none is
	// wanted. Otherwise they are on their way.
	Failed bool
	// Stopped by hand: its tools are not in the merged list, and lookups of
	// what is not known fail with fleet.ErrStopped.
	Stopped bool
}

// Offer is what one READY replica offers.
type Offer struct {
	Revision fleet.Revision
	Hash     string // of its catalogue
}

// Catalogue answers lookups from the last view.
type Catalogue struct {
	incomplete func() string

	mu   sync.Mutex // serialises Update
	snap atomic.Pointer[snapshot]
}

// New returns a catalogue that knows nothing: until the first Update all
// lookups fail with fleet.ErrCatalogueUnknown. incomplete says, in words, why
// servers may be missing from the view, "" if none is; nil if none ever is.
// While some may be missing, no lookup denies that a server or tool exists.
func New(incomplete func() string) *Catalogue {
	if incomplete == nil {
		incomplete = func() string { return "" }
	}
	return &Catalogue{incomplete: incomplete}
}

// Update replaces the view. It costs little when nothing in it has changed, so
// it may be called on every report.
func (c *Catalogue) Update(v View) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.snap.Load()
	def := v.Default
	if def == "" && len(v.Servers) == 1 {
		def = v.Servers[0].Name
	}
	changed := old == nil || old.def != def || len(old.servers) != len(v.Servers)
	servers := make(map[fleet.ServerName]*server, len(v.Servers))
	for i := range v.Servers {
		var before *server
		if old != nil {
			before = old.servers[v.Servers[i].Name]
		}
		after := before.update(&v.Servers[i], v.Lookup)
		servers[after.name] = after
		changed = changed || after != before
	}
	if changed {
		c.snap.Store(newSnapshot(def, servers))
	}
}

// Tools returns the answer of GET /tools for one server, or with "" for all of
// them: rendered JSON that is not to be changed.
func (c *Catalogue) Tools(name fleet.ServerName) ([]byte, error) {
	snap := c.snap.Load()
	if snap == nil {
		return nil, errStarting
	}
	if name != "" {
		s, err := snap.known(name)
		if err != nil {
			return nil, c.unlessIncomplete(err)
		}
		return s.list, nil
	}
	if len(snap.servers) == 0 {
		if why := c.incomplete(); why != "" {
			return nil, notYet(why)
		}
	}
	return snap.list, snap.listErr
}

// Resolve finds the tool that a caller means by a name, at one server's own
// path or with server "" at the root. An error wraps fleet.ErrUnknownServer,
// fleet.ErrUnknownTool, fleet.ErrCatalogueUnknown or fleet.ErrNoReplica.
func (c *Catalogue) Resolve(name fleet.ServerName, tool string) (fleet.Tool, error) {
	t, err := c.resolve(name, tool)
	return t, c.unlessIncomplete(err)
}

func (c *Catalogue) resolve(name fleet.ServerName, tool string) (fleet.Tool, error) {
	snap := c.snap.Load()
	if snap == nil {
		return fleet.Tool{}, errStarting
	}
	if name == "" {
		if t := snap.root[tool]; t != nil {
			return *t, nil
		}
		return snap.missing(tool)
	}
	s, err := snap.known(name)
	if srv := snap.servers[name]; err != nil && srv != nil && !srv.filter.Offers(tool) {
		return fleet.Tool{}, srv.noTool(tool) // whatever its tools are
	}
	if err != nil {
		return fleet.Tool{}, err
	}
	if t := s.find(tool); t != nil {
		return t.Tool, nil
	}
	return fleet.Tool{}, s.noTool(tool)
}

// Default finds the tool of a call that names none: the default tool of the
// server, or with "" of the default server. Besides Resolve's errors it gives
// fleet.ErrNoDefaultTool.
func (c *Catalogue) Default(name fleet.ServerName) (fleet.Tool, error) {
	t, err := c.defaultTool(name)
	return t, c.unlessIncomplete(err)
}

func (c *Catalogue) defaultTool(name fleet.ServerName) (fleet.Tool, error) {
	snap := c.snap.Load()
	if snap == nil {
		return fleet.Tool{}, errStarting
	}
	if name == "" {
		if name = snap.def; name == "" {
			return fleet.Tool{}, lookupErrorf(fleet.ErrNoDefaultTool, "there is no default server")
		}
	}
	s := snap.servers[name]
	if s != nil && s.defaultTool == "" {
		return fleet.Tool{}, lookupErrorf(fleet.ErrNoDefaultTool, "server %q has no default tool", name)
	}
	s, err := snap.known(name)
	if err != nil {
		return fleet.Tool{}, err
	}
	t := s.find(s.defaultTool)
	if t == nil {
		return fleet.Tool{}, s.noTool(s.defaultTool)
	}
	return t.Tool, nil
}

// unlessIncomplete replaces an error that denies that something exists while
// servers may be missing: callers shall come back.
func (c *Catalogue) unlessIncomplete(err error) error {
	if err == nil || !errors.Is(err, fleet.ErrUnknownServer) && !errors.Is(err, fleet.ErrUnknownTool) && !errors.Is(err, fleet.ErrNoDefaultTool) {
		return err
	}
	if why := c.incomplete(); why != "" {
		return notYet(why)
	}
	return err
}

func notYet(why string) error { return fmt.Errorf("%w: %s", fleet.ErrCatalogueUnknown, why) }

// server is one server in a snapshot. It is never changed once made.
type server struct {
	name        fleet.ServerName
	defaultTool string
	reason      string
	failed      bool
	stopped     bool
	// filter has the spec's enabled and disabled tools, and nothing else.
	filter fleet.Spec

	hash  string  // of the catalogue shown; "" while none is known
	all   []*tool // what the server has, in its order
	order []*tool // and what of it is offered
	tools map[string]*tool
	off   map[string]string // tools that are not offered, and the key that says so
	list  []byte            // the answer of GET /{server}/tools

	others []string         // hashes of what other replicas offer
	theirs map[string]*tool // tools that only they have
	extra  map[string]*tool // and those of them that are offered: found, and not listed
}

// find returns the tool of that name, or nil.
func (s *server) find(name string) *tool {
	if t := s.tools[name]; t != nil {
		return t
	}
	return s.extra[name]
}

// update returns s itself when the view says nothing new. s may be nil.
func (s *server) update(v *Server, lookup func(string) *fleet.Catalogue) *server {
	if s == nil {
		s = &server{}
	}
	next := *s
	next.name, next.defaultTool, next.reason, next.failed, next.stopped = v.Name, v.DefaultTool, v.Reason, v.Failed, v.Stopped
	next.filter = fleet.Spec{EnabledTools: v.EnabledTools, DisabledTools: v.DisabledTools}
	if hash := choose(v.Offers, s.hash); hash != "" && hash != s.hash {
		if c := lookup(hash); c != nil {
			next.hash = hash
			next.all = parseTools(v.Name, c.Tools)
		}
	}
	if off := switchedOff(next.all, &next.filter); next.hash != s.hash || !maps.Equal(off, s.off) {
		next.offer(off)
	}
	next.others = otherHashes(v.Offers, next.hash)
	if len(next.others)+len(s.others) > 0 && (next.hash != s.hash || !slices.Equal(next.others, s.others)) {
		next.theirs = make(map[string]*tool)
		for _, hash := range next.others {
			if c := lookup(hash); c != nil {
				for _, t := range parseTools(v.Name, c.Tools) {
					if next.tools[t.Name] == nil && next.theirs[t.Name] == nil {
						next.theirs[t.Name] = t
					}
				}
			}
		}
	}
	next.extra = maps.Clone(next.theirs)
	maps.DeleteFunc(next.extra, func(name string, _ *tool) bool { return !next.filter.Offers(name) })
	if next.hash != "" {
		next.reason, next.failed = "", false // not shown, so no reason for a new snapshot
	}
	if next.hash == s.hash && slices.Equal(next.others, s.others) && maps.Equal(next.extra, s.extra) && maps.Equal(next.off, s.off) &&
		slices.Equal(next.filter.EnabledTools, s.filter.EnabledTools) && slices.Equal(next.filter.DisabledTools, s.filter.DisabledTools) &&
		next.name == s.name && next.defaultTool == s.defaultTool &&
		next.reason == s.reason && next.failed == s.failed && next.stopped == s.stopped {
		return s
	}
	return &next
}

// switchedOff returns which of the tools are not offered, and why.
func switchedOff(all []*tool, filter *fleet.Spec) map[string]string {
	var off map[string]string
	for _, t := range all {
		if key := filter.SwitchedOffBy(t.Name); key != "" {
			if off == nil {
				off = make(map[string]string)
			}
			off[t.Name] = key
		}
	}
	return off
}

// offer makes the list of what is offered.
func (s *server) offer(off map[string]string) {
	s.off = off
	s.order = make([]*tool, 0, len(s.all))
	s.tools = make(map[string]*tool, len(s.all))
	for _, t := range s.all {
		if off[t.Name] == "" {
			s.order = append(s.order, t)
			s.tools[t.Name] = t
		}
	}
	s.list = renderServer(s.order)
}

// otherHashes returns, in order, what is offered besides what is shown.
func otherHashes(offers []Offer, shown string) (others []string) {
	for _, o := range offers {
		if o.Hash != "" && o.Hash != shown && !slices.Contains(others, o.Hash) {
			others = append(others, o.Hash)
		}
	}
	slices.Sort(others)
	return others
}

// choose picks among what replicas offer: the newest revision's, and there
// what most of them offer. A tie keeps what is shown, so that it does not flap.
func choose(offers []Offer, shown string) string {
	var newest fleet.Revision
	count := map[string]int{}
	for _, o := range offers {
		if o.Hash == "" || o.Revision < newest {
			continue
		}
		if o.Revision > newest {
			newest = o.Revision
			clear(count)
		}
		count[o.Hash]++
	}
	best := ""
	for _, o := range offers { // not over the map, whose order is random
		n := count[o.Hash]
		if n > count[best] || n > 0 && n == count[best] && o.Hash == shown {
			best = o.Hash
		}
	}
	return best
}

// sorted returns servers with the default one first, then by name.
func sorted(def fleet.ServerName, servers map[fleet.ServerName]*server) []*server {
	out := make([]*server, 0, len(servers))
	for _, s := range servers {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *server) int {
		if (a.name == def) != (b.name == def) {
			if a.name == def {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.name, b.name)
	})
	return out
}
