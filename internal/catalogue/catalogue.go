// Package catalogue knows what each server offers and under which names. It is fed
// by the workers' reports and read by every front, so listing tools and resolving
// a name cost no replica a call.
//
// A server whose tools are not known is never taken for one that has none. Lookups
// then fail with fleet.ErrCatalogueUnknown or, if its replicas cannot start, with
// fleet.ErrNoReplica. There is one exception: a name at the root that is near to a
// known one is taken for a mistake. Tools that were known once stay known while a
// server has no replica. A server that is stopped by hand adds nothing to the
// merged list, but its known tools still resolve: its callers learn that it is
// stopped, not that there is no such tool. Every member of a tool is passed on byte
// for byte.
//
// The tools of an idle server that never ran are known only once somebody has
// started it. The error of a look-up that needs them has a method Wakes, which names
// the server. The caller may have it started, and repeat the look-up. Subscribe says
// when.
//
// At the root the tools of the default server have their own names, and every other
// tool is server__tool. A lone server is the default one. Server names have no
// underscore, so the first "__" always divides. A bare name of another server
// resolves too, if it is unique among the servers whose tools are known. The default
// server's must be among them, as it may have a tool of that name.
//
// Replicas of a server may list different tools, during a rollout or after a change
// of the list. One of their lists is shown. A tool that only other replicas have
// resolves too, and the router sends its calls there.
//
// Keeper and NameCheck run on the leader only. The one writes catalogues to desired
// state, the other warns about names in specs that no catalogue has.
//
// Readers take no lock: they share an immutable snapshot, which Update replaces as a
// whole. The package starts no goroutine. All methods may be called at any time.
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
	"github.com/mcpfleet/mcpfleet/internal/notice"
)

// View is what the catalogue is made from.
type View struct {
	Default fleet.ServerName // "" for none
	Servers []Server         // all deployed servers, in any order
	// Lookup returns a reported catalogue by its hash, nil if there is none.
	Lookup func(hash string) *fleet.Catalogue
}

// Server is one deployed server as the catalogue needs it.
type Server struct {
	Name        fleet.ServerName
	DefaultTool string  // "" for none
	Offers      []Offer // of its READY replicas
	// EnabledTools and DisabledTools come from the server's spec. A tool that they
	// switch off is neither listed nor resolved.
	EnabledTools, DisabledTools []string
	// Reason says why nothing is offered. Callers see it.
	Reason string
	// Failed says that nothing is offered because replicas do not start, or are
	// not wanted. Otherwise they are on their way.
	Failed bool
	// Stopped says that users stopped the server. Its tools are not in the merged
	// list, and lookups of tools that are not known fail with fleet.ErrStopped.
	Stopped bool
	// Wakes says that no replica is on its way until somebody calls the server.
	Wakes bool
}

// Offer is what one READY replica offers.
type Offer struct {
	Revision fleet.Revision
	Hash     string // of its catalogue
}

// Catalogue answers lookups from the last view.
type Catalogue struct {
	incomplete func() string
	board      notice.Board

	mu   sync.Mutex // serialises Update
	snap atomic.Pointer[snapshot]
}

// New returns a catalogue that knows nothing: until the first Update all lookups
// fail with fleet.ErrCatalogueUnknown. incomplete says why servers may be missing
// from the view, and returns "" if it is complete. While it is not, no lookup denies
// that a server or tool exists. A nil incomplete means that views are complete.
func New(incomplete func() string) *Catalogue {
	if incomplete == nil {
		incomplete = func() string { return "" }
	}
	return &Catalogue{incomplete: incomplete}
}

// Update replaces the view. It costs little if nothing has changed, so it may be
// called for every report.
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
		c.board.Post()
	}
}

// Subscribe posts a notice when lookups may have other results; see notice.Board.
func (c *Catalogue) Subscribe() (look <-chan struct{}, cancel func()) { return c.board.Subscribe() }

// Tools returns the answer of GET /tools for one server, or with "" for all of them.
// It is rendered JSON, which callers must not change.
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
		if s.stopped {
			return nil, s.isStopped()
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

// Resolve returns the tool that a name means, at the path of one server or, with
// server "", at the root. The error wraps fleet.ErrUnknownServer,
// fleet.ErrUnknownTool, fleet.ErrCatalogueUnknown, fleet.ErrNoReplica or
// fleet.ErrStopped. If the tools of an idle server are needed, it has a method Wakes.
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
		return fleet.Tool{}, srv.noTool(tool) // switched off, whether it exists or not
	}
	if err != nil {
		return fleet.Tool{}, err
	}
	if t := s.find(tool); t != nil {
		return t.Tool, nil
	}
	return fleet.Tool{}, s.noTool(tool)
}

// Default returns the tool of a call that names no tool: the default tool of the
// server or, with "", of the default server. The error wraps one of Resolve's, or
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

// unlessIncomplete replaces an error that denies that a server or tool exists while
// servers may be missing: callers should try again.
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

// server is one server in a snapshot. It never changes.
type server struct {
	name        fleet.ServerName
	defaultTool string
	reason      string
	failed      bool
	stopped     bool
	wakes       bool
	// filter has only the enabled and disabled tools of the spec.
	filter fleet.Spec

	hash  string            // of the catalogue that is shown; "" while none is known
	all   []*tool           // of that catalogue, in its order
	order []*tool           // those of all that are not switched off
	tools map[string]*tool  // the same by name
	off   map[string]string // tools that are switched off, and the key of the spec that does it
	list  []byte            // the answer of GET /{server}/tools

	others []string         // hashes of other catalogues that replicas offer
	theirs map[string]*tool // tools that only those have
	extra  map[string]*tool // those of theirs that are not switched off: they resolve, and are not listed
}

// find returns a tool by its name, or nil.
func (s *server) find(name string) *tool {
	if t := s.tools[name]; t != nil {
		return t
	}
	return s.extra[name]
}

// update returns the server of a new view: s itself if nothing changed. s may be
// nil.
func (s *server) update(v *Server, lookup func(string) *fleet.Catalogue) *server {
	if s == nil {
		s = &server{}
	}
	next := *s
	next.name, next.defaultTool, next.reason, next.failed, next.stopped, next.wakes = v.Name, v.DefaultTool, v.Reason, v.Failed, v.Stopped, v.Wakes
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
		next.reason, next.failed, next.wakes = "", false, false // not shown: a change needs no new snapshot
	}
	if next.hash == s.hash && slices.Equal(next.others, s.others) && maps.Equal(next.extra, s.extra) && maps.Equal(next.off, s.off) &&
		slices.Equal(next.filter.EnabledTools, s.filter.EnabledTools) && slices.Equal(next.filter.DisabledTools, s.filter.DisabledTools) &&
		next.name == s.name && next.defaultTool == s.defaultTool &&
		next.reason == s.reason && next.failed == s.failed && next.stopped == s.stopped && next.wakes == s.wakes {
		return s
	}
	return &next
}

// switchedOff returns the tools that the filter switches off, and by which key.
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

// offer sets which tools are offered, and renders their list.
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

// otherHashes returns the hashes that are offered besides the shown one, in order.
func otherHashes(offers []Offer, shown string) (others []string) {
	for _, o := range offers {
		if o.Hash != "" && o.Hash != shown && !slices.Contains(others, o.Hash) {
			others = append(others, o.Hash)
		}
	}
	slices.Sort(others)
	return others
}

// choose returns the hash that most replicas of the newest revision offer. On a tie
// the shown one stays, so that the list does not flap.
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
	for _, o := range offers { // not over count, whose order is random
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
