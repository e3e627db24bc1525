//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// Plane is a cluster of several controllers. Like a load balancer, its client sends
// each request to a living one.
type Plane struct {
	*Cluster
	expect int
	disks  *disks // disks of the controllers; nil if they have none of their own

	mu    sync.Mutex
	lives map[string]*life // the current or last life, by short name
	wrong []string         // living controllers that became unready
}

// life is one life of a controller.
type life struct {
	*harness.Process
	name   string
	client *api.Client // for requests to this controller only
	http   *http.Client

	doomed atomic.Bool // set before it is killed
	ready  atomic.Int32
	over   chan struct{} // closed when the life is no longer watched
}

// The readiness of a life, as a load balancer sees it.
const (
	unready   = iota // or not known yet
	incapable        // the controller is ready, but some server is not
	ready
)

// errKilled marks requests that failed because the test killed the controller that
// handled them.
var errKilled = errors.New("the controller was killed meanwhile")

// NewPlane prepares a cluster with this many controllers, and starts none.
func NewPlane(t testing.TB, controllers int) *Plane {
	t.Helper()
	p := &Plane{Cluster: NewCluster(t, "process"), expect: controllers, lives: map[string]*life{}}
	p.join = p.members
	client, err := api.NewClient("http://controllers", &http.Client{Transport: p})
	if err != nil {
		t.Fatal(err)
	}
	p.Client = client
	t.Cleanup(p.stopControllers) // before the workers stop
	return p
}

// stopControllers stops them all, in order.
func (p *Plane) stopControllers() {
	p.mu.Lock()
	lives := slices.Collect(maps.Values(p.lives))
	p.mu.Unlock()
	var processes []*harness.Process
	for _, l := range lives {
		p.retire(l)
		processes = append(processes, l.Process)
	}
	harness.StopAll(processes...)
}

// Start starts controllers c1, c2, ... and workers w1, w2, ... It deploys the servers
// of the fleet file when all have joined, so that each worker gets replicas.
func (p *Plane) Start(workers int) {
	p.t.Helper()
	wanted, err := os.ReadFile(p.file)
	if err != nil {
		p.t.Fatal(err)
	}
	p.Fleet("servers: {}")
	for i := range p.expect {
		p.StartNew(fmt.Sprintf("c%d", i+1))
	}
	p.Leader()
	for i := range workers {
		p.StartWorker(fmt.Sprintf("w%d", i+1))
	}
	p.AwaitReady(workers)
	p.Fleet("%s", wanted)
	p.mustCLI("", "apply", "-f", p.file, "--wait")
	p.AwaitReady(workers)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrong = nil // none was ready during the start
}

// AwaitReady is Cluster.AwaitReady. The requests that follow go to a controller that
// is ready: as long as none is known to be, they go to any.
func (p *Plane) AwaitReady(workers int) {
	p.t.Helper()
	p.Cluster.AwaitReady(workers)
	harness.Eventually(p.t, patience, func() error {
		if l := p.pick(); l == nil || l.ready.Load() != ready {
			return errNoneReady
		}
		return nil
	})
}

// members returns the gossip addresses of all that live, to join.
func (p *Plane) members() []string {
	var join []string
	for _, l := range p.living() {
		join = append(join, l.Addr.Gossip)
	}
	for _, w := range p.Workers {
		if w.Running() {
			join = append(join, w.Addr.Gossip)
		}
	}
	return join
}

func (p *Plane) dataDir(name string) string {
	if p.disks != nil {
		return filepath.Join(p.disks.path(name), "data")
	}
	return filepath.Join(p.dir, name)
}

// flags returns the flags of a controller. Each one joins the others.
func (p *Plane) flags(name string, at harness.Address) []string {
	args := []string{
		"--name", p.Node(name), "--http", at.HTTP, "--gossip", at.Gossip, "--raft", at.Raft,
		"--data-dir", p.dataDir(name), "--config", p.file, "--bootstrap-expect", strconv.Itoa(p.expect), "--shutdown-delay", "0s",
	}
	for _, m := range p.members() {
		args = append(args, "--join", m)
	}
	return args
}

var anywhere = harness.Address{HTTP: "127.0.0.1:0", Gossip: "127.0.0.1:0", Raft: "127.0.0.1:0"}

