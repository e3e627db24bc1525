package fleet

import "testing"

func TestNewRevisionOnTrial(t *testing.T) {
	verified := Update{Verify: []VerifyCall{{Tool: "ping", Expect: "ok"}}}
	holding := Update{OnBreakingTools: BreakingHold}
	canary := Update{Canary: &Canary{Steps: []float64{5, 50}}}
	for _, tt := range []struct {
		name             string
		server           Server
		tries, unchecked bool
		share            float64 // 0: none
	}{
		{"no rollout", Server{Revision: 2, Spec: Spec{Update: &verified}}, false, false, 0},
		{"a first revision", Server{Revision: 1, Rollout: &Rollout{}, Spec: Spec{Update: &verified}}, false, false, 0},
		{"a restart", Server{Revision: 2, Rollout: &Rollout{From: 2}, Spec: Spec{Update: &canary}}, false, false, 0},
		{"back to an older one", Server{Revision: 2, Stable: 3, Rollout: &Rollout{From: 3}, Spec: Spec{Update: &canary}}, false, false, 0},
		{"plain", Server{Revision: 3, Stable: 2, Rollout: &Rollout{From: 2}}, true, false, 0},
		{"to be verified", Server{Revision: 3, Stable: 2, Rollout: &Rollout{From: 2}, Spec: Spec{Update: &verified}}, true, true, 0},
		{"verified", Server{Revision: 3, Stable: 2, Rollout: &Rollout{From: 2, Checked: true}, Spec: Spec{Update: &verified}}, true, false, 0},
		{"tools to be compared", Server{Revision: 3, Stable: 2, Rollout: &Rollout{From: 2}, Spec: Spec{Update: &holding}}, true, true, 0},
		{"first step", Server{Revision: 3, Stable: 2, Rollout: &Rollout{From: 2}, Spec: Spec{Update: &canary}}, true, false, 5},
		{"last step", Server{Revision: 3, Stable: 2, Rollout: &Rollout{From: 2, Step: 1}, Spec: Spec{Update: &canary}}, true, false, 50},
		{"all steps passed", Server{Revision: 3, Stable: 2, Rollout: &Rollout{From: 2, Step: 2}, Spec: Spec{Update: &canary}}, true, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.server.Tries(); got != tt.tries {
				t.Errorf("Tries: got %v", got)
			}
			if got := tt.server.Unchecked(); got != tt.unchecked {
				t.Errorf("Unchecked: got %v", got)
			}
			if got, ok := tt.server.CanaryShare(); got != tt.share || ok != (tt.share != 0) {
				t.Errorf("CanaryShare: got %v %v, want %v", got, ok, tt.share)
			}
		})
	}
}

func TestAmount(t *testing.T) {
	for _, tt := range []struct {
		amount   Amount
		of       int
		up, down int
		text     string
	}{
		{Amount{Percent: 25}, 4, 1, 1, "25%"},
		{Amount{Percent: 25}, 3, 1, 0, "25%"},
		{Amount{Percent: 25}, 5, 2, 1, "25%"},
		{Amount{Percent: 12.5}, 10, 2, 1, "12.5%"},
		{Amount{Percent: 25}, 0, 0, 0, "25%"},
		{Amount{Percent: 100}, 7, 7, 7, "100%"},
		{Amount{Count: 2}, 3, 2, 2, "2"},
		{Amount{}, 3, 0, 0, "0"},
	} {
		if up, down, text := tt.amount.Up(tt.of), tt.amount.Down(tt.of), tt.amount.String(); up != tt.up || down != tt.down || text != tt.text {
			t.Errorf("%+v of %d: up %d, down %d, %q; want %d, %d, %q", tt.amount, tt.of, up, down, text, tt.up, tt.down, tt.text)
		}
	}
}
