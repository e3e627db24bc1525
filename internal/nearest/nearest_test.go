package nearest

import "testing"

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "ab", 1}, {"abc", "xabc", 1}, {"kitten", "sitting", 3}, {"ü", "u", 1}, {"ca", "abc", 3}} {
		if got := distance(tc.a, tc.b, 5); got != tc.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}

func TestHint(t *testing.T) {
	names := []string{"brave-search", "brave", "files", "fetch"}
	for word, want := range map[string]string{
		"brvae":  `; did you mean "brave"?`,
		"search": `; did you mean "brave-search"?`,
		"filse":  `; did you mean "files"?`,
		"zebra0": "",
		"":       "",
	} {
		if got := Hint(word, names, nil); got != want {
			t.Errorf("Hint(%q) = %q, want %q", word, got, want)
		}
	}
	if got := Hint("a", []string{"a1", "a2"}, []string{"x__a1", "y__a2"}); got != `; did you mean "x__a1" or "y__a2"?` {
		t.Errorf("shown: %q", got)
	}
}
