// Package e2e tests the programs as users run them: the binaries, as processes of
// this machine, with containers where podman works. The programs testserver and
// load belong to the tests.
//
// Every test has a unique token in the names of its nodes and directories. So its
// processes and containers can be distinguished from others on the machine, and a
// test fails if it leaves any behind.
package e2e
