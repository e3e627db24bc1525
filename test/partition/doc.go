// Package partition tests what a fleet does while its network fails: the
// programs themselves, each in a network namespace of its own, joined by a
// bridge whose links the tests cut, one way or both, or make lossy. The tests
// are the package.
//
// They need Linux, root, and the commands ip and iptables, and touch nothing
// of the machine's own network: the bridge is in a namespace too, and clients
// dial from there. What an earlier run that was killed has left behind is
// removed by the next one.
package partition
