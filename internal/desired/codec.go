package desired

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// ErrTooNew means that a command or state was written by a newer version of mcpfleet
// than this one, and cannot be understood without it.
var ErrTooNew = errors.New("written by a newer version")

// Needs returns the lowest format that understands the command. Every command
// there is has been there from the first, but not every field of a spec.
func Needs(c Command) int {
	newer := c.PutServer != nil && newSpec(&c.PutServer.Spec)
	if c.PutServers != nil {
		for _, spec := range c.PutServers.Servers {
			newer = newer || newSpec(&spec)
		}
	}
	if newer {
		return 2
	}
	return 1
}

// newSpec reports whether a spec has what format 1 does not know.
func newSpec(s *fleet.Spec) bool {
	return len(s.RunOptions) > 0 || len(s.EnabledTools) > 0 || len(s.DisabledTools) > 0 || s.MaxRequestBytes != 0 || s.Health.Off ||
		slices.ContainsFunc(s.Mounts, func(m fleet.Mount) bool { return m.SELinux != "" })
}

// EncodeCommand returns the command as the log holds it.
func EncodeCommand(c Command) ([]byte, error) {
	c.Format = Needs(c)
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	c.Time = plainTime(c.Time)
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	return b, nil
}

// DecodeCommand reads an entry of the log. The error is ErrTooNew when only a
// newer version can.
func DecodeCommand(b []byte) (Command, error) {
	var c Command
	if err := decode(b, &c); err != nil {
		return Command{}, fmt.Errorf("decode command: %w", err)
	}
	if err := c.check(); err != nil {
		return Command{}, fmt.Errorf("decode command: %w", err)
	}
	c.Time = plainTime(c.Time)
	return c, nil
}

func (c Command) check() error {
	if n := c.kinds(); n != 1 {
		return fmt.Errorf("an entry holds one command, not %d", n)
	}
	return checkTime(c.Time)
}

// Encode returns the state as snapshots and backups hold it. Equal states give
// equal bytes.
func (s *State) Encode() ([]byte, error) {
	var out State
	if s != nil {
		out = *s
	}
	out.Format = max(out.Format, 1)
	b, err := json.Marshal(out) // map keys are sorted
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	return b, nil
}

// Decode reads what Encode wrote. The error is ErrTooNew when only a newer
// version can.
func Decode(b []byte) (*State, error) {
	s := &State{}
	if err := decode(b, s); err != nil {
		return nil, fmt.Errorf("decode state: %w", err)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("decode state: damaged: %w", err)
	}
	return s, nil
}

// check tells whether a state is one that Apply can have made, as far as Apply
// relies on it.
func (s *State) check() error {
	for name, sv := range s.Servers {
		if name == "" || sv == nil {
			return fmt.Errorf("server %q is empty", string(name))
		}
		last := sv.Revisions
		for i, rev := range last {
			if rev.Number == 0 || i > 0 && rev.Number <= last[i-1].Number || rev.Number > s.LastRevision[name] {
				return fmt.Errorf("server %s: revision %d is out of order", name, rev.Number)
			}
		}
		if sv.Kept(sv.Revision) == nil {
			return fmt.Errorf("server %s: its revision %d is missing", name, sv.Revision)
		}
		if sv.Stable != 0 && sv.Kept(sv.Stable) == nil {
			return fmt.Errorf("server %s: its stable revision %d is missing", name, sv.Stable)
		}
	}
	if s.DefaultServer != "" && s.Servers[s.DefaultServer] == nil {
		return fmt.Errorf("the default server %s is missing", s.DefaultServer)
	}
	return nil
}

// decode reads one JSON value into v, which has a format. Fields that v does
// not have are as new as a newer format: leaving them out would lose them.
func decode(b []byte, v any) error {
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return fmt.Errorf("damaged: %w", err)
	}
	switch {
	case head.Format > Format:
		return fmt.Errorf("%w: format %d; this one understands up to %d", ErrTooNew, head.Format, Format)
	case head.Format < 1:
		return errors.New("damaged: it has no format")
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	strict := dec.Decode(v)
	if strict == nil {
		if _, err := dec.Token(); !errors.Is(err, io.EOF) {
			return errors.New("damaged: there is something behind its end")
		}
		return nil
	}
	// The library does not tell an unknown field from other errors by type.
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("damaged: %w", err)
	}
	return fmt.Errorf("%w: %w", ErrTooNew, strict)
}

// plainTime is t as JSON gives it back everywhere.
func plainTime(t time.Time) time.Time { return t.Round(0).UTC() }

// checkTime refuses times that, shifted by a deadline or a zone, JSON cannot
// hold: a state with one could not be written any more.
func checkTime(t time.Time) error {
	if y := t.UTC().Year(); y < 1 || y > 9998 {
		return fmt.Errorf("the time is in the year %d", y)
	}
	return nil
}
