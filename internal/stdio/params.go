package stdio

import (
	"bytes"
	"strconv"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// askForProgress makes the line of the call's params with a progress token. One scan of the params
// checks them and finds where it belongs. Params without _meta were checked by the controller, and
// are not scanned. If they are invalid all the same, only that call fails: they are still one line.
//
// own is nil in the legacy era. In the modern one it holds the _meta of our own requests, which calls
// get that have none of a client.
func (p *Pending) askForProgress(own *ownMeta) error {
	params := p.call.Params
	if len(params) > 0 && mcp.TypeOf(params) == "nothing" {
		return mcp.Valid(params) // blank params are invalid, empty ones are not
	}
	id := strconv.AppendUint(nil, p.id, 10)
	s, known := mcp.Spliced{}, false
	var token []byte
	switch {
	case p.call.NoMeta && own != nil:
		s, known = mcp.AddMeta(params, own.meta, id)
	case p.call.NoMeta:
		s, known = mcp.AddProgressToken(params, id)
	case own != nil:
		var err error
		if params, err = asModern(params); err != nil {
			return err
		}
	}
	if !known {
		var err error
		if s, token, err = mcp.WithProgressToken(params, id); err != nil {
			return err
		}
	}
	if p.call.OnNotification != nil {
		p.token = bytes.Clone(token) // params are the caller's again when the call has ended
	}
	p.line = [3][]byte{mcp.OneLine(s.Before), s.Insert, mcp.OneLine(s.After)}
	return nil
}

// ownMeta is what requests of our own say of us in the modern era.
type ownMeta struct {
	params []byte // of a request that has no others
	meta   []byte // the _meta in them
}

func newOwnMeta(client mcp.Implementation) *ownMeta {
	o := &ownMeta{params: mcp.DiscoverParams(mcp.LatestModern, client)}
	if found, err := mcp.Fields(o.params, "_meta"); err == nil {
		o.meta = found[0]
	}
	return o
}

// asModern returns params that say their version, with ours if they have none.
func asModern(params []byte) ([]byte, error) {
	meta, err := mcp.ParseMeta(params)
	if err != nil || meta.Version != nil {
		return params, err
	}
	return mcp.ParamsToModern(params, mcp.LatestModern, mcp.Client{})
}
