package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// client returns a client for the controllers at --address.
func (a *app) client() (*api.Client, error) {
	bases, err := a.bases()
	if err != nil {
		return nil, err
	}
	if len(bases) == 1 {
		return api.NewClient(bases[0], nil)
	}
	// A machine that is gone does not refuse connections, so dialing is bounded.
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: 3 * time.Second}).DialContext
	return api.NewClient(bases[0], &http.Client{Transport: &anyController{bases: bases, next: transport}})
}

// bases returns the base URLs of the controllers at --address.
func (a *app) bases() ([]string, error) {
	var bases []string
	for address := range strings.SplitSeq(a.address, ",") {
		one, err := api.NewClient(strings.TrimSpace(address), nil)
		if err != nil {
			return nil, fmt.Errorf("--address: %w", err)
		}
		bases = append(bases, one.Address())
	}
	return bases, nil
}

// anyController sends each request to the controller that last answered. It
// tries the next one only if the request certainly changed nothing: it could
// not be sent, or the controller answered that it found no leader. After any other
// failure, the next request begins with another controller: this one may hang.
type anyController struct {
	bases   []string // base URLs; requests are addressed to the first
	next    http.RoundTripper
	current atomic.Int64
}

// RoundTrip implements http.RoundTripper.
func (t *anyController) RoundTrip(req *http.Request) (*http.Response, error) {
	begin := t.current.Load()
	var failed []error
	for i := range t.bases {
		n := (int(begin) + i) % len(t.bases)
		one, err := t.requestFor(req, n)
		if err != nil {
			return nil, err
		}
		resp, err := t.next.RoundTrip(one)
		switch last := i == len(t.bases)-1; {
		case err != nil && !unsent(err):
			t.current.CompareAndSwap(begin, int64((n+1)%len(t.bases)))
			return nil, err
		case err != nil:
			failed = append(failed, fmt.Errorf("%s: %w", t.bases[n], err))
			continue
		case !last && noLeader(resp):
			resp.Body.Close()
			failed = append(failed, fmt.Errorf("%s: no leader", t.bases[n]))
			continue
		}
		t.current.Store(int64(n))
		return resp, nil
	}
	return nil, fmt.Errorf("no controller answers: %w", errors.Join(failed...))
}

// requestFor returns a copy of the request for the nth controller.
func (t *anyController) requestFor(req *http.Request, n int) (*http.Request, error) {
	u, err := url.Parse(t.bases[n] + strings.TrimPrefix(req.URL.String(), t.bases[0]))
	if err != nil {
		return nil, err
	}
	one := req.Clone(req.Context())
	one.URL, one.Host = u, ""
	if req.GetBody != nil {
		if one.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	return one, nil
}

// unsent reports whether an error means that no controller was reached, so that
// the request certainly changed nothing.
func unsent(err error) bool {
	dial, ok := errors.AsType[*net.OpError](err)
	return ok && dial.Op == "dial"
}

// noLeader reports whether a controller answered that it did nothing because
// there is no leader. The body of the response can still be read.
func noLeader(resp *http.Response) bool {
	if resp.StatusCode != http.StatusServiceUnavailable {
		return false
	}
	const most = 64 << 10
	head, err := io.ReadAll(io.LimitReader(resp.Body, most))
	rest := resp.Body
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), rest), rest}
	var e api.Error
	return err == nil && json.Unmarshal(head, &e) == nil && e.Code == api.CodeNoLeader
}
