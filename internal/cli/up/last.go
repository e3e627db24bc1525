package up

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/datadir"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	lastName   = "up.json"
	aloneName  = "controller" // of one that has no others
	memberName = "controller-"
)

// last is what of an earlier Run in the same directory matters to this one.
type last struct {
	// Runtime is the --runtime that was asked for, "" for none.
	Runtime string `json:"asked_runtime,omitempty"`
	// Workers is how many ran.
	Workers int `json:"workers"`
}

// lastOf reads what an earlier Run left, if any did.
func lastOf(dataDir string) last {
	var l last
	if b, err := os.ReadFile(filepath.Join(dataDir, lastName)); err == nil {
		_ = json.Unmarshal(b, &l) // damaged is as good as none
		if _, err := fleet.ParseRuntimes(l.Runtime); err != nil {
			l.Runtime = ""
		}
		l.Workers = min(max(l.Workers, 0), MaxWorkers)
	}
	return l
}

func (l last) keep(dataDir string) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return datadir.Replace(filepath.Join(dataDir, lastName), append(b, '\n'))
}

// earlier returns the names of the controllers that the directory has state of,
// the first one first.
func earlier(dataDir string) []string {
	dirs, err := filepath.Glob(filepath.Join(dataDir, aloneName+"*"))
	if err != nil {
		return nil
	}
	var names []string
	for _, dir := range dirs {
		name := filepath.Base(dir)
		if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 && numberOf(name) > 0 {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		if n := numberOf(a) - numberOf(b); n != 0 {
			return n
		}
		return strings.Compare(a, b)
	})
	return names
}

// numberOf returns the place of a controller, or 0 of what is none.
func numberOf(name string) int {
	if name == aloneName {
		return 1
	}
	n, err := strconv.Atoi(strings.TrimPrefix(name, memberName))
	if err != nil || name != memberName+strconv.Itoa(n) {
		return 0
	}
	return n
}

// controllerNames names so many controllers: those that the directory knows
// first, then new ones. A lone one has no number, and keeps its name when
// others join it.
func controllerNames(had []string, count int) []string {
	names := slices.Clone(had[:min(count, len(had))])
	taken := func(n int) bool {
		return slices.ContainsFunc(had, func(name string) bool { return numberOf(name) == n })
	}
	if count == 1 && len(had) == 0 {
		return []string{aloneName}
	}
	for n := 1; len(names) < count; n++ {
		if !taken(n) {
			names = append(names, fmt.Sprintf("%s%d", memberName, n))
		}
	}
	return names
}

// workersHint says what it means to run fewer workers than before, or "".
func workersHint(before, now int) string {
	if before <= now {
		return ""
	}
	missing, does := workerName(now), "does"
	switch last := workerName(before - 1); before - now {
	case 1:
	case 2:
		missing, does = missing+" and "+last, "do"
	default:
		missing, does = missing+" to "+last, "do"
	}
	return fmt.Sprintf("%s ran here before and %s not run now: the controllers wait for what may still run there, 10 s at most, before they start it elsewhere; --workers %d runs all",
		missing, does, before)
}

// controllersHint says what is unwise about so many controllers, or "".
func controllersHint(had, count int) string {
	survived := func(n int) int { return (n - 1) / 2 }
	switch {
	case had > count:
		return fmt.Sprintf("the data directory has the state of %d controllers, of which %d will run: without a majority of them nothing can be changed; --controllers %d runs them all",
			had, count, had)
	case count%2 == 0:
		return fmt.Sprintf("%d controllers survive the loss of %d, as many as %d do: take an odd number", count, survived(count), count-1)
	}
	return ""
}
