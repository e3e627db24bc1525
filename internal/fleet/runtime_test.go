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
		"": `"" is none of podman, process, auto`, "docker": `"docker" is none of podman, process, auto`,
		"podman,": `"" is none of podman, process, auto`, "podman,podman": "podman is given twice", "podman,auto": "auto cannot be combined with others",
	} {
		if got, err := ParseRuntimes(text); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, %v; want %s", text, got, err, want)
		}
	}
}
