// Command sim runs the autoscaling policy against loads that come in various ways,
// and the algorithms of Ray Serve and Knative beside it. It prints how each does, and
// writes tables and plots for docs/AUTOSCALING.md.
//
// A simulation is a queue, replicas that take a while to start, calls that come at
// random moments, and a policy. All policies see the same calls. The same seed gives
// the same output, byte for byte, on the same kind of machine.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

func main() {
	if err := execute(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "sim:", err)
		}
		os.Exit(1)
	}
}

func execute(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("sim", flag.ContinueOnError)
	flags.SetOutput(stderr)
	doc := flags.String("doc", "", "page whose tables to replace")
	plots := flags.String("plots", "", "directory for plots, one SVG file for each load")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s := simulateAll()
	if _, err := io.WriteString(stdout, s.comparison()+"\n"+s.delays()); err != nil {
		return err
	}
	if *doc != "" {
		page, err := os.ReadFile(*doc)
		if err != nil {
			return err
		}
		if page, err = s.fill(page); err != nil {
			return fmt.Errorf("%s: %w", *doc, err)
		}
		if err := os.WriteFile(*doc, page, 0o644); err != nil {
			return err
		}
	}
	if *plots != "" {
		for name, svg := range s.plots() {
			if err := os.WriteFile(filepath.Join(*plots, name), svg, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// fill replaces the tables of a page. Each stands between two comments.
func (s *simulation) fill(page []byte) ([]byte, error) {
	for name, table := range map[string]string{"comparison": s.comparison(), "delays": s.delays()} {
		begin, end := []byte("<!-- "+name+": make sim writes this table -->\n"), []byte("<!-- end of "+name+" -->")
		before, rest, found := bytes.Cut(page, begin)
		_, after, ended := bytes.Cut(rest, end)
		if !found || !ended {
			return nil, fmt.Errorf("has no place for the table %s", name)
		}
		page = bytes.Join([][]byte{before, begin, []byte("\n" + table + "\n"), end, after}, nil)
	}
	return page, nil
}
