package crontab

import (
	"testing"
	"time"
)

// Whatever Parse accepts can be asked about.
func FuzzParse(f *testing.F) {
	for _, cron := range []string{"0 8 * * 1-5", "*/15 1,3 L * MON#2", "0 0 15W 1-12/3 ?", "@daily", "59 23 31 12 7"} {
		f.Add(cron)
	}
	f.Fuzz(func(t *testing.T, cron string) {
		times, err := Parse(cron, time.UTC)
		if err != nil {
			return
		}
		at := time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
		if begin := times.after(at); !begin.IsZero() && !begin.After(at) {
			t.Errorf("%q begins at %s, not after %s", cron, begin, at)
		}
		times.Hold(at, time.Hour)
	})
}
