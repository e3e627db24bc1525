//go:build race

package rawio

const raceDetector = true
