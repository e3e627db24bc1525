package process

import (
	"bufio"
	"testing"
	"time"
)

// A replica uses what its first process and that one's children use, and nothing once it
// has ended.
func TestUsageOfAGroup(t *testing.T) {
	r := newRuntime(t, t.Output())
	// The child uses some CPU and ends.
	p := start(t, r, launch("sh", "-c", "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; echo done; exec sleep 600"))
	if line, err := bufio.NewReader(p.Stdout()).ReadString('\n'); err != nil || line != "done\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	cpu, memory, ok := p.(*child).Consumed()
	if !ok || cpu < 50*time.Millisecond || cpu > time.Minute || memory < 100<<10 || memory > 1<<30 {
		t.Errorf("it uses %s and %d bytes, %v", cpu, memory, ok)
	}
	if err := p.Signal(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	p.Exit(within(t, 10*time.Second))
	if cpu, memory, ok := p.(*child).Consumed(); ok {
		t.Errorf("it has ended, and uses %s and %d bytes", cpu, memory)
	}
}
