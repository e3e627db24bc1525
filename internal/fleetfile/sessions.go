package fleetfile

import (
	"time"

	"github.com/invopop/jsonschema"
	"go.yaml.in/yaml/v3"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// sessionKeys are the keys of servers whose sessions have replicas to themselves.
// countKeys are those that such a server does not have.
var (
	sessionKeys = []string{"max_sessions", "max_sessions_per_principal", "session_idle", "session_lifetime", "on_loss"}
	countKeys   = []string{"replicas", "autoscaling"}
)

// sessionKey decodes one of the keys about sessions.
func (d *serverDecoder) sessionKey(key string, n *yaml.Node, at string, k keyShape) {
	s := &d.spec
	switch key {
	case "sessions":
		if mode, ok := d.choice(n, at, k); ok && mode == fleet.SessionsPrincipal {
			d.errorf(n, at, "principal is not supported yet: a replica for each user needs access control, which does not exist; use session or shared")
		} else if ok {
			s.Sessions = mode
		}
	case "max_sessions":
		setInt(&s.MaxSessions)(d.integer(n, at, k))
	case "max_sessions_per_principal":
		setInt(&s.SessionsEach)(d.integer(n, at, k))
	case "session_idle":
		set(&s.SessionIdle)(d.duration(n, at, k))
	case "session_lifetime":
		set(&s.SessionLifetime)(d.duration(n, at, k))
	case "on_loss":
		if what, ok := d.text(n, at, "reinit or 404"); ok { // 404 is a number for YAML
			if what != fleet.OnLossReinit && what != fleet.OnLossNotFound {
				d.errorf(n, at, "must be reinit or 404, not %s", describe(resolve(n)))
				return
			}
			s.OnLoss = what
		}
	}
}

// finishSessions fills in and checks what depends on the session mode.
func (d *serverDecoder) finishSessions() {
	s := &d.spec
	if !s.PerSession() {
		for _, key := range sessionKeys {
			if n, given := d.given[key]; given {
				d.errorf(n, join(d.path, key), "needs sessions: session; in the mode shared no replica belongs to a session")
			}
		}
		return
	}
	for _, key := range countKeys {
		if n, given := d.given[key]; given {
			d.errorf(n, join(d.path, key), "is not for sessions: session; the number of replicas is that of the sessions and of warm, at most max_sessions")
		}
	}
	if s.Era == fleet.EraModern {
		d.errorf(d.given["era"], join(d.path, "era"), "modern is not for sessions: session; the modern era has no sessions")
	}
	if s.Update != nil && s.Update.Canary != nil {
		d.errorf(d.given["update"], join(d.path, "update.canary"), "is not for sessions: session; a session stays at one replica, so its calls cannot be shared out")
	}
	s.Replicas, s.Autoscaling = 0, nil
	fill(&s.MaxSessions, fleet.DefaultMaxSessions)
	fill(&s.SessionIdle, fleet.DefaultSessionIdle)
	fill(&s.SessionLifetime, fleet.DefaultSessionLifetime)
	fill(&s.OnLoss, fleet.OnLossReinit)
	if s.SessionLifetime < s.SessionIdle {
		if n, given := d.given["session_idle"]; given {
			d.errorf(n, join(d.path, "session_idle"), "must not be longer than session_lifetime, which is %s", s.SessionLifetime)
		}
		s.SessionIdle = s.SessionLifetime // the default for a short life
	}
	if s.SessionsEach > s.MaxSessions {
		d.errorf(d.given["max_sessions_per_principal"], join(d.path, "max_sessions_per_principal"), "must not be above max_sessions, which is %d", s.MaxSessions)
	}
}

// fill sets a field that the file does not set.
func fill[T comparable](field *T, value T) {
	if *field == *new(T) {
		*field = value
	}
}

// shownDuration returns a duration as a view shows it, "" if it is not set.
func shownDuration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// sessionsOrReplicas returns the condition that a server has the keys of its session mode
// only.
func sessionsOrReplicas(given func(key string) *jsonschema.Schema) *jsonschema.Schema {
	none := func(keys []string) *jsonschema.Schema {
		var any []*jsonschema.Schema
		for _, key := range keys {
			any = append(any, given(key))
		}
		return &jsonschema.Schema{Not: &jsonschema.Schema{AnyOf: any}}
	}
	mode := jsonschema.NewProperties()
	mode.Set("sessions", &jsonschema.Schema{Pattern: `^(session|principal)$|\$`})
	variable := jsonschema.NewProperties()
	variable.Set("sessions", &jsonschema.Schema{Pattern: `\$`})
	perSession := &jsonschema.Schema{AllOf: []*jsonschema.Schema{given("sessions"), {Properties: mode}}}
	unknown := &jsonschema.Schema{AllOf: []*jsonschema.Schema{given("sessions"), {Properties: variable}}}
	return &jsonschema.Schema{
		If:   perSession,
		Then: &jsonschema.Schema{AnyOf: []*jsonschema.Schema{unknown, none(countKeys)}},
		Else: none(sessionKeys),
	}
}
