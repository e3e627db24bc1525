package desired

import (
	"fmt"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// MaxKeyLength is the most bytes that an idempotency key may have.
const MaxKeyLength = 255

// once calls do unless the request's key was used before. A key is kept even if
// there was nothing to do: the same request repeated later must still do nothing.
// The key of a refused request is not kept.
func (d *draft) once(key, request string, server fleet.ServerName, do func() error) error {
	if key == "" {
		return do()
	}
	if len(key) > MaxKeyLength {
		return fmt.Errorf("%w: an idempotency key has at most %d bytes, not %d", fleet.ErrInvalid, MaxKeyLength, len(key))
	}
	if i := slices.IndexFunc(d.next.Keys, func(k Key) bool { return k.Key == key }); i >= 0 {
		used := d.next.Keys[i]
		if used.Request != request {
			return fmt.Errorf("%w: the idempotency key was used for another request: %s", fleet.ErrConflict, used.Request)
		}
		d.repeated = true
		d.changes = used.Changes
		return nil
	}
	if err := do(); err != nil {
		return err
	}
	keys := d.next.Keys
	if len(keys) >= MaxKeys {
		keys = keys[len(keys)-MaxKeys+1:]
	}
	d.next.Keys = append(slices.Clone(keys), Key{Key: key, Request: request, Server: server, Changes: d.changes})
	d.touched = true
	return nil
}
