// Package compose tests deploy/compose as its users meet it: images built by
// its Dockerfile, started by docker-compose, called over the published port.
// It has tests only. Workers pull the MCP server's image from a registry in
// the cluster's own network, as deploy/images makes it.
package compose
