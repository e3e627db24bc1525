package desired

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// sealKept is how long a key is kept after the next one has taken its place: what it
// sealed last may be valid for MaxSessionLifetime.
const sealKept = fleet.MaxSessionLifetime + 24*time.Hour

// AddSealKey adds a key that seals session ids and drops those that have sealed nothing
// that is still valid. The leader writes it. It is ignored if the newest key is another
// one than the leader knew, so that two leaders do not both add one.
type AddSealKey struct {
	After  uint32 `json:"after"` // id of the newest key; 0: there was none
	ID     uint32 `json:"id"`
	Secret []byte `json:"secret"`
}

func (AddSealKey) Tag() string      { return "seal_key" }
func (AddSealKey) Subject() Subject { return Subject{} }
func (AddSealKey) String() string   { return "add a key for session ids" }
func (AddSealKey) needs() int       { return 4 }

func (c AddSealKey) apply(d *draft) error {
	if c.ID == 0 || len(c.Secret) != fleet.SealKeyBytes {
		return fmt.Errorf("%w: a key needs an id and %d bytes", fleet.ErrInvalid, fleet.SealKeyBytes)
	}
	keys := d.next.SealKeys
	newest := uint32(0)
	if len(keys) > 0 {
		newest = keys[len(keys)-1].ID
	}
	if newest != c.After || slices.ContainsFunc(keys, func(k fleet.SealKey) bool { return k.ID == c.ID }) {
		return nil
	}
	added := fleet.SealKey{ID: c.ID, Secret: bytes.Clone(c.Secret), Created: d.now}
	next := make([]fleet.SealKey, 0, len(keys)+1)
	for i, k := range keys {
		superseded := added.Created
		if i+1 < len(keys) {
			superseded = keys[i+1].Created
		}
		if d.now.Sub(superseded) <= sealKept {
			next = append(next, k)
		}
	}
	d.next.SealKeys = append(next, added)
	d.changed()
	return nil
}
