package fleet

import "testing"

func TestTarget(t *testing.T) {
	for _, tt := range []struct {
		target Target
		reason string
	}{
		{Target{Replicas: 2}, ""},
		{Target{Replicas: 2, By: ByScale}, ""},
		{Target{}, "stopped by hand: replicas is 0"},
		{Target{By: ByScale}, "stopped by hand: scaled to 0"},
	} {
		if got := tt.target.StopReason(); got != tt.reason || tt.target.Stopped() != (tt.reason != "") {
			t.Errorf("%+v: stopped %t, reason %q; want %q", tt.target, tt.target.Stopped(), got, tt.reason)
		}
	}
}
