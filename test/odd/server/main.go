// Command server runs the odd server that its argument names.
package main

import (
	"fmt"
	"os"

	"github.com/mcpfleet/mcpfleet/test/odd"
)

func main() {
	if len(os.Args) == 2 {
		if s := odd.Find(os.Args[1]); s != nil {
			s.Serve(os.Stdin, os.Stdout)
			return
		}
	}
	fmt.Fprintln(os.Stderr, "usage: server NAME")
	for _, s := range odd.Servers {
		fmt.Fprintf(os.Stderr, "  %-22s %s\n", s.Name, s.Why)
	}
	os.Exit(2)
}
