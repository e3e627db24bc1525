// Package harness runs the programs for tests that use them as users do. It builds
// them, starts and stops their processes, and calls tools through them. Packages
// below test import it, and nothing else does.
package harness
