// Package proctab reads the host's process table: which processes live, their
// environment and command line, the worker life that they belong to, what they use,
// and whether the kernel may have killed one for want of memory. Before it kills a process it
// makes sure, through a pidfd, that the pid still belongs to that process.
//
// Runtimes use it to find processes that must not be left, and decide which
// these are. It needs Linux's /proc. Elsewhere the table is empty and only Owner
// works, by pid alone. It starts no goroutine, and all functions may be called at
// once.
package proctab

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"
)

// ID identifies a process. A pid may be used again, but not with the same start
// time. Start is in clock ticks since boot.
type ID struct {
	PID   int
	Start uint64
}

// Alive reports whether the process still runs. A zombie does not.
func (id ID) Alive() bool {
	p, ok := Find(id.PID)
	return ok && p.ID == id
}

// Process is a row of the table.
type Process struct {
	ID
	Parent int
	Group  int
	CPU    time.Duration // used so far, also by ended children that it has waited for
	Memory int64         // resident, in bytes
}

// Family returns the roots that live and all their descendants, as far as the
// table shows the descent.
func Family(table []Process, roots map[int]bool) []ID {
	in := make(map[int]bool, len(roots))
	for _, p := range table {
		if roots[p.PID] {
			in[p.PID] = true
		}
	}
	for grown := true; grown; {
		grown = false
		for _, p := range table {
			if !in[p.PID] && in[p.Parent] {
				in[p.PID], grown = true, true
			}
		}
	}
	var ids []ID
	for _, p := range table {
		if in[p.PID] {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

// KillAll kills the processes that find returns, until find returns nothing twice
// in a row or ctx ends. Once is not enough: a process may have forked while it
// died, or forked and ended while the table was read. find must return only
// living processes, and KillAll spares its own. It returns the killed pids in
// order.
func KillAll(ctx context.Context, find func() []ID) ([]int, error) {
	self := syscall.Getpid()
	var killed []int
	missed := false
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		left := slices.DeleteFunc(find(), func(id ID) bool { return id.PID == self })
		if len(left) == 0 {
			if !missed {
				missed = true
				continue
			}
			slices.Sort(killed)
			return slices.Compact(killed), nil
		}
		missed = false
		for _, id := range left {
			if err := Signal(id, syscall.SIGKILL); err != nil {
				return killed, err
			}
			killed = append(killed, id.PID)
		}
		if err := Sleep(ctx, wait); err != nil {
			return killed, fmt.Errorf("process %d does not die: %w", left[0].PID, err)
		}
	}
}

// WaitGone waits until the process is gone or a zombie, or until ctx ends.
func WaitGone(ctx context.Context, id ID) error {
	for wait := time.Millisecond; id.Alive(); wait = min(2*wait, 20*time.Millisecond) {
		if err := Sleep(ctx, wait); err != nil {
			return fmt.Errorf("process %d is still running: %w", id.PID, err)
		}
	}
	return nil
}

// Sleep waits for d. It returns ctx's cause if ctx ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
