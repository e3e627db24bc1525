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
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
)

// Source is what the catalogue is made from.
type Source struct {
	Default  fleet.ServerName // "" for none
	Servers  []Server         // all deployed servers, in any order
	Gateways map[fleet.GatewayName]fleet.Gateway
	// Lookup returns a reported catalogue by its hash, nil if there is none.
	Lookup func(hash string) *fleet.Catalogue
}

// Server is one deployed server as the catalogue needs it.
type Server struct {
	Name        fleet.ServerName
	DefaultTool string  // "" for none
	Offers      []Offer // of its READY replicas
	// Tools comes from the server's spec. A tool that it switches off is neither
	// listed nor resolved.
	Tools fleet.Tools
	// Private says that each client may see something else of the server, so that
	// its lists are not for others.
	Private bool
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

// Catalogue answers lookups from the last source.
type Catalogue struct {
	// Log gets the servers that merged lists lack. Set it before the first Update; nil:
	// nothing is logged.
	Log *slog.Logger

	incomplete func() string
	board      notice.Board

	mu   sync.Mutex // serialises Update
	snap atomic.Pointer[snapshot]
}

// New returns a catalogue that knows nothing: until the first Update all lookups
// fail with fleet.ErrCatalogueUnknown. incomplete says why servers may be missing
// from the source, and returns "" if it is complete. While it is not, no lookup denies
// that a server or tool exists. A nil incomplete means that sources are complete.
func New(incomplete func() string) *Catalogue {
	if incomplete == nil {
		incomplete = func() string { return "" }
	}
	return &Catalogue{incomplete: incomplete}
}

// Update replaces the source. It costs little if nothing has changed, so it may be
// called for every report.
func (c *Catalogue) Update(v Source) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.snap.Load()
	def := v.Default
	if def == "" && len(v.Servers) == 1 {
		def = v.Servers[0].Name
	}
	changed := old == nil || old.def != def || len(old.servers) != len(v.Servers) || !sameGateways(old.gateways, v.Gateways)
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
		next := newSnapshot(def, servers, v.Gateways)
		c.complete(next)
		c.snap.Store(next)
		c.board.Post()
		c.logMissing(old, next)
	}
}

// complete gives the new views of a snapshot what they need of the catalogue. It is done
// here, once, because every request asks for a view.
func (c *Catalogue) complete(s *snapshot) {
	views := []*View{s.view}
	for _, srv := range s.servers {
		views = append(views, srv.view)
	}
	for _, gateway := range s.gateways {
		views = append(views, gateway.view)
	}
	for _, v := range views {
		if v != nil && v.check == nil {
			v.check = c.unlessIncomplete
		}
	}
}

// logMissing logs which servers merged lists lack, if that has changed.
func (c *Catalogue) logMissing(old, next *snapshot) {
	names := func(s *snapshot) (names []fleet.ServerName) {
		if s != nil {
			for _, srv := range s.unknown() {
				names = append(names, srv.name)
			}
		}
		return names
	}
	before, after := names(old), names(next)
	switch {
	case c.Log == nil || slices.Equal(before, after):
	case len(after) == 0:
		c.Log.Info("merged lists complete")
	default:
		c.Log.Info("merged lists incomplete", "missing", after)
	}
}

// Subscribe posts a notice when lookups may have other results; see notice.Board.
func (c *Catalogue) Subscribe() (look <-chan struct{}, cancel func()) { return c.board.Subscribe() }

// Tools returns the answer of GET /tools at the root, at the path of a server or at
// that of a gateway. It is rendered JSON, which callers must not change.
func (c *Catalogue) Tools(scope fleet.Scope) ([]byte, error) {
	snap := c.snap.Load()
	if snap == nil {
		return nil, errStarting
	}
	if name := scope.Server(); name != "" {
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
	merged, err := snap.at(scope)
	if err != nil {
		return nil, c.unlessIncomplete(err)
	}
	return merged.list, merged.listErr
}

// Resolve returns the tool that a name means at the root, at the path of a server or
// at that of a gateway. The error wraps fleet.ErrUnknownServer,
// fleet.ErrUnknownGateway, fleet.ErrUnknownTool, fleet.ErrCatalogueUnknown,
// fleet.ErrNoReplica or fleet.ErrStopped. If the tools of an idle server are needed,
// it has a method Wakes.
func (c *Catalogue) Resolve(scope fleet.Scope, tool string) (fleet.Tool, error) {
	t, err := c.resolve(scope, tool)
	return t, c.unlessIncomplete(err)
}

func (c *Catalogue) resolve(scope fleet.Scope, tool string) (fleet.Tool, error) {
	snap := c.snap.Load()
	if snap == nil {
		return fleet.Tool{}, errStarting
	}
	name := scope.Server()
	if name == "" {
		merged, err := snap.at(scope)
		if err != nil {
			return fleet.Tool{}, err
		}
		return found(merged.find(tool))
	}
	s, err := snap.known(name)
	if srv := snap.servers[name]; err != nil && srv != nil && !srv.choice.Offers(srv.choice.Own(tool)) {
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

func found(t *tool, err error) (fleet.Tool, error) {
	if err != nil {
		return fleet.Tool{}, err
	}
	return t.Tool, nil
}

// Default returns the tool of a call that names no tool: the default tool of the
// server or, at the root or a gateway, of the default server. The error wraps one of
// Resolve's, or fleet.ErrNoDefaultTool.
func (c *Catalogue) Default(scope fleet.Scope) (fleet.Tool, error) {
	t, err := c.defaultTool(scope)
	return t, c.unlessIncomplete(err)
}

func (c *Catalogue) defaultTool(scope fleet.Scope) (fleet.Tool, error) {
	snap := c.snap.Load()
	if snap == nil {
		return fleet.Tool{}, errStarting
	}
	name, merged := scope.Server(), (*snapshot)(nil)
	if name == "" {
		var err error
		if merged, err = snap.at(scope); err != nil {
			return fleet.Tool{}, err
		}
		if name = merged.def; name == "" {
			return fleet.Tool{}, lookupErrorf(fleet.ErrNoDefaultTool, "there is no default server%s", merged.where())
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
	if merged != nil && merged.gateway != nil {
		return found(merged.find(s.defaultTool)) // which the gateway may switch off
	}
	t := s.find(s.defaultTool)
	if t == nil {
		return fleet.Tool{}, s.noTool(s.defaultTool)
	}
	return t.Tool, nil
}

// denials are the errors of what does not exist.
var denials = []error{
	fleet.ErrUnknownServer, fleet.ErrUnknownGateway, fleet.ErrUnknownTool, fleet.ErrUnknownPrompt, fleet.ErrUnknownResource, fleet.ErrNoDefaultTool,
}

// unlessIncomplete replaces an error that denies that a server or tool exists while
// servers may be missing: callers should try again.
func (c *Catalogue) unlessIncomplete(err error) error {
	if err == nil || !slices.ContainsFunc(denials, func(denial error) bool { return errors.Is(err, denial) }) {
		return err
	}
	if why := c.incomplete(); why != "" {
		return notYet(why)
	}
	return err
}

func notYet(why string) error { return fmt.Errorf("%w: %s", fleet.ErrCatalogueUnknown, why) }
