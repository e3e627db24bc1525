package up

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// programs are the paths of the programs to run.
type programs struct {
	controller, worker, demo string
	noDemo                   error // why demo is ""
}

func findPrograms(cfg Config) (programs, error) {
	var p programs
	want := map[string]*string{"controller": &p.controller, "worker": &p.worker}
	for name, path := range want {
		found, err := findProgram(cfg.BinDir, name, cfg.Env)
		if err != nil {
			return programs{}, err
		}
		*path = found
	}
	p.demo, p.noDemo = findProgram(cfg.BinDir, "demo-server", cfg.Env) // not always needed
	return p, nil
}

// findProgram searches dir first, then PATH. The programs next to our own have
// the same version.
func findProgram(dir, name string, env []string) (string, error) {
	search := []string{dir}
	for _, kv := range env {
		if list, ok := strings.CutPrefix(kv, "PATH="); ok {
			search = append(search, filepath.SplitList(list)...)
		}
	}
	for _, d := range search {
		path, err := filepath.Abs(filepath.Join(d, name))
		if err != nil || d == "" {
			continue
		}
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("the program %s is neither beside mcpfleet, in %s, nor in PATH; make build builds it", name, dir)
}
