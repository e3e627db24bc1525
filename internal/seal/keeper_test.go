package seal

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// state is desired state that fails writes on request.
type state struct {
	mu   sync.Mutex
	keys []fleet.SealKey
	err  error
	refs int
}

func (s *state) SealKeys() []fleet.SealKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys
}

func (s *state) AddSealKey(_ context.Context, after uint32, key fleet.SealKey) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refs++; s.err != nil {
		return s.err
	}
	if n := len(s.keys); n > 0 && s.keys[n-1].ID != after || n == 0 && after != 0 {
		return nil
	}
	key.Created = time.Now()
	s.keys = append(s.keys[:len(s.keys):len(s.keys)], key)
	return nil
}

func (s *state) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func TestKeeperMakesAKeyADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &state{err: fmt.Errorf("one is old: %w", fleet.ErrUnsupported)}
		var log strings.Builder
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() {
			done <- (&Keeper{Desired: s, Log: slog.New(slog.NewTextHandler(&log, nil))}).Run(ctx)
		}()
		time.Sleep(time.Minute + time.Second)
		if len(s.SealKeys()) != 0 || s.refs != 7 || strings.Count(log.String(), "older version") != 1 {
			t.Errorf("beside an old controller: %d keys after %d tries, log: %s", len(s.keys), s.refs, log.String())
		}
		s.fail(nil)
		time.Sleep(oldRetry)
		if len(s.SealKeys()) != 1 {
			t.Fatalf("%d keys, want 1", len(s.keys))
		}
		time.Sleep(keyAge - 2*oldRetry)
		if len(s.SealKeys()) != 1 {
			t.Errorf("%d keys before a day has passed, want 1", len(s.keys))
		}
		s.fail(fleet.ErrOutcomeUnknown)
		time.Sleep(3 * oldRetry)
		s.fail(nil)
		time.Sleep(2 * writeRetry)
		if len(s.SealKeys()) != 2 {
			t.Errorf("%d keys after a day and failed writes, want 2", len(s.keys))
		}
		time.Sleep(10 * keyAge)
		if len(s.SealKeys()) != 12 {
			t.Errorf("%d keys ten days later, want 12", len(s.keys))
		}
		for _, k := range s.SealKeys() {
			if strings.Contains(log.String(), string(k.Secret)) {
				t.Error("the log shows a secret")
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestAKeyShowsNoSecret(t *testing.T) {
	k := fleet.SealKey{ID: 7, Secret: []byte("very secret")}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("a key", "key", k)
	for _, text := range []string{fmt.Sprint(k), fmt.Sprintf("%v %+v %#v %s", k, k, k, k), log.String()} {
		if strings.Contains(text, "secret") || strings.Contains(text, "dmVyeSBz") || !strings.Contains(text, "00000007") {
			t.Errorf("printed as %s", text)
		}
	}
}
