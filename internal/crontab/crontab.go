// Package crontab says when the schedules of autoscaling hold. The fleet file is
// checked with it, and autoscaling follows it, so both understand the same
// expressions in the same way.
//
// An expression has the five fields of cron: minute, hour, day of month, month and
// day of week. Times are those of a clock on the wall in the schedule's time zone. A
// time that the clock skips in spring does not occur on that day. One that it shows
// twice in autumn occurs twice. The package knows all time zones, also on machines
// without a database of them.
//
// The package starts no goroutine, and its functions may be called at any time. Times
// belong to one goroutine at a time.
package crontab

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // containers have no database of time zones

	"github.com/hashicorp/cronexpr"
)

// maxLength bounds an expression, in bytes.
const maxLength = 256

// Times are the times at which a schedule begins.
type Times struct {
	expression *cronexpr.Expression
	zone       *time.Location
}

// Parse reads an expression, whose times are of a zone as Zone returns it. The
// error says what is wrong with the expression.
func Parse(cron string, zone *time.Location) (*Times, error) {
	if len(cron) > maxLength {
		return nil, fmt.Errorf("must have at most %d bytes, not %d", maxLength, len(cron))
	}
	if n := len(strings.Fields(cron)); n != 5 {
		return nil, fmt.Errorf("must have 5 fields (minute, hour, day of month, month, day of week), not %d", n)
	}
	expression, err := cronexpr.Parse(cron)
	if err != nil {
		return nil, fmt.Errorf("not valid: %w", err)
	}
	t := &Times{expression, zone}
	if t.after(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, errors.New("never occurs")
	}
	return t, nil
}

// Zone returns the time zone with a name of the IANA database, such as
// Europe/Berlin. "" is UTC.
func Zone(name string) (*time.Location, error) {
	if name == "Local" { // every machine has its own
		return nil, errors.New("unknown time zone; use a name such as Europe/Berlin")
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, errors.New("unknown time zone; use a name such as Europe/Berlin")
	}
	return zone, nil
}

// Hold reports whether a schedule that lasts for so long each time holds at a time.
// It holds from its beginning until just before its end. until is when to ask
// again, zero for never. Before that the answer stays.
func (t *Times) Hold(now time.Time, length time.Duration) (holds bool, until time.Time) {
	begin := t.after(now.Add(-length))
	if begin.IsZero() || begin.After(now) {
		return false, begin
	}
	return true, begin.Add(length)
}

// after returns the first time after another, or the zero time if there is none. It
// asks the library only about times of one offset from UTC at once: on the days on
// which the clock is changed, the library may return a time of another day, or none
// that is later.
func (t *Times) after(other time.Time) time.Time {
	at, from := other.In(t.zone), other
	for {
		_, offset := at.Zone()
		_, end := at.ZoneBounds()
		next := t.expression.Next(from.In(time.FixedZone("", offset)))
		if next.IsZero() || end.IsZero() || next.Before(end) {
			return next.In(t.zone)
		}
		at, from = end, end.Add(-time.Nanosecond)
	}
}
