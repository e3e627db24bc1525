package desired

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func TestSealKeysAreKeptAsLongAsWhatTheySealed(t *testing.T) {
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	var s *State
	add := func(after, id uint32, now time.Time) Result {
		r := s.Apply(s.applied()+1, 1, Entry{now, AddSealKey{After: after, ID: id, Secret: bytes.Repeat([]byte{byte(id)}, fleet.SealKeyBytes)}})
		s = r.State
		return r
	}
	ids := func() (out []uint32) {
		for _, k := range s.SealKeys {
			out = append(out, k.ID)
		}
		return out
	}
	if r := add(0, 1, at); r.Err != nil || !slices.Equal(ids(), []uint32{1}) || !s.SealKeys[0].Created.Equal(at) || s.Format != 4 {
		t.Fatalf("first key: %v %v, format %d", r.Err, s.SealKeys, s.Format)
	}
	add(0, 2, at.Add(time.Second)) // of a leader that knew no key
	add(7, 2, at.Add(time.Second)) // of one that knew another
	add(1, 1, at.Add(time.Second)) // its id is taken
	if !slices.Equal(ids(), []uint32{1}) {
		t.Errorf("late keys were added: %v", ids())
	}
	add(1, 2, at.Add(24*time.Hour))
	// Key 1 has sealed until key 2 came. What it sealed last lives for MaxSessionLifetime.
	late := at.Add(24*time.Hour + sealKept)
	add(2, 3, late)
	if !slices.Equal(ids(), []uint32{1, 2, 3}) {
		t.Errorf("keys whose tokens may be valid: %v", ids())
	}
	add(3, 4, late.Add(time.Second))
	if !slices.Equal(ids(), []uint32{2, 3, 4}) {
		t.Errorf("keys a second later: %v", ids())
	}
	for _, c := range []AddSealKey{{After: 4, ID: 0, Secret: make([]byte, fleet.SealKeyBytes)}, {After: 4, ID: 9, Secret: []byte("short")}} {
		if r := s.DryRun(late, c); !errors.Is(r.Err, fleet.ErrInvalid) {
			t.Errorf("%+v: %v", c, r.Err)
		}
	}
	text, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	restored, err := Decode(text)
	if err != nil || !slices.EqualFunc(restored.SealKeys, s.SealKeys, func(a, b fleet.SealKey) bool {
		return a.ID == b.ID && bytes.Equal(a.Secret, b.Secret) && a.Created.Equal(b.Created)
	}) {
		t.Errorf("restored keys %v, %v; want %v", restored.SealKeys, err, s.SealKeys)
	}
}

func (s *State) applied() uint64 {
	if s == nil {
		return 0
	}
	return s.Applied
}
