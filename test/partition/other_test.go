//go:build !linux

package partition

import (
	"runtime"
	"testing"
)

func TestNothingHere(t *testing.T) {
	t.Skipf("these tests need network namespaces, which %s lacks", runtime.GOOS)
}
