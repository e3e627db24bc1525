package bridge

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

const (
	renewTimeout = 30 * time.Second
	maxRestored  = 1000 // subscriptions that a new session gets back
)

// pass is what a request needs of the session that it belongs to.
type pass struct {
	life    int // which session this is; 0 before the first
	id      string
	version string
}

// header returns the header of a legacy POST.
func (p pass) header() http.Header {
	h := baseHeader()
	p.addTo(h)
	return h
}

func (p pass) addTo(h http.Header) {
	if p.id != "" {
		h.Set(headerSession, p.id)
	}
	if p.version != "" {
		h.Set(mcp.HeaderVersion, p.version)
	}
}

// session is the legacy session, and what it takes to begin it again. Its methods
// may be called at any time.
type session struct {
	renewing chan struct{} // a lock: at most one renewal at a time

	mu      sync.Mutex
	current pass
	changed chan struct{} // closed when current changes or becomes ready

	initialize  []byte // the client's line; nil before the first session
	initialized []byte // the client's line; nil until it has come
	announced   []string
	level       []byte
	subscribed  map[string][]byte // lines by URI
}

func newSession() *session {
	return &session{renewing: make(chan struct{}, 1), changed: make(chan struct{}), subscribed: map[string][]byte{}}
}

// pass returns the current session.
func (s *session) pass() pass {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// begin notes the session that an answer to initialize begins: a new one of the
// client, or one in place of the last. It does not count if the result has no
// version.
func (s *session) begin(line, result []byte, id string, renewed bool) {
	r, err := mcp.ParseInitializeResult(result)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !renewed {
		s.initialize, s.initialized, s.level = line, nil, nil
		clear(s.subscribed)
	}
	s.announced = nil
	for capability, method := range map[string]string{
		"tools": mcp.MethodToolsListChanged, "resources": mcp.MethodResourcesListChanged, "prompts": mcp.MethodPromptsListChanged,
	} {
		if string(within(r.Capabilities, capability, "listChanged")) == "true" {
			s.announced = append(s.announced, method)
		}
	}
	slices.Sort(s.announced)
	s.current = pass{life: s.current.life + 1, id: id, version: r.ProtocolVersion}
	s.notify()
}

func (s *session) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// ready notes that the server has got the client's notifications/initialized.
func (s *session) ready(line []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.initialized = line
	s.notify()
}

// next returns the current session once it is another one than last and the
// server knows that the client is ready.
func (s *session) next(ctx context.Context, last int) (pass, error) {
	for {
		s.mu.Lock()
		now, ready, changed := s.current, s.initialized != nil, s.changed
		s.mu.Unlock()
		if ready && now.life > last {
			return now, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return pass{}, context.Cause(ctx)
		}
	}
}

// note keeps what a request has set in the session, after its success.
func (s *session) note(m *message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	uri, _ := mcp.String(within(m.env.Params, "uri"))
	switch m.method {
	case mcp.MethodSetLevel:
		s.level = m.line
	case mcp.MethodSubscribe:
		if len(s.subscribed) < maxRestored && len(m.line) <= smallMessage {
			s.subscribed[uri] = m.line
		}
	case mcp.MethodUnsubscribe:
		delete(s.subscribed, uri)
	}
}

// renew begins the session again if life is still the current one, as the server
// has forgotten it. It returns the session to use instead.
func (b *bridge) renew(ctx context.Context, life int) (pass, error) {
	s := b.session
	select {
	case s.renewing <- struct{}{}:
		defer func() { <-s.renewing }()
	case <-ctx.Done():
		return pass{}, context.Cause(ctx)
	}
	s.mu.Lock()
	now, initialize, initialized, level := s.current, s.initialize, s.initialized, s.level
	subscribed := slices.Collect(maps.Values(s.subscribed))
	s.mu.Unlock()
	if now.life != life {
		return now, nil
	}
	// Others wait for the same session, so the caller's context does not end this.
	ctx, cancel := context.WithTimeout(b.ctx, renewTimeout)
	defer cancel()
	env, id, err := b.exchange(ctx, baseHeader(), initialize)
	if err != nil {
		return pass{}, err
	}
	if initialized != nil {
		if err := b.deliver(ctx, pass{id: id, version: versionOf(env.Result)}.header(), initialized); err != nil {
			return pass{}, err
		}
	}
	s.begin(initialize, env.Result, id, true)
	now = s.pass()
	if level != nil {
		subscribed = append(subscribed, level)
	}
	for _, line := range subscribed {
		if _, _, err := b.exchange(ctx, now.header(), line); err != nil {
			b.log.Warn("part of the session was not restored", "err", err)
		}
	}
	b.log.Info("the server had forgotten the session; began it again", "restored", len(subscribed))
	s.mu.Lock()
	announced := s.announced
	s.mu.Unlock()
	for _, method := range announced { // the lists may differ by now
		b.out.message(append(mcp.AppendString([]byte(`{"jsonrpc":"2.0","method":`), method), '}'))
	}
	return now, nil
}

func versionOf(result []byte) string {
	version, _ := mcp.String(within(result, "protocolVersion"))
	return version
}
