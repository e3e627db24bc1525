// Package scale measures a controller with many workers. The controller is the real
// program, and the workers are real, too, in the process of the test: they join the
// ring and serve gRPC on loopback, but their replicas are functions. With -report it
// also runs the benchmarks of package reconcile, and writes a section of
// docs/BENCHMARKS.md.
package scale
