// Command server is what the tests of package podman run in containers.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	what := "echo"
	if len(os.Args) > 1 {
		what = os.Args[1]
	}
	switch what {
	case "echo": // ends with its stdin
		io.Copy(os.Stdout, os.Stdin)
	case "deaf": // ends by KILL only
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("up")
		time.Sleep(time.Hour)
	case "plain": // has no handler for TERM
		fmt.Println("up")
		time.Sleep(time.Hour)
	case "exit":
		fmt.Fprintln(os.Stderr, strings.Join(os.Args[3:], " "))
		code, _ := strconv.Atoi(os.Args[2])
		os.Exit(code)
	case "eat": // until there is no more memory
		fmt.Println("up")
		bufio.NewReader(os.Stdin).ReadString('\n')
		var all [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = 1
			}
			all = append(all, b)
		}
	case "env":
		for _, name := range os.Args[2:] {
			v, ok := os.LookupEnv(name)
			fmt.Printf("%s=%q %v\n", name, v, ok)
		}
	case "append": // to a file, and prints its content
		f, err := os.OpenFile(os.Args[2], os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
		if err == nil {
			_, err = fmt.Fprintln(f, os.Args[3])
		}
		all, _ := os.ReadFile(os.Args[2])
		fmt.Printf("%q %v\n", all, err)
	case "read": // a file, as servers do at their start
		all, err := os.ReadFile(os.Args[2])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Printf("%s", all)
	case "about":
		dir, _ := os.Getwd()
		err := os.WriteFile("/written", nil, 0o600)
		fmt.Printf("uid=%d cwd=%s writable=%v args=%q\n", os.Getuid(), dir, err == nil, os.Args[2:])
		b, _ := os.ReadFile("/proc/self/status")
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, "Cap") || strings.HasPrefix(line, "NoNewPrivs") {
				fmt.Print(line)
			}
		}
		b, err = os.ReadFile("/mounted/file")
		fmt.Printf("mounted=%q %v\n", b, err == nil)
		fmt.Println("end")
	}
}
