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

// Run joins, and joins again whenever members are missing, until ctx ends. Then it
// leaves and stops everything, within leaveTimeout. It returns nil, also after
// Close.
func (r *Ring) Run(ctx context.Context) error {
	defer r.stop()
	defer context.AfterFunc(ctx, r.hangUp)() // ends joins under way
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
				continue // the next tick joins once more, which is harmless
			}
			retry = minRetry // all others are gone: join again at once
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

// saver starts a goroutine that saves the peers, so that Run goes on when the
// disk hangs. save makes it save them. end ends it and waits for it, at most a
// second.
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
		default: // one is due already
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

// leave leaves the ring in order, unless the ring is closed.
func (r *Ring) leave() {
	select {
	case <-r.closed:
		return
	default:
	}
	if err := r.list.Leave(leaveTimeout); err != nil {
		r.log.Info("left the ring without confirmation", "err", err)
	}
}

func (r *Ring) alone() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.members) <= 1
}

// joinMissing joins every join address, and some remembered peers, that are not
// the address of a member. It joins all at once, because an address that drops
// packets takes the whole timeout.
func (r *Ring) joinMissing(ctx context.Context) {
	var wg sync.WaitGroup
	for _, addr := range r.missing(ctx, time.Now()) {
		wg.Go(func() {
			if ctx.Err() != nil {
				return
			}
			if _, err := r.list.Join([]string{addr}); err != nil {
				r.log.Debug("join failed", "address", addr, "err", err)
				return
			}
			r.log.Info("joined", "address", addr)
		})
	}
	wg.Wait()
}

// missing returns the addresses to join, as ip:port. It leaves out members that
// have just gone: one that left in order still answers while it ends.
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

// resolve returns every ip:port that a join address stands for now.
func (r *Ring) resolve(ctx context.Context, addr string) []string {
	host, port, err := splitHostPort(addr)
	if err != nil {
		return nil // New checked them
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		r.log.Debug("look-up of a join address failed", "address", addr, "err", err)
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
		r.log.Warn("peers not saved", "err", err)
	}
}
