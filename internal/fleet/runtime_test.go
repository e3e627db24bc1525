package fleet

import (
	"slices"
	"testing"
)

func TestParseRuntimes(t *testing.T) {
	for text, want := range map[string][]string{
		"auto": nil, "podman": {"podman"}, "process": {"process"},
		"podman,process": {"podman", "process"}, "process, podman": {"podman", "process"},
	} {
		if got, err := ParseRuntimes(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %v, %v; want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"": `must be podman, process or auto, not ""`, "docker": `must be podman, process or auto, not "docker"`,
		"podman,": `must be podman, process or auto, not ""`, "podman,podman": "podman is given twice", "podman,auto": "auto cannot be combined with others",
	} {
		if got, err := ParseRuntimes(text); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, %v; want %s", text, got, err, want)
		}
	}
}
