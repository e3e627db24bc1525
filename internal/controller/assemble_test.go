package controller

import "testing"

func TestFirstOf(t *testing.T) {
	is := func(reason string) func() string { return func() string { return reason } }
	for _, tt := range []struct {
		reasons []func() string
		want    string
	}{
		{nil, ""},
		{[]func() string{is(""), is("")}, ""},
		{[]func() string{is(""), is("a"), is("b")}, "a"},
		{[]func() string{firstOf(is("")), firstOf(is(""), is("b"))}, "b"},
	} {
		if got := firstOf(tt.reasons...)(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
