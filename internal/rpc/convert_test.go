package rpc

import (
	"reflect"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// A worker gets the health checks as they were written.
func TestHealthSurvivesTheWire(t *testing.T) {
	for _, want := range []fleet.Health{
		{Period: 10 * time.Second, Timeout: 5 * time.Second, Failures: 3},
		{Period: 10 * time.Second, Timeout: 5 * time.Second, Failures: 3, Off: true},
	} {
		got := templateFromPB(templateToPB(&fleet.Template{Image: "i", Health: want}))
		if !reflect.DeepEqual(got.Health, want) {
			t.Errorf("got %+v, want %+v", got.Health, want)
		}
	}
}
