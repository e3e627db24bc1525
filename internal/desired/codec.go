package desired

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// ErrTooNew means that an entry or state was written by a newer version of
// mcpfleet, and this one cannot understand it.
var ErrTooNew = errors.New("written by a newer version")

// Needs returns the lowest format that understands the command.
func Needs(c Command) int {
	if c, ok := c.(interface{ needs() int }); ok {
		return c.needs()
	}
	return 1
}

// specNeeds returns the lowest format that knows all fields that are set in a
// spec.
func specNeeds(s *fleet.Spec) int {
	if len(s.ToolOverrides) > 0 || s.Era != fleet.EraAuto || s.PerSession() ||
		s.MaxSessions != 0 || s.SessionsEach != 0 || s.SessionIdle != 0 || s.SessionLifetime != 0 || s.OnLoss != "" {
		return 4
	}
	if s.Autoscaling != nil || s.Update != nil || s.Warm != 0 || len(s.Devices) > 0 || len(s.Resources.Custom) > 0 {
		return 3
	}
	if len(s.RunOptions) > 0 || len(s.EnabledTools) > 0 || len(s.DisabledTools) > 0 || s.MaxRequestBytes != 0 || s.Health.Off ||
		slices.ContainsFunc(s.Mounts, func(m fleet.Mount) bool { return m.SELinux != "" }) {
		return 2
	}
	return 1
}

// header is what all entries have. The command follows it under its tag:
//
//	{"format":1,"time":"2030-01-02T12:00:00Z","restart":{"name":"x"}}
type header struct {
	Format int       `json:"format"` // the lowest that understands the entry; see Needs
	Time   time.Time `json:"time"`
}

// EncodeEntry returns the entry as the log holds it.
func EncodeEntry(e Entry) ([]byte, error) {
	if err := checkTime(e.Time); err != nil {
		return nil, fmt.Errorf("encode entry: %w", err)
	}
	head, err := json.Marshal(header{Needs(e.Command), plainTime(e.Time)})
	if err != nil {
		return nil, fmt.Errorf("encode entry: %w", err)
	}
	body, err := json.Marshal(e.Command)
	if err != nil {
		return nil, fmt.Errorf("encode entry: %w", err)
	}
	return slices.Concat(head[:len(head)-1], []byte(`,"`+e.Command.Tag()+`":`), body, []byte("}")), nil
}

// DecodeEntry reads an entry of the log. The error wraps ErrTooNew when only a
// newer version can read it.
func DecodeEntry(b []byte) (Entry, error) {
	e, err := decodeEntry(b)
	if err != nil {
		return Entry{}, fmt.Errorf("decode entry: %w", err)
	}
	return e, nil
}

func decodeEntry(b []byte) (e Entry, err error) {
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(b, &parts); err != nil {
		return e, fmt.Errorf("damaged: %w", err)
	}
	if err := checkFormat(parts["format"]); err != nil {
		return e, err
	}
	n := 0
	for _, key := range slices.Sorted(maps.Keys(parts)) {
		text := parts[key]
		switch {
		case key == "format":
			continue
		case key == "time":
			err = decodeStrictly(text, &e.Time)
		case string(text) == "null":
			continue
		default:
			n++
			e.Command, err = decodeCommand(key, text)
		}
		if err != nil {
			return e, err
		}
	}
	if n != 1 {
		return e, fmt.Errorf("an entry holds one command, not %d", n)
	}
	e.Time = plainTime(e.Time)
	return e, checkTime(e.Time)
}

func decodeCommand(tag string, text []byte) (Command, error) {
	for _, c := range commands() {
		if c.Tag() == tag {
			v := reflect.New(reflect.TypeOf(c))
			err := decodeStrictly(text, v.Interface())
			return v.Elem().Interface().(Command), err
		}
	}
	return nil, fmt.Errorf("%w: unknown command %q", ErrTooNew, tag)
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

// Decode reads what Encode wrote. The error wraps ErrTooNew when only a newer
// version can read it.
func Decode(b []byte) (*State, error) {
	var head struct {
		Format json.RawMessage `json:"format"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("decode state: damaged: %w", err)
	}
	s := &State{}
	if err := checkFormat(head.Format); err != nil {
		return nil, fmt.Errorf("decode state: %w", err)
	}
	if err := decodeStrictly(b, s); err != nil {
		return nil, fmt.Errorf("decode state: %w", err)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("decode state: damaged: %w", err)
	}
	return s, nil
}

// check returns an error if Apply cannot have made the state, as far as Apply
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
		if sv.Failed != nil && sv.Kept(sv.Failed.Revision) == nil {
			return fmt.Errorf("server %s: its failed revision %d is missing", name, sv.Failed.Revision)
		}
	}
	for name, g := range s.Gateways {
		for _, server := range g.Servers {
			if s.Servers[server] == nil {
				return fmt.Errorf("gateway %s: its server %s is missing", name, server)
			}
		}
	}
	if s.DefaultServer != "" && s.Servers[s.DefaultServer] == nil {
		return fmt.Errorf("the default server %s is missing", s.DefaultServer)
	}
	return nil
}

// checkFormat refuses the format, in JSON, of something that this version cannot
// understand.
func checkFormat(text json.RawMessage) error {
	format := 0
	if text != nil {
		if err := json.Unmarshal(text, &format); err != nil {
			return fmt.Errorf("damaged: %w", err)
		}
	}
	switch {
	case format > Format:
		return fmt.Errorf("%w: format %d; this one understands up to %d", ErrTooNew, format, Format)
	case format < 1:
		return errors.New("damaged: it has no format")
	}
	return nil
}

// decodeStrictly reads one JSON value into v. Unknown fields belong to a newer
// version: ignoring them would lose them.
func decodeStrictly(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	strict := dec.Decode(v)
	if strict == nil {
		if _, err := dec.Token(); !errors.Is(err, io.EOF) {
			return errors.New("damaged: there is something after its end")
		}
		return nil
	}
	// The library does not tell an unknown field from other errors by type.
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("damaged: %w", err)
	}
	return fmt.Errorf("%w: %w", ErrTooNew, strict)
}

// plainTime returns t as it is after a round trip through JSON.
func plainTime(t time.Time) time.Time { return t.Round(0).UTC() }

// checkTime refuses times that JSON cannot hold once they are shifted by a
// deadline or a zone: a state with such a time could not be written any more.
func checkTime(t time.Time) error {
	if y := t.UTC().Year(); y < 1 || y > 9998 {
		return fmt.Errorf("the time is in the year %d", y)
	}
	return nil
}
