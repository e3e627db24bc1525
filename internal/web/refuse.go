package web

import (
	"net/http"
	"time"

	"golang.org/x/time/rate"
)

// Refusing a request costs nearly as much processor time as serving a small one.
// Clients that come back at once after each refusal could so take all of it from
// the requests that were accepted. Refusals for overload are therefore paced: a
// burst is answered at once, the rest wait for their turn, for maxHoldBack at
// most. Retry-After asks for no less. N clients that wait for their answers cause
// no more than N refusals per maxHoldBack, or refusalsPerSecond if that is more.
const (
	refusalsPerSecond = 500
	refusalsAtOnce    = 50
	maxHoldBack       = time.Second
)

// pacer spreads refusals over time. Its methods may be called at any time.
type pacer struct{ turns *rate.Limiter }

func newPacer() pacer { return pacer{rate.NewLimiter(refusalsPerSecond, refusalsAtOnce)} }

// next returns how long a refusal that is due now has to wait for its turn.
func (p pacer) next(now time.Time) time.Duration {
	turn := p.turns.ReserveN(now, 1)
	wait := turn.DelayFrom(now)
	if wait > maxHoldBack {
		turn.CancelAt(now) // it goes out of turn, and delays nobody further
		return maxHoldBack
	}
	return wait
}

// holdBack waits until the request may be refused for overload. It waits no
// longer than the client does, and not when the controller is stopping.
func (w *Response) holdBack(r *http.Request) {
	wait := w.mux.refusals.next(time.Now())
	if timeout, err := ClientTimeout(r); err == nil && timeout > 0 {
		wait = min(wait, timeout/2) // the answer has a way to go, too
	}
	if wait <= 0 {
		return
	}
	w.mux.heldBack.Inc()
	defer w.mux.heldBack.Dec()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	case <-w.mux.cfg.Leaving:
	}
}

// isSmall reports whether a request says that its body is small. net/http reads
// such a body by itself, and the connection can be used again.
func isSmall(r *http.Request) bool { return 0 <= r.ContentLength && r.ContentLength <= pooled }
