package desired

import (
	"fmt"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// maxKey bounds the length of an idempotency key: what is kept is bounded.
const maxKey = 255

// once does what a request asks for unless its key was used before. A key is
// kept also when there was nothing to do: the request repeated later, when
// there would be, must still do nothing. A refused request keeps none.
func (d *draft) once(key, request string, server fleet.ServerName, do func() error) error {
	if key == "" {
		return do()
	}
	if len(key) > maxKey {
		return fmt.Errorf("%w: an idempotency key has at most %d bytes, not %d", fleet.ErrInvalid, maxKey, len(key))
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
