package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/cli/format"
	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
)

// The views, in the order of their keys.
const (
	serversView = iota
	replicasView
	nodesView
	views // how many there are
)

// viewNames returns the names of the views.
func viewNames() [views]string { return [views]string{"servers", "replicas", "nodes"} }

// table is what a view shows.
type table struct {
	columns []column
	rows    []row
}

// column is one column of a table. Numbers are on the right of it, and the greatest
// come first when it is sorted.
type column struct {
	name   string
	number bool
}

// row is one row of a table.
type row struct {
	key     string // its identity over time
	cells   []cell
	detail  string // all of the reason
	problem bool   // to be marked
}

// cell is what a table has in one place.
type cell struct {
	text string
	by   float64 // in a column of numbers, what it is sorted by
}

// tables returns the table of each view.
func tables(r *Report) [views]table {
	return [views]table{serverTable(r), replicaTable(r), nodeTable(r)}
}

func serverTable(r *Report) table {
	t := table{columns: slices.Concat(
		[]column{{"SERVER", false}, {"STATE", false}, {"READY", true}, {"REV", true}},
		callColumns(), []column{{"QUEUED", true}}, usageColumns(), []column{{"REASON", false}},
	)}
	for _, s := range r.Servers {
		t.add(string(s.Name), s.Reason, s.Ready < s.Desired, slices.Concat(
			[]cell{text(s.Name), text(s.State), {fmt.Sprintf("%d/%d", s.Ready, s.Desired), float64(s.Ready)}, {s.revision, float64(s.Revision)}},
			s.calls(), []cell{count(s.Queued)}, s.usage(), []cell{text(s.Reason)},
		))
	}
	return t
}

func replicaTable(r *Report) table {
	t := table{columns: slices.Concat(
		[]column{{"REPLICA", false}, {"SERVER", false}, {"NODE", false}, {"PHASE", false}, {"REV", true}},
		callColumns(), usageColumns(), []column{{"AGE", true}, {"REASON", false}},
	)}
	for _, one := range r.Replicas {
		t.add(string(one.ID), one.Reason, one.Phase == "FAILED", slices.Concat(
			[]cell{text(one.ID), text(one.Server), text(one.Node), text(one.phase), count(int(one.Revision))},
			one.calls(), one.usage(), []cell{{one.age, one.Age}, text(one.Reason)},
		))
	}
	return t
}

func nodeTable(r *Report) table {
	t := table{columns: slices.Concat(
		[]column{{"NODE", false}, {"ROLE", false}, {"STATE", false}, {"REPLICAS", true}},
		callColumns(), usageColumns(), []column{{"CPUS RESERVED", true}, {"MEMORY RESERVED", true}, {"REASON", false}},
	)}
	for _, n := range r.Nodes {
		t.add(string(n.Name), n.Reason, n.Reason != "", slices.Concat(
			[]cell{text(n.Name), text(n.Role), text(n.State), count(n.Replicas)},
			n.calls(), n.usage(), []cell{{n.cpus, n.Allocated.CPUs}, {n.memory, float64(n.Allocated.Memory)}, text(n.Reason)},
		))
	}
	return t
}

// callColumns are those of Figures.calls.
func callColumns() []column {
	return []column{{"CALLS/S", true}, {"ERR/S", true}, {"P50", true}, {"P95", true}, {"ONGOING", true}}
}

func (f *Figures) calls() []cell {
	return []cell{rate(f.Calls), rate(f.Errors), seconds(f.P50), seconds(f.P95), count(f.Ongoing)}
}

// usageColumns are those of Figures.usage.
func usageColumns() []column { return []column{{"CPU", true}, {"MEMORY", true}} }

func (f *Figures) usage() []cell {
	if f.CPUs == 0 && f.Memory == 0 { // nothing runs, or nothing is known
		return make([]cell, 2)
	}
	return []cell{{fmt.Sprintf("%.2f", f.CPUs), f.CPUs}, {format.Bytes(f.Memory), float64(f.Memory)}}
}

// add adds a row.
func (t *table) add(key, detail string, problem bool, cells []cell) {
	for i := range cells {
		if cells[i].text == "" {
			cells[i].text = "-"
		}
	}
	t.rows = append(t.rows, row{key: key, cells: cells, detail: oneLine(detail), problem: problem})
}

func text[T ~string](s T) cell { return cell{text: oneLine(string(s))} }

func count(n int) cell { return cell{fmt.Sprint(n), float64(n)} }

// rate returns the cell of a number per second. An unknown one is less than any other.
func rate(perSecond *float64) cell {
	switch {
	case perSecond == nil:
		return cell{by: -1}
	case *perSecond == 0:
		return cell{text: "0"}
	case *perSecond < 10:
		return cell{fmt.Sprintf("%.1f", *perSecond), *perSecond}
	}
	return cell{fmt.Sprintf("%.0f", *perSecond), *perSecond}
}

// seconds returns the cell of a latency.
func seconds(s *float64) cell {
	if s == nil {
		return cell{by: -1}
	}
	return cell{format.Latency(time.Duration(*s * float64(time.Second))), *s}
}

func oneLine(s string) string { return strings.Join(strings.Fields(progress.Printable(s)), " ") }

// column returns the index of a column, or -1.
func (t *table) column(name string) int {
	return slices.IndexFunc(t.columns, func(c column) bool { return strings.EqualFold(c.name, name) })
}

// sorted returns the rows that contain a text, sorted by a column: numbers from the
// greatest, texts from the first, or the other way round. Equal ones stay in order.
func (t *table) sorted(by int, reverse bool, filter string) []row {
	var out []row
	for _, r := range t.rows {
		if r.contains(filter) {
			out = append(out, r)
		}
	}
	slices.SortStableFunc(out, func(a, b row) int {
		c := cmp.Compare(b.cells[by].by, a.cells[by].by)
		if !t.columns[by].number {
			c = cmp.Compare(a.cells[by].text, b.cells[by].text)
		}
		if reverse {
			return -c
		}
		return c
	})
	return out
}

// contains reports whether a cell contains a text, whatever the case.
func (r *row) contains(text string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc(r.cells, func(c cell) bool { return strings.Contains(strings.ToLower(c.text), text) })
}
