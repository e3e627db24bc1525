package seal

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func keysOf(keys ...fleet.SealKey) func() []fleet.SealKey {
	return func() []fleet.SealKey { return keys }
}

func TestSealAndOpen(t *testing.T) {
	old, key, other := newKey(), newKey(), newKey()
	text := []byte("session 1")
	token, err := New(keysOf(old)).Seal("session", text)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := New(keysOf(old)).Seal("session", text)
	if token == again {
		t.Error("two tokens of the same text are equal")
	}
	raw, _ := base64.RawURLEncoding.DecodeString(token)
	if bytes.Contains(raw, text) {
		t.Error("the token shows its text")
	}
	changed := func(i int) string {
		b := bytes.Clone(raw)
		b[i] ^= 1
		return base64.RawURLEncoding.EncodeToString(b)
	}
	for _, tt := range []struct {
		name    string
		keys    func() []fleet.SealKey
		purpose string
		token   string
		ok      bool
	}{
		{"same key", keysOf(old), "session", token, true},
		{"a newer key beside it", keysOf(old, key), "session", token, true},
		{"another purpose", keysOf(old), "state", token, false},
		{"a purpose that goes on", keysOf(old), "sessions", token, false},
		{"no key", keysOf(), "session", token, false},
		{"the key is gone", keysOf(key, other), "session", token, false},
		{"the same id with another secret", keysOf(fleet.SealKey{ID: old.ID, Secret: key.Secret}), "session", token, false},
		{"a damaged key", keysOf(fleet.SealKey{ID: old.ID, Secret: []byte("short")}), "session", token, false},
		{"another version", keysOf(old), "session", changed(0), false},
		{"another key id", keysOf(old), "session", changed(2), false},
		{"another nonce", keysOf(old), "session", changed(headerBytes), false},
		{"another text", keysOf(old), "session", changed(headerBytes + nonceBytes), false},
		{"another tag", keysOf(old), "session", changed(len(raw) - 1), false},
		{"cut", keysOf(old), "session", token[:len(token)-4], false},
		{"very short", keysOf(old), "session", "AQ", false},
		{"empty", keysOf(old), "session", "", false},
		{"not base64", keysOf(old), "session", token + "!", false},
		{"padded", keysOf(old), "session", token + "=", false},
		{"a line end inside", keysOf(old), "session", token[:8] + "\n" + token[8:], false},
		{"too long", keysOf(old), "session", strings.Repeat("A", MaxToken+1), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := New(tt.keys).Open(tt.purpose, tt.token)
			switch {
			case tt.ok && (err != nil || !bytes.Equal(got, text)):
				t.Errorf("got %q, %v", got, err)
			case !tt.ok && (err != ErrInvalid || got != nil): //nolint:errorlint // the same for all, so that it tells nothing
				t.Errorf("got %q, %v; want ErrInvalid", got, err)
			}
		})
	}
}

func TestSealBounds(t *testing.T) {
	if _, err := New(keysOf()).Seal("session", nil); !errors.Is(err, ErrNoKey) {
		t.Errorf("without a key: %v", err)
	}
	s := New(keysOf(newKey()))
	longest := MaxToken*3/4 - headerBytes - nonceBytes - 16
	token, err := s.Seal("session", make([]byte, longest))
	if err != nil || len(token) > MaxToken {
		t.Fatalf("the longest text: %d characters, %v", len(token), err)
	}
	if _, err := s.Open("session", token); err != nil {
		t.Errorf("the longest token is not opened: %v", err)
	}
	if _, err := s.Seal("session", make([]byte, longest+1)); !errors.Is(err, ErrTooLong) {
		t.Errorf("a longer one: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	s := New(keysOf(newKey()))
	token, _ := s.Seal("session", []byte("text"))
	f.Add(token)
	f.Add("AQAAAAA")
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := s.Open("session", text); err == nil && (string(got) != "text" || text != token) {
			t.Errorf("%q opens as %q", text, got)
		}
	})
}

func TestSealName(t *testing.T) {
	old, key := newKey(), newKey()
	name := func(s *Sealer, purpose, text string) string {
		token, err := s.SealName(purpose, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Open(purpose, token); err != nil || string(got) != text {
			t.Errorf("opened %q: %v", got, err)
		}
		return token
	}
	s := New(keysOf(old))
	token := name(s, "task", "a")
	if name(s, "task", "a") != token {
		t.Error("two tokens of the same text differ")
	}
	for _, other := range []string{name(s, "task", "b"), name(s, "tasks", "a"), name(New(keysOf(old, key)), "task", "a")} {
		if other == token {
			t.Error("tokens of different texts, purposes or keys are equal")
		}
		raw, _ := base64.RawURLEncoding.DecodeString(token)
		with, _ := base64.RawURLEncoding.DecodeString(other)
		if bytes.Equal(raw[headerBytes:headerBytes+nonceBytes], with[headerBytes:headerBytes+nonceBytes]) {
			t.Error("two nonces are equal")
		}
	}
	if _, err := New(keysOf()).SealName("task", nil); !errors.Is(err, ErrNoKey) {
		t.Errorf("got %v", err)
	}
}
