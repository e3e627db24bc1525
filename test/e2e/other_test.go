//go:build !linux

package e2e

import (
	"runtime"
	"testing"
)

func TestNothingHere(t *testing.T) {
	t.Skipf("these tests look for what is left in /proc, which %s lacks", runtime.GOOS)
}
