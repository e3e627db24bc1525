package catalogue

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// A change of one server among many costs the names of all, and the lists that merge
// them.
func BenchmarkUpdate(b *testing.B) {
	w, c := world{}, New(nil)
	source := Source{Lookup: w.lookup, Default: "s000"}
	for i := range 200 {
		var list [][]byte
		for j := range 20 {
			list = append(list, fmt.Appendf(nil, `{"name":"tool_%d","description":%q,"inputSchema":{"type":"object","properties":{"a":{"type":"string"}}}}`, j, strings.Repeat("x", 800)))
		}
		source.Servers = append(source.Servers, w.full(fleet.ServerName(fmt.Sprintf("s%03d", i)), fleet.Catalogue{Tools: list}))
	}
	for i := 0; b.Loop(); i++ {
		source.Servers[i%200].DefaultTool = fmt.Sprint(i)
		c.Update(source)
	}
}

// A look-up copies no list and takes no lock.
func BenchmarkView(b *testing.B) {
	w, c := world{}, New(nil)
	c.Update(Source{Lookup: w.lookup, Servers: []Server{w.full("a", fleet.Catalogue{Tools: tools("x")}), w.full("b", fleet.Catalogue{Tools: tools("y")})}})
	for b.Loop() {
		v, err := c.View("")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := v.Tool("b__y"); err != nil {
			b.Fatal(err)
		}
	}
}
