package fleet

import "testing"

func TestTaskURIs(t *testing.T) {
	for _, own := range []string{"t", "", "a/b", "ä\x00"} {
		uri := TaskURI("s-1", own)
		replica, got, ok := ParseTaskURI(uri)
		if replica != "s-1" || got != own || !ok || !IsTaskURI(uri) {
			t.Errorf("%s is %q, %q, %t", uri, replica, got, ok)
		}
		one := SessionTaskURI("u", "s-1", own)
		if !IsTaskURI(one) || CoveringURI([]string{SessionTasksURI("u")}, one) == "" || CoveringURI([]string{SessionTasksURI("v"), uri}, one) != "" {
			t.Errorf("who hears of %s", one)
		}
	}
	if CoveringURI([]string{TaskURI("s-1", "a")}, TaskURI("s-1", "a/b")) != "" {
		t.Error("one task is a part of another")
	}
	for _, uri := range []string{"", "x:1", "mcpfleet-task:s-1", "mcpfleet-task:s-1/*", SessionTaskURI("u", "s-1", "t")} {
		if _, _, ok := ParseTaskURI(uri); ok {
			t.Errorf("%q is a task", uri)
		}
	}
}
