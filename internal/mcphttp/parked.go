package mcphttp

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// statePurpose is that of the tokens which are request states.
const statePurpose = "state"

// parkedForm is the first byte of what is sealed, in case there will be others.
const parkedForm = 1

// parked is a call of a modern client that waits at a legacy server for what the client
// was asked. It is sealed in the requestState of the result, so that any controller can go
// on with it. A worker keeps the call itself, and whoever reads on claims it.
type parked struct {
	session  fleet.SessionID // whose replica it is at
	server   fleet.ServerName
	replica  fleet.ReplicaID
	at       fleet.EventID // the last message before the requests
	last     uint64        // the last message so far
	caller   string
	identity [sha256.Size]byte // of the request, see identify
	expires  time.Time
	asked    []asked
}

// asked is a request of the server that the client was sent under a key.
type asked struct {
	key string
	id  []byte // the server's own, raw JSON
}

// identify returns what a request has in common with its retries, and with no other.
func identify(method string, params []byte) (id [sha256.Size]byte, err error) {
	text, err := mcp.AppendIdentity(nil, method, params)
	return sha256.Sum256(text), err
}

// park returns the raw requestState of a parked call.
func (f *Front) park(p *parked) ([]byte, error) {
	token, err := f.cfg.Sealer.Seal(statePurpose, p.encode())
	if err != nil {
		f.log.Warn("call not parked: its state cannot be sealed", "err", err)
		return nil, errUnavailable
	}
	return mcp.AppendString(nil, token), nil
}

var errState = invalidParams("Invalid params: requestState is unknown, has expired or belongs to another request")

// unpark returns the call that a retry belongs to. A state of somebody else, of another
// request or of long ago is refused with the same words as a forged one.
func (f *Front) unpark(state []byte, caller, method string, params []byte, now time.Time) (*parked, error) {
	token, err := mcp.String(state)
	if err != nil {
		return nil, errState
	}
	text, err := f.cfg.Sealer.Open(statePurpose, token)
	if err != nil {
		return nil, errState
	}
	p, err := decodeParked(text)
	if err != nil || p.caller != caller || !now.Before(p.expires) {
		return nil, errState
	}
	if id, err := identify(method, params); err != nil || id != p.identity {
		return nil, errState
	}
	return p, nil
}

func (p *parked) encode() []byte {
	b := append([]byte{parkedForm}, p.identity[:]...)
	b = binary.AppendUvarint(b, uint64(p.expires.Unix()))
	b = binary.AppendUvarint(binary.AppendUvarint(b, p.at.Seq), p.last)
	for _, text := range p.texts() {
		b = appendPart(b, *text)
	}
	for _, a := range p.asked {
		b = appendPart(appendPart(b, a.key), string(a.id))
	}
	return b
}

func (p *parked) texts() [6]*string {
	return [...]*string{(*string)(&p.session), (*string)(&p.server), (*string)(&p.replica), (*string)(&p.at.Life), (*string)(&p.at.Stream), &p.caller}
}

var errNotParked = errors.New("not a parked call")

// decodeParked undoes encode.
func decodeParked(b []byte) (*parked, error) {
	p := &parked{}
	if len(b) < 1+len(p.identity) || b[0] != parkedForm {
		return nil, errNotParked
	}
	b = b[1+copy(p.identity[:], b[1:]):]
	expires, b, ok := cutUvarint(b)
	if !ok {
		return nil, errNotParked
	}
	p.expires = time.Unix(int64(expires), 0)
	if p.at.Seq, b, ok = cutUvarint(b); !ok {
		return nil, errNotParked
	}
	if p.last, b, ok = cutUvarint(b); !ok {
		return nil, errNotParked
	}
	texts := p.texts()
	if b, ok = cutTexts(b, texts[:]...); !ok {
		return nil, errNotParked
	}
	for len(b) > 0 {
		var key, id []byte
		if key, b, ok = cutPart(b); !ok {
			return nil, errNotParked
		}
		if id, b, ok = cutPart(b); !ok {
			return nil, errNotParked
		}
		p.asked = append(p.asked, asked{string(key), id})
	}
	return p, nil
}
