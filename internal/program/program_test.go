package program

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
)

// broken fails every write.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// Announce writes the addresses, but neither a broken stdout nor a missing
// reader stops the program.
func TestAnnounce(t *testing.T) {
	var log bytes.Buffer
	where := map[string]string{"http": "127.0.0.1:1"}
	announce := func(w io.Writer) {
		t.Helper()
		log.Reset()
		Announce(w, where, slog.New(slog.NewTextHandler(&log, nil)))
	}

	var out bytes.Buffer
	announce(&out)
	if want := "{\"http\":\"127.0.0.1:1\"}\n"; out.String() != want || log.Len() > 0 {
		t.Errorf("got %q and the log %q, want %q and nothing", &out, &log, want)
	}
	announce(broken{})
	if got := log.String(); !strings.Contains(got, "no space left on device") || !strings.Contains(got, "127.0.0.1:1") {
		t.Errorf("stdout cannot be written: got the log %q", got)
	}
	synctest.Test(t, func(t *testing.T) {
		read, write := io.Pipe()
		announce(write)
		if got := log.String(); !strings.Contains(got, "no reader") || !strings.Contains(got, "127.0.0.1:1") {
			t.Errorf("stdout has no reader: got the log %q", got)
		}
		late := make([]byte, 100)
		n, err := read.Read(late)
		if err != nil || string(late[:n]) != out.String() {
			t.Errorf("a late reader got %q, %v, want %q", late[:n], err, &out)
		}
	})
}
