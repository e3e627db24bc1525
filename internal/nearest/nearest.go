// Package nearest suggests names for a mistyped one. It is pure, and its
// functions may be called at any time.
package nearest

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// MaxName is the length of the longest name that is compared. Callers choose names,
// and long ones would cost too much.
const MaxName = 128

// maxNames is how many names a hint suggests.
const maxNames = 3

// Find returns the indices of the names that are similar to word, the nearest
// first.
func Find(word string, names []string) []int {
	type near struct{ index, rank int }
	var found []near
	limit := max(1, min(len(word), MaxName)/3)
	folded := strings.ToLower(word)
	for i, n := range names {
		if len(word) > MaxName || len(n) > MaxName {
			continue
		}
		other := strings.ToLower(n)
		switch d := distance(folded, other, limit); {
		case d <= limit:
			found = append(found, near{i, d})
		case len(word) > 2 && (strings.Contains(other, folded) || strings.Contains(folded, other) && len(n) > 2):
			found = append(found, near{i, MaxName})
		}
	}
	slices.SortStableFunc(found, func(a, b near) int { return cmp.Compare(a.rank, b.rank) })
	best := make([]int, len(found))
	for i, f := range found {
		best[i] = f.index
	}
	return best
}

// Hint returns a suggestion of the names nearest to word, as the end of a
// sentence, or "" if no name is similar. It compares word with names, and shows
// the strings at the same indices of shown; nil shown means names.
func Hint(word string, names, shown []string) string {
	if shown == nil {
		shown = names
	}
	var best []string
	for _, i := range Find(word, names) {
		if len(best) < maxNames && !slices.Contains(best, shown[i]) {
			best = append(best, shown[i])
		}
	}
	if len(best) == 0 {
		return ""
	}
	return "; did you mean " + Or(best) + "?"
}

// Or returns names as a list of alternatives.
func Or(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = strconv.Quote(n)
	}
	if len(quoted) == 1 {
		return quoted[0]
	}
	last := len(quoted) - 1
	return strings.Join(quoted[:last], ", ") + " or " + quoted[last]
}

// distance returns how many letters to add, drop, change or swap with their
// neighbour to turn a into b. It may return any number above limit if the
// distance is above limit.
func distance(a, b string, limit int) int {
	x, y := []rune(a), []rune(b)
	if d := len(x) - len(y); d > limit || -d > limit {
		return limit + 1
	}
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(y)]
}
