package catalogue

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Names come from callers and may be of any length: what is longer is cut in
// messages, and nothing is looked for.
const maxName = 128

// maxSuggestions is how many names a message proposes.
const maxSuggestions = 3

func quote(name string) string {
	if len(name) > maxName {
		return strconv.Quote(strings.ToValidUTF8(name[:maxName], "")) + "..."
	}
	return strconv.Quote(name)
}

// suggest proposes the names nearest to one, as the end of a sentence. It
// compares with names and shows the string at the same index of shown.
func suggest(name string, names, shown []string) string {
	type near struct {
		name string
		rank int
	}
	var found []near
	limit := max(1, min(len(name), maxName)/3)
	folded := strings.ToLower(name)
	for i, n := range names {
		if len(name) > maxName || len(n) > maxName {
			continue
		}
		other := strings.ToLower(n)
		switch d := distance(folded, other, limit); {
		case d <= limit:
			found = append(found, near{shown[i], d})
		case len(name) > 2 && (strings.Contains(other, folded) || strings.Contains(folded, other) && len(n) > 2):
			found = append(found, near{shown[i], maxName})
		}
	}
	slices.SortStableFunc(found, func(a, b near) int { return cmp.Compare(a.rank, b.rank) })
	var best []string
	for _, f := range found {
		if len(best) < maxSuggestions && !slices.Contains(best, f.name) {
			best = append(best, f.name)
		}
	}
	if len(best) == 0 {
		return ""
	}
	return "; did you mean " + orList(best) + "?"
}

func orList(names []string) string {
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

// distance counts the letters to add, drop, change or swap with their
// neighbour to make b of a. Beyond limit any larger number will do.
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
