//go:build !race

package rawio

const raceDetector = false
