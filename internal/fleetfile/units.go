package fleetfile

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// sizeUnits are binary, as in Compose: 1k is 1024 bytes.
var sizeUnits = map[string]int64{
	"": 1, "b": 1,
	"k": 1 << 10, "kb": 1 << 10, "kib": 1 << 10, "ki": 1 << 10,
	"m": 1 << 20, "mb": 1 << 20, "mib": 1 << 20, "mi": 1 << 20,
	"g": 1 << 30, "gb": 1 << 30, "gib": 1 << 30, "gi": 1 << 30,
	"t": 1 << 40, "tb": 1 << 40, "tib": 1 << 40, "ti": 1 << 40,
}

// ParseSize parses an amount of memory: 512m, 1GiB, 1.5g or plain bytes. Units
// are binary.
func ParseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	unit, known := sizeUnits[strings.ToLower(strings.TrimSpace(s[len(digits):]))]
	if !known || digits == "" || strings.Trim(digits, "0123456789.") != "" {
		return 0, errors.New("not a size")
	}
	if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
		if n > math.MaxInt64/unit {
			return 0, errors.New("too large")
		}
		return n * unit, nil
	}
	f, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return 0, err
	}
	if f *= float64(unit); f >= math.MaxInt64 {
		return 0, errors.New("too large")
	}
	return int64(f), nil
}

// parseDuration parses the durations of time.ParseDuration, and plain seconds.
func parseDuration(s string) (time.Duration, error) {
	if seconds, err := strconv.ParseFloat(s, 64); err == nil {
		// The comparison is also false for a NaN.
		if !(math.Abs(seconds) < math.MaxInt64/float64(time.Second)) {
			return 0, errors.New("too large")
		}
		return time.Duration(math.Round(seconds * float64(time.Second))), nil
	}
	return time.ParseDuration(s)
}
