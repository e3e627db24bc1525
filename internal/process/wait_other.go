//go:build !linux

package process

import "os/exec"

// awaitExit waits for the child for good. The number of its group may then,
// in theory, be given away before the group is killed.
func awaitExit(cmd *exec.Cmd) { cmd.Wait() }
