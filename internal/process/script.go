package process

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// maxShebang is how much of a script's first line the kernel reads.
const maxShebang = 256

// windowsScript returns an error for a script with Windows line endings: the
// name of its interpreter ends with a carriage return, so it is never found.
func windowsScript(path string) error {
	line, ok := shebang(path)
	if !ok || !strings.HasSuffix(line, "\r") {
		return nil
	}
	return fmt.Errorf("%s has Windows line endings (CR LF), so the program that its first line names, %q, is not found: convert the file, with dos2unix for example",
		path, strings.TrimPrefix(line, "#!"))
}

// forShell reports whether the kernel has refused a script because it names no
// interpreter. The C library, and with it other clients, gives it to the shell.
func forShell(err error, path string) bool {
	if !errors.Is(err, syscall.ENOEXEC) {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, maxShebang))
	return err == nil && !bytes.ContainsRune(head, 0) // programs have zeros in their headers
}

// explain says why a program that exists does not start. The kernel reports a
// missing interpreter or loader as if the program itself were missing.
func explain(err error, path string) error {
	line, script := shebang(path)
	words := strings.Fields(strings.TrimPrefix(line, "#!"))
	switch {
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("%s is neither a script nor a program for this machine: %w", path, err)
	case !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.EACCES):
		return err
	case script && len(words) > 0:
		if missing := executable(words[0]); missing != nil {
			return fmt.Errorf("%s names an interpreter in its first line that cannot be run: %w", path, missing)
		}
	case !script && errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("%s needs a loader that is not there, since it was made for another system or C library: %w", path, err)
	}
	return err
}

// shebang returns the first line of a script, with its carriage return.
func shebang(path string) (string, bool) {
	f, err := os.Open(path)
	if err != nil {
		return "", false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return "", false
	}
	line, _ := bufio.NewReader(io.LimitReader(f, maxShebang)).ReadBytes('\n')
	if !bytes.HasPrefix(line, []byte("#!")) {
		return "", false
	}
	return string(bytes.TrimSuffix(line, []byte("\n"))), true
}
