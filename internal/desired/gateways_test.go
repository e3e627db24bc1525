package desired

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Gateways are written together with the servers, and refused without them. What is
// stored needs a version that knows it.
func TestGateways(t *testing.T) {
	type gateways = map[fleet.GatewayName]fleet.Gateway
	servers := func(names ...fleet.ServerName) map[fleet.ServerName]fleet.Spec {
		out := make(map[fleet.ServerName]fleet.Spec)
		for _, name := range names {
			out[name] = fleet.Spec{Template: fleet.Template{Image: "i"}, Replicas: 1}
		}
		return out
	}
	of := func(names ...fleet.ServerName) fleet.Gateway { return fleet.Gateway{Servers: names} }
	var st *State
	apply := func(c Command) Result {
		t.Helper()
		index := uint64(1)
		if st != nil {
			index = st.Applied + 1
		}
		r := st.Apply(index, 1, Entry{Time: noon, Command: c})
		st = r.State
		text, err := st.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := Decode(text); err != nil || !reflect.DeepEqual(back.Gateways, st.Gateways) {
			t.Fatalf("gateways %v after a round trip, %v; want %v", back.Gateways, err, st.Gateways)
		}
		return r
	}
	changes := func(r Result) string {
		var out []string
		for _, c := range r.Changes {
			text := string(c.Kind) + " " + c.Subject().String()
			for _, f := range c.Fields {
				text += " " + f.Field + ":" + f.From + ">" + f.To
			}
			out = append(out, text)
		}
		return strings.Join(out, ", ")
	}
	for _, tt := range []struct {
		name    string
		command Command
		want    string
		err     error
	}{
		{"no server of that name", PutServers{Servers: servers("a"), Gateways: gateways{"g": of("a", "b")}}, "", fleet.ErrInvalid},
		{"no servers", PutServers{Servers: servers("a"), Gateways: gateways{"g": of()}}, "", fleet.ErrInvalid},
		{"made", PutServers{Servers: servers("a", "b"), Gateways: gateways{"g": of("a", "b"), "h": of("b")}},
			`created server a, created server b, gateway_set gateway g servers:>["a","b"], gateway_set gateway h servers:>["b"]`, nil},
		{"the same again", PutServers{Servers: servers("a", "b"), Gateways: gateways{"g": of("a", "b"), "h": of("b")}}, "", nil},
		{"a server of one is not deleted", DeleteServer{Name: "b"}, "", fleet.ErrConflict},
		{"a server of one is not left out", PutServers{Servers: servers("a"), Gateways: gateways{"g": of("a", "b")}}, "", fleet.ErrInvalid},
		{"changed and removed", PutServers{Servers: servers("a", "b"), Gateways: gateways{"g": {Servers: []fleet.ServerName{"a"}, Tools: fleet.Tools{Deny: []string{"t"}}}}},
			`gateway_set gateway g servers:["a","b"]>["a"] tools.deny:>["t"], gateway_removed gateway h`, nil},
		{"a server that is in none is deleted", DeleteServer{Name: "b"}, "deleted server b", nil},
		{"all removed", PutServers{}, "deleted server a, gateway_removed gateway g", nil},
	} {
		before := st.ETag()
		r := apply(tt.command)
		if got := changes(r); got != tt.want || !errors.Is(r.Err, tt.err) {
			t.Errorf("%s: got %s, %v; want %s, %v", tt.name, got, r.Err, tt.want, tt.err)
		}
		if changed := st.ETag() != before; changed != (tt.want != "") {
			t.Errorf("%s: the ETag changed: %v", tt.name, changed)
		}
		for _, c := range r.Changes {
			if c.MovesReplicas() && c.Gateway != "" {
				t.Errorf("%s: replicas move because of %s", tt.name, c.Subject())
			}
		}
	}
	if got := fmt.Sprint(Needs(PutServers{Servers: servers("a")}), Needs(PutServers{Servers: servers("a"), Gateways: gateways{"g": of("a")}})); got != "1 4" {
		t.Errorf("needs formats %s, want 1 4", got)
	}
}
