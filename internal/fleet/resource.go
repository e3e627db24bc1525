package fleet

import (
	"errors"
	"fmt"
	"regexp"
)

const maxResourceName = 63

var resourceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// CheckResource returns the error of the name of a countable resource, or nil; see
// Resources.Custom.
func CheckResource(name string) error {
	switch {
	case name == "cpus" || name == "memory" || name == "pids":
		return fmt.Errorf("%s is not a countable resource; its key is resources.%s", name, name)
	case len(name) > maxResourceName:
		return fmt.Errorf("the name of a resource has at most %d characters, not %d", maxResourceName, len(name))
	case !resourceName.MatchString(name):
		return errors.New("the name of a resource, such as gpu, consists of letters, digits, and after the first also dots, hyphens and underscores")
	}
	return nil
}