// StartNew starts a controller for the first time, or restarts it at other
// addresses.
func (p *Plane) StartNew(name string) *life {
	p.t.Helper()
	l, err := p.try(name, anywhere)
	if err != nil {
		p.t.Fatal(err)
	}
	return l
}

// Restart restarts a controller with the same data at the same addresses. If a
// port is in use by now, it takes another one.
func (p *Plane) Restart(name string) *life {
	p.t.Helper()
	l, err := p.try(name, p.life(name).Addr)
	if err != nil {
		p.t.Logf("%s does not get its addresses again: %v", name, err)
		return p.StartNew(name)
	}
	return l
}

func (p *Plane) try(name string, at harness.Address) (*life, error) {
	process := command(p.t, "controller", filepath.Join(p.dir, name+".log"), p.flags(name, at)...)
	p.prepared(process)
	if err := process.TryStart(); err != nil {
		return nil, err
	}
	l := &life{Process: process, name: name, over: make(chan struct{})}
	l.http = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	var err error
	if l.client, err = api.NewClient(process.Addr.HTTP, l.http); err != nil {
		process.Kill9()
		return nil, err
	}
	p.mu.Lock()
	p.lives[name] = l
	p.mu.Unlock()
	watched := make(chan struct{})
	go func() { defer close(watched); p.watch(l) }()
	p.t.Cleanup(func() { p.retire(l); <-watched })
	return l, nil
}

// watch polls a controller's readiness until it is retired.
func (p *Plane) watch(l *life) {
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	defer l.http.CloseIdleConnections()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		got, err := l.client.Ready(ctx)
		cancel()
		was, is := l.ready.Load(), int32(unready)
		switch {
		case err != nil:
		case got.Ready:
			is = ready
		case got.Reason == "":
			is = incapable
		}
		if is < was && !l.doomed.Load() {
			p.mu.Lock()
			p.wrong = append(p.wrong, fmt.Sprintf("%s at %s: %+v, %v", l.name, time.Now().UTC().Format(time.StampMilli), got, err))
			p.mu.Unlock()
		}
		l.ready.Store(is)
		select {
		case <-l.over:
			return
		case <-tick.C:
		}
	}
}

// retire marks a life as not to be relied on from now on.
func (p *Plane) retire(l *life) {
	if !l.doomed.Swap(true) {
		close(l.over)
	}
}

// Kill kills a controller and waits until it is gone. It returns the time of the
// signal.
func (p *Plane) Kill(name string) time.Time {
	l := p.life(name)
	p.retire(l)
	at := time.Now()
	l.Kill9()
	return at
}

// KillAll kills all of them at once.
func (p *Plane) KillAll(more ...*harness.Process) {
	all := more
	for _, l := range p.living() {
		p.retire(l)
		all = append(all, l.Process)
	}
	var dying sync.WaitGroup
	for _, one := range all {
		dying.Go(one.Kill9)
	}
	dying.Wait()
}

func (p *Plane) life(name string) *life {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lives[name]
	if l == nil {
		p.t.Fatalf("no controller %s was ever started", name)
	}
	return l
}

// living returns the running controllers, by name.
func (p *Plane) living() []*life {
	p.mu.Lock()
	defer p.mu.Unlock()
	var living []*life
	for _, name := range slices.Sorted(maps.Keys(p.lives)) {
		if l := p.lives[name]; !l.doomed.Load() {
			living = append(living, l)
		}
	}
	return living
}

// pick returns one of the living controllers that are most ready, or nil if none
// is.
func (p *Plane) pick() *life {
	var best []*life
	most := int32(incapable)
	for _, l := range p.living() {
		is := l.ready.Load()
		if is > most {
			most, best = is, nil
		}
		if is == most {
			best = append(best, l)
		}
	}
	if len(best) == 0 {
		return nil
	}
	return best[rand.IntN(len(best))]
}

var errNoneReady = errors.New("no controller is ready")

// noneReady is how long a request waits for a controller that accepts it.
const noneReady = 10 * time.Second

// RoundTrip implements http.RoundTripper. It waits for a ready controller and sends
// the request there. Only if it cannot be sent, it tries another one.
func (p *Plane) RoundTrip(req *http.Request) (*http.Response, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); time.Since(begin) < noneReady; {
		if l := p.pick(); l != nil {
			resp, err := l.roundTrip(req)
			if op := new(net.OpError); !errors.As(err, &op) || op.Op != "dial" {
				return resp, err
			}
		}
		select {
		case <-req.Context().Done():
			return nil, fmt.Errorf("%w: %w", errNoneReady, req.Context().Err())
		case <-tick.C:
		}
	}
	return nil, fmt.Errorf("%w within %s", errNoneReady, noneReady)
}

