package stdio

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// stragglerWait is how long an answer to server/discover may come after that to initialize, when both
// are under way. A server that reads both answers them one right after the other.
const stragglerWait = 250 * time.Millisecond

var (
	// ErrLateDiscover means that the server speaks the modern era, but only said so after initialize had
	// been sent too, which it has accepted. Its process may now keep to the legacy era, so that another
	// one must be started.
	ErrLateDiscover = errors.New("the server answered server/discover only after initialize had been sent")
	// ErrDiedOfDiscover means that the conversation ended without an answer to server/discover, which the
	// server may have read. Some servers of the legacy era end when they get an unknown request first.
	ErrDiedOfDiscover = errors.New("the server ended without an answer to server/discover")
	// ErrNotModern means that the server's answer to server/discover is not that of a modern server.
	ErrNotModern = errors.New("the server does not speak the modern era of the protocol")
)

// Opening says how a conversation is opened.
type Opening struct {
	Era   fleet.Era // the only one to try; EraAuto: the server is asked
	Known fleet.Era // what other processes of the server were found to be; EraAuto: nothing is known
	// Wait is how long the server may leave server/discover unanswered before it gets initialize too.
	Wait time.Duration
}

// Server describes the server as it introduced itself.
type Server struct {
	Era          fleet.Era // EraLegacy or EraModern
	Protocol     string    // the version of the conversation
	Versions     []string  // all that a modern server supports
	Info         []byte    // raw object; nil if it does not tell
	Capabilities []byte    // raw object
	Instructions string
	Hint         mcp.CacheHint // of a modern server's answer to server/discover
}

// Has reports whether the server has a capability, such as "tools" or "prompts".
func (s *Server) Has(capability string) bool {
	found, err := mcp.Fields(s.Capabilities, capability)
	return err == nil && found[0] != nil && !mcp.IsNull(found[0])
}

// Open finds the server's era and opens the conversation. It must be called once, before every other
// call.
//
// The first request is server/discover, because a server of both eras settles for one with the first
// request that is not. Its answer proves the modern era or the legacy one. If none comes within
// o.Wait, initialize follows: old servers may ignore what they do not know. A slow server finds both
// requests when it begins to read.
//
// A server that is known to be legacy gets initialize first, and server/discover if it refuses that.
func (c *Conn) Open(ctx context.Context, o Opening) (*Server, error) {
	switch {
	case o.Era == fleet.EraLegacy:
		return c.openLegacy(ctx)
	case o.Era == fleet.EraModern:
		return c.openModern(ctx)
	case o.Known != fleet.EraLegacy:
		return c.findEra(ctx, o.Wait)
	}
	s, err := c.openLegacy(ctx)
	if refused := (*mcp.Error)(nil); !errors.As(err, &refused) {
		return s, err
	}
	asking, cancel := context.WithTimeout(ctx, o.Wait)
	defer cancel()
	if modern, notModern := c.openModern(asking); notModern == nil {
		return modern, nil
	}
	return nil, err
}

func (c *Conn) openLegacy(ctx context.Context) (*Server, error) {
	init, err := c.Handshake(ctx)
	if err != nil {
		return nil, err
	}
	return &Server{
		Era: fleet.EraLegacy, Protocol: init.ProtocolVersion,
		Info: init.ServerInfo, Capabilities: init.Capabilities, Instructions: init.Instructions,
	}, nil
}

func (c *Conn) openModern(ctx context.Context) (*Server, error) {
	r := c.request(ctx, mcp.MethodDiscover, mcp.DiscoverParams(mcp.LatestModern, c.cfg.ClientInfo), true)
	defer r.Release()
	s, err := readDiscover(r)
	if err != nil {
		return nil, fmt.Errorf("server/discover: %w", err)
	}
	return c.modern(s), nil
}

// modern makes the conversation one of the modern era.
func (c *Conn) modern(s *Server) *Server {
	c.own.Store(newOwnMeta(c.cfg.ClientInfo))
	return s
}

