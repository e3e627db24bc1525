package cli

import (
	"context"
	"io"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
)

// The message of a wait that is interrupted claims no change, since rollout status
// makes none.
func TestStoppedWaiting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	a := &app{Config: Config{Out: io.Discard}, output: formatTable}
	err := a.waitUntil(ctx, 0, func(context.Context) (polled, error) {
		cancel()
		row := progress.Row{Name: "web", Text: "1/2 ready"}
		return polled{all: []progress.Row{row}, left: []progress.Row{row}}, nil
	})
	if want := "stopped waiting before it was ready; the fleet itself goes on"; err == nil || err.Error() != want || ExitCode(err) != exitUnready {
		t.Errorf("got %v, want %s", err, want)
	}
}
