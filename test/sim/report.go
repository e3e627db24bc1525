package main

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// simulation is all runs.
type simulation struct {
	loads    []load
	compared map[string][]*run // by load, in the order of subjects
	delayed  map[string][]*run // by load, in the order of upscaleDelays
}

// upscaleDelays are the values of upscale_delay_s that are compared.
func upscaleDelays() []time.Duration {
	return []time.Duration{0, 2 * time.Second, 5 * time.Second}
}

// simulateAll runs every load against every policy, as many at once as there are
// processors. That changes nothing of the results.
func simulateAll() *simulation {
	s := &simulation{loads: loads(), compared: make(map[string][]*run), delayed: make(map[string][]*run)}
	var running sync.WaitGroup
	for i := range s.loads {
		l := &s.loads[i]
		all := subjects()
		compared := make([]*run, len(all))
		s.compared[l.name] = compared
		for j := range all {
			running.Go(func() { compared[j] = simulate(l, all[j]) })
		}
		if !l.delays {
			continue
		}
		delays := upscaleDelays()
		delayed := make([]*run, len(delays))
		s.delayed[l.name] = delayed
		for j, d := range delays {
			running.Go(func() { delayed[j] = simulate(l, withUpscaleDelay(d)) })
		}
	}
	running.Wait()
	return s
}

// comparison is the table of all policies.
func (s *simulation) comparison() string {
	return s.table("policy", s.compared, func(i int) string { return subjects()[i].name })
}

// delays is the table of the values of upscale_delay_s.
func (s *simulation) delays() string {
	return s.table("upscale_delay_s", s.delayed, func(i int) string { return fmt.Sprint(upscaleDelays()[i].Seconds()) })
}

// table has a row for each run. nameOf names the runs of a load.
func (s *simulation) table(what string, runs map[string][]*run, nameOf func(int) string) string {
	t := newTable("load", what, "settling", "overshoot", "replica-seconds to the ideal", "direction changes", "wait, mean", "wait, p99")
	for i := range s.loads {
		name := s.loads[i].name
		for j, r := range runs[name] {
			x := r.result()
			t.add(name, nameOf(j), seconds(x.settling), percent(x.overshoot), fmt.Sprintf("%.2f", x.cost),
				fmt.Sprintf("%d (%d)", x.turns, x.demanded), seconds(x.mean), seconds(x.p99))
			name = ""
		}
	}
	return t.String()
}

func seconds(d time.Duration) string {
	switch s := d.Seconds(); {
	case s == 0:
		return "0"
	case s < 0.0095:
		return fmt.Sprintf("%.1f ms", 1000*s)
	case s < 0.95:
		return fmt.Sprintf("%.0f ms", 1000*s)
	case s < 9.95:
		return fmt.Sprintf("%.1f s", s)
	default:
		return fmt.Sprintf("%.0f s", s)
	}
}

func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }

// table is a table in Markdown. All columns but the first two are figures.
type table struct{ rows []string }

func newTable(heads ...string) *table {
	t := &table{}
	t.add(heads...)
	rule := make([]string, len(heads))
	for i := range rule {
		rule[i] = "--:"
	}
	rule[0], rule[1] = "---", "---"
	t.rows = append(t.rows, "|"+strings.Join(rule, "|")+"|")
	return t
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, "| "+strings.Join(cells, " | ")+" |") }

func (t *table) String() string {
	return strings.ReplaceAll(strings.Join(t.rows, "\n"), "|  |", "| |") + "\n"
}
