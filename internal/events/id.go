package events

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// ID identifies an event in a cluster. Later events have higher ids, also those of
// later leaders.
type ID struct {
	Term fleet.Epoch // of the leader that recorded it
	Seq  uint64      // within its tenure, from 1
}

// String returns the id as clients see it, "7-12".
func (id ID) String() string { return fmt.Sprintf("%d-%d", id.Term, id.Seq) }

// Compare orders ids by time.
func (id ID) Compare(o ID) int {
	return cmp.Or(cmp.Compare(id.Term, o.Term), cmp.Compare(id.Seq, o.Seq))
}

// ParseID parses what String returns, and nothing else.
func ParseID(s string) (ID, error) {
	term, seq, _ := strings.Cut(s, "-")
	t, errTerm := strconv.ParseUint(term, 10, 64)
	n, errSeq := strconv.ParseUint(seq, 10, 64)
	id := ID{fleet.Epoch(t), n}
	if errTerm != nil || errSeq != nil || id.String() != s {
		return ID{}, fmt.Errorf("%.40q is not an event id, which looks like 7-12", s)
	}
	return id, nil
}
