// Package browser tests what web pages can do to a fleet on the machine of
// whoever looks at them, with Debian's chromium. The tests are the package.
//
// They need Linux and root, for chromium comes from deploy/images/setup-host.sh,
// and use loopback only: the names of the pages exist in that browser alone.
package browser
