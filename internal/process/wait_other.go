//go:build !linux

package process

import "os/exec"

// awaitExit waits for the child and reaps it. In theory its group's number may
// be given to others before the group is killed.
func awaitExit(cmd *exec.Cmd) { cmd.Wait() }
