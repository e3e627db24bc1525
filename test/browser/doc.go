// Package browser tests what web pages can do to a fleet on the machine of their
// visitor, with Debian's chromium. It has only tests.
//
// They need Linux and root, since deploy/images/setup-host.sh installs chromium.
// They use only loopback: the names of the pages exist only in that browser.
package browser
