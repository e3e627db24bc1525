package seal

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	// keyAge is how long a key seals before a new one takes its place.
	keyAge = 24 * time.Hour
	// writeRetry is the wait after a key could not be written. oldRetry is the wait while
	// a controller of an older version lives, which would not understand it.
	writeRetry = 2 * time.Second
	oldRetry   = 10 * time.Second
)

// Desired is desired state. Package controller implements it with the store.
type Desired interface {
	SealKeys() []fleet.SealKey
	// AddSealKey makes the key the newest, unless after is not the id of the newest one.
	// after is 0 if there is none.
	AddSealKey(ctx context.Context, after uint32, key fleet.SealKey) error
}

// Keeper makes the first key of a cluster, and a new one each day. Only the leader runs
// it.
type Keeper struct {
	Desired Desired
	Log     *slog.Logger
}

// Run ends with ctx, the leader's tenure, and returns nil.
func (k *Keeper) Run(ctx context.Context) error {
	unsupported := false
	for {
		wait := k.due(time.Now())
		if wait <= 0 {
			err := k.add(ctx)
			switch {
			case err == nil:
				unsupported = false
				continue
			case errors.Is(err, fleet.ErrUnsupported):
				if wait = oldRetry; !unsupported {
					unsupported = true
					k.Log.Info("no key for session ids while a controller of an older version lives", "err", err)
				}
			default:
				if wait = writeRetry; ctx.Err() == nil && !errors.Is(err, fleet.ErrNotLeader) {
					k.Log.Warn("key for session ids not written", "err", err)
				}
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// due returns how long the newest key still seals. A clock that was set back does not
// make it seal for longer than a fresh one.
func (k *Keeper) due(now time.Time) time.Duration {
	keys := k.Desired.SealKeys()
	if len(keys) == 0 {
		return 0
	}
	return min(keyAge, keys[len(keys)-1].Created.Add(keyAge).Sub(now))
}

// add writes a new key.
func (k *Keeper) add(ctx context.Context) error {
	keys, after := k.Desired.SealKeys(), uint32(0)
	if len(keys) > 0 {
		after = keys[len(keys)-1].ID
	}
	return k.Desired.AddSealKey(ctx, after, newKey())
}

// newKey returns a random key. Desired state sets when it was created.
func newKey() fleet.SealKey {
	var id [4]byte
	key := fleet.SealKey{Secret: make([]byte, fleet.SealKeyBytes)}
	for key.ID == 0 {
		rand.Read(id[:])
		key.ID = binary.BigEndian.Uint32(id[:])
	}
	rand.Read(key.Secret)
	return key
}
