package autoscale

import (
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// tenure is what a leader knows of the servers that scale by themselves. Only the
// loop's goroutine uses it.
type tenure struct {
	*Scaler
	state    *desired.State // as it was read last
	servers  map[fleet.ServerName]*server
	loads    map[fleet.ServerName]fleet.ServerLoad // of all servers with calls
	missing  string
	due      dueList
	inFlight int // writes
	writes   sync.WaitGroup
	written  chan written // has room for all writes
}

// server is a server that scales by itself.
type server struct {
	name      fleet.ServerName
	desired   *desired.Server
	input     Input
	history   *History
	gauges    *serverGauges
	due       dueAt
	writing   bool
	notBefore time.Time // of the next write
}

// written is how a write went.
type written struct {
	server fleet.ServerName
	kind   Kind
	err    error
}

func newTenure(s *Scaler) *tenure {
	return &tenure{
		Scaler: s, servers: make(map[fleet.ServerName]*server), loads: make(map[fleet.ServerName]fleet.ServerLoad),
		written: make(chan written, maxWrites),
	}
}

// observeLoads takes in the loads that have changed.
func (t *tenure) observeLoads(now time.Time, news fleet.LoadNews) {
	for name, load := range news.Servers {
		sv := t.servers[name]
		if sv == nil && load.Calls() == 0 {
			delete(t.loads, name)
			continue
		}
		t.loads[name] = load
		if sv != nil {
			sv.history.Observe(now, load)
			t.due.set(sv, now)
		}
	}
	if news.Missing == t.missing {
		return
	}
	if news.Missing != "" {
		t.log.Info("load not known in full, nothing is scaled down", "missing", news.Missing)
	} else {
		t.log.Info("load known in full")
	}
	t.missing = news.Missing
	t.metrics.showMissing(t.missing != "")
	for _, sv := range t.servers {
		t.due.set(sv, now)
	}
}

// observeState takes in the servers that have changed. The servers of a state are
// never edited, so equal pointers mean equal servers.
func (t *tenure) observeState(now time.Time, st *desired.State) {
	if st == t.state || st == nil {
		return
	}
	t.state = st
	for name, sv := range t.servers {
		if d := st.Servers[name]; d == nil || d.Spec.Autoscaling == nil {
			t.due.remove(sv)
			t.metrics.forget(name, d == nil)
			delete(t.servers, name)
		}
	}
	for name, d := range st.Servers {
		if d.Spec.Autoscaling == nil {
			continue
		}
		sv := t.servers[name]
		if sv == nil {
			sv = &server{
				name: name, history: NewHistory(now, t.loads[name], d.Spec.Autoscaling.LookBack), gauges: t.metrics.server(name),
			}
			t.servers[name] = sv
		}
		if sv.desired != d {
			t.update(now, sv, d)
		}
	}
}

// update takes in a server that has changed.
func (t *tenure) update(now time.Time, sv *server, d *desired.Server) {
	if sv.desired == nil || sv.desired.Written != d.Written {
		sv.input.Schedules = t.schedules(sv.name, d.Spec.Autoscaling)
	}
	sv.desired = d
	sv.input.Spec, sv.input.Floor, sv.input.Target = d.Spec.Autoscaling, d.Floor, d.Replicas
	t.due.set(sv, now)
}

// schedules returns the schedules of a server. One that cannot be read was refused
// when it was written, except by another version of this program.
func (t *tenure) schedules(name fleet.ServerName, spec *fleet.Autoscaling) []Schedule {
	var out []Schedule
	for _, s := range spec.Schedules {
		read, err := readSchedule(s)
		if err != nil {
			t.log.Error("schedule cannot be read, and is ignored", "server", name, "cron", s.Cron, "timezone", s.Timezone, "err", err)
			continue
		}
		out = append(out, read)
	}
	return out
}
