package fleet

import (
	"fmt"
	"log/slog"
	"time"
)

// SealKey is a key that seals what clients keep for the fleet, such as session ids. It
// is desired state. Its secret is never printed.
type SealKey struct {
	ID      uint32    `json:"id"` // random, not 0
	Secret  []byte    `json:"secret"`
	Created time.Time `json:"created"`
}

// SealKeyBytes is the length of a key's secret.
const SealKeyBytes = 32

// MaxSessionLifetime is the longest session_lifetime. What a key has sealed can be
// opened for at least as long.
const MaxSessionLifetime = 30 * 24 * time.Hour

// String names the key.
func (k SealKey) String() string { return fmt.Sprintf("seal key %08x", k.ID) }

// GoString implements fmt.GoStringer.
func (k SealKey) GoString() string { return k.String() }

// LogValue implements slog.LogValuer.
func (k SealKey) LogValue() slog.Value { return slog.StringValue(k.String()) }
