package cli

import (
	"net"
	"strings"
	"testing"
)

// refusing returns an address on which nothing listens.
func refusing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestSeveralAddresses(t *testing.T) {
	const noLeader = `{"detail":"it is alone","code":"no_leader"}`
	dead := refusing(t)
	t.Run("the first that answers", func(t *testing.T) {
		f := applying(t)
		execute(t, dead+", "+f.URL, fileOfWeb, "apply", "-f", "-").wants(t, 0, printedOfWeb+"applied\n", "")
		if n := len(f.asked); n != 3 {
			t.Errorf("asked %d times: %q", n, f.asked)
		}
	})
	t.Run("one without a leader", func(t *testing.T) {
		alone := newFakeAPI(t).on("POST /api/v1/servers/web/scale", 503, noLeader)
		other := newFakeAPI(t).on("POST /api/v1/servers/web/scale", 202, `{`+scaled+`}`)
		execute(t, alone.URL+","+other.URL, "", "scale", "web", "3").wants(t, 0, "scale     web\n            replicas: 1 -> 3\n", "")
	})
	t.Run("none with a leader", func(t *testing.T) {
		alone := newFakeAPI(t).on("POST /api/v1/servers/web/scale", 503, noLeader)
		execute(t, alone.URL+","+alone.URL, "", "scale", "web", "3").wants(t, 1, "", "it is alone")
	})
	t.Run("a write that may have been done is not repeated", func(t *testing.T) {
		lost := newFakeAPI(t).on("POST /api/v1/servers/web/scale", 0, "")
		other := newFakeAPI(t)
		execute(t, lost.URL+","+other.URL, "", "scale", "web", "3").wants(t, exitUnknown, "", "it is unknown whether the change was made")
		if len(other.asked) > 0 {
			t.Errorf("the other controller got %q", other.asked)
		}
	})
	t.Run("nobody", func(t *testing.T) {
		r := execute(t, dead+","+refusing(t), "", "scale", "web", "3")
		r.wants(t, 1, "", "no controller answers")
		if !strings.Contains(r.err.Error(), dead) {
			t.Errorf("does not name %s: %v", dead, r.err)
		}
	})
	t.Run("a bad one", func(t *testing.T) {
		execute(t, dead+",ftp://x", "", "status").wants(t, 2, "", `--address: controller address "ftp://x"`)
	})
}
