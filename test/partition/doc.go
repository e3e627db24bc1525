// Package partition tests a fleet while its network fails. Each program runs in a
// network namespace of its own. A bridge joins these, and the tests cut its links in
// one or both directions, or make them lossy. The package has only tests.
//
// They need Linux, root, and the commands ip and iptables. They do not touch the
// machine's own network: the bridge is also in a namespace, and clients dial from
// there. A run removes what an earlier, killed run has left behind.
package partition
