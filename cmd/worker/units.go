package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// parseMemory reads 4g, 512m, 1.5GiB or plain bytes. Units are binary, as in
// the fleet file.
func parseMemory(s string) (int64, error) {
	low := strings.ToLower(strings.TrimSpace(s))
	number := strings.TrimRight(low, "kmgtib")
	var shift uint
	switch unit := low[len(number):]; unit {
	case "", "b":
	case "k", "kb", "ki", "kib":
		shift = 10
	case "m", "mb", "mi", "mib":
		shift = 20
	case "g", "gb", "gi", "gib":
		shift = 30
	case "t", "tb", "ti", "tib":
		shift = 40
	default:
		return 0, fmt.Errorf("%q has no known unit", s)
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || !(n > 0) {
		return 0, fmt.Errorf("%q is not an amount of memory, such as 4g", s)
	}
	if n *= float64(uint64(1) << shift); n >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is too much", s)
	}
	return int64(n), nil
}
