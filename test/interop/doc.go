// Package interop compares the fleet with the official TypeScript client over
// unmodified servers from npm. Each server of servers.json is started once by that
// client over stdio, and once by the fleet as a plain process. The same servers must
// start, with the same tools in the same order, and the same calls must get the same
// answers.
//
// "make interop" compares all servers, and "make test" the few that are marked
// short. docs/INTEROP.md has more.
package interop
