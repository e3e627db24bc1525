package progress

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal opens a terminal. It has no size yet.
func terminal(t *testing.T) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	return keyboard, screen
}

// Bars are drawn on a terminal with a size. One without gets lines: it would show
// nothing of the bars.
func TestTerminalsWithoutASize(t *testing.T) {
	t.Setenv("TERM", "xterm")
	for _, c := range []struct {
		name string
		size unix.Winsize
		bars bool
	}{
		{"no size", unix.Winsize{}, false},
		{"no lines", unix.Winsize{Col: 100}, false},
		{"100x30", unix.Winsize{Col: 100, Row: 30}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			keyboard, screen := terminal(t)
			if err := unix.IoctlSetWinsize(int(screen.Fd()), unix.TIOCSWINSZ, &c.size); err != nil {
				t.Fatal(err)
			}
			p := NewBars(screen)
			p.Progress([]Row{{Name: "web", Key: "half", Text: "half", Done: 2, Total: 4}})
			p.Finish()
			screen.Close() // ends the read below
			b := make([]byte, 4096)
			n, _ := keyboard.Read(b)
			got := string(b[:n])
			if line := got == "web: half\r\n"; line == c.bars || c.bars && !strings.Contains(got, "[") {
				t.Errorf("got %q, want bars: %t", got, c.bars)
			}
		})
	}
}
