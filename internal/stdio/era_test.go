package stdio

import "testing"

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name     string
		evidence evidence
		want     verdict
	}{
		{"just asked", evidence{unanswered, unsent, false}, goOn},
		{"a modern server", evidence{accepted, unsent, false}, isModern},
		{"a legacy server", evidence{rejected, unsent, false}, sendInitialize},
		{"one that is silent", evidence{unanswered, unsent, true}, sendInitialize},
		{"one that dies of it", evidence{lost, unsent, false}, hasDied},
		{"one that cannot be used", evidence{failed, unsent, false}, hasFailed},

		{"initialize under way", evidence{rejected, unanswered, false}, goOn},
		{"it takes long", evidence{rejected, unanswered, true}, goOn}, // the start's deadline bounds it
		{"legacy", evidence{rejected, accepted, false}, isLegacy},
		{"neither era", evidence{rejected, rejected, false}, hasFailed},
		{"dies of initialize", evidence{rejected, lost, false}, hasFailed},
		{"a version that we do not know", evidence{rejected, failed, false}, hasFailed},

		{"both under way", evidence{unanswered, unanswered, false}, goOn},
		{"both under way for long", evidence{unanswered, unanswered, true}, goOn},
		{"dies with both under way", evidence{lost, unanswered, false}, hasDied},
		{"both are lost", evidence{lost, lost, false}, hasDied},
		{"initialize is lost first", evidence{unanswered, lost, false}, goOn},
		{"initialize answered first", evidence{unanswered, accepted, false}, goOn},
		{"and that is all", evidence{unanswered, accepted, true}, isLegacy},
		{"and the end comes", evidence{lost, accepted, false}, isLegacy}, // whoever calls next finds out
		{"initialize refused first", evidence{unanswered, rejected, false}, goOn},
		{"refused, and silent", evidence{unanswered, rejected, true}, hasFailed},
		{"late but modern only", evidence{accepted, rejected, false}, isModern},
		{"late and of both eras", evidence{accepted, accepted, false}, isLate},
		{"late, initialize still open", evidence{accepted, unanswered, false}, goOn},
		{"late, initialize never answered", evidence{accepted, unanswered, true}, isLate},
		{"late, a broken answer to initialize", evidence{accepted, failed, false}, isLate},
		{"cannot be used, initialize under way", evidence{failed, unanswered, false}, hasFailed},
	} {
		if got := tt.evidence.judge(); got != tt.want {
			t.Errorf("%s: verdict %d, want %d", tt.name, got, tt.want)
		}
	}
}
