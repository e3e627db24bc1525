package desired

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func TestDecodeEntryRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, text, says string
		tooNew           bool
	}{
		{"newer format", `{"format":5,"time":"2030-01-02T12:00:00Z","restart":{"name":"x"}}`, "format 5", true},
		{"newer format of another shape", `{"format":5,"time":17}`, "format 5", true},
		{"unknown kind", `{"format":1,"time":"2030-01-02T12:00:00Z","teleport":{"name":"x"}}`, "teleport", true},
		{"unknown field", `{"format":1,"time":"2030-01-02T12:00:00Z","restart":{"name":"x","gently":true}}`, "gently", true},
		{"unknown field of a spec", `{"format":1,"time":"2030-01-02T12:00:00Z","put_server":{"name":"x","spec":{"Replicas":1,"Zones":2}}}`, "Zones", true},
		{"nothing", ``, "damaged", false},
		{"cut off", `{"format":1,"time":"2030-01-02T12:00:00Z","restart":{"na`, "damaged", false},
		{"no format", `{"time":"2030-01-02T12:00:00Z","restart":{"name":"x"}}`, "no format", false},
		{"wrong type", `{"format":1,"time":"2030-01-02T12:00:00Z","restart":{"name":5}}`, "damaged", false},
		{"two values", `{"format":1,"time":"2030-01-02T12:00:00Z","restart":{"name":"x"}} {}`, "damaged", false},
		{"no command", `{"format":1,"time":"2030-01-02T12:00:00Z"}`, "one command, not 0", false},
		{"two commands", `{"format":1,"time":"2030-01-02T12:00:00Z","restart":{"name":"x"},"delete":{"name":"x"}}`, "one command, not 2", false},
		{"past all calendars", `{"format":1,"time":"9999-12-31T23:59:59Z","restart":{"name":"x"}}`, "year", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := DecodeEntry([]byte(tc.text))
			if err == nil || errors.Is(err, ErrTooNew) != tc.tooNew || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v; want too new %t, saying %q", err, tc.tooNew, tc.says)
			}
		})
	}
}

