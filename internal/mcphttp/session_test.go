package mcphttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/lookup"
	"github.com/mcpfleet/mcpfleet/internal/seal"
)

// keyless is a Sealer without the key of a token until some time.
type keyless struct {
	plain
	until time.Time
}

func (k keyless) Open(purpose, token string) ([]byte, error) {
	if time.Now().Before(k.until) {
		return nil, errors.New("unknown key")
	}
	return k.plain.Open(purpose, token)
}

// A controller that has just started waits for the keys of session ids before it calls a
// session unknown.
func TestUnseal(t *testing.T) {
	for _, tt := range []struct {
		name       string
		incomplete string // why the controller lacks what the fleet knows
		key        time.Duration
		want       error
		after      time.Duration
	}{
		{"known", "", 0, nil, 0},
		{"known by an incomplete controller", "starting", 0, nil, 0},
		{"sealed a moment ago by another controller", "", 100 * time.Millisecond, nil, 100 * time.Millisecond},
		{"unknown", "", time.Hour, errSession, lookup.NewServerLag},
		{"sealed before the controller started", "starting", time.Second, nil, time.Second},
		{"not known for long", "starting", time.Hour, errIncomplete, catchUp},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				f := &Front{cfg: Config{
					Sealer:     keyless{until: began.Add(tt.key)},
					Incomplete: func() string { return tt.incomplete },
				}}
				token, err := plain{}.Seal(sessionPurpose, []byte("text"))
				if err != nil {
					t.Fatal(err)
				}
				text, err := f.unseal(t.Context(), sessionPurpose, token, errSession)
				if !errors.Is(err, tt.want) || err == nil && string(text) != "text" {
					t.Errorf("got %q, %v; want %v", text, err, tt.want)
				}
				if took := time.Since(began); took < tt.after || took > tt.after+catchUpPoll {
					t.Errorf("took %s, want %s", took, tt.after)
				}
			})
		})
	}
}

// It waits likewise for servers that it does not know yet.
func TestLookWhileIncomplete(t *testing.T) {
	unknown := fmt.Errorf("%w: just started", fleet.ErrCatalogueUnknown)
	for _, tt := range []struct {
		name     string
		lacks    time.Duration // how long the controller is incomplete
		unknown  time.Duration // how long the server is unknown
		want     error
		after    time.Duration
		canceled time.Duration
	}{
		{name: "known", lacks: time.Hour},
		{name: "known in a moment", lacks: time.Second, unknown: time.Second, after: time.Second},
		{name: "its image is being pulled", unknown: time.Hour, want: fleet.ErrCatalogueUnknown},
		{name: "not known for long", lacks: time.Hour, unknown: time.Hour, want: fleet.ErrCatalogueUnknown, after: catchUp},
		{name: "the client is gone", lacks: time.Hour, unknown: time.Hour, want: fleet.ErrCatalogueUnknown, after: time.Second, canceled: time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				ctx := t.Context()
				if tt.canceled > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.canceled)
					defer cancel()
				}
				f := &Front{cfg: Config{Incomplete: func() string {
					if time.Since(began) < tt.lacks {
						return "just started"
					}
					return ""
				}}}
				err := f.look(ctx, &query{came: began}, nil, func() error {
					if time.Since(began) < tt.unknown {
						return unknown
					}
					return nil
				})
				if !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				if took := time.Since(began); took < tt.after || took > tt.after+catchUpPoll {
					t.Errorf("took %s, want %s", took, tt.after)
				}
			})
		})
	}
}

// A session outlives the key that has sealed its id for as long as that is kept.
func TestSessionsOutliveTheirKey(t *testing.T) {
	f := newFixture()
	old, fresh := fleet.SealKey{ID: 1, Secret: make([]byte, fleet.SealKeyBytes)}, fleet.SealKey{ID: 2, Secret: bytes.Repeat([]byte{7}, fleet.SealKeyBytes)}
	keys := []fleet.SealKey{old}
	f.front.cfg.Sealer = seal.New(func() []fleet.SealKey { return keys })
	const ping = `{"jsonrpc":"2.0","id":2,"method":"ping"}`
	first := f.open(t, "/old/mcp", "2025-11-25")
	keys = []fleet.SealKey{old, fresh}
	second := f.open(t, "/old/mcp", "2025-11-25")
	for _, id := range []string{first, second} {
		want(t, f.do("POST", "/old/mcp", ping, "Mcp-Session-Id", id), 200, `{"jsonrpc":"2.0","id":2,"result":{}}`)
	}
	keys = []fleet.SealKey{fresh}
	wantError(t, f.do("POST", "/old/mcp", ping, "Mcp-Session-Id", first), 404, "2", codeSessionNotFound, "")
	want(t, f.do("POST", "/old/mcp", ping, "Mcp-Session-Id", second), 200, `{"jsonrpc":"2.0","id":2,"result":{}}`)
}