func (l *life) roundTrip(req *http.Request) (*http.Response, error) {
	one := req.Clone(req.Context())
	one.URL.Host, one.Host = l.Addr.HTTP, l.Addr.HTTP
	if req.GetBody != nil {
		var err error
		if one.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	resp, err := l.http.Transport.RoundTrip(one)
	if err != nil {
		return nil, l.excuse(err)
	}
	resp.Body = &excused{resp.Body, l}
	return resp, nil
}

// excuse marks the error of a broken connection if the test has broken it.
func (l *life) excuse(err error) error {
	if l.doomed.Load() {
		return fmt.Errorf("%s: %w: %w", l.name, errKilled, err)
	}
	return err
}

// excused is the body of an answer.
type excused struct {
	io.ReadCloser
	from *life
}

func (b *excused) Read(buf []byte) (int, error) {
	n, err := b.ReadCloser.Read(buf)
	if err != nil && err != io.EOF { //nolint:errorlint // readers return io.EOF unwrapped
		err = b.from.excuse(err)
	}
	return n, err
}

// Leader waits until a controller reports that it leads, and returns it.
func (p *Plane) Leader() *life {
	p.t.Helper()
	var leader *life
	harness.Eventually(p.t, patience, func() (err error) {
		leader, err = p.leads(0)
		return err
	})
	return leader
}

// leads returns the living controller that leads in a term above the given one.
func (p *Plane) leads(above fleet.Epoch) (*life, error) {
	var refusals []error
	for _, l := range p.living() {
		ctx, cancel := context.WithTimeout(p.t.Context(), time.Second)
		list, err := l.client.Controllers(ctx)
		cancel()
		if err != nil {
			refusals = append(refusals, fmt.Errorf("%s: %w", l.name, err))
			continue
		}
		for _, c := range list.Controllers {
			if c.Leader && c.HTTP == l.Addr.HTTP && list.Term > above {
				return l, nil
			}
		}
		refusals = append(refusals, fmt.Errorf("%s does not lead, its term is %d", l.name, list.Term))
	}
	return nil, errors.Join(refusals...)
}

// term returns the leader's term in the view of one controller.
func (l *life) term(ctx context.Context) (fleet.Epoch, error) {
	list, err := l.client.Controllers(ctx)
	return list.Term, err
}

// Follower returns a living controller that does not lead.
func (p *Plane) Follower() *life {
	p.t.Helper()
	leader := p.Leader()
	for _, l := range p.living() {
		if l != leader {
			return l
		}
	}
	p.t.Fatal("there is no follower")
	return nil
}

// AwaitVoters waits until every living controller reports exactly these voters and
// no other members. Members that died before they had a vote do not count: they
// are forgotten a minute later.
func (p *Plane) AwaitVoters(names ...string) {
	p.t.Helper()
	harness.Eventually(p.t, 2*patience, func() error {
		for _, l := range p.living() {
			list, err := l.client.Controllers(p.t.Context())
			if err != nil {
				return err
			}
			var got []string
			for _, c := range list.Controllers {
				if c.Role == api.ControllerNonvoter && !c.Alive {
					continue
				}
				if c.Role != api.ControllerVoter || !c.Alive {
					return fmt.Errorf("%s lists %+v", l.name, c)
				}
				got = append(got, string(c.Name))
			}
			want := make([]string, len(names))
			for i, n := range names {
				want[i] = p.Node(n)
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				return fmt.Errorf("%s says that the controllers are %v, want %v", l.name, got, want)
			}
		}
		return nil
	})
}

// wipe removes the data of a controller.
func (p *Plane) wipe(name string) {
	p.t.Helper()
	if err := os.RemoveAll(p.dataDir(name)); err != nil {
		p.t.Fatal(err)
	}
}

// put writes one server's spec through a living controller, and fails the test if
// that fails.
func (p *Plane) put(server, spec string) api.Written {
	p.t.Helper()
	w, err := p.PutServer(p.t.Context(), fleet.ServerName(server), []byte(spec), api.WriteOptions{})
	if err != nil {
		p.t.Fatalf("put %s: %v", server, err)
	}
	return w
}
