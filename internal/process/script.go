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

// windowsScript returns an error for a script with Windows line endings. Its
// interpreter's name ends with a carriage return, so it is never found.
func windowsScript(path string) error {
	line, ok := shebang(path)
	if !ok || !strings.HasSuffix(line, "\r") {
		return nil
	}
	return fmt.Errorf("%s has Windows line endings (CR LF), so the interpreter in its first line, %q, is not found: convert the file, for example with dos2unix",
		path, strings.TrimPrefix(line, "#!"))
}

// forShell reports whether the kernel refused a script because it names no
// interpreter. The C library runs such a script with the shell, and so do other
// clients.
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

// explain returns a better error for a program that exists and does not start.
// The kernel reports a missing interpreter or loader as if the program itself
// were missing.
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
		return fmt.Errorf("%s needs a loader that does not exist here: it was built for another system or C library: %w", path, err)
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
