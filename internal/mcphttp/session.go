package mcphttp

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/lookup"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// headerSession is the header with the id of a session, in net/http's canonical form.
const headerSession = "Mcp-Session-Id"

// sessionPurpose is that of the tokens which are session ids.
const sessionPurpose = "session"

const (
	// sessionForm is the first byte of what is sealed, in case there will be others.
	sessionForm = 1
	// maxParams bounds the parameters of initialize that a session id carries.
	maxParams = 64 << 10
)

// session is a legacy client's session. All of it is sealed in its id.
type session struct {
	uid     [16]byte        // random; names the session in tables and logs
	name    fleet.SessionID // uid as text
	scope   fleet.Scope
	created time.Time
	version string // the negotiated protocol version
	packed  []byte // the params of initialize, compressed
}

// newSession returns the session of a client that sent these params of initialize. Large
// ones are kept without icons, which are for people to see.
func newSession(scope fleet.Scope, version string, params []byte) (*session, error) {
	if len(params) > maxSealed {
		if small, err := mcp.Edit(params, mcp.Within("clientInfo", mcp.Remove("icons"))); err == nil {
			params = small
		}
	}
	s := &session{scope: scope, created: time.Now().Truncate(time.Second), version: version}
	rand.Read(s.uid[:])
	s.setName()
	z := packers.Get().(*flate.Writer)
	defer packers.Put(z)
	var packed bytes.Buffer
	z.Reset(&packed)
	_, err := z.Write(params)
	if err == nil {
		err = z.Close()
	}
	z.Reset(io.Discard) // so that it does not keep what it has packed
	s.packed = packed.Bytes()
	return s, err
}

// packers are reused, as each has tables of some 800 KiB.
var packers = sync.Pool{New: func() any {
	z, err := flate.NewWriter(io.Discard, flate.BestCompression)
	if err != nil {
		panic(err) // the level is a valid one
	}
	return z
}}

// unpackers are reused, as each has a window of 32 KiB.
var unpackers = sync.Pool{New: func() any { return flate.NewReader(bytes.NewReader(nil)) }}

// params returns the params of initialize.
func (s *session) params() ([]byte, error) {
	z := unpackers.Get().(io.Reader)
	defer unpackers.Put(z)
	if err := z.(flate.Resetter).Reset(bytes.NewReader(s.packed), nil); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(z, maxParams))
}

// client returns what the client said of itself in initialize, for a modern server.
func (s *session) client() (mcp.Client, error) {
	params, err := s.params()
	if err != nil {
		return mcp.Client{}, fmt.Errorf("session: %w", err)
	}
	in, err := mcp.ParseInitializeParams(params)
	if err != nil {
		return mcp.Client{}, fmt.Errorf("session: %w", err)
	}
	return mcp.Client{Info: in.ClientInfo, Capabilities: mcp.ClientCapabilitiesToModern(in.Capabilities)}, nil
}

// id returns the name of the session, which its client does not know.
func (s *session) id() fleet.SessionID { return s.name }

func (s *session) setName() { s.name = fleet.SessionID(hex.EncodeToString(s.uid[:])) }

// owner returns the name under which workers keep the streams of the session.
func (s *session) owner() string { return string(s.id()) }

// until returns when the session ends at the latest.
func (s *session) until() time.Time { return s.created.Add(fleet.MaxSessionLifetime) }

// streamOf returns the id of the stream of the request with this raw id. So any
// controller finds it.
func (s *session) streamOf(request []byte) fleet.StreamID {
	sum := sha256.Sum256(append(s.uid[:len(s.uid):len(s.uid)], request...))
	return fleet.StreamID(hex.EncodeToString(sum[:16]))
}

// encode returns the form that is sealed.
func (s *session) encode() []byte {
	b := append([]byte{sessionForm}, s.uid[:]...)
	b = binary.AppendUvarint(b, uint64(s.created.Unix()))
	for _, text := range [...]string{string(s.scope), s.version} {
		b = appendPart(b, text)
	}
	return append(b, s.packed...)
}

var errEncoding = errors.New("not a session")

// decodeSession undoes encode.
func decodeSession(b []byte) (*session, error) {
	s := &session{}
	if len(b) < 1+len(s.uid) || b[0] != sessionForm {
		return nil, errEncoding
	}
	b = b[1+copy(s.uid[:], b[1:]):]
	s.setName()
	created, b, ok := cutUvarint(b)
	if !ok {
		return nil, errEncoding
	}
	s.created = time.Unix(int64(created), 0)
	if b, ok = cutTexts(b, (*string)(&s.scope), &s.version); !ok {
		return nil, errEncoding
	}
	s.packed = b
	return s, nil
}

// open returns the session of a request. Its error is the answer.
func (f *Front) open(r *http.Request) (*session, error) {
	token := r.Header.Get(headerSession)
	if token == "" {
		if _, err := f.cfg.Offers.View(scopeOf(r)); lookup.Unknown(err) {
			return nil, err
		}
		return nil, errMissingSession
	}
	return f.openID(r.Context(), token, scopeOf(r))
}

// openID returns the session of an endpoint with this id. Its error is the answer.
func (f *Front) openID(ctx context.Context, token string, scope fleet.Scope) (*session, error) {
	text, err := f.unseal(ctx, sessionPurpose, token, errSession)
	if err != nil {
		return nil, err
	}
	s, err := decodeSession(text)
	if err != nil || s.scope != scope || time.Now().After(s.until()) || f.cfg.Sessions.Ended(s.id()) {
		return nil, errSession
	}
	return s, nil
}

const (
	// catchUp bounds how long a request waits for a controller that has just started to
	// know the keys of session ids. Clients would give up a session that they are told is
	// unknown.
	catchUp     = 5 * time.Second
	catchUpPoll = 20 * time.Millisecond
)

// unseal opens a token. Its error is the answer: invalid, unless this controller has just
// started. Another controller may have used a key that this one does not know yet.
func (f *Front) unseal(ctx context.Context, purpose, token string, invalid error) ([]byte, error) {
	for began := time.Now(); ; {
		text, err := f.cfg.Sealer.Open(purpose, token)
		if err == nil {
			return text, nil
		}
		lag, refusal := lookup.NewServerLag, invalid
		if f.lacks() {
			lag, refusal = catchUp, errIncomplete
		}
		if time.Since(began) >= lag {
			return nil, refusal
		}
		select {
		case <-time.After(catchUpPoll):
		case <-ctx.Done():
			return nil, refusal
		}
	}
}

// maxSealed bounds what is sealed in a session id, so that the id fits where headers are
// bounded.
const maxSealed = 4400

// seal returns the id of a session. Its error is the answer.
func (f *Front) seal(s *session) (string, error) {
	text := s.encode()
	if len(text) > maxSealed {
		return "", invalidParams("Invalid params: those of initialize are too large for a session id: at most about %d bytes, compressed", maxSealed)
	}
	token, err := f.cfg.Sealer.Seal(sessionPurpose, text)
	if err != nil {
		f.log.Warn("session not opened: its id cannot be sealed", "err", err)
		return "", errUnavailable
	}
	return token, nil
}
