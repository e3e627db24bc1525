package membership

import (
	"context"
	"log/slog"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/store"
)

const DefaultDeadAfter = 24 * time.Hour

type Config struct {
	Store     *store.Store
	Members   func() []fleet.Member
	DeadAfter time.Duration
	Log       *slog.Logger
	Record    func(kind, message string)
}

type Keeper struct{ cfg Config }

func New(c Config) *Keeper { return &Keeper{c} }

func (k *Keeper) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func Found(self fleet.Member, members []fleet.Member) ([]fleet.ControllerID, string) {
	var ids []fleet.ControllerID
	low := self.Controller
	for _, m := range members {
		if m.Role == fleet.RoleController && m.Expect == self.Expect {
			ids = append(ids, m.Controller)
			low = min(low, m.Controller)
		}
	}
	if len(ids) != self.Expect || low != self.Controller {
		return nil, "waiting"
	}
	return ids, ""
}
