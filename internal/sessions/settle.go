package sessions

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// settleTime bounds how long Settle waits for a controller that does not answer.
const settleTime = time.Second

// links are the connections to the other controllers that can be reached. The zero value
// is ready.
type links struct {
	mu  sync.Mutex
	all map[Controller]bool
}

func (l *links) add(c Controller) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = make(map[Controller]bool)
	}
	l.all[c] = true
}

func (l *links) remove(c Controller) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, c)
}

func (l *links) now() []Controller {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.all))
}

// Settle waits until all other controllers know what is known here of a session, because
// a client's next request may go to one of them. It does not wait long for those that do
// not answer: they follow the directory as well.
func (s *Service) Settle(id fleet.SessionID) {
	record, known := s.cfg.Directory.get(id)
	if !known {
		return
	}
	order, _ := s.cfg.Order()
	ctx, cancel := context.WithTimeout(context.Background(), settleTime) // the client may have gone
	defer cancel()
	var told sync.WaitGroup
	for _, c := range s.links.now() {
		told.Go(func() {
			if err := c.TellSessions(ctx, order, []fleet.SessionRecord{record}); err != nil {
				s.log.Debug("controller not told of a session yet", "session", short(id), "err", err)
			}
		})
	}
	told.Wait()
}

// TellSessions takes in records of another controller. It fails with
// fleet.ErrForeignCluster.
func (s *Service) TellSessions(_ context.Context, order fleet.Order, records []fleet.SessionRecord) error {
	if err := s.checkCluster(order); err != nil {
		return err
	}
	s.cfg.Directory.merge(records)
	return nil
}
