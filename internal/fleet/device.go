package fleet

import (
	"errors"
	"path"
	"regexp"
	"strings"
	"unicode"
)

// cdiName is the name of a device in the Container Device Interface, such as
// nvidia.com/gpu=0.
var cdiName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]*/[A-Za-z][A-Za-z0-9_-]*=[A-Za-z0-9][A-Za-z0-9_.:-]*$`)

var devicePermissions = regexp.MustCompile(`^[rwm]{1,3}$`)

// CheckDevice returns the error of a device for containers, or nil. It is a CDI
// name, or HOST[:CONTAINER][:PERMISSIONS] with two absolute paths, as podman's
// --device takes it.
func CheckDevice(device string) error {
	if cdiName.MatchString(device) {
		return nil
	}
	if strings.ContainsFunc(device, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return errors.New("a device must not contain white space")
	}
	parts := strings.Split(device, ":")
	if n := len(parts); n > 1 && devicePermissions.MatchString(parts[n-1]) {
		parts = parts[:n-1]
	}
	if len(parts) > 2 {
		return errors.New("a device is HOST[:CONTAINER[:rwm]]")
	}
	for _, part := range parts {
		if !path.IsAbs(part) || path.Clean(part) == "/" {
			return errors.New("a device is an absolute path of the node, such as /dev/dri, or a CDI name, such as nvidia.com/gpu=all")
		}
	}
	return nil
}
