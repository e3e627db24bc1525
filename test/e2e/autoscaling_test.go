//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/test/harness"
)

var (
	// What differs from run to run in the output of docs/AUTOSCALING.md.
	scaledFigures = regexp.MustCompile(`demo-1-[0-9a-f]{8}|"[0-9-]+T[0-9:.]+Z"|[0-9]+(\.[0-9]+)?`)
	scaledCalls   = regexp.MustCompile(`\bcalls?\b`)
	scaledFromTo  = regexp.MustCompile(`^server demo scaled from ([0-9]+) to ([0-9]+): `)
	scaledEvent   = regexp.MustCompile(`server demo scaled .*`)
)

// shapeOf leaves out of a line what differs from run to run.
func shapeOf(line string) string {
	return scaledCalls.ReplaceAllString(scaledFigures.ReplaceAllString(line, "N"), "calls")
}

func shapesOf(lines []string) map[string]bool {
	shapes := map[string]bool{}
	for _, line := range lines {
		shapes[shapeOf(line)] = true
	}
	return shapes
}

// The example in docs/AUTOSCALING.md runs as printed, apart from the port: a server goes
// idle, is woken and grows with its calls, and shrinks again for the reasons that the
// page shows.
func TestAutoscalingPage(t *testing.T) {
	t.Parallel()
	p := openPage(t, "docs/AUTOSCALING.md", "A worked example")
	scripts, outputs := p.commands(5), p.outputs(4)
	p.save("auto.yaml")
	if !p.starts(scripts[0]) {
		t.Fatalf("the example begins with %s", scripts[0])
	}
	harness.Eventually(t, patience, func() error { return hasInOrder(linesOf(p.up.output()), outputs[0]) })

	// A step of load may get one replica more, and a busy machine takes longer.
	grown := func(out string) error {
		got, want := linesOf(out), outputs[1]
		if err := hasInOrder(got, want[:2]); err != nil && !slices.Contains(got, strings.ReplaceAll(want[1], "6/6", "7/7")) {
			return err
		}
		for _, line := range got[2:] {
			if !shapesOf(want)[shapeOf(line)] {
				return fmt.Errorf("the page does not show lines such as %q", line)
			}
		}
		if n := len(got) - len(want); n != 0 && n != 1 {
			return fmt.Errorf("%d lines, and the page shows %d", len(got), len(want))
		}
		return nil
	}
	if err := grown(p.run(scripts[1])); err != nil {
		t.Log(err)
		harness.Eventually(t, patience, func() error { return grown(p.run("bin/mcpfleet status")) })
	}

	harness.Eventually(t, patience, func() error {
		b, err := os.ReadFile(filepath.Join(p.home, "calls.log"))
		if n := strings.Count(string(b), "\n"); err == nil && n < 60 {
			err = fmt.Errorf("%d of 60 calls are answered", n)
		}
		return err
	})
	if answers := strings.Join(linesOf(p.run(scripts[3])), "; "); !strings.Contains(p.text, "prints `"+answers+"`") {
		t.Errorf("the answers are %s", answers)
	}
	harness.Eventually(t, patience, func() error { return hasInOrder(linesOf(p.up.output()), slices.Concat(outputs[0], outputs[0][1:])) })
	mustScaleAs(t, scaledEvent.FindAllString(p.run(scripts[2]), -1), outputs[2])

	got, want := linesOf(p.run(scripts[4])), outputs[3]
	last := len(want) - 1
	for i, line := range want[:last] {
		if i >= len(got) || shapeOf(got[i]) != shapeOf(line) {
			t.Errorf("line %d is %q, want such as %q", i, got[i:min(i+1, len(got))], line)
		}
	}
	if !slices.Contains(got, want[last]) { // on a busy machine
		harness.Eventually(t, patience, func() error { return hasInOrder(linesOf(p.run("bin/mcpfleet status | head -2")), want[last:]) })
	}
}

// hasInOrder returns an error unless the lines are among the output, in order.
func hasInOrder(output, lines []string) error {
	left := output
	for _, line := range lines {
		i := slices.Index(left, line)
		if i < 0 {
			return fmt.Errorf("no line %q in its place: %q", line, output)
		}
		left = left[i+1:]
	}
	return nil
}

// mustScaleAs fails the test unless the decisions lead from none to the page's greatest
// target and back, one after the other, for the reasons that the page shows. The page
// leaves out the first two.
func mustScaleAs(t *testing.T, events, printed []string) {
	t.Helper()
	if len(events) < 2 {
		t.Fatalf("there are %d decisions", len(events))
	}
	events = events[2:]
	want, got := shapesOf(printed), shapesOf(events)
	for _, line := range printed {
		if !got[shapeOf(line)] {
			t.Errorf("no decision such as %q", line)
		}
	}
	at, most := 0, 0
	for _, line := range events {
		m := scaledFromTo.FindStringSubmatch(line)
		if m == nil || !want[shapeOf(line)] {
			t.Errorf("the page does not show decisions such as %q", line)
			continue
		}
		if m[1] != strconv.Itoa(at) {
			t.Errorf("%q, and the target was %d", line, at)
		}
		at, _ = strconv.Atoi(m[2])
		most = max(most, at)
	}
	if at != 0 || most < 6 || most > 7 {
		t.Errorf("the target is %d, and was %d at most; want 0, and 6 or 7", at, most)
	}
}
