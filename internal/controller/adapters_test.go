package controller

import (
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/httpapi"
)

// A read without a leader is refused for the same reasons as a list of tools: a
// controller that was cut off, or has just started, denies nothing.
func TestStaleIsAllThatMayBeMissing(t *testing.T) {
	var why string
	var d httpapi.Desired = &desiredState{stale: func() string { return why }}
	for _, why = range []string{"this controller was stopped or cut off, and does not know yet all that was written meanwhile", ""} {
		if got := d.Stale(); got != why {
			t.Errorf("got %q, want %q", got, why)
		}
	}
}

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
