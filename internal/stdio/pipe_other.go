//go:build !linux

package stdio

// widen does nothing: only Linux can change the size of a pipe.
func widen(any) {}
