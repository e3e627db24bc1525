// Package e2e tests the programs as users run them: the binaries themselves,
// as processes of this machine, with containers where podman is. The tests are
// the package; the programs testserver and load below it are theirs.
//
// Every test has a token of its own that is part of all its nodes' names and
// directories, so that whatever it starts can be told from what others run on
// the same machine, and what it has left behind is an error of the test.
package e2e
