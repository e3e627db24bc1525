package crontab

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ cron, says string }{
		{"", "5 fields (minute, hour, day of month, month, day of week), not 0"},
		{"0 8 * *", "not 4"},
		{"0 0 8 * * *", "not 6"},
		{"@daily", "not 1"},
		{strings.Repeat("1,", 200) + "1 8 * * *", "at most 256 bytes, not 409"},
		{"60 8 * * *", "minute field"},
		{"0 24 * * *", "hour field"},
		{"0 8 0 * *", "day-of-month field"},
		{"0 8 * 13 *", "month field"},
		{"0 8 * * 8", "day-of-week field"},
		{"*/0 * * * *", "interval"},
		{"CRON_TZ=UTC 0 8 * *", "minute field"},
		{"0 0 30 2 *", "never occurs"},
	} {
		if _, err := Parse(tt.cron, time.UTC); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q: got %v, want an error that says %q", tt.cron, err, tt.says)
		}
	}
}

func TestZone(t *testing.T) {
	for _, name := range []string{"Local", "Mars/Olympus", "../etc/passwd", "europe berlin"} {
		if zone, err := Zone(name); err == nil {
			t.Errorf("%s is %s", name, zone)
		}
	}
	if zone, err := Zone(""); err != nil || zone != time.UTC {
		t.Errorf("no name is %v, %v", zone, err)
	}
}

func TestHold(t *testing.T) {
	for _, tt := range []struct {
		name, cron, zone string
		length           time.Duration
		at               string
		want             bool
	}{
		{"just before it begins", "0 8 * * 1-5", "", 10 * time.Hour, "2030-01-02T07:59:59Z", false},
		{"as it begins", "0 8 * * 1-5", "", 10 * time.Hour, "2030-01-02T08:00:00Z", true},
		{"just before it ends", "0 8 * * 1-5", "", 10 * time.Hour, "2030-01-02T17:59:59Z", true},
		{"as it ends", "0 8 * * 1-5", "", 10 * time.Hour, "2030-01-02T18:00:00Z", false},
		{"on another day", "0 8 * * 1-5", "", 10 * time.Hour, "2030-01-05T09:00:00Z", false},
		{"over midnight", "0 22 * * *", "", 4 * time.Hour, "2030-01-02T01:00:00Z", true},
		{"again before it ends", "*/5 * * * *", "", time.Hour, "2030-01-02T01:07:00Z", true},
		{"Sunday is 7 too", "0 8 * * 7", "", time.Hour, "2030-01-06T08:30:00Z", true},
		{"a day of the month or of the week", "0 8 13 * 5", "", time.Hour, "2030-01-13T08:30:00Z", true},
		{"in another zone", "0 8 * * *", "America/New_York", time.Hour, "2030-01-02T13:30:00Z", true},
		{"in another zone in summer", "0 8 * * *", "America/New_York", time.Hour, "2030-07-02T13:30:00Z", false},
		{"in another zone in summer, an hour earlier", "0 8 * * *", "America/New_York", time.Hour, "2030-07-02T12:30:00Z", true},
		{"skipped by the clock", "30 2 * * *", "Europe/Berlin", time.Hour, "2030-03-31T01:30:00Z", false},
		{"shown twice by the clock, the first time", "30 2 * * *", "Europe/Berlin", time.Minute, "2030-10-27T00:30:00Z", true},
		{"shown twice by the clock, the second time", "30 2 * * *", "Europe/Berlin", time.Minute, "2030-10-27T01:30:00Z", true},
		{"on leap days only", "0 0 29 2 *", "", time.Hour, "2032-02-29T00:30:00Z", true},
	} {
		zone, err := Zone(tt.zone)
		if err != nil {
			t.Fatal(err)
		}
		times, err := Parse(tt.cron, zone)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := times.Hold(at, tt.length); got != tt.want {
			t.Errorf("%s: %s holds at %s: %t, want %t", tt.name, tt.cron, tt.at, got, tt.want)
		}
	}
}

// The answer stays until the time that comes with it, and may be another from then
// on.
func TestHoldUntil(t *testing.T) {
	for _, tt := range []struct {
		cron      string
		length    time.Duration
		at, until string
	}{
		{"0 8 * * *", time.Hour, "2030-01-02T07:00:00Z", "2030-01-02T08:00:00Z"},
		{"0 8 * * *", time.Hour, "2030-01-02T08:00:00Z", "2030-01-02T09:00:00Z"},
		{"0 8 * * *", time.Hour, "2030-01-02T09:00:00Z", "2030-01-03T08:00:00Z"},
		{"*/5 * * * *", 12 * time.Minute, "2030-01-02T01:07:00Z", "2030-01-02T01:12:00Z"}, // it holds on
	} {
		times, err := Parse(tt.cron, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		if _, got := times.Hold(at, tt.length); got.Format(time.RFC3339) != tt.until {
			t.Errorf("%s at %s: until %v, want %s", tt.cron, tt.at, got, tt.until)
		}
	}
}

// A schedule begins whenever the clock on the wall shows its time, also on the days on
// which the clock is changed, at whatever hour and by however much.
func TestTimesOfTheClock(t *testing.T) {
	for _, name := range []string{"Europe/Berlin", "Asia/Beirut", "Africa/Cairo", "America/Santiago", "America/Havana", "Australia/Lord_Howe", "Pacific/Chatham"} {
		zone, err := Zone(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, cron := range []string{"30 2 * * *", "0 0 * * *", "*/15 * * * *", "59 23 * * 0", "*/20 23 * * 5", "0 */3 1-7 * *"} {
			wall, times := parsed(t, cron, time.UTC), parsed(t, cron, zone)
			_, change := time.Date(2026, 1, 1, 0, 0, 0, 0, zone).ZoneBounds()
			for range 2 {
				var want, got []string
				at, end := change.Add(-36*time.Hour), change.Add(36*time.Hour)
				for begin := times.after(at.Add(-time.Second)); begin.Before(end) && len(got) < 1000; begin = times.after(begin) {
					got = append(got, begin.Format(time.RFC3339))
				}
				for ; at.Before(end); at = at.Add(time.Minute) {
					l := at.In(zone)
					shown := time.Date(l.Year(), l.Month(), l.Day(), l.Hour(), l.Minute(), 0, 0, time.UTC)
					if wall.after(shown.Add(-time.Second)).Equal(shown) {
						want = append(want, l.Format(time.RFC3339))
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s: %s begins at %v, want %v", name, cron, got, want)
				}
				_, change = change.ZoneBounds()
			}
		}
	}
}

func parsed(t *testing.T, cron string, zone *time.Location) *Times {
	t.Helper()
	times, err := Parse(cron, zone)
	if err != nil {
		t.Fatal(err)
	}
	return times
}
