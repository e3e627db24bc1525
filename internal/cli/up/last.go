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
	lastRunName = "up.json"
	aloneName   = "controller" // the name of a single controller
	memberName  = "controller-"
)

// lastRun has the settings of an earlier Run in the same directory.
type lastRun struct {
	// Runtime is the value of --runtime, or "".
	Runtime string `json:"asked_runtime,omitempty"`
	// Workers is the number of workers.
	Workers int `json:"workers"`
}

// loadLastRun reads the settings of an earlier Run, if there was one.
func loadLastRun(dataDir string) lastRun {
	var l lastRun
	if b, err := os.ReadFile(filepath.Join(dataDir, lastRunName)); err == nil {
		_ = json.Unmarshal(b, &l) // a damaged file counts as missing
		if _, err := fleet.ParseRuntimes(l.Runtime); err != nil {
			l.Runtime = ""
		}
		l.Workers = min(max(l.Workers, 0), MaxWorkers)
	}
	return l
}

func (l lastRun) save(dataDir string) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return datadir.Replace(filepath.Join(dataDir, lastRunName), append(b, '\n'))
}

// knownControllers returns the names of the controllers whose state is in the
// directory, in their order.
func knownControllers(dataDir string) []string {
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

// numberOf returns the number in the name of a controller, or 0 if the name is
// not that of a controller.
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

// controllerNames returns the names of count controllers: first the known ones,
// then new ones. A single controller has no number, and keeps its name when
// others are added.
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

// workersHint returns a hint about running fewer workers than before, or "".
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
	return fmt.Sprintf("%s ran here before but %s not run now: the controllers wait up to 10 s for replicas that may still run there before they replace them; --workers %d runs all",
		missing, does, before)
}

// controllersHint returns a hint about an unwise number of controllers, or "".
func controllersHint(had, count int) string {
	survived := func(n int) int { return (n - 1) / 2 }
	switch {
	case had > count:
		return fmt.Sprintf("the data directory has the state of %d controllers, of which %d will run: nothing can be changed without a majority of them; --controllers %d runs all",
			had, count, had)
	case count%2 == 0:
		return fmt.Sprintf("%d controllers survive the loss of %d, no more than %d would: use an odd number", count, survived(count), count-1)
	}
	return ""
}
