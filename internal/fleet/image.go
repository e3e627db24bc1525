package fleet

import (
	"errors"
	"regexp"
	"strings"
)

// imageReference is the grammar of image names that all container engines
// share: a registry, a path in lower case, a tag, a digest.
var imageReference = func() *regexp.Regexp {
	const (
		label  = `[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?`
		host   = `(?:` + label + `(?:\.` + label + `)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?`
		part   = `[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*`
		tag    = `:[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}`
		digest = `@[a-z0-9+._-]+:[a-f0-9]{32,}`
	)
	return regexp.MustCompile(`^(?:` + host + `/)?` + part + `(?:/` + part + `)*(?:` + tag + `)?(?:` + digest + `)?$`)
}()

// CheckImage returns why podman would refuse the name of an image, or nil.
func CheckImage(image string) error {
	switch {
	case imageReference.MatchString(image):
		return nil
	case strings.Contains(image, "://"):
		return errors.New("must be the name of an image, as docker.io/mcp/time, without a scheme")
	case imageReference.MatchString(strings.ToLower(image)):
		return errors.New("must be the name of an image, which is in lower case")
	}
	return errors.New("must be the name of an image, as docker.io/mcp/time:latest")
}