// findEra opens the conversation with a server of which nothing is known.
func (c *Conn) findEra(ctx context.Context, wait time.Duration) (*Server, error) {
	ctx, cancel := context.WithCancel(ctx)
	type handshake struct {
		server *Server
		err    error
	}
	discovered, initialized := make(chan Reply, 1), make(chan handshake, 1)
	probe, err := c.start(&Call{
		Method: mcp.MethodDiscover, Params: mcp.DiscoverParams(mcp.LatestModern, c.cfg.ClientInfo),
		Done: func(r Reply) { discovered <- r },
	}, true)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("server/discover: %w", err)
	}
	var modern, legacy *Server
	var notModern, notLegacy error
	ev := evidence{discover: unanswered}
	defer func() {
		cancel()
		c.Cancel(probe, "") // says nothing to the server
		if ev.discover == unanswered {
			r := <-discovered
			r.Release()
		}
		if ev.initialize == unanswered {
			<-initialized
		}
	}()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		switch ev.judge() {
		case sendInitialize:
			ev.initialize, ev.waited = unanswered, false
			go func() { // ends with ctx, and is waited for
				s, err := c.openLegacy(ctx)
				initialized <- handshake{s, err}
			}()
		case isModern:
			return c.modern(modern), nil
		case isLegacy:
			return legacy, nil
		case isLate:
			return nil, ErrLateDiscover
		case hasDied:
			return nil, fmt.Errorf("%w: %w", ErrDiedOfDiscover, errors.Join(notModern, notLegacy))
		case hasFailed:
			if ev.discover == failed || notLegacy == nil {
				return nil, fmt.Errorf("server/discover: %w", notModern)
			}
			return nil, notLegacy
		case goOn:
		}
		select {
		case r := <-discovered:
			modern, notModern = readDiscover(r)
			r.Release()
			ev.discover, ev.waited = classify(notModern), false
			if ev.discover == lost && c.unheard.Load() {
				ev.discover = failed // it has not seen the question
			}
			timer.Reset(wait)
		case h := <-initialized:
			legacy, notLegacy = h.server, h.err
			ev.initialize, ev.waited = classify(notLegacy), false
			if notLegacy != nil {
				timer.Reset(wait)
			} else {
				timer.Reset(stragglerWait)
			}
		case <-timer.C:
			ev.waited = true
		case <-ctx.Done():
			return nil, fmt.Errorf("server/discover: %w", context.Cause(ctx))
		}
	}
}

// classify returns what an answer to server/discover or initialize says.
func classify(err error) answer {
	refused := (*mcp.Error)(nil)
	switch {
	case err == nil:
		return accepted
	case errors.Is(err, errUnusable):
		return failed
	case errors.Is(err, ErrNotModern) || errors.As(err, &refused):
		return rejected
	case errors.Is(err, ErrLost):
		return lost
	}
	return failed
}

// readDiscover reads the answer to server/discover. If it is not that of a modern server that speaks a
// version that we know, or that speaks the legacy era too, the error is ErrNotModern.
func readDiscover(r Reply) (*Server, error) {
	if r.Err != nil {
		if answered(r) {
			return nil, fmt.Errorf("%w: %w", ErrNotModern, r.Err)
		}
		return nil, r.Err
	}
	var refusal *mcp.Error
	if errors.As(r.Failure(), &refusal) {
		// There is one version of the modern era yet, so that there is no other to try.
		if !refusal.ProvesModern() || mcp.NewestSupported(refusal) != "" {
			return nil, fmt.Errorf("%w: %w", ErrNotModern, refusal)
		}
		return nil, fmt.Errorf("%w, %w", errUnusable, refusal)
	}
	d, err := mcp.ParseDiscoverResult(r.Result)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotModern, err)
	}
	version := mcp.Newest(d.Versions)
	if version == "" {
		err = fmt.Errorf("it supports the protocol versions %q; known are %q", d.Versions, mcp.ModernVersions())
		for _, v := range d.Versions {
			if mcp.IsLegacy(v) {
				return nil, fmt.Errorf("%w: %w", ErrNotModern, err)
			}
		}
		return nil, fmt.Errorf("%w: %w", errUnusable, err)
	}
	return &Server{
		Era: fleet.EraModern, Protocol: version, Versions: d.Versions,
		Info: d.ServerInfo, Capabilities: d.Capabilities, Instructions: d.Instructions, Hint: d.Hint,
	}, nil
}

// errUnusable means that a modern server cannot be talked to.
var errUnusable = errors.New("the server is of the modern era, but cannot be used")
