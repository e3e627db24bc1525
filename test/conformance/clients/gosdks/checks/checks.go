// Package checks has what a client must be able to do with the fixtures, whatever its
// SDK and era. It is checks.mjs in Go.
package checks

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"
)

type run struct {
	*Options
	Client
	connect Connect
}

type args = map[string]any

var all = []struct {
	name string
	run  func(ctx context.Context, r run) error
}{
	{"tools", tools}, {"content", content}, {"progress", progress}, {"parallel", parallel}, {"cancellation", cancellation},
	{"sampling", sampling}, {"elicitation", elicitation}, {"roots", roots}, {"subscriptions", subscriptions},
	{"changes", changes}, {"logging", logging}, {"isolation", isolation},
}

// Main runs all checks with the program's arguments and prints what failed, as one line
// of JSON: PROGRAM URL REVISION NAME
func Main(connect Connect) {
	o := &Options{URL: os.Args[1], Revision: os.Args[2], Name: os.Args[3], Sampling: true, Elicitation: true, Roots: true}
	results := map[string]string{}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	c, err := connect(ctx, o)
	switch {
	case err != nil:
		results["connect"] = err.Error()
	case c.Version() != o.Revision:
		results["connect"] = "the version is " + c.Version()
	default:
		results["connect"] = ""
	}
	for _, check := range all {
		if err != nil {
			break
		}
		results[check.name] = attempt(ctx, check.run, run{o, c, connect})
	}
	if c != nil {
		c.Close()
	}
	b, err := json.Marshal(results)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(b))
}

func attempt(ctx context.Context, check func(context.Context, run) error, r run) string {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- check(ctx, r) }()
	select {
	case err := <-done:
		if err != nil {
			return err.Error()
		}
		return ""
	case <-time.After(45 * time.Second):
		return "not within 45 s"
	}
}

func eventually(what string, check func() bool) error {
	for range 200 {
		if check() {
			return nil
		}
		time.Sleep(25 * time.Millisecond)
	}
	return fmt.Errorf("not within 5 s: %s", what)
}

func differ(what string, got, want any) error {
	if reflect.DeepEqual(got, want) {
		return nil
	}
	return fmt.Errorf("%s: got %v, want %v", what, got, want)
}

// noted reports whether a process of a server has noted a line.
func noted(line string) bool {
	b, _ := os.ReadFile(filepath.Join(os.Getenv("FIXTURE_NOTES"), "notes"))
	return slices.Contains(strings.Split(string(b), "\n"), line)
}
