//go:build linux

package conformance

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"text/tabwriter"
)

var (
	runningFleet = flag.String("url", "", "address of a fleet that runs already, with servers named legacy and modern")
	checkClients = flag.Bool("direct", false, "check also that official clients work without the fleet")
	verbose      = flag.Bool("why", false, "show why each scenario did not pass")
)

// cell is one kind of client in front of one kind of server.
type cell struct {
	wire   string // the revision that the client speaks
	server string // legacy or modern
}

func (c cell) String() string { return fmt.Sprintf("%s client, %s server", c.wire, c.server) }

var cells = []cell{
	{legacy, "legacy"},
	{modern, "modern"},
	{legacy, "modern"},
	{modern, "legacy"},
}

// fixtures are the servers, and how many scenarios of the revision that they are
// written for pass without the fleet.
var fixtures = map[string]struct {
	script    string
	revisions map[string]int // scenarios, by revision
}{
	"legacy": {script: "legacy.mjs", revisions: map[string]int{legacy: 33}},
	"modern": {script: "modern.mjs", revisions: map[string]int{legacy: 33, modern: 40}},
}

// spec returns the specification of a fixture.
func (s suite) spec(server string) map[string]any {
	spec := map[string]any{"command": []string{s.node, filepath.Join(s.fixture, fixtures[server].script)}}
	switch server {
	case "legacy":
		// Each call of a modern client takes a spare, and the scenario server-stateless gives
		// some calls only half a second, which a process of node needs to start.
		spec["sessions"], spec["warm"] = "session", 8
	case "modern":
		spec["replicas"] = 1 // the tools of each replica change on their own
	}
	return spec
}

// All scenarios that pass without the fleet pass through it, and those of 2026-07-28
// also if the server behind is a legacy one.
func TestSuite(t *testing.T) {
	s := install(t)
	direct := map[cell]map[string]outcome{}
	for name, f := range fixtures {
		url := s.direct(t, f.script)
		for revision, want := range f.revisions {
			c := cell{revision, name}
			direct[c] = s.run(t, url, revision)
			if n := passed(direct[c]); n != want || len(direct[c]) != want {
				t.Errorf("%s, without the fleet: %d of %d scenarios pass, want %d of %d\n%s", c, n, len(direct[c]), want, want, reasons(direct[c]))
			}
		}
	}
	// The wire that a server does not speak must not cost more than the exceptions.
	direct[cell{modern, "legacy"}] = direct[cell{modern, "modern"}]

	front := *runningFleet
	if front == "" {
		f := startFleet(t)
		for name := range fixtures {
			f.deploy(t, name, s.spec(name))
		}
		front = f.front
	}
	through := map[cell]map[string]outcome{}
	for _, c := range cells {
		t.Run(c.String(), func(t *testing.T) {
			through[c] = s.run(t, front+"/"+c.server+"/mcp", c.wire)
			compare(t, c, direct[c], through[c])
		})
	}
	t.Logf("scenarios that pass:\n%s", table(direct, through))
}

// compare compares the outcomes of a cell's scenarios with and without the fleet.
func compare(t *testing.T, c cell, direct, through map[string]outcome) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(direct)) {
		got := through[name]
		_, isPending := pending[c][name]
		reason, isException := exceptions[c][name]
		switch {
		case !direct[name].passed, !got.passed && (isPending || isException):
		case !got.passed:
			t.Errorf("%s does not pass: %s", name, got.why)
		case isPending:
			t.Errorf("%s passes now: remove it from pending", name)
		case isException:
			t.Errorf("%s passes, although %s: remove it from the exceptions", name, reason)
		}
	}
	for name, got := range through {
		for _, check := range unexpected(c, direct[name], got) {
			t.Errorf("%s warns: %s: %s", name, check, got.warnings[check])
		}
		if _, ok := direct[name]; !ok {
			t.Errorf("%s did not run without the fleet", name)
		}
	}
	if *verbose {
		t.Logf("%s", reasons(through))
	}
}

// unexpected returns the checks that warn only through the fleet, and should not.
func unexpected(c cell, direct, through outcome) (checks []string) {
	for _, check := range slices.Sorted(maps.Keys(through.warnings)) {
		_, without := direct.warnings[check]
		if _, excepted := warnings[c][check]; !without && !excepted {
			checks = append(checks, check)
		}
	}
	return checks
}

func passed(of map[string]outcome) (n int) {
	for _, o := range of {
		if o.passed {
			n++
		}
	}
	return n
}

// reasons returns why scenarios do not pass, one a line.
func reasons(of map[string]outcome) string {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if !of[name].passed {
			fmt.Fprintf(&b, "%s: %s\n", name, of[name].why)
		}
		for check, why := range of[name].warnings {
			fmt.Fprintf(&b, "%s warns: %s: %s\n", name, check, why)
		}
	}
	return b.String()
}

// table returns how many scenarios pass in each cell.
func table(direct, through map[cell]map[string]outcome) string {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CLIENT\tSERVER\tWITHOUT FLEET\tFLEET\tEXCEPTIONS\tPENDING")
	for _, c := range cells {
		without := "-"
		if _, ok := fixtures[c.server].revisions[c.wire]; ok {
			without = fmt.Sprint(passed(direct[c]))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d of %d\t%d\t%d\n", c.wire, c.server, without, passed(through[c]), len(direct[c]), len(exceptions[c]), len(pending[c]))
	}
	w.Flush()
	return b.String()
}
