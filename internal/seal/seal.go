// Package seal makes tokens that clients keep for the fleet, such as session ids. Nobody
// else can read, forge or change one.
//
// A token is sealed with XChaCha20-Poly1305 and belongs to one purpose: a token of one
// purpose is invalid for every other. It names its key, so that keys can be replaced
// while their tokens stay valid. Keys are desired state, so every controller opens the
// tokens of all others. Keeper makes the keys, and Keeper.Run is the package's only loop.
//
// Open says no more about a token than that it is invalid: neither whether its key is
// gone, nor whether it was changed, nor whether it belongs to another purpose.
//
// All methods may be called at any time.
package seal

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// MaxToken is the length of the longest token, in characters. Clients send it in a
// header, and servers of others commonly bound that by 8 KiB.
const MaxToken = 6 << 10

var (
	// ErrInvalid means that a token cannot be opened, for whatever reason.
	ErrInvalid = errors.New("invalid token")
	// ErrNoKey means that nothing can be sealed yet: no leader has made a key.
	ErrNoKey = errors.New("no key to seal with yet")
	// ErrTooLong means that a token would be longer than MaxToken.
	ErrTooLong = fmt.Errorf("a token has at most %d characters", MaxToken)
)

// A token is the base64url form of version, key id, nonce and ciphertext.
const (
	version     = 1
	headerBytes = 1 + 4
	nonceBytes  = chacha20poly1305.NonceSizeX
)

// encoding is strict, so that each token has one form.
var encoding = base64.RawURLEncoding.Strict()

// Sealer seals and opens tokens.
type Sealer struct {
	keys func() []fleet.SealKey
}

// New returns a Sealer that uses the keys that the function returns, oldest first: it
// seals with the newest.
func New(keys func() []fleet.SealKey) *Sealer { return &Sealer{keys} }

// Seal returns a token for the purpose. Two tokens of the same text differ. It fails with
// ErrNoKey or ErrTooLong.
func (s *Sealer) Seal(purpose string, text []byte) (string, error) {
	return s.seal(purpose, text, func(nonce, _ []byte) { rand.Read(nonce) }) // never fails since Go 1.24
}

// SealName is Seal for names: two tokens of the same text are equal as long as the key is
// the same. Nobody learns more from a token than whether it is equal to another one. Its
// nonce is a keyed hash of the text, so that no two texts share one.
func (s *Sealer) SealName(purpose string, text []byte) (string, error) {
	return s.seal(purpose, text, func(nonce, secret []byte) {
		own := hmac.New(sha256.New, secret)
		own.Write([]byte("nonce of a name")) // the key of the hash is not that of the cipher
		mac := hmac.New(sha256.New, own.Sum(nil))
		mac.Write([]byte(purpose))
		mac.Write([]byte{0})
		mac.Write(text)
		copy(nonce, mac.Sum(nil))
	})
}

// seal seals with the nonce that fill makes with the secret of the key.
func (s *Sealer) seal(purpose string, text []byte, fill func(nonce, secret []byte)) (string, error) {
	keys := s.keys()
	if len(keys) == 0 {
		return "", ErrNoKey
	}
	key := keys[len(keys)-1]
	aead, err := chacha20poly1305.NewX(key.Secret)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoKey, err)
	}
	size := headerBytes + nonceBytes + len(text) + aead.Overhead()
	if encoding.EncodedLen(size) > MaxToken {
		return "", ErrTooLong
	}
	token := make([]byte, headerBytes+nonceBytes, size)
	token[0] = version
	binary.BigEndian.PutUint32(token[1:], key.ID)
	fill(token[headerBytes:], key.Secret)
	token = aead.Seal(token, token[headerBytes:], text, bound(purpose, token))
	return encoding.EncodeToString(token), nil
}

// Open returns what Seal sealed for the purpose, or ErrInvalid.
func (s *Sealer) Open(purpose, token string) ([]byte, error) {
	if len(token) > MaxToken || strings.ContainsAny(token, "\r\n") { // which the decoder would skip
		return nil, ErrInvalid
	}
	b, err := encoding.DecodeString(token)
	if err != nil || len(b) < headerBytes+nonceBytes+chacha20poly1305.Overhead || b[0] != version {
		return nil, ErrInvalid
	}
	id := binary.BigEndian.Uint32(b[1:])
	for _, key := range s.keys() {
		if key.ID != id {
			continue
		}
		aead, err := chacha20poly1305.NewX(key.Secret)
		if err != nil {
			return nil, ErrInvalid
		}
		text, err := aead.Open(nil, b[headerBytes:headerBytes+nonceBytes], b[headerBytes+nonceBytes:], bound(purpose, b))
		if err != nil {
			return nil, ErrInvalid
		}
		return text, nil
	}
	return nil, ErrInvalid
}

// bound returns what a token is bound to beside its text: its header and its purpose.
func bound(purpose string, token []byte) []byte {
	return append(token[:headerBytes:headerBytes], purpose...)
}