func TestEncodeEntry(t *testing.T) {
	e := Entry{time.Date(2030, 1, 2, 13, 0, 0, 5, time.FixedZone("", 3600)), restart("x", "k")}
	b, err := EncodeEntry(e)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"format":1,"time":"2030-01-02T12:00:00.000000005Z","restart":{"name":"x","key":"k"}}`; string(b) != want {
		t.Errorf("encoded as %s, want %s", b, want)
	}
	got, err := DecodeEntry(b)
	if err != nil || !got.Time.Equal(e.Time) || !reflect.DeepEqual(got.Command, e.Command) {
		t.Errorf("decoded %+v, %v", got, err)
	}
	if b, err := EncodeEntry(Entry{time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), restart("x", "k")}); err == nil {
		t.Errorf("encoded as %s", b)
	}
}

func TestDecodeStateRefuses(t *testing.T) {
	h := newHistory(t)
	h.do(putAll("x", map[fleet.ServerName]fleet.Spec{"x": spec("a", 1)}), rolledOut("x", 1, 0), put("x", spec("b", 1)))
	good := string(encoded(t, h.s))
	if _, err := Decode([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, old, new, says string
		tooNew               bool
	}{
		{"newer format", `{"format":1`, `{"format":5`, "format 5", true},
		{"unknown field", `{"format":1`, `{"format":1,"quotas":{}`, "quotas", true},
		{"no format", `{"format":1`, `{"format":0`, "no format", false},
		{"cut off", good[len(good)-30:], ``, "damaged", false},
		{"present revision missing", `"revision":2`, `"revision":3`, "its revision 3 is missing", false},
		{"stable revision missing", `"stable":1`, `"stable":9`, "stable revision 9 is missing", false},
		{"revisions out of order", `{"number":1,`, `{"number":2,`, "out of order", false},
		{"a revision that is nobody's last", `"last_revision":{"x":2}`, `"last_revision":{"x":1}`, "out of order", false},
		{"a server that is nothing", `"servers":{`, `"servers":{"y":null,`, `server "y" is empty`, false},
		{"failed revision missing", `"revisions":[{`, `"failed":{"revision":9,"reason":"","at":"2030-01-02T12:00:00Z"},"revisions":[{`, "failed revision 9 is missing", false},
		{"default server missing", `"default_server":"x"`, `"default_server":"y"`, "default server y", false},
		{"server of a gateway missing", `"last_revision":{`, `"gateways":{"g":{"servers":["x","y"]}},"last_revision":{`, "its server y is missing", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bad := strings.Replace(good, tc.old, tc.new, 1)
			if bad == good {
				t.Fatalf("%s is not in %s", tc.old, good)
			}
			_, err := Decode([]byte(bad))
			if err == nil || errors.Is(err, ErrTooNew) != tc.tooNew || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v; want too new %t, saying %q", err, tc.tooNew, tc.says)
			}
		})
	}
}

func TestEmptyStateEncodes(t *testing.T) {
	var none *State
	b := encoded(t, none)
	s, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := encoded(t, s); !bytes.Equal(got, b) {
		t.Errorf("%s became %s", b, got)
	}
}

// FuzzDecodeEntry applies every input that decodes to a state that is not empty. The
// resulting states can be written and read back.
func FuzzDecodeEntry(f *testing.F) {
	var base *State
	for i, c := range []Command{
		BeginTenure{Controller: "c", Name: "n", Cluster: "cl", Expect: 3},
		putAll("x", map[fleet.ServerName]fleet.Spec{"x": {Template: fleet.Template{Image: "a", Env: map[string]string{"T": "s"}}, Replicas: 1}, "y": spec("a", 2)}),
		rolledOut("x", 1, 0),
		put("x", spec("b", 3), "1.2", "*"),
		scale("x", 4), restart("x", "k"), rollback("x", 0, "l"), del("y"),
		node("n", fleet.NodeIntent{DrainUntil: noon}),
		SetCatalogue{Name: "x", Revision: 1, Catalogue: &fleet.Catalogue{Hash: "h", Tools: [][]byte{nil, []byte("{}")}}},
		SetKnown{Nodes: []fleet.NodeID{"n"}},
		put("a", autoscaled("a", 1, 5)), SetTarget{Name: "a", Replicas: 2, Written: 14}, SetFloor{Name: "a", MinReplicas: 3, Until: noon.Add(time.Hour)},
		put("x", spec("d", 1)),
		AdvanceRollout{Name: "x", Revision: 3, Generation: 1, Checked: true, Step: 1, Held: "h", Warning: "w"}, SetRollout{Name: "x", Verb: ResumeRollout},
		FailRollout{Name: "x", Revision: 3, Generation: 1, Reason: "r", Unfit: true},
		PutServer{Name: "z", Spec: fleet.Spec{Template: fleet.Template{Env: map[string]string{"T": fleet.Masked}}}, Match: Match{New: true}},
	} {
		e := Entry{noon, c}
		b, err := EncodeEntry(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		base = base.Apply(uint64(i+1), 2, e).State
	}
	f.Add([]byte(`{"format":1,"time":"9998-12-31T23:59:59-23:59","put_servers":null,"restart":{}}`))
	f.Add([]byte(fmt.Sprintf(`{"format":1,"time":"2030-01-02T12:00:00Z","rollback":{"name":"x","revision":%d}}`, ^uint64(0))))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeEntry(b)
		if err != nil {
			return
		}
		for _, s := range []*State{nil, base} {
			before := encoded(t, s)
			index := uint64(1)
			if s != nil {
				index = s.Applied + 1
			}
			s.NeedsEntry(e.Command)
			r := s.Apply(index, 3, e)
			r = r.State.Apply(index+1, 3, e)
			if after := encoded(t, s); !bytes.Equal(before, after) {
				t.Fatalf("%s changed the state it was applied to", b)
			}
			text := encoded(t, r.State)
			back, err := Decode(text)
			if err != nil {
				t.Fatalf("a state that cannot be read back: %v\n%s", err, text)
			}
			if got := encoded(t, back); !bytes.Equal(got, text) {
				t.Fatalf("read back, the state differs:\n%s\n%s", text, got)
			}
			r.State.List()
			r.State.Default()
		}
	})
}

// Specs with fields that an older version does not know need a newer format. All
// others are written as before.
func TestNeeds(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*fleet.Spec)
		want int
	}{
		{"what there always was", func(*fleet.Spec) {}, 1},
		{"run options", func(s *fleet.Spec) { s.RunOptions = []string{"--ipc=host"} }, 2},
		{"enabled tools", func(s *fleet.Spec) { s.EnabledTools = []string{"a"} }, 2},
		{"disabled tools", func(s *fleet.Spec) { s.DisabledTools = []string{"a"} }, 2},
		{"a limit of requests", func(s *fleet.Spec) { s.MaxRequestBytes = 1 << 20 }, 2},
		{"health: off", func(s *fleet.Spec) { s.Health.Off = true }, 2},
		{"autoscaling", func(s *fleet.Spec) { s.Autoscaling = &fleet.Autoscaling{} }, 3},
		{"an update policy", func(s *fleet.Spec) { s.Update = &fleet.Update{} }, 3},
		{"spares", func(s *fleet.Spec) { s.Warm = 1 }, 3},
		{"devices", func(s *fleet.Spec) { s.Devices = []string{"/dev/fuse"} }, 3},
		{"custom resources", func(s *fleet.Spec) { s.Resources.Custom = map[string]int64{"gpu": 1} }, 3},
		{"an override", func(s *fleet.Spec) { s.ToolOverrides = map[string]fleet.ToolOverride{"a": {Rename: "b"}} }, 4},
		{"an era", func(s *fleet.Spec) { s.Era = fleet.EraLegacy }, 4},
		{"sessions with replicas to themselves", func(s *fleet.Spec) { s.Sessions = fleet.SessionsSession }, 4},
		{"a label of a mount", func(s *fleet.Spec) { s.Mounts[0].SELinux = "z" }, 2},
	} {
		spec := fleet.Spec{Template: fleet.Template{Image: "x", Mounts: []fleet.Mount{{Source: "a", Target: "/b"}}}}
		tt.edit(&spec)
		one := PutServer{Name: "x", Spec: spec}
		all := PutServers{Servers: map[fleet.ServerName]fleet.Spec{"a": {}, "x": spec}}
		if got, both := Needs(one), Needs(all); got != tt.want || both != tt.want {
			t.Errorf("%s: format %d for one, %d for all, want %d", tt.name, got, both, tt.want)
		}
	}
}

// Every field that was added to a spec after format 1 needs a newer format: a
// controller that does not know the field stops at it.
func TestNeedsKnowsEveryNewField(t *testing.T) {
	var spec fleet.Spec
	spec.Mounts = []fleet.Mount{{}}
	first := map[any][]string{ // what format 1 has
		&spec: {
			"Template", "Replicas", "MaxReplicasPerNode", "MaxOngoingRequests", "MaxQueuedRequests", "CallTimeout", "MaxCallDuration", "DefaultTool",
		},
		&spec.Template: {
			"Image", "PullPolicy", "Entrypoint", "Command", "Args", "Env", "Cwd", "Mounts", "Network", "User", "ReadOnly", "CapAdd", "NewPrivileges",
			"Resources", "Labels", "Sessions", "Health", "StartTimeout", "StopGrace", "DrainTimeout",
		},
		&spec.Health:    {"Period", "Timeout", "Failures"},
		&spec.Resources: {"CPUs", "Memory", "PIDs"},
		&spec.Mounts[0]: {"Source", "Target", "ReadOnly"},
	}
	for in, known := range first {
		all := reflect.ValueOf(in).Elem()
		for i := range all.NumField() {
			name, field := all.Type().Field(i).Name, all.Field(i)
			if slices.Contains(known, name) {
				continue
			}
			switch field.Kind() {
			case reflect.Bool:
				field.SetBool(true)
			case reflect.Int, reflect.Int64:
				field.SetInt(1)
			case reflect.String:
				field.SetString("x")
			case reflect.Slice:
				field.Set(reflect.MakeSlice(field.Type(), 1, 1))
			case reflect.Pointer:
				field.Set(reflect.New(field.Type().Elem()))
			case reflect.Map:
				field.Set(reflect.MakeMap(field.Type()))
				field.SetMapIndex(reflect.ValueOf("x"), reflect.Zero(field.Type().Elem()))
			default:
				t.Fatalf("this test cannot set %s.%s, a %s", all.Type(), name, field.Kind())
			}
			if got := Needs(PutServer{Name: "x", Spec: spec}); got < 2 {
				t.Errorf("a spec with %s.%s needs format %d, want a newer one", all.Type(), name, got)
			}
			field.SetZero()
		}
	}
}
