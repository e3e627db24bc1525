package desired

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// MaxReplicas is the most replicas that a server may have.
const MaxReplicas = 10_000

// PutServers replaces the whole set of servers and gateways. Those that are not
// listed are removed. With Match.New it is refused once a user has written any server.
type PutServers struct {
	Servers       map[fleet.ServerName]fleet.Spec     `json:"servers"`
	DefaultServer fleet.ServerName                    `json:"default_server,omitempty"`
	Gateways      map[fleet.GatewayName]fleet.Gateway `json:"gateways,omitempty"`
	Match         Match                               `json:"match,omitzero"`
	// Retry also updates servers to the revision that was rolled back last.
	Retry bool `json:"retry,omitempty"`
}

func (PutServers) Tag() string      { return "put_servers" }
func (PutServers) Subject() Subject { return Subject{} }
func (PutServers) String() string   { return "put all servers" }

func (c PutServers) needs() int {
	format := max(retryNeeds(c.Retry), gatewaysNeed(c.Gateways))
	for _, spec := range c.Servers {
		format = max(format, specNeeds(&spec))
	}
	return format
}

func (c PutServers) apply(d *draft) error {
	if err := d.matchAll(c.Match); err != nil {
		return err
	}
	if _, listed := c.Servers[c.DefaultServer]; c.DefaultServer != "" && !listed {
		return fmt.Errorf("%w: default_server: there is no server named %s", fleet.ErrInvalid, c.DefaultServer)
	}
	names := map[fleet.ServerName]bool{}
	for name := range c.Servers {
		names[name] = true
	}
	for name := range d.next.Servers {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		spec, listed := c.Servers[name]
		if !listed {
			d.remove(name)
			continue
		}
		if err := d.putSpec(name, spec, c.Retry); err != nil {
			return err
		}
	}
	// Compare after the removals: removing a server unsets it as the default.
	if from := d.next.DefaultServer; from != c.DefaultServer {
		d.next.DefaultServer = c.DefaultServer
		d.next.Written = d.index
		d.changed(Change{Server: c.DefaultServer, Kind: DefaultSet, Fields: []Difference{{
			Field: "default_server", From: jsonUnless(from == "", from), To: jsonUnless(c.DefaultServer == "", c.DefaultServer),
		}}})
	}
	return d.putGateways(c.Gateways)
}

// PutServer adds or replaces one server. An env value that is the mask keeps
// the stored value of its name. It is ErrInvalid if there is no such value.
type PutServer struct {
	Name  fleet.ServerName `json:"name"`
	Spec  fleet.Spec       `json:"spec"`
	Match Match            `json:"match,omitzero"`
	Retry bool             `json:"retry,omitempty"` // as that of PutServers
}

func (PutServer) Tag() string        { return "put_server" }
func (c PutServer) Subject() Subject { return Subject{Server: c.Name} }
func (c PutServer) String() string   { return "put " + c.Subject().String() }
func (c PutServer) needs() int       { return max(retryNeeds(c.Retry), specNeeds(&c.Spec)) }

func retryNeeds(retry bool) int {
	if retry {
		return 3
	}
	return 1
}

func (c PutServer) apply(d *draft) error {
	if err := d.matchServer(c.Match, c.Name, d.next.Servers[c.Name]); err != nil {
		return err
	}
	return d.putSpec(c.Name, c.Spec, c.Retry)
}

// DeleteServer removes one server.
type DeleteServer struct {
	Name  fleet.ServerName `json:"name"`
	Match Match            `json:"match,omitzero"`
}

func (DeleteServer) Tag() string        { return "delete" }
func (c DeleteServer) Subject() Subject { return Subject{Server: c.Name} }
func (c DeleteServer) String() string   { return "delete " + c.Subject().String() }

func (c DeleteServer) apply(d *draft) error {
	sv, err := d.stored(c.Name)
	if err != nil {
		return err
	}
	if err := d.matchServer(c.Match, c.Name, sv); err != nil {
		return err
	}
	if gateway := d.next.gatewayOf(c.Name); gateway != "" {
		return fmt.Errorf("%w: server %s belongs to the gateway %s: take it out of the gateway first, or apply a file without both",
			fleet.ErrConflict, c.Name, gateway)
	}
	d.remove(c.Name)
	return nil
}

