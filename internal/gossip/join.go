package gossip

import (
	"context"
	"maps"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"
)

// Run joins and keeps joined until ctx ends, then leaves, within a bound, and
// stops everything. It returns nil then, and also after Close.
func (r *Ring) Run(ctx context.Context) error {
	defer r.stop()
	defer context.AfterFunc(ctx, r.hangUp)() // a join under way would be waited for
	retry := minRetry
	tick := time.NewTimer(0)
	defer tick.Stop()
	alone := true
	save, saved := r.saver()
	defer saved()
	for {
		select {
		case <-ctx.Done():
			r.leave()
			return nil
		case <-r.closed:
			return nil
		case <-r.wake:
			save()
			if was := alone; r.alone() == was {
				continue
			}
			alone = !alone
			if !alone {
				continue // the tick that is set may find us in company: harmless
			}
			retry = minRetry // just lost everyone: look for them at once
		case <-tick.C:
			r.joinMissing(ctx)
			alone = r.alone()
		}
		wait := rejoinInterval
		if alone {
			wait, retry = retry, min(2*retry, maxRetry)
		}
		tick.Reset(wait/2 + rand.N(wait))
	}
}

// saver starts the goroutine that writes the peers down, apart from Run, which
// must go on when the disk does not answer. The first function that it returns
// has them written; the second ends the goroutine, and waits for it unless the
// disk hangs.
func (r *Ring) saver() (save, end func()) {
	look, done := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(done)
		for range look {
			r.savePeers()
		}
	}()
	save = func() {
		select {
		case look <- struct{}{}:
		default: // it looks soon
		}
	}
	end = func() {
		close(look)
		select {
		case <-done:
		case <-time.After(time.Second):
		}
	}
	return save, end
}

// leave says goodbye, unless the ring was closed already.
func (r *Ring) leave() {
	select {
	case <-r.closed:
		return
	default:
	}
	if err := r.list.Leave(leaveTimeout); err != nil {
		r.log.Info("left the ring unheard", "error", err)
	}
}

func (r *Ring) alone() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.members) <= 1
}

// joinMissing tries every join address, and some remembered peers, that are
// not the address of a member: all at once, since an address that swallows
// packets takes its whole timeout.
func (r *Ring) joinMissing(ctx context.Context) {
	var wg sync.WaitGroup
	for _, addr := range r.missing(ctx, time.Now()) {
		wg.Go(func() {
			if ctx.Err() != nil {
				return
			}
			if _, err := r.list.Join([]string{addr}); err != nil {
				r.log.Debug("cannot join yet", "address", addr, "error", err)
				return
			}
			r.log.Info("joined", "address", addr)
		})
	}
	wg.Wait()
}

// missing lists the addresses to join: ip:port, each once. A member that has
// just gone may have left in order, and answer while it ends: it is not joined
// then.
func (r *Ring) missing(ctx context.Context, now time.Time) []string {
	var wanted []string
	for _, a := range r.join {
		wanted = append(wanted, r.resolve(ctx, a)...)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	wanted = append(wanted, r.peers.some(peersTriedAtOnce)...)
	maps.DeleteFunc(r.gone, func(_ string, at time.Time) bool { return now.Sub(at) >= goneQuiet })
	have := map[string]bool{r.addr: true}
	for a := range r.gone {
		have[a] = true
	}
	for _, m := range r.members {
		have[m.Gossip] = true
	}
	var out []string
	for _, a := range wanted {
		if !have[a] {
			have[a] = true
			out = append(out, a)
		}
	}
	return out
}

// resolve returns every ip:port a join address stands for now.
func (r *Ring) resolve(ctx context.Context, addr string) []string {
	host, port, err := splitHostPort(addr)
	if err != nil {
		return nil // New checked them
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		r.log.Debug("cannot look up a join address yet", "address", addr, "error", err)
		return nil
	}
	out := make([]string, len(ips))
	for i, ip := range ips {
		out[i] = net.JoinHostPort(ip.Unmap().String(), strconv.Itoa(port))
	}
	return out
}

func (r *Ring) savePeers() {
	now := time.Now()
	r.mu.Lock()
	for name, m := range r.members {
		if name != r.self {
			r.peers.seen(m.Gossip, now)
		}
	}
	save := r.peers.snapshot(now)
	r.mu.Unlock()
	if err := save(); err != nil {
		r.log.Warn("peers cannot be remembered", "error", err)
	}
}
