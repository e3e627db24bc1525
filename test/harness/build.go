package harness

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// Root returns the root of the repository. Tests run in the folder of their
// package, which is two levels below.
func Root() (string, error) { return filepath.Abs("../..") }

// Build builds programs into a directory as make does: static, and without the
// race detector even if the tests have it. Packages are relative to the root.
func Build(dir string, packages ...string) error {
	root, err := Root()
	if err != nil {
		return err
	}
	cmd := exec.Command("go", append([]string{"build", "-trimpath", "-o", dir + "/"}, packages...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return nil
}

// DependOn lists every file below some folders of the repository. So go test knows
// that the test's result depends on them, and does not use a cached result after
// they have changed.
func DependOn(folders ...string) error {
	root, err := Root()
	if err != nil {
		return err
	}
	for _, dir := range folders {
		err := filepath.WalkDir(filepath.Join(root, dir), func(_ string, _ fs.DirEntry, err error) error { return err })
		if err != nil {
			return err
		}
	}
	_, err = os.Stat(filepath.Join(root, "go.mod"))
	return err
}