// remove removes a server. The number of its last revision is kept.
func (d *draft) remove(name fleet.ServerName) {
	last := d.next.Servers[name].Revision
	delete(own(&d.next.Servers, &d.ownServers), name)
	if d.next.DefaultServer == name {
		d.next.DefaultServer = ""
	}
	d.next.Written = d.index
	d.changed(Change{Server: name, Kind: Deleted, Revision: last})
}

// putSpec stores the spec of a new server or of one that exists.
func (d *draft) putSpec(name fleet.ServerName, spec fleet.Spec, retry bool) error {
	old := d.next.Servers[name]
	if name == "" {
		return fmt.Errorf("%w: a server needs a name", fleet.ErrInvalid)
	}
	if err := checkCounts(name, &spec); err != nil {
		return err
	}
	if err := unmask(name, &spec, old); err != nil {
		return err
	}
	if !retry {
		d.keepFromFailed(name, &spec, old)
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("%w: server %s: %w", fleet.ErrInvalid, name, err)
	}
	if old == nil {
		sv := &Server{Spec: spec}
		d.retarget(sv, nil)
		d.write(sv)
		d.revise(name, sv)
		d.put(name, sv, Change{Server: name, Kind: Created, Revision: sv.Revision})
		return nil
	}
	if equalJSON(text, old.Spec) {
		return nil
	}
	sv := *old
	sv.Spec = spec
	d.retarget(&sv, old)
	d.write(&sv)
	kind := Tuned
	if !equalTemplates(&spec.Template, &old.Spec.Template) {
		kind = Updated
		if !d.putBack(name, &sv) {
			d.revise(name, &sv)
		}
	}
	d.put(name, &sv, Change{Server: name, Kind: kind, Revision: sv.Revision, Fields: Diff(&old.Spec, &spec)})
	return nil
}

// putBack returns a server to its stable revision if that has the server's new template
// and another one is being rolled out. It reports false if it does not. Whoever applies
// the file from before wants no third revision, whose rollout would take as long.
func (d *draft) putBack(name fleet.ServerName, sv *Server) bool {
	stable := sv.Kept(sv.Stable)
	if d.next.Format < 3 || sv.Rollout == nil || stable == nil || !equalTemplates(&stable.Template, &sv.Spec.Template) {
		return false
	}
	from := sv.Revision
	sv.Revision = stable.Number
	sv.Failed = nil
	d.rollOut(name, sv)
	sv.Rollout.From = from
	return true
}

// keepFromFailed keeps the present template of a server if the new one is that of
// the revision that was rolled back last. Whoever applies the same file again, as
// programs do, should not cause the same failure again.
func (d *draft) keepFromFailed(name fleet.ServerName, spec *fleet.Spec, old *Server) {
	if old == nil || old.Failed == nil {
		return
	}
	if !equalTemplates(&spec.Template, &old.Kept(old.Failed.Revision).Template) {
		return
	}
	spec.Template = old.Spec.Template
	d.warnings = append(d.warnings, Warning{
		Server: name,
		Text: fmt.Sprintf("revision %d with this spec was rolled back, and revision %d stays: %s; use --retry to try it again",
			old.Failed.Revision, old.Revision, old.Failed.Reason),
	})
}

// write records that a user writes something that the server's ETag covers.
func (d *draft) write(sv *Server) {
	sv.Written = d.index
	d.next.Written = d.index
}

// unmask replaces masks by the stored secrets. This happens here rather than where
// the request came in, because the stored secrets may have changed since.
func unmask(name fleet.ServerName, spec *fleet.Spec, old *Server) error {
	var env map[string]string
	for _, key := range slices.Sorted(maps.Keys(spec.Env)) {
		if spec.Env[key] != fleet.Masked {
			continue
		}
		var stored string
		var known bool
		if old != nil {
			stored, known = old.Spec.Env[key]
		}
		if !known {
			return fmt.Errorf("%w: server %s: env.%s is masked, and no value of it is stored", fleet.ErrInvalid, name, key)
		}
		if env == nil {
			env = maps.Clone(spec.Env)
		}
		env[key] = stored
	}
	if env != nil {
		spec.Env = env
	}
	return nil
}

// equalJSON and equalTemplates compare values as they are stored. An empty and an
// absent list are equal, and new fields are compared without a change here.
func equalJSON(text []byte, v any) bool {
	other, err := json.Marshal(v)
	return err == nil && bytes.Equal(text, other)
}

func equalTemplates(a, b *fleet.Template) bool {
	text, err := json.Marshal(a)
	return err == nil && equalJSON(text, b)
}
