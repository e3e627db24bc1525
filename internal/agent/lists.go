package agent

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

const (
	// listPatience is how much longer than its tools a server may take for its other lists
	// before it is READY without them. Some servers ask others for these.
	listPatience = 2 * time.Second
	// listTries is how often a list other than that of the tools is asked for that does not
	// come. list_changed of the server begins anew.
	listTries = 3
)

// listings are what a replica's server lists. Only its supervisor uses them.
type listings struct {
	server *stdio.Server
	kinds  [4]list
}

// list is one list of a server.
type list struct {
	method, member string
	capability     string // without it the list is not asked for; the tools' always is

	listing stdio.Listing
	due     bool // to be listed
	tries   int  // that failed since it was last listed
}

// tools is the index of the list of tools, which a replica needs to be READY.
const tools = 0

func newLists(s *stdio.Server) *listings {
	l := &listings{server: s, kinds: [4]list{
		{method: mcp.MethodToolsList, member: "tools", capability: "tools"},
		{method: mcp.MethodResourcesList, member: "resources", capability: "resources"},
		{method: mcp.MethodResourceTemplates, member: "resourceTemplates", capability: "resources"},
		{method: mcp.MethodPromptsList, member: "prompts", capability: "prompts"},
	}}
	for i := range l.kinds {
		l.kinds[i].due = i == tools || s.Has(l.kinds[i].capability)
	}
	return l
}

// changedBy returns which lists a notification says have changed, as bits by their index.
func changedBy(method string) uint32 {
	switch method {
	case mcp.MethodToolsListChanged:
		return 1 << tools
	case mcp.MethodResourcesListChanged:
		return 1<<1 | 1<<2
	case mcp.MethodPromptsListChanged:
		return 1 << 3
	}
	return 0
}

// change makes lists due, given as bits.
func (l *listings) change(bits uint32) {
	for i := range l.kinds {
		if k := &l.kinds[i]; bits&(1<<i) != 0 && (i == tools || l.server.Has(k.capability)) {
			k.due, k.tries = true, 0
		}
	}
}

// anyDue reports whether a list is to be listed.
func (l *listings) anyDue() bool {
	return slices.ContainsFunc(l.kinds[:], func(k list) bool { return k.due })
}

// update lists what is due, all of it at once. Lists that do not come stay due, up to
// listTries times. It returns the error of the tools, and logs those of the others. With a
// patience, the others may take that much longer than the tools.
func (l *listings) update(ctx context.Context, conn *stdio.Conn, patience time.Duration, log *slog.Logger) error {
	type answer struct {
		stdio.Listing
		err error
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var answers [len(l.kinds)]answer
	var others sync.WaitGroup
	ask := func(i int) {
		a, k := &answers[i], &l.kinds[i]
		if i == tools {
			a.Listing, a.err = conn.ListTools(ctx)
		} else {
			a.Listing, a.err = conn.List(ctx, k.method, k.member)
		}
	}
	for i := range l.kinds {
		if i != tools && l.kinds[i].due {
			others.Go(func() { ask(i) })
		}
	}
	if l.kinds[tools].due {
		ask(tools)
	}
	if patience > 0 {
		timer := time.AfterFunc(patience, func() { cancel(errImpatient) })
		defer timer.Stop()
	}
	others.Wait()
	for i := range l.kinds {
		if k := &l.kinds[i]; k.due {
			l.take(i, answers[i].Listing, answers[i].err, log)
		}
	}
	return l.refusal(answers[tools].err, log)
}

var errImpatient = errors.New("its other lists took too long")

// take takes the answer to the request for a list.
func (l *listings) take(i int, listing stdio.Listing, err error, log *slog.Logger) {
	k := &l.kinds[i]
	refused := (*mcp.Error)(nil)
	switch {
	case err == nil:
		k.listing, k.due, k.tries = listing, false, 0
		return
	case i == tools:
		return
	case errors.As(err, &refused):
		k.listing, k.due = stdio.Listing{}, false
	default:
		k.tries++
		k.due = k.tries < listTries
	}
	level := slog.LevelWarn
	if refused != nil && refused.Code == mcp.CodeMethodNotFound && k.method == mcp.MethodResourceTemplates {
		level = slog.LevelDebug // many servers have resources, but no templates
	}
	log.Log(context.Background(), level, "list left empty", "method", k.method, "err", err, "again", k.due)
}

// refusal returns the error of the list of tools. A server that did not declare tools has
// none. Such servers refuse the request in many ways.
func (l *listings) refusal(err error, log *slog.Logger) error {
	refused := (*mcp.Error)(nil)
	if errors.As(err, &refused) && !l.server.Has("tools") {
		log.Info("server has no tools", "answer", refused)
		l.kinds[tools].due = false
		return nil
	}
	return err
}

// catalogue returns what was listed.
func (l *listings) catalogue() *fleet.Catalogue {
	s := l.server
	c := &fleet.Catalogue{
		Era: s.Era, Protocol: s.Protocol, Versions: s.Versions, ServerInfo: s.Info,
		Capabilities: s.Capabilities, Instructions: s.Instructions,
		Tools: l.kinds[0].listing.Elements, Resources: l.kinds[1].listing.Elements,
		Templates: l.kinds[2].listing.Elements, Prompts: l.kinds[3].listing.Elements,
	}
	if s.Era == fleet.EraModern {
		c.Hints = map[string]fleet.CacheHint{mcp.MethodDiscover: hint(s.Hint)}
		for _, k := range l.kinds {
			if k.listing.Hint != (mcp.CacheHint{}) {
				c.Hints[k.method] = hint(k.listing.Hint)
			}
		}
	}
	c.Hash = hashOf(c)
	return c
}

func hint(h mcp.CacheHint) fleet.CacheHint { return fleet.CacheHint{TTLMs: h.TTL, Scope: h.Scope} }

// hashOf returns the hash of all that a catalogue has.
func hashOf(c *fleet.Catalogue) string {
	h := sha256.New()
	for _, text := range []string{string(c.Era), c.Protocol, string(c.ServerInfo), string(c.Capabilities), c.Instructions} {
		add(h, []byte(text))
	}
	count(h, len(c.Versions))
	for _, v := range c.Versions {
		add(h, []byte(v))
	}
	for _, elements := range [][][]byte{c.Tools, c.Resources, c.Templates, c.Prompts} {
		count(h, len(elements))
		for _, raw := range elements {
			add(h, raw)
		}
	}
	for _, method := range slices.Sorted(maps.Keys(c.Hints)) {
		add(h, fmt.Appendf(nil, "%s %d %s", method, c.Hints[method].TTLMs, c.Hints[method].Scope))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// add hashes one field with its length, so that no two lists look the same.
func add(h hash.Hash, b []byte) {
	count(h, len(b))
	h.Write(b)
}

func count(h hash.Hash, n int) { h.Write(binary.AppendUvarint(nil, uint64(n))) }
