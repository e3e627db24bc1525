package httpapi

import (
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// A dry run shows what the tools of the new revision take away from callers, if they
// are known: the same template has run before.
func TestToolChanges(t *testing.T) {
	write := func(st *desired.State, commands ...desired.Command) *desired.State {
		t.Helper()
		for _, c := range commands {
			res := st.Apply(st.Applied+1, 1, desired.Entry{Time: time.Now(), Command: c})
			if res.Err != nil {
				t.Fatal(res.Err)
			}
			st = res.State
		}
		return st
	}
	tools := func(list ...string) *fleet.Catalogue {
		c := &fleet.Catalogue{Hash: strings.Join(list, " ")}
		for _, name := range list {
			c.Tools = append(c.Tools, []byte(`{"name":"`+name+`"}`))
		}
		return c
	}
	put := func(image string, disabled ...string) desired.Command {
		return desired.PutServer{Name: "s", Spec: fleet.Spec{Template: fleet.Template{Image: image}, Replicas: 1, DisabledTools: disabled}}
	}
	st := write(&desired.State{}, put("a"), desired.SetCatalogue{Name: "s", Revision: 1, Catalogue: tools("x")}, desired.EndRollout{Name: "s", Revision: 1},
		put("b"), desired.SetCatalogue{Name: "s", Revision: 2, Catalogue: tools("x", "y")}, desired.EndRollout{Name: "s", Revision: 2})
	const unknown = "the tools of the new revision are not known yet: they are compared with those of revision 2 when its first replica is ready"
	for _, tt := range []struct {
		name    string
		state   *desired.State
		command desired.Command
		want    string
	}{
		{"a tool goes with the old template", st, put("a"), "callers may break: tool y: it is gone"},
		{"it goes with a rollback", st, desired.Rollback{Name: "s", Revision: 1}, "callers may break: tool y: it is gone"},
		{"nobody can call it", st, put("a", "y"), ""},
		{"a new template", st, put("c"), unknown},
		{"a new template in mid-rollout", write(st, put("d")), put("c"), unknown},
		{"back in mid-rollout", write(st, put("d")), put("b"), ""},
		{"the same template", st, put("b", "x"), ""},
		{"another server", st, desired.PutServer{Name: "t", Spec: fleet.Spec{Template: fleet.Template{Image: "a"}}}, ""},
		{"removed", st, desired.DeleteServer{Name: "s"}, ""},
		{"a first revision is replaced", write(&desired.State{}, put("a")), put("b"), ""},
	} {
		res := tt.state.DryRun(time.Now(), tt.command)
		if res.Err != nil {
			t.Fatal(res.Err)
		}
		got := ""
		for _, w := range toolChanges(tt.state, res.State, res.Changes) {
			got += w.Text
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
