package gossip

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/datadir"
)

// peers remembers the addresses of members, including those that are gone: after
// a partition each side believes the other dead, and one has to ask again. Its
// owner guards it.
type peers struct {
	file string
	last map[string]time.Time // when each was last known to be a member
}

// loadPeers reads the file. The returned peers can be used even if there is an
// error.
func loadPeers(file string) (*peers, error) {
	p := &peers{file: file, last: make(map[string]time.Time)}
	if file == "" {
		return p, nil
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	last := make(map[string]time.Time)
	if err := json.Unmarshal(b, &last); err != nil {
		return p, fmt.Errorf("decode %s: %w", file, err)
	}
	for addr, t := range last {
		if _, _, err := splitHostPort(addr); err == nil {
			p.last[addr] = t
		}
	}
	return p, nil
}

func (p *peers) seen(addr string, now time.Time) { p.last[addr] = now }

// some returns up to n random addresses, so that many dead ones cannot hide a
// living one for long.
func (p *peers) some(n int) []string {
	all := slices.Sorted(maps.Keys(p.last))
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(n, len(all))]
}

// snapshot forgets addresses that are too old or too many. It returns a function
// that saves the rest, to be called without the owner's lock.
func (p *peers) snapshot(now time.Time) func() error {
	maps.DeleteFunc(p.last, func(_ string, t time.Time) bool { return now.Sub(t) > forgetPeersAfter })
	if extra := len(p.last) - rememberedPeers; extra > 0 {
		byAge := slices.SortedFunc(maps.Keys(p.last), func(a, b string) int { return p.last[a].Compare(p.last[b]) })
		for _, a := range byAge[:extra] {
			delete(p.last, a)
		}
	}
	if p.file == "" {
		return func() error { return nil }
	}
	b, err := json.MarshalIndent(p.last, "", "  ")
	file := p.file
	return func() error {
		if err != nil {
			return err
		}
		return datadir.Replace(file, append(b, '\n'))
	}
}
