package mcp

import (
	"strconv"
	"strings"
)

// maxSafe is the largest integer that JavaScript holds exactly.
const maxSafe = 1<<53 - 1

// parseInteger returns the value of a JSON number that is an integer, such as 42, 42.0 or 4.2e1, within
// the range that JavaScript holds exactly. It never expands an exponent, so a hostile one costs nothing.
func parseInteger(raw []byte) (int64, bool) {
	if end, why := numberEnd(raw); why != "" || end != len(raw) {
		return 0, false
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(string(raw)), "e")
	negative := strings.HasPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(mantissa, "-"), ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return 0, true
	}
	shift := 0
	if exponent != "" {
		var err error
		if shift, err = strconv.Atoi(exponent); err != nil {
			return 0, false
		}
	}
	shift -= len(fraction)
	trimmed := strings.TrimRight(digits, "0")
	shift += len(digits) - len(trimmed)
	if shift < 0 || shift > 16 || len(trimmed)+shift > 16 {
		return 0, false
	}
	value, err := strconv.ParseInt(trimmed+strings.Repeat("0", shift), 10, 64)
	if err != nil || value > maxSafe {
		return 0, false
	}
	if negative {
		value = -value
	}
	return value, true
}

func numberEnd(raw []byte) (int, string) {
	if len(raw) == 0 {
		return 0, whyEnd
	}
	return skipNumber(raw, 0)
}
