package desired

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Kept returns a revision of the server, or nil if it is not kept. Callers must
// not change it.
func (sv *Server) Kept(n fleet.Revision) *Revision {
	for i := range sv.Revisions {
		if sv.Revisions[i].Number == n {
			return &sv.Revisions[i]
		}
	}
	return nil
}

// Catalogue returns the last known catalogue of a revision, or nil.
func (sv *Server) Catalogue(n fleet.Revision) *fleet.Catalogue {
	if rev := sv.Kept(n); rev != nil {
		return rev.Catalogue
	}
	return nil
}

// ExpectedCatalogue returns the last known catalogue of the present revision, or of an
// earlier one with the same template. It returns nil if there is none.
func (sv *Server) ExpectedCatalogue() *fleet.Catalogue {
	if c := sv.Catalogue(sv.Revision); c != nil {
		return c
	}
	for _, rev := range slices.Backward(sv.Revisions) {
		if rev.Catalogue != nil && equalTemplates(&rev.Template, &sv.Spec.Template) {
			return rev.Catalogue
		}
	}
	return nil
}

// revise makes the server's template its next revision and begins its rollout.
// Numbers continue from those of an earlier server of the same name.
func (d *draft) revise(name fleet.ServerName, sv *Server) {
	n := d.next.LastRevision[name] + 1
	own(&d.next.LastRevision, &d.ownRevisions)[name] = n
	sv.Revision = n
	// Older states share the array.
	sv.Revisions = append(slices.Clip(sv.Revisions), Revision{Number: n, Template: sv.Spec.Template, Created: d.now})
	sv.Failed = nil
	sv.Revisions = prune(sv.Revisions, sv.Revision, sv.Stable)
	d.rollOut(name, sv)
}

// prune drops the oldest revisions, except the present and the stable one. One that
// has failed is no exception: there is a new one now.
func prune(revs []Revision, present, stable fleet.Revision) []Revision {
	for len(revs) > MaxRevisions {
		i := slices.IndexFunc(revs, func(r Revision) bool { return r.Number != present && r.Number != stable })
		revs = slices.Concat(revs[:i], revs[i+1:])
	}
	return revs
}

// Rollback returns a server to the template of a kept revision, under that
// revision's number. Counts and limits stay as they are.
type Rollback struct {
	Name     fleet.ServerName `json:"name"`
	Revision fleet.Revision   `json:"revision,omitempty"` // 0: see rollbackTo
	Key      string           `json:"key,omitempty"`
	Match    Match            `json:"match,omitzero"`
}

func (Rollback) Tag() string        { return "rollback" }
func (c Rollback) Subject() Subject { return Subject{Server: c.Name} }
func (c Rollback) String() string   { return "roll back " + c.Subject().String() }

func (c Rollback) apply(d *draft) error {
	request := fmt.Sprintf("rollback %s", c.Name)
	if c.Revision != 0 {
		request = fmt.Sprintf("rollback %s %d", c.Name, c.Revision)
	}
	return d.once(c.Key, request, c.Name, func() error {
		sv, err := d.edit(c.Name)
		if err != nil {
			return err
		}
		if err := d.matchServer(c.Match, c.Name, sv); err != nil {
			return err
		}
		to, err := sv.rollbackTo(c.Name, c.Revision, d.next.Format)
		if err != nil {
			return err
		}
		if to.Number == sv.Revision && sv.Rollout == nil {
			return nil
		}
		change := Change{Server: c.Name, Kind: RolledBack, Revision: to.Number, Fields: DiffTemplates(&sv.Spec.Template, &to.Template)}
		from := sv.Revision
		if to.Number != sv.Revision {
			sv.Revision = to.Number
			sv.Spec.Template = to.Template
			d.write(sv)
		}
		if sv.Failed != nil && sv.Failed.Revision == to.Number {
			sv.Failed = nil
		}
		d.rollOut(c.Name, sv)
		if d.next.Format >= 3 && from != to.Number {
			sv.Rollout.From = from
		}
		d.put(c.Name, sv, change)
		return nil
	})
}

// rollbackTo returns the revision that a rollback names. By default that is the stable
// one while another is being rolled out, else the newest below the present that has
// served. In a state of an earlier format nobody knows which have: it is the newest
// below the present.
func (sv *Server) rollbackTo(name fleet.ServerName, n fleet.Revision, format int) (*Revision, error) {
	if n != 0 {
		if rev := sv.Kept(n); rev != nil {
			return rev, nil
		}
		return nil, fmt.Errorf("%w: server %s has no revision %d; there are %s", fleet.ErrUnknownRevision, name, n, sv.numbers())
	}
	if stable := sv.Kept(sv.Stable); format >= 3 && sv.Rollout != nil && stable != nil && sv.Stable != sv.Revision {
		return stable, nil
	}
	var newest *Revision
	for i := range sv.Revisions {
		rev := &sv.Revisions[i]
		failed := sv.Failed != nil && sv.Failed.Revision == rev.Number
		if rev.Number < sv.Revision && !failed && (rev.Served || newest == nil || !newest.Served) {
			newest = rev
		}
	}
	if newest == nil {
		return nil, fmt.Errorf("%w: server %s has no revision before %d, its present one; there are %s", fleet.ErrUnknownRevision, name, sv.Revision, sv.numbers())
	}
	return newest, nil
}

// numbers lists the kept revisions for a message.
func (sv *Server) numbers() string {
	list := make([]string, len(sv.Revisions))
	for i, r := range sv.Revisions {
		list[i] = fmt.Sprint(r.Number)
	}
	return strings.Join(list, ", ")
}

// SetCatalogue keeps what a revision offers. It is ignored for a revision that is
// not kept any more.
type SetCatalogue struct {
	Name      fleet.ServerName `json:"name"`
	Revision  fleet.Revision   `json:"revision"`
	Catalogue *fleet.Catalogue `json:"catalogue"`
}

func (SetCatalogue) Tag() string        { return "catalogue" }
func (c SetCatalogue) Subject() Subject { return Subject{Server: c.Name} }
func (c SetCatalogue) String() string   { return "keep the catalogue of " + c.Subject().String() }

func (c SetCatalogue) needs() int {
	if k := c.Catalogue; k != nil && (k.Era != "" || len(k.Versions)+len(k.Resources)+len(k.Templates)+len(k.Prompts)+len(k.Hints) > 0) {
		return 4
	}
	return 1
}

func (c SetCatalogue) apply(d *draft) error {
	sv := d.next.Servers[c.Name]
	if sv == nil || c.Catalogue == nil {
		return nil
	}
	i := slices.IndexFunc(sv.Revisions, func(r Revision) bool { return r.Number == c.Revision })
	if i < 0 {
		return nil
	}
	if had := sv.Revisions[i].Catalogue; had != nil && had.Hash == c.Catalogue.Hash && had.Era == c.Catalogue.Era {
		return nil
	}
	next := *sv
	next.Revisions = slices.Clone(sv.Revisions)
	next.Revisions[i].Catalogue = c.Catalogue
	d.put(c.Name, &next)
	return nil
}
