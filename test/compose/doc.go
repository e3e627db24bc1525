// Package compose tests deploy/compose as users run it: with images built by its
// Dockerfile, started by docker-compose, and called over the published port. It has
// only tests. Workers pull the MCP server's image from a registry in the cluster's
// own network, which deploy/images fills.
package compose
