package stdio

import (
	"bytes"
	"time"
)

const (
	// noisePeriod is how often a stray line is logged, and noiseQuote how much of
	// it.
	noisePeriod = time.Second
	noiseQuote  = 200
	// maxStrays is how many lines a conversation passes to Config.OnStray, and
	// strayQuote how much of each. The first ones show what is wrong.
	maxStrays  = 20
	strayQuote = 500
)

// Stray is a line that does not belong on a server's stdout.
type Stray struct {
	Kind StrayKind
	Text string // its beginning, as Config.Quote gives it
	ID   string // of a StrayAnswer, raw; "" if it has none
}

// StrayKind says what is wrong with a line.
type StrayKind uint8

// The kinds of strays.
const (
	StrayLine   StrayKind = iota // no JSON-RPC at all
	StrayBroken                  // the answer to a request, but malformed
	StrayAnswer                  // an answer to no request
	StrayEcho                    // a request that only we send: the server echoes its input
)

// strays limits how many strays are reported and logged. The reader owns it.
type strays struct {
	reported   int
	logged     time.Time
	suppressed int
}

// stray reports a line that is no message: the first ones to OnStray, and one
// a second to the log, with the attributes of the call that it ended.
func (c *Conn) stray(message string, s Stray, data []byte, err error, call ...any) {
	if data == nil && err != nil {
		data = []byte("(" + err.Error() + ")") // it was not kept
	}
	if c.strays.reported < maxStrays && c.cfg.OnStray != nil {
		c.strays.reported++
		s.Text = c.cfg.Quote(data, strayQuote)
		c.cfg.OnStray(s)
	}
	now := time.Now()
	if now.Sub(c.strays.logged) < noisePeriod {
		c.strays.suppressed++
		return
	}
	c.log.With(call...).Warn(message, "line", c.cfg.Quote(data, noiseQuote), "bytes", len(data), "err", err, "suppressed", c.strays.suppressed)
	c.strays.logged, c.strays.suppressed = now, 0
}

// quote returns the beginning of what a server sent.
func quote(b []byte, n int) string {
	if len(b) > n {
		return string(bytes.ToValidUTF8(b[:n], []byte("?"))) + "..."
	}
	return string(bytes.ToValidUTF8(b, []byte("?")))
}
