package fleet

import (
	"strings"
	"testing"
)

func TestMountCheck(t *testing.T) {
	for _, tt := range []struct {
		m    Mount
		want string // words of the error, "" for none
	}{
		{Mount{Source: "/a", Target: "/b"}, ""},
		{Mount{Source: "notes", Target: "/b", ReadOnly: true, SELinux: "Z"}, ""},
		{Mount{Source: "a.b-c_1", Target: "/b/"}, ""},
		{Mount{Source: `/a "b"`, Target: "/b c"}, ""},
		{Mount{Target: "/b"}, "needs a source"},
		{Mount{Source: "/a", Target: "b"}, "absolute path as its target"},
		{Mount{Source: "/a", Target: "/x/.."}, "cannot be /"},
		{Mount{Source: "./a", Target: "/b"}, "absolute path, or the name of a volume"},
		{Mount{Source: "a/b", Target: "/b"}, "absolute path, or the name of a volume"},
		{Mount{Source: "-v", Target: "/b"}, "absolute path, or the name of a volume"},
		{Mount{Source: "/a:b", Target: "/b"}, "commas, colons or line ends"},
		{Mount{Source: "/a", Target: "/b,c"}, "commas, colons or line ends"},
		{Mount{Source: "/a\n", Target: "/b"}, "commas, colons or line ends"},
		{Mount{Source: "/a", Target: "/b", SELinux: "y"}, "z or Z"},
	} {
		if err := tt.m.Check(); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.m, err, tt.want)
		}
	}
	for source, want := range map[string]bool{"notes": true, "/notes": false, "./notes": false} {
		if got := (Mount{Source: source}).IsVolume(); got != want {
			t.Errorf("%s is a volume: %v", source, got)
		}
	}
}
